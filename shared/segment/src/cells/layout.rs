//! The bytes of cells, both ways: docs/formats/segment.md gives them to the byte.
//!
//! Owns `no-cell-reaches-outside`: offsets are not stored but follow from row counts, and [`Directory::read`] has compared
//! their sum with the rows of the segment and with the length of the codes before anyone reads a code. Codes are checked
//! apart, all or a cell at a time: whoever reads from afar never has them all.

use std::ops::Range;

use rayon::prelude::*;
use tarn_model::Metric;

use super::kernels::{BLOCK_ROWS, CHUNK, CellRows, centroid_chunks, row_chunks};
use crate::format::{ALIGNMENT, BlockKind};
use crate::rows::Bits;

/// Before the centre and the entries of a directory.
const HEAD: usize = 8;
/// One cell in the directory.
const ENTRY: usize = 32;
/// Added to a factor where it bounds what is lost of a row: small factors have few digits.
pub(crate) const FACTOR_FLOOR: f64 = 1.0 / 256.0;

/// The block that is wrong, and what is wrong with it.
pub(crate) type Fault = (BlockKind, String);

/// What stands in the directory about a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Entry {
    /// Not zero.
    pub(crate) rows: u32,
    /// Rows are coded relative to the centroid times this.
    pub(crate) share: f32,
    /// What a factor of one stands for.
    pub(crate) step: f32,
    /// What a step of the centroid's codes stands for.
    pub(crate) centroid_step: f32,
    /// Added to the centroid's inner product when cells are chosen.
    pub(crate) bias: f32,
    /// CRC-32C of the cell's bytes, for readers that fetch it alone.
    pub(crate) crc32c: u32,
    /// What a row's code loses of it is no longer than this times the sum of its factor and `FACTOR_FLOOR`.
    pub(crate) loss: f32,
    /// No row's code, as a point of the lattice, is farther from zero.
    pub(crate) spread: f32,
}

/// The directory, decoded. Arrays that the router reads have whole blocks.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) centre: Vec<f32>,
    pub(crate) entries: Vec<Entry>,
    /// The first row of each cell, then the number of rows.
    pub(crate) first_rows: Vec<u32>,
    /// Where each cell begins among the codes, then their length.
    offsets: Vec<u64>,
    pub(crate) centroid_steps: Vec<f32>,
    pub(crate) biases: Vec<f32>,
    chunks: usize,
    biased: bool,
}

/// Bytes of the three parts of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) codes: u64,
    /// Where the biases begin, if there are any.
    pub(crate) biases_at: u64,
    pub(crate) size: u64,
}

/// How a cell of `rows` rows is divided. No overflow: a segment has less than 2³¹ rows of less than 2¹⁵ bytes of code.
pub(crate) fn parts(rows: u32, dimension: usize, metric: Metric) -> Parts {
    let rows = u64::from(rows);
    let codes = rows * 4 * row_chunks(dimension) as u64;
    let biases_at = (codes + 2 * rows).next_multiple_of(4);
    let end = if metric == Metric::L2 { biases_at + 4 * rows } else { codes + 2 * rows };
    Parts { codes, biases_at, size: end.next_multiple_of(ALIGNMENT) }
}

/// The directory's bytes.
pub(crate) fn write_directory(centre: &[f32], entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + 4 * centre.len() + ENTRY * entries.len());
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend(centre.iter().flat_map(|x| x.to_le_bytes()));
    for entry in entries {
        out.extend_from_slice(&entry.rows.to_le_bytes());
        for x in [entry.share, entry.step, entry.centroid_step, entry.bias] {
            out.extend_from_slice(&x.to_le_bytes());
        }
        out.extend_from_slice(&entry.crc32c.to_le_bytes());
        out.extend_from_slice(&entry.loss.to_le_bytes());
        out.extend_from_slice(&entry.spread.to_le_bytes());
    }
    out
}

/// Puts a row's codes into those of a cell, which are zeros there.
pub(crate) fn put_row(cell: &mut [u8], rows: usize, row: usize, codes: &[u8]) {
    let chunks = row_chunks(codes.len());
    let (block, lane) = (row / BLOCK_ROWS, row % BLOCK_ROWS);
    let stride = 4 * (rows - block * BLOCK_ROWS).min(BLOCK_ROWS);
    let start = block * chunks * CHUNK + 4 * lane;
    for (chunk, eight) in codes.chunks(8).enumerate() {
        for (i, code) in eight.iter().enumerate() {
            cell[start + chunk * stride + i % 4] |= code << (4 * (i / 4));
        }
    }
}

