//! Reading the Parquet files that a checkpoint names: verified as a whole before the first row is believed.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use tarn_model::{Corrupt, DataSource, DataSourceId, ObjectKey, ObjectRef};
use tarn_store::{Store, StoreError};

use crate::blocking::run;
use crate::schema::checkpoint_schema;

/// Bytes fetched at a time.
const CHUNK_BYTES: u64 = 8 << 20;

pub(crate) fn object_key(source: &DataSourceId, reference: &ObjectRef) -> ObjectKey {
    ObjectKey::CheckpointData { source: source.clone(), id: reference.id }
}

/// The object as a local file, rewound, its length and CRC-32C checked.
pub(crate) async fn fetch(store: &Store, source: &DataSourceId, reference: &ObjectRef) -> Result<File, StoreError> {
    let key = object_key(source, reference);
    let object = key.render();
    let expected = reference.clone();
    if let Some(path) = store.local_file(&key) {
        return run(usize::MAX, move || verify_file(&object, File::open(path), &expected)).await?;
    }
    let mut file = run(usize::MAX, tempfile::tempfile).await?.map_err(|error| local("spool", &object, error))?;
    let mut crc = 0;
    let mut start = 0;
    while start < reference.bytes {
        let end = reference.bytes.min(start + CHUNK_BYTES);
        let chunks = store.get_ranges(&key, std::slice::from_ref(&(start..end))).await?;
        let name = object.clone();
        (file, crc) = run(usize::MAX, move || {
            for chunk in &chunks {
                crc = crc32c::crc32c_append(crc, chunk);
                file.write_all(chunk).map_err(|error| local("spool", &name, error))?;
            }
            Ok::<_, StoreError>((file, crc))
        })
        .await??;
        start = end;
    }
    // Ranges do not show bytes beyond the length that is expected; the checksum over that length is what counts.
    check_crc(&object, &expected, crc)?;
    file.rewind().map_err(|error| local("spool", &object, error))?;
    Ok(file)
}

fn verify_file(object: &str, file: std::io::Result<File>, expected: &ObjectRef) -> Result<File, StoreError> {
    let mut file = match file {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(StoreError::Missing { object: object.to_owned() });
        }
        other => other.map_err(|error| local("open", object, error))?,
    };
    let mut buffer = vec![0; 1 << 20];
    let (mut crc, mut bytes) = (0, 0_u64);
    loop {
        let read = file.read(&mut buffer).map_err(|error| local("read", object, error))?;
        if read == 0 {
            break;
        }
        crc = crc32c::crc32c_append(crc, &buffer[..read]);
        bytes += read as u64;
    }
    if bytes != expected.bytes {
        return Err(corrupt(object, "length", expected.bytes.to_string(), bytes.to_string()).into());
    }
    check_crc(object, expected, crc)?;
    file.rewind().map_err(|error| local("read", object, error))?;
    Ok(file)
}

fn check_crc(object: &str, expected: &ObjectRef, found: u32) -> Result<(), Corrupt> {
    if expected.crc32c == found {
        return Ok(());
    }
    Err(corrupt(object, "checksum", format!("CRC-32C {:08x}", expected.crc32c), format!("{found:08x}")))
}

/// The rows that a deletion file marks, ascending, each below `rows`.
pub(crate) fn read_deleted(object: &str, file: File, marked: u64, rows: u64) -> Result<Vec<u64>, Corrupt> {
    let reader = fenced(object, || ParquetRecordBatchReaderBuilder::try_new(file)?.build())?;
    let mut deleted = Vec::new();
    for batch in (Batches { object, reader }) {
        let batch = batch?;
        let column = batch.column_by_name("row").and_then(|column| column.as_primitive_opt::<UInt64Type>());
        let column = column.filter(|column| column.null_count() == 0).ok_or_else(|| {
            let found = batch.schema_ref().fields().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            corrupt(object, "columns", "row: UInt64".to_owned(), found)
        })?;
        deleted.extend_from_slice(column.values());
    }
    let ascending = deleted.is_sorted_by(|a, b| a < b) && deleted.last().is_none_or(|&last| last < rows);
    if !ascending || deleted.len() as u64 != marked {
        let expected = format!("{marked} ascending rows below {rows}");
        return Err(corrupt(object, "rows", expected, format!("{} rows, not so", deleted.len())));
    }
    Ok(deleted)
}

/// The rows of a data file, some columns of them. The columns must have the types that the data source prescribes.
pub(crate) fn read_rows<'a>(
    object: &'a str,
    file: File,
    source: &DataSource,
    columns: &[&str],
    batch_rows: usize,
) -> Result<Batches<'a>, Corrupt> {
    let builder = fenced(object, || ParquetRecordBatchReaderBuilder::try_new(file))?;
    for field in checkpoint_schema(source).fields() {
        let found = builder.schema().fields().find(field.name()).map(|(_, found)| found.data_type());
        if found != Some(field.data_type()) {
            let expected = format!("{}: {}", field.name(), field.data_type());
            return Err(corrupt(object, "columns", expected, format!("{found:?}")));
        }
    }
    let roots =
        builder.schema().fields().iter().enumerate().filter(|(_, field)| columns.contains(&field.name().as_str()));
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots.map(|(at, _)| at).collect::<Vec<_>>());
    let reader = fenced(object, || builder.with_projection(mask).with_batch_size(batch_rows).build())?;
    Ok(Batches { object, reader })
}

/// Batches of a Parquet file. A panic of the reader is a finding about the file.
pub(crate) struct Batches<'a> {
    object: &'a str,
    reader: ParquetRecordBatchReader,
}

impl Iterator for Batches<'_> {
    type Item = Result<RecordBatch, Corrupt>;

    fn next(&mut self) -> Option<Self::Item> {
        fenced(self.object, || self.reader.next().transpose().map_err(ParquetError::from)).transpose()
    }
}

fn fenced<T>(object: &str, read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, Corrupt> {
    let found = match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(result)) => return Ok(result),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "one that its reader panicked at".to_owned(),
    };
    Err(corrupt(object, "Parquet", "a file that can be read".to_owned(), found))
}

fn local(operation: &'static str, object: &str, error: std::io::Error) -> StoreError {
    StoreError::Unavailable { operation, object: object.to_owned(), cause: Arc::new(error) }
}

fn corrupt(object: &str, part: &str, expected: String, found: String) -> Corrupt {
    Corrupt { object: object.to_owned(), part: part.to_owned(), expected, found }
}
