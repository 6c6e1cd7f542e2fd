//! Exact search that reads an eighth of the bytes: codes say which rows may be among the nearest, and only these are scored.
//!
//! The nearest cells give `k` exact distances, and so a limit that few rows' bounds (see `bound`) reach. Then all cells are
//! scanned in the order of memory, some thousand rows at a time, and rows whose bound reaches the limit are scored; the
//! limit sinks as nearer rows are found. Where too many rows reach it, the chunk is scored as a whole, and so are, without
//! asking, ever more chunks after it: queries for which codes tell nothing cost little more than the scan.
//!
//! A search that is stopped answers with the rows that gave the limit, too: others were left out for being farther than
//! these.
//!
//! Owns `bounds-hide-no-row`: the answer is that of `flat::scan`, to the bit and in order. Rows that are left out are
//! farther than the `k`-th, not as far: ties are scored, and decided by keys.

mod bound;

use std::ops::Range;

use rayon::prelude::*;

pub(super) use bound::up;

use bound::Bound;

use super::candidates::Candidates;
use super::kernels::{self, CodeQuery};
use super::layout::Directory;
use super::{Cells, FIRST_CELLS};
use crate::dense::{DenseQuery, DenseRows};
use crate::hit::Hit;
use crate::keys::Keys;
use crate::rows::Bits;
use crate::topk::TopK;

/// Cells that give the first limit, when all rows are allowed.
const NEAREST_CELLS: usize = 64;
/// Cells of a chunk, a few thousand rows.
const CHUNK_CELLS: usize = 64;
/// A chunk of which one allowed row in so many may be among the nearest is scored as a whole.
const WHOLE_SHARE: u64 = 5;
/// Chunks that are scored without asking, at most, one after the other.
const MOST_UNASKED: u32 = 31;
/// Rows that are scored together when a chunk is.
const BLOCK_ROWS: usize = 256;
/// Chunks below which one thread does it all.
const PARALLEL_CHUNKS: usize = 16;

/// A search that finds what the scan finds.
#[derive(Clone, Copy)]
pub(crate) struct Exact<'a> {
    pub(crate) cells: &'a Cells,
    pub(crate) rows: &'a DenseRows,
    pub(crate) keys: &'a Keys,
    /// The allowed rows; `None` when that is all of them.
    pub(crate) bits: Option<&'a Bits>,
    pub(crate) k: usize,
}

/// What it finds.
pub(crate) struct Found<'a> {
    pub(crate) top: TopK<'a>,
    /// Allowed rows that the answer accounts for.
    pub(crate) considered: u64,
    /// Of these, those whose f32 vector was read.
    pub(crate) scored: u64,
}

/// Cells that follow one another, and how many of their rows are allowed.
#[derive(Clone, Debug)]
struct Chunk {
    cells: Range<usize>,
    rows: Range<u32>,
    allowed: u64,
}

impl<'a> Exact<'a> {
    /// `stop` is asked before as many cells as a chunk has.
    pub(crate) fn search(&self, query: &DenseQuery, stop: &(dyn Fn() -> bool + Sync)) -> Found<'a> {
        let map = &self.cells.map;
        let chunks = self.chunks();
        let allowed: u64 = chunks.iter().map(|chunk| chunk.allowed).sum();
        let prepared = map.query(query);
        let mut dots = map.dots();
        let few = (map.count() as u64).min(NEAREST_CELLS as u64 * self.cells.rows() as u64 / allowed.max(1));
        let nearest = map.route(&prepared, few as usize, &mut dots);
        let first = self.first(query, &prepared.code, nearest, &dots, stop);
        let limit = self.k.checked_sub(1).and_then(|last| first.get(last)).map_or(f64::INFINITY, |hit| hit.distance);
        let bound = Bound::new(map, &prepared, &dots);
        let run = |chunks: &[Chunk]| {
            let mut part = Part::new(self, query, &bound, limit);
            for (at, chunk) in chunks.iter().enumerate() {
                if stop() {
                    part.keep(&first, &chunks[at..]);
                    break;
                }
                part.search(chunk);
            }
            part.found
        };
        let threads = rayon::current_num_threads();
        if threads < 2 || chunks.len() < PARALLEL_CHUNKS {
            return run(&chunks);
        }
        let share = chunks.len().div_ceil(threads * 4);
        let nothing = || Found { top: TopK::new(self.k, self.keys), considered: 0, scored: 0 };
        chunks.par_chunks(share).map(run).reduce(nothing, Found::merge)
    }

    fn chunks(&self) -> Vec<Chunk> {
        let Directory { first_rows, .. } = &self.cells.map.directory;
        let count = self.cells.count();
        let cells = (0..count).step_by(CHUNK_CELLS).map(|first| first..(first + CHUNK_CELLS).min(count));
        let mut chunks: Vec<Chunk> = cells
            .map(|cells| {
                let rows = first_rows[cells.start]..first_rows[cells.end];
                Chunk { cells, allowed: u64::from(rows.end - rows.start), rows }
            })
            .collect();
        if let Some(bits) = self.bits {
            let bounds: Vec<u32> =
                chunks.iter().map(|chunk| chunk.rows.start).chain([self.cells.rows() as u32]).collect();
            for (chunk, allowed) in chunks.iter_mut().zip(bits.counts(&bounds)) {
                chunk.allowed = u64::from(allowed);
            }
        }
        chunks
    }

    /// The nearest of the rows that codes propose in these cells, at most `k`; lower is nearer, whatever the metric.
    fn first(
        &self,
        query: &DenseQuery,
        code: &CodeQuery,
        nearest: Candidates,
        dots: &[f32],
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Vec<Hit> {
        let map = &self.cells.map;
        let mut best = Candidates::new(self.k.saturating_mul(2).saturating_add(16), self.cells.rows());
        for (at, (_, cell)) in nearest.into_best_first(FIRST_CELLS).into_iter().enumerate() {
            if at.is_multiple_of(CHUNK_CELLS) && stop() {
                break;
            }
            let cell = cell as usize;
            let rows = map.directory.cell(cell, self.cells.bytes_of(cell), dots[cell]);
            kernels::scan(code, &rows, self.bits, &mut best);
        }
        let rows: Vec<u32> = best.into_sorted().into_iter().map(|(_, row)| row).collect();
        let mut top = TopK::new(self.k, self.keys);
        self.rows.offer_each(map.metric, query, &rows, &mut top);
        top.into_hits(false)
    }
}

