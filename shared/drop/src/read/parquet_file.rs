//! Parquet: column pages are read as they are needed, by ranges, and never a whole row group at once.
//!
//! A row group may hold gigabytes of one column. Pages are small; the reader keeps the blocks that the columns are at, and
//! decodes a few rows at a time. Strings stay in their pages until they are counted: a dictionary makes any number of them. A
//! compressed Parquet file has no ranges and is unpacked to a temporary file first.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};
use tarn_model::{DataSource, VectorKind};
use tarn_timeline::{BoundedPages, ColumnMapping, attribute_column, check_parquet_footer};

use super::Job;
use crate::blocks::Remote;
use crate::chunk::{Chunker, Stop, rows_at_a_time};
use crate::detect::Compression;
use crate::error::DropError;
use crate::mapping::DropMapping;
use crate::records::Place;
use crate::report::DropReport;
use crate::text;

/// Longest footer: some hundred thousand column chunks, which take twenty times as much once they are decoded.
const FOOTER_BYTES: usize = 16 << 20;
/// Length and mark at the end of a file.
const TRAILER_BYTES: u64 = 8;
/// Bytes of blocks that are kept.
const CACHE_BYTES: u64 = 96 << 20;

pub(super) fn read(
    job: &Job,
    compression: Compression,
    mapping: &DropMapping,
    start: Place,
    chunker: Chunker<'_>,
) -> Result<(), Stop> {
    if compression == Compression::None {
        let file = Blocks::new(job.remote.clone());
        return rows(job, file, mapping, start, chunker);
    }
    rows(job, unpack(job, compression)?, mapping, start, chunker)
}

/// Unpacks a compressed file to a temporary one, which is gone when it is closed.
fn unpack(job: &Job, compression: Compression) -> Result<File, Stop> {
    let spool = |error: io::Error| Stop::from(DropError::local("unpack the file to temporary storage", error));
    let directory = job.settings.spool_dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut file = tempfile::tempfile_in(directory).map_err(spool)?;
    let input = text::open(&job.remote, compression, 0).map_err(|error| text::read_error(&job.remote, &error))?;
    let most = job.settings.spool_bytes;
    let mut input = input.take(most + 1);
    let mut block = vec![0; 1 << 20];
    let mut written = 0;
    loop {
        let count = input.read(&mut block).map_err(|error| text::read_error(&job.remote, &error))?;
        if count == 0 {
            break;
        }
        io::Write::write_all(&mut file, &block[..count]).map_err(spool)?;
        written += count as u64;
    }
    if written > most {
        let what = format!("The compressed Parquet file grows to more than {most} bytes.");
        let action = "Drop it uncompressed: Parquet compresses its columns by itself, and is then read in parts.";
        return Err(DropReport::file(what, action).into());
    }
    file.rewind().map_err(spool)?;
    Ok(file)
}

fn rows<R: ChunkReader + 'static>(
    job: &Job,
    file: R,
    mapping: &DropMapping,
    start: Place,
    mut chunker: Chunker<'_>,
) -> Result<(), Stop> {
    let failed = |error: &dyn std::fmt::Display| match job.remote.failure() {
        Some(failure) => Stop::from(failure),
        None => DropReport::file(
            format!("The Parquet file is not valid: {error}."),
            "Nothing of the file was written. Write the file anew and drop it again.",
        )
        .into(),
    };
    check_footer(&file).map_err(|error| failed(&error))?;
    // The types are Parquet's own: with those of the writer a file could ask for strings of 64-bit lengths, of which a
    // dictionary makes any number.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let file = BoundedPages::new(file);
    let metadata = ArrowReaderMetadata::load(&file, options.clone()).map_err(|error| failed(&error))?;
    let schema = viewed(metadata.schema());
    let metadata =
        ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options.with_schema(Arc::clone(&schema)))
            .map_err(|error| failed(&error))?;
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), metadata);
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let columns = mapping.column_mapping(&job.source, &names);
    let wanted = wanted(&job.source, &columns);
    let roots = names.iter().enumerate().filter(|(_, name)| wanted.contains(**name)).map(|(at, _)| at);
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let skip = usize::try_from(start.row).unwrap_or(usize::MAX);
    if skip > 0 {
        file.skip_rows();
    }
    let reader = builder
        .with_projection(mask)
        .with_batch_size(rows_at_a_time(&job.source))
        .with_offset(skip)
        .build()
        .map_err(|error| failed(&error))?;
    for batch in reader {
        chunker.push_columns(&batch.map_err(|error| failed(&error))?, &columns)?;
        file.next_batch();
    }
    chunker.finish()
}

