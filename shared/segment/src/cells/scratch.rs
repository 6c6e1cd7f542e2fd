//! Memory that searches of cells use again: each thread keeps some.

use std::cell::Cell;

use super::MapQuery;
use super::candidates::Candidates;
use super::propose::Pair;

/// Bytes that a thread keeps, at most: a search of many rows gives back what it took.
const KEPT_BYTES: usize = 4 * 1024 * 1024;

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// What a search, or several together, need for a while. Nothing in it means anything to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// One per query.
    pub(super) queries: Vec<MapQuery>,
    /// The best rows, one per query.
    pub(super) best: Vec<Candidates>,
    /// The best cells, one per query that is routed.
    pub(super) cells: Vec<Candidates>,
    /// Inner products with the centroids, for each query that is routed.
    pub(super) dots: Vec<f32>,
    /// The cells to scan first, then the others; then either of them by cell.
    pub(super) first: Vec<Pair>,
    pub(super) others: Vec<Pair>,
    pub(super) sorted: Vec<Pair>,
    /// Where the pairs of each cell begin.
    pub(super) starts: Vec<u32>,
    /// Cells that are still to be scanned, and rows that were, by query.
    pub(super) left: Vec<u32>,
    pub(super) scanned: Vec<u64>,
    /// Rows that are proposed, query by query, and where those of each end.
    pub(super) rows: Vec<u32>,
    pub(super) ends: Vec<usize>,
}

impl Scratch {
    /// Makes room for so many queries, of which so many are routed together.
    pub(super) fn make_room(&mut self, queries: usize, routed: usize) {
        if self.queries.len() < queries {
            self.queries.resize_with(queries, MapQuery::default);
            self.best.resize_with(queries, Candidates::default);
        }
        if self.cells.len() < routed {
            self.cells.resize_with(routed, Candidates::default);
        }
    }

    fn bytes(&self) -> usize {
        let entries: usize = self.best.iter().chain(&self.cells).map(Candidates::room).sum();
        let pairs = self.first.capacity() + self.others.capacity() + self.sorted.capacity();
        8 * entries + size_of::<Pair>() * pairs + 4 * (self.dots.capacity() + self.rows.capacity())
    }
}

/// Lends the thread's memory.
pub(super) fn with_scratch<T>(use_it: impl FnOnce(&mut Scratch) -> T) -> T {
    // Taken, not borrowed: a thread that waits inside may begin another search, which then finds none and makes its own.
    let mut scratch = SCRATCH.take().unwrap_or_default();
    let out = use_it(&mut scratch);
    if scratch.bytes() <= KEPT_BYTES {
        SCRATCH.set(Some(scratch));
    }
    out
}
