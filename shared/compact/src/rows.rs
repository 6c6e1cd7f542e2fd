//! Checkpoint files on the local disk: reading keys and live rows, writing rows, lists of deleted rows.
//!
//! Owns `deleted-rows-are-rows`: a list of deleted rows names rows of its file, each once, as many as the checkpoint says.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryArray, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection};
use parquet::file::metadata::KeyValue;
use roaring::RoaringBitmap;
use tarn_model::{CheckpointFile, Corrupt, DataSource, VectorKind};
use tarn_timeline::{KEY_COLUMN, checkpoint_schema, writer_properties};

use crate::context::{Written, measure};
use crate::error::CompactError;

/// The column of a list of deleted rows.
const ROW_COLUMN: &str = "row";
/// Encoded bytes of a row group, which is what a writer holds in memory.
const ROW_GROUP_BYTES: usize = 32 << 20;
/// Aim for batches of this size when reading whole rows.
const BATCH_BYTES: usize = 8 << 20;

pub(crate) fn unreadable(object: &str, found: impl std::fmt::Display) -> Corrupt {
    Corrupt {
        object: object.to_owned(),
        part: "Parquet".to_owned(),
        expected: "a file with the columns of its data source".to_owned(),
        found: found.to_string(),
    }
}

/// The rows of a bitmap as ranges.
pub(crate) fn ranges_of(rows: &RoaringBitmap) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for row in rows {
        let row = row as usize;
        match ranges.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            _ => ranges.push(row..row + 1),
        }
    }
    ranges
}

/// How many rows to read or hold at once, by the size of a row.
pub(crate) fn batch_rows(source: &DataSource) -> usize {
    let row = match source.vector_kind {
        VectorKind::Dense => source.vector_dimension as usize * 4 + 64,
        VectorKind::Sparse => 2048,
    };
    (BATCH_BYTES / row).clamp(64, 8192)
}

/// Calls `found` with each batch of keys and the number of its first row.
pub(crate) fn read_keys(
    path: &Path,
    name: &str,
    mut found: impl FnMut(u32, &BinaryArray) -> Result<(), CompactError>,
) -> Result<(), CompactError> {
    let file = File::open(path).map_err(|e| CompactError::local("open", path, e))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| unreadable(name, e))?;
    let mask = ProjectionMask::columns(reader.parquet_schema(), [KEY_COLUMN]);
    let reader = reader.with_projection(mask).with_batch_size(8192).build().map_err(|e| unreadable(name, e))?;
    let mut first = 0_u32;
    for batch in reader {
        let batch = batch.map_err(|e| unreadable(name, e))?;
        let keys = batch.columns().first().and_then(|column| column.as_binary_opt::<i32>());
        let keys = keys.ok_or_else(|| unreadable(name, "no column of keys"))?;
        found(first, keys)?;
        let rows = u32::try_from(keys.len()).ok().and_then(|rows| first.checked_add(rows));
        first = rows.ok_or_else(|| unreadable(name, "more rows than a file can have"))?;
    }
    Ok(())
}

/// The rows of a checkpoint file that are not deleted, batch by batch.
pub(crate) fn live_rows(
    path: &Path,
    name: &str,
    source: &DataSource,
    rows: u64,
    deleted: &RoaringBitmap,
) -> Result<impl Iterator<Item = Result<RecordBatch, CompactError>> + use<>, CompactError> {
    let file = File::open(path).map_err(|e| CompactError::local("open", path, e))?;
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| unreadable(name, e))?;
    let found = reader.metadata().file_metadata().num_rows();
    if u64::try_from(found) != Ok(rows) {
        return Err(unreadable(name, format!("{found} rows instead of {rows}")).into());
    }
    if !deleted.is_empty() {
        let mut live = RoaringBitmap::new();
        live.insert_range(0..u32::try_from(rows).unwrap_or(u32::MAX));
        live -= deleted;
        let total = usize::try_from(rows).unwrap_or(usize::MAX);
        reader = reader.with_row_selection(RowSelection::from_consecutive_ranges(ranges_of(&live).into_iter(), total));
    }
    let reader = reader.with_batch_size(batch_rows(source)).build().map_err(|e| unreadable(name, e))?;
    let (name, schema) = (name.to_owned(), checkpoint_schema(source));
    Ok(reader.map(move |batch| {
        let batch = batch.map_err(|e| unreadable(&name, e))?;
        RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec()).map_err(|e| unreadable(&name, e).into())
    }))
}

