//! The durable roots: checkpoints of data sources, manifests of indices, boundaries of garbage collection.
//!
//! All are JSON, created and never rewritten. `generation = predecessor + 1`. What they must satisfy is in `invariants`;
//! it is checked before each write and after each read. Not here: reading and writing them.

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::error::Corrupt;
use crate::ids::{DataSourceId, IndexId};
use crate::invariants::{self, Invariant};
use crate::layout::ObjectKey;
use crate::limits;
use crate::token::ReadToken;

/// The format number that this code writes into [`Checkpoint`], [`Manifest`] and [`Boundary`].
pub const FORMAT: u32 = 1;

/// An immutable data object, with what its bytes must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// The object's unique id, part of its key.
    pub id: Ulid,
    /// Length in bytes.
    pub bytes: u64,
    /// CRC-32C of the whole object.
    pub crc32c: u32,
}

/// The live set of a data source up to a watermark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// [`FORMAT`].
    pub format: u32,
    /// The data source.
    pub source: DataSourceId,
    /// From 1.
    pub generation: u64,
    /// Which builder run wrote it; tells a writer whose response was lost that it won.
    pub commit_id: Ulid,
    /// Everything up to here is folded in.
    pub watermark: ReadToken,
    /// Milliseconds since the Unix epoch, by the builder's clock. For people; no protocol reads it.
    pub created_ms: i64,
    /// Live rows in all files.
    pub rows: u64,
    /// The data files, oldest first. A point is live in exactly one.
    pub files: Vec<CheckpointFile>,
}

/// One Parquet file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointFile {
    /// The Parquet file, at `checkpoint-data/{id}.parquet`.
    pub data: ObjectRef,
    /// Rows in the file.
    pub rows: u64,
    /// Rows that later updates have replaced or removed: a Parquet file of one `row: UInt64` column, ascending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<ObjectRef>,
    /// How many rows `deleted` names.
    #[serde(default)]
    pub deleted_rows: u64,
}

/// The durable root of an index: names, by way of the catalogs, every live object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The index.
    pub index: IndexId,
    /// From 1.
    pub generation: u64,
    /// Which builder run wrote it.
    pub commit_id: Ulid,
    /// The index holds the live set of its data source at this point.
    pub watermark: ReadToken,
    /// Milliseconds since the Unix epoch, by the builder's clock. For people; no protocol reads it.
    pub created_ms: i64,
    /// Live rows in all shards.
    pub rows: u64,
    /// One entry per shard of the definition, sorted by shard id.
    pub shards: Vec<ShardEntry>,
}

/// One shard in a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardEntry {
    /// The shard's id in the index definition.
    pub shard: String,
    /// Live rows.
    pub rows: u64,
    /// Splits with at least one live row.
    pub splits: u64,
    /// Segment files.
    pub segments: u64,
    /// Bytes of all segment files.
    pub segment_bytes: u64,
    /// The shard's catalog; `None` when the shard has no segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<ObjectRef>,
}

/// What GC gives itself leave to delete, written before it deletes. An appender or builder that was slow re-reads the
/// newest boundary *after* its PUT and takes a sequence or generation at or below it as not committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Boundary {
    /// [`FORMAT`].
    pub format: u32,
    /// From 1; boundaries never regress.
    pub number: u64,
    /// Which run of gc wrote it.
    pub commit_id: Ulid,
    /// Deltas at or before this may be gone. Empty for an index.
    #[serde(default)]
    pub timeline: ReadToken,
    /// Checkpoints (of a data source) or manifests (of an index) up to this generation may be gone.
    pub generation: u64,
}

impl Checkpoint {
    /// Parses and checks a checkpoint; `object` is its key, for the error.
    ///
    /// # Errors
    /// [`Corrupt`] when the JSON is not a checkpoint, or its format, source, generation or counts do not agree.
    pub fn parse(object: &str, bytes: &[u8], source: &DataSourceId, generation: u64) -> Result<Self, Corrupt> {
        let checkpoint: Self = parse_json(object, bytes, "checkpoint")?;
        let place = Place { object, format: checkpoint.format };
        place.check(&checkpoint.source, source, checkpoint.generation, generation)?;
        place.check_token("watermark", &checkpoint.watermark)?;
        checkpoint.check().map_err(|broken| broken.in_object(object))?;
        Ok(checkpoint)
    }

    /// `generation-follows-predecessor`, `watermark-never-regresses`, `rows-add-up`. Called before a write.
    ///
    /// # Errors
    /// [`Corrupt`], whose `part` is the invariant's id.
    pub fn check_successor(&self, predecessor: Option<&Self>) -> Result<(), Corrupt> {
        let before = predecessor.map(|before| (before.generation, &before.watermark));
        self.check()
            .and_then(|()| invariants::check_succession(before, (self.generation, &self.watermark)))
            .map_err(|broken| broken.in_object(&self.key().render()))
    }

    /// Where it is stored.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::Checkpoint { source: self.source.clone(), generation: self.generation }
    }

    fn check(&self) -> Result<(), invariants::Broken> {
        for file in &self.files {
            let found = format!("{} of {} rows deleted", file.deleted_rows, file.rows);
            if file.deleted_rows > file.rows || file.deleted.is_some() != (file.deleted_rows > 0) {
                let expected = "at most all rows deleted, and a list of them when any is";
                return Err(invariants::Broken::new(Invariant::RowsAddUp, expected, found));
            }
        }
        invariants::check_rows_add_up(self.rows, self.files.iter().map(|file| file.rows - file.deleted_rows))
    }
}

