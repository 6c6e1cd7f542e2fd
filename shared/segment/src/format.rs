//! The layout of a segment file: blocks, footer, trailer. docs/formats/segment.md gives it to the byte.
//!
//! Owns `every-byte-is-covered`: a byte is in a checksummed block, in the checksummed footer or trailer, or is padding or
//! header that must have one value. So no change of a file goes unseen.

use std::ops::Range;

use bytes::Bytes;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tarn_model::{Corrupt, HnswParams, Metric, ObjectRef};

use crate::kind::SegmentKind;

/// The version that is written, and the only one that is read.
pub(crate) const VERSION: u32 = 1;
/// First and last eight bytes of a file.
pub(crate) const MAGIC: [u8; 8] = *b"TARN-SEG";
/// Blocks, footer and trailer begin at multiples of this.
pub(crate) const ALIGNMENT: u64 = 64;
/// Header and trailer.
pub(crate) const FRAME: usize = 64;
/// One block in the footer.
pub(crate) const ENTRY: usize = 32;
/// Before the entries of the footer.
pub(crate) const FOOTER_HEAD: usize = 8;
/// No file has more blocks; bounds what a footer may claim.
const MAX_BLOCKS: usize = 1024;
/// Bytes that one thread checks at a time.
const CRC_CHUNK: usize = 4 * 1024 * 1024;

/// What a block holds. Numbers are never reused; readers ignore those they do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum BlockKind {
    Meta = 1,
    KeyOffsets = 2,
    KeyBytes = 3,
    KeyHashes = 4,
    KeyHashRows = 5,
    Attributes = 6,
    DenseVectors = 16,
    InverseNorms = 17,
    Graph = 18,
    Calibration = 19,
    Cells = 20,
    CellCentroids = 21,
    CellCodes = 22,
    CellCalibration = 23,
    RowSlots = 24,
    Records = 25,
    AttributeColumns = 26,
    LinkStarts = 27,
    Links = 28,
    SparseOffsets = 32,
    SparseIndices = 33,
    SparseValues = 34,
    SparseLengths = 35,
    Terms = 36,
    TermStarts = 37,
    TermHighest = 38,
    TermLowest = 39,
    PostingRows = 40,
    PostingImpacts = 41,
}

impl BlockKind {
    /// As it stands in errors and in the format's documentation.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::KeyOffsets => "key-offsets",
            Self::KeyBytes => "key-bytes",
            Self::KeyHashes => "key-hashes",
            Self::KeyHashRows => "key-hash-rows",
            Self::Attributes => "attributes",
            Self::DenseVectors => "dense-vectors",
            Self::InverseNorms => "inverse-norms",
            Self::Graph => "graph",
            Self::Calibration => "calibration",
            Self::Cells => "cells",
            Self::CellCentroids => "cell-centroids",
            Self::CellCodes => "cell-codes",
            Self::CellCalibration => "cell-calibration",
            Self::RowSlots => "row-slots",
            Self::Records => "records",
            Self::AttributeColumns => "attribute-columns",
            Self::LinkStarts => "link-starts",
            Self::Links => "links",
            Self::SparseOffsets => "sparse-offsets",
            Self::SparseIndices => "sparse-indices",
            Self::SparseValues => "sparse-values",
            Self::SparseLengths => "sparse-lengths",
            Self::Terms => "terms",
            Self::TermStarts => "term-starts",
            Self::TermHighest => "term-highest",
            Self::TermLowest => "term-lowest",
            Self::PostingRows => "posting-rows",
            Self::PostingImpacts => "posting-impacts",
        }
    }

    fn name_of(number: u32) -> String {
        const ALL: [BlockKind; 29] = [
            BlockKind::Meta,
            BlockKind::KeyOffsets,
            BlockKind::KeyBytes,
            BlockKind::KeyHashes,
            BlockKind::KeyHashRows,
            BlockKind::Attributes,
            BlockKind::DenseVectors,
            BlockKind::InverseNorms,
            BlockKind::Graph,
            BlockKind::Calibration,
            BlockKind::Cells,
            BlockKind::CellCentroids,
            BlockKind::CellCodes,
            BlockKind::CellCalibration,
            BlockKind::RowSlots,
            BlockKind::Records,
            BlockKind::AttributeColumns,
            BlockKind::LinkStarts,
            BlockKind::Links,
            BlockKind::SparseOffsets,
            BlockKind::SparseIndices,
            BlockKind::SparseValues,
            BlockKind::SparseLengths,
            BlockKind::Terms,
            BlockKind::TermStarts,
            BlockKind::TermHighest,
            BlockKind::TermLowest,
            BlockKind::PostingRows,
            BlockKind::PostingImpacts,
        ];
        let known = ALL.into_iter().find(|kind| *kind as u32 == number);
        known.map_or_else(|| format!("block kind {number}"), |kind| format!("block {}", kind.name()))
    }
}

