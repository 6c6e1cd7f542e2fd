//! Exact search that reads an eighth of the bytes: codes say which rows may be among the nearest, and only these are scored.
//!
//! # The bound
//! With q a prepared query, x a prepared row, ĉ its centroid, r̂ its code and ρ = x − share · ĉ − r̂ what the code loses,
//! ⟨q, x⟩ = share · ⟨q, ĉ⟩ + ⟨q, r̂⟩ + ⟨q, ρ⟩. Kernels know ⟨q̂, r̂⟩, with q̂ the query in bytes. By the inequality of Cauchy
//! and Schwarz what they do not know is
//!
//! ⟨q − q̂, r̂⟩ + ⟨q, ρ⟩ ≤ ‖q − q̂‖ · ‖r̂‖ + ‖q‖ · ‖ρ‖,
//!
//! and for L2, whose rows' biases hold ⟨ĉ, ρ⟩, the last term is ‖q − ĉ‖ · ‖ρ‖. The directory has of each cell the least
//! `loss` with ‖ρ‖ ≤ loss · (factor + 1/256) for all rows, and the largest `spread` = ‖u − 7.5‖, so that
//! ‖r̂‖ ≤ factor · step · spread. Nearly all of the bound goes with a row's own factor: it is added where sums begin
//! ([`CodeQuery::lift`]), at no cost. The rest is the same for a cell, and so is ⟨q, ĉ⟩, which a second query in bytes, of
//! q − q̂, makes precise to 16 bits.
//!
//! Exact distances are f32, too. A row that the scan gives the distance F has a true distance of F within the rounding of
//! its kernel; likewise coordinates less the centre, or times an inverse norm, and the sums and products above. All of it is
//! below `rounding` times the product of the lengths (of L2: the square of their sum), of which a cell has an upper bound,
//! and what underflows is below `TINY`. Norms and products of the bound itself are f64.
//!
//! # The search
//! The nearest cells give `k` exact distances, and so a limit that few rows' bounds reach. Then all cells are scanned in the
//! order of memory, some thousand rows at a time, and rows whose bound reaches the limit are scored; the limit sinks as
//! nearer rows are found. Where too many rows reach it, the chunk is scored as a whole, and so are, without asking, ever more
//! chunks after it: queries for which codes tell nothing cost little more than the scan.
//!
//! Owns `bounds-hide-no-row`: the answer is that of `flat::scan`, to the bit and in order. Rows that are left out are
//! farther than the `k`-th, not as far: ties are scored, and decided by keys.

use std::ops::Range;

use rayon::prelude::*;
use tarn_model::Metric;

