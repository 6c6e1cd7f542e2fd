//! The one suite that every store passes: memory, disk, S3, and any of them while it fails.
//!
//! It works in names of its own, so a store may hold other things and the suite may run on it twice at the same time.
//! Operations are repeated for as long as they say that repeating may help; what they say in the end must be right.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use futures::future::join_all;
use tarn_model::{DataSourceId, IndexId, KeyPrefix, ObjectKey, limits};
use tarn_store::{Created, Store, StoreError};

/// Writers that race for one key.
const RACERS: usize = 32;
/// More than one multipart part.
const LARGE_BYTES: usize = 20 << 20;

/// Runs every case. `unique` tells this run's names from those of others.
///
/// # Panics
/// When the store does not conform.
pub async fn run(store: &Store, unique: &str) {
    let case = |name: &str| Case { store: store.clone(), name: format!("{unique}-{name}") };
    absent_objects_are_none(&case("absent")).await;
    created_once(&case("created")).await;
    one_racer_wins(&case("race")).await;
    listings_are_sorted(&case("lists")).await;
    listings_keep_to_their_prefix(&case("prefix")).await;
    ranges_are_what_was_asked_for(&case("ranges")).await;
    deleting_what_is_not_there_succeeds(&case("delete")).await;
    names_of_all_kinds(&case("names")).await;
    empty_objects(&case("empty")).await;
    listings_tell_the_e_tag_of_what_is_there(&case("e-tag")).await;
    large_files(&case("large")).await;
}

struct Case {
    store: Store,
    name: String,
}

impl Case {
    fn source(&self) -> DataSourceId {
        DataSourceId { name: self.name.clone(), version: "1.0".into() }
    }

    fn delta(&self, sequence: u64) -> ObjectKey {
        ObjectKey::Delta { source: self.source(), lane: 0, sequence }
    }

    async fn get(&self, key: &ObjectKey) -> Option<Bytes> {
        settle(|| self.store.get(key)).await.expect("get")
    }

    async fn create(&self, key: &ObjectKey, bytes: &Bytes) -> Created {
        settle(|| self.store.create(key, bytes.clone(), |found| found == bytes)).await.expect("create")
    }

    async fn put(&self, key: &ObjectKey, bytes: &'static [u8]) {
        settle(|| self.store.put_unique(key, Bytes::from_static(bytes))).await.expect("put");
    }

    async fn keys(&self, prefix: &KeyPrefix) -> Vec<ObjectKey> {
        let listed = settle(|| self.store.list(prefix)).await.expect("list");
        listed.into_iter().map(|listed| listed.key.expect("a key of ours")).collect()
    }
}

/// Repeats an operation until it is settled.
async fn settle<T, F: Future<Output = Result<T, StoreError>>>(attempt: impl Fn() -> F) -> Result<T, StoreError> {
    for _ in 0..100 {
        match attempt().await {
            Err(error) if error.is_retryable() => {}
            settled => return settled,
        }
    }
    attempt().await
}

async fn absent_objects_are_none(case: &Case) {
    let key = case.delta(1);
    assert_eq!(case.get(&key).await, None);
    assert_eq!(settle(|| case.store.size(&key)).await.expect("size"), None);
    let prefix = KeyPrefix::Timeline(case.source(), 0);
    assert_eq!(case.keys(&prefix).await, []);
    assert_eq!(settle(|| case.store.first(&prefix)).await.expect("first"), None);
    let range = 0..1;
    let missing = settle(|| case.store.get_ranges(&key, std::slice::from_ref(&range))).await;
    assert!(matches!(missing, Err(StoreError::Missing { .. })), "{missing:?}");
}

async fn created_once(case: &Case) {
    let key = case.delta(1);
    let (ours, theirs) = (Bytes::from_static(b"ours"), Bytes::from_static(b"theirs"));
    assert_eq!(case.create(&key, &ours).await, Created::Ours);
    assert_eq!(case.create(&key, &theirs).await, Created::Taken(ours.clone()));
    assert_eq!(case.create(&key, &ours).await, Created::Ours, "asking again finds our own");
    assert_eq!(case.get(&key).await, Some(ours));
    assert_eq!(settle(|| case.store.size(&key)).await.expect("size"), Some(4));
}

