//! The variant without intrinsics: whatever the compiler makes of it.

use half::f16;

use super::lanes::kernels;
use super::{BLOCK_ROWS, CHUNK};

type Sums = [i32; BLOCK_ROWS];
type Scores = [f32; BLOCK_ROWS];

/// # Safety
/// At `codes` there is a chunk of four bytes a row for each pair of words.
#[inline(always)]
unsafe fn nibbles(codes: *const u8, rows: usize, words: &[u32]) -> Sums {
    // SAFETY: the caller's.
    let codes = unsafe { std::slice::from_raw_parts(codes, rows * 2 * words.len()) };
    let mut sums = [0; BLOCK_ROWS];
    for (chunk, pair) in codes.chunks_exact(4 * rows).zip(words.chunks_exact(2)) {
        let (low, high) = (bytes(pair[0]), bytes(pair[1]));
        for (sum, four) in sums.iter_mut().zip(chunk.chunks_exact(4)) {
            for ((&code, &low), &high) in four.iter().zip(&low).zip(&high) {
                *sum += i32::from(code & 15) * low + i32::from(code >> 4) * high;
            }
        }
    }
    sums
}

/// # Safety
/// As of `nibbles`, for either's words.
#[inline(always)]
unsafe fn nibbles_two(codes: *const u8, rows: usize, words: [&[u32]; 2]) -> (Sums, Sums) {
    // SAFETY: the caller's.
    unsafe { (nibbles(codes, rows, words[0]), nibbles(codes, rows, words[1])) }
}

/// # Safety
/// At `codes` there is a whole chunk for each word.
#[inline(always)]
unsafe fn sevens(codes: *const u8, words: &[u32]) -> Sums {
    // SAFETY: the caller's.
    let codes = unsafe { std::slice::from_raw_parts(codes, CHUNK * words.len()) };
    let mut sums = [0; BLOCK_ROWS];
    for (chunk, &word) in codes.chunks_exact(CHUNK).zip(words) {
        let query = bytes(word);
        for (sum, four) in sums.iter_mut().zip(chunk.chunks_exact(4)) {
            for (&code, &query) in four.iter().zip(&query) {
                *sum += i32::from(code) * query;
            }
        }
    }
    sums
}

#[inline(always)]
fn bytes(word: u32) -> [i32; 4] {
    word.to_le_bytes().map(|byte| i32::from(byte as i8))
}

#[inline(always)]
fn dots(sums: Sums, minus: i32, half_step: f32, scales: Scores) -> Scores {
    std::array::from_fn(|i| (2 * sums[i] - minus) as f32 * half_step * scales[i])
}

/// # Safety
/// Thirty-two bytes can be read at `from`.
#[inline(always)]
unsafe fn factors(from: *const u8) -> Scores {
    // SAFETY: the caller's; bytes are read as they come.
    let raw: [[u8; 2]; BLOCK_ROWS] = unsafe { from.cast::<[[u8; 2]; BLOCK_ROWS]>().read_unaligned() };
    raw.map(|bytes| f16::from_le_bytes(bytes).to_f32())
}

/// # Safety
/// Sixty-four bytes can be read at `from`.
#[inline(always)]
unsafe fn floats(from: *const u8) -> Scores {
    // SAFETY: the caller's; bytes are read as they come.
    let raw: [[u8; 4]; BLOCK_ROWS] = unsafe { from.cast::<[[u8; 4]; BLOCK_ROWS]>().read_unaligned() };
    raw.map(f32::from_le_bytes)
}

#[inline(always)]
fn splat(x: f32) -> Scores {
    [x; BLOCK_ROWS]
}

#[inline(always)]
fn add(a: Scores, b: Scores) -> Scores {
    std::array::from_fn(|i| a[i] + b[i])
}

#[inline(always)]
fn multiply(a: Scores, b: Scores) -> Scores {
    std::array::from_fn(|i| a[i] * b[i])
}

#[inline(always)]
fn reaching(scores: Scores, threshold: f32) -> u16 {
    scores.iter().enumerate().fold(0, |mask, (lane, &score)| mask | u16::from(score >= threshold) << lane)
}

#[inline(always)]
fn store(scores: Scores) -> [f32; BLOCK_ROWS] {
    scores
}

kernels!();