use super::candidates::Candidates;
use super::kernels::{self, CellRows, CodeQuery};
use super::layout::{Directory, FACTOR_FLOOR};
use super::{Cells, FIRST_CELLS, Map, MapQuery};
use crate::dense::{DenseQuery, DenseRows};
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
/// The largest lift: sums stay far from the ends of i32.
const MAX_LIFT: f64 = 4_194_304.0;
/// Twice what one operation of f32 may lose, relative to its result.
const EPSILON: f64 = f32::EPSILON as f64;
/// More operations than a score goes through, besides those that grow with the dimension.
const OPERATIONS: f64 = 64.0;
/// Larger than what is lost when numbers leave f32, of any dimension, relative to lengths.
const TINY: f64 = 1e-36;

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
    /// `stop` is asked before each chunk.
    pub(crate) fn search(&self, query: &DenseQuery, stop: &(dyn Fn() -> bool + Sync)) -> Found<'a> {
        let map = &self.cells.map;
        let chunks = self.chunks();
        let allowed: u64 = chunks.iter().map(|chunk| chunk.allowed).sum();
        let prepared = map.query(query);
        let mut dots = map.dots();
        let few = (map.count() as u64).min(NEAREST_CELLS as u64 * self.total() / allowed.max(1));
        let nearest = map.route(&prepared, few as usize, &mut dots);
        let limit = if stop() { f64::INFINITY } else { self.first_limit(query, &prepared.code, nearest, &dots) };
        let bound = Bound::new(map, &prepared, &dots);
        let run = |chunks: &[Chunk]| {
            let mut part = Part::new(self, query, &bound, limit);
            for chunk in chunks {
                if stop() {
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
            let bounds: Vec<u32> = chunks.iter().map(|chunk| chunk.rows.start).chain([self.total() as u32]).collect();
            for (chunk, allowed) in chunks.iter_mut().zip(bits.counts(&bounds)) {
                chunk.allowed = u64::from(allowed);
            }
        }
        chunks
    }

    fn total(&self) -> u64 {
        self.cells.map.directory.first_rows.last().map_or(0, |&rows| u64::from(rows))
    }

    /// The `k`-th best distance of the rows that codes propose in these cells; infinite when there are fewer.
    fn first_limit(&self, query: &DenseQuery, code: &CodeQuery, nearest: Candidates, dots: &[f32]) -> f64 {
        let map = &self.cells.map;
        let mut best = Candidates::new(self.k.saturating_mul(2).saturating_add(16), self.total() as usize);
        for (_, cell) in nearest.into_best_first(FIRST_CELLS) {
            let cell = cell as usize;
            let rows = map.directory.cell(cell, self.cells.bytes_of(cell), dots[cell]);
            kernels::scan(code, &rows, self.bits, &mut best);
        }
        let rows: Vec<u32> = best.into_sorted().into_iter().map(|(_, row)| row).collect();
        let mut top = TopK::new(self.k, self.keys);
        self.rows.offer_each(map.metric, query, &rows, &mut top);
        top.shrink();
        top.threshold()
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

/// A query, and what bounds the scores of all rows.
struct Bound<'a> {
    map: &'a Map,
    query: &'a MapQuery,
    /// Inner products with the centroids, and what bytes lost of them.
    dots: &'a [f32],
    lost_dots: Vec<f32>,
    /// ‖q‖, ‖q − q̂‖, and what a second query in bytes loses of the latter.
    norm: f64,
    lost: f64,
    lost_twice: f64,
    /// The centre's length, and its inner product with the query as given. Inner product only, else 0.
    centre: f64,
    along_centre: f64,
    /// What all operations of a score may lose, relative to the lengths.
    rounding: f64,
    /// The length of a vector of ones.
    ones: f64,
}

impl<'a> Bound<'a> {
    fn new(map: &'a Map, query: &'a MapQuery, dots: &'a [f32]) -> Self {
        let lost = query.code.lost(&query.values);
        let values: Vec<f32> = lost.iter().map(|&x| x as f32).collect();
        let code = CodeQuery::new(&values);
        let lost_twice = norm(&code.lost(&values));
        let mut lost_dots = map.dots();
        map.route(&MapQuery { values, code }, 0, &mut lost_dots);
        let (mut centre, mut along_centre) = (0.0, 0.0);
        if map.metric == Metric::InnerProduct {
            let wide: Vec<f64> = map.directory.centre.iter().map(|&x| f64::from(x)).collect();
            centre = norm(&wide);
            along_centre = wide.iter().zip(&query.values).map(|(centre, &x)| centre * f64::from(x)).sum();
        }
        let wide: Vec<f64> = query.values.iter().map(|&x| f64::from(x)).collect();
        // An exact kernel adds up 64 lanes, one after the other 64 coordinates.
        let rounding = EPSILON * (OPERATIONS + wide.len().div_ceil(64) as f64);
        Self {
            map,
            query,
            dots,
            lost_dots,
            norm: norm(&wide),
            lost: norm(&lost),
            lost_twice,
            centre,
            along_centre,
            rounding,
            ones: (wide.len() as f64).sqrt(),
        }
    }

    /// A row at this distance or nearer has a bound that reaches this.
    fn least_score(&self, limit: f64) -> f32 {
        let least = match self.map.metric {
            Metric::L2 => 0.5 * (self.norm * self.norm - limit),
            Metric::InnerProduct => -limit - self.along_centre,
            // Farther rows are said to be at a distance of 2, too.
            _ if limit >= 2.0 => f64::NEG_INFINITY,
            _ => 1.0 - limit,
        };
        // The greatest f32 that is not above, and one less: kernels may ask what is above or what is as high.
        -up(-least).next_up()
    }

    /// A cell whose rows score, with `code`, as high as they can be.
    fn cell<'b>(&self, cell: usize, bytes: &'b [u8], code: &mut CodeQuery) -> CellRows<'b> {
        let directory = &self.map.directory;
        let entry = &directory.entries[cell];
        let [share, step, loss, spread] = [entry.share, entry.step, entry.loss, entry.spread].map(f64::from);
        let dot = f64::from(self.dots[cell]) + f64::from(self.lost_dots[cell]);
        // No centroid, and no row of the cell, is longer.
        let centroid = 63.5 * f64::from(entry.centroid_step).abs() * self.ones;
        let reach = share.abs() * centroid + step * spread + loss * (1.0 + FACTOR_FLOOR);
        let size = match self.map.metric {
            Metric::L2 => (self.norm + reach) * (self.norm + reach),
            _ => self.norm * (reach + self.centre),
        };
        let slack = self.rounding * size + TINY * (1.0 + self.norm) * (1.0 + reach);
        let toward = match self.map.metric {
            // The bias of an L2 cell is −‖c‖²/2.
            Metric::L2 => {
                let square = self.norm * self.norm - 2.0 * (dot + f64::from(entry.bias));
                (square + 2.0 * centroid * self.lost_twice + slack).max(0.0).sqrt()
            }
            _ => self.norm,
        };
        let by_factor = loss * toward + step * spread * self.lost;
        let lift = (by_factor / (step * self.query.code.lift_step())).ceil();
        // Factors are at most 1. The comparison is false for what is no number.
        let (lift, rest) = if (0.0..=MAX_LIFT).contains(&lift) { (lift as i32, 0.0) } else { (0, by_factor) };
        code.lift(&self.query.code, lift);
        let base = share * dot + share.abs() * centroid * self.lost_twice + FACTOR_FLOOR * loss * toward + rest + slack;
        CellRows { base: up(base), ..directory.cell(cell, bytes, 0.0) }
    }
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The least f32 that is not below.
pub(super) fn up(x: f64) -> f32 {
    let rounded = x as f32;
    if f64::from(rounded) < x { rounded.next_up() } else { rounded }
}

#[cfg(test)]
mod tests;
