//! The receipt of a search: how each segment was searched and where its bytes came from, what was asked of the store, and where
//! the time went.
//!
//! Counted always: requests, bytes and round trips ([`Spent`][tarn_store::Spent]) and the time of each phase
//! ([`Timings`][crate::Timings]). Said of each segment only when the search asks for it
//! ([`explain`][crate::SearchRequest::explain]); that part is here.

use serde::{Deserialize, Serialize};
use tarn_segment::Plan;
use ulid::Ulid;

use crate::plan::{Origin, Unit};
use crate::snapshot::Snapshot;

/// How one segment was searched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SegmentReceipt {
    /// The shard's id; `None` for a part of the timeline's tail, which holds rows of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// The object's id; `None` for a part of the tail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<Ulid>,
    /// Rows of the splits asked for, dead ones included.
    pub rows: u64,
    /// Where its bytes came from.
    pub state: CacheState,
    /// How it was searched.
    pub plan: SegmentPlan,
}

/// Where a segment's bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CacheState {
    /// The file was mapped already, or is the store's own.
    Mapped,
    /// The file was fetched, or taken from the cache's directory, and opened for this search.
    Fetched,
    /// The file stayed where it is: ranges of it were read.
    Cold,
    /// It is a part of the timeline's tail, in memory.
    Memory,
    /// The file was not there before the deadline.
    Missed,
}

/// How a segment was searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "by", deny_unknown_fields)]
pub enum SegmentPlan {
    /// It was not: the deadline came first.
    None,
    /// Every row that counts was compared.
    Exact,
    /// Through the graph.
    Graph {
        /// Candidates kept.
        ef: u32,
    },
    /// Through the cells.
    Cells {
        /// Cells probed.
        nprobe: u32,
        /// Rows compared with full precision.
        rescored: u32,
    },
    /// Through the posting lists.
    Postings,
    /// Through ranges of the file in the store.
    Cold(ColdPlan),
}

/// What was read of a file that stayed where it is. For several query vectors, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ColdPlan {
    /// Of the outline, when it was not in memory.
    pub outline_bytes: u64,
    /// Ranges of columns that the filter needs.
    pub column_ranges: u32,
    /// Bytes of them.
    pub column_bytes: u64,
    /// Cells that were scanned, those that were in memory included.
    pub cells: u32,
    /// Ranges of cells.
    pub cell_ranges: u32,
    /// Bytes of them.
    pub cell_bytes: u64,
    /// Rows compared with full precision.
    pub rescored: u32,
    /// Ranges of rows.
    pub row_ranges: u32,
    /// Bytes of them.
    pub row_bytes: u64,
    /// Whether the bound on bytes left out cells or rows that the effort asked for: recall may be lower than was measured.
    pub capped: bool,
}

impl SegmentReceipt {
    /// Of a unit of which it is not known yet how it is searched.
    pub(crate) fn of(snapshot: &Snapshot, unit: &Unit, state: CacheState) -> Self {
        let (shard, segment) = match unit.origin {
            Origin::Base { shard, segment } => (
                snapshot.definition.shards.get(shard as usize).cloned(),
                snapshot.base(shard, segment).map(|base| base.file.object.id),
            ),
            Origin::Tail(_) => (None, None),
        };
        let rows = unit.ranges.iter().map(|range| u64::from(range.end - range.start)).sum();
        Self { shard, segment, rows, state, plan: SegmentPlan::None }
    }
}

impl From<Plan> for SegmentPlan {
    fn from(plan: Plan) -> Self {
        match plan {
            Plan::Exact => Self::Exact,
            Plan::Graph { ef } => Self::Graph { ef },
            Plan::Cells { nprobe, rescored } => Self::Cells { nprobe, rescored },
            Plan::Postings => Self::Postings,
        }
    }
}
