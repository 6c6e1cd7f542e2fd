//! Deltas as Parquet: encoded with a seal, decoded with full validation.
//!
//! Decoding never trusts bytes: the seal is checked before the Parquet reader sees them, what the reader returns is checked
//! against the data source and the object's place, and the reader itself runs behind a fence that turns a panic into
//! [`Corrupt`], for the case of sealed nonsense. The format is described in `docs/formats/delta.md`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::{AsArray, BinaryArray, BooleanArray, RecordBatch};
use arrow::compute::concat_batches;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::KeyValue;
use serde::{Deserialize, Serialize};
use tarn_model::{Corrupt, DataSource, DataSourceId, ObjectKey, ValidationError};
use ulid::Ulid;

use crate::batch::PointBatch;
use crate::canonical::{Broken, check_delta};
use crate::schema::{MAX_DELTA_ROWS, check_vector_bytes, delta_schema, writer_properties};
use crate::seal;

/// The format that is written, and the only one so far.
const DELTA_FORMAT: &str = "1";

const FORMAT_ENTRY: &str = "tarn.format";
const SOURCE_ENTRY: &str = "tarn.source";
const VERSION_ENTRY: &str = "tarn.version";
const LANE_ENTRY: &str = "tarn.lane";
const SEQUENCE_ENTRY: &str = "tarn.sequence";
const BATCHES_ENTRY: &str = "tarn.batches";

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
    keys: BinaryArray,
    deleted: BooleanArray,
}

impl Delta {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.data.num_rows()
    }

    /// The point key of a row below [`Self::rows`].
    pub fn key(&self, row: usize) -> &[u8] {
        self.keys.value(row)
    }

    /// The point keys.
    pub fn keys(&self) -> &BinaryArray {
        &self.keys
    }

    /// Whether a row below [`Self::rows`] is a tombstone.
    pub fn is_deleted(&self, row: usize) -> bool {
        self.deleted.value(row)
    }

    /// What the delta takes in memory, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.data.get_array_memory_size()
    }
}

/// Encodes a delta. `batch` holds the rows of `batches`, in their order.
///
/// # Errors
/// [`Corrupt`] when the arguments contradict each other (an internal error, refused before it becomes durable): more rows
/// than a delta takes, or row counts that do not add up.
pub fn encode_delta(lane: u16, sequence: u64, batches: &[BatchInfo], batch: &PointBatch) -> Result<Bytes, Corrupt> {
    let source = batch.source();
    let object = ObjectKey::Delta { source: source.id.clone(), lane, sequence }.render();
    check_rows(batches, batch.rows()).map_err(|broken| broken.in_object(&object))?;
    let too_large = |error: ValidationError| Broken::new("rows", error.to_string(), batch.rows().to_string());
    check_vector_bytes(source, batch.rows()).map_err(|error| too_large(error).in_object(&object))?;
    let internal = |error: &dyn std::fmt::Display| {
        Broken::new("encoding", "columns that Parquet can hold", error.to_string()).in_object(&object)
    };
    let batches = serde_json::to_string(batches).map_err(|error| internal(&error))?;
    let entry = |name: &str, value: String| KeyValue::new(name.to_owned(), value);
    let entries = vec![
        entry(FORMAT_ENTRY, DELTA_FORMAT.to_owned()),
        entry(SOURCE_ENTRY, source.id.name.clone()),
        entry(VERSION_ENTRY, source.id.version.clone()),
        entry(LANE_ENTRY, lane.to_string()),
        entry(SEQUENCE_ENTRY, sequence.to_string()),
        entry(BATCHES_ENTRY, batches),
    ];
    // One row group: a delta is read as a whole.
    let properties = writer_properties(source)
        .set_max_row_group_row_count(Some(MAX_DELTA_ROWS))
        .set_key_value_metadata(Some(entries))
        .build();
    let capacity = batch.estimated_bytes() + 4096;
    let mut writer =
        ArrowWriter::try_new(Vec::with_capacity(capacity), batch.record_batch().schema(), Some(properties))
            .map_err(|error| internal(&error))?;
    writer.write(batch.record_batch()).map_err(|error| internal(&error))?;
    let parquet = writer.into_inner().map_err(|error| internal(&error))?;
    seal::seal(&object, &parquet)
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
    seal::verify(object, bytes)?;
    let decode = || {
        let metadata = read_metadata(bytes)?;
        let header = parse_header(&metadata)?;
        check_place(&header, source, lane, sequence)?;
        let data = read_rows(bytes, metadata, source)?;
        check_rows(&header.batches, data.num_rows())?;
        let other = || Broken::new("columns", "_key and _deleted first", "others");
        let keys = data.column(0).as_binary_opt::<i32>().ok_or_else(other)?.clone();
        let deleted = data.column(1).as_boolean_opt().ok_or_else(other)?.clone();
        check_delta(source, &data, &keys, &deleted)?;
        Ok(Delta { lane, sequence, batches: header.batches, data, bytes: bytes.len() as u64, keys, deleted })
    };
    fenced(object, decode)
}

