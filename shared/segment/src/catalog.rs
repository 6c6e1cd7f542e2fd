//! The catalog of a shard: which segments it has, which rows of them are dead, and where each split's rows are.

use std::ops::Range;

use bytes::Bytes;
use roaring::RoaringBitmap;
use tarn_model::{Corrupt, ObjectRef, SplitKey};

use crate::error::SegmentError;
use crate::kind::SegmentKind;

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
    /// Rows, dead ones included.
    pub rows: u32,
    /// Rows that newer segments or tombstones have replaced.
    pub deleted: RoaringBitmap,
    /// The splits' row ranges: ascending by row, adjacent, covering all rows.
    pub splits: Vec<SplitRows>,
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
    /// As an Arrow IPC file, one row per segment.
    ///
    /// # Errors
    /// [`SegmentError::Input`] when an invariant does not hold.
    pub fn encode(&self) -> Result<Bytes, SegmentError> {
        todo!()
    }

    /// Parses and checks a catalog; `object` is its key, for the error.
    ///
    /// # Errors
    /// [`Corrupt`] when the bytes are not a catalog or its invariants do not hold.
    pub fn decode(object: &str, bytes: &Bytes) -> Result<Self, Corrupt> {
        let _ = (object, bytes);
        todo!()
    }
}
