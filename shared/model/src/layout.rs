//! Every object key of the bucket, rendered and parsed here and nowhere else.
//!
//! ```text
//! sources/{name}/{version}/source.json
//!                         /deleted.json                              marker: the source is deleted, gc may take the rest
//!                         /timeline/{lane:03}/{sequence:020}.parquet
//!                         /receipts/{sha256 of the idempotency key, hex}.json
//!                         /checkpoints/{u64::MAX - generation:020}.json
//!                         /checkpoint-data/{ulid}.parquet
//!                         /boundaries/{u64::MAX - number:020}.json
//! indices/{name}/{version}/index.json
//!                         /deleted.json
//!                         /manifests/{u64::MAX - generation:020}.json
//!                         /segments/{ulid}.seg
//!                         /catalogs/{ulid}.arrow
//!                         /boundaries/{u64::MAX - number:020}.json
//! auth/keys/{id}.json
//! ```
//! Names and versions are percent-encoded: every byte but ASCII letters, digits, `-`, `_` and inner `.` becomes `%XX`; so a
//! hostile name cannot escape its prefix (`names-stay-in-their-prefix`). Newest generations sort first.
//!
//! The case of letters is kept. A file system that does not tell `A` from `a` gives two names one place; whoever reads a
//! definition finds the other's name in it, and takes its own for absent (tarn-store, `objects/definitions.rs`).

use std::fmt::Write as _;

use ulid::Ulid;

use crate::ids::{DataSourceId, IndexId};

/// The key of one object, relative to the store's root.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ObjectKey {
    /// A data source's definition.
    Source(DataSourceId),
    /// Marks a data source as deleted.
    SourceDeleted(DataSourceId),
    /// One delta.
    Delta {
        /// The data source.
        source: DataSourceId,
        /// The lane.
        lane: u16,
        /// From 1, gapless.
        sequence: u64,
    },
    /// The receipt of an idempotent upload.
    Receipt {
        /// The data source.
        source: DataSourceId,
        /// SHA-256 of the idempotency key.
        digest: [u8; 32],
    },
    /// A checkpoint.
    Checkpoint {
        /// The data source.
        source: DataSourceId,
        /// From 1.
        generation: u64,
    },
    /// A Parquet file of a checkpoint.
    CheckpointData {
        /// The data source.
        source: DataSourceId,
        /// Unique.
        id: Ulid,
    },
    /// What GC has given itself leave to delete from a data source.
    SourceBoundary {
        /// The data source.
        source: DataSourceId,
        /// From 1.
        number: u64,
    },
    /// An index's definition.
    Index(IndexId),
    /// Marks an index as deleted.
    IndexDeleted(IndexId),
    /// A manifest.
    Manifest {
        /// The index.
        index: IndexId,
        /// From 1.
        generation: u64,
    },
    /// A segment file.
    Segment {
        /// The index.
        index: IndexId,
        /// Unique.
        id: Ulid,
    },
    /// A shard's catalog.
    Catalog {
        /// The index.
        index: IndexId,
        /// Unique.
        id: Ulid,
    },
    /// What GC has given itself leave to delete from an index.
    IndexBoundary {
        /// The index.
        index: IndexId,
        /// From 1.
        number: u64,
    },
    /// An API key's record.
    AuthKey {
        /// The public part of the key.
        id: String,
    },
}

/// A set of objects to list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyPrefix {
    /// Everything.
    All,
    /// Every object of every data source.
    Sources,
    /// Every object of one data source.
    Source(DataSourceId),
    /// The deltas of a lane.
    Timeline(DataSourceId, u16),
    /// The receipts of a data source.
    Receipts(DataSourceId),
    /// The checkpoints of a data source, newest first.
    Checkpoints(DataSourceId),
    /// The data files of all checkpoints.
    CheckpointData(DataSourceId),
    /// The boundaries of a data source, newest first.
    SourceBoundaries(DataSourceId),
    /// Every object of every index.
    Indices,
    /// Every object of one index.
    Index(IndexId),
    /// The manifests of an index, newest first.
    Manifests(IndexId),
    /// The segment files of an index.
    Segments(IndexId),
    /// The catalogs of an index.
    Catalogs(IndexId),
    /// The boundaries of an index, newest first.
    IndexBoundaries(IndexId),
    /// The API keys.
    AuthKeys,
}