/// Reads a delta's header alone, after the same check of its seal.
///
/// # Errors
/// See [`decode_delta`].
pub fn decode_header(object: &str, bytes: &Bytes) -> Result<DeltaHeader, Corrupt> {
    seal::verify(object, bytes)?;
    fenced(object, || parse_header(&read_metadata(bytes)?))
}

/// Runs a decoder; a panic in it is a finding about the object.
fn fenced<T>(object: &str, decode: impl FnOnce() -> Result<T, Broken>) -> Result<T, Corrupt> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(result) => result.map_err(|broken| broken.in_object(object)),
        Err(_) => {
            Err(Broken::new("Parquet", "a file that can be read", "one that its reader panicked at").in_object(object))
        }
    }
}

fn unreadable(error: impl std::fmt::Display) -> Broken {
    Broken::new("Parquet", "a file that can be read", error.to_string())
}

fn read_metadata(bytes: &Bytes) -> Result<ArrowReaderMetadata, Broken> {
    ArrowReaderMetadata::load(bytes, ArrowReaderOptions::new()).map_err(unreadable)
}

fn parse_header(metadata: &ArrowReaderMetadata) -> Result<DeltaHeader, Broken> {
    let entries = metadata.metadata().file_metadata().key_value_metadata();
    let find = |name: &str| {
        let found = entries.into_iter().flatten().find(|entry| entry.key == name);
        found.and_then(|entry| entry.value.as_deref()).ok_or_else(|| Broken::new(name, "an entry", "none"))
    };
    let format = find(FORMAT_ENTRY)?;
    if format != DELTA_FORMAT {
        return Err(Broken::new(FORMAT_ENTRY, DELTA_FORMAT, format));
    }
    let number =
        |name: &str| find(name)?.parse::<u64>().map_err(|_| Broken::new(name, "a number", find(name).unwrap_or("")));
    let lane = number(LANE_ENTRY)?;
    Ok(DeltaHeader {
        source: DataSourceId { name: find(SOURCE_ENTRY)?.to_owned(), version: find(VERSION_ENTRY)?.to_owned() },
        lane: u16::try_from(lane).map_err(|_| Broken::new(LANE_ENTRY, "a lane", lane.to_string()))?,
        sequence: number(SEQUENCE_ENTRY)?,
        batches: serde_json::from_str(find(BATCHES_ENTRY)?)
            .map_err(|error| Broken::new(BATCHES_ENTRY, "a list of uploads", error.to_string()))?,
    })
}

fn check_place(header: &DeltaHeader, source: &DataSource, lane: u16, sequence: u64) -> Result<(), Broken> {
    if header.source != source.id {
        return Err(Broken::new(SOURCE_ENTRY, source.id.to_string(), header.source.to_string()));
    }
    if (header.lane, header.sequence) != (lane, sequence) {
        let place = |lane, sequence| format!("sequence {sequence} of lane {lane}");
        return Err(Broken::new(SEQUENCE_ENTRY, place(lane, sequence), place(header.lane, header.sequence)));
    }
    Ok(())
}

fn check_rows(batches: &[BatchInfo], rows: usize) -> Result<(), Broken> {
    if rows > MAX_DELTA_ROWS {
        return Err(Broken::new("rows", format!("at most {MAX_DELTA_ROWS}"), rows.to_string()));
    }
    let sum = batches.iter().try_fold(0_u64, |sum, batch| sum.checked_add(batch.rows));
    if sum != u64::try_from(rows).ok() {
        return Err(Broken::new(BATCHES_ENTRY, format!("{rows} rows"), format!("{sum:?}")));
    }
    Ok(())
}

fn read_rows(bytes: &Bytes, metadata: ArrowReaderMetadata, source: &DataSource) -> Result<RecordBatch, Broken> {
    let schema = delta_schema(source);
    let found = metadata.schema();
    let names = |schema: &arrow::datatypes::Schema| -> Vec<String> {
        schema.fields().iter().map(|f| f.name().clone()).collect()
    };
    if names(found) != names(&schema) {
        return Err(Broken::new("columns", names(&schema).join(", "), names(found).join(", ")));
    }
    let rows = usize::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(usize::MAX);
    if rows > MAX_DELTA_ROWS {
        return Err(Broken::new("rows", format!("at most {MAX_DELTA_ROWS}"), rows.to_string()));
    }
    // The reader makes place for the vectors of tombstones, of which a small file may claim many.
    check_vector_bytes(source, rows).map_err(|error| Broken::new("rows", error.to_string(), rows.to_string()))?;
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata)
        .with_batch_size(rows.max(1))
        .build()
        .map_err(unreadable)?;
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let data = match batches.as_slice() {
        [one] => one.clone(),
        several => {
            let schema = several.first().map_or_else(|| schema.clone(), RecordBatch::schema);
            concat_batches(&schema, several).map_err(unreadable)?
        }
    };
    if data.num_rows() != rows {
        return Err(Broken::new("rows", rows.to_string(), data.num_rows().to_string()));
    }
    // Checks types, and that what must not be null is not.
    RecordBatch::try_new(schema, data.columns().to_vec())
        .map_err(|error| Broken::new("columns", "the types of the data source", error.to_string()))
}
