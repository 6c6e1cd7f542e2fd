//! Scores by name: what a search may rank by instead of its index's own distance.
//!
//! The names and definitions are Veri's. A score that follows from a metric's distance, and orders points as the metric does,
//! is *served* by an index of that metric: the search is the index's, and only what it answers is converted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ValidationError;
use crate::index::Metric;

/// A measure of how alike two vectors are, or how far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Score {
    /// Euclidean distance, with the root.
    VectorDistance,
    /// L1: the sum of the absolute differences.
    QuickVectorDistance,
    /// Inner product.
    VectorMultiplication,
    /// Cosine of the angle; 0 when either vector is zero.
    CosineSimilarity,
    /// 1 − angle / π, in [0, 1]; ½ when either vector is zero.
    AngularDistance,
}

impl Score {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::VectorDistance,
        Self::QuickVectorDistance,
        Self::VectorMultiplication,
        Self::CosineSimilarity,
        Self::AngularDistance,
    ];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::VectorDistance => "VectorDistance",
            Self::QuickVectorDistance => "QuickVectorDistance",
            Self::VectorMultiplication => "VectorMultiplication",
            Self::CosineSimilarity => "CosineSimilarity",
            Self::AngularDistance => "AngularDistance",
        }
    }

    /// Whether more of it means nearer, unless the caller says otherwise. True of `AngularDistance` in spite of its name.
    pub fn higher_is_better(self) -> bool {
        matches!(self, Self::VectorMultiplication | Self::CosineSimilarity | Self::AngularDistance)
    }

    /// Whether an index of this metric orders points as the score does, in its own direction.
    pub fn is_served_by(self, metric: Metric) -> bool {
        matches!(
            (self, metric),
            (Self::VectorDistance, Metric::L2)
                | (Self::VectorMultiplication, Metric::InnerProduct)
                | (Self::CosineSimilarity | Self::AngularDistance, Metric::Cosine | Metric::SparseCosine)
        )
    }

    /// The score of two vectors whose distance by a metric that [serves][Self::is_served_by] it is `distance`. Another
    /// metric's distance comes back as it is.
    pub fn of_distance(self, metric: Metric, distance: f64) -> f64 {
        match self {
            Self::VectorDistance if metric == Metric::L2 => distance.max(0.0).sqrt(),
            Self::CosineSimilarity if self.is_served_by(metric) => 1.0 - distance,
            Self::AngularDistance if self.is_served_by(metric) => Self::angular(1.0 - distance),
            _ => distance,
        }
    }

    /// [`Score::AngularDistance`] from the cosine.
    pub fn angular(cosine: f64) -> f64 {
        1.0 - cosine.clamp(-1.0, 1.0).acos() / std::f64::consts::PI
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Score {
    type Err = ValidationError;

    fn from_str(text: &str) -> Result<Self, ValidationError> {
        Self::ALL.into_iter().find(|score| score.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
            ValidationError::one(format!(
                "score must be one of {}; leave it out for the index's own distance",
                Self::ALL.map(Self::name).join(", ")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_others_are_refused_with_the_list() {
        for score in Score::ALL {
            assert_eq!(score.name().to_lowercase().parse::<Score>().unwrap(), score);
        }
        let refused = "Cosine".parse::<Score>().unwrap_err();
        assert!(refused.messages[0].contains("QuickVectorDistance"), "{refused:?}");
    }

    #[test]
    fn a_served_score_follows_from_the_distance_and_keeps_the_order() {
        assert_eq!(Score::VectorDistance.of_distance(Metric::L2, 9.0), 3.0);
        assert_eq!(Score::VectorMultiplication.of_distance(Metric::InnerProduct, -2.0), -2.0);
        assert_eq!(Score::CosineSimilarity.of_distance(Metric::SparseCosine, 0.25), 0.75);
        for (distance, angular) in [(0.0, 1.0), (1.0, 0.5), (2.0, 0.0)] {
            assert!((Score::AngularDistance.of_distance(Metric::Cosine, distance) - angular).abs() < 1e-12);
        }
        for metric in [Metric::L2, Metric::Cosine] {
            for score in Score::ALL.into_iter().filter(|score| score.is_served_by(metric)) {
                // The metric ascends as things get farther; so the score falls where more of it is better.
                let (near, far) = (score.of_distance(metric, 0.3), score.of_distance(metric, 0.4));
                assert_eq!(near > far, score.higher_is_better(), "{score}");
            }
        }
    }
}
