//! The nearest centroid of many points: what clustering spends its time on.
//!
//! Centroids stand in panels of 64, coordinate by coordinate, so that six points meet a whole panel in registers. The
//! nearest is the one with the highest `x · c − |c|² / 2`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod panel;
mod portable;

use rayon::prelude::*;

use super::points::Points;
use crate::kernels::{Isa, isa};

/// Centroids of a panel.
const WIDTH: usize = 64;
/// Points that meet a panel together.
const ROWS: usize = 6;
/// Points of one task.
const TASK_ROWS: usize = 64 * ROWS;

/// Centroids in panels.
struct Panels {
    dimension: usize,
    /// Per panel `dimension · WIDTH`.
    values: Vec<f32>,
    /// Per centroid; `-inf` where there is none.
    biases: Vec<f32>,
}

impl Panels {
    fn new(centroids: &[f32], dimension: usize) -> Self {
        let count = centroids.len() / dimension;
        let padded = count.next_multiple_of(WIDTH);
        let mut values = vec![0.0; padded * dimension];
        let mut biases = vec![f32::NEG_INFINITY; padded];
        for (at, centroid) in centroids.chunks_exact(dimension).enumerate() {
            let panel = at / WIDTH * WIDTH * dimension;
            for (i, &x) in centroid.iter().enumerate() {
                values[panel + i * WIDTH + at % WIDTH] = x;
            }
            let square: f64 = centroid.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            biases[at] = (-0.5 * square) as f32;
        }
        Self { dimension, values, biases }
    }
}

/// The nearest of `centroids` for each of `rows`; the first of equals. Uses all threads of the current pool.
pub(crate) fn nearest(points: &Points, rows: &[u32], centroids: &[f32]) -> Vec<u32> {
    let panels = Panels::new(centroids, points.dimension());
    let mut out = vec![0; rows.len()];
    out.par_chunks_mut(TASK_ROWS).zip(rows.par_chunks(TASK_ROWS)).for_each(|(out, rows)| {
        let mut loaded = vec![0.0; ROWS * points.dimension()];
        for (out, rows) in out.chunks_mut(ROWS).zip(rows.chunks(ROWS)) {
            for (loaded, &row) in loaded.chunks_exact_mut(points.dimension()).zip(rows) {
                points.load(row, loaded);
            }
            out.copy_from_slice(&nearest_six(isa(), &loaded, &panels)[..out.len()]);
        }
    });
    out
}

fn nearest_six(isa: Isa, rows: &[f32], panels: &Panels) -> [u32; ROWS] {
    let whole = panels.biases.len().is_multiple_of(WIDTH);
    let fits = whole && panels.values.len() == panels.biases.len() * panels.dimension;
    assert!(fits && rows.len() == ROWS * panels.dimension, "points do not fit the centroids");
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `isa` says that the processor has AVX-512F; the lengths have been compared.
        Isa::Avx512 => unsafe { avx512::nearest(rows, panels) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `isa` says that the processor has AVX2 and FMA; the lengths have been compared.
        Isa::Avx2 => unsafe { avx2::nearest(rows, panels) },
        // SAFETY: the lengths have been compared.
        Isa::Portable => unsafe { portable::nearest(rows, panels) },
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn every_variant_finds_the_nearest() {
        let mut variants = vec![Isa::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                variants.push(Isa::Avx2);
            }
            if std::arch::is_x86_feature_detected!("avx512f") {
                variants.push(Isa::Avx512);
            }
        }
        let mut rng = SmallRng::seed_from_u64(41);
        for (dimension, count) in [(1, 1), (3, 63), (16, 64), (17, 65), (100, 300)] {
            let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
            let (centroids, rows) = (random(count * dimension), random(ROWS * dimension));
            let panels = Panels::new(&centroids, dimension);
            let square = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum()
            };
            for &isa in &variants {
                for (row, found) in rows.chunks(dimension).zip(nearest_six(isa, &rows, &panels)) {
                    let best = centroids.chunks(dimension).map(|c| square(row, c)).fold(f64::INFINITY, f64::min);
                    let found = square(row, &centroids[found as usize * dimension..][..dimension]);
                    assert!(found <= best + 1e-4, "{isa:?} at {dimension}: {found} where {best} is nearest");
                }
            }
        }
    }

    #[test]
    fn of_equal_centroids_the_first_is_taken() {
        let points = Points::plain(2, vec![1.0; 20]);
        let rows: Vec<u32> = (0..10).collect();
        assert_eq!(nearest(&points, &rows, &[1.0; 2 * 130]), [0; 10]);
        assert!(nearest(&points, &[], &[1.0; 2]).is_empty());
    }
}