/// Puts a centroid's codes into those of all, which are zeros there.
pub(crate) fn put_centroid(centroids: &mut [u8], cell: usize, codes: &[u8]) {
    let start = cell / BLOCK_ROWS * centroid_chunks(codes.len()) * CHUNK + 4 * (cell % BLOCK_ROWS);
    for (chunk, four) in codes.chunks(4).enumerate() {
        centroids[start + chunk * CHUNK..][..four.len()].copy_from_slice(four);
    }
}

/// Bytes of the centroids of so many cells.
pub(crate) fn centroid_bytes(cells: usize, dimension: usize) -> usize {
    cells.div_ceil(BLOCK_ROWS) * centroid_chunks(dimension) * CHUNK
}

impl Directory {
    /// Decodes a directory and checks it against the centroids, the length of the codes, and `rows`.
    pub(crate) fn read(
        bytes: &[u8],
        centroids: &[u8],
        codes_length: u64,
        metric: Metric,
        dimension: usize,
        rows: u32,
    ) -> Result<Self, Fault> {
        let wrong = |what: String| Err((BlockKind::Cells, what));
        let (Some((count, rest)), true) = (bytes.split_first_chunk::<4>(), bytes.len() >= HEAD) else {
            return wrong(format!("{} bytes", bytes.len()));
        };
        let count = u32::from_le_bytes(*count) as usize;
        if rest[..4] != [0; 4] {
            return wrong(format!("{:02x?} where zeros belong", &rest[..4]));
        }
        let expected = (HEAD as u64) + 4 * dimension as u64 + ENTRY as u64 * count as u64;
        if bytes.len() as u64 != expected {
            return wrong(format!("{} bytes for {count} cells", bytes.len()));
        }
        let (centre, entries) = rest[4..].split_at(4 * dimension);
        let centre: Vec<f32> = centre.chunks_exact(4).map(|raw| f32_at(raw, 0)).collect();
        let fits = |x: &f32| x.is_finite() && (metric != Metric::Cosine || *x == 0.0);
        if !centre.iter().all(fits) {
            return wrong("a centre that no rows can have".to_owned());
        }

        let padded = count.next_multiple_of(BLOCK_ROWS);
        let mut directory = Self {
            centre,
            entries: Vec::with_capacity(count),
            first_rows: Vec::with_capacity(count + 1),
            offsets: Vec::with_capacity(count + 1),
            centroid_steps: Vec::with_capacity(padded),
            biases: Vec::with_capacity(padded),
            chunks: row_chunks(dimension),
            biased: metric == Metric::L2,
        };
        let (mut first, mut offset) = (0u32, 0u64);
        for (cell, raw) in entries.chunks_exact(ENTRY).enumerate() {
            let entry = Entry {
                rows: u32_at(raw, 0),
                share: f32_at(raw, 4),
                step: f32_at(raw, 8),
                centroid_step: f32_at(raw, 12),
                bias: f32_at(raw, 16),
                crc32c: u32_at(raw, 20),
                loss: f32_at(raw, 24),
                spread: f32_at(raw, 28),
            };
            let numbers = [entry.share, entry.step, entry.centroid_step, entry.bias, entry.loss, entry.spread];
            let finite = numbers.iter().all(|x| x.is_finite()) && entry.loss >= 0.0 && entry.spread >= 0.0;
            let end = first.checked_add(entry.rows).filter(|&end| end <= rows && entry.rows > 0);
            let (Some(end), true) = (end, finite) else {
                return wrong(format!("cell {cell}: {entry:?} from row {first} of {rows}"));
            };
            directory.entries.push(entry);
            directory.first_rows.push(first);
            directory.offsets.push(offset);
            directory.centroid_steps.push(entry.centroid_step);
            directory.biases.push(entry.bias);
            first = end;
            offset += parts(entry.rows, dimension, metric).size;
        }
        if first != rows {
            return wrong(format!("{first} rows, not {rows}"));
        }
        if codes_length != offset {
            return Err((BlockKind::CellCodes, format!("{codes_length} bytes, not {offset}")));
        }
        directory.first_rows.push(first);
        directory.offsets.push(offset);
        directory.centroid_steps.resize(padded, 0.0);
        directory.biases.resize(padded, f32::NEG_INFINITY);

        let expected = centroid_bytes(count, dimension);
        if centroids.len() != expected {
            return Err((BlockKind::CellCentroids, format!("{} bytes, not {expected}", centroids.len())));
        }
        // AVX2 adds products of larger codes with saturation.
        if centroids.iter().fold(0, |all, byte| all | byte) > 127 {
            return Err((BlockKind::CellCentroids, "a code above 127".to_owned()));
        }
        Ok(directory)
    }

