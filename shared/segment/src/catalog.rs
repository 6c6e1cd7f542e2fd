//! The catalog of a shard: which segments it has, which rows of them are dead, and where each split's rows are.
//!
//! One small table per shard, whatever the number of splits: an Arrow IPC stream with one row per segment, compressed, and a
//! trailer with its checksum, which Arrow readers ignore. docs/formats/catalog.md describes it.
//!
//! Owns `splits-cover-their-segment`: the splits of a segment are disjoint, adjacent and cover all rows, each split once;
//! `deleted-rows-exist`; `outline-is-in-its-segment`; and `statistics-count-live-rows`.

mod codec;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;
use tarn_model::{Corrupt, ObjectRef, SplitKey};

use crate::error::SegmentError;
use crate::kind::SegmentKind;
use crate::statistics::Statistics;

/// The segments of one shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalog {
    /// The shard's id in the index definition.
    pub shard: String,
    /// In the order in which they were built.
    pub segments: Vec<CatalogSegment>,
}

/// One segment of a shard.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogSegment {
    /// The segment file.
    pub object: ObjectRef,
    /// How its rows are indexed.
    pub kind: SegmentKind,
    /// How many of the file's last bytes an [`Outline`][crate::Outline] is read from; 0 when the file can only be read
    /// whole.
    pub outline: u64,
    /// Rows, dead ones included.
    pub rows: u32,
    /// Rows that newer segments or tombstones have replaced.
    pub deleted: RoaringBitmap,
    /// The splits' row ranges: ascending by row, adjacent, covering all rows.
    pub splits: Vec<SplitRows>,
    /// What the rows that are not deleted are like, if the builder has counted.
    pub statistics: Option<Arc<Statistics>>,
}

/// The rows of one split in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitRows {
    /// Canonical bytes of the split attributes.
    pub key: SplitKey,
    /// Not empty.
    pub rows: Range<u32>,
}

impl Catalog {
    /// The bytes of the catalog object.
    ///
    /// # Errors
    /// [`SegmentError::Input`] when an invariant does not hold, or the table is larger than readers accept.
    pub fn encode(&self) -> Result<Bytes, SegmentError> {
        for segment in &self.segments {
            segment.check().map_err(|(part, found)| {
                SegmentError::Input(format!("{part} of segment {}: {found}", segment.object.id))
            })?;
        }
        codec::encode(self, codec::TABLE_BYTES).map_err(|error| SegmentError::Input(format!("catalog: {error}")))
    }

    /// Parses and checks a catalog; `object` is its key, for the error.
    ///
    /// # Errors
    /// [`Corrupt`] when the bytes are not a catalog or its invariants do not hold.
    pub fn decode(object: &str, bytes: &Bytes) -> Result<Self, Corrupt> {
        let catalog = codec::decode(object, bytes)?;
        for segment in &catalog.segments {
            segment.check().map_err(|(part, found)| Corrupt {
                object: object.to_owned(),
                part: format!("segment {}", segment.object.id),
                expected: part.to_owned(),
                found,
            })?;
        }
        Ok(catalog)
    }
}

impl CatalogSegment {
    /// Rows that are not deleted.
    pub fn live_rows(&self) -> u64 {
        u64::from(self.rows) - self.deleted.len()
    }

    /// All four invariants. The id of the one that does not hold, and what was found instead.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let mut end = 0;
        let mut keys = HashSet::with_capacity(self.splits.len());
        for split in &self.splits {
            if split.rows.start != end || split.rows.end <= end {
                return Err(("splits-cover-their-segment", format!("rows {:?} after row {end}", split.rows)));
            }
            if !keys.insert(split.key.0.as_slice()) {
                return Err(("splits-cover-their-segment", format!("split {:02x?} twice", split.key.0)));
            }
            end = split.rows.end;
        }
        if end != self.rows {
            return Err(("splits-cover-their-segment", format!("splits end at {end} of {} rows", self.rows)));
        }
        if self.outline > self.object.bytes {
            let found = format!("an outline of {} bytes in a file of {}", self.outline, self.object.bytes);
            return Err(("outline-is-in-its-segment", found));
        }
        if let Some(row) = self.deleted.max().filter(|&row| row >= self.rows) {
            return Err(("deleted-rows-exist", format!("row {row} of {}", self.rows)));
        }
        match &self.statistics {
            Some(statistics) if statistics.rows() != self.live_rows() => Err((
                "statistics-count-live-rows",
                format!("statistics of {} rows, and {} are live", statistics.rows(), self.live_rows()),
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
