//! A query vector, prepared once for all segments.

use tarn_model::{Metric, SparseVector, Vector, limits};

use crate::dense::DenseQuery;
use crate::error::SegmentError;
use crate::sparse::SparseQuery;

/// A query vector with what every segment needs of it. Share one among all segments of an index.
#[derive(Clone, Debug)]
pub struct Query {
    metric: Metric,
    dimension: usize,
    pub(crate) body: Body,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Dense(DenseQuery),
    Sparse(SparseQuery),
}

impl Query {
    /// From either kind of vector.
    ///
    /// # Errors
    /// The vector's kind is not the metric's, or a coordinate is not finite or beyond the limits of the model.
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
        if metric.is_sparse() {
            return Err(SegmentError::Input(format!("{} compares sparse vectors", metric.algorithm_type())));
        }
        if let Some(x) = values.iter().find(|x| x.is_nan() || x.abs() > limits::DENSE_COORDINATE) {
            return Err(SegmentError::Input(format!("query coordinate {x} is beyond {:e}", limits::DENSE_COORDINATE)));
        }
        let body = Body::Dense(DenseQuery::new(metric, values));
        Ok(Self { metric, dimension: values.len(), body })
    }

    /// From coordinates whose indices ascend.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub fn sparse(metric: Metric, vector: &SparseVector) -> Result<Self, SegmentError> {
        if !metric.is_sparse() {
            return Err(SegmentError::Input(format!("{} compares dense vectors", metric.algorithm_type())));
        }
        if vector.indices.len() != vector.values.len() || !vector.indices.is_sorted_by(|a, b| a < b) {
            return Err(SegmentError::Input("query indices must ascend, one value each".to_owned()));
        }
        if let Some(x) = vector.values.iter().find(|x| x.is_nan() || x.abs() > limits::SPARSE_COORDINATE) {
            return Err(SegmentError::Input(format!("query coordinate {x} is beyond {:e}", limits::SPARSE_COORDINATE)));
        }
        let dimension = vector.indices.last().map_or(0, |&last| last as usize + 1);
        Ok(Self { metric, dimension, body: Body::Sparse(SparseQuery::new(vector)) })
    }

    /// The metric it was prepared for.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Whether a segment of this metric and dimension can answer it.
    pub(crate) fn check(&self, metric: Metric, dimension: u32) -> Result<(), SegmentError> {
        if self.metric != metric {
            return Err(SegmentError::Input(format!("a query for {:?} in a segment for {metric:?}", self.metric)));
        }
        // A sparse query may name indices that no row can have; they match nothing but count in its length.
        if !metric.is_sparse() && self.dimension != dimension as usize {
            let found = self.dimension;
            return Err(SegmentError::Input(format!("a query of dimension {found} in a segment of {dimension}")));
        }
        Ok(())
    }
}
