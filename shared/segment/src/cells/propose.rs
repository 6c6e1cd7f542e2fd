//! Looks for rows near a query, or near each of several that share what is read.
//!
//! Of several, each few blocks of centroids are compared with a handful of queries while they are in the first-level cache.
//! Then the pairs of a query and a cell that it probes are put in the order of cells, and a cell's codes are scanned for all
//! of its queries before the next cell's are.
//!
//! Owns `together-as-alone`: a query is proposed the same rows alone and among others. Its cells are the same, and of their
//! rows the best are kept whatever the order of scanning.

use super::candidates::Candidates;
use super::kernels::{self, BLOCK_ROWS};
use super::scratch::{Scratch, with_scratch};
use super::{Allowing, Cells, FIRST_CELLS, MapQuery, Probe};
use crate::dense::DenseQuery;
use crate::rows::Bits;

/// Cells between two calls of `stop`, a few thousand rows.
const STOP_CELLS: usize = 64;
/// Queries that are routed together: their inner products fit the second-level cache beside the centroids.
const ROUTED: usize = 8;
/// Bytes of centroids that these queries are compared with at a time: half a first-level cache.
const ROUTE_BYTES: usize = 16 * 1024;
/// Queries that are searched together, at most; their pairs with cells; their rows to rescore.
const TOGETHER: usize = 256;
const PAIRS: usize = 1 << 16;
const RESCORED: usize = 1 << 16;

/// What a search proposes, for tests.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Proposed {
    /// The best by approximate score, best first, at most as many as were asked for.
    pub(crate) rows: Vec<(f32, u32)>,
    /// Allowed rows in the cells that were scanned, when `stop` ended the search; `None` when it did not.
    pub(crate) stopped_after: Option<u64>,
}

/// Where to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Among<'a> {
    bits: Option<&'a Bits>,
    /// One per cell; `-inf` of those that are not probed.
    biases: &'a [f32],
}

impl Allowing {
    /// Only cells that hold allowed rows are probed and counted.
    pub(crate) fn among(&self) -> Among<'_> {
        Among { bits: Some(&self.bits), biases: &self.biases }
    }
}

/// What several queries are proposed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Together<'a> {
    rows: &'a [u32],
    ends: &'a [usize],
    stopped: &'a [Option<u64>],
}

impl<'a> Together<'a> {
    /// The rows that a query is proposed, best first.
    pub(crate) fn rows(&self, query: usize) -> &'a [u32] {
        let start = query.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.rows[start..self.ends[query]]
    }

    /// Allowed rows in the cells that were scanned, when `stop` ended the search; `None` when it did not.
    pub(crate) fn stopped_after(&self, query: usize) -> Option<u64> {
        self.stopped[query]
    }
}

/// A cell that a query probes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pair {
    cell: u32,
    query: u32,
    /// The inner product of the query with the centroid.
    dot: f32,
}

impl Cells {
    /// All cells, or what is allowed of them.
    pub(crate) fn among<'a>(&'a self, allowed: Option<&'a Bits>) -> Among<'a> {
        Among { bits: allowed, biases: &self.map.directory.biases }
    }

    /// How many queries are best searched together.
    pub(crate) fn together(&self, probe: Probe) -> usize {
        let nprobe = (probe.nprobe as usize).clamp(1, self.count().max(1));
        let rescored = (probe.rescored as usize).clamp(1, self.rows().max(1));
        TOGETHER.min(PAIRS / nprobe).min(RESCORED / rescored).max(1)
    }

    /// Rows near the query, with their scores.
    #[cfg(test)]
    pub(crate) fn candidates(
        &self,
        query: &DenseQuery,
        probe: Probe,
        among: Among<'_>,
        stop: &dyn Fn() -> bool,
    ) -> Proposed {
        with_scratch(|scratch| {
            let stopped_after = self.one(scratch, query, probe, among, stop);
            Proposed { rows: scratch.best[0].sorted().collect(), stopped_after }
        })
    }

    /// Gives `then` the rows near the query, best first, at most as many as were asked for; and, when `stop` ended the search,
    /// the number of allowed rows in the cells that were scanned.
    pub(crate) fn propose<T>(
        &self,
        query: &DenseQuery,
        probe: Probe,
        among: Among<'_>,
        stop: &dyn Fn() -> bool,
        then: impl FnOnce(&[u32], Option<u64>) -> T,
    ) -> T {
        with_scratch(|scratch| {
            let stopped_after = self.one(scratch, query, probe, among, stop);
            let Scratch { best, rows, .. } = scratch;
            rows.clear();
            rows.extend(best[0].sorted().map(|(_, row)| row));
            then(rows, stopped_after)
        })
    }

