//! Row slots: a row's vector and its record side by side, so that one read brings both.
//!
//! A slot is the vector, a checksum, the record's length, the record, and zeros. A record that does not fit stands in a
//! block of its own, and the slot says where. The checksum begins with the number of the row, which is not stored: a slot
//! cannot pass for another one.

use std::io::Write;

use rayon::prelude::*;

use crate::dense::DenseRows;
use crate::record::Records;

/// Before the record: its checksum and its length.
const HEAD: usize = 6;
/// Stands for a length when the record is elsewhere.
const ELSEWHERE: u16 = u16::MAX;
/// Where it is: an offset, a length, a checksum.
const PLACE: usize = 16;
/// The area after the vector is at most this, or a quarter of the vector if that is more.
const SMALL_AREA: usize = 64;
/// Slots that are made before they are written, and by one thread.
const BATCH: usize = 4096;
const SHARE: usize = 256;

/// How large slots are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotLayout {
    pub(crate) dimension: usize,
    /// A multiple of four.
    pub(crate) bytes: usize,
}

/// Where a row's record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored<'a> {
    /// In the slot.
    Here(&'a [u8]),
    /// In the block of records.
    Elsewhere(Place),
}

/// A record in the block of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) length: u32,
    pub(crate) crc32c: u32,
}

impl SlotLayout {
    /// As stored; `None` when no slot can be so large or small.
    pub(crate) fn new(dimension: u32, bytes: u32) -> Option<Self> {
        let (dimension, bytes) = (dimension as usize, bytes as usize);
        let layout = Self { dimension, bytes };
        let fits = bytes.is_multiple_of(4) && bytes >= layout.vector() + HEAD && layout.room() < usize::from(ELSEWHERE);
        fits.then_some(layout)
    }

    /// Bytes of the vector.
    pub(crate) fn vector(self) -> usize {
        4 * self.dimension
    }

    /// From a vector to the next, in coordinates.
    pub(crate) fn stride(self) -> usize {
        self.bytes / 4
    }

    /// Bytes for the record.
    fn room(self) -> usize {
        self.bytes - self.vector() - HEAD
    }

    /// The smallest slots in which 99 of 100 records fit, within bounds.
    fn of(dimension: usize, lengths: &[u32]) -> Self {
        let mut sorted = lengths.to_vec();
        let at = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
        let most = match sorted.get(at) {
            Some(_) => *sorted.select_nth_unstable(at).1 as usize,
            None => 0,
        };
        let area = (HEAD + most).min(SMALL_AREA.max(dimension));
        let all_fit = lengths.iter().all(|&length| HEAD + length as usize <= area);
        let area = if all_fit { area } else { area.max(HEAD + PLACE) };
        Self { dimension, bytes: (4 * dimension + area).next_multiple_of(4) }
    }

    /// Writes a slot, which is zeros.
    fn put(self, row: u32, vector: &[f32], stored: Stored<'_>, slot: &mut [u8]) {
        let (values, area) = slot.split_at_mut(self.vector());
        for (bytes, x) in values.chunks_exact_mut(4).zip(vector) {
            bytes.copy_from_slice(&x.to_le_bytes());
        }
        let (head, record) = area.split_at_mut(HEAD);
        let length = match stored {
            Stored::Here(bytes) => {
                record[..bytes.len()].copy_from_slice(bytes);
                bytes.len() as u16
            }
            Stored::Elsewhere(place) => {
                record[..8].copy_from_slice(&place.offset.to_le_bytes());
                record[8..12].copy_from_slice(&place.length.to_le_bytes());
                record[12..PLACE].copy_from_slice(&place.crc32c.to_le_bytes());
                ELSEWHERE
            }
        };
        head[4..].copy_from_slice(&length.to_le_bytes());
        let crc = self.checksum(row, slot);
        slot[self.vector()..self.vector() + 4].copy_from_slice(&crc.to_le_bytes());
    }

    /// Of the row's number and all of its slot but the checksum.
    fn checksum(self, row: u32, slot: &[u8]) -> u32 {
        let crc = crc32c::crc32c(&row.to_le_bytes());
        let crc = crc32c::crc32c_append(crc, &slot[..self.vector()]);
        crc32c::crc32c_append(crc, &slot[self.vector() + 4..])
    }

    /// Verifies a slot; the vector's bytes, and where the record is. Says what is wrong with it.
    pub(crate) fn read(self, row: u32, slot: &[u8]) -> Result<(&[u8], Stored<'_>), String> {
        if slot.len() != self.bytes {
            return Err(format!("{} bytes, not {}", slot.len(), self.bytes));
        }
        let (vector, area) = slot.split_at(self.vector());
        let stored = u32::from_le_bytes([area[0], area[1], area[2], area[3]]);
        let crc = self.checksum(row, slot);
        if crc != stored {
            return Err(format!("checksum {crc:08x}, not {stored:08x}"));
        }
        let length = u16::from_le_bytes([area[4], area[5]]);
        let record = &area[HEAD..];
        if length != ELSEWHERE {
            let record = record.get(..usize::from(length));
            return Ok((vector, Stored::Here(record.ok_or_else(|| format!("a record of {length} bytes"))?)));
        }
        let (Some((offset, rest)), true) = (record.split_first_chunk::<8>(), record.len() >= PLACE) else {
            return Err("no room to say where the record is".to_owned());
        };
        let number = |at: usize| u32::from_le_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        let place = Place { offset: u64::from_le_bytes(*offset), length: number(0), crc32c: number(4) };
        Ok((vector, Stored::Elsewhere(place)))
    }
}

