//! The measured recall of a graph or of cells by effort, and what to promise from it.
//!
//! Measured on *held-out* rows: a sample is kept out of the graph, or of the training of centroids; the rest is built, the
//! sampled rows are the queries, and only then are they added. So no query was known to the index, and the promise holds for
//! unseen queries that resemble the data. Each step records the mean and a lower bound of it, two standard errors below; a
//! recall that was asked for must be reached by the bound. Queries unlike the data (another model, another language) may get
//! less.

use serde::{Deserialize, Serialize};

use crate::cells::Probe;
use crate::cold::ColdCalibration;

/// Neighbours that a recall is measured over: of `at_10`, and of `at_100`.
pub(crate) const SHORT: usize = 10;
pub(crate) const LONG: usize = 100;
/// A floor that no further step of a ladder needs to raise.
pub(crate) const ENOUGH: f32 = 0.999;

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
    /// The same when rows are allowed at random, by descending share; fewer than all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<CellsShare>,
    /// Of readers that fetch a few ranges only; by ascending `k`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cold: Vec<ColdCalibration>,
}

/// Ladders when a share of the rows is allowed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellsShare {
    /// The share of the rows of those cells that hold any.
    pub allowed: f32,
    /// For `k` up to 10.
    pub at_10: Vec<CellsPoint>,
    /// For `k` up to 100.
    pub at_100: Vec<CellsPoint>,
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

impl CellsPoint {
    /// The effort.
    pub(crate) fn probe(&self) -> Probe {
        Probe { nprobe: self.nprobe, rescored: self.rescored }
    }
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

/// How cells to probe grow as fewer rows are allowed than were measured: `(measured / allowed) ^ 0.5`. Measured shares grow
/// with powers of 0.15 to 0.4.
const UNMEASURED_GROWTH: f64 = 0.5;

/// Powers are not exact: so much above a whole number of cells is that number.
const ROUNDING: f64 = 1e-3;

impl CellsCalibration {
    /// The least `(nprobe, rescored)` that promises this recall at this `k`; `None` when only an exact search does.
    pub fn effort(&self, recall: f32, k: usize) -> Option<(u32, u32)> {
        self.effort_among(recall, k, 1.0)
    }

    /// As [`Self::effort`], when this share of the rows of the cells that count is allowed.
    ///
    /// The `k` nearest of a tenth of the rows lie about where the `10 k` nearest of all do. So large `k` are few allowed
    /// rows, and between shares, and between the two measured `k`, efforts follow powers.
    pub fn effort_among(&self, recall: f32, k: usize, share: f64) -> Option<(u32, u32)> {
        let beyond = (k as f64 / 100.0).max(1.0);
        let share = (share / beyond).clamp(f64::MIN_POSITIVE, 1.0);
        let all = std::iter::once((1.0, &self.at_10, &self.at_100));
        let some = self.shares.iter().map(|share| (f64::from(share.allowed), &share.at_10, &share.at_100));
        let mut measured =
            all.chain(some).map_while(|(share, near, far)| Some((share, between(near, far, recall, k)?)));
        let (mut above, (mut nprobe, mut rescored)) = measured.next()?;
        while share < above {
            let (next, growth) = match measured.next() {
                Some((next, (more, rows))) => {
                    rescored = rescored.max(rows);
                    (next, (more / nprobe).max(1.0).ln() / (above / next).ln())
                }
                None => (0.0, UNMEASURED_GROWTH),
            };
            let here = share.max(next);
            nprobe *= (above / here).powf(growth);
            above = here;
        }
        let rescored = (rescored * beyond).ceil();
        (rescored <= f64::from(u32::MAX)).then_some(((nprobe - ROUNDING).ceil() as u32, rescored as u32))
    }
}

/// The effort at `k`, from those at ten and at a hundred.
fn between(near: &[CellsPoint], far: &[CellsPoint], recall: f32, k: usize) -> Option<(f64, f64)> {
    let of = |ladder: &[CellsPoint]| {
        let point = ladder.iter().find(|point| point.recall.floor >= recall)?;
        Some((f64::from(point.nprobe), f64::from(point.rescored)))
    };
    match k {
        ..=10 => of(near),
        100.. => of(far),
        _ => {
            let ((near, few), (far, many)) = of(near).zip(of(far))?;
            let part = (k as f64 / 10.0).log10();
            Some((near * (far.max(near) / near).powf(part), few + (many - few) * (k as f64 - 10.0) / 90.0))
        }
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
            shares: Vec::new(),
            cold: Vec::new(),
        };
        assert_eq!(calibration.effort(0.9, 10), Some((64, 24)));
        assert_eq!(calibration.effort(0.95, 3), Some((128, 24)));
        assert_eq!(calibration.effort(0.96, 10), None);
        assert_eq!(calibration.effort(0.9, 100), Some((96, 140)));
        // Between and beyond what was measured.
        assert_eq!(calibration.effort(0.9, 11), Some((66, 26)));
        assert_eq!(calibration.effort(0.9, 400), Some((192, 560)));
        assert_eq!(calibration.effort(0.9, usize::MAX), None);
        assert_eq!(CellsCalibration::default().effort(0.0, 10), None);
    }

    #[test]
    fn efforts_follow_the_share_of_allowed_rows() {
        let ladder =
            |nprobe, rescored| vec![CellsPoint { nprobe, rescored, recall: Recall { mean: 0.97, floor: 0.95 } }];
        let share = |allowed, near, far| CellsShare { allowed, at_10: ladder(near, 24), at_100: ladder(far, 130) };
        let calibration = CellsCalibration {
            queries: 200,
            at_10: ladder(100, 20),
            at_100: ladder(150, 120),
            shares: vec![share(0.125, 200, 300), share(0.015_625, 400, 900)],
            ..CellsCalibration::default()
        };
        let effort = |k, share| calibration.effort_among(0.95, k, share);
        assert_eq!(effort(10, 1.0), Some((100, 20)));
        assert_eq!(effort(10, 0.353_553), Some((142, 24)));
        assert_eq!(effort(10, 0.125), Some((200, 24)));
        assert_eq!(effort(10, 0.015_625), Some((400, 24)));
        assert_eq!(effort(10, 0.000_156_25), Some((4000, 24)));
        // As many neighbours of all rows as a hundred of an eighth.
        assert_eq!(effort(800, 1.0), Some((300, 1040)));
        assert_eq!(calibration.effort_among(0.96, 10, 0.1), None);
    }

    #[test]
    fn a_recall_is_no_more_certain_than_its_sample() {
        let few = Recall::of(&[0.9, 1.0]);
        let many = Recall::of(&[0.9, 1.0].repeat(100));
        assert!(few.floor < many.floor && many.floor < many.mean);
        assert_eq!(Recall::of(&[1.0; 50]), Recall { mean: 1.0, floor: 1.0 });
    }
}