/// The meta block, as JSON. Fields that a reader does not know are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Meta {
    pub(crate) kind: SegmentKind,
    pub(crate) metric: Metric,
    pub(crate) dimension: u32,
    pub(crate) rows: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hnsw: Option<HnswParams>,
    /// Of cells: the bytes of a row's slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) slot_bytes: Option<u32>,
}

/// Where a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: u32,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) crc32c: u32,
}

/// The header that begins a file.
pub(crate) fn header() -> [u8; FRAME] {
    let mut header = [0; FRAME];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header
}

/// The footer's bytes.
pub(crate) fn footer(entries: &[Entry]) -> Vec<u8> {
    let mut footer = Vec::with_capacity(FOOTER_HEAD + ENTRY * entries.len());
    footer.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    footer.extend_from_slice(&[0; 4]);
    for entry in entries {
        footer.extend_from_slice(&entry.kind.to_le_bytes());
        footer.extend_from_slice(&entry.crc32c.to_le_bytes());
        footer.extend_from_slice(&entry.offset.to_le_bytes());
        footer.extend_from_slice(&entry.length.to_le_bytes());
        footer.extend_from_slice(&[0; 8]);
    }
    footer
}

/// The trailer that ends a file.
pub(crate) fn trailer(footer_offset: u64, footer: &[u8]) -> [u8; FRAME] {
    let mut trailer = [0; FRAME];
    trailer[..8].copy_from_slice(&footer_offset.to_le_bytes());
    trailer[8..16].copy_from_slice(&(footer.len() as u64).to_le_bytes());
    trailer[16..20].copy_from_slice(&crc32c::crc32c(footer).to_le_bytes());
    trailer[20..24].copy_from_slice(&VERSION.to_le_bytes());
    let length = align(footer_offset + footer.len() as u64) + FRAME as u64;
    trailer[24..32].copy_from_slice(&length.to_le_bytes());
    let crc = crc32c::crc32c(&trailer[..52]);
    trailer[52..56].copy_from_slice(&crc.to_le_bytes());
    trailer[56..].copy_from_slice(&MAGIC);
    trailer
}

/// The next multiple of [`ALIGNMENT`].
pub(crate) fn align(position: u64) -> u64 {
    position.next_multiple_of(ALIGNMENT)
}

/// What stands at the end of a file: where its blocks are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// In file order, adjacent but for padding.
    pub(crate) entries: Vec<Entry>,
    footer: Range<u64>,
    length: u64,
}

/// Verifies every byte of a file and returns its blocks. `expected`: what the catalog says of it.
pub(crate) fn verify(name: &str, bytes: &Bytes, expected: Option<&ObjectRef>) -> Result<Vec<Entry>, Corrupt> {
    if let Some(object) = expected
        && object.bytes != bytes.len() as u64
    {
        return Err(wrong(name, "file", format!("{} bytes", object.bytes), format!("{} bytes", bytes.len())));
    }
    let frame = Frame::read(name, bytes, bytes.len() as u64)?;
    let differs = header().iter().zip(&bytes[..FRAME]).position(|(expected, found)| expected != found);
    if let Some(at) = differs {
        let byte = |byte: u8| format!("{byte:02x} at byte {at}");
        return Err(wrong(name, "header", byte(header()[at]), byte(bytes[at])));
    }
    frame.verify_blocks(name, bytes)?;
    frame.verify_whole(name, bytes, expected)?;
    Ok(frame.entries)
}

