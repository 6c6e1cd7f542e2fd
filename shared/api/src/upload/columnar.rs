//! Uploads in columns: Arrow IPC streams and Parquet files. See `tarn_timeline::ColumnMapping` for which column feeds what.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tarn_model::{DataSource, limits};
use tarn_timeline::{ColumnMapping, PointBatch};

use crate::error::ApiError;

/// Most bytes that the columns of an upload may grow to. Compression and dictionaries make small files of large columns.
const DECODED_BYTES: usize = 4 * limits::BODY_BYTES;
/// Rows decoded at a time, so that the bounds are checked before a hostile file is decoded as a whole.
const ROWS_AT_A_TIME: usize = 4_096;

/// Parses an Arrow IPC stream.
pub(super) fn arrow(source: Arc<DataSource>, bytes: &[u8]) -> Result<PointBatch, ApiError> {
    guarded("an Arrow IPC stream", || {
        let reader =
            StreamReader::try_new(Cursor::new(bytes), None).map_err(|error| malformed("Arrow IPC stream", &error))?;
        collect(source, "Arrow IPC stream", reader)
    })
}

/// Parses a Parquet file.
pub(super) fn parquet(source: Arc<DataSource>, bytes: Bytes) -> Result<PointBatch, ApiError> {
    guarded("a Parquet file", || {
        let builder =
            ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| malformed("Parquet file", &error))?;
        let rows: i64 = builder.metadata().row_groups().iter().map(|group| group.num_rows()).sum();
        if usize::try_from(rows).map_or(true, |rows| rows > limits::BATCH_POINTS) {
            return Err(too_many());
        }
        let reader =
            builder.with_batch_size(ROWS_AT_A_TIME).build().map_err(|error| malformed("Parquet file", &error))?;
        collect(source, "Parquet file", reader)
    })
}

fn collect(
    source: Arc<DataSource>,
    what: &str,
    reader: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
) -> Result<PointBatch, ApiError> {
    let (mut batches, mut rows, mut bytes) = (Vec::new(), 0, 0);
    for batch in reader {
        let batch = batch.map_err(|error| malformed(what, &error))?;
        rows += batch.num_rows();
        bytes += batch.get_array_memory_size();
        if rows > limits::BATCH_POINTS {
            return Err(too_many());
        }
        if bytes > DECODED_BYTES {
            return Err(ApiError::too_large(format!(
                "The columns of the upload take more than {DECODED_BYTES} bytes; send it in parts"
            )));
        }
        batches.push(batch);
    }
    let Some(first) = batches.first() else { return Ok(PointBatch::empty(source)) };
    let all = arrow::compute::concat_batches(&first.schema(), &batches).map_err(|error| malformed(what, &error))?;
    drop(batches);
    Ok(PointBatch::from_record_batch(source, &all, &ColumnMapping::default())?)
}

/// The decoders are written for files of friends: a fault that makes one panic is a fault of the file.
fn guarded(what: &str, decode: impl FnOnce() -> Result<PointBatch, ApiError>) -> Result<PointBatch, ApiError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(ApiError::invalid(format!("The body is not {what} that can be read"))))
}

fn malformed(what: &str, error: &dyn std::fmt::Display) -> ApiError {
    let error: String = error.to_string().chars().take(300).collect();
    ApiError::invalid(format!("The body is not a valid {what}: {error}"))
}

fn too_many() -> ApiError {
    super::too_many_points()
}