impl ObjectKey {
    /// The key as text, without a leading slash.
    pub fn render(&self) -> String {
        match self {
            Self::Source(id) => format!("{}source.json", source(id)),
            Self::SourceDeleted(id) => format!("{}deleted.json", source(id)),
            Self::Delta { source: id, lane, sequence } => {
                format!("{}timeline/{lane:03}/{sequence:020}.parquet", source(id))
            }
            Self::Receipt { source: id, digest } => format!("{}receipts/{}.json", source(id), render_hex(digest)),
            Self::Checkpoint { source: id, generation } => {
                format!("{}checkpoints/{:020}.json", source(id), u64::MAX - generation)
            }
            Self::CheckpointData { source: owner, id } => format!("{}checkpoint-data/{id}.parquet", source(owner)),
            Self::SourceBoundary { source: id, number } => {
                format!("{}boundaries/{:020}.json", source(id), u64::MAX - number)
            }
            Self::Index(id) => format!("{}index.json", index(id)),
            Self::IndexDeleted(id) => format!("{}deleted.json", index(id)),
            Self::Manifest { index: id, generation } => {
                format!("{}manifests/{:020}.json", index(id), u64::MAX - generation)
            }
            Self::Segment { index: owner, id } => format!("{}segments/{id}.seg", index(owner)),
            Self::Catalog { index: owner, id } => format!("{}catalogs/{id}.arrow", index(owner)),
            Self::IndexBoundary { index: id, number } => {
                format!("{}boundaries/{:020}.json", index(id), u64::MAX - number)
            }
            Self::AuthKey { id } => format!("auth/keys/{}.json", encode_part(id)),
        }
    }

    /// The inverse of [`Self::render`], for keys of valid ids, sequences and generations (from 1); `None` for any other
    /// text. There is exactly one text for each key.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let key = match *parts.as_slice() {
            ["sources", name, version, ref rest @ ..] => {
                let id = DataSourceId::new(decode_part(name)?, decode_part(version)?).ok()?;
                parse_in_source(id, rest)?
            }
            ["indices", name, version, ref rest @ ..] => {
                let id = IndexId::new(decode_part(name)?, decode_part(version)?).ok()?;
                parse_in_index(id, rest)?
            }
            ["auth", "keys", file] => Self::AuthKey { id: decode_part(file.strip_suffix(".json")?)? },
            _ => return None,
        };
        // Numbers without padding, lower-case ulids, needless escapes: none of them is a second name of the object.
        (key.render() == text).then_some(key)
    }
}

fn parse_in_source(source: DataSourceId, rest: &[&str]) -> Option<ObjectKey> {
    Some(match *rest {
        ["source.json"] => ObjectKey::Source(source),
        ["deleted.json"] => ObjectKey::SourceDeleted(source),
        ["timeline", lane, file] => ObjectKey::Delta {
            source,
            lane: lane.parse().ok()?,
            sequence: file.strip_suffix(".parquet")?.parse().ok().filter(|&sequence: &u64| sequence > 0)?,
        },
        ["receipts", file] => ObjectKey::Receipt { source, digest: parse_hex(file.strip_suffix(".json")?)? },
        ["checkpoints", file] => ObjectKey::Checkpoint { source, generation: parse_descending(file)? },
        ["checkpoint-data", file] => ObjectKey::CheckpointData { source, id: parse_ulid(file, ".parquet")? },
        ["boundaries", file] => ObjectKey::SourceBoundary { source, number: parse_descending(file)? },
        _ => return None,
    })
}

fn parse_in_index(index: IndexId, rest: &[&str]) -> Option<ObjectKey> {
    Some(match *rest {
        ["index.json"] => ObjectKey::Index(index),
        ["deleted.json"] => ObjectKey::IndexDeleted(index),
        ["manifests", file] => ObjectKey::Manifest { index, generation: parse_descending(file)? },
        ["segments", file] => ObjectKey::Segment { index, id: parse_ulid(file, ".seg")? },
        ["catalogs", file] => ObjectKey::Catalog { index, id: parse_ulid(file, ".arrow")? },
        ["boundaries", file] => ObjectKey::IndexBoundary { index, number: parse_descending(file)? },
        _ => return None,
    })
}

