//! What cells and candidates are worth, and how much recall a byte may cost: measured at build, looked up by plans.
//!
//! The worth of something is the part of the neighbours that is expected in it; a plan reads what is worth more than `lambda`
//! for each byte. A smaller `lambda` reads more and finds more. All of it depends on how many neighbours are wanted and on
//! how many of the rows are allowed: with fewer, neighbours are farther away, in more cells.
//!
//! A step promises one standard error less than the mean that was measured, not two: what a plan reads too much every query
//! pays for. So one promise in six is missed, by about as much as a measured recall is uncertain: 0.01 when all rows are
//! allowed, more under filters, for which fewer queries are asked.

use serde::{Deserialize, Serialize};

use crate::calibration::Recall;

/// Ranges of cells and of rows that cold recall is measured with.
pub(crate) const CELL_RANGES: usize = 9;
pub(crate) const ROW_RANGES: usize = 9;
/// What a slot has beside the vector, roughly: recall is measured before the records are known.
const RECORD_BYTES: u64 = 60;
/// How much one bin of ranks is wider than the one before.
const WIDER: f64 = 1.25;
/// No plan is made for fewer rows than this part of the smallest share that was measured.
const UNMEASURED: f64 = 0.5;

/// Recall of plans that read cells and rows by ranges, for one number of neighbours.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColdCalibration {
    /// Neighbours wanted, and fewer.
    pub k: u32,
    /// The chance that a row is one of them, by its place among the candidates, best first. No more are considered.
    pub candidates: Vec<f32>,
    /// By descending share.
    pub shares: Vec<ColdShare>,
}

/// What was measured when a part of the rows was allowed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColdShare {
    /// The part of the rows that was allowed, chosen at random.
    pub allowed: f32,
    /// The part of the neighbours that a cell of average size holds, by bins of its rank.
    pub values: Vec<f32>,
    /// By descending `lambda`.
    pub steps: Vec<ColdStep>,
}

/// One step of a ladder.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColdStep {
    /// Part of the neighbours that a byte must bring.
    pub lambda: f64,
    /// What that found.
    pub recall: Recall,
}

/// What reading a row costs, in bytes. Plans weigh rows by it, too: by the size of the file's slots they would choose others
/// than were measured.
pub(crate) fn measured_row_bytes(dimension: usize) -> u64 {
    4 * dimension as u64 + RECORD_BYTES
}

impl ColdCalibration {
    /// What cells are worth when this share of the rows is allowed.
    pub(crate) fn values(&self, share: f64) -> CellValues<'_> {
        let (near, far, weight) = self.between(share);
        CellValues { near: &near.values, far: &far.values, weight }
    }

    /// The largest `lambda` that promises this recall when this share of the rows is allowed; `None` when none does.
    pub(crate) fn lambda(&self, recall: f32, share: f64) -> Option<f64> {
        let least = self.shares.last().map_or(f64::INFINITY, |share| f64::from(share.allowed));
        if share < UNMEASURED * least {
            return None;
        }
        let (near, far, weight) = self.between(share);
        let (near, far) = (near.lambda(recall)?, far.lambda(recall)?);
        Some((near.ln() * (1.0 - weight) + far.ln() * weight).exp())
    }

    /// Whether it is made of numbers that plans can compute with, parts of a whole; what is wrong otherwise.
    pub(crate) fn check(&self) -> Result<(), String> {
        let values = self.candidates.iter().chain(self.shares.iter().flat_map(|share| &share.values));
        if let Some(x) = values.copied().find(|x| !(0.0..=1.0).contains(x)) {
            return Err(format!("a value of {x}"));
        }
        if let Some(share) = self.shares.iter().find(|share| !(share.allowed > 0.0 && share.allowed <= 1.0)) {
            return Err(format!("a share of {}", share.allowed));
        }
        let steps = self.shares.iter().flat_map(|share| &share.steps);
        match steps.map(|step| step.lambda).find(|x| !(*x > 0.0 && *x <= 1.0)) {
            Some(x) => Err(format!("a byte that costs {x}")),
            None => Ok(()),
        }
    }

    /// The least `lambda` that was measured.
    pub(crate) fn least_lambda(&self, share: f64) -> f64 {
        let (_, far, _) = self.between(share);
        far.steps.last().map_or(0.0, |step| step.lambda)
    }

    /// The measured shares around this one, and how far it is from the first to the second, by logarithms.
    fn between(&self, share: f64) -> (&ColdShare, &ColdShare, f64) {
        static NOTHING: ColdShare = ColdShare { allowed: 1.0, values: Vec::new(), steps: Vec::new() };
        let at = self.shares.partition_point(|measured| f64::from(measured.allowed) > share);
        let far = self.shares.get(at).or(self.shares.last()).unwrap_or(&NOTHING);
        let near = at.checked_sub(1).and_then(|at| self.shares.get(at)).unwrap_or(far);
        let (from, to) = (f64::from(near.allowed).ln(), f64::from(far.allowed).ln());
        let weight =
            if to < from { ((from - share.max(f64::MIN_POSITIVE).ln()) / (from - to)).clamp(0.0, 1.0) } else { 0.0 };
        (near, far, weight)
    }
}

