//! What is written down about a file: surveys, its plan, its chunks, its status. JSON, each created once.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tarn_model::{Corrupt, DataSourceId, FORMAT, ObjectKey, ReadToken};
use tarn_store::{Created, ObjectVersion, Store, StoreError};

use crate::detect::{Compression, FileFormat};
use crate::error::DropError;
use crate::identity::Identity;
use crate::mapping::DropMapping;
use crate::report::DropReport;

/// What is to be done with a file. Decided once, by whoever creates it first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Plan {
    pub(crate) format: u32,
    pub(crate) file: FileRecord,
    /// When the file was read, in milliseconds since the Unix epoch. For people.
    pub(crate) planned_ms: i64,
    pub(crate) verdict: Verdict,
}

/// The version of the file that plan and status are about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FileRecord {
    pub(crate) source: DataSourceId,
    /// Below the data source's folder.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) modified_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) e_tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
}

impl FileRecord {
    pub(crate) fn object_version(&self) -> ObjectVersion {
        ObjectVersion {
            bytes: self.bytes,
            modified_ms: self.modified_ms,
            e_tag: self.e_tag.clone(),
            version: self.version.clone(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Verdict {
    Commit(Commit),
    Refuse(DropReport),
}

/// How a good file is to be committed. Re-runs read it with the same eyes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Commit {
    pub(crate) file_format: FileFormat,
    pub(crate) compression: Compression,
    pub(crate) mapping: DropMapping,
    pub(crate) chunks: Vec<ChunkPlan>,
}

impl Commit {
    pub(crate) fn rows(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.rows)).sum()
    }

    pub(crate) fn deletions(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.deletions)).sum()
    }
}

/// Some rows of a file that become one delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChunkPlan {
    /// Updates, tombstones included. At least 1.
    pub(crate) rows: u32,
    /// Tombstones among them.
    pub(crate) deletions: u32,
    /// Where its first row begins in the uncompressed text; 0 in columnar formats.
    pub(crate) offset: u64,
}

/// A place between two rows of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Place {
    /// Rows before it.
    pub(crate) row: u64,
    /// Bytes of uncompressed text before it; 0 in columnar formats.
    pub(crate) offset: u64,
    /// Line ends of text before it, where that was counted.
    pub(crate) line: u64,
}

/// How far the validation of a file has come when the time was up. Any number of runs may each have come to a survey; a run
/// goes on from one of them, and what it plans is of a piece.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Survey {
    pub(crate) format: u32,
    /// The chunks that are valid, and how they were read.
    pub(crate) commit: Commit,
    /// Where the next chunk begins.
    pub(crate) next: Place,
}

/// That a chunk is committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChunkRecord {
    pub(crate) format: u32,
    pub(crate) token: ReadToken,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DropStatus {
    pub(crate) format: u32,
    pub(crate) file: FileRecord,
    /// When it was settled, in milliseconds since the Unix epoch.
    pub settled_ms: i64,
    /// How.
    pub settled: Settled,
}

/// How a file ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Settled {
    /// All of it is in the timeline.
    #[serde(rename_all = "camelCase")]
    Committed {
        /// Updates, tombstones included.
        rows: u64,
        /// Tombstones among them.
        deletions: u64,
        /// The sequence of each chunk.
        sequences: Vec<u64>,
        /// Includes all of the file.
        version: ReadToken,
    },
    /// Nothing of it is in the timeline.
    Refused(DropReport),
}

impl DropStatus {
    /// The file, below its data source's folder.
    pub fn path(&self) -> &str {
        &self.file.path
    }

    /// The file's length in bytes.
    pub fn bytes(&self) -> u64 {
        self.file.bytes
    }
}

/// Everything here carries the format version.
pub(crate) trait Record: Serialize + DeserializeOwned + PartialEq {
    fn format(&self) -> u32;
}

macro_rules! record {
    ($($type:ty),+) => {
        $(impl Record for $type {
            fn format(&self) -> u32 {
                self.format
            }
        })+
    };
}
record!(Survey, Plan, ChunkRecord, DropStatus);

/// Reads a record.
pub(crate) async fn load<T: Record>(store: &Store, key: &ObjectKey) -> Result<Option<T>, DropError> {
    let Some(bytes) = store.get(key).await? else { return Ok(None) };
    Ok(Some(parse(key, &bytes)?))
}

/// Creates a record, or returns the one that is there.
pub(crate) async fn create<T: Record>(store: &Store, key: &ObjectKey, record: T) -> Result<T, DropError> {
    let bytes = serde_json::to_vec(&record).map_err(|error| corrupt(key, "a record", error.to_string()))?;
    let bytes = Bytes::from(bytes);
    let ours = bytes.clone();
    match store.create(key, bytes, |found| *found == ours).await? {
        Created::Ours => Ok(record),
        Created::Taken(found) => Ok(parse(key, &found)?),
    }
}

fn parse<T: Record>(key: &ObjectKey, bytes: &[u8]) -> Result<T, Corrupt> {
    let record: T = serde_json::from_slice(bytes).map_err(|error| corrupt(key, "a record", error.to_string()))?;
    if record.format() == FORMAT {
        Ok(record)
    } else {
        Err(corrupt(key, &format!("format {FORMAT}"), format!("format {}", record.format())))
    }
}

fn corrupt(key: &ObjectKey, expected: &str, found: String) -> Corrupt {
    Corrupt { object: key.render(), part: "drop".to_owned(), expected: expected.to_owned(), found }
}

/// The survey of a file that came furthest.
pub(crate) async fn survey(
    store: &Store,
    source: &DataSourceId,
    identity: Identity,
) -> Result<Option<Survey>, DropError> {
    let listed = store.list(&tarn_model::KeyPrefix::DropSurveys(source.clone(), identity.0)).await?;
    let surveys = listed.into_iter().filter_map(|listed| match listed.key {
        Some(ObjectKey::DropSurvey { chunks, .. }) => Some(chunks),
        _ => None,
    });
    let Some(chunks) = surveys.max() else { return Ok(None) };
    load(store, &ObjectKey::DropSurvey { source: source.clone(), identity: identity.0, chunks }).await
}

/// The committed chunks of a file.
pub(crate) async fn committed(
    store: &Store,
    source: &DataSourceId,
    identity: Identity,
) -> Result<Vec<u32>, StoreError> {
    let listed = store.list(&tarn_model::KeyPrefix::DropChunks(source.clone(), identity.0)).await?;
    let number = |listed: tarn_store::Listed| match listed.key {
        Some(ObjectKey::DropChunk { number, .. }) => Some(number),
        _ => None,
    };
    Ok(listed.into_iter().filter_map(number).collect())
}
