//! AVX-512F: six points against a panel in twenty-four registers.

use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps};

use super::panel::nearest;
use super::{ROWS, WIDTH};

const LANES: usize = 16;

/// # Safety
/// There are `ROWS` rows, a whole panel and its biases.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn score(
    rows: *const f32,
    panel: *const f32,
    biases: *const f32,
    dimension: usize,
    out: &mut [[f32; WIDTH]; ROWS],
) {
    // SAFETY: four times sixteen floats are a panel's width; `i` is below the dimension, `row` below `ROWS`.
    unsafe {
        let load = |from: *const f32| {
            [
                _mm512_loadu_ps(from),
                _mm512_loadu_ps(from.add(LANES)),
                _mm512_loadu_ps(from.add(2 * LANES)),
                _mm512_loadu_ps(from.add(3 * LANES)),
            ]
        };
        let mut sums = [load(biases); ROWS];
        for i in 0..dimension {
            let centroids = load(panel.add(i * WIDTH));
            for (row, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*rows.add(row * dimension + i));
                for (sum, centroid) in sums.iter_mut().zip(centroids) {
                    *sum = _mm512_fmadd_ps(x, centroid, *sum);
                }
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            for (out, sum) in out.chunks_exact_mut(LANES).zip(sums) {
                _mm512_storeu_ps(out.as_mut_ptr(), sum);
            }
        }
    }
}

nearest!(#[target_feature(enable = "avx512f")]);
