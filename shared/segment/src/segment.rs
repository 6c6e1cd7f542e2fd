//! An open segment.

use std::path::Path;

use arrow::array::RecordBatch;
use bytes::Bytes;
use roaring::RoaringBitmap;
use tarn_model::{Metric, ObjectRef, Vector};

use crate::calibration::Calibration;
use crate::error::SegmentError;
use crate::hit::{Answer, Effort};
use crate::input::SegmentInput;
use crate::kind::SegmentKind;
use crate::query::Query;
use crate::rows::Rows;

/// Rows that can be searched: a mapped file, bytes, or rows in memory. Immutable; share it behind an `Arc`.
#[derive(Debug)]
pub struct Segment {}

impl Segment {
    /// Maps a segment file and verifies all of it. `expected`: what the catalog says the file is.
    ///
    /// # Errors
    /// [`SegmentError::Corrupt`] when any byte is not what was written; [`SegmentError::Io`].
    pub fn open(path: &Path, expected: Option<&ObjectRef>) -> Result<Self, SegmentError> {
        let _ = (path, expected);
        todo!()
    }

    /// As [`Self::open`], from bytes in memory; `name` stands in errors.
    ///
    /// # Errors
    /// [`SegmentError::Corrupt`].
    pub fn from_bytes(name: &str, bytes: Bytes) -> Result<Self, SegmentError> {
        let _ = (name, bytes);
        todo!()
    }

    /// A flat or sparse segment over rows in memory, without serialising them: what the timeline's tail is searched as.
    ///
    /// # Errors
    /// [`SegmentError::Input`].
    pub fn in_memory(input: SegmentInput) -> Result<Self, SegmentError> {
        let _ = input;
        todo!()
    }

    /// The number of rows, dead ones included.
    pub fn rows(&self) -> u32 {
        todo!()
    }

    /// How the rows are indexed.
    pub fn kind(&self) -> SegmentKind {
        todo!()
    }

    /// The distance.
    pub fn metric(&self) -> Metric {
        todo!()
    }

    /// The vectors' dimension.
    pub fn dimension(&self) -> u32 {
        todo!()
    }

    /// The point key of a row.
    ///
    /// # Panics
    /// When `row` is not below [`Self::rows`].
    pub fn key(&self, row: u32) -> &[u8] {
        let _ = row;
        todo!()
    }

    /// The row of a point; the last when several rows have the key.
    pub fn find_key(&self, key: &[u8]) -> Option<u32> {
        let _ = key;
        todo!()
    }

    /// The rows of all these points: what a builder marks deleted, what a query masks as superseded.
    pub fn rows_of_keys<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>) -> RoaringBitmap {
        let _ = keys.into_iter().count();
        todo!()
    }

    /// The vector of a row as it was given.
    ///
    /// # Panics
    /// When `row` is not below [`Self::rows`].
    pub fn vector(&self, row: u32) -> Vector {
        let _ = row;
        todo!()
    }

    /// The attribute columns, all rows.
    pub fn attributes(&self) -> &RecordBatch {
        todo!()
    }

    /// The measured recall of the graph.
    pub fn calibration(&self) -> Option<&Calibration> {
        todo!()
    }

    /// The `k` nearest of the allowed rows. `stop` is asked every few thousand rows; once it says so, the answer holds the
    /// best of what has been considered.
    ///
    /// # Errors
    /// [`SegmentError::Input`] when the query does not fit the segment.
    pub fn search(
        &self,
        query: &Query,
        k: usize,
        rows: &Rows<'_>,
        effort: Effort,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Answer, SegmentError> {
        let _ = (query, k, rows, effort, stop);
        todo!()
    }

    /// As [`Self::search`] for several queries, in their order; an exact scan reads the rows once for all of them.
    ///
    /// # Errors
    /// See [`Self::search`].
    pub fn search_many(
        &self,
        queries: &[Query],
        k: usize,
        rows: &Rows<'_>,
        effort: Effort,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Answer>, SegmentError> {
        let _ = (queries, k, rows, effort, stop);
        todo!()
    }
}