    /// As [`Self::propose`], for several queries; best for no more than [`Self::together`] says.
    pub(crate) fn propose_many<T>(
        &self,
        queries: &[&DenseQuery],
        probe: Probe,
        among: Among<'_>,
        stop: &dyn Fn() -> bool,
        then: impl FnOnce(Together<'_>) -> T,
    ) -> T {
        with_scratch(|scratch| {
            self.many(scratch, queries, probe, among, stop);
            let Scratch { best, rows, ends, stopped, .. } = scratch;
            rows.clear();
            ends.clear();
            for best in &mut best[..queries.len()] {
                rows.extend(best.sorted().map(|(_, row)| row));
                ends.push(rows.len());
            }
            then(Together { rows, ends, stopped })
        })
    }

    /// Leaves what is found in the first of `best`.
    fn one(
        &self,
        scratch: &mut Scratch,
        query: &DenseQuery,
        probe: Probe,
        among: Among<'_>,
        stop: &dyn Fn() -> bool,
    ) -> Option<u64> {
        scratch.make_room(1, 1);
        let Scratch { queries, best, cells, dots, .. } = scratch;
        let (query_of_map, best, chosen) = (&mut queries[0], &mut best[0], &mut cells[0]);
        let directory = &self.map.directory;
        self.map.prepare(query, query_of_map);
        let query = &*query_of_map;
        // Each is written before it is read.
        dots.resize(among.biases.len(), 0.0);
        chosen.reset(probe.nprobe as usize, self.count());
        self.map.route_by(query, among.biases, dots, chosen);
        best.reset(probe.rescored as usize, self.rows());
        let cell = |(_, cell): (f32, u32)| {
            let bytes = directory.bytes_of(cell as usize, &self.codes);
            (directory.cell(cell as usize, bytes, dots[cell as usize]), bytes)
        };
        let chosen = chosen.best_first(FIRST_CELLS);
        let mut cells = chosen.clone().map(cell);
        let mut ahead = cells.next();
        let mut scanned = 0;
        while let Some((rows, _)) = ahead {
            if scanned % STOP_CELLS == 0 && stop() {
                let allowed = directory.allowed_rows(among.bits);
                return Some(chosen.take(scanned).map(|(_, cell)| u64::from(allowed[cell as usize])).sum());
            }
            scanned += 1;
            ahead = cells.next();
            let next = ahead.as_ref().map_or(&[][..], |(_, bytes)| bytes);
            kernels::scan_before(&query.code, &rows, next, among.bits, best);
        }
        None
    }

    /// Leaves what each query finds in `best`.
    fn many(
        &self,
        scratch: &mut Scratch,
        queries: &[&DenseQuery],
        probe: Probe,
        among: Among<'_>,
        stop: &dyn Fn() -> bool,
    ) {
        scratch.make_room(queries.len(), ROUTED);
        let Scratch { queries: prepared, best, cells, dots, first, others, sorted, starts, stopped, .. } = scratch;
        let (prepared, best) = (&mut prepared[..queries.len()], &mut best[..queries.len()]);
        for ((query, prepared), best) in queries.iter().zip(prepared.iter_mut()).zip(best.iter_mut()) {
            self.map.prepare(query, prepared);
            best.reset(probe.rescored as usize, self.rows());
        }
        let padded = among.biases.len();
        dots.resize(ROUTED * padded, 0.0);
        first.clear();
        others.clear();
        stopped.clear();
        stopped.resize(queries.len(), None);
        for (group, some) in prepared.chunks(ROUTED).enumerate() {
            if stop() {
                stopped.fill(Some(0));
                return;
            }
            self.route_some(some, probe, among, dots, cells);
            for (at, chosen) in cells.iter_mut().enumerate().take(some.len()) {
                let query = (group * ROUTED + at) as u32;
                let dots = &dots[at * padded..][..padded];
                let mut pairs =
                    chosen.best_first(FIRST_CELLS).map(|(_, cell)| Pair { cell, query, dot: dots[cell as usize] });
                first.extend(pairs.by_ref().take(FIRST_CELLS));
                others.extend(pairs);
            }
        }
        by_cell(first, self.count(), starts, sorted);
        let scanned = self.scan_pairs(sorted, prepared, among, stop, best);
        if scanned < sorted.len() {
            self.note_stop(&sorted[..scanned], sorted[scanned..].iter().chain(&*others), among, stopped);
            return;
        }
        by_cell(others, self.count(), starts, sorted);
        let scanned = self.scan_pairs(sorted, prepared, among, stop, best);
        if scanned < sorted.len() {
            self.note_stop(first.iter().chain(&sorted[..scanned]), &sorted[scanned..], among, stopped);
        }
    }

    /// Notes what was considered of each query that has cells left to scan.
    fn note_stop<'p>(
        &self,
        scanned: impl IntoIterator<Item = &'p Pair>,
        left: impl IntoIterator<Item = &'p Pair>,
        among: Among<'_>,
        stopped: &mut [Option<u64>],
    ) {
        let allowed = self.map.directory.allowed_rows(among.bits);
        for pair in left {
            stopped[pair.query as usize] = Some(0);
        }
        for pair in scanned {
            if let Some(rows) = &mut stopped[pair.query as usize] {
                *rows += u64::from(allowed[pair.cell as usize]);
            }
        }
    }

