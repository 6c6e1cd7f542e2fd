//! The measured recall of a graph by effort.

use serde::{Deserialize, Serialize};

/// recall@10 measured when the graph was built.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Calibration {
    /// How many queries measured it.
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
    /// Mean share of the ten true neighbours found, 0 to 1.
    pub recall: f32,
}
