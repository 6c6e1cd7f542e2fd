//! The measured recall of a graph or of cells by effort, and what to promise from it.
//!
//! Measured on *held-out* rows: a sample is kept out of the graph, or of the training of centroids; the rest is built, the
//! sampled rows are the queries, and only then are they added. So no query was known to the index, and the promise holds for unseen queries that resemble
//! the data. Each step records the mean and a lower bound of it, two standard errors below; a recall that was asked for
//! must be reached by the bound. Queries unlike the data (another model, another language) may get less.

use serde::{Deserialize, Serialize};

use crate::cold::ColdCalibration;

/// Recall measured while a graph was built.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Calibration {
    /// How many held-out queries measured it.
    pub queries: u32,
    /// By ascending effort.
    pub points: Vec<CalibrationPoint>,
}

/// One step of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CalibrationPoint {
    /// Candidates kept.
    pub ef: u32,
    /// For `k` up to 10.
    pub at_10: Recall,
    /// For `k` up to 100.
    pub at_100: Recall,
}

/// Recall measured while cells were built: a ladder of efforts for small `k`, one for large. On each, cost and recall rise
/// from step to step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellsCalibration {
    /// How many held-out queries measured it.
    pub queries: u32,
    /// For `k` up to 10.
    pub at_10: Vec<CellsPoint>,
    /// For `k` up to 100.
    pub at_100: Vec<CellsPoint>,
    /// Of readers that fetch a few ranges only; by ascending `k`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cold: Vec<ColdCalibration>,
}

/// One step of a ladder.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellsPoint {
    /// Cells probed.
    pub nprobe: u32,
    /// Rows rescored with full precision.
    pub rescored: u32,
    /// What that found.
    pub recall: Recall,
}

/// The share of true neighbours found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recall {
    /// Mean over the queries, 0 to 1.
    pub mean: f32,
    /// Two standard errors below the mean.
    pub floor: f32,
}

impl Recall {
    /// From one recall per query.
    pub(crate) fn of(samples: &[f32]) -> Self {
        let n = samples.len() as f64;
        if samples.len() < 2 {
            return Self::default();
        }
        let mean = samples.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = samples.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / (n - 1.0);
        Self { mean: mean as f32, floor: (mean - 2.0 * (variance / n).sqrt()) as f32 }
    }
}

/// The share of the `k` nearest that was found. Any row as near as the `k`-th counts: duplicates are interchangeable. Both
/// ascend.
pub(crate) fn recall(found: &[f64], truth: &[f64], k: usize) -> f32 {
    let k = k.min(truth.len());
    let Some(&farthest) = truth.get(k.wrapping_sub(1)) else { return 1.0 };
    let hits = found.iter().take(k).filter(|&&score| score <= farthest).count();
    hits as f32 / k as f32
}

impl Calibration {
    /// The least effort that promises this recall at this `k`; `None` when only an exact search does.
    pub fn effort(&self, recall: f32, k: usize) -> Option<u32> {
        let reaches = |point: &&CalibrationPoint| {
            let measured = if k <= 10 { point.at_10 } else { point.at_100 };
            measured.floor >= recall
        };
        let ef = self.points.iter().find(reaches)?.ef;
        // Beyond what was measured, effort grows with k.
        let scaled = if k > 100 { u64::from(ef).saturating_mul(k as u64).div_ceil(100) } else { u64::from(ef) };
        u32::try_from(scaled).ok()
    }
}

impl CellsCalibration {
    /// The least `(nprobe, rescored)` that promises this recall at this `k`; `None` when only an exact search does.
    pub fn effort(&self, recall: f32, k: usize) -> Option<(u32, u32)> {
        let ladder = if k <= 10 { &self.at_10 } else { &self.at_100 };
        let point = ladder.iter().find(|point| point.recall.floor >= recall)?;
        // Beyond what was measured, effort grows with k.
        let scaled = |effort: u32| {
            let scaled =
                if k > 100 { u64::from(effort).saturating_mul(k as u64).div_ceil(100) } else { u64::from(effort) };
            u32::try_from(scaled).ok()
        };
        scaled(point.nprobe).zip(scaled(point.rescored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(ef: u32, at_10: f32, at_100: f32) -> CalibrationPoint {
        let recall = |floor| Recall { mean: floor + 0.01, floor };
        CalibrationPoint { ef, at_10: recall(at_10), at_100: recall(at_100) }
    }

    #[test]
    fn effort_is_the_first_step_whose_floor_reaches_the_recall() {
        let calibration = Calibration {
            queries: 200,
            points: vec![point(16, 0.80, 0.1), point(64, 0.949, 0.5), point(128, 0.97, 0.96), point(256, 0.99, 0.98)],
        };
        assert_eq!(calibration.effort(0.95, 10), Some(128));
        assert_eq!(calibration.effort(0.75, 1), Some(16));
        assert_eq!(calibration.effort(0.98, 100), Some(256));
        assert_eq!(calibration.effort(0.95, 1000), Some(1280));
        assert_eq!(calibration.effort(0.995, 10), None);
        // More than any effort: exact.
        assert_eq!(calibration.effort(0.95, usize::MAX), None);
        assert_eq!(Calibration::default().effort(0.0, 10), None);
    }

    #[test]
    fn an_effort_of_cells_is_the_first_step_of_the_ladder_of_its_k() {
        let point =
            |nprobe, rescored, floor| CellsPoint { nprobe, rescored, recall: Recall { mean: floor + 0.01, floor } };
        let calibration = CellsCalibration {
            queries: 200,
            at_10: vec![point(8, 16, 0.7), point(64, 24, 0.91), point(128, 24, 0.95)],
            at_100: vec![point(96, 140, 0.9)],
            cold: Vec::new(),
        };
        assert_eq!(calibration.effort(0.9, 10), Some((64, 24)));
        assert_eq!(calibration.effort(0.95, 3), Some((128, 24)));
        assert_eq!(calibration.effort(0.96, 10), None);
        assert_eq!(calibration.effort(0.9, 11), Some((96, 140)));
        assert_eq!(calibration.effort(0.9, 250), Some((240, 350)));
        assert_eq!(calibration.effort(0.9, usize::MAX), None);
        assert_eq!(CellsCalibration::default().effort(0.0, 10), None);
    }

    #[test]
    fn a_recall_is_no_more_certain_than_its_sample() {
        let few = Recall::of(&[0.9, 1.0]);
        let many = Recall::of(&[0.9, 1.0].repeat(100));
        assert!(few.floor < many.floor && many.floor < many.mean);
        assert_eq!(Recall::of(&[1.0; 50]), Recall { mean: 1.0, floor: 1.0 });
    }
}
