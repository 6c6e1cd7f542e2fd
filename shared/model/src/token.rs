//! Read tokens and watermarks: how far along its timeline something is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ValidationError;

/// For each lane of a timeline, the last sequence that is included; 0 when none is. Sequences start at 1.
///
/// The same type serves as the read token of an upload (`Tarn-Version`), the watermark of a checkpoint or a manifest, and
/// the head of a timeline. As text: the lanes' sequences joined by dots, `17` for the usual single lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReadToken {
    /// Indexed by lane. A missing lane is at 0.
    pub lanes: Vec<u64>,
}

impl ReadToken {
    /// The token of a timeline with one lane.
    pub fn single(sequence: u64) -> Self {
        Self { lanes: vec![sequence] }
    }

    /// The sequence of a lane.
    pub fn sequence(&self, lane: u16) -> u64 {
        self.lanes.get(usize::from(lane)).copied().unwrap_or(0)
    }

    /// Whether every lane of `other` is at or before this one.
    pub fn includes(&self, other: &Self) -> bool {
        other.lanes.iter().enumerate().all(|(lane, &sequence)| self.lanes.get(lane).copied().unwrap_or(0) >= sequence)
    }

    /// Lane by lane, the later of the two.
    #[must_use]
    pub fn max(&self, other: &Self) -> Self {
        let lanes = self.lanes.len().max(other.lanes.len());
        let lane = |token: &Self, i: usize| token.lanes.get(i).copied().unwrap_or(0);
        Self { lanes: (0..lanes).map(|i| lane(self, i).max(lane(other, i))).collect() }
    }
}

impl fmt::Display for ReadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lanes.is_empty() {
            return f.write_str("0");
        }
        for (lane, sequence) in self.lanes.iter().enumerate() {
            if lane > 0 {
                f.write_str(".")?;
            }
            write!(f, "{sequence}")?;
        }
        Ok(())
    }
}

impl FromStr for ReadToken {
    type Err = ValidationError;

    fn from_str(text: &str) -> Result<Self, ValidationError> {
        let lanes = text.split('.').map(str::parse::<u64>).collect::<Result<Vec<_>, _>>();
        match lanes {
            Ok(lanes) if lanes.len() <= usize::from(crate::limits::LANES) => Ok(Self { lanes }),
            _ => Err(ValidationError::one(format!(
                "'{}' is not a read token; send back the Tarn-Version header of an upload, for example 17",
                text.chars().take(64).collect::<String>()
            ))),
        }
    }
}
