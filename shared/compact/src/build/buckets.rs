//! Holds rows by bin until their segments are built; beyond a number of bytes they go to scratch files.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use tempfile::TempDir;

use crate::context::Context;
use crate::error::CompactError;

const DOING: &str = "distributing rows";

/// Rows by bin.
pub(crate) struct Buckets {
    directory: TempDir,
    bins: Vec<Bucket>,
    bytes: u64,
    bytes_max: u64,
}

#[derive(Default)]
struct Bucket {
    batches: Vec<RecordBatch>,
    files: Vec<PathBuf>,
}

impl Buckets {
    pub(crate) fn new(context: &Arc<Context>, bins: usize) -> Result<Self, CompactError> {
        let mut all = Vec::new();
        all.resize_with(bins, Bucket::default);
        let bytes_max = context.settings.memory_limit_bytes / 2;
        Ok(Self { directory: context.scratch()?, bins: all, bytes: 0, bytes_max })
    }

    /// Adds rows of a batch to a bin.
    pub(crate) fn add(&mut self, bin: usize, batch: &RecordBatch, rows: Vec<u32>) -> Result<(), CompactError> {
        let taken = if rows.len() == batch.num_rows() {
            batch.clone()
        } else {
            take_record_batch(batch, &UInt32Array::from(rows)).map_err(|e| CompactError::engine(DOING, e))?
        };
        let bytes = |column: &Arc<dyn Array>| column.to_data().get_slice_memory_size().unwrap_or(0) as u64;
        self.bytes += taken.columns().iter().map(bytes).sum::<u64>();
        self.bins[bin].batches.push(taken);
        if self.bytes > self.bytes_max {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<(), CompactError> {
        for (number, bucket) in self.bins.iter_mut().enumerate() {
            let Some(first) = bucket.batches.first() else { continue };
            let path = self.directory.path().join(format!("{number}-{}.arrow", bucket.files.len()));
            let file = File::create(&path).map_err(|e| CompactError::local("create", &path, e))?;
            let file = std::io::BufWriter::new(file);
            let failed = |e| CompactError::engine(DOING, e);
            let mut writer = StreamWriter::try_new(file, &first.schema()).map_err(failed)?;
            for batch in bucket.batches.drain(..) {
                writer.write(&batch).map_err(failed)?;
            }
            writer.finish().map_err(failed)?;
            bucket.files.push(path);
        }
        self.bytes = 0;
        Ok(())
    }

    /// The rows of a bin, which is empty afterwards.
    pub(crate) fn take(&mut self, bin: usize) -> Result<Vec<RecordBatch>, CompactError> {
        let bucket = std::mem::take(&mut self.bins[bin]);
        let mut batches = Vec::new();
        for path in bucket.files {
            let file = File::open(&path).map_err(|e| CompactError::local("open", &path, e))?;
            let reader = StreamReader::try_new(std::io::BufReader::new(file), None);
            for batch in reader.map_err(|e| CompactError::engine(DOING, e))? {
                batches.push(batch.map_err(|e| CompactError::engine(DOING, e))?);
            }
            std::fs::remove_file(&path).map_err(|e| CompactError::local("remove", &path, e))?;
        }
        batches.extend(bucket.batches);
        Ok(batches)
    }
}
