//! AVX2 and fused multiply-add: sixteen coordinates at a time.

use std::arch::x86_64::{
    __m256, __m256i, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm256_add_ps,
    _mm256_and_si256, _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_extractf128_ps, _mm256_fmadd_ps,
    _mm256_loadu_si256, _mm256_set1_epi32, _mm256_setzero_ps as zero, _mm256_slli_epi32, _mm256_sub_ps,
};

use super::lanes::distance;

const WIDTH: usize = 16;

#[inline]
#[target_feature(enable = "avx2,fma")]
fn load(from: &[super::Bf16; WIDTH]) -> __m256i {
    // SAFETY: 32 bytes are there, and the load is of any alignment.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn even(register: __m256i) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(register))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn odd(register: __m256i) -> __m256 {
    _mm256_castsi256_ps(_mm256_and_si256(register, _mm256_set1_epi32(0xffff_0000_u32.cast_signed())))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn total(sums: [__m256; 2]) -> f32 {
    let eight = _mm256_add_ps(sums[0], sums[1]);
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

distance!("avx2,fma", inner_product, |a, b, sum| _mm256_fmadd_ps(a, b, sum), |total| 1.0 - total);
distance!(
    "avx2,fma",
    l2,
    |a, b, sum| {
        let difference = _mm256_sub_ps(a, b);
        _mm256_fmadd_ps(difference, difference, sum)
    },
    |total| total
);
