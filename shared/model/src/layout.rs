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
//!                         /hint                                      a copy of the newest manifest and what it names
//!                         /builds/{ulid}.json                        the order of a build by several tasks
//!                         /builds/{ulid}/{part:06}.json              what a part of it has built
//!                         /boundaries/{u64::MAX - number:020}.json
//! auth/keys/{id}.json
//! drop/{name}/{version}/{path}                                       what users drop; the path is theirs
//! drop-status/{name}/{version}/{identity, hex}.json                  what became of it
//!                             /{identity}/surveys/{chunks:06}.json   how far its validation has come
//!                             /{identity}/plan.json
//!                             /{identity}/receipts/{number:06}.json
//!                             /{identity}/chunks/{number:06}.json
//! drop-refused/{name}/{version}/{identity}/{path}                    a refused file
//!                              /{identity}.report.json
//! ```
//! Names and versions are percent-encoded: every byte but ASCII letters, digits, `-`, `_` and inner `.` becomes `%XX`; so a
//! hostile name cannot escape its prefix (`names-stay-in-their-prefix`). Newest generations sort first. The path of a dropped
//! file is the only part that is kept as it came: see [`DropPath`].
//!
//! The case of letters is kept. A file system that does not tell `A` from `a` gives two names one place; whoever reads a
//! definition finds the other's name in it, and takes its own for absent (tarn-store, `objects/definitions.rs`).

use std::fmt::Write as _;

use ulid::Ulid;

use crate::ids::{DataSourceId, IndexId};
use crate::limits;

/// The path of a dropped file below its data source's folder, as its user named it.
///
/// At most [`limits::DROP_PATH_BYTES`] long. No part of it is empty, `.` or `..`, and it has no control characters and no
/// backslashes; anything else is a name like another. A percent sign means itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DropPath(String);

