//! The kinds of segments, and what a builder chooses between.

use serde::{Deserialize, Serialize};
use tarn_model::HnswParams;

/// How a segment's rows are indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SegmentKind {
    /// Dense rows, searched by an exact scan.
    Flat,
    /// Dense rows with an HNSW graph over them.
    Graph,
    /// Dense rows in clusters, with 4-bit codes of them. Rows are numbered cell by cell. There may be a graph beside.
    Cells,
    /// Sparse rows with an inverted index; exact.
    Sparse,
}

/// What to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// [`SegmentKind::Flat`].
    Flat,
    /// [`SegmentKind::Graph`].
    Graph(HnswParams),
    /// [`SegmentKind::Cells`]. Puts the rows into another order, so all of them must be of one split.
    Cells,
    /// The same, and a graph beside the cells, whose links are chosen with their help.
    CellsAndGraph(HnswParams),
    /// [`SegmentKind::Sparse`].
    Sparse,
}

/// How to build; none of it changes the meaning of a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SegmentSettings {
    /// Threads that build a graph of at least `parallel_rows` rows. Smaller graphs are built by one thread, which makes
    /// their bytes a function of the input. Cells, and a graph beside them, take all threads of the current pool: their
    /// bytes do not depend on how many these are.
    pub threads: usize,
    /// See `threads`.
    pub parallel_rows: usize,
    /// Rows of a cell, on average. Smaller cells are probed more precisely, and cost more to choose from.
    pub rows_per_cell: usize,
    /// Queries that measure the recall of a graph or of cells.
    pub calibration_queries: usize,
    /// Seeds the choice of those queries, and the training of cells.
    pub seed: u64,
}

impl Default for SegmentSettings {
    fn default() -> Self {
        Self { threads: 1, parallel_rows: 20_000, rows_per_cell: 80, calibration_queries: 200, seed: 0x7461_726e }
    }
}
