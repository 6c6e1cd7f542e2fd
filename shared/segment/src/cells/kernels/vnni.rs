//! AVX-512 with VNNI: four products and their sum in one instruction, sixteen lanes in a register.

use std::arch::x86_64::{
    __m512, __m512i, _CMP_GE_OQ, _mm256_loadu_si256, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512,
    _mm512_cmp_ps_mask, _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_dpbusd_epi32, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_maskz_loadu_epi32, _mm512_mul_ps, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512,
    _mm512_slli_epi32, _mm512_srli_epi16, _mm512_storeu_ps, _mm512_sub_epi32,
};

use super::lanes::kernels;
use super::{BLOCK_ROWS, CHUNK};

type Sums = __m512i;
type Scores = __m512;

/// # Safety
/// At `codes` there is a chunk of four bytes a row for each pair of words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn nibbles(codes: *const u8, rows: usize, words: &[u32]) -> Sums {
    let fifteen = _mm512_set1_epi8(15);
    // Two chains, which the processor interleaves.
    let (mut low, mut high) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    let mut step = |codes: __m512i, pair: &[u32]| {
        let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), fifteen);
        low = _mm512_dpbusd_epi32(low, _mm512_and_si512(codes, fifteen), _mm512_set1_epi32(pair[0] as i32));
        high = _mm512_dpbusd_epi32(high, upper, _mm512_set1_epi32(pair[1] as i32));
    };
    if rows == BLOCK_ROWS {
        for (chunk, pair) in words.chunks_exact(2).enumerate() {
            // SAFETY: a whole chunk is there for each pair.
            step(unsafe { _mm512_loadu_si512(codes.add(chunk * CHUNK).cast()) }, pair);
        }
    } else {
        let present = (1u16 << rows) - 1;
        for (chunk, pair) in words.chunks_exact(2).enumerate() {
            // SAFETY: the mask has the lanes of rows that are there; others are not read.
            step(unsafe { _mm512_maskz_loadu_epi32(present, codes.add(chunk * 4 * rows).cast()) }, pair);
        }
    }
    _mm512_add_epi32(low, high)
}

/// Codes are unpacked once.
///
/// # Safety
/// At `codes` there is a chunk of four bytes a row for each pair of either's words, of which there are as many.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn nibbles_two(codes: *const u8, rows: usize, words: [&[u32]; 2]) -> (Sums, Sums) {
    let fifteen = _mm512_set1_epi8(15);
    let zero = _mm512_setzero_si512();
    let (mut low, mut high, mut other_low, mut other_high) = (zero, zero, zero, zero);
    let mut step = |codes: __m512i, pair: &[u32], other: &[u32]| {
        let lower = _mm512_and_si512(codes, fifteen);
        let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), fifteen);
        low = _mm512_dpbusd_epi32(low, lower, _mm512_set1_epi32(pair[0] as i32));
        high = _mm512_dpbusd_epi32(high, upper, _mm512_set1_epi32(pair[1] as i32));
        other_low = _mm512_dpbusd_epi32(other_low, lower, _mm512_set1_epi32(other[0] as i32));
        other_high = _mm512_dpbusd_epi32(other_high, upper, _mm512_set1_epi32(other[1] as i32));
    };
    let pairs = words[0].chunks_exact(2).zip(words[1].chunks_exact(2)).enumerate();
    if rows == BLOCK_ROWS {
        for (chunk, (pair, other)) in pairs {
            // SAFETY: a whole chunk is there for each pair.
            step(unsafe { _mm512_loadu_si512(codes.add(chunk * CHUNK).cast()) }, pair, other);
        }
    } else {
        let present = (1u16 << rows) - 1;
        for (chunk, (pair, other)) in pairs {
            // SAFETY: the mask has the lanes of rows that are there; others are not read.
            step(unsafe { _mm512_maskz_loadu_epi32(present, codes.add(chunk * 4 * rows).cast()) }, pair, other);
        }
    }
    (_mm512_add_epi32(low, high), _mm512_add_epi32(other_low, other_high))
}

/// # Safety
/// At `codes` there is a whole chunk for each word.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn sevens(codes: *const u8, words: &[u32]) -> Sums {
    // SAFETY: the caller's.
    let load = |chunk: usize| unsafe { _mm512_loadu_si512(codes.add(chunk * CHUNK).cast()) };
    let (mut even, mut odd) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    for (number, pair) in words.chunks(2).enumerate() {
        even = _mm512_dpbusd_epi32(even, load(2 * number), _mm512_set1_epi32(pair[0] as i32));
        if let Some(&word) = pair.get(1) {
            odd = _mm512_dpbusd_epi32(odd, load(2 * number + 1), _mm512_set1_epi32(word as i32));
        }
    }
    _mm512_add_epi32(even, odd)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dots(sums: Sums, minus: i32, half_step: f32, scales: Scores) -> Scores {
    let doubled = _mm512_sub_epi32(_mm512_slli_epi32::<1>(sums), _mm512_set1_epi32(minus));
    _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(doubled), _mm512_set1_ps(half_step)), scales)
}

/// # Safety
/// Thirty-two bytes can be read at `from`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn factors(from: *const u8) -> Scores {
    // SAFETY: the caller's.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.cast()) })
}

/// # Safety
/// Sixty-four bytes can be read at `from`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn floats(from: *const u8) -> Scores {
    // SAFETY: the caller's.
    unsafe { _mm512_loadu_ps(from.cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn splat(x: f32) -> Scores {
    _mm512_set1_ps(x)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn add(a: Scores, b: Scores) -> Scores {
    _mm512_add_ps(a, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn multiply(a: Scores, b: Scores) -> Scores {
    _mm512_mul_ps(a, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn reaching(scores: Scores, threshold: f32) -> u16 {
    _mm512_cmp_ps_mask::<_CMP_GE_OQ>(scores, _mm512_set1_ps(threshold))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn store(scores: Scores) -> [f32; BLOCK_ROWS] {
    let mut out = [0.0; BLOCK_ROWS];
    // SAFETY: sixteen floats are written to an array of sixteen.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), scores) };
    out
}

kernels!(#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]);
