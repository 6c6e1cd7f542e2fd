//! Cells that were read before.

/// Verified cells of one file, at most so many bytes; the ones used longest ago go first. Belongs to one [`Outline`]:
/// keep them together, behind an `Arc` each. Plans look into it, [`CellPlan::scan`] fills it.
///
/// [`Outline`]: super::Outline
/// [`CellPlan::scan`]: super::CellPlan::scan
#[derive(Debug)]
pub struct FetchedCells {
    bytes_max: usize,
}

impl FetchedCells {
    /// Nothing yet. With 0 it stays so.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        0.min(self.bytes_max)
    }
}
