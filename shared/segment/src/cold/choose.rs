//! What to read, of cells and of rows. Plans do it, and so does the build that measures how well they find.

use std::ops::Range;

use super::calibration::CellValues;
use super::runs::{best_runs, covering_runs};
use crate::cells::{Candidates, Directory, Map, MapQuery, prefetch, scan};
use crate::rows::Bits;

/// Cells by their nearness to a query, with the query's inner products.
#[derive(Debug)]
pub(crate) struct Ranked {
    /// Best first.
    pub(crate) cells: Vec<(f32, u32)>,
    /// By cell.
    pub(crate) dots: Vec<f32>,
}

impl Ranked {
    pub(crate) fn new(map: &Map, query: &MapQuery) -> Self {
        let mut dots = map.dots();
        let cells = map.route(query, map.count(), &mut dots).into_sorted();
        Self { cells, dots }
    }
}

/// Runs of cells, at most `most`. `worth`: what is hoped for in each. Cells that `held` says are at hand bring nothing new.
pub(crate) fn choose_cells(
    directory: &Directory,
    worth: &[f64],
    held: &dyn Fn(usize) -> bool,
    lambda: f64,
    most: usize,
) -> Vec<Range<usize>> {
    let gain = |(cell, worth): (usize, &f64)| {
        let range = directory.range(cell);
        let hope = if held(cell) { 0.0 } else { *worth };
        hope - lambda * (range.end - range.start) as f64
    };
    best_runs(&worth.iter().enumerate().map(gain).collect::<Vec<f64>>(), most)
}

/// What each cell is worth to one query, added up in `worth`.
pub(crate) fn add_worth(values: CellValues<'_>, ranked: &Ranked, allowed: &[u32], worth: &mut [f64]) {
    values.of_cells(&ranked.cells, allowed, worth);
}

/// The best rows of some cells by their codes, best first.
pub(crate) fn scan_cells<'a>(
    directory: &Directory,
    query: &MapQuery,
    dots: &[f32],
    cells: impl IntoIterator<Item = (u32, &'a [u8])>,
    allowed: Option<&Bits>,
    wanted: usize,
) -> Vec<(f32, u32)> {
    let total = directory.first_rows.last().map_or(0, |&rows| rows as usize);
    let mut best = Candidates::new(wanted, total);
    for (cell, bytes) in cells {
        let rows = directory.cell(cell as usize, bytes, dots[cell as usize]);
        prefetch(&rows);
        scan(&query.code, &rows, allowed, &mut best);
    }
    best.into_sorted()
}

/// How rows are chosen among candidates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowChoice<'a> {
    /// The chance to be among the nearest, by place.
    pub(crate) chances: &'a [f32],
    /// Neighbours wanted: each is worth so much less.
    pub(crate) k: usize,
    pub(crate) lambda: f64,
    /// Bytes of a row.
    pub(crate) row_bytes: u64,
    /// Ranges.
    pub(crate) most: usize,
    /// Every candidate is wanted, as long as there are ranges enough.
    pub(crate) all: bool,
}

