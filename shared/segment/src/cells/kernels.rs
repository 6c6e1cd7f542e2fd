//! Integer kernels: one query in bytes against sixteen rows of codes at a time, chosen for the processor at run time.
//!
//! A block holds sixteen rows in chunks of 64 bytes. Bytes `4l .. 4l + 4` of a chunk belong to row `l`, so that a row's sum
//! stays in one 32-bit lane and nothing is ever summed across lanes:
//! - rows, 4 bits: chunk `j` has coordinates `8j .. 8j + 4` in the low halves of its bytes and `8j + 4 .. 8j + 8` in the
//!   high ones. A code `c` stands for `c − 7.5`.
//! - centroids, 7 bits: chunk `j` has coordinates `4j .. 4j + 4`. A code `c` below 128 stands for `c − 63.5`.
//!
//! Owns `same-codes-same-bits`: a sum is `Σ (2c − 15) q`, or `Σ (2c − 127) q`, in integers, and what follows multiplies and
//! adds f32 in one order without fusing. So every variant gives the same bits, and machines of all kinds propose the same
//! rows. Seven bits, not eight, because AVX2 adds pairs of products in 16 bits: `2 · 127 · 127` fits.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod lanes;
mod lift;
mod portable;
#[cfg(target_arch = "x86_64")]
mod vnni;

use std::sync::OnceLock;

use super::candidates::Candidates;
use crate::rows::Bits;

/// Rows of a block.
pub(crate) const BLOCK_ROWS: usize = 16;
/// Bytes of a chunk.
pub(crate) const CHUNK: usize = 64;
/// Largest magnitude of a query's coordinate in bytes.
const QUERY_MAX: f32 = 127.0;
/// Beyond this f32 has no digits for fractions.
const ROUND: f32 = 12_582_912.0;

/// Chunks of a block of rows.
pub(crate) fn row_chunks(dimension: usize) -> usize {
    dimension.div_ceil(8)
}

/// Chunks of a block of centroids.
pub(crate) fn centroid_chunks(dimension: usize) -> usize {
    dimension.div_ceil(4)
}

/// Instruction sets with a variant of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Vnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

/// The best instruction set of this machine.
pub(crate) fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| available().first().copied().unwrap_or(Isa::Portable))
}

/// What this machine can run, best first.
fn available() -> Vec<Isa> {
    let mut all = Vec::with_capacity(3);
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512vnni")
        {
            all.push(Isa::Vnni);
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("f16c") {
            all.push(Isa::Avx2);
        }
    }
    all.push(Isa::Portable);
    all
}

/// A query in bytes. One serves centroids and rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct CodeQuery {
    /// Four signed bytes each; zeros beyond the dimension. Two for each chunk of a block of rows.
    words: Vec<u32>,
    /// Of all bytes.
    sum: i32,
    /// Half of what one step of a byte stands for: sums are of doubled codes.
    half_step: f32,
}

impl CodeQuery {
    pub(crate) fn new(values: &[f32]) -> Self {
        let mut out = Self::default();
        out.set(values);
        out
    }

    /// Becomes another query, in the memory that is there.
    pub(crate) fn set(&mut self, values: &[f32]) {
        let largest = values.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        // A query of zeros, or so small that its inverse overflows, has no direction: every row scores the same.
        let inverse = QUERY_MAX / largest;
        let inverse = if inverse.is_finite() { inverse } else { 0.0 };
        self.words.clear();
        self.words.resize(2 * row_chunks(values.len()), 0);
        let mut sum = 0;
        for (word, four) in self.words.iter_mut().zip(values.chunks(4)) {
            let mut bytes = [0i8; 4];
            for (byte, x) in bytes.iter_mut().zip(four) {
                // Rounds to even by running out of digits: without SSE4.1 the function of that name is a call.
                *byte = ((x * inverse + ROUND) - ROUND) as i8;
                sum += i32::from(*byte);
            }
            *word = u32::from_le_bytes(bytes.map(|byte| byte as u8));
        }
        self.sum = sum;
        self.half_step = 0.5 * (largest / QUERY_MAX);
    }

    /// How many words there is room for.
    pub(crate) fn room(&self) -> usize {
        self.words.capacity()
    }
}

/// Centroids, as the router reads them: all, or some that follow one another. All arrays have an element for each row of the
/// last block, too.
#[derive(Clone, Copy)]
pub(crate) struct Centroids<'a> {
    /// Whole blocks.
    pub(crate) codes: &'a [u8],
    /// What a step of each centroid's codes stands for.
    pub(crate) scales: &'a [f32],
    /// Added to the inner product, times the query's weight; `-inf` where there is no centroid.
    pub(crate) biases: &'a [f32],
    /// The number of the first.
    pub(crate) first: u32,
}

/// The rows of a cell, as the scanner reads them.
#[derive(Clone, Copy)]
pub(crate) struct CellRows<'a> {
    /// How many.
    pub(crate) rows: usize,
    /// Whole blocks, then one whose chunks hold only the rows that are left, four bytes each.
    pub(crate) codes: &'a [u8],
    /// f16, one per row.
    pub(crate) factors: &'a [u8],
    /// f32, one per row, or empty.
    pub(crate) biases: &'a [u8],
    /// The number of its first row.
    pub(crate) first: u32,
    /// What a factor of one stands for.
    pub(crate) step: f32,
    /// Added to every score: the query's inner product with the centroid.
    pub(crate) base: f32,
}

