//! AVX-512F: thirty-two coordinates at a time.

use std::arch::x86_64::{
    __m512, __m512i, _mm512_add_ps, _mm512_and_si512, _mm512_castsi512_ps, _mm512_fmadd_ps, _mm512_loadu_si512,
    _mm512_reduce_add_ps, _mm512_set1_epi32, _mm512_setzero_ps as zero, _mm512_slli_epi32, _mm512_sub_ps,
};

use super::lanes::distance;

const WIDTH: usize = 32;

#[inline]
#[target_feature(enable = "avx512f")]
fn load(from: &[super::Bf16; WIDTH]) -> __m512i {
    // SAFETY: 64 bytes are there, and the load is of any alignment.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn even(register: __m512i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(register))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn odd(register: __m512i) -> __m512 {
    _mm512_castsi512_ps(_mm512_and_si512(register, _mm512_set1_epi32(0xffff_0000_u32.cast_signed())))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn total(sums: [__m512; 2]) -> f32 {
    _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]))
}

distance!("avx512f", inner_product, |a, b, sum| _mm512_fmadd_ps(a, b, sum), |total| 1.0 - total);
distance!(
    "avx512f",
    l2,
    |a, b, sum| {
        let difference = _mm512_sub_ps(a, b);
        _mm512_fmadd_ps(difference, difference, sum)
    },
    |total| total
);
