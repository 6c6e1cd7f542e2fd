//! A run: the last update of every key in some consecutive deltas, as one segment in memory.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::atomic::AtomicU64;

use arrow::array::{Array, BinaryArray};
use roaring::RoaringBitmap;
use tarn_segment::{Segment, SegmentInput, Vectors};

use crate::definition::Place;
use crate::expiry::Expiry;
use crate::splits::Directory;

/// Some consecutive deltas, reduced to the last update of each key. Immutable.
#[derive(Debug)]
pub(crate) struct Run {
    /// Unique in the process; names the run in the filter cache.
    pub(crate) id: u64,
    pub(super) last: u64,
    /// The upserts, sorted by shard, split, key; `None` when there are tombstones alone.
    pub(super) stored: Option<Stored>,
    /// Every key that was written or deleted, in the same order.
    pub(super) touched: BinaryArray,
    /// The sequence of each touched key's last update.
    pub(super) sequences: Vec<u64>,
    /// The touched keys and rows of each place, in order.
    pub(super) groups: Vec<Group>,
    /// For each shard of the index, its splits among the rows; `segment` is 0 in all entries.
    pub(super) directories: Vec<Directory>,
    /// Which rows have expired.
    pub(crate) expiry: Expiry,
}

/// The upserts of a run.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) segment: Segment,
    /// What the segment was made of, for the next merge. Shares its buffers.
    pub(super) input: SegmentInput,
    /// The sequence of each row.
    pub(super) sequences: Vec<u64>,
}

/// The touched keys and the rows of one split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// The shard's position.
    pub(crate) shard: u32,
    /// The split's key.
    pub(crate) split: Box<[u8]>,
    /// Positions among the touched keys.
    pub(crate) touched: Range<u32>,
    /// Rows of the segment.
    pub(crate) rows: Range<u32>,
}

impl Run {
    /// The next id.
    pub(super) fn next_id() -> u64 {
        segment_number()
    }

    /// The last sequence that the run covers.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// How many keys were written or deleted.
    pub(crate) fn touched(&self) -> usize {
        self.sequences.len()
    }

    /// The memory that its columns take.
    pub(crate) fn bytes(&self) -> usize {
        self.touched.get_array_memory_size() + self.stored.as_ref().map_or(0, |stored| input_bytes(&stored.input))
    }

    /// The upserts.
    pub(crate) fn segment(&self) -> Option<&Segment> {
        self.stored.as_ref().map(|stored| &stored.segment)
    }

    /// The places of the run's keys, in order.
    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The splits of a shard among the rows.
    pub(crate) fn directory(&self, shard: u32) -> Option<&Directory> {
        self.directories.get(shard as usize)
    }

    /// The keys of a group whose last update came after `sequence`.
    pub(crate) fn keys_after<'r>(&'r self, group: &Group, sequence: u64) -> impl Iterator<Item = &'r [u8]> + use<'r> {
        let touched = group.touched.start as usize..group.touched.end as usize;
        touched.filter(move |&i| self.sequences[i] > sequence).map(|i| self.touched.value(i))
    }

    /// When a point was last updated, if it was; `place` is where its key belongs.
    pub(crate) fn last_update(&self, place: &Place, key: &[u8]) -> Option<u64> {
        let at = |group: &Group| (group.shard, &*group.split).cmp(&(place.shard, &*place.split));
        let group = &self.groups[self.groups.binary_search_by(at).ok()?];
        let (mut low, mut high) = (group.touched.start as usize, group.touched.end as usize);
        while low < high {
            let middle = low.midpoint(high);
            match self.touched.value(middle).cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return self.sequences.get(middle).copied(),
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// All keys whose last update came after `sequence`.
    pub(crate) fn touched_after(&self, sequence: u64) -> impl Iterator<Item = &[u8]> {
        (0..self.touched.len()).filter(move |&i| self.sequences[i] > sequence).map(|i| self.touched.value(i))
    }

    /// The rows that have one of these keys.
    pub(crate) fn rows_of<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> RoaringBitmap {
        self.stored.as_ref().map_or_else(RoaringBitmap::new, |stored| stored.segment.rows_of_keys(keys))
    }

    /// The rows written at or before `sequence`.
    pub(crate) fn rows_up_to(&self, sequence: u64) -> RoaringBitmap {
        let sequences = self.stored.as_ref().map_or(&[][..], |stored| &stored.sequences);
        sequences.iter().zip(0..).filter(|&(&s, _)| s <= sequence).map(|(_, row)| row).collect()
    }
}

fn input_bytes(input: &SegmentInput) -> usize {
    let vectors = match &input.vectors {
        Vectors::Dense(values) => values.inner().len(),
        Vectors::Sparse { indices, values, .. } => indices.inner().len() + values.inner().len(),
    };
    input.keys.get_array_memory_size() + input.attributes.get_array_memory_size() + vectors
}

/// A number for a segment, unique in the process, so that a cache never takes one for another.
pub(crate) fn segment_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