/// A list of deleted rows, ascending.
pub(crate) fn encode_deleted(deleted: &RoaringBitmap) -> Result<Bytes, CompactError> {
    let failed = |e: &dyn std::fmt::Display| CompactError::engine("writing a list of deleted rows", e);
    let schema = Arc::new(Schema::new(vec![Field::new(ROW_COLUMN, DataType::UInt64, false)]));
    let rows: UInt64Array = deleted.iter().map(u64::from).collect::<Vec<_>>().into();
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(rows)]).map_err(|e| failed(&e))?;
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, None).map_err(|e| failed(&e))?;
    writer.write(&batch).map_err(|e| failed(&e))?;
    Ok(writer.into_inner().map_err(|e| failed(&e))?.into())
}

/// `deleted-rows-are-rows`.
pub(crate) fn decode_deleted(name: &str, file: &CheckpointFile, bytes: Bytes) -> Result<RoaringBitmap, Corrupt> {
    let corrupt = |found: String| Corrupt {
        object: name.to_owned(),
        part: "deleted-rows-are-rows".to_owned(),
        expected: format!("{} rows below {}, ascending", file.deleted_rows, file.rows),
        found,
    };
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(|e| corrupt(e.to_string()))?;
    let mut deleted = RoaringBitmap::new();
    for batch in reader {
        let batch = batch.map_err(|e| corrupt(e.to_string()))?;
        let rows = batch.column_by_name(ROW_COLUMN).and_then(|column| column.as_primitive_opt::<UInt64Type>());
        for &row in rows.ok_or_else(|| corrupt("another column".to_owned()))?.values() {
            let fits = u32::try_from(row).ok().filter(|_| row < file.rows);
            let fits = fits.is_some_and(|row| deleted.try_push(row).is_ok());
            if !fits {
                return Err(corrupt(format!("row {row}")));
            }
        }
    }
    if deleted.len() != file.deleted_rows {
        return Err(corrupt(format!("{} rows", deleted.len())));
    }
    Ok(deleted)
}

/// Writes rows to checkpoint files in scratch space; begins a new one when one is full.
pub(crate) struct RowWriter {
    source: Arc<DataSource>,
    directory: PathBuf,
    bytes_max: usize,
    current: Option<Current>,
    finished: Vec<(Written, u64)>,
}

struct Current {
    writer: ArrowWriter<File>,
    path: PathBuf,
    rows: u64,
}

impl RowWriter {
    pub(crate) fn new(source: &Arc<DataSource>, directory: &Path, bytes_max: u64) -> Self {
        Self {
            source: Arc::clone(source),
            directory: directory.to_path_buf(),
            bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
            current: None,
            finished: Vec::new(),
        }
    }

    /// Adds rows with the columns of a checkpoint file.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), CompactError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.begin()?,
        };
        let failed = |e| CompactError::engine("writing a checkpoint file", e);
        current.writer.write(batch).map_err(failed)?;
        current.rows += batch.num_rows() as u64;
        if current.writer.in_progress_size() > ROW_GROUP_BYTES {
            current.writer.flush().map_err(failed)?;
        }
        let bytes = current.writer.bytes_written() + current.writer.in_progress_size();
        // Row numbers of a file are 32 bits wide.
        if bytes >= self.bytes_max || current.rows > u64::from(u32::MAX / 2) {
            self.complete(current)?;
        } else {
            self.current = Some(current);
        }
        Ok(())
    }

    fn begin(&self) -> Result<Current, CompactError> {
        let path = self.directory.join(format!("rows-{}.parquet", self.finished.len()));
        let file = File::create(&path).map_err(|e| CompactError::local("create", &path, e))?;
        let entry = |name: &str, value: &str| KeyValue::new(format!("tarn.{name}"), value.to_owned());
        let properties = writer_properties(&self.source)
            .set_key_value_metadata(Some(vec![
                entry("format", "tarn-checkpoint/1"),
                entry("source", &self.source.id.name),
                entry("version", &self.source.id.version),
            ]))
            .build();
        let writer = ArrowWriter::try_new(file, checkpoint_schema(&self.source), Some(properties))
            .map_err(|e| CompactError::engine("writing a checkpoint file", e))?;
        Ok(Current { writer, path, rows: 0 })
    }

    fn complete(&mut self, current: Current) -> Result<(), CompactError> {
        current.writer.close().map_err(|e| CompactError::engine("writing a checkpoint file", e))?;
        let (bytes, crc32c) = measure(&current.path)?;
        self.finished.push((Written { path: current.path, bytes, crc32c }, current.rows));
        Ok(())
    }

    /// The files with their row counts.
    pub(crate) fn finish(mut self) -> Result<Vec<(Written, u64)>, CompactError> {
        if let Some(current) = self.current.take() {
            self.complete(current)?;
        }
        Ok(self.finished)
    }
}