impl KeyPrefix {
    /// The prefix as text, with a trailing slash; empty for [`KeyPrefix::All`].
    pub fn render(&self) -> String {
        match self {
            Self::All => String::new(),
            Self::Sources => "sources/".to_owned(),
            Self::Source(id) => source(id),
            Self::Timeline(id, lane) => format!("{}timeline/{lane:03}/", source(id)),
            Self::Receipts(id) => format!("{}receipts/", source(id)),
            Self::Checkpoints(id) => format!("{}checkpoints/", source(id)),
            Self::CheckpointData(id) => format!("{}checkpoint-data/", source(id)),
            Self::SourceBoundaries(id) => format!("{}boundaries/", source(id)),
            Self::Indices => "indices/".to_owned(),
            Self::Index(id) => index(id),
            Self::Manifests(id) => format!("{}manifests/", index(id)),
            Self::Segments(id) => format!("{}segments/", index(id)),
            Self::Catalogs(id) => format!("{}catalogs/", index(id)),
            Self::IndexBoundaries(id) => format!("{}boundaries/", index(id)),
            Self::AuthKeys => "auth/keys/".to_owned(),
        }
    }
}

/// The length of a name once it is part of a key; file systems bound it.
pub(crate) fn encoded_part_len(text: &str) -> usize {
    encode_part(text).len()
}

fn source(id: &DataSourceId) -> String {
    format!("sources/{}/{}/", encode_part(&id.name), encode_part(&id.version))
}

fn index(id: &IndexId) -> String {
    format!("indices/{}/{}/", encode_part(&id.name), encode_part(&id.version))
}

/// Percent-encodes a name. A dot at either end is escaped, so that `.`, `..` and names that some file systems trim stay
/// ordinary names.
fn encode_part(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(bytes.len());
    for (i, &byte) in bytes.iter().enumerate() {
        let inner = i > 0 && i + 1 < bytes.len();
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && inner) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The inverse of [`encode_part`], lenient about needless escapes, which [`ObjectKey::parse`] refuses afterwards.
fn decode_part(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'%' { hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)? } else { byte });
    }
    String::from_utf8(out).ok().filter(|name| !name.is_empty())
}

fn parse_descending(file: &str) -> Option<u64> {
    let rendered: u64 = file.strip_suffix(".json")?.parse().ok()?;
    Some(u64::MAX - rendered).filter(|&number| number > 0)
}

fn parse_ulid(file: &str, suffix: &str) -> Option<Ulid> {
    Ulid::from_string(file.strip_suffix(suffix)?).ok()
}