async fn one_racer_wins(case: &Case) {
    for sequence in 1..=4 {
        let key = case.delta(sequence);
        let outcomes = join_all((0..RACERS).map(|racer| {
            let bytes = Bytes::from(format!("racer {racer} {}", "x".repeat(racer * 100)));
            let (store, key) = (case.store.clone(), key.clone());
            let create = async move {
                let outcome = settle(|| store.create(&key, bytes.clone(), |found| *found == bytes)).await;
                (bytes.clone(), outcome.expect("create"))
            };
            async { tokio::spawn(create).await.expect("a racer") }
        }))
        .await;
        let stored = case.get(&key).await.expect("somebody won");
        let mut winners = 0;
        for (bytes, outcome) in outcomes {
            match outcome {
                Created::Ours => {
                    winners += 1;
                    assert_eq!(bytes, stored, "the winner's bytes are stored");
                }
                Created::Taken(by) => assert_eq!(by, stored, "a loser sees the winner's bytes"),
            }
        }
        assert_eq!(winners, 1, "of {RACERS} racers");
    }
}

async fn listings_are_sorted(case: &Case) {
    // Not created in order; generations sort newest first.
    let generations = [3, 1, 12, 2, 40, 11, u64::MAX, 9];
    let key = |generation| ObjectKey::Checkpoint { source: case.source(), generation };
    for generation in generations {
        case.put(&key(generation), b"{}").await;
    }
    let prefix = KeyPrefix::Checkpoints(case.source());
    let newest_first = [u64::MAX, 40, 12, 11, 9, 3, 2, 1].map(key);
    assert_eq!(case.keys(&prefix).await, newest_first);
    let first = settle(|| case.store.first(&prefix)).await.expect("first").expect("the newest");
    assert_eq!(first.key, Some(key(u64::MAX)));
    assert_eq!((first.path, first.bytes), (key(u64::MAX).render(), 2));
    assert!(first.modified_ms > 1_600_000_000_000, "{} is no recent time", first.modified_ms);

    for (after, expected) in [(key(12), &newest_first[3..]), (key(10), &newest_first[4..]), (key(1), &[])] {
        let listed = settle(|| case.store.list_after(&prefix, &after)).await.expect("list_after");
        let listed: Vec<_> = listed.into_iter().filter_map(|listed| listed.key).collect();
        assert_eq!(listed, expected, "after {after:?}");
    }
}

async fn listings_keep_to_their_prefix(case: &Case) {
    // One name is a prefix of the other, and "-" sorts before "/".
    let ids =
        ["", "-x", "x"].map(|suffix| DataSourceId { name: format!("{}{suffix}", case.name), version: "1".into() });
    for id in &ids {
        case.put(&ObjectKey::Source(id.clone()), b"{}").await;
        case.put(&ObjectKey::Delta { source: id.clone(), lane: 0, sequence: 7 }, b"d").await;
    }
    for id in &ids {
        let delta = ObjectKey::Delta { source: id.clone(), lane: 0, sequence: 7 };
        assert_eq!(case.keys(&KeyPrefix::Timeline(id.clone(), 0)).await, std::slice::from_ref(&delta));
        assert_eq!(case.keys(&KeyPrefix::Timeline(id.clone(), 1)).await, []);
        assert_eq!(case.keys(&KeyPrefix::Source(id.clone())).await, [ObjectKey::Source(id.clone()), delta]);
    }
    let all: BTreeSet<_> = case.keys(&KeyPrefix::Sources).await.iter().map(ObjectKey::render).collect();
    assert!(ids.iter().all(|id| all.contains(&ObjectKey::Source(id.clone()).render())));
}

/// Readers compare the ETag in a listing with one that a writer has seen in another.
async fn listings_tell_the_e_tag_of_what_is_there(case: &Case) {
    let index = IndexId { name: case.name.clone(), version: "1.0".into() };
    let (key, prefix) = (ObjectKey::Hint(index.clone()), KeyPrefix::Index(index));
    let mut seen = BTreeSet::new();
    for bytes in [&b"one"[..], b"another", b"a third"] {
        settle(|| case.store.overwrite(&key, Bytes::copy_from_slice(bytes))).await.expect("overwrite");
        assert_eq!(case.get(&key).await.as_deref(), Some(bytes));
        let first = settle(|| case.store.first(&prefix)).await.expect("first").expect("an object");
        let e_tag = first.e_tag.clone().expect("an ETag");
        assert_eq!(settle(|| case.store.list(&prefix)).await.expect("list"), std::slice::from_ref(&first));
        let version = settle(|| case.store.version(&key, None)).await.expect("looked at").expect("an object");
        assert_eq!(version.e_tag, first.e_tag, "whoever is asked");
        assert!(seen.insert(e_tag), "other bytes have another ETag: {seen:?}");
    }
}

