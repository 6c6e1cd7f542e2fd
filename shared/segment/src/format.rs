//! The layout of a segment file: blocks, footer, trailer. docs/formats/segment.md gives it to the byte.
//!
//! Owns `every-byte-is-covered`: a byte is in a checksummed block, in the checksummed footer or trailer, or is padding or
//! header that must have one value. So no change of a file goes unseen.

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
        const ALL: [BlockKind; 24] = [
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

/// Verifies every byte of a file and returns its blocks. `expected`: what the catalog says of it.
pub(crate) fn verify(name: &str, bytes: &Bytes, expected: Option<&ObjectRef>) -> Result<Vec<Entry>, Corrupt> {
    let wrong = |part: &str, expected: String, found: String| Corrupt {
        object: name.to_owned(),
        part: part.to_owned(),
        expected,
        found,
    };
    if let Some(object) = expected
        && object.bytes != bytes.len() as u64
    {
        return Err(wrong("file", format!("{} bytes", object.bytes), format!("{} bytes", bytes.len())));
    }
    if bytes.len() < 2 * FRAME {
        return Err(wrong("file", format!("at least {} bytes", 2 * FRAME), format!("{} bytes", bytes.len())));
    }
    let trailer_offset = bytes.len() - FRAME;
    let trailer = &bytes[trailer_offset..];
    if trailer[56..] != MAGIC {
        return Err(wrong("trailer", format!("magic {MAGIC:02x?}"), format!("{:02x?}", &trailer[56..])));
    }
    if u32_at(trailer, 20) != VERSION {
        return Err(wrong("trailer", format!("format version {VERSION}"), u32_at(trailer, 20).to_string()));
    }
    let crc = crc32c::crc32c(&trailer[..52]);
    if u32_at(trailer, 52) != crc {
        return Err(wrong("trailer", checksum(u32_at(trailer, 52)), checksum(crc)));
    }
    if u64_at(trailer, 24) != bytes.len() as u64 {
        return Err(wrong("trailer", format!("{} bytes", u64_at(trailer, 24)), format!("{} bytes", bytes.len())));
    }
    let differs = header().iter().zip(&bytes[..FRAME]).position(|(expected, found)| expected != found);
    if let Some(at) = differs {
        let byte = |byte: u8| format!("{byte:02x} at byte {at}");
        return Err(wrong("header", byte(header()[at]), byte(bytes[at])));
    }

    let (footer_offset, footer_length) = (u64_at(trailer, 0), u64_at(trailer, 8));
    let footer_end = footer_offset.checked_add(footer_length).filter(|&end| end <= trailer_offset as u64);
    let Some(footer_end) = footer_end else {
        let found = format!("{footer_length} bytes at {footer_offset}");
        return Err(wrong("footer", format!("to end before {trailer_offset}"), found));
    };
    let footer = &bytes[footer_offset as usize..footer_end as usize];
    let crc = crc32c::crc32c(footer);
    if u32_at(trailer, 16) != crc {
        return Err(wrong("footer", checksum(u32_at(trailer, 16)), checksum(crc)));
    }
    let count = if footer.len() < FOOTER_HEAD { MAX_BLOCKS } else { u32_at(footer, 0) as usize };
    if count >= MAX_BLOCKS || footer.len() != FOOTER_HEAD + ENTRY * count {
        return Err(wrong(
            "footer",
            format!("fewer than {MAX_BLOCKS} entries of {ENTRY} bytes"),
            format!("{footer_length} bytes"),
        ));
    }

    let mut entries: Vec<Entry> = Vec::with_capacity(count);
    let mut end = FRAME as u64;
    let mut whole = crc32c::crc32c(&bytes[..FRAME]);
    for raw in footer[FOOTER_HEAD..].chunks_exact(ENTRY) {
        let entry =
            Entry { kind: u32_at(raw, 0), crc32c: u32_at(raw, 4), offset: u64_at(raw, 8), length: u64_at(raw, 16) };
        let part = BlockKind::name_of(entry.kind);
        if entries.iter().any(|other| other.kind == entry.kind) {
            return Err(wrong(&part, "one block of a kind".to_owned(), "two".to_owned()));
        }
        let block_end = entry.offset.checked_add(entry.length).filter(|&end| end <= footer_offset);
        let Some(block_end) = block_end.filter(|_| entry.offset == align(end)) else {
            let found = format!("{} bytes at {}", entry.length, entry.offset);
            return Err(wrong(&part, format!("at {}, before {footer_offset}", align(end)), found));
        };
        check_padding(name, bytes, end, entry.offset)?;
        whole = crc32c::crc32c_append(whole, &bytes[end as usize..entry.offset as usize]);
        let block = &bytes[entry.offset as usize..block_end as usize];
        let crc = crc_of(block);
        if crc != entry.crc32c {
            return Err(wrong(&part, checksum(entry.crc32c), checksum(crc)));
        }
        whole = crc32c::crc32c_combine(whole, crc, block.len());
        end = block_end;
        entries.push(entry);
    }
    for (from, to) in [(align(end), footer_offset), (align(footer_end), trailer_offset as u64)] {
        if from != to {
            return Err(wrong("footer", format!("at {from}"), format!("at {to}")));
        }
    }
    check_padding(name, bytes, end, footer_offset)?;
    check_padding(name, bytes, footer_end, trailer_offset as u64)?;
    whole = crc32c::crc32c_append(whole, &bytes[end as usize..]);
    if let Some(object) = expected
        && object.crc32c != whole
    {
        return Err(wrong("file", checksum(object.crc32c), checksum(whole)));
    }
    Ok(entries)
}

fn check_padding(name: &str, bytes: &Bytes, from: u64, to: u64) -> Result<(), Corrupt> {
    let found = bytes[from as usize..to as usize].iter().find(|&&byte| byte != 0);
    found.map_or(Ok(()), |byte| {
        Err(Corrupt {
            object: name.to_owned(),
            part: format!("padding at {from}"),
            expected: "zeros".to_owned(),
            found: format!("{byte:02x}"),
        })
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