impl Frame {
    /// Reads footer and trailer. `end`: the last bytes of a file of `length` bytes.
    pub(crate) fn read(name: &str, end: &[u8], length: u64) -> Result<Self, Corrupt> {
        let found = || format!("{} bytes", end.len());
        if end.len() < FRAME || length < 2 * FRAME as u64 || end.len() as u64 > length {
            return Err(wrong(name, "file", format!("at least {} bytes", 2 * FRAME), found()));
        }
        let start = length - end.len() as u64;
        let trailer_offset = length - FRAME as u64;
        let trailer = &end[end.len() - FRAME..];
        if trailer[56..] != MAGIC {
            return Err(wrong(name, "trailer", format!("magic {MAGIC:02x?}"), format!("{:02x?}", &trailer[56..])));
        }
        if u32_at(trailer, 20) != VERSION {
            let found = u32_at(trailer, 20).to_string();
            return Err(wrong(name, "trailer", format!("format version {VERSION}"), found));
        }
        let crc = crc32c::crc32c(&trailer[..52]);
        if u32_at(trailer, 52) != crc {
            return Err(wrong(name, "trailer", checksum(u32_at(trailer, 52)), checksum(crc)));
        }
        if u64_at(trailer, 24) != length {
            return Err(wrong(name, "trailer", format!("{} bytes", u64_at(trailer, 24)), format!("{length} bytes")));
        }
        let (footer_offset, footer_length) = (u64_at(trailer, 0), u64_at(trailer, 8));
        let footer_end = footer_offset.checked_add(footer_length);
        let footer_end = footer_end.filter(|&end| end <= trailer_offset && footer_offset >= start);
        let Some(footer_end) = footer_end else {
            let found = format!("{footer_length} bytes at {footer_offset}");
            return Err(wrong(name, "footer", format!("between {start} and {trailer_offset}"), found));
        };
        let footer = &end[(footer_offset - start) as usize..(footer_end - start) as usize];
        let crc = crc32c::crc32c(footer);
        if u32_at(trailer, 16) != crc {
            return Err(wrong(name, "footer", checksum(u32_at(trailer, 16)), checksum(crc)));
        }
        let count = if footer.len() < FOOTER_HEAD { MAX_BLOCKS } else { u32_at(footer, 0) as usize };
        if count >= MAX_BLOCKS || footer.len() != FOOTER_HEAD + ENTRY * count {
            let expected = format!("fewer than {MAX_BLOCKS} entries of {ENTRY} bytes");
            return Err(wrong(name, "footer", expected, format!("{footer_length} bytes")));
        }

        let mut entries: Vec<Entry> = Vec::with_capacity(count);
        let mut last_end = FRAME as u64;
        for raw in footer[FOOTER_HEAD..].chunks_exact(ENTRY) {
            let entry =
                Entry { kind: u32_at(raw, 0), crc32c: u32_at(raw, 4), offset: u64_at(raw, 8), length: u64_at(raw, 16) };
            let part = BlockKind::name_of(entry.kind);
            if entries.iter().any(|other| other.kind == entry.kind) {
                return Err(wrong(name, &part, "one block of a kind".to_owned(), "two".to_owned()));
            }
            let block_end = entry.offset.checked_add(entry.length).filter(|&end| end <= footer_offset);
            let Some(block_end) = block_end.filter(|_| entry.offset == align(last_end)) else {
                let found = format!("{} bytes at {}", entry.length, entry.offset);
                return Err(wrong(name, &part, format!("at {}, before {footer_offset}", align(last_end)), found));
            };
            last_end = block_end;
            entries.push(entry);
        }
        for (from, to) in [(align(last_end), footer_offset), (align(footer_end), trailer_offset)] {
            if from != to {
                return Err(wrong(name, "footer", format!("at {from}"), format!("at {to}")));
            }
        }
        Ok(Self { entries, footer: footer_offset..footer_end, length })
    }