impl ColdShare {
    /// Between two steps the misses are taken to follow `lambda` as a power of it.
    fn lambda(&self, recall: f32) -> Option<f64> {
        let at = self.steps.iter().position(|step| step.promise() >= recall)?;
        let reaches = self.steps[at];
        let Some(misses) = at.checked_sub(1).map(|at| self.steps[at]) else { return Some(reaches.lambda) };
        let miss = |recall: f32| f64::from((1.0 - recall).max(1e-4)).ln();
        let (from, to) = (miss(misses.promise()), miss(reaches.promise()));
        let part = if from > to { ((from - miss(recall)) / (from - to)).clamp(0.0, 1.0) } else { 1.0 };
        Some((misses.lambda.ln() * (1.0 - part) + reaches.lambda.ln() * part).exp())
    }
}

impl ColdStep {
    /// The recall to count on: one standard error below the mean.
    pub(crate) fn promise(&self) -> f32 {
        0.5 * (self.recall.mean + self.recall.floor)
    }
}

/// What a cell is worth by its rank.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CellValues<'a> {
    near: &'a [f32],
    far: &'a [f32],
    weight: f64,
}

impl CellValues<'_> {
    /// What each of the cells is worth. `ranked`: cells, best first; `allowed`: allowed rows by cell. Ranks count allowed rows,
    /// in units of an average cell's: cells without any take no rank.
    pub(crate) fn of_cells(self, ranked: &[(f32, u32)], allowed: &[u32], add: &mut [f64]) {
        let total: u64 = allowed.iter().map(|&rows| u64::from(rows)).sum();
        let mean = total as f64 / allowed.len().max(1) as f64;
        if total == 0 {
            return;
        }
        let bins = Bins::new(allowed.len());
        let mut rank = 0.0;
        let mut bin = 0;
        for &(_, cell) in ranked {
            let size = f64::from(allowed[cell as usize]) / mean;
            if size == 0.0 {
                continue;
            }
            let middle = rank + 0.5 * size;
            rank += size;
            while bin + 1 < bins.middles.len() && bins.middles[bin + 1] <= middle {
                bin += 1;
            }
            add[cell as usize] += self.at(&bins, bin, middle) * size;
        }
    }

    /// `bin`: the last whose middle is not beyond the rank.
    fn at(self, bins: &Bins, bin: usize, rank: f64) -> f64 {
        let value = |bin: usize| {
            let of = |values: &[f32]| values.get(bin).map_or(0.0, |value| f64::from(*value));
            of(self.near) * (1.0 - self.weight) + of(self.far) * self.weight
        };
        let (Some(&from), Some(&to)) = (bins.middles.get(bin), bins.middles.get(bin + 1)) else { return value(bin) };
        let part = ((rank - from) / (to - from)).clamp(0.0, 1.0);
        value(bin) * (1.0 - part) + value(bin + 1) * part
    }
}

/// Bins of ranks, wider and wider.
#[derive(Debug)]
pub(crate) struct Bins {
    /// Where each bin begins, and where the last one ends.
    pub(crate) edges: Vec<usize>,
    middles: Vec<f64>,
}

impl Bins {
    /// Of ranks below `count`.
    pub(crate) fn new(count: usize) -> Self {
        let mut edges = vec![0];
        let mut at = 0;
        while at < count {
            at = (at + 1).max((at as f64 * WIDER) as usize).min(count);
            edges.push(at);
        }
        let middles = edges.windows(2).map(|edge| 0.5 * (edge[0] + edge[1]) as f64).collect();
        Self { edges, middles }
    }