/// The schema with strings as views of their pages.
fn viewed(schema: &Schema) -> Arc<Schema> {
    let view = |field: &Arc<Field>| match field.data_type() {
        DataType::Utf8 => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
        DataType::Binary => Arc::new(field.as_ref().clone().with_data_type(DataType::BinaryView)),
        _ => Arc::clone(field),
    };
    let fields: Vec<_> = schema.fields().iter().map(view).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The columns that may feed something.
fn wanted(source: &DataSource, mapping: &ColumnMapping) -> BTreeSet<String> {
    let mut wanted: BTreeSet<String> = ["vector", "indices", "values", "deleted"]
        .iter()
        .flat_map(|name| [(*name).to_owned(), format!("_{name}")])
        .collect();
    for name in source.attribute_types.keys() {
        match mapping.attributes.get(name) {
            Some(column) => drop(wanted.insert(column.clone())),
            None => wanted.extend([name.clone(), attribute_column(name)]),
        }
    }
    let named = match source.vector_kind {
        VectorKind::Dense => vec![&mapping.vector],
        VectorKind::Sparse => vec![&mapping.indices, &mapping.values],
    };
    wanted.extend(named.into_iter().chain([&mapping.deleted]).flatten().cloned());
    wanted
}

/// The footer is read as a whole, so it is looked at first.
fn check_footer(file: &impl ChunkReader) -> Result<(), String> {
    let text = |error: ParquetError| error.to_string();
    let at = file.len().checked_sub(TRAILER_BYTES).ok_or("it is too short")?;
    let trailer = file.get_bytes(at, TRAILER_BYTES as usize).map_err(text)?;
    let length = trailer.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    let start = at.saturating_sub(length.min(FOOTER_BYTES) as u64);
    let end = file.get_bytes(start, usize::try_from(file.len() - start).unwrap_or(usize::MAX)).map_err(text)?;
    check_parquet_footer(&end, FOOTER_BYTES)
}

/// A file in the store, in blocks, of which the last ones used are kept.
#[derive(Clone)]
struct Blocks(Arc<Cached>);

struct Cached {
    remote: Remote,
    most: usize,
    kept: Mutex<VecDeque<(u64, Bytes)>>,
}

impl Blocks {
    fn new(remote: Remote) -> Self {
        let most = usize::try_from(CACHE_BYTES / Self::bytes(&remote)).unwrap_or(1).max(2);
        Self(Arc::new(Cached { remote, most, kept: Mutex::default() }))
    }

    /// Small enough that every column of a wide file has a block of its own.
    fn bytes(remote: &Remote) -> u64 {
        (remote.block_bytes() / 8).max(1)
    }

    /// The bytes from `at` to the end of their block.
    fn from(&self, at: u64) -> io::Result<Bytes> {
        let size = Self::bytes(&self.0.remote);
        let number = at / size;
        let offset = usize::try_from(at % size).unwrap_or(0);
        let mut kept = self.0.kept.lock();
        let found = kept.iter().position(|(other, _)| *other == number).and_then(|place| kept.remove(place));
        let block = match found {
            Some((_, block)) => block,
            None => self.0.remote.range(number * size, size)?,
        };
        kept.push_back((number, block.clone()));
        while kept.len() > self.0.most {
            kept.pop_front();
        }
        Ok(block.slice(offset.min(block.len())..))
    }
}

impl Length for Blocks {
    fn len(&self) -> u64 {
        self.0.remote.len()
    }
}

impl ChunkReader for Blocks {
    type T = BlocksRead;

    fn get_read(&self, start: u64) -> ParquetResult<BlocksRead> {
        Ok(BlocksRead { file: self.clone(), at: start, rest: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let mut bytes = Vec::new();
        self.get_read(start)?.take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() != length {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} go beyond the end of the file")));
        }
        Ok(bytes.into())
    }
}

struct BlocksRead {
    file: Blocks,
    at: u64,
    rest: Bytes,
}

impl Read for BlocksRead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            if self.at >= Length::len(&self.file) || out.is_empty() {
                return Ok(0);
            }
            self.rest = self.file.from(self.at)?;
            self.at += self.rest.len() as u64;
        }
        let count = out.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut out[..count]);
        Ok(count)
    }
}
