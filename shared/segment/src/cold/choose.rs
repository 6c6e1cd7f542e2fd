//! What to read, of cells and of rows. Plans do it, and so does the build that measures how well they find.

use std::cmp::Ordering;
use std::ops::Range;

use super::calibration::CellValues;
use super::runs::{best_runs, covering_runs, joined};
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

/// How many runs there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunCount {
    /// With so many the recall was measured.
    pub(crate) measured: usize,
    /// At most so many are chosen.
    pub(crate) most: usize,
}

/// How much less a byte costs, time after time, until more runs find as much as fewer; and how many times.
const CHEAPER: f64 = 1.25;
const CHEAPER_TIMES: usize = 24;

/// Runs of cells. `worth`: what is hoped for in each. Cells that `held` says are at hand bring nothing new.
pub(crate) fn choose_cells(
    directory: &Directory,
    worth: &[f64],
    held: &dyn Fn(usize) -> bool,
    lambda: f64,
    count: RunCount,
) -> Vec<Range<usize>> {
    let hope = |(cell, worth): (usize, &f64)| if held(cell) { 0.0 } else { *worth };
    let size = |cell: usize| directory.range(cell).end - directory.range(cell).start;
    let hopes = worth.iter().enumerate().map(hope).collect();
    Hopes { hopes, sizes: (0..worth.len()).map(size).collect() }.runs(lambda, count)
}

/// What is hoped for in each cell, and its bytes.
struct Hopes {
    hopes: Vec<f64>,
    sizes: Vec<u64>,
}

impl Hopes {
    /// At most `count.most` runs, in which as much is hoped for as in those that were measured: otherwise that recall would
    /// say nothing of them.
    fn runs(&self, lambda: f64, count: RunCount) -> Vec<Range<usize>> {
        let measured = self.worthwhile(lambda, count.measured);
        match count.most.cmp(&count.measured) {
            Ordering::Equal => measured,
            Ordering::Less => joined(&measured, count.most, |end, start| self.sizes[end..start].iter().sum()),
            Ordering::Greater => self.as_hopeful(measured, lambda, count.most),
        }
    }

    fn worthwhile(&self, lambda: f64, most: usize) -> Vec<Range<usize>> {
        let gain = |(hope, size): (&f64, &u64)| hope - lambda * *size as f64;
        best_runs(&self.hopes.iter().zip(&self.sizes).map(gain).collect::<Vec<f64>>(), most)
    }

    /// More runs are worth more, yet may find less: they leave out what fewer must read between one and the next.
    fn as_hopeful(&self, measured: Vec<Range<usize>>, mut lambda: f64, most: usize) -> Vec<Range<usize>> {
        let wanted = self.hope(&measured);
        let mut runs = self.worthwhile(lambda, most);
        for _ in 0..CHEAPER_TIMES {
            if self.hope(&runs) >= wanted {
                return runs;
            }
            lambda /= CHEAPER;
            runs = self.worthwhile(lambda, most);
            if self.bytes(&runs) >= self.bytes(&measured) {
                break;
            }
        }
        measured
    }

    fn hope(&self, runs: &[Range<usize>]) -> f64 {
        runs.iter().flat_map(|run| &self.hopes[run.clone()]).sum()
    }

    fn bytes(&self, runs: &[Range<usize>]) -> u64 {
        runs.iter().flat_map(|run| &self.sizes[run.clone()]).sum()
    }
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
    /// What a row costs, in bytes: as recall was measured.
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
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fewer_runs_than_were_measured_read_all_that_those_do() {
        let hopes = Hopes { hopes: vec![5.0, 0.0, 4.0, 0.0, 0.0, 0.0, 3.0, 0.0, 9.0], sizes: vec![1; 9] };
        let runs = |most| hopes.runs(1.0, RunCount { measured: 4, most });
        assert_eq!(runs(4), [0..1, 2..3, 6..7, 8..9]);
        assert_eq!(runs(2), [0..3, 6..9]);
        assert_eq!(runs(1), std::iter::once(0..9).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn more_runs_than_were_measured_find_no_less(
            cells in prop::collection::vec((0u32..20, 1u64..10), 0..60),
            lambda in 0u32..4,
            (measured, more) in (1usize..4, 1usize..9),
        ) {
            let (hopes, sizes) = cells.into_iter().map(|(hope, size)| (f64::from(hope), size)).unzip();
            let hopes = Hopes { hopes, sizes };
            let lambda = f64::from(lambda);
            let few = hopes.worthwhile(lambda, measured);
            let runs = hopes.runs(lambda, RunCount { measured, most: measured + more });
            prop_assert!(runs.len() <= measured + more);
            prop_assert!(hopes.hope(&runs) >= hopes.hope(&few));
            let worth = |runs: &[Range<usize>]| hopes.hope(runs) - lambda * hopes.bytes(runs) as f64;
            prop_assert!(worth(&runs) >= worth(&few));
        }
    }

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
