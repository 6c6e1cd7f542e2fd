//! Measures what readers find that fetch a few ranges of cells and of rows: the same choices, on held-out rows.
//!
//! For some shares of the rows, allowed at random: first what cells are worth by rank, from where the true neighbours lie;
//! then, for a ladder of what a byte may cost, the recall of whole plans. What a candidate is worth is measured once: a filter
//! changes where neighbours are, not how well codes tell them apart.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;
use roaring::RoaringBitmap;
use tarn_model::Metric;

use crate::calibration::{Recall, recall};
use crate::cells::{Cells, MapQuery};
use crate::cold::{
    Bins, CELL_RANGES, ColdCalibration, ColdShare, ColdStep, ROW_RANGES, Ranked, RowChoice, RunCount, add_worth,
    choose_cells, holds, measured_row_bytes, scan_cells,
};
use crate::dense::{DenseQuery, DenseRows};
use crate::flat;
use crate::hit::Hit;
use crate::keys::Keys;
use crate::rows::{Allowed, Bits, Rows};
use crate::topk::TopK;

/// Neighbours.
const K: usize = 10;
/// Shares of the rows; those that leave fewer than `ROWS` are not measured.
const SHARES: [f32; 4] = [1.0, 0.1, 0.01, 0.001];
const ROWS: f64 = 100.0;
/// Places of candidates that are measured, and cells that are scanned for them.
const PLACES: usize = 64;
const CANDIDATE_CELLS: usize = 160;
/// A smaller chance is none.
const CHANCE: f32 = 0.004;
/// The ladder begins at what the cell of this rank is worth, and goes down by this factor; that of a smaller share, for
/// which fewer queries are asked, where the one before reached this recall.
const FIRST_RANK: usize = 40;
const STEP: f64 = 2.0;
const STEPS: usize = 12;
const SHARE_STEP: f64 = 2.5;
const SHARE_QUERIES: usize = 100;
const SHARE_FIRST: f32 = 0.8;
/// A recall that no further step needs to raise.
const ENOUGH: f32 = 0.98;
/// Seeds the choice of allowed rows.
const SEED: u64 = 0x636f_6c64;

/// What is measured.
pub(super) struct Measured<'a> {
    pub(super) cells: &'a Cells,
    pub(super) rows: &'a DenseRows,
    pub(super) metric: Metric,
    pub(super) keys: &'a Keys,
    /// The row of `rows` at each place of the cells.
    pub(super) order: &'a [u32],
    /// The queries, and the rows that they are, in the order of `rows`.
    pub(super) queries: &'a [DenseQuery],
    pub(super) held_out: &'a RoaringBitmap,
    /// The nearest of all other rows, many more than `K`.
    pub(super) truth: &'a [Vec<Hit>],
}

/// A query with what does not depend on the share.
struct Prepared<'a> {
    query: &'a DenseQuery,
    map: MapQuery,
    ranked: Ranked,
}

/// Rows that are allowed, by both numberings.
struct Share {
    bits: Bits,
    by_cell: Vec<u32>,
    /// The nearest of them to each query, at most `K`.
    truth: Vec<Vec<Hit>>,
}

