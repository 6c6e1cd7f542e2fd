//! The rows of a segment before they are indexed.
//!
//! Owns the checks that every other module relies on: lengths agree, offsets ascend, coordinates are finite.

use arrow::array::{Array, BinaryArray, RecordBatch};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use tarn_model::{Metric, limits};

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
        let wrong = |message: String| Err(SegmentError::Input(message));
        let rows = self.rows();
        if rows > i32::MAX as usize {
            return wrong(format!("{rows} rows are more than a segment holds"));
        }
        if self.keys.null_count() > 0 {
            return wrong("a key is null".to_owned());
        }
        if self.attributes.num_rows() != rows {
            return wrong(format!("{} rows of attributes for {rows} keys", self.attributes.num_rows()));
        }
        let schema = self.attributes.schema_ref();
        if let Some(i) = self.attributes.columns().iter().position(|column| column.null_count() > 0) {
            return wrong(format!("attribute {} has nulls", schema.field(i).name()));
        }
        match (&self.vectors, self.metric.is_sparse()) {
            (Vectors::Dense(values), false) => check_dense(rows, self.dimension, values).or_else(wrong),
            (Vectors::Sparse { offsets, indices, values }, true) => {
                check_sparse(rows, self.dimension, offsets, indices, values).or_else(wrong)
            }
            _ => wrong(format!("vectors of the other kind than {}", self.metric.algorithm_type())),
        }
    }
}

/// What dense rows must be. Reads every coordinate.
pub(crate) fn check_dense(rows: usize, dimension: u32, values: &[f32]) -> Result<(), String> {
    check_strided(rows, dimension, dimension as usize, values)
}

/// As [`check_dense`], of rows that begin `stride` coordinates apart. What lies between them may be anything.
pub(crate) fn check_strided(rows: usize, dimension: u32, stride: usize, values: &[f32]) -> Result<(), String> {
    if dimension == 0 || dimension > limits::DENSE_DIMENSION {
        return Err(format!("dimension {dimension} is not in 1 to {}", limits::DENSE_DIMENSION));
    }
    if Some(values.len()) != rows.checked_mul(stride) {
        return Err(format!("{} coordinates for {rows} rows of dimension {dimension}", values.len()));
    }
    // A fold without an early end, which the compiler vectorises; NaN is not within.
    let within = |values: &[f32]| values.iter().fold(true, |within, x| within & (x.abs() <= limits::DENSE_COORDINATE));
    let within = if stride == dimension as usize {
        within(values)
    } else {
        values.chunks_exact(stride).fold(true, |all, row| all & within(&row[..dimension as usize]))
    };
    if !within {
        return Err(format!("a coordinate is not finite, or beyond {:e}", limits::DENSE_COORDINATE));
    }
    Ok(())
}

/// What sparse rows must be. Reads every coordinate.
pub(crate) fn check_sparse(
    rows: usize,
    dimension: u32,
    offsets: &[i32],
    indices: &[u32],
    values: &[f64],
) -> Result<(), String> {
    if dimension == 0 || dimension > limits::SPARSE_DIMENSION {
        return Err(format!("dimension {dimension} is not in 1 to {}", limits::SPARSE_DIMENSION));
    }
    if offsets.len() != rows + 1 {
        return Err(format!("{} offsets for {rows} rows", offsets.len()));
    }
    if indices.len() != values.len() {
        return Err(format!("{} values for {} indices", values.len(), indices.len()));
    }
    if offsets[0] < 0 || offsets[rows] as usize > indices.len() || !offsets.is_sorted() {
        return Err(format!("offsets that do not ascend from 0 to {}", indices.len()));
    }
    for (row, bounds) in offsets.windows(2).enumerate() {
        let range = bounds[0] as usize..bounds[1] as usize;
        let indices = &indices[range.clone()];
        if !indices.is_sorted_by(|a, b| a < b) || indices.last().is_some_and(|&last| last >= dimension) {
            return Err(format!("row {row}: indices must ascend and be below {dimension}"));
        }
        if values[range].iter().any(|x| x.is_nan() || x.abs() > limits::SPARSE_COORDINATE) {
            return Err(format!("row {row}: a value is not finite, or beyond {:e}", limits::SPARSE_COORDINATE));
        }
    }
    Ok(())
}