fn render_hex(digest: &[u8; 32]) -> String {
    digest.iter().fold(String::with_capacity(64), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() || pairs.len() != 32 {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, &[high, low]) in digest.iter_mut().zip(pairs) {
        *byte = hex_digit(high)? << 4 | hex_digit(low)?;
    }
    Some(digest)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-zA-Z0-9._-]{1,12}",
            "[./%\\\\ a~:*?\u{e9}\u{1F600}]{1,12}",
            Just("..".to_owned()),
            Just("/".to_owned()),
            Just("%2E".to_owned()),
        ]
    }

    fn key() -> impl Strategy<Value = ObjectKey> {
        let source = (name(), name()).prop_map(|(name, version)| DataSourceId { name, version });
        let index = (name(), name()).prop_map(|(name, version)| IndexId { name, version });
        (source, index, 1..=u64::MAX, any::<u128>(), any::<u16>(), any::<[u8; 32]>(), name(), 0..14u8).prop_map(
            |(source, index, number, id, lane, digest, auth, which)| {
                let ulid = Ulid(id);
                match which {
                    0 => ObjectKey::Source(source),
                    1 => ObjectKey::SourceDeleted(source),
                    2 => ObjectKey::Delta { source, lane, sequence: number },
                    3 => ObjectKey::Receipt { source, digest },
                    4 => ObjectKey::Checkpoint { source, generation: number },
                    5 => ObjectKey::CheckpointData { source, id: ulid },
                    6 => ObjectKey::SourceBoundary { source, number },
                    7 => ObjectKey::Index(index),
                    8 => ObjectKey::IndexDeleted(index),
                    9 => ObjectKey::Manifest { index, generation: number },
                    10 => ObjectKey::Segment { index, id: ulid },
                    11 => ObjectKey::Catalog { index, id: ulid },
                    12 => ObjectKey::IndexBoundary { index, number },
                    _ => ObjectKey::AuthKey { id: auth },
                }
            },
        )
    }

    proptest! {
        #[test]
        fn every_key_round_trips(key in key()) {
            prop_assert_eq!(ObjectKey::parse(&key.render()), Some(key));
        }

        #[test]
        fn names_stay_in_their_prefix(key in key()) {
            let text = key.render();
            prop_assert!(text.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.%/".contains(&b)));
            let prefix = match &key {
                ObjectKey::Source(id)
                | ObjectKey::SourceDeleted(id)
                | ObjectKey::Delta { source: id, .. }
                | ObjectKey::Receipt { source: id, .. }
                | ObjectKey::Checkpoint { source: id, .. }
                | ObjectKey::CheckpointData { source: id, .. }
                | ObjectKey::SourceBoundary { source: id, .. } => KeyPrefix::Source(id.clone()),
                ObjectKey::Index(id)
                | ObjectKey::IndexDeleted(id)
                | ObjectKey::Manifest { index: id, .. }
                | ObjectKey::Segment { index: id, .. }
                | ObjectKey::Catalog { index: id, .. }
                | ObjectKey::IndexBoundary { index: id, .. } => KeyPrefix::Index(id.clone()),
                ObjectKey::AuthKey { .. } => KeyPrefix::AuthKeys,
            };
            prop_assert!(text.starts_with(&prefix.render()));
            let depth = text[prefix.render().len()..].matches('/').count();
            prop_assert!(depth <= 2);
        }

        #[test]
        fn parsing_any_text_gives_a_key_that_renders_to_it(text in "(sources|indices|auth)(/[a-z0-9A-Z.%]{0,30}){1,4}") {
            if let Some(key) = ObjectKey::parse(&text) {
                prop_assert_eq!(key.render(), text);
            }
        }

        #[test]
        fn newer_generations_sort_first(a in 1..=u64::MAX, b in 1..=u64::MAX) {
            let index = IndexId { name: "i".into(), version: "1".into() };
            let text = |generation| ObjectKey::Manifest { index: index.clone(), generation }.render();
            prop_assert_eq!(a.cmp(&b), text(b).cmp(&text(a)));
        }
    }

    #[test]
    fn keys_look_as_documented() {
        let source = DataSourceId { name: "films".into(), version: "1.10".into() };
        let delta = ObjectKey::Delta { source, lane: 0, sequence: 7 };
        assert_eq!(delta.render(), "sources/films/1.10/timeline/000/00000000000000000007.parquet");
        let index = IndexId { name: "..".into(), version: "a/b.".into() };
        let manifest = ObjectKey::Manifest { index, generation: 1 };
        assert_eq!(manifest.render(), "indices/%2E%2E/a%2Fb%2E/manifests/18446744073709551614.json");
    }

    #[test]
    fn text_that_render_cannot_produce_is_no_key() {
        for text in [
            "",
            "/",
            "sources",
            "sources/a/1/",
            "sources//1/source.json",
            "sources/a//source.json",
            "sources/../1/source.json",
            "sources/./1/source.json",
            "sources/a./1/source.json",
            "sources/%61/1/source.json",
            "sources/%2e%2e/1/source.json",
            "sources/%/1/source.json",
            "sources/%F/1/source.json",
            "sources/%FF/1/source.json",
            "sources/%00/1/source.json",
            "sources/é/1/source.json",
            "sources/a/1/extra/source.json",
            "/sources/a/1/source.json",
            "sources/a/1/timeline/0/00000000000000000007.parquet",
            "sources/a/1/timeline/000/7.parquet",
            "sources/a/1/timeline/000/00000000000000000000.parquet",
            "sources/a/1/timeline/000/+0000000000000000007.parquet",
            "sources/a/1/checkpoints/18446744073709551615.json",
            "sources/a/1/checkpoints/99999999999999999999.json",
            "indices/a/1/segments/01arz3ndektsv4rrffq69g5fav.seg",
            "indices/a/1/segments/01ARZ3NDEKTSV4RRFFQ69G5FAV.seg.tmp",
            "sources/a/1/receipts/00.json",
            "auth/keys/.json",
            "auth/keys/a/b.json",
        ] {
            assert_eq!(ObjectKey::parse(text), None, "{text}");
        }
    }
}