/// Inner products of the query with these centroids, into `dots`; offers `dot + weight · bias`.
pub(crate) fn route(
    query: &CodeQuery,
    centroids: &Centroids<'_>,
    weight: f32,
    dots: &mut [f32],
    best: &mut Candidates,
) {
    route_with(isa(), query, centroids, weight, dots, best);
}

/// Scores the rows of a cell, those of `allowed` if given, and offers them.
pub(crate) fn scan(query: &CodeQuery, cell: &CellRows<'_>, allowed: Option<&Bits>, best: &mut Candidates) {
    scan_with(isa(), query, cell, &[], allowed, best);
}

/// As [`scan`], and tells the processor as it goes that `ahead` comes next.
pub(crate) fn scan_before(
    query: &CodeQuery,
    cell: &CellRows<'_>,
    ahead: &[u8],
    allowed: Option<&Bits>,
    best: &mut Candidates,
) {
    scan_with(isa(), query, cell, ahead, allowed, best);
}

/// As [`scan_before`], for two queries: what they share is done once. `bases`: see [`CellRows::base`], which does not count.
pub(crate) fn scan_two_before(
    queries: [&CodeQuery; 2],
    bases: [f32; 2],
    cell: &CellRows<'_>,
    ahead: &[u8],
    allowed: Option<&Bits>,
    best: [&mut Candidates; 2],
) {
    scan_two_with(isa(), queries, bases, cell, ahead, allowed, best);
}

fn route_with(
    isa: Isa,
    query: &CodeQuery,
    centroids: &Centroids<'_>,
    weight: f32,
    dots: &mut [f32],
    best: &mut Candidates,
) {
    // The kernels read this much without further checks. An odd number of four-coordinate words ends in a zero one.
    let count = dots.len();
    let fits = count.is_multiple_of(BLOCK_ROWS)
        && centroids.scales.len() == count
        && centroids.biases.len() == count
        && count.checked_mul(4).is_some_and(|bytes| centroids.codes.len().is_multiple_of(bytes.max(1)))
        && centroids.codes.len() <= count * 4 * query.words.len();
    assert!(fits, "centroids do not fit the query");
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `isa` says that the processor has the instructions; the lengths have been compared.
        Isa::Vnni => unsafe { vnni::route(query, centroids, weight, dots, best) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { avx2::route(query, centroids, weight, dots, best) },
        // SAFETY: the lengths have been compared.
        Isa::Portable => unsafe { portable::route(query, centroids, weight, dots, best) },
    }
}

fn scan_with(
    isa: Isa,
    query: &CodeQuery,
    cell: &CellRows<'_>,
    ahead: &[u8],
    allowed: Option<&Bits>,
    best: &mut Candidates,
) {
    assert!(fits(query, cell), "a cell does not fit the query");
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `isa` says that the processor has the instructions; the lengths have been compared.
        Isa::Vnni => unsafe { vnni::scan(query, cell, ahead, allowed, best) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { avx2::scan(query, cell, ahead, allowed, best) },
        // SAFETY: the lengths have been compared.
        Isa::Portable => unsafe { portable::scan(query, cell, ahead, allowed, best) },
    }
}

fn scan_two_with(
    isa: Isa,
    queries: [&CodeQuery; 2],
    bases: [f32; 2],
    cell: &CellRows<'_>,
    ahead: &[u8],
    allowed: Option<&Bits>,
    best: [&mut Candidates; 2],
) {
    assert!(queries.iter().all(|query| fits(query, cell)), "a cell does not fit the query");
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `isa` says that the processor has the instructions; the lengths have been compared.
        Isa::Vnni => unsafe { vnni::scan_two(queries, bases, cell, ahead, allowed, best) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { avx2::scan_two(queries, bases, cell, ahead, allowed, best) },
        // SAFETY: the lengths have been compared.
        Isa::Portable => unsafe { portable::scan_two(queries, bases, cell, ahead, allowed, best) },
    }
}

/// Whether a cell has what the kernels read without further checks.
fn fits(query: &CodeQuery, cell: &CellRows<'_>) -> bool {
    Some(cell.codes.len()) == cell.rows.checked_mul(2 * query.words.len())
        && Some(cell.factors.len()) == cell.rows.checked_mul(2)
        && (cell.biases.is_empty() || Some(cell.biases.len()) == cell.rows.checked_mul(4))
}

/// Asks the processor to bring the beginning of a cell closer, and its factors, which the first block needs as well. A
/// hint: reads nothing, fails never.
#[inline]
pub(crate) fn prefetch(cell: &CellRows<'_>) {
    #[cfg(target_arch = "x86_64")]
    for line in cell.codes.chunks(64).take(12).chain(cell.factors.chunks(64).take(1)) {
        // SAFETY: prefetching has no effect on memory, whatever the address; this one is inside a slice.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = cell;
}

/// Asks for one line.
#[inline(always)]
fn prefetch_line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: prefetching has no effect on memory, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests;