impl Measured<'_> {
    pub(super) fn measure(&self) -> Vec<ColdCalibration> {
        let map = self.cells.map();
        let prepared: Vec<Prepared<'_>> = self
            .queries
            .par_iter()
            .map(|query| {
                let of_map = map.query(query);
                Prepared { query, ranked: Ranked::new(map, &of_map), map: of_map }
            })
            .collect();
        let mut place_of = vec![0u32; self.order.len()];
        for (place, &row) in (0u32..).zip(self.order) {
            place_of[row as usize] = place;
        }
        let mut calibration = ColdCalibration { k: K as u32, ..ColdCalibration::default() };
        let mut first = None;
        for allowed in SHARES {
            if f64::from(allowed) * (self.order.len() as f64) < ROWS && allowed < 1.0 {
                break;
            }
            let share = self.share(allowed, &place_of);
            if calibration.candidates.is_empty() {
                calibration.candidates = self.chances(&prepared, &share);
            }
            let values = self.values(&prepared, &share, &place_of);
            let steps = self.steps(&prepared, &share, &values, &calibration.candidates, first);
            first = steps.iter().find(|step| step.promise() >= SHARE_FIRST).map(|step| step.lambda);
            calibration.shares.push(ColdShare { allowed, values, steps });
        }
        vec![calibration]
    }

    fn share(&self, part: f32, place_of: &[u32]) -> Share {
        let total = self.order.len() as u32;
        let mut rng = SmallRng::seed_from_u64(SEED);
        let chosen: RoaringBitmap = (0..total)
            .filter(|&row| (part >= 1.0 || rng.random_bool(f64::from(part))) && !self.held_out.contains(row))
            .collect();
        let all = 0..total;
        let ranges = std::slice::from_ref(&all);
        let resolve =
            |rows: &RoaringBitmap| Allowed::resolve(&Rows { ranges, matches: Some(rows), ..Rows::default() }, total);
        let mut places: Vec<u32> = chosen.iter().map(|row| place_of[row as usize]).collect();
        places.sort_unstable();
        let places: RoaringBitmap = places.into_iter().collect();
        let first_rows = &self.cells.map().directory.first_rows;
        let by_cell = first_rows.windows(2).map(|rows| places.range_cardinality(rows[0]..rows[1]) as u32).collect();
        // Of the nearest of all, those that are allowed; exact unless too few of them are left.
        let known: Vec<Vec<Hit>> = self
            .truth
            .iter()
            .map(|hits| hits.iter().filter(|hit| chosen.contains(hit.row)).take(K).copied().collect())
            .collect();
        let truth = if known.iter().all(|hits| hits.len() == K) {
            known
        } else {
            let queries: Vec<&DenseQuery> = self.queries.iter().collect();
            let (tops, _) = flat::scan(self.rows, self.metric, &queries, &resolve(&chosen), K, self.keys, &|| false);
            tops.into_iter().map(|top| top.into_hits(false)).collect()
        };
        Share { bits: resolve(&places).bits(total), by_cell, truth }
    }

    /// The chance that a candidate is among the nearest, by place.
    fn chances(&self, prepared: &[Prepared<'_>], share: &Share) -> Vec<f32> {
        let found: Vec<Vec<bool>> = prepared
            .par_iter()
            .zip(&share.truth)
            .map(|(query, truth)| {
                let cells = query.ranked.cells.iter().take(CANDIDATE_CELLS).map(|&(_, cell)| cell);
                let candidates = self.scan(query, cells, share, PLACES);
                let is_near = |row: &u32| truth.iter().any(|hit| hit.row == *row);
                candidates.iter().map(|(_, place)| is_near(&self.order[*place as usize])).collect()
            })
            .collect();
        let mut chances = vec![0.0; PLACES];
        for found in &found {
            for (chance, found) in chances.iter_mut().zip(found) {
                *chance += f64::from(u8::from(*found)) / divisor(prepared.len());
            }
        }
        let mut chances: Vec<f32> = descending(&chances, &[1.0; PLACES]).into_iter().map(short).collect();
        let used = chances.iter().rposition(|chance| *chance >= CHANCE).map_or(0, |last| last + 1);
        chances.truncate(used.max(K + 1));
        chances
    }

    /// What cells are worth, by bins of their ranks.
    fn values(&self, prepared: &[Prepared<'_>], share: &Share, place_of: &[u32]) -> Vec<f32> {
        let first_rows = &self.cells.map().directory.first_rows;
        let count = share.by_cell.len();
        let bins = Bins::new(count);
        let mean = share.by_cell.iter().map(|&rows| u64::from(rows)).sum::<u64>() as f64 / count.max(1) as f64;
        let mut sums = vec![0.0; bins.edges.len() - 1];
        let mut ranks = vec![0.0; count];
        for (query, truth) in prepared.iter().zip(&share.truth) {
            let mut rank = 0.0;
            for &(_, cell) in &query.ranked.cells {
                let size = f64::from(share.by_cell[cell as usize]) / mean;
                ranks[cell as usize] = rank + 0.5 * size;
                rank += size;
            }
            for hit in truth {
                let place = place_of[hit.row as usize];
                let cell = first_rows.partition_point(|&first| first <= place) - 1;
                let bin = bins.find((ranks[cell] as usize).min(count - 1));
                sums[bin] += 1.0 / (truth.len() as f64 * divisor(prepared.len()));
            }
        }
        let widths: Vec<f64> = bins.edges.windows(2).map(|edge| (edge[1] - edge[0]) as f64).collect();
        let values: Vec<f64> = sums.iter().zip(&widths).map(|(sum, width)| sum / width).collect();
        descending(&values, &widths).into_iter().map(short).collect()
    }

    /// `first`: where to begin.
    fn steps(
        &self,
        prepared: &[Prepared<'_>],
        share: &Share,
        values: &[f32],
        chances: &[f32],
        first: Option<f64>,
    ) -> Vec<ColdStep> {
        let asked = if first.is_some() { SHARE_QUERIES } else { prepared.len() };
        let prepared = &prepared[..asked.min(prepared.len())];
        let step = if first.is_some() { SHARE_STEP } else { STEP };
        let directory = &self.cells.map().directory;
        let one = [ColdShare { allowed: 1.0, values: values.to_vec(), steps: Vec::new() }];
        let measured = ColdCalibration { k: K as u32, candidates: Vec::new(), shares: one.to_vec() };
        let worth: Vec<Vec<f64>> = prepared
            .par_iter()
            .map(|query| {
                let mut worth = vec![0.0; share.by_cell.len()];
                add_worth(measured.values(1.0), &query.ranked, &share.by_cell, &mut worth);
                worth
            })
            .collect();
        let count = share.by_cell.len();
        let code_bytes = directory.range(count - 1).end as f64;
        let bins = Bins::new(count);
        let of_rank = f64::from(values[bins.find(FIRST_RANK.min(count - 1))]);
        let mut lambda = first.unwrap_or(of_rank.max(1e-6) / (code_bytes / count as f64));
        let mut steps = Vec::new();
        while steps.len() < STEPS {
            lambda = short_f64(lambda);
            let found: Vec<(f32, f64)> = prepared
                .par_iter()
                .zip(&worth)
                .zip(&share.truth)
                .map(|((query, worth), truth)| self.one(query, worth, truth, share, chances, lambda))
                .collect();
            let recall = Recall::of(&found.iter().map(|(recall, _)| *recall).collect::<Vec<f32>>());
            let read = found.iter().map(|(_, bytes)| bytes).sum::<f64>() / divisor(found.len());
            let reached = ColdStep { lambda, recall };
            steps.push(reached);
            // Whoever must read half of all codes had better have the file.
            if reached.promise() >= ENOUGH || 2.0 * read > code_bytes {
                break;
            }
            lambda /= step;
        }
        steps
    }

    /// The recall of one query, and the bytes of its cells.
    fn one(
        &self,
        query: &Prepared<'_>,
        worth: &[f64],
        truth: &[Hit],
        share: &Share,
        chances: &[f32],
        lambda: f64,
    ) -> (f32, f64) {
        let directory = &self.cells.map().directory;
        let count = RunCount { measured: CELL_RANGES, most: CELL_RANGES };
        let runs = choose_cells(directory, worth, &|_| false, lambda, count);
        let bytes: u64 =
            runs.iter().map(|run| directory.range(run.end - 1).end - directory.range(run.start).start).sum();
        let mut read = vec![false; worth.len()];
        for run in runs {
            read[run].fill(true);
        }
        let cells = query.ranked.cells.iter().map(|&(_, cell)| cell).filter(|&cell| read[cell as usize]);
        let candidates = self.scan(query, cells, share, chances.len());
        let row_bytes = measured_row_bytes(self.rows.dimension);
        let choice = RowChoice { chances, k: K, lambda, row_bytes, most: ROW_RANGES, all: false };
        let runs = choice.rows(&[&candidates]);
        let kept: Vec<u32> = candidates
            .iter()
            .filter(|(_, place)| holds(&runs, *place))
            .map(|(_, place)| self.order[*place as usize])
            .collect();
        let mut top = TopK::new(K, self.keys);
        self.rows.offer_each(self.metric, query.query, &kept, &mut top);
        let scores = |hits: &[Hit]| hits.iter().map(|hit| hit.distance).collect::<Vec<f64>>();
        (recall(&scores(&top.into_hits(false)), &scores(truth), K), bytes as f64)
    }

    fn scan(
        &self,
        query: &Prepared<'_>,
        cells: impl Iterator<Item = u32>,
        share: &Share,
        wanted: usize,
    ) -> Vec<(f32, u32)> {
        let cells = cells.filter(|&cell| share.by_cell[cell as usize] > 0);
        let cells = cells.map(|cell| (cell, self.cells.bytes_of(cell as usize)));
        let directory = &self.cells.map().directory;
        scan_cells(directory, &query.map, &query.ranked.dots, cells, Some(&share.bits), wanted)
    }
}

/// For a mean over so many, which may be none.
fn divisor(count: usize) -> f64 {
    count.max(1) as f64
}

/// The nearest values that never rise, in least squares: neighbours that do are averaged until none does.
fn descending(values: &[f64], weights: &[f64]) -> Vec<f64> {
    let mut pools: Vec<(f64, f64, usize)> = Vec::with_capacity(values.len());
    for (&value, &weight) in values.iter().zip(weights) {
        pools.push((value, weight, 1));
        while let [.., a, b] = pools.as_slice()
            && a.0 < b.0
        {
            let weight = a.1 + b.1;
            let pooled = ((a.0 * a.1 + b.0 * b.1) / weight, weight, a.2 + b.2);
            pools.pop();
            pools.pop();
            pools.push(pooled);
        }
    }
    pools.into_iter().flat_map(|(value, _, count)| std::iter::repeat_n(value, count)).collect()
}

/// Three digits: no more is known, and they are stored as text.
fn short_f64(x: f64) -> f64 {
    format!("{x:.2e}").parse().unwrap_or(x)
}

fn short(x: f64) -> f32 {
    short_f64(x) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descending_values_stay_and_rising_ones_are_averaged() {
        assert_eq!(descending(&[5.0, 3.0, 3.0, 1.0], &[1.0; 4]), [5.0, 3.0, 3.0, 1.0]);
        assert_eq!(descending(&[5.0, 1.0, 4.0, 0.0], &[1.0, 2.0, 1.0, 1.0]), [5.0, 2.0, 2.0, 0.0]);
        assert_eq!(descending(&[1.0, 2.0, 6.0], &[1.0; 3]), [3.0; 3]);
        assert!(descending(&[], &[]).is_empty());
    }

    #[test]
    fn three_digits_are_kept() {
        assert_eq!((short_f64(0.000_123_456), short_f64(0.0), short_f64(1.0)), (0.000_123, 0.0, 1.0));
    }
}
