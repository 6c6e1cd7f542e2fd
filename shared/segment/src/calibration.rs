//! The measured recall of a graph by effort, and what to promise from it.
//!
//! Measured on *held-out* rows: a sample is kept out of the graph, the rest is built, the sampled rows are the queries, and
//! only then are they added. So no query was known to the graph, and the promise holds for unseen queries that resemble
//! the data. Each step records the mean and a lower bound of it, two standard errors below; a recall that was asked for
//! must be reached by the bound. Queries unlike the data (another model, another language) may get less.

use serde::{Deserialize, Serialize};

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

impl Calibration {
    /// The least effort that promises this recall at this `k`; `None` when only an exact search does.
    pub fn effort(&self, recall: f32, k: usize) -> Option<u32> {
        let reaches = |point: &&CalibrationPoint| {
            let measured = if k <= 10 { point.at_10 } else { point.at_100 };
            measured.floor >= recall
        };
        let ef = self.points.iter().find(reaches)?.ef;
        // Beyond what was measured, effort grows with k.
        let scaled = if k > 100 { (u64::from(ef) * k as u64).div_ceil(100) } else { u64::from(ef) };
        u32::try_from(scaled).ok()
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
        assert_eq!(Calibration::default().effort(0.0, 10), None);
    }

    #[test]
    fn a_recall_is_no_more_certain_than_its_sample() {
        let few = Recall::of(&[0.9, 1.0]);
        let many = Recall::of(&[0.9, 1.0].repeat(100));
        assert!(few.floor < many.floor && many.floor < many.mean);
        assert_eq!(Recall::of(&[1.0; 50]), Recall { mean: 1.0, floor: 1.0 });
    }
}
