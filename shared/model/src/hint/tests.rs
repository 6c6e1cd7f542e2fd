//! Specification of hints: what they hold, when they count, and that no bytes are taken for more than they are.

use proptest::prelude::*;

use super::*;
use crate::attribute::AttributeType;
use crate::fixtures;
use crate::ids::DataSourceId;
use crate::manifest::ShardEntry;
use crate::token::ReadToken;

const OBJECT: &str = "indices/by-plot/1/hint";

fn index() -> IndexId {
    IndexId { name: "by-plot".into(), version: "1".into() }
}

fn entry(shard: &str, catalog: &[u8], id: u128) -> ShardEntry {
    let object = ObjectRef { id: Ulid(id), bytes: catalog.len() as u64, crc32c: crc32c::crc32c(catalog) };
    ShardEntry { shard: shard.into(), rows: 5, splits: 1, segments: 1, segment_bytes: 10, catalog: Some(object) }
}

fn hint() -> Hint {
    let catalogs = [(Ulid(7), b"first \xff".to_vec()), (Ulid(8), b"second".to_vec())];
    let manifest = Manifest {
        format: FORMAT,
        index: index(),
        generation: 3,
        commit_id: Ulid(1),
        watermark: ReadToken::single(17),
        created_ms: 0,
        rows: 10,
        shards: vec![entry("a", &catalogs[0].1, 7), entry("b", &catalogs[1].1, 8)],
    };
    let data_source = fixtures::source(&[("id", AttributeType::Int64)], &["id"]);
    Hint {
        manifest,
        manifest_e_tag: "\"9a0364b9e99bb480dd25e1f0284c8555\"".into(),
        data_source,
        catalogs: catalogs.into(),
    }
}

fn parse(bytes: &[u8]) -> Result<Hint, Corrupt> {
    Hint::parse(OBJECT, bytes, &index())
}

/// The fault that is found when a stored hint is changed.
fn fault(change: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut stored: serde_json::Value = serde_json::from_slice(&hint().encode().expect("small")).expect("JSON");
    change(&mut stored);
    let error = parse(stored.to_string().as_bytes()).expect_err("refused");
    assert_eq!(error.object, OBJECT);
    error.part
}

#[test]
fn a_hint_round_trips() {
    let bytes = hint().encode().expect("small");
    let parsed = parse(&bytes).expect("a hint");
    assert_eq!(parsed, hint());
    assert_eq!(parsed.key().render(), OBJECT);
    let catalog = parsed.manifest.shards[1].catalog.clone().expect("a catalog");
    assert_eq!(parsed.catalog(&catalog), Some(&b"second"[..]));
    let without = Hint { catalogs: BTreeMap::new(), ..hint() };
    assert_eq!(parse(&without.encode().expect("small")).expect("a hint"), without);
}

#[test]
fn a_hint_is_stored_as_documented() {
    let stored: serde_json::Value = serde_json::from_slice(&hint().encode().expect("small")).expect("JSON");
    let fields: Vec<&str> = stored.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(fields, ["catalogs", "dataSource", "formatVersion", "index", "manifest", "manifestETag"]);
    assert_eq!(stored["formatVersion"], 1);
    assert_eq!(stored["index"], serde_json::json!({ "name": "by-plot", "version": "1" }));
    assert_eq!(stored["catalogs"][1], serde_json::json!({ "id": Ulid(8).to_string(), "bytes": "c2Vjb25k" }));
    let manifest = stored["manifest"].as_str().expect("text");
    assert_eq!(Manifest::parse("m", manifest.as_bytes(), &index(), 3).expect("a manifest"), hint().manifest);
}

#[test]
fn hints_agree_with_manifests() {
    let hint = hint();
    let listed = |generation| ObjectKey::Manifest { index: index(), generation };
    let e_tag = Some(hint.manifest_e_tag.as_str());
    assert!(hint.is_of(&listed(3), e_tag));
    assert!(!hint.is_of(&listed(4), e_tag));
    assert!(!hint.is_of(&listed(3), Some("\"another\"")));
    assert!(!hint.is_of(&listed(3), None));
    let other = IndexId { name: "by-plot".into(), version: "2".into() };
    assert!(!hint.is_of(&ObjectKey::Manifest { index: other, generation: 3 }, e_tag));
}

#[test]
fn what_does_not_agree_is_refused() {
    let set = |field: &'static str, value: serde_json::Value| {
        fault(move |stored| {
            stored[field] = value;
        })
    };
    assert_eq!(set("formatVersion", 2.into()), "format");
    assert_eq!(set("index", serde_json::json!({ "name": "by-plot", "version": "2" })), "owner");
    assert_eq!(set("manifestETag", "".into()), "manifestETag");
    assert_eq!(set("manifest", "{}".into()), "json");
    assert_eq!(set("catalogs", "none".into()), "json");
    assert_eq!(fault(|stored| stored["dataSource"]["vectorDimension"] = 0.into()), "dataSource");
    let manifest = |change: fn(&mut Manifest)| {
        fault(move |stored| {
            let mut manifest = hint().manifest;
            change(&mut manifest);
            stored["manifest"] = serde_json::to_string(&manifest).expect("JSON").into();
        })
    };
    assert_eq!(manifest(|manifest| manifest.generation = 0), "number");
    assert_eq!(manifest(|manifest| manifest.rows = 11), "rows-add-up");
    assert_eq!(manifest(|manifest| manifest.index.version = "2".into()), "owner");
    let catalog =
        |field: &'static str, value: &'static str| fault(move |stored| stored["catalogs"][0][field] = value.into());
    assert_eq!(catalog("bytes", "no base64!"), format!("catalog {}", Ulid(7)));
    assert_eq!(catalog("bytes", "c2Vjb25k"), format!("catalog {}", Ulid(7)));
    assert_eq!(catalog("id", "00000000000000000000000009"), format!("catalog {}", Ulid(9)));
}

#[test]
fn a_hint_has_a_largest_size() {
    let mut large = hint();
    large.data_source.id = DataSourceId { name: "x".repeat(limits::HINT_BYTES), version: "1".into() };
    assert_eq!(large.encode(), None);
    let mut bytes = hint().encode().expect("small");
    bytes.resize(limits::HINT_BYTES + 1, b' ');
    assert_eq!(parse(&bytes).expect_err("too large").part, "length");
    bytes.pop();
    assert_eq!(parse(&bytes).expect("blanks are no fault"), hint());
}

proptest! {
    #[test]
    fn damaged_bytes_are_an_error_or_a_hint_of_the_index(
        at in 0..4096usize, bytes in proptest::collection::vec(any::<u8>(), 0..8), cut in 0..4096usize,
    ) {
        let mut damaged = hint().encode().expect("small");
        for (offset, byte) in bytes.into_iter().enumerate() {
            let place = (at + offset) % damaged.len();
            damaged[place] = byte;
        }
        damaged.truncate(damaged.len().saturating_sub(cut % 64));
        if let Ok(hint) = parse(&damaged) {
            prop_assert_eq!(&hint.manifest.index, &index());
            for (id, bytes) in &hint.catalogs {
                let named = hint.manifest.shards.iter().filter_map(|entry| entry.catalog.as_ref());
                prop_assert!(named.into_iter().any(|o| o.id == *id && o.crc32c == crc32c::crc32c(bytes)));
            }
        }
    }
}
