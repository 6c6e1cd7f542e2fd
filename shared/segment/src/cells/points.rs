//! Rows as clusters see them: unit vectors for cosine, else relative to the mean of all rows.
//!
//! Neither changes which rows are nearest: an inner product with every row less the mean differs by one constant from that
//! with the rows. But it keeps what all rows share out of codes of few bits and out of sums in f32.

use arrow::buffer::ScalarBuffer;
use rayon::prelude::*;
use tarn_model::Metric;

use crate::dense::{DenseQuery, DenseRows};

/// Rows that are summed together; fixed, so that a mean does not depend on the number of threads.
const MEAN_ROWS: usize = 4096;

/// Rows behind a change of coordinates.
#[derive(Clone, Debug)]
pub(crate) struct Points {
    rows: DenseRows,
    /// Rows become unit vectors, and so do the means of a clustering.
    pub(crate) unit: bool,
    /// Taken off every row; zeros for unit vectors.
    pub(crate) centre: Vec<f32>,
}

impl Points {
    /// The rows of a segment.
    pub(crate) fn new(rows: &DenseRows, metric: Metric) -> Self {
        let unit = metric == Metric::Cosine;
        let centre = if unit { vec![0.0; rows.dimension] } else { mean(rows) };
        Self { rows: rows.clone(), unit, centre }
    }

    /// Vectors that are taken as they are.
    pub(crate) fn plain(dimension: usize, values: Vec<f32>) -> Self {
        let rows = DenseRows { dimension, stride: dimension, values: ScalarBuffer::from(values), inverse_norms: None };
        Self { rows, unit: false, centre: vec![0.0; dimension] }
    }

    pub(crate) fn dimension(&self) -> usize {
        self.rows.dimension
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.rows.values.len() / self.rows.stride
    }

    /// Writes a row in the new coordinates.
    pub(crate) fn load(&self, row: u32, out: &mut [f32]) {
        let values = self.rows.row(row);
        match self.rows.inverse_norms.as_ref().map(|norms| norms[row as usize]) {
            // Too short for f32 to hold the inverse of its norm.
            Some(norm) if norm < 0.0 => out.copy_from_slice(&DenseQuery::new(Metric::Cosine, values).values),
            Some(norm) => {
                for (out, &x) in out.iter_mut().zip(values) {
                    *out = x * norm;
                }
            }
            None => {
                for ((out, &x), &centre) in out.iter_mut().zip(values).zip(&self.centre) {
                    *out = x - centre;
                }
            }
        }
    }
}

fn mean(rows: &DenseRows) -> Vec<f32> {
    let count = rows.values.len() / rows.stride;
    let sums: Vec<Vec<f64>> = rows
        .values
        .par_chunks(MEAN_ROWS * rows.stride)
        .map(|chunk| {
            let mut sums = vec![0.0f64; rows.dimension];
            for row in chunk.chunks_exact(rows.stride) {
                for (sum, &x) in sums.iter_mut().zip(row) {
                    *sum += f64::from(x);
                }
            }
            sums
        })
        .collect();
    let total = |i: usize| sums.iter().map(|sums| sums[i]).sum::<f64>();
    (0..rows.dimension).map(|i| (total(i) / count.max(1) as f64) as f32).collect()
}
