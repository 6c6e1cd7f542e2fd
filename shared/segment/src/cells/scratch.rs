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
    /// What was considered, by query, when a search was stopped.
    pub(super) stopped: Vec<Option<u64>>,
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

    /// Bytes of whatever grows with queries, cells and rows.
    fn bytes(&self) -> usize {
        let queries: usize = self.queries.iter().map(|query| query.values.capacity() + query.code.room()).sum();
        let entries: usize = self.best.iter().chain(&self.cells).map(Candidates::room).sum();
        let pairs = self.first.capacity() + self.others.capacity() + self.sorted.capacity();
        let words = queries + self.dots.capacity() + self.rows.capacity() + self.starts.capacity();
        size_of::<u64>() * entries + size_of::<Pair>() * pairs + size_of::<u32>() * words
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_what_is_small_and_gives_back_what_is_large() {
        let kept = || with_scratch(|scratch| scratch.queries.len());
        let ask = |queries: usize, dimension: usize| {
            with_scratch(|scratch| {
                scratch.make_room(queries, 1);
                for query in &mut scratch.queries {
                    query.values = vec![1.0; dimension];
                    query.code.set(&query.values);
                }
            });
        };
        ask(200, 100);
        assert_eq!(kept(), 200);
        // A query takes 4 bytes a coordinate, and one more for its codes.
        ask(200, KEPT_BYTES / 5 / 200 + 64);
        assert_eq!(kept(), 0);
    }
}