/// Slots about to be written.
pub(crate) struct Slots<'a> {
    pub(crate) layout: SlotLayout,
    rows: &'a DenseRows,
    order: &'a [u32],
    records: &'a Records<'a>,
    /// Rows whose records do not fit, by their place in the file, and where those go.
    elsewhere: Vec<(u32, u64)>,
}

impl<'a> Slots<'a> {
    /// `order`: the row of `rows` that comes first, second, …; `records` has them in that order.
    pub(crate) fn new(rows: &'a DenseRows, order: &'a [u32], records: &'a Records<'a>) -> Self {
        let length = |record: &mut Vec<u8>, row: usize| {
            record.clear();
            records.append(row as u32, record);
            record.len() as u32
        };
        let lengths: Vec<u32> = (0..order.len()).into_par_iter().map_init(Vec::new, length).collect();
        let layout = SlotLayout::of(rows.dimension, &lengths);
        let mut end = 0;
        let mut elsewhere = Vec::new();
        for (row, &length) in (0u32..).zip(&lengths).filter(|(_, length)| **length as usize > layout.room()) {
            elsewhere.push((row, end));
            end += u64::from(length);
        }
        Self { layout, rows, order, records, elsewhere }
    }

    /// Writes all slots.
    pub(crate) fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let mut batch = vec![0u8; BATCH.min(self.order.len()) * self.layout.bytes];
        for first in (0..self.order.len()).step_by(BATCH) {
            let count = BATCH.min(self.order.len() - first);
            let batch = &mut batch[..count * self.layout.bytes];
            batch.par_chunks_mut(SHARE * self.layout.bytes).enumerate().for_each(|(share, slots)| {
                slots.fill(0);
                let mut record = Vec::new();
                for (slot, at) in slots.chunks_exact_mut(self.layout.bytes).zip(first + share * SHARE..) {
                    self.put(at, &mut record, slot);
                }
            });
            out.write_all(batch)?;
        }
        Ok(())
    }

    fn put(&self, at: usize, record: &mut Vec<u8>, slot: &mut [u8]) {
        let row = at as u32;
        record.clear();
        self.records.append(row, record);
        let stored = if record.len() <= self.layout.room() {
            Stored::Here(record)
        } else {
            let place = self.elsewhere.partition_point(|(other, _)| *other < row);
            let offset = self.elsewhere.get(place).map_or(0, |(_, offset)| *offset);
            let crc32c = crc32c::crc32c(record);
            Stored::Elsewhere(Place { offset, length: record.len() as u32, crc32c })
        };
        self.layout.put(row, self.rows.row(self.order[at]), stored, slot);
    }

    /// Writes the records that have no room in their slots.
    pub(crate) fn write_records(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let mut record = Vec::new();
        for &(row, _) in &self.elsewhere {
            record.clear();
            self.records.append(row, &mut record);
            out.write_all(&record)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: SlotLayout = SlotLayout { dimension: 3, bytes: 40 };

    #[test]
    fn slots_are_as_large_as_99_of_100_records_need() {
        let bytes = |dimension, lengths: &[u32]| SlotLayout::of(dimension, lengths).bytes - 4 * dimension;
        assert_eq!(bytes(10, &[]), 8);
        assert_eq!(bytes(10, &[20; 100]), 28);
        assert_eq!(bytes(10, &[vec![20; 99], vec![5000]].concat()), 28);
        assert_eq!(bytes(10, &[vec![20; 98], vec![40; 2]].concat()), 48);
        // No more than a quarter of the vector, or 64; and enough to say where the others are.
        assert_eq!(bytes(100, &[200; 100]), 100);
        assert_eq!(bytes(10, &[200; 100]), 64);
        assert_eq!(bytes(10, &[vec![2; 199], vec![3]].concat()), 24);
        assert_eq!(bytes(10, &[2; 100]), 8);
    }

    #[test]
    fn a_slot_gives_back_what_was_put_into_it() {
        let place = Place { offset: 1 << 40, length: 77, crc32c: 0xdead_beef };
        let record: Vec<u8> = (0..22).collect();
        for stored in [Stored::Here(&[]), Stored::Here(&record), Stored::Elsewhere(place)] {
            let mut slot = [0u8; 40];
            LAYOUT.put(5, &[1.0, -2.0, 0.5], stored, &mut slot);
            let (vector, found) = LAYOUT.read(5, &slot).unwrap();
            assert_eq!((vector, found), ([1.0f32, -2.0, 0.5].map(f32::to_le_bytes).as_flattened(), stored));
            assert!(LAYOUT.read(6, &slot).unwrap_err().contains("checksum"), "another row's slot");
            assert!(LAYOUT.read(5, &slot[..39]).is_err());
            for bit in 0..slot.len() * 8 {
                let mut changed = slot;
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(LAYOUT.read(5, &changed).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn sizes_that_no_slot_has_are_refused() {
        assert_eq!(SlotLayout::new(3, 40), Some(LAYOUT));
        for bytes in [0, 12, 16, 41, 12 + 70_000] {
            assert_eq!(SlotLayout::new(3, bytes), None, "{bytes}");
        }
    }
}
