//! AVX2 with F16C: pairs of products in 16 bits, lanes 0 to 7 and 8 to 15 in a register each.

use std::arch::x86_64::{
    __m256, __m256i, _CMP_GE_OQ, _mm_loadu_si128, _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256,
    _mm256_cmp_ps, _mm256_cvtepi32_ps, _mm256_cvtph_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_maskload_epi32, _mm256_movemask_ps, _mm256_mul_ps, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256, _mm256_slli_epi32, _mm256_srli_epi16,
    _mm256_storeu_ps, _mm256_sub_epi32,
};

use super::lanes::kernels;
use super::{BLOCK_ROWS, CHUNK};

/// Lanes of a register.
const LANES: usize = 8;
/// Words whose products fit 16 bits: `8 · 2 · 15 · 127` is 30,480.
const WORDS: usize = 8;

type Sums = [__m256i; 2];
type Scores = [__m256; 2];

/// # Safety
/// At `codes` there is a chunk of four bytes a row for each pair of words.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn nibbles(codes: *const u8, rows: usize, words: &[u32]) -> Sums {
    let fifteen = _mm256_set1_epi8(15);
    let ones = _mm256_set1_epi16(1);
    let masks = [first(rows.min(LANES)), first(rows.saturating_sub(LANES))];
    let mut sums = [_mm256_setzero_si256(); 2];
    let mut at = codes;
    for words in words.chunks(WORDS) {
        let mut narrow = [_mm256_setzero_si256(); 2];
        for pair in words.chunks_exact(2) {
            let low = _mm256_set1_epi32(pair[0] as i32);
            let high = _mm256_set1_epi32(pair[1] as i32);
            for (half, narrow) in narrow.iter_mut().enumerate() {
                // The second half of a short chunk may begin beyond the codes: then nothing of it is read.
                let from = at.wrapping_add(half * 4 * LANES);
                let codes = if rows == BLOCK_ROWS {
                    // SAFETY: a whole chunk is there.
                    unsafe { _mm256_loadu_si256(from.cast()) }
                } else {
                    // SAFETY: the mask has the lanes of rows that are there; others are not read.
                    unsafe { _mm256_maskload_epi32(from.cast(), masks[half]) }
                };
                let a = _mm256_maddubs_epi16(_mm256_and_si256(codes, fifteen), low);
                let b = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16::<4>(codes), fifteen), high);
                *narrow = _mm256_add_epi16(*narrow, _mm256_add_epi16(a, b));
            }
            at = at.wrapping_add(4 * rows);
        }
        for (sum, narrow) in sums.iter_mut().zip(narrow) {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(narrow, ones));
        }
    }
    sums
}

/// # Safety
/// As of `nibbles`, for either's words.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn nibbles_two(codes: *const u8, rows: usize, words: [&[u32]; 2]) -> (Sums, Sums) {
    // SAFETY: the caller's.
    unsafe { (nibbles(codes, rows, words[0]), nibbles(codes, rows, words[1])) }
}

/// # Safety
/// At `codes` there is a whole chunk for each word.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn sevens(codes: *const u8, words: &[u32]) -> Sums {
    let ones = _mm256_set1_epi16(1);
    let mut sums = [_mm256_setzero_si256(); 2];
    for (chunk, &word) in words.iter().enumerate() {
        let word = _mm256_set1_epi32(word as i32);
        for (half, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's.
            let codes = unsafe { _mm256_loadu_si256(codes.add(chunk * CHUNK + half * 4 * LANES).cast()) };
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_maddubs_epi16(codes, word), ones));
        }
    }
    sums
}

/// A mask of the first `n` lanes, `n` at most `LANES`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn first(n: usize) -> __m256i {
    static MASKS: [i32; 2 * LANES] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let mask = &MASKS[LANES - n..][..LANES];
    // SAFETY: the slice has the eight integers that are read.
    unsafe { _mm256_loadu_si256(mask.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn dots(sums: Sums, minus: i32, half_step: f32, scales: Scores) -> Scores {
    let minus = _mm256_set1_epi32(minus);
    let half_step = _mm256_set1_ps(half_step);
    let half = |sum: __m256i, scale: __m256| {
        let doubled = _mm256_sub_epi32(_mm256_slli_epi32::<1>(sum), minus);
        _mm256_mul_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(doubled), half_step), scale)
    };
    [half(sums[0], scales[0]), half(sums[1], scales[1])]
}

/// # Safety
/// Thirty-two bytes can be read at `from`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn factors(from: *const u8) -> Scores {
    // SAFETY: the caller's.
    unsafe { [_mm256_cvtph_ps(_mm_loadu_si128(from.cast())), _mm256_cvtph_ps(_mm_loadu_si128(from.add(16).cast()))] }
}

/// # Safety
/// Sixty-four bytes can be read at `from`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn floats(from: *const u8) -> Scores {
    // SAFETY: the caller's.
    unsafe { [_mm256_loadu_ps(from.cast()), _mm256_loadu_ps(from.add(32).cast())] }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn splat(x: f32) -> Scores {
    [_mm256_set1_ps(x); 2]
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn add(a: Scores, b: Scores) -> Scores {
    [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])]
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn multiply(a: Scores, b: Scores) -> Scores {
    [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])]
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn reaching(scores: Scores, threshold: f32) -> u16 {
    let threshold = _mm256_set1_ps(threshold);
    let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(scores[0], threshold));
    let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(scores[1], threshold));
    (low | high << LANES) as u16
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn store(scores: Scores) -> [f32; BLOCK_ROWS] {
    let mut out = [0.0; BLOCK_ROWS];
    // SAFETY: sixteen floats are written to an array of sixteen.
    unsafe {
        _mm256_storeu_ps(out.as_mut_ptr(), scores[0]);
        _mm256_storeu_ps(out.as_mut_ptr().add(LANES), scores[1]);
    }
    out
}

kernels!(#[target_feature(enable = "avx2,f16c")]);