    /// The bin of a rank.
    pub(crate) fn find(&self, rank: usize) -> usize {
        self.edges.partition_point(|&edge| edge <= rank).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(allowed: f32, steps: &[(f64, f32)]) -> ColdShare {
        let step = |&(lambda, recall): &(f64, f32)| {
            let recall = Recall { mean: recall + 0.01, floor: recall - 0.01 };
            ColdStep { lambda, recall }
        };
        ColdShare { allowed, values: vec![0.4, 0.2, 0.1], steps: steps.iter().map(step).collect() }
    }

    #[test]
    fn lambda_is_the_largest_that_reaches_the_recall() {
        let shares = vec![share(1.0, &[(8e-7, 0.8), (4e-7, 0.9), (1e-7, 0.975)]), share(0.01, &[(1e-8, 0.9)])];
        let calibration = ColdCalibration { k: 10, candidates: Vec::new(), shares };
        let near = |lambda: Option<f64>, want: f64| lambda.is_some_and(|lambda| (lambda / want - 1.0).abs() < 1e-3);
        assert!(near(calibration.lambda(0.899_999, 1.0), 4e-7));
        assert!(near(calibration.lambda(0.7, 1.0), 8e-7));
        // Half as many misses on half the way, by logarithms.
        assert!(near(calibration.lambda(0.95, 1.0), 2e-7));
        assert_eq!(calibration.lambda(0.99, 1.0), None);
        assert!(near(calibration.lambda(0.899_999, 0.01), 1e-8));
        assert!(near(calibration.lambda(0.899_999, 0.1), (4e-7f64 * 1e-8).sqrt()));
        assert_eq!((calibration.lambda(0.95, 0.1), calibration.lambda(0.5, 0.004)), (None, None));
        assert_eq!(ColdCalibration::default().lambda(0.0, 1.0), None);
    }

    #[test]
    fn numbers_that_no_plan_can_compute_with_are_refused() {
        let good = ColdCalibration { k: 10, candidates: vec![1.0, 0.5], shares: vec![share(1.0, &[(8e-7, 0.8)])] };
        good.check().unwrap();
        for value in [f32::INFINITY, f32::NAN, -0.1, 1.1] {
            let mut bad = good.clone();
            bad.candidates[1] = value;
            assert!(bad.check().is_err(), "{value}");
            let mut bad = good.clone();
            bad.shares[0].values[0] = value;
            assert!(bad.check().is_err(), "{value}");
        }
        let mut bad = good.clone();
        bad.shares[0].allowed = 0.0;
        assert!(bad.check().is_err());
        for lambda in [-1e-9, 0.0, 1.1, f64::INFINITY, f64::NAN] {
            let mut bad = good.clone();
            bad.shares[0].steps[0].lambda = lambda;
            assert!(bad.check().is_err(), "{lambda}");
        }
    }

    #[test]
    fn a_cell_is_worth_what_its_rank_and_its_rows_are() {
        let calibration = ColdCalibration { k: 10, candidates: Vec::new(), shares: vec![share(1.0, &[])] };
        let values = calibration.values(1.0);
        let mut worth = [0.0; 4];
        let ranked = [(4.0, 3), (3.0, 1), (2.0, 0), (1.0, 2)];
        values.of_cells(&ranked, &[5, 5, 5, 5], &mut worth);
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close(&worth, &[0.1, 0.2, 0.0, 0.4]), "{worth:?}");
        // A cell without allowed rows takes no rank and is worth nothing.
        let mut worth = [0.0; 4];
        values.of_cells(&ranked, &[4, 4, 4, 0], &mut worth);
        assert!(worth[3] == 0.0 && worth[1] > 0.4 && worth[1] > worth[0] && worth[0] > worth[2], "{worth:?}");
    }

    #[test]
    fn bins_cover_all_ranks() {
        for count in [0, 1, 2, 3, 10, 4096] {
            let bins = Bins::new(count);
            assert_eq!((bins.edges.first(), bins.edges.last()), (Some(&0), Some(&count)));
            assert!(bins.edges.is_sorted_by(|a, b| a < b) && bins.edges.len() < 50);
            for rank in 0..count {
                let bin = bins.find(rank);
                assert!(bins.edges[bin] <= rank && rank < bins.edges[bin + 1]);
            }
        }
    }
}
