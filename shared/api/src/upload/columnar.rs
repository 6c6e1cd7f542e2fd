//! Uploads in columns: Arrow IPC streams and Parquet files. See `tarn_timeline::ColumnMapping` for which column feeds what.
//!
//! Compression, dictionaries and views make small files of large columns. So a file is looked at before it is decoded, for
//! claims that it cannot keep; it is decoded and made canonical some rows at a time; and what has grown of it is counted.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use tarn_model::{DataSource, limits};
use tarn_timeline::{BoundedPages, ColumnMapping, PointBatch, check_arrow_frames, check_parquet_footer};

use super::too_many_points;
use crate::body::Share;
use crate::error::ApiError;

/// Rows made canonical at a time, so that the bounds are checked before a hostile file has grown.
const ROWS_AT_A_TIME: usize = 4_096;
/// Longest footer. Uploads have at most some thousand column chunks, of some hundred bytes each.
const FOOTER_BYTES: usize = 4 * 1024 * 1024;

/// Parses an Arrow IPC stream.
pub(super) fn arrow(source: Arc<DataSource>, bytes: &[u8], share: &mut Share) -> Result<PointBatch, ApiError> {
    guarded("an Arrow IPC stream", || {
        let claimed = check_arrow_frames(bytes).map_err(|what| malformed("Arrow IPC stream", &what))?;
        if claimed > limits::BATCH_BYTES as u64 {
            return Err(too_many_bytes());
        }
        let reader =
            StreamReader::try_new(Cursor::new(bytes), None).map_err(|error| malformed("Arrow IPC stream", &error))?;
        collect(source, "Arrow IPC stream", reader, share)
    })
}

/// Parses a Parquet file.
pub(super) fn parquet(source: Arc<DataSource>, bytes: Bytes, share: &mut Share) -> Result<PointBatch, ApiError> {
    guarded("a Parquet file", || {
        check_parquet_footer(&bytes, FOOTER_BYTES).map_err(|what| malformed("Parquet file", &what))?;
        // The types are Parquet's own: with those of the writer a file could ask for strings of 64-bit lengths, of which a
        // dictionary makes any number.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let pages = BoundedPages::new(bytes);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(pages.clone(), options)
            .map_err(|error| malformed("Parquet file", &error))?;
        let groups = builder.metadata().row_groups();
        let rows =
            groups.iter().try_fold(0_usize, |sum, group| sum.checked_add(usize::try_from(group.num_rows()).ok()?));
        if rows.is_none_or(|rows| rows > limits::BATCH_POINTS) {
            return Err(too_many_points());
        }
        let bytes = groups
            .iter()
            .flat_map(|group| group.columns())
            .try_fold(0_usize, |sum, column| sum.checked_add(usize::try_from(column.uncompressed_size()).ok()?));
        if bytes.is_none_or(|bytes| bytes > limits::BATCH_BYTES) {
            return Err(too_many_bytes());
        }
        let reader =
            builder.with_batch_size(ROWS_AT_A_TIME).build().map_err(|error| malformed("Parquet file", &error))?;
        collect(source, "Parquet file", reader.inspect(|_| pages.next_batch()), share)
    })
}

fn collect(
    source: Arc<DataSource>,
    what: &str,
    reader: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
    share: &mut Share,
) -> Result<PointBatch, ApiError> {
    let (mut parts, mut rows, mut bytes) = (Vec::new(), 0, 0);
    for batch in reader {
        let batch = batch.map_err(|error| malformed(what, &error))?;
        if batch.num_rows() > limits::BATCH_POINTS - rows {
            return Err(too_many_points());
        }
        for start in (0..batch.num_rows()).step_by(ROWS_AT_A_TIME) {
            let part = batch.slice(start, ROWS_AT_A_TIME.min(batch.num_rows() - start));
            let part = PointBatch::from_part(Arc::clone(&source), &part, &ColumnMapping::default(), rows + start)?;
            bytes += part.estimated_bytes();
            if bytes > limits::BATCH_BYTES {
                return Err(too_many_bytes());
            }
            share.grow(part.estimated_bytes())?;
            parts.push(part);
        }
        rows += batch.num_rows();
    }
    if parts.is_empty() {
        return Ok(PointBatch::empty(source));
    }
    Ok(PointBatch::concat(&parts)?)
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

fn too_many_bytes() -> ApiError {
    ApiError::too_large(format!(
        "The columns of the upload take more than {} bytes; send it in parts",
        limits::BATCH_BYTES
    ))
}
