//! AVX2 with FMA: six points against sixteen centroids in twelve registers.

use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps};

use super::panel::nearest;
use super::{ROWS, WIDTH};

const LANES: usize = 8;
const REGISTERS: usize = 2;

/// # Safety
/// There are `ROWS` rows, a whole panel and its biases.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn score(
    rows: *const f32,
    panel: *const f32,
    biases: *const f32,
    dimension: usize,
    out: &mut [[f32; WIDTH]; ROWS],
) {
    for first in (0..WIDTH).step_by(LANES * REGISTERS) {
        // SAFETY: `first + LANES · REGISTERS` is at most `WIDTH`, `i` below the dimension, `row` below `ROWS`.
        unsafe {
            let start = [_mm256_loadu_ps(biases.add(first)), _mm256_loadu_ps(biases.add(first + LANES))];
            let mut sums = [start; ROWS];
            for i in 0..dimension {
                let centroids = panel.add(i * WIDTH + first);
                let centroids = [_mm256_loadu_ps(centroids), _mm256_loadu_ps(centroids.add(LANES))];
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*rows.add(row * dimension + i));
                    for (sum, centroid) in sums.iter_mut().zip(centroids) {
                        *sum = _mm256_fmadd_ps(x, centroid, *sum);
                    }
                }
            }
            for (out, sums) in out.iter_mut().zip(sums) {
                for (out, sum) in out[first..].chunks_exact_mut(LANES).zip(sums) {
                    _mm256_storeu_ps(out.as_mut_ptr(), sum);
                }
            }
        }
    }
}

nearest!(#[target_feature(enable = "avx2,fma")]);
