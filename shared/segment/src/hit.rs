//! Search results and their order.

use std::cmp::Ordering;

use tarn_model::Metric;

/// A row of a segment with its distance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The row.
    pub row: u32,
    /// In the metric's own direction: an inner product is larger when nearer. Never NaN, never `-0.0`.
    pub distance: f64,
}

/// How an answer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Every allowed row was scored.
    Exact,
    /// The graph was searched, keeping this many candidates.
    Graph {
        /// Candidates kept.
        ef: u32,
    },
    /// The cells nearest to the query were scanned.
    Cells {
        /// Cells probed.
        nprobe: u32,
        /// Rows rescored with full precision.
        rescored: u32,
    },
    /// Posting lists with upper bounds; exact.
    Postings,
}

/// What a search of one segment found.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// At most `k`, nearest first; equal distances by key.
    pub hits: Vec<Hit>,
    /// Rows that the search was allowed to return.
    pub allowed: u64,
    /// Of these, how many the answer accounts for: all of them unless `stop` said so.
    pub considered: u64,
    /// How.
    pub plan: Plan,
}

/// How hard to look. Flat and sparse segments are always exact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effort {
    /// Find what a scan of the allowed rows finds.
    Exact,
    /// The least effort that reached this recall@10 when the segment was built; exact when none did.
    Recall(f32),
    /// Keep this many candidates in the graph, at least. Of a segment with cells and no graph, probe this many cells.
    Ef(u32),
    /// Probe this many cells, and rescore at least this many rows. Of a segment with a graph and no cells, keep so many candidates
    /// as cells would be probed.
    Cells {
        /// Cells probed.
        nprobe: u32,
        /// Rows rescored with full precision.
        rescored: u32,
    },
    /// [`Effort::Ef`] of a graph, [`Effort::Cells`] of cells; where a segment has both, what costs less.
    Each {
        /// Candidates kept in a graph.
        ef: u32,
        /// Cells probed.
        nprobe: u32,
        /// Rows rescored with full precision.
        rescored: u32,
    },
}

impl Effort {
    /// How many rows to rescore when only a number of cells, or of neighbours, is given: as many more as the best ones by code need at
    /// most, as a rule.
    pub fn rescored(number: u32) -> u32 {
        number.saturating_add(16)
    }
}

/// The total order of results across segments: nearest first in the metric's direction, then by key bytes.
pub fn compare_hits(metric: Metric, a: (f64, &[u8]), b: (f64, &[u8])) -> Ordering {
    let by_distance = if metric.higher_is_nearer() { b.0.total_cmp(&a.0) } else { a.0.total_cmp(&b.0) };
    by_distance.then_with(|| a.1.cmp(b.1))
}
