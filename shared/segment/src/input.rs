//! The rows of a segment before they are indexed.
//!
//! Owns the checks that every other module relies on: lengths agree, offsets ascend, coordinates are finite.

use arrow::array::{Array, BinaryArray, RecordBatch};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use tarn_model::Metric;

use crate::error::SegmentError;

/// Rows to put into a segment. Everything is reference-counted; a clone copies nothing.
#[derive(Clone, Debug)]
pub struct SegmentInput {
    /// The distance that searches use; decides between dense and sparse.
    pub metric: Metric,
    /// Dense: coordinates of each row. Sparse: indices are below it.
    pub dimension: u32,
    /// The point key of each row, unique, without nulls. Rows of one split must be adjacent; inside, any order is correct,
    /// key order is best.
    pub keys: BinaryArray,
    /// The attribute columns alone, without nulls. As many rows as keys.
    pub attributes: RecordBatch,
    /// The vectors.
    pub vectors: Vectors,
}

/// The vectors of all rows.
#[derive(Clone, Debug)]
pub enum Vectors {
    /// Row-major: row `r` is `values[r * dimension .. (r + 1) * dimension]`.
    Dense(ScalarBuffer<f32>),
    /// Row `r` has the coordinates `offsets[r] .. offsets[r + 1]` of `indices` and `values`.
    Sparse {
        /// One more than rows.
        offsets: OffsetBuffer<i32>,
        /// Ascending and unique inside a row, below the dimension.
        indices: ScalarBuffer<u32>,
        /// As long as `indices`; finite.
        values: ScalarBuffer<f64>,
    },
}

impl SegmentInput {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.keys.len()
    }

    /// Checks what the rest of the crate relies on.
    ///
    /// # Errors
    /// [`SegmentError::Input`] names the first thing that does not fit.
    pub fn validate(&self) -> Result<(), SegmentError> {
        todo!()
    }
}
