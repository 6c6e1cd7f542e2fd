//! Which cells to read.

use std::ops::Range;

use bytes::Bytes;
use tarn_model::Corrupt;

use super::answer::RowPlan;
use super::fetched::FetchedCells;

/// How much one query may read. A plan for several queries has as many times that together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColdBudget {
    /// Ranges of cells.
    pub cell_ranges_max: usize,
    /// Ranges of rows. Records that did not fit take at most as many again.
    pub row_ranges_max: usize,
    /// Bytes of cells and rows together. A query that would exceed it reads what is worth most, and may find less than
    /// was measured.
    pub bytes_max: u64,
}

impl Default for ColdBudget {
    /// The ranges that recall is measured with at build, and 6 MiB.
    fn default() -> Self {
        Self { cell_ranges_max: 10, row_ranges_max: 9, bytes_max: 6 << 20 }
    }
}

/// The cells that some queries look into. Made by [`Outline::plan_cells`][super::Outline::plan_cells].
#[derive(Debug)]
pub struct CellPlan {
    ranges: Vec<Range<u64>>,
}

impl CellPlan {
    /// What to read of the file: disjoint, ascending, not empty; at most the budget's.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// Bytes of all ranges.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// Cells that will be scanned, those fetched earlier included; summed over queries.
    pub fn cells(&self) -> usize {
        0
    }

    /// Whether the byte budget has left out cells that the effort asked for: recall may be lower than was measured.
    pub fn capped(&self) -> bool {
        false
    }

    /// Scans the cells and chooses the rows to read. `bytes`: those of [`Self::ranges`], in that order. What is verified
    /// goes into `fetched`.
    ///
    /// # Errors
    /// [`Corrupt`] when the bytes are not the cells'.
    pub fn scan(self, bytes: &[Bytes], fetched: &FetchedCells) -> Result<RowPlan, Corrupt> {
        let _ = (bytes, fetched);
        Err(Corrupt { object: String::new(), part: String::new(), expected: String::new(), found: String::new() })
    }
}