    /// The block of this kind.
    pub(crate) fn entry(&self, kind: BlockKind) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.kind == kind as u32)
    }

    /// Verifies the blocks that lie in `end`, the last bytes of the file, and all padding there.
    pub(crate) fn verify_blocks(&self, name: &str, end: &[u8]) -> Result<(), Corrupt> {
        let start = self.length - end.len() as u64;
        let mut last_end = FRAME as u64;
        for entry in &self.entries {
            check_padding(name, end, start, last_end..entry.offset)?;
            last_end = entry.offset + entry.length;
            if entry.offset >= start {
                let crc = crc_of(&end[(entry.offset - start) as usize..(last_end - start) as usize]);
                if crc != entry.crc32c {
                    let part = BlockKind::name_of(entry.kind);
                    return Err(wrong(name, &part, checksum(entry.crc32c), checksum(crc)));
                }
            }
        }
        check_padding(name, end, start, last_end..self.footer.start)?;
        check_padding(name, end, start, self.footer.end..self.length - FRAME as u64)
    }

    /// Compares the checksum of the whole file with the catalog's. It follows from those of the blocks, the footer and the
    /// trailer: no other byte of a file may vary. `end` holds the latter two.
    pub(crate) fn verify_whole(&self, name: &str, end: &[u8], expected: Option<&ObjectRef>) -> Result<(), Corrupt> {
        let Some(object) = expected else { return Ok(()) };
        const ZEROS: [u8; ALIGNMENT as usize] = [0; ALIGNMENT as usize];
        let mut whole = crc32c::crc32c(&header());
        let mut last_end = FRAME as u64;
        for entry in &self.entries {
            whole = crc32c::crc32c_append(whole, &ZEROS[..(entry.offset - last_end) as usize]);
            whole = crc32c::crc32c_combine(whole, entry.crc32c, entry.length as usize);
            last_end = entry.offset + entry.length;
        }
        whole = crc32c::crc32c_append(whole, &ZEROS[..(self.footer.start - last_end) as usize]);
        let start = self.length - end.len() as u64;
        whole = crc32c::crc32c_append(whole, &end[(self.footer.start - start) as usize..]);
        if object.crc32c == whole { Ok(()) } else { Err(wrong(name, "file", checksum(object.crc32c), checksum(whole))) }
    }
}

fn wrong(name: &str, part: &str, expected: String, found: String) -> Corrupt {
    Corrupt { object: name.to_owned(), part: part.to_owned(), expected, found }
}

/// What of `padding` lies in `end`, which begins at `start` of the file, must be zeros.
fn check_padding(name: &str, end: &[u8], start: u64, padding: Range<u64>) -> Result<(), Corrupt> {
    if padding.start < start {
        return Ok(());
    }
    let found = end[(padding.start - start) as usize..(padding.end - start) as usize].iter().find(|&&byte| byte != 0);
    found.map_or(Ok(()), |byte| {
        Err(wrong(name, &format!("padding at {}", padding.start), "zeros".to_owned(), format!("{byte:02x}")))
    })
}

/// CRC-32C of a block; large ones by all threads.
fn crc_of(bytes: &[u8]) -> u32 {
    if bytes.len() < 2 * CRC_CHUNK {
        return crc32c::crc32c(bytes);
    }
    let parts: Vec<(u32, usize)> =
        bytes.par_chunks(CRC_CHUNK).map(|chunk| (crc32c::crc32c(chunk), chunk.len())).collect();
    parts.into_iter().fold(0, |whole, (crc, length)| crc32c::crc32c_combine(whole, crc, length))
}

fn checksum(crc: u32) -> String {
    format!("checksum {crc:08x}")
}

/// Panics unless four bytes are there; callers have checked.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

/// Panics unless eight bytes are there; callers have checked.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}
