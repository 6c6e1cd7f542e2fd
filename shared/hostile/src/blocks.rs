//! Segment files as lists of blocks, in a form that mutations do not tear apart.
//!
//! In this form a block is a mark of three bytes, its kind in one, and its contents up to the next mark. Bytes may come and
//! go inside a block without moving any other; [`assemble`] then builds a frame with true offsets and checksums around them,
//! after docs/formats/segment.md and not after the code that it tests.

use std::ops::Range;

const MARK: [u8; 3] = [0xb1, 0x0c, 0xf5];
const MAGIC: &[u8; 8] = b"TARN-SEG";
const VERSION: u32 = 1;
const FRAME: usize = 64;
const ENTRY: usize = 32;
/// No more are taken from an input.
const MOST: usize = 64;

/// A block's kind and contents.
pub(crate) type Block = (u32, Vec<u8>);

pub(crate) fn join(blocks: &[Block]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, contents) in blocks {
        out.extend_from_slice(&MARK);
        out.push(u8::try_from(*kind).unwrap_or(0));
        out.extend_from_slice(contents);
    }
    out
}

pub(crate) fn split(mut bytes: &[u8]) -> Vec<Block> {
    let mark = |bytes: &[u8]| bytes.windows(MARK.len()).position(|window| window == MARK);
    let mut blocks = Vec::new();
    while blocks.len() < MOST
        && let Some(at) = mark(bytes)
        && let Some((&kind, rest)) = bytes[at + MARK.len()..].split_first()
    {
        let end = mark(rest).unwrap_or(rest.len());
        blocks.push((u32::from(kind), rest[..end].to_vec()));
        bytes = &rest[end..];
    }
    blocks
}

/// A file of these blocks, in their order.
pub(crate) fn assemble(blocks: &[Block]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.resize(FRAME, 0);
    let mut footer = Vec::new();
    footer.extend_from_slice(&(blocks.len() as u32).to_le_bytes());
    footer.extend_from_slice(&[0; 4]);
    for (kind, contents) in blocks {
        pad(&mut out);
        footer.extend_from_slice(&kind.to_le_bytes());
        footer.extend_from_slice(&crc32c::crc32c(contents).to_le_bytes());
        footer.extend_from_slice(&(out.len() as u64).to_le_bytes());
        footer.extend_from_slice(&(contents.len() as u64).to_le_bytes());
        footer.extend_from_slice(&[0; 8]);
        out.extend_from_slice(contents);
    }
    pad(&mut out);
    let at = out.len();
    out.extend_from_slice(&footer);
    pad(&mut out);
    let mut trailer = [0; FRAME];
    trailer[..8].copy_from_slice(&(at as u64).to_le_bytes());
    trailer[8..16].copy_from_slice(&(footer.len() as u64).to_le_bytes());
    trailer[20..24].copy_from_slice(&VERSION.to_le_bytes());
    trailer[56..].copy_from_slice(MAGIC);
    out.extend_from_slice(&trailer);
    seal_frame(&mut out);
    out
}

/// The blocks of a valid file.
pub(crate) fn take_apart(file: &[u8]) -> Vec<Block> {
    places(file).map(|(kind, range)| (kind, file[range].to_vec())).collect()
}

/// Kinds of blocks, and where they are, if the file is right.
pub(crate) fn places(file: &[u8]) -> impl Iterator<Item = (u32, Range<usize>)> + '_ {
    entries(footer(file).map_or(&[], |footer| &file[footer]))
}

/// Makes the checksums of a file true, as far as what they cover can be found, and its length.
pub(crate) fn seal_frame(file: &mut [u8]) {
    let Some(trailer) = file.len().checked_sub(FRAME) else { return };
    let length = file.len() as u64;
    if let Some(footer) = footer(file) {
        let sums: Vec<(usize, u32)> = entries(&file[footer.clone()])
            .enumerate()
            .filter_map(|(number, (_, range))| Some((number, crc32c::crc32c(file.get(range)?))))
            .collect();
        for (number, sum) in sums {
            let at = footer.start + 8 + ENTRY * number + 4;
            file[at..at + 4].copy_from_slice(&sum.to_le_bytes());
        }
        let sum = crc32c::crc32c(&file[footer]);
        file[trailer + 16..trailer + 20].copy_from_slice(&sum.to_le_bytes());
    }
    file[trailer + 24..trailer + 32].copy_from_slice(&length.to_le_bytes());
    let sum = crc32c::crc32c(&file[trailer..trailer + 52]);
    file[trailer + 52..trailer + 56].copy_from_slice(&sum.to_le_bytes());
}

fn footer(file: &[u8]) -> Option<Range<usize>> {
    let trailer = file.get(file.len().checked_sub(FRAME)?..)?;
    let start = usize::try_from(u64_at(trailer, 0)?).ok()?;
    let end = start.checked_add(usize::try_from(u64_at(trailer, 8)?).ok()?)?;
    (end <= file.len() - FRAME && start <= end).then_some(start..end)
}

fn entries(footer: &[u8]) -> impl Iterator<Item = (u32, Range<usize>)> + '_ {
    footer.get(8..).unwrap_or_default().chunks_exact(ENTRY).filter_map(|entry| {
        let start = usize::try_from(u64_at(entry, 8)?).ok()?;
        Some((u32_at(entry, 0)?, start..start.checked_add(usize::try_from(u64_at(entry, 16)?).ok()?)?))
    })
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(64), 0);
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|raw| u32::from_le_bytes(*raw))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|raw| u64::from_le_bytes(*raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_survive_every_form() {
        let blocks: Vec<Block> = vec![(1, b"{}".to_vec()), (2, Vec::new()), (20, vec![0xb1; 100])];
        assert_eq!(split(&join(&blocks)), blocks);
        let file = assemble(&blocks);
        assert_eq!(take_apart(&file), blocks);
        let mut changed = file.clone();
        changed[64] ^= 1;
        seal_frame(&mut changed);
        assert_eq!(take_apart(&changed)[0].1, b"z}");
        seal_frame(&mut changed[..70]);
        assert!(take_apart(&[0; 200]).is_empty() && split(b"no marks").is_empty());
    }
}
