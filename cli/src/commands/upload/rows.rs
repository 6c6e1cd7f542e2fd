//! Batches of points from files of rows: NDJSON and CSV. What a row may look like is said in `tarn-rows`.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use tarn_model::{DataSource, Update};
use tarn_rows::{CsvRows, JsonRows, RowError, RowNames};
use tarn_timeline::DeltaBuilder;

use super::{Batch, Sink};
use crate::error::CliError;

/// Longest line of an NDJSON file, in bytes: a point of the largest dimension fits many times over.
const LINE_BYTES: u64 = 64 * 1024 * 1024;

/// How a file's rows become points.
pub(super) struct Rows<'a> {
    pub(super) source: &'a Arc<DataSource>,
    pub(super) names: &'a RowNames,
    /// Rows in one batch.
    pub(super) rows: usize,
}

/// Points on their way into a batch.
struct Pending<'a> {
    rows: &'a Rows<'a>,
    sink: &'a Sink,
    builder: DeltaBuilder,
}

impl Pending<'_> {
    /// Adds a point; false when nobody wants more.
    fn push(&mut self, update: &Update, position: u64) -> Result<bool, CliError> {
        self.builder.push(update)?;
        if self.builder.rows() < self.rows.rows { Ok(true) } else { self.flush(position) }
    }

    fn flush(&mut self, position: u64) -> Result<bool, CliError> {
        if self.builder.rows() == 0 {
            return Ok(true);
        }
        let empty = DeltaBuilder::new(self.rows.source.clone(), self.rows.rows);
        let points = std::mem::replace(&mut self.builder, empty).finish()?;
        Ok(self.sink.send(Batch { points, position }))
    }
}

impl Rows<'_> {
    fn pending<'a>(&'a self, sink: &'a Sink) -> Pending<'a> {
        Pending { rows: self, sink, builder: DeltaBuilder::new(self.source.clone(), self.rows) }
    }

    /// Sends the points of NDJSON text.
    pub(super) fn ndjson(&self, input: impl Read, sink: &Sink) -> Result<(), CliError> {
        let mut input = BufReader::with_capacity(1 << 20, input);
        let rows = JsonRows { source: self.source, names: self.names };
        let mut pending = self.pending(sink);
        let (mut line, mut number, mut position) = (Vec::new(), 0_u64, 0_u64);
        loop {
            line.clear();
            let read = input.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line)? as u64;
            if read == 0 {
                return pending.flush(position).map(drop);
            }
            number += 1;
            position += read;
            let at_line = |error: CliError| error.while_doing(format_args!("line {number}"));
            if read == LINE_BYTES {
                return Err(at_line(CliError::new(format!("longer than {LINE_BYTES} bytes"))));
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let update = rows.update(&line).map_err(CliError::from);
            let wanted = update.and_then(|update| pending.push(&update, position)).map_err(at_line)?;
            if !wanted {
                return Ok(());
            }
        }
    }

    /// Sends the points of a CSV file.
    pub(super) fn csv(&self, input: impl Read, sink: &Sink) -> Result<(), CliError> {
        let mut reader = csv::ReaderBuilder::new().buffer_capacity(1 << 20).from_reader(input);
        let header = reader.headers().map_err(|error| CliError::of(&error))?.clone();
        let rows = CsvRows::resolve(self.source, self.names, &header).map_err(|error: RowError| {
            CliError::from(error).hint("--map ATTRIBUTE=COLUMN names columns that are called otherwise")
        })?;
        let mut pending = self.pending(sink);
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).map_err(|error| CliError::of(&error))? {
            let (line, position) = record.position().map_or((0, 0), |position| (position.line(), position.byte()));
            let update = rows.update(&record).map_err(CliError::from);
            let wanted = update
                .and_then(|update| pending.push(&update, position))
                .map_err(|error| error.while_doing(format_args!("line {line}")))?;
            if !wanted {
                return Ok(());
            }
        }
        pending.flush(reader.position().byte()).map(drop)
    }
}