async fn ranges_are_what_was_asked_for(case: &Case) {
    let key = case.delta(1);
    let bytes: Bytes = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
    assert_eq!(case.create(&key, &bytes).await, Created::Ours);
    let slice = |range: &Range<u64>| bytes.slice(range.start as usize..range.end as usize);
    // Not in order, overlapping, far apart, to the very end.
    let ranges: [Range<u64>; 5] = [2_999_999..3_000_000, 0..1, 10..1_000, 500..1_500, 2_000_000..3_000_000];
    let parts = settle(|| case.store.get_ranges(&key, &ranges)).await.expect("ranges");
    assert_eq!(parts.len(), ranges.len());
    for (range, part) in ranges.iter().zip(parts) {
        assert_eq!(part, slice(range), "{range:?}");
    }
    assert_eq!(settle(|| case.store.get_ranges(&key, &[])).await.expect("no ranges"), Vec::<Bytes>::new());
    for beyond in [2_999_990..3_000_001, 3_000_000..3_000_010, 4_000_000..4_000_001] {
        let beyond = [0..10, beyond];
        let short = settle(|| case.store.get_ranges(&key, &beyond)).await;
        assert!(
            matches!(&short, Err(StoreError::Corrupt(corrupt)) if corrupt.part == "length"),
            "{beyond:?}: {short:?}"
        );
    }
}

async fn deleting_what_is_not_there_succeeds(case: &Case) {
    let key = case.delta(1);
    settle(|| case.store.delete(&key)).await.expect("delete of nothing");
    case.put(&key, b"x").await;
    settle(|| case.store.delete(&key)).await.expect("delete");
    assert_eq!(case.get(&key).await, None);
    settle(|| case.store.delete(&key)).await.expect("delete again");
    assert_eq!(case.create(&key, &Bytes::from_static(b"y")).await, Created::Ours, "the key is free again");
}

async fn names_of_all_kinds(case: &Case) {
    let hostile = ["..", ".", "a/b", "../../etc", "%2F", "%", "a b", "#1", "x#12", "?q=1&r", "\\", "~", "*", "<>|\":"];
    let plain = ["Größe", "данные", "日本語", "🦀", "e\u{301}", "é", "UPPER", "upper", ".staging", "1.10", "1.1"];
    let names = hostile.iter().chain(&plain).map(|name| async move {
        let mut written = Vec::new();
        let id = DataSourceId { name: format!("{}{name}", case.name), version: (*name).to_owned() };
        let keys = [
            ObjectKey::Source(id.clone()),
            ObjectKey::Delta { source: id.clone(), lane: 0, sequence: 1 },
            ObjectKey::Receipt { source: id.clone(), digest: [0xab; 32] },
        ];
        for key in keys {
            let bytes = Bytes::from(key.render());
            assert_eq!(case.create(&key, &bytes).await, Created::Ours, "{name}");
            written.push(bytes);
        }
        let listed = case.keys(&KeyPrefix::Source(id)).await;
        assert_eq!(listed.len(), 3, "{name}: {listed:?}");
        for key in listed {
            assert_eq!(case.get(&key).await, Some(Bytes::from(key.render())), "{name}");
        }
        written
    });
    let expected: BTreeSet<Bytes> = join_all(names).await.into_iter().flatten().collect();
    let longest =
        DataSourceId { name: "я".repeat(limits::NAME_ENCODED_BYTES / "%D1%8F".len()), version: case.name.clone() };
    longest.validate().expect("the longest name");
    let key = ObjectKey::Source(longest);
    assert_eq!(case.create(&key, &Bytes::from_static(b"{}")).await, Created::Ours);
    assert_eq!(case.get(&key).await, Some(Bytes::from_static(b"{}")));
    assert_eq!(expected.len(), 3 * (hostile.len() + plain.len()), "no two names share a key");
}

async fn empty_objects(case: &Case) {
    let key = case.delta(1);
    assert_eq!(case.create(&key, &Bytes::new()).await, Created::Ours);
    assert_eq!(case.get(&key).await, Some(Bytes::new()));
    assert_eq!(settle(|| case.store.size(&key)).await.expect("size"), Some(0));
    assert_eq!(case.create(&key, &Bytes::from_static(b"x")).await, Created::Taken(Bytes::new()));
}

async fn large_files(case: &Case) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (sequence, length) in [(1, 0), (2, 1_000), (3, LARGE_BYTES + 7)] {
        let key = case.delta(sequence);
        let bytes: Vec<u8> = (0..length).map(|i| (i % 253) as u8).collect();
        let file = directory.path().join(sequence.to_string());
        std::fs::write(&file, &bytes).expect("a file");
        settle(|| case.store.put_unique_file(&key, &file)).await.expect("put_unique_file");
        assert!(case.get(&key).await.is_some_and(|found| found == bytes), "{length} bytes come back as they were");
    }
}
