//! AVX2 with FMA: eight accumulators of eight lanes, which stand for the sixty-four lanes of the common order.

use std::arch::x86_64::{
    __m256, __m256i, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm256_add_ps,
    _mm256_andnot_ps, _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps as load,
    _mm256_loadu_si256, _mm256_maskload_ps as load_masked, _mm256_set1_ps, _mm256_setzero_ps as zero, _mm256_sub_ps,
};

use super::scan::scan;

const LANES: usize = 8;

/// `n` is at most `LANES`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn first(n: usize) -> __m256i {
    static MASKS: [i32; 2 * LANES] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let mask = &MASKS[LANES - n..][..LANES];
    // SAFETY: the slice has the eight integers that are read.
    unsafe { _mm256_loadu_si256(mask.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn fold(sums: [__m256; 8]) -> f32 {
    let low = _mm256_add_ps(_mm256_add_ps(sums[0], sums[2]), _mm256_add_ps(sums[4], sums[6]));
    let high = _mm256_add_ps(_mm256_add_ps(sums[1], sums[3]), _mm256_add_ps(sums[5], sums[7]));
    let eight = _mm256_add_ps(low, high);
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

scan!("avx2,fma", dot_rows, |a, b, sum| _mm256_fmadd_ps(a, b, *sum));
scan!("avx2,fma", l2_rows, |a, b, sum| {
    let difference = _mm256_sub_ps(a, b);
    _mm256_fmadd_ps(difference, difference, *sum)
});
scan!("avx2,fma", l1_rows, |a, b, sum| {
    // Without its sign.
    let difference = _mm256_andnot_ps(_mm256_set1_ps(-0.0), _mm256_sub_ps(a, b));
    _mm256_add_ps(*sum, difference)
});
