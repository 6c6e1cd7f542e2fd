//! What became of each step.

use serde::{Deserialize, Serialize};
use tarn_model::{DataSourceId, IndexId, ReadToken};

use crate::error::CompactError;

/// How a fold or a build ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// A new root was published.
    Published,
    /// There was nothing new; nothing was written.
    UpToDate,
    /// Another builder published first. Nothing is lost; what this one wrote is garbage.
    LostRace,
}

/// What became of a fold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FoldOutcome {
    /// How it ended.
    pub status: Status,
    /// Of the newest checkpoint; 0 when there is none.
    pub generation: u64,
    /// Of the newest checkpoint.
    pub watermark: ReadToken,
    /// Live rows of the newest checkpoint.
    pub rows: u64,
    /// Deltas that were folded in.
    pub deltas: u64,
    /// Data files written.
    pub files_written: u64,
    /// Data files carried over.
    pub files_carried: u64,
    /// Bytes of keys that did not fit into memory and went to disk meanwhile. Not a fault; more memory makes a fold that
    /// spills faster.
    pub spilled_bytes: u64,
}

/// What became of an index build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct BuildOutcome {
    /// How it ended.
    pub status: Status,
    /// Of the newest manifest; 0 when there is none.
    pub generation: u64,
    /// Of the newest manifest.
    pub watermark: ReadToken,
    /// Live rows of the newest manifest.
    pub rows: u64,
    /// Segments written.
    pub segments_written: u64,
    /// Segments carried over by name.
    pub segments_carried: u64,
    /// Another builder published first; the same as `status`, for convenience.
    pub lost_race: bool,
}

/// What became of one data source or index in a run.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunItem {
    /// A fold.
    Fold(DataSourceId, Result<FoldOutcome, CompactError>),
    /// An index build.
    Build(IndexId, Result<BuildOutcome, CompactError>),
}

impl RunItem {
    /// Folds before builds; each by id.
    pub(crate) fn in_reports(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            (Self::Fold(a, _), Self::Fold(b, _)) => a.cmp(b),
            (Self::Build(a, _), Self::Build(b, _)) => a.cmp(b),
            (Self::Fold(..), Self::Build(..)) => std::cmp::Ordering::Less,
            (Self::Build(..), Self::Fold(..)) => std::cmp::Ordering::Greater,
        }
    }
}

/// What became of a run over everything. One item's failure does not stop the others.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct RunSummary {
    /// Folds, then builds; each by id.
    pub items: Vec<RunItem>,
}

impl RunSummary {
    /// The failures, with what failed.
    pub fn failures(&self) -> impl Iterator<Item = (String, &CompactError)> {
        self.items.iter().filter_map(|item| match item {
            RunItem::Fold(id, Err(error)) => Some((id.to_string(), error)),
            RunItem::Build(id, Err(error)) => Some((id.to_string(), error)),
            _ => None,
        })
    }

    /// Whether anything was published.
    pub fn published(&self) -> bool {
        self.items.iter().any(|item| match item {
            RunItem::Fold(_, Ok(outcome)) => outcome.status == Status::Published,
            RunItem::Build(_, Ok(outcome)) => outcome.status == Status::Published,
            _ => false,
        })
    }
}

/// One object that was, or in a dry run would be, deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Garbage {
    /// The object's key.
    pub key: String,
    /// Its length.
    pub bytes: u64,
    /// Why it may go.
    pub why: String,
}

/// What garbage collection did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct GcReport {
    /// Nothing was deleted; the rest says what would be.
    pub dry_run: bool,
    /// The garbage, in the order in which it goes.
    pub objects: Vec<Garbage>,
    /// Their bytes together.
    pub bytes: u64,
    /// What was left alone for a reason that a person should know.
    pub notes: Vec<String>,
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Problem {
    /// The object at fault.
    pub object: String,
    /// What is wrong with it.
    pub message: String,
}

/// What verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct VerifyReport {
    /// Live objects that were read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Live rows of checkpoints and indices that were compared.
    pub rows: u64,
    /// Objects that nothing names. Information: garbage collection takes them when they are old enough.
    pub orphans: u64,
    /// Everything that is wrong. Empty: the store is sound.
    pub problems: Vec<Problem>,
}
