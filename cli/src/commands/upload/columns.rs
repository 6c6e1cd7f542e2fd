//! Batches of points from columnar files: Parquet, Arrow IPC files and streams.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use arrow::record_batch::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tarn_model::DataSource;
use tarn_timeline::{ColumnMapping, PointBatch};

use super::{Batch, Sink};
use crate::error::CliError;

/// What an Arrow IPC file begins with; a stream does not.
const IPC_FILE_MAGIC: &[u8] = b"ARROW1";

/// How a file's columns become points.
pub(super) struct Columns<'a> {
    pub(super) source: &'a Arc<DataSource>,
    pub(super) mapping: &'a ColumnMapping,
    /// Rows in one batch.
    pub(super) rows: usize,
}

impl Columns<'_> {
    /// Sends the points of a Parquet file.
    pub(super) fn parquet(&self, path: &Path, sink: &Sink) -> Result<(), CliError> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
        let total = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0).max(1);
        let reader = builder.with_batch_size(self.rows).build()?;
        let mut done = 0_u64;
        self.batches(reader, sink, |rows| {
            done += rows;
            // The share of the rows stands for the share of the bytes; u128 cannot overflow.
            u64::try_from(u128::from(bytes) * u128::from(done) / u128::from(total)).unwrap_or(bytes)
        })
    }

    /// Sends the points of an Arrow IPC file or stream; `None` is standard input, a stream.
    pub(super) fn arrow(&self, path: Option<&Path>, sink: &Sink) -> Result<(), CliError> {
        let Some(path) = path else {
            return self.batches(StreamReader::try_new(BufReader::new(std::io::stdin()), None)?, sink, |_| 0);
        };
        let mut magic = [0; IPC_FILE_MAGIC.len()];
        let is_file = File::open(path)?.read_exact(&mut magic).is_ok() && magic == IPC_FILE_MAGIC;
        let file = BufReader::new(File::open(path)?);
        if is_file {
            self.batches(FileReader::try_new(file, None)?, sink, |_| 0)
        } else {
            self.batches(StreamReader::try_new(file, None)?, sink, |_| 0)
        }
    }

    /// Cuts record batches to size and sends them. `position` maps rows that were sent to bytes read.
    fn batches(
        &self,
        reader: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
        sink: &Sink,
        mut position: impl FnMut(u64) -> u64,
    ) -> Result<(), CliError> {
        let mut first_row = 0_usize;
        for batch in reader {
            let batch = batch?;
            for offset in (0..batch.num_rows()).step_by(self.rows) {
                let part = batch.slice(offset, self.rows.min(batch.num_rows() - offset));
                let rows = part.num_rows();
                let points =
                    PointBatch::from_record_batch(self.source.clone(), &part, self.mapping).map_err(|error| {
                        CliError::from(error).while_doing(format_args!("in the rows from {first_row} on"))
                    })?;
                first_row += rows;
                let position = position(rows as u64);
                if !sink.send(Batch { points, position }) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
