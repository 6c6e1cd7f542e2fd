//! The variant without intrinsics.

use super::panel::nearest;
use super::{ROWS, WIDTH};

/// Centroids that are summed together: what sixteen registers of four lanes can keep.
const LANES: usize = 16;

/// # Safety
/// There are `ROWS` rows, a whole panel and its biases.
#[inline(always)]
unsafe fn score(
    rows: *const f32,
    panel: *const f32,
    biases: *const f32,
    dimension: usize,
    out: &mut [[f32; WIDTH]; ROWS],
) {
    // SAFETY: the caller's.
    let (rows, panel, biases) = unsafe {
        (
            std::slice::from_raw_parts(rows, ROWS * dimension),
            std::slice::from_raw_parts(panel, WIDTH * dimension),
            std::slice::from_raw_parts(biases, WIDTH),
        )
    };
    for (row, out) in rows.chunks_exact(dimension).zip(out) {
        for (group, out) in out.chunks_exact_mut(LANES).enumerate() {
            let mut sums = [0.0f32; LANES];
            sums.copy_from_slice(&biases[group * LANES..][..LANES]);
            for (&x, centroids) in row.iter().zip(panel.chunks_exact(WIDTH)) {
                for (sum, &c) in sums.iter_mut().zip(&centroids[group * LANES..][..LANES]) {
                    *sum += x * c;
                }
            }
            out.copy_from_slice(&sums);
        }
    }
}

nearest!();