    /// Checks the codes of all cells.
    pub(crate) fn check_codes(&self, codes: &[u8]) -> Result<(), Fault> {
        (0..self.cells()).into_par_iter().try_for_each(|cell| self.check_cell(cell, self.bytes_of(cell, codes)))
    }

    /// The number of cells.
    pub(crate) fn cells(&self) -> usize {
        self.entries.len()
    }

    /// Where a cell's bytes lie among the codes.
    #[inline]
    pub(crate) fn range(&self, cell: usize) -> Range<u64> {
        self.offsets[cell]..self.offsets[cell + 1]
    }

    /// A cell's bytes, of all codes.
    #[inline]
    pub(crate) fn bytes_of<'a>(&self, cell: usize, codes: &'a [u8]) -> &'a [u8] {
        // All codes are there, so that their length fits an address.
        &codes[self.offsets[cell] as usize..self.offsets[cell + 1] as usize]
    }

    /// The rows of a cell, of whose bytes there are as many as [`Self::range`] says; `dot` is the query's inner product
    /// with its centroid.
    #[inline]
    pub(crate) fn cell<'a>(&self, cell: usize, bytes: &'a [u8], dot: f32) -> CellRows<'a> {
        let entry = &self.entries[cell];
        let rows = entry.rows as usize;
        let (codes, rest) = bytes.split_at(4 * self.chunks * rows);
        let (factors, rest) = rest.split_at(2 * rows);
        // Biases begin at a multiple of four; the codes before the factors are one.
        let biases = if self.biased { &rest[2 * (rows % 2)..][..4 * rows] } else { &[] };
        let first = self.first_rows[cell];
        CellRows { rows, codes, factors, biases, first, step: entry.step, base: self.base(cell, dot) }
    }

    /// How many rows of each cell are allowed; `None`: all.
    pub(crate) fn allowed_rows(&self, bits: Option<&Bits>) -> Vec<u32> {
        match bits {
            Some(bits) => bits.counts(&self.first_rows),
            None => self.entries.iter().map(|entry| entry.rows).collect(),
        }
    }

    /// What every row of a cell gets; `dot` is the query's inner product with its centroid.
    #[inline]
    pub(crate) fn base(&self, cell: usize, dot: f32) -> f32 {
        self.entries[cell].share * dot
    }

    /// Checks the bytes of one cell.
    pub(crate) fn check_cell(&self, cell: usize, bytes: &[u8]) -> Result<(), Fault> {
        let wrong = |what: &str| Err((BlockKind::CellCodes, format!("cell {cell}: {what}")));
        let range = self.range(cell);
        if bytes.len() as u64 != range.end - range.start {
            return wrong("not as many bytes as its rows take");
        }
        if crc32c::crc32c(bytes) != self.entries[cell].crc32c {
            return wrong("not the checksum of the directory");
        }
        let rows = self.cell(cell, bytes, 0.0);
        // An exponent of ones: infinite, or not a number.
        if rows.factors.chunks_exact(2).any(|raw| raw[1] & 0x7c == 0x7c) {
            return wrong("a factor that is not finite");
        }
        if rows.biases.chunks_exact(4).any(|raw| !f32_at(raw, 0).is_finite()) {
            return wrong("a bias that is not finite");
        }
        Ok(())
    }
}

/// Panics unless four bytes are there; callers have checked.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

/// Panics unless four bytes are there; callers have checked.
fn f32_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_bits(u32_at(bytes, at))
}

#[cfg(test)]
mod tests;