impl RowChoice<'_> {
    /// Runs of rows. `candidates`: of each query, best first.
    pub(crate) fn rows(&self, candidates: &[&[(f32, u32)]]) -> Vec<Range<u32>> {
        let mut rows: Vec<u32> = candidates.iter().flat_map(|rows| rows.iter().map(|&(_, row)| row)).collect();
        rows.sort_unstable();
        rows.dedup();
        let stretches = rows.windows(2).filter(|pair| pair[1] > pair[0] + 1).count() + 1;
        if rows.is_empty() || (self.all && stretches <= self.most) || self.lambda <= 0.0 {
            return self.covering(&rows);
        }
        let chosen = self.worthwhile(candidates, &rows, false);
        // An answer of fewer than `k` rows is none: the first `k` of each query are then worth any number of bytes.
        let enough = |rows: &&[(f32, u32)]| {
            let found = rows.iter().filter(|(_, row)| holds(&chosen, *row)).count();
            found >= self.k.min(rows.len())
        };
        if candidates.iter().all(enough) { chosen } else { self.worthwhile(candidates, &rows, true) }
    }

    fn covering(&self, rows: &[u32]) -> Vec<Range<u32>> {
        let runs = covering_runs(rows, self.most, |a, b| u64::from(b - a - 1));
        runs.into_iter().map(|run| rows[run.start]..rows[run.end - 1] + 1).collect()
    }

    fn worthwhile(&self, candidates: &[&[(f32, u32)]], rows: &[u32], force: bool) -> Vec<Range<u32>> {
        let cost = self.lambda * self.row_bytes as f64;
        // More than it costs to read everything between the candidates.
        let span = rows.last().zip(rows.first()).map_or(0.0, |(last, first)| f64::from(last - first) + 1.0);
        let first = if force { 1.0 + cost * span } else { 0.0 };
        let mut hope = vec![0.0; rows.len()];
        for candidates in candidates {
            for (place, (_, row)) in candidates.iter().enumerate() {
                let chance = self.chances.get(place).or(self.chances.last()).map_or(0.0, |chance| f64::from(*chance));
                let forced = if place < self.k { first } else { 0.0 };
                if let Ok(at) = rows.binary_search(row) {
                    hope[at] += chance / self.k as f64 + forced;
                }
            }
        }
        // Rows and what lies between them in turn.
        let mut worth = Vec::with_capacity(2 * rows.len());
        for (at, (&row, hope)) in rows.iter().zip(&hope).enumerate() {
            if at > 0 {
                worth.push(-cost * f64::from(row - rows[at - 1] - 1));
            }
            worth.push(hope - cost);
        }
        let runs = best_runs(&worth, self.most);
        runs.into_iter().map(|run| rows[run.start.div_ceil(2)]..rows[(run.end - 1) / 2] + 1).collect()
    }
}

/// Whether one of the runs, which ascend, has the row.
pub(crate) fn holds(runs: &[Range<u32>], row: u32) -> bool {
    let at = runs.partition_point(|run| run.end <= row);
    runs.get(at).is_some_and(|run| run.contains(&row))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(lambda: f64, most: usize, all: bool) -> RowChoice<'static> {
        RowChoice { chances: &[1.0, 0.9, 0.5, 0.1], k: 2, lambda, row_bytes: 100, most, all }
    }

    #[test]
    fn rows_that_are_worth_their_bytes_are_read() {
        let candidates: &[(f32, u32)] = &[(9.0, 10), (8.0, 12), (7.0, 500), (6.0, 900)];
        assert_eq!(choice(1e-5, 4, false).rows(&[candidates]), [10..11, 12..13, 500..501, 900..901]);
        assert_eq!(choice(1e-5, 3, false).rows(&[candidates]), [10..13, 500..501, 900..901]);
        assert_eq!(choice(1e-5, 1, false).rows(&[candidates]), std::iter::once(10..13).collect::<Vec<_>>());
        // The gap of one row is not worth it, but a range is free.
        assert_eq!(choice(1e-3, 4, false).rows(&[candidates]), [10..11, 12..13, 500..501]);
        assert_eq!(choice(1e-3, 4, true).rows(&[candidates]), [10..11, 12..13, 500..501, 900..901]);
        // Two are wanted, so two there must be.
        assert_eq!(choice(1.0, 4, false).rows(&[candidates]), [10..11, 12..13]);
        assert_eq!(choice(1.0, 1, false).rows(&[candidates]), std::iter::once(10..13).collect::<Vec<_>>());
        assert_eq!(choice(1e-5, 4, false).rows(&[&[], &[]]), []);
        assert_eq!(choice(0.0, 2, false).rows(&[candidates]), [10..13, 500..901]);
    }

    #[test]
    fn several_queries_share_what_they_read() {
        let a: &[(f32, u32)] = &[(9.0, 10), (8.0, 11)];
        let b: &[(f32, u32)] = &[(9.0, 11), (8.0, 40)];
        assert_eq!(choice(1e-5, 2, false).rows(&[a, b]), [10..12, 40..41]);
        assert!(holds(&[10..12, 40..41], 40) && !holds(&[10..12, 40..41], 12) && !holds(&[], 0));
    }
}