    /// Chooses the cells of a few queries.
    fn route_some(
        &self,
        queries: &[MapQuery],
        probe: Probe,
        among: Among<'_>,
        dots: &mut [f32],
        best: &mut [Candidates],
    ) {
        let padded = among.biases.len();
        let mut weights = [1.0; ROUTED];
        for ((query, weight), best) in queries.iter().zip(&mut weights).zip(best.iter_mut()) {
            *weight = self.map.weight(query);
            best.reset(probe.nprobe as usize, self.count());
        }
        let block = BLOCK_ROWS * self.map.centroids.len() / padded.max(1);
        let step = BLOCK_ROWS * (ROUTE_BYTES / block.max(1)).max(1);
        for from in (0..padded).step_by(step) {
            let cells = from..padded.min(from + step);
            let centroids = self.map.centroids(among.biases, cells.clone());
            let dots = dots.chunks_exact_mut(padded);
            for (((query, weight), dots), best) in queries.iter().zip(weights).zip(dots).zip(best.iter_mut()) {
                kernels::route(&query.code, &centroids, weight, &mut dots[cells.clone()], best);
            }
        }
    }

    /// Scans pairs, which are in the order of cells. How many it has scanned: fewer than all when `stop` said so.
    fn scan_pairs(
        &self,
        pairs: &[Pair],
        queries: &[MapQuery],
        among: Among<'_>,
        stop: &dyn Fn() -> bool,
        best: &mut [Candidates],
    ) -> usize {
        let directory = &self.map.directory;
        let bytes_of = |pairs: &[Pair]| match pairs.first() {
            Some(pair) => directory.bytes_of(pair.cell as usize, &self.codes),
            None => &[],
        };
        let mut cells = pairs.chunk_by(|a, b| a.cell == b.cell).peekable();
        let mut scanned = 0;
        let mut ask_at = 0;
        while let Some(pairs) = cells.next() {
            if scanned >= ask_at {
                ask_at = scanned + STOP_CELLS;
                if stop() {
                    return scanned;
                }
            }
            scanned += pairs.len();
            let bytes = bytes_of(pairs);
            let mut ahead = cells.peek().map_or(&[][..], |next| bytes_of(next));
            for some in pairs.chunks(2) {
                // The first of a cell's queries leave most time for the next cell to come.
                let ahead = std::mem::take(&mut ahead);
                let rows = directory.cell(some[0].cell as usize, bytes, some[0].dot);
                let code = |pair: &Pair| &queries[pair.query as usize].code;
                let together = match some {
                    // The pairs of a cell are of as many queries.
                    [a, b] => best.get_disjoint_mut([a.query as usize, b.query as usize]).ok().map(|best| (a, b, best)),
                    _ => None,
                };
                if let Some((a, b, best)) = together {
                    let bases = [rows.base, directory.base(b.cell as usize, b.dot)];
                    kernels::scan_two_before([code(a), code(b)], bases, &rows, ahead, among.bits, best);
                } else {
                    let best = &mut best[some[0].query as usize];
                    kernels::scan_before(code(&some[0]), &rows, ahead, among.bits, best);
                }
            }
        }
        scanned
    }
}

/// Puts pairs in the order of cells, those of a cell in the order in which they come, into `sorted`.
fn by_cell(pairs: &[Pair], cells: usize, starts: &mut Vec<u32>, sorted: &mut Vec<Pair>) {
    starts.clear();
    starts.resize(cells + 1, 0);
    for pair in pairs {
        starts[pair.cell as usize + 1] += 1;
    }
    let mut before = 0;
    for start in starts.iter_mut() {
        before += *start;
        *start = before;
    }
    sorted.clear();
    sorted.resize(pairs.len(), Pair::default());
    for pair in pairs {
        let at = &mut starts[pair.cell as usize];
        sorted[*at as usize] = *pair;
        *at += 1;
    }
}