impl DropPath {
    /// A path; `None` when it could leave its folder, or cannot be the name of a file.
    pub fn parse(text: &str) -> Option<Self> {
        let part = |part: &str| {
            !matches!(part, "" | "." | "..")
                && part.len() <= limits::DROP_NAME_BYTES
                && !part.chars().any(|c| c.is_control() || c == '\\')
        };
        (text.len() <= limits::DROP_PATH_BYTES && text.split('/').all(part)).then(|| Self(text.to_owned()))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the last slash.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Another file in the same folder; `None` when it would be no path.
    pub fn sibling(&self, file_name: &str) -> Option<Self> {
        let folder = self.0.strip_suffix(self.file_name()).unwrap_or_default();
        Self::parse(&format!("{folder}{file_name}"))
    }
}

impl std::fmt::Display for DropPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

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
    /// The order of a build by several tasks.
    BuildOrder {
        /// The index.
        index: IndexId,
        /// Unique.
        id: Ulid,
    },
    /// What a part of such a build has built.
    BuildPart {
        /// The index.
        index: IndexId,
        /// The order's id.
        order: Ulid,
        /// From 0.
        part: u32,
    },
    /// A copy of the newest manifest and of what a reader needs with it; see [`crate::Hint`].
    Hint(IndexId),
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
    /// A file that was dropped for a data source.
    Dropped {
        /// The data source that the folder names. It may not exist.
        source: DataSourceId,
        /// Below the folder.
        path: DropPath,
    },
    /// What became of a dropped file.
    DropStatus {
        /// The data source.
        source: DataSourceId,
        /// SHA-256 of the file's key and version.
        identity: [u8; 32],
    },
    /// What is to be done with a dropped file.
    DropPlan {
        /// The data source.
        source: DataSourceId,
        /// SHA-256 of the file's key and version.
        identity: [u8; 32],
    },
    /// How far the validation of a dropped file has come.
    DropSurvey {
        /// The data source.
        source: DataSourceId,
        /// SHA-256 of the file's key and version.
        identity: [u8; 32],
        /// How many chunks of it are valid.
        chunks: u32,
    },
    /// The receipt of a chunk of a dropped file: garbage collection leaves it where it is.
    DropReceipt {
        /// The data source.
        source: DataSourceId,
        /// SHA-256 of the file's key and version.
        identity: [u8; 32],
        /// From 0.
        number: u32,
    },
    /// That a chunk of a dropped file is committed.
    DropChunk {
        /// The data source.
        source: DataSourceId,
        /// SHA-256 of the file's key and version.
        identity: [u8; 32],
        /// From 0.
        number: u32,
    },
    /// A dropped file that was refused.
    DropRefused {
        /// The data source.
        source: DataSourceId,
        /// SHA-256 of the file's key and version.
        identity: [u8; 32],
        /// Below the folder that it was dropped into.
        path: DropPath,
    },
    /// Why a dropped file was refused.
    DropReport {
        /// The data source.
        source: DataSourceId,
        /// SHA-256 of the file's key and version.
        identity: [u8; 32],
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
    /// What was dropped for any data source.
    Drops,
    /// What was dropped for a data source.
    Dropped(DataSourceId),
    /// What became of what was dropped for a data source: statuses, and below each identity its plan and its chunks.
    DropStatuses(DataSourceId),
    /// How far the validation of a dropped file has come, run by run.
    DropSurveys(DataSourceId, [u8; 32]),
    /// The committed chunks of a dropped file.
    DropChunks(DataSourceId, [u8; 32]),
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
            Self::Hint(id) => format!("{}hint", index(id)),
            Self::Segment { index: owner, id } => format!("{}segments/{id}.seg", index(owner)),
            Self::Catalog { index: owner, id } => format!("{}catalogs/{id}.arrow", index(owner)),
            Self::BuildOrder { index: owner, id } => format!("{}builds/{id}.json", index(owner)),
            Self::BuildPart { index: owner, order, part } => format!("{}builds/{order}/{part:06}.json", index(owner)),
            Self::IndexBoundary { index: id, number } => {
                format!("{}boundaries/{:020}.json", index(id), u64::MAX - number)
            }
            Self::AuthKey { id } => format!("auth/keys/{}.json", encode_part(id)),
            Self::Dropped { source, path } => format!("{}{path}", drops("drop", source)),
            Self::DropStatus { source, identity } => {
                format!("{}{}.json", drops("drop-status", source), render_hex(identity))
            }
            Self::DropPlan { source, identity } => {
                format!("{}{}/plan.json", drops("drop-status", source), render_hex(identity))
            }
            Self::DropSurvey { source, identity, chunks } => {
                format!("{}{}/surveys/{chunks:06}.json", drops("drop-status", source), render_hex(identity))
            }
            Self::DropReceipt { source, identity, number } => {
                format!("{}{}/receipts/{number:06}.json", drops("drop-status", source), render_hex(identity))
            }
            Self::DropChunk { source, identity, number } => {
                format!("{}{}/chunks/{number:06}.json", drops("drop-status", source), render_hex(identity))
            }
            Self::DropRefused { source, identity, path } => {
                format!("{}{}/{path}", drops("drop-refused", source), render_hex(identity))
            }
            Self::DropReport { source, identity } => {
                format!("{}{}.report.json", drops("drop-refused", source), render_hex(identity))
            }
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
            [root @ ("drop" | "drop-status" | "drop-refused"), name, version, ref rest @ ..] => {
                let id = DataSourceId::new(decode_part(name)?, decode_part(version)?).ok()?;
                parse_drop(root, id, rest)?
            }
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
        ["hint"] => ObjectKey::Hint(index),
        ["manifests", file] => ObjectKey::Manifest { index, generation: parse_descending(file)? },
        ["segments", file] => ObjectKey::Segment { index, id: parse_ulid(file, ".seg")? },
        ["catalogs", file] => ObjectKey::Catalog { index, id: parse_ulid(file, ".arrow")? },
        ["builds", file] => ObjectKey::BuildOrder { index, id: parse_ulid(file, ".json")? },
        ["builds", order, file] => ObjectKey::BuildPart {
            index,
            order: Ulid::from_string(order).ok()?,
            part: file.strip_suffix(".json")?.parse().ok()?,
        },
        ["boundaries", file] => ObjectKey::IndexBoundary { index, number: parse_descending(file)? },
        _ => return None,
    })
}