impl Found<'_> {
    fn merge(mut self, other: Self) -> Self {
        self.top.merge(other.top);
        self.considered += other.considered;
        self.scored += other.scored;
        self
    }
}

/// Some chunks' search.
struct Part<'s, 'a> {
    exact: &'s Exact<'a>,
    query: &'s DenseQuery,
    bound: &'s Bound<'s>,
    /// The query's, lifted for the cell that is scanned.
    code: CodeQuery,
    /// Rows whose bound reaches the limit.
    reaching: Candidates,
    /// No farther row can be among the nearest.
    limit: f64,
    /// Chunks to score without asking: those that are left, and how many the next time.
    unasked: u32,
    next_unasked: u32,
    found: Found<'a>,
    list: Vec<u32>,
}

impl<'s, 'a> Part<'s, 'a> {
    fn new(exact: &'s Exact<'a>, query: &'s DenseQuery, bound: &'s Bound<'s>, limit: f64) -> Self {
        Self {
            exact,
            query,
            bound,
            code: bound.query.code.clone(),
            reaching: Candidates::reaching(bound.least_score(limit)),
            limit,
            unasked: 0,
            next_unasked: 0,
            found: Found { top: TopK::new(exact.k, exact.keys), considered: 0, scored: 0 },
            list: Vec::new(),
        }
    }

    fn search(&mut self, chunk: &Chunk) {
        self.found.considered += chunk.allowed;
        if chunk.allowed == 0 {
            return;
        }
        if self.unasked > 0 {
            self.unasked -= 1;
            self.score_all(chunk);
        } else if self.collect(chunk) {
            self.next_unasked = 0;
            self.score_reaching();
        } else {
            self.unasked = self.next_unasked;
            self.next_unasked = (2 * self.next_unasked + 1).min(MOST_UNASKED);
            self.score_all(chunk);
        }
        self.found.top.shrink();
        self.limit = self.limit.min(self.found.top.threshold());
        self.reaching.raise(self.bound.least_score(self.limit));
    }

    /// Of chunks that follow one another and are not searched, takes the rows that gave the limit.
    fn keep(&mut self, first: &[Hit], chunks: &[Chunk]) {
        let (Some(from), Some(to)) = (chunks.first(), chunks.last()) else { return };
        let rows = from.rows.start..to.rows.end;
        for hit in first.iter().filter(|hit| rows.contains(&hit.row)) {
            self.found.top.offer(hit.distance, hit.row);
            self.found.considered += 1;
            self.found.scored += 1;
        }
    }

    /// Collects the rows whose bound reaches the limit; false, with none collected, when these are too many.
    fn collect(&mut self, chunk: &Chunk) -> bool {
        let cells = self.exact.cells;
        let most = chunk.allowed / WHOLE_SHARE;
        for cell in chunk.cells.clone() {
            let ahead = if cell + 1 < cells.count() { cells.bytes_of(cell + 1) } else { &[] };
            let rows = self.bound.cell(cell, cells.bytes_of(cell), &mut self.code);
            kernels::scan_before(&self.code, &rows, ahead, self.exact.bits, &mut self.reaching);
            if self.reaching.len() as u64 > most {
                self.reaching.drain().for_each(drop);
                return false;
            }
        }
        true
    }

    fn score_reaching(&mut self) {
        self.list.clear();
        self.list.extend(self.reaching.drain().map(|(_, row)| row));
        self.score_list();
    }

    fn score_list(&mut self) {
        let Exact { rows, cells, .. } = self.exact;
        rows.offer_each(cells.map.metric, self.query, &self.list, &mut self.found.top);
        self.found.scored += self.list.len() as u64;
    }

    fn score_all(&mut self, chunk: &Chunk) {
        if let Some(bits) = self.exact.bits {
            self.list.clear();
            for first in chunk.rows.clone().step_by(16) {
                let present = u16::MAX >> 16u32.saturating_sub(chunk.rows.end - first);
                let mut left = bits.sixteen(first) & present;
                while left != 0 {
                    self.list.push(first + left.trailing_zeros());
                    left &= left - 1;
                }
            }
            return self.score_list();
        }
        let Exact { rows, cells, .. } = self.exact;
        let mut scratch = [0.0; BLOCK_ROWS];
        for first in chunk.rows.clone().step_by(BLOCK_ROWS) {
            let scratch = &mut scratch[..BLOCK_ROWS.min((chunk.rows.end - first) as usize)];
            rows.offer_rows(cells.map.metric, self.query, first, scratch, &mut self.found.top);
        }
        self.found.scored += chunk.allowed;
    }
}

#[cfg(test)]
mod tests;
