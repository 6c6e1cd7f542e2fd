//! AVX-512F: four accumulators of sixteen lanes.

use std::arch::x86_64::{
    __m512, __mmask16, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm256_add_ps,
    _mm256_castpd_ps, _mm256_castps256_ps128, _mm256_extractf128_ps, _mm512_abs_ps, _mm512_add_ps, _mm512_castps_pd,
    _mm512_castps512_ps256, _mm512_extractf64x4_pd, _mm512_fmadd_ps, _mm512_loadu_ps as load, _mm512_maskz_loadu_ps,
    _mm512_setzero_ps as zero, _mm512_sub_ps,
};

use super::scan::scan;

const LANES: usize = 16;

/// `n` is less than `LANES`.
fn first(n: usize) -> __mmask16 {
    (1 << n) - 1
}

/// # Safety
/// The lanes of the mask can be read at `from`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_masked(from: *const f32, mask: __mmask16) -> __m512 {
    // SAFETY: the caller's.
    unsafe { _mm512_maskz_loadu_ps(mask, from) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn fold(sums: [__m512; 4]) -> f32 {
    let sixteen = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
    let low = _mm512_castps512_ps256(sixteen);
    let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(sixteen)));
    let eight = _mm256_add_ps(low, high);
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

scan!("avx512f", dot_rows, |a, b, sum| _mm512_fmadd_ps(a, b, *sum));
scan!("avx512f", l2_rows, |a, b, sum| {
    let difference = _mm512_sub_ps(a, b);
    _mm512_fmadd_ps(difference, difference, *sum)
});
scan!("avx512f", l1_rows, |a, b, sum| _mm512_add_ps(*sum, _mm512_abs_ps(_mm512_sub_ps(a, b))));