fn parse_drop(root: &str, source: DataSourceId, rest: &[&str]) -> Option<ObjectKey> {
    Some(match (root, rest) {
        ("drop", rest) => ObjectKey::Dropped { source, path: DropPath::parse(&rest.join("/"))? },
        ("drop-status", [file]) => ObjectKey::DropStatus { source, identity: parse_hex(file.strip_suffix(".json")?)? },
        ("drop-status", [identity, "plan.json"]) => ObjectKey::DropPlan { source, identity: parse_hex(identity)? },
        ("drop-status", [identity, kind, file]) => {
            let identity = parse_hex(identity)?;
            let number = file.strip_suffix(".json")?.parse().ok()?;
            match *kind {
                "surveys" => ObjectKey::DropSurvey { source, identity, chunks: number },
                "receipts" => ObjectKey::DropReceipt { source, identity, number },
                "chunks" => ObjectKey::DropChunk { source, identity, number },
                _ => return None,
            }
        }
        ("drop-refused", [file]) => {
            ObjectKey::DropReport { source, identity: parse_hex(file.strip_suffix(".report.json")?)? }
        }
        ("drop-refused", [identity, rest @ ..]) => {
            ObjectKey::DropRefused { source, identity: parse_hex(identity)?, path: DropPath::parse(&rest.join("/"))? }
        }
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
            Self::Drops => "drop/".to_owned(),
            Self::Dropped(id) => drops("drop", id),
            Self::DropStatuses(id) => drops("drop-status", id),
            Self::DropSurveys(id, identity) => {
                format!("{}{}/surveys/", drops("drop-status", id), render_hex(identity))
            }
            Self::DropChunks(id, identity) => format!("{}{}/chunks/", drops("drop-status", id), render_hex(identity)),
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

fn drops(root: &str, id: &DataSourceId) -> String {
    format!("{root}/{}/{}/", encode_part(&id.name), encode_part(&id.version))
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

    fn drop_path() -> impl Strategy<Value = DropPath> {
        let part = "[a-z%+ &=\u{e9}\u{1F600}._-]{1,12}".prop_filter("not a folder", |part| part != "." && part != "..");
        proptest::collection::vec(part, 1..4).prop_map(|parts| DropPath::parse(&parts.join("/")).unwrap())
    }

    fn drop_key() -> impl Strategy<Value = ObjectKey> {
        let source = (name(), name()).prop_map(|(name, version)| DataSourceId { name, version });
        (source, drop_path(), any::<[u8; 32]>(), any::<u32>(), 0..8u8).prop_map(
            |(source, path, identity, number, which)| match which {
                0 => ObjectKey::Dropped { source, path },
                1 => ObjectKey::DropStatus { source, identity },
                2 => ObjectKey::DropPlan { source, identity },
                3 => ObjectKey::DropChunk { source, identity, number },
                4 => ObjectKey::DropRefused { source, identity, path },
                5 => ObjectKey::DropSurvey { source, identity, chunks: number },
                6 => ObjectKey::DropReceipt { source, identity, number },
                _ => ObjectKey::DropReport { source, identity },
            },
        )
    }

    fn key() -> impl Strategy<Value = ObjectKey> {
        let source = (name(), name()).prop_map(|(name, version)| DataSourceId { name, version });
        let index = (name(), name()).prop_map(|(name, version)| IndexId { name, version });
        (source, index, 1..=u64::MAX, any::<u128>(), any::<u16>(), any::<[u8; 32]>(), name(), 0..17u8).prop_map(
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
                    13 => ObjectKey::BuildOrder { index, id: ulid },
                    14 => ObjectKey::BuildPart { index, order: ulid, part: u32::from(lane) },
                    15 => ObjectKey::Hint(index),
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
                | ObjectKey::Hint(id)
                | ObjectKey::Manifest { index: id, .. }
                | ObjectKey::Segment { index: id, .. }
                | ObjectKey::Catalog { index: id, .. }
                | ObjectKey::BuildOrder { index: id, .. }
                | ObjectKey::BuildPart { index: id, .. }
                | ObjectKey::IndexBoundary { index: id, .. } => KeyPrefix::Index(id.clone()),
                _ => KeyPrefix::AuthKeys,
            };
            prop_assert!(text.starts_with(&prefix.render()));
            let depth = text[prefix.render().len()..].matches('/').count();
            prop_assert!(depth <= 2);
        }

        #[test]
        fn every_key_of_the_drop_folder_round_trips_and_stays_there(key in drop_key()) {
            let text = key.render();
            prop_assert_eq!(ObjectKey::parse(&text), Some(key));
            prop_assert!(["drop/", "drop-status/", "drop-refused/"].iter().any(|root| text.starts_with(root)));
            prop_assert!(text.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
        }

        #[test]
        fn parsing_any_text_gives_a_key_that_renders_to_it(text in "(sources|indices|auth|drop|drop-status|drop-refused)(/[a-z0-9A-Z.%]{0,30}){1,4}") {
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
            "indices/a/1/hint/",
            "indices/a/1/hint.json",
            "indices/a/1/segments/01arz3ndektsv4rrffq69g5fav.seg",
            "indices/a/1/segments/01ARZ3NDEKTSV4RRFFQ69G5FAV.seg.tmp",
            "indices/a/1/builds/01ARZ3NDEKTSV4RRFFQ69G5FAV/1.json",
            "indices/a/1/builds/01arz3ndektsv4rrffq69g5fav/000001.json",
            "sources/a/1/receipts/00.json",
            "auth/keys/.json",
            "auth/keys/a/b.json",
            "drop",
            "drop/",
            "drop/a",
            "drop/a/1",
            "drop/a/1/",
            "drop/a/1/folder/",
            "drop/a/1//x.csv",
            "drop/a/1/../x.csv",
            "drop/a/1/./x.csv",
            "drop/../1/x.csv",
            "drop/%2e%2e/1/x.csv",
            "drop/%61/1/x.csv",
            "drop/a/1/x\n.csv",
            "drop/a/1/..\\..\\x.csv",
            "drop-status/a/1/x.json",
            "drop-refused/a/1/x.csv",
        ] {
            assert_eq!(ObjectKey::parse(text), None, "{text}");
        }
    }
}
