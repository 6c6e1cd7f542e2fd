//! Dense rows and their scores.
//!
//! Cosine works on a unit query and stored inverse norms. Norms are computed in f64: coordinates may be as small or as large
//! as f32 allows. Rows so short that f32 products would lose them ([`TINY_NORM`]) are marked and scored in f64.

use arrow::buffer::ScalarBuffer;
use tarn_model::Metric;

use crate::kernels;
use crate::topk::TopK;

/// Rows of a smaller norm are scored in f64: their inverse norm, or products with it, may not fit f32.
const TINY_NORM: f64 = 1e-18;
/// The inverse norm that marks such a row.
const TINY: f32 = -1.0;
/// How many rows ahead the processor is told, when it cannot guess.
pub(crate) const PREFETCH_ROWS: usize = 16;

/// f32 vectors, row by row, with room between them for what else a file has of a row.
#[derive(Clone, Debug)]
pub(crate) struct DenseRows {
    /// At least 1.
    pub(crate) dimension: usize,
    /// Coordinates from one row to the next; at least the dimension.
    pub(crate) stride: usize,
    /// `rows * stride`.
    pub(crate) values: ScalarBuffer<f32>,
    /// For cosine, one per row: 1/|row|; 0 for a zero vector; negative for a tiny one.
    pub(crate) inverse_norms: Option<ScalarBuffer<f32>>,
}

/// A dense query vector.
#[derive(Clone, Debug)]
pub(crate) struct DenseQuery {
    /// Of length 1 for cosine, or all zeros; else as given.
    pub(crate) values: Vec<f32>,
}

impl DenseQuery {
    pub(crate) fn new(metric: Metric, values: &[f32]) -> Self {
        if metric != Metric::Cosine {
            return Self { values: values.to_vec() };
        }
        let norm = norm(values);
        let unit = |&x: &f32| if norm > 0.0 { (f64::from(x) / norm) as f32 } else { 0.0 };
        Self { values: values.iter().map(unit).collect() }
    }
}

impl DenseRows {
    pub(crate) fn new(metric: Metric, dimension: usize, values: ScalarBuffer<f32>) -> Self {
        let inverse_norms = (metric == Metric::Cosine)
            .then(|| values.chunks_exact(dimension).map(inverse_norm).collect::<Vec<f32>>().into());
        Self { dimension, stride: dimension, values, inverse_norms }
    }

    /// All rows without what lies between them: no copy when that is nothing.
    pub(crate) fn packed(&self) -> ScalarBuffer<f32> {
        if self.stride == self.dimension {
            return self.values.clone();
        }
        let mut packed = Vec::with_capacity(self.values.len() / self.stride * self.dimension);
        for row in self.values.chunks_exact(self.stride) {
            packed.extend_from_slice(&row[..self.dimension]);
        }
        packed.into()
    }

    #[inline]
    pub(crate) fn row(&self, row: u32) -> &[f32] {
        let at = row as usize * self.stride;
        &self.values[at..at + self.dimension]
    }

    /// Scores rows in any order, and offers them.
    pub(crate) fn offer_each(&self, metric: Metric, query: &DenseQuery, rows: &[u32], top: &mut TopK<'_>) {
        let mut scratch = [0.0f32];
        for &row in rows.iter().take(PREFETCH_ROWS) {
            self.prefetch(row);
        }
        for (i, &row) in rows.iter().enumerate() {
            if let Some(&ahead) = rows.get(i + PREFETCH_ROWS) {
                self.prefetch(ahead);
            }
            self.offer_rows(metric, query, row, &mut scratch, top);
        }
    }

    /// Asks the processor to bring what scoring a row needs closer.
    #[inline]
    pub(crate) fn prefetch(&self, row: u32) {
        kernels::prefetch(self.row(row));
        if let Some(norms) = &self.inverse_norms {
            kernels::prefetch(&norms[row as usize..][..1]);
        }
    }

    /// Scores adjacent rows from `first` on, one per element of `scratch`, and offers them.
    #[inline]
    pub(crate) fn offer_rows(
        &self,
        metric: Metric,
        query: &DenseQuery,
        first: u32,
        scratch: &mut [f32],
        top: &mut TopK<'_>,
    ) {
        self.score_rows(metric, query, first, scratch);
        for (row, &score) in (first..).zip(scratch.iter()) {
            if f64::from(score) <= top.threshold() {
                top.offer(f64::from(score), row);
            }
        }
    }

    /// Scores adjacent rows from `first` on, one per element of `scratch`: lower is nearer.
    pub(crate) fn score_rows(&self, metric: Metric, query: &DenseQuery, first: u32, scratch: &mut [f32]) {
        let at = first as usize * self.stride;
        let length = scratch.len().checked_sub(1).map_or(0, |before| before * self.stride + self.dimension);
        let rows = &self.values[at..at + length];
        if metric == Metric::L2 {
            kernels::l2_rows(&query.values, rows, self.stride, scratch);
        } else {
            kernels::dot_rows(&query.values, rows, self.stride, scratch);
        }
        match &self.inverse_norms {
            Some(norms) => {
                let norms = &norms[first as usize..first as usize + scratch.len()];
                for ((score, &norm), row) in scratch.iter_mut().zip(norms).zip(first..) {
                    *score = if norm < 0.0 {
                        cosine_f64(&query.values, self.row(row))
                    } else {
                        (1.0 - *score * norm).clamp(0.0, 2.0)
                    };
                }
            }
            None if metric.higher_is_nearer() => {
                for score in scratch.iter_mut() {
                    // Subtracting from zero gives 0.0 for both zeros.
                    *score = 0.0 - *score;
                }
            }
            None => {}
        }
    }
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

/// What a cosine segment stores of a row: the same bits wherever it is computed.
pub(crate) fn inverse_norm(row: &[f32]) -> f32 {
    let norm = norm(row);
    if norm == 0.0 {
        0.0
    } else if norm < TINY_NORM {
        TINY
    } else {
        (1.0 / norm) as f32
    }
}

#[cold]
fn cosine_f64(unit: &[f32], row: &[f32]) -> f32 {
    let norm = norm(row);
    // Nothing that is written has such a mark on a row of zeros.
    if norm == 0.0 {
        return 1.0;
    }
    let dot: f64 = unit.iter().zip(row).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    (1.0 - dot / norm).clamp(0.0, 2.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_zeros_that_is_marked_as_tiny_has_a_distance() {
        let norms = Some(vec![TINY, 0.0].into());
        let rows = DenseRows { dimension: 2, stride: 2, values: vec![0.0; 4].into(), inverse_norms: norms };
        let mut scores = [f32::NAN; 2];
        rows.score_rows(Metric::Cosine, &DenseQuery::new(Metric::Cosine, &[1.0, 2.0]), 0, &mut scores);
        assert_eq!(scores, [1.0; 2]);
    }
}