impl Manifest {
    /// Parses and checks a manifest; `object` is its key, for the error.
    ///
    /// # Errors
    /// [`Corrupt`] when the JSON is not a manifest, or its format, index, generation or counts do not agree.
    pub fn parse(object: &str, bytes: &[u8], index: &IndexId, generation: u64) -> Result<Self, Corrupt> {
        let manifest: Self = parse_json(object, bytes, "manifest")?;
        let place = Place { object, format: manifest.format };
        place.check(&manifest.index, index, manifest.generation, generation)?;
        place.check_token("watermark", &manifest.watermark)?;
        manifest.check().map_err(|broken| broken.in_object(object))?;
        Ok(manifest)
    }

    /// As [`Self::parse`], of a copy whose place does not tell the generation.
    pub(crate) fn parse_copy(object: &str, bytes: &[u8], index: &IndexId) -> Result<Self, Corrupt> {
        let manifest: Self = parse_json(object, bytes, "manifest")?;
        // Generations are from 1; the parse compares this one with itself.
        Self::parse(object, bytes, index, manifest.generation.max(1))
    }

    /// `generation-follows-predecessor`, `watermark-never-regresses`, `rows-add-up`, `shards-are-sorted`. Called before a
    /// write.
    ///
    /// # Errors
    /// [`Corrupt`], whose `part` is the invariant's id.
    pub fn check_successor(&self, predecessor: Option<&Self>) -> Result<(), Corrupt> {
        let before = predecessor.map(|before| (before.generation, &before.watermark));
        self.check()
            .and_then(|()| invariants::check_succession(before, (self.generation, &self.watermark)))
            .map_err(|broken| broken.in_object(&self.key().render()))
    }

    /// Where it is stored.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::Manifest { index: self.index.clone(), generation: self.generation }
    }

    fn check(&self) -> Result<(), invariants::Broken> {
        invariants::check_shards_are_sorted(self.shards.iter().map(|entry| entry.shard.as_str()))?;
        for entry in &self.shards {
            if entry.catalog.is_none() && (entry.rows, entry.splits, entry.segments) != (0, 0, 0) {
                return Err(invariants::Broken::new(
                    Invariant::RowsAddUp,
                    "no rows in a shard without a catalog",
                    format!("{} rows in shard '{}'", entry.rows, entry.shard),
                ));
            }
        }
        invariants::check_rows_add_up(self.rows, self.shards.iter().map(|entry| entry.rows))
    }
}

impl Boundary {
    /// Parses and checks a boundary; `object` is its key, for the error.
    ///
    /// # Errors
    /// [`Corrupt`] when the JSON is not a boundary, or its format or number do not agree.
    pub fn parse(object: &str, bytes: &[u8], number: u64) -> Result<Self, Corrupt> {
        let boundary: Self = parse_json(object, bytes, "boundary")?;
        let place = Place { object, format: boundary.format };
        place.check(&"", &"", boundary.number, number)?;
        place.check_token("timeline", &boundary.timeline)?;
        Ok(boundary)
    }

    /// `generation-follows-predecessor`, `boundary-never-regresses`. Called before a write; `object` is the key that it will
    /// have.
    ///
    /// # Errors
    /// [`Corrupt`], whose `part` is the invariant's id.
    pub fn check_successor(&self, object: &str, predecessor: Option<&Self>) -> Result<(), Corrupt> {
        invariants::check_follows(predecessor.map(|before| before.number), self.number)
            .and_then(|()| match predecessor {
                Some(before) => {
                    invariants::check_boundary((&before.timeline, before.generation), (&self.timeline, self.generation))
                }
                None => Ok(()),
            })
            .map_err(|broken| broken.in_object(object))
    }
}

fn parse_json<'a, T: Deserialize<'a>>(object: &str, bytes: &'a [u8], what: &str) -> Result<T, Corrupt> {
    serde_json::from_slice(bytes).map_err(|error| Corrupt {
        object: object.to_owned(),
        part: "json".to_owned(),
        expected: format!("a {what}"),
        found: error.to_string(),
    })
}

/// Who a root must say that it is, given where it was found.
struct Place<'a> {
    object: &'a str,
    format: u32,
}

impl Place<'_> {
    fn check<Id: PartialEq + ToString>(
        &self,
        owner: &Id,
        expected_owner: &Id,
        number: u64,
        expected_number: u64,
    ) -> Result<(), Corrupt> {
        let corrupt = |part: &str, expected: String, found: String| {
            Err(Corrupt { object: self.object.to_owned(), part: part.to_owned(), expected, found })
        };
        if self.format != FORMAT {
            return corrupt("format", format!("{FORMAT}, all that this version reads"), self.format.to_string());
        }
        if owner != expected_owner {
            return corrupt("owner", expected_owner.to_string(), owner.to_string());
        }
        if number != expected_number {
            return corrupt("number", expected_number.to_string(), number.to_string());
        }
        Ok(())
    }

    /// Whoever computes with the sequences of a root relies on their bound.
    fn check_token(&self, part: &str, token: &ReadToken) -> Result<(), Corrupt> {
        let lanes = usize::from(limits::LANES);
        if token.lanes.len() <= lanes && token.lanes.iter().all(|&sequence| sequence <= limits::SEQUENCE) {
            return Ok(());
        }
        Err(Corrupt {
            object: self.object.to_owned(),
            part: part.to_owned(),
            expected: format!("at most {lanes} lane, and sequences up to {}", limits::SEQUENCE),
            found: format!("{} lanes, the first at {}", token.lanes.len(), token.sequence(0)),
        })
    }
}

#[cfg(test)]
mod tests;
