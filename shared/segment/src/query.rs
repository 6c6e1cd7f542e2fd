//! A query vector, prepared once for all segments.

use tarn_model::{Metric, SparseVector, Vector};

use crate::error::SegmentError;

/// A query vector with what every segment needs of it. Share one among all segments of an index.
#[derive(Clone, Debug)]
pub struct Query {
    pub(crate) metric: Metric,
    pub(crate) body: Body,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Dense(Vec<f32>),
    Sparse(SparseVector),
}

impl Query {
    /// From either kind of vector.
    ///
    /// # Errors
    /// The vector's kind is not the metric's, or a coordinate is not finite.
    pub fn new(metric: Metric, vector: &Vector) -> Result<Self, SegmentError> {
        match vector {
            Vector::Dense(values) => Self::dense(metric, values),
            Vector::Sparse(sparse) => Self::sparse(metric, sparse),
        }
    }

    /// From `dimension` coordinates.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub fn dense(metric: Metric, values: &[f32]) -> Result<Self, SegmentError> {
        Ok(Self { metric, body: Body::Dense(values.to_vec()) })
    }

    /// From sorted coordinates.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub fn sparse(metric: Metric, vector: &SparseVector) -> Result<Self, SegmentError> {
        Ok(Self { metric, body: Body::Sparse(vector.clone()) })
    }

    /// The metric it was prepared for.
    pub fn metric(&self) -> Metric {
        self.metric
    }
}
