//! Sparse rows, their scores, and the exact search over posting lists.
//!
//! Owns `sparse-scores-are-canonical`: a distance is computed in f64 from the stored coordinates, in ascending index order,
//! wherever the row was found. Bounds only decide which rows are scored.
//!
//! A coordinate that is zero counts as absent. Vectors whose largest coordinate is below [`TINY`] are scaled by a power of
//! two first, which changes no bit of a quotient but keeps squares from vanishing.

mod inverted;
mod search;

use arrow::buffer::ScalarBuffer;
use tarn_model::{Metric, SparseVector};

pub(crate) use inverted::Inverted;
pub(crate) use search::{Source, search};

/// Squares and products of anything smaller may vanish.
const TINY: f64 = 1e-100;

/// Row-wise sparse vectors.
#[derive(Clone, Debug)]
pub(crate) struct SparseRows {
    /// One more than rows; not negative, ascending, within the other two. May start above 0.
    pub(crate) offsets: ScalarBuffer<i32>,
    /// Ascending and unique inside a row.
    pub(crate) indices: ScalarBuffer<u32>,
    pub(crate) values: ScalarBuffer<f64>,
}

/// A sparse query vector.
#[derive(Clone, Debug)]
pub(crate) struct SparseQuery {
    /// Ascending; no value is zero; scaled if tiny.
    pub(crate) terms: Vec<(u32, f64)>,
    /// Euclidean, of the values in `terms`.
    pub(crate) norm: f64,
}

impl SparseQuery {
    pub(crate) fn new(vector: &SparseVector) -> Self {
        let scale = scale(&vector.values);
        let terms: Vec<(u32, f64)> = vector
            .indices
            .iter()
            .zip(&vector.values)
            .filter(|(_, value)| **value != 0.0)
            .map(|(&index, &value)| (index, value * scale))
            .collect();
        let norm = terms.iter().map(|(_, value)| value * value).sum::<f64>().sqrt();
        Self { terms, norm }
    }
}

impl SparseRows {
    pub(crate) fn rows(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    #[inline]
    pub(crate) fn row(&self, row: usize) -> (&[u32], &[f64]) {
        let range = self.offsets[row] as usize..self.offsets[row + 1] as usize;
        (&self.indices[range.clone()], &self.values[range])
    }

    /// What a score divides by. Cosine: the Euclidean norm, negated when the row must be scaled. Jaccard: the number of
    /// coordinates that are not zero.
    pub(crate) fn lengths(&self, metric: Metric) -> ScalarBuffer<f64> {
        (0..self.rows()).map(|row| length(metric, self.row(row).1)).collect::<Vec<f64>>().into()
    }

    /// The distance of a row. `length` is the row's, from [`Self::lengths`].
    pub(crate) fn distance(&self, metric: Metric, query: &SparseQuery, row: usize, length: f64) -> f64 {
        if length == 0.0 || query.terms.is_empty() {
            return 1.0;
        }
        let (indices, values) = self.row(row);
        if metric == Metric::SparseJaccard {
            let mut common = 0u32;
            join(&query.terms, indices, values, |_, value| common += u32::from(value != 0.0));
            let common = f64::from(common);
            return 1.0 - common / (query.terms.len() as f64 + length - common);
        }
        let scale = if length < 0.0 { scale(values) } else { 1.0 };
        let mut dot = 0.0f64;
        join(&query.terms, indices, values, |weight, value| dot += weight * (value * scale));
        (1.0 - dot / (query.norm * length.abs())).clamp(0.0, 2.0)
    }
}

fn length(metric: Metric, values: &[f64]) -> f64 {
    if metric == Metric::SparseJaccard {
        return values.iter().filter(|value| **value != 0.0).count() as f64;
    }
    let scale = scale(values);
    let norm = values.iter().map(|value| (value * scale) * (value * scale)).sum::<f64>().sqrt();
    if scale == 1.0 { norm } else { -norm }
}

/// 1, or the power of two that lifts a tiny vector's largest coordinate to about 1.
fn scale(values: &[f64]) -> f64 {
    let largest = values.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    if largest == 0.0 || largest >= TINY {
        return 1.0;
    }
    // At least -1074, so that the power stays below 2^1023 and each factor of it is finite.
    let exponent = largest.log2().floor().max(-1000.0) as i32;
    2.0f64.powi(-exponent)
}

/// Calls `both` with the weight and the value of each index that the query and the row share, ascending.
#[inline]
fn join(terms: &[(u32, f64)], indices: &[u32], values: &[f64], mut both: impl FnMut(f64, f64)) {
    const LOPSIDED: usize = 16;
    if terms.len() * LOPSIDED < indices.len() {
        let mut from = 0;
        for &(index, weight) in terms {
            from += indices[from..].partition_point(|&other| other < index);
            if indices.get(from) == Some(&index) {
                both(weight, values[from]);
            }
        }
        return;
    }
    if indices.len() * LOPSIDED < terms.len() {
        let mut from = 0;
        for (&index, &value) in indices.iter().zip(values) {
            from += terms[from..].partition_point(|&(other, _)| other < index);
            if let Some(&(other, weight)) = terms.get(from)
                && other == index
            {
                both(weight, value);
            }
        }
        return;
    }
    let mut coordinates = indices.iter().zip(values).peekable();
    for &(index, weight) in terms {
        while coordinates.next_if(|(other, _)| **other < index).is_some() {}
        match coordinates.peek() {
            Some((other, value)) if **other == index => both(weight, **value),
            Some(_) => {}
            None => return,
        }
    }
}

#[cfg(test)]
mod tests;
