//! CSV: a header, and a row a record. A record may span lines.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use csv::{ErrorKind, StringRecord};
use tarn_model::limits;
use tarn_rows::CsvRows;

use super::Job;
use crate::chunk::{Chunker, Stop};
use crate::detect::Compression;
use crate::mapping::DropMapping;
use crate::records::Place;
use crate::report::DropReport;
use crate::text;

/// What the parser reads at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// A reader that stops giving: the parser would collect a record without end.
struct Leashed<R> {
    inner: R,
    /// Bytes that may still be given, refilled for every record.
    left: Rc<Cell<usize>>,
}

impl<R: Read> Read for Leashed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left.get() == 0 {
            return Err(io::Error::other(format!("a record is longer than {} bytes", limits::DROP_LINE_BYTES)));
        }
        let most = out.len().min(self.left.get());
        let count = self.inner.read(&mut out[..most])?;
        self.left.set(self.left.get() - count);
        Ok(count)
    }
}

struct Records<'a> {
    job: &'a Job,
    reader: csv::Reader<Leashed<Box<dyn Read>>>,
    left: Rc<Cell<usize>>,
    /// Where in the file the reader's own positions count from.
    base: Place,
    /// Lines end in CR LF. The reader counts the LF, and ends a record at the CR.
    cr_lf: bool,
}

impl<'a> Records<'a> {
    fn open(job: &'a Job, compression: Compression, base: Place) -> Result<Self, Stop> {
        let inner = text::open(&job.remote, compression, base.offset);
        let inner = inner.map_err(|error| text::read_error(&job.remote, &error))?;
        let left = Rc::new(Cell::new(0));
        let leashed = Leashed { inner, left: Rc::clone(&left) };
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(BUFFER_BYTES)
            .from_reader(leashed);
        Ok(Self { job, reader, left, base, cr_lf: false })
    }

    /// Offset and line ends before what comes next.
    fn end(&self) -> (u64, u64) {
        let position = self.reader.position();
        (self.base.offset + position.byte(), self.base.line + position.line() - 1)
    }

    /// The line, from 1, that a record begins on which the reader says to be at `line`.
    fn line(&self, line: u64) -> u64 {
        self.base.line + line + u64::from(self.cr_lf)
    }

    /// Reads the next record; false at the end. `row` is its number.
    fn next(&mut self, record: &mut StringRecord, row: u64) -> Result<bool, Stop> {
        // What is in the parser's buffer has been given already.
        self.left.set(limits::DROP_LINE_BYTES);
        let line = self.line(self.reader.position().line());
        self.reader.read_record(record).map_err(|error| match error.kind() {
            ErrorKind::Io(error) => match self.job.remote.failure() {
                Some(failure) => failure.into(),
                None => DropReport::row(row, Some(line), None, format!("The record cannot be read: {error}.")).into(),
            },
            ErrorKind::Utf8 { err, .. } => {
                let what = format!("The text is not UTF-8, in cell {}.", err.field() + 1);
                DropReport::row(row, Some(line), None, what).into()
            }
            _ => DropReport::row(row, Some(line), None, error.to_string()).into(),
        })
    }
}

pub(super) fn read(
    job: &Job,
    compression: Compression,
    mapping: &DropMapping,
    start: Place,
    mut chunker: Chunker<'_>,
) -> Result<(), Stop> {
    let mut records = Records::open(job, compression, Place::default())?;
    let mut header = StringRecord::new();
    if !records.next(&mut header, 0)? {
        return Err(DropReport::file("The file has no header.", "Write the columns' names into the first line.").into());
    }
    let rows = CsvRows::resolve(&job.source, &mapping.row_names(&job.source), &header).map_err(|error| {
        let action = "Name the columns in a mapping beside the file, or change the header.";
        DropReport { column: error.column, ..DropReport::file(error.message, action) }
    })?;
    let inside = header.iter().flat_map(str::bytes).filter(|&byte| byte == b'\n').count() as u64;
    let (offset, lines) = records.end();
    let cr_lf = lines == inside;
    if start.offset > offset {
        records = Records::open(job, compression, start)?;
    } else {
        chunker.start_at(offset, lines);
    }
    records.cr_lf = cr_lf;
    let mut record = StringRecord::new();
    loop {
        let (row, before) = (chunker.next_row(), records.reader.position().byte());
        if !records.next(&mut record, row)? {
            return chunker.finish();
        }
        let line = records.line(record.position().map_or(0, csv::Position::line));
        if record.len() != header.len() {
            let what = format!("The record has {} cells; the header has {}.", record.len(), header.len());
            return Err(DropReport::row(row, Some(line), None, what).into());
        }
        let update =
            rows.update(&record).map_err(|error| DropReport::row(row, Some(line), error.column, error.message))?;
        let bytes = usize::try_from(records.reader.position().byte() - before).unwrap_or(usize::MAX);
        chunker.push(&update, bytes, records.end(), line)?;
    }
}
