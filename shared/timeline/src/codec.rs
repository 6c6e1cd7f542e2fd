//! Deltas as Parquet: encoded with a seal, decoded with full validation.

use arrow::array::RecordBatch;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tarn_model::{Corrupt, DataSource, DataSourceId};
use ulid::Ulid;

use crate::batch::PointBatch;

/// One upload inside a delta: a run of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchInfo {
    /// The upload's unique id.
    pub id: Ulid,
    /// How many of the delta's rows are the upload's; the uploads' rows follow each other.
    pub rows: u64,
}

/// Where a delta stands and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaHeader {
    /// The data source.
    pub source: DataSourceId,
    /// The lane.
    pub lane: u16,
    /// From 1.
    pub sequence: u64,
    /// The uploads, in row order.
    pub batches: Vec<BatchInfo>,
}

/// A decoded delta.
#[derive(Clone, Debug)]
pub struct Delta {
    /// The lane.
    pub lane: u16,
    /// From 1.
    pub sequence: u64,
    /// The uploads, in row order.
    pub batches: Vec<BatchInfo>,
    /// The rows, with the columns of [`crate::delta_schema`]. The last row of a key wins.
    pub data: RecordBatch,
    /// The object's length in bytes.
    pub bytes: u64,
}

impl Delta {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.data.num_rows()
    }

    /// The point key of a row below [`Self::rows`].
    pub fn key(&self, row: usize) -> &[u8] {
        let _ = row;
        todo!()
    }

    /// Whether a row below [`Self::rows`] is a tombstone.
    pub fn is_deleted(&self, row: usize) -> bool {
        let _ = row;
        todo!()
    }

    /// What the delta takes in memory, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.data.get_array_memory_size()
    }
}

/// Encodes a delta. `batch` holds the rows of `batches`, in their order.
///
/// # Errors
/// More rows than a delta takes, or row counts that do not add up.
pub fn encode_delta(lane: u16, sequence: u64, batches: &[BatchInfo], batch: &PointBatch) -> Result<Bytes, Corrupt> {
    let _ = (lane, sequence, batches, batch);
    todo!()
}

/// Decodes and validates a delta. `object` is its key, for the error.
///
/// # Errors
/// [`Corrupt`] when a single bit is not as it was written, or what was written is no delta of this source and place.
pub fn decode_delta(
    object: &str,
    source: &DataSource,
    lane: u16,
    sequence: u64,
    bytes: &Bytes,
) -> Result<Delta, Corrupt> {
    let _ = (object, source, lane, sequence, bytes);
    todo!()
}

/// Reads a delta's header alone, after the same check of its seal.
///
/// # Errors
/// See [`decode_delta`].
pub fn decode_header(object: &str, bytes: &Bytes) -> Result<DeltaHeader, Corrupt> {
    let _ = (object, bytes);
    todo!()
}
