//! Cuts the rows of a file into chunks: by size when it is measured, by the plan when it is committed.
//!
//! Owns `chunks-follow-the-plan`: the same file and the same plan give the same chunks, whatever this program would choose
//! today.

use std::sync::Arc;

use arrow::array::RecordBatch;
use tarn_model::{DataSource, Update, VectorKind, limits};
use tarn_timeline::{ColumnMapping, DeltaBuilder, PointBatch};

use crate::error::DropError;
use crate::records::{ChunkPlan, Place};
use crate::report::DropReport;

/// Bytes of text that make about one byte of columns.
const TEXT_BYTES: usize = 4;

/// Why reading stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The file is at fault.
    Refused(Box<DropReport>),
    /// Something else is.
    Failed(DropError),
    /// Nobody wants more.
    Ended,
}

impl From<DropReport> for Stop {
    fn from(report: DropReport) -> Self {
        Self::Refused(Box::new(report))
    }
}

impl From<DropError> for Stop {
    fn from(error: DropError) -> Self {
        Self::Failed(error)
    }
}

/// Where chunks end.
#[derive(Clone, Debug)]
pub(crate) enum Bounds {
    /// At this many rows, or at about this many bytes.
    Measured { rows: usize, bytes: usize },
    /// As planned.
    Planned(std::vec::IntoIter<ChunkPlan>),
}

impl Bounds {
    /// For chunks of about `bytes`.
    pub(crate) fn measured(source: &DataSource, bytes: usize) -> Self {
        let rows = (bytes / point_bytes(source)).clamp(1, limits::BATCH_POINTS);
        Self::Measured { rows, bytes }
    }
}

/// What a point takes in memory, roughly.
pub(crate) fn point_bytes(source: &DataSource) -> usize {
    let vector = match source.vector_kind {
        VectorKind::Dense => source.vector_dimension as usize * 4,
        VectorKind::Sparse => 1_200,
    };
    vector + 64 * source.attribute_types.len()
}

/// Rows of a columnar file that are converted at a time.
pub(crate) fn rows_at_a_time(source: &DataSource) -> usize {
    ((4 << 20) / point_bytes(source)).clamp(16, 1_024)
}

/// Takes a full chunk, what to plan for it, and where the next one begins.
pub(crate) type Deliver<'a> = &'a mut dyn FnMut(PointBatch, ChunkPlan, Place) -> Result<(), Stop>;

/// Collects rows, and hands over each chunk when it is full.
pub(crate) struct Chunker<'a> {
    source: Arc<DataSource>,
    bounds: Bounds,
    /// Rows of the chunk under way, at most.
    limit: usize,
    rows: usize,
    bytes: usize,
    /// Where the chunk under way begins.
    start: Place,
    /// Offset and line after the last row of text.
    end: (u64, u64),
    builder: Option<DeltaBuilder>,
    pieces: Vec<PointBatch>,
    deliver: Deliver<'a>,
}

impl<'a> Chunker<'a> {
    /// The first row is at `start`.
    pub(crate) fn new(source: Arc<DataSource>, bounds: Bounds, start: Place, deliver: Deliver<'a>) -> Self {
        let mut chunker = Self {
            source,
            bounds,
            limit: 0,
            rows: 0,
            bytes: 0,
            start,
            end: (start.offset, start.line),
            builder: None,
            pieces: Vec::new(),
            deliver,
        };
        chunker.next_limit();
        chunker
    }

    fn next_limit(&mut self) {
        self.limit = match &mut self.bounds {
            Bounds::Measured { rows, .. } => *rows,
            Bounds::Planned(plan) => plan.next().map_or(0, |chunk| chunk.rows as usize),
        };
    }

    /// The number of the next row, from 1.
    pub(crate) fn next_row(&self) -> u64 {
        self.start.row + self.rows as u64 + 1
    }

    /// The text of the first row begins only here: a header was before it.
    pub(crate) fn start_at(&mut self, offset: u64, line: u64) {
        (self.start.offset, self.start.line) = (offset, line);
        self.end = (offset, line);
    }

    /// Adds an update whose text is `bytes` long and begins on `line`; what follows begins at offset and line `end`.
    pub(crate) fn push(&mut self, update: &Update, bytes: usize, end: (u64, u64), line: u64) -> Result<(), Stop> {
        self.expect_room()?;
        let builder = self.builder.get_or_insert_with(|| DeltaBuilder::new(Arc::clone(&self.source), 1_024));
        if let Err(error) = builder.push(update) {
            return Err(DropReport::row(self.next_row(), Some(line), None, error.to_string()).into());
        }
        self.rows += 1;
        self.bytes += bytes / TEXT_BYTES;
        self.end = end;
        self.cut()
    }

    /// Adds rows of columns.
    pub(crate) fn push_columns(&mut self, batch: &RecordBatch, mapping: &ColumnMapping) -> Result<(), Stop> {
        let most = rows_at_a_time(&self.source);
        let mut at = 0;
        while at < batch.num_rows() {
            self.expect_room()?;
            let rows = (batch.num_rows() - at).min(most).min(self.limit - self.rows);
            let piece = PointBatch::try_from_columns(Arc::clone(&self.source), &batch.slice(at, rows), mapping);
            let piece = piece.map_err(|fault| match fault.row {
                Some(row) => {
                    DropReport::row(self.next_row() + row as u64, None, fault.column, fault.messages.join("; "))
                }
                None => DropReport {
                    column: fault.column,
                    ..DropReport::file(
                        fault.messages.join("; "),
                        "Nothing of the file was written. Name the columns in a mapping beside the file, or change them.",
                    )
                },
            })?;
            self.rows += rows;
            self.bytes += piece.estimated_bytes();
            self.pieces.push(piece);
            at += rows;
            self.cut()?;
        }
        Ok(())
    }

    /// Rows that can be added before the chunk is full; the plan must know of them.
    fn expect_room(&self) -> Result<(), Stop> {
        if self.limit > 0 {
            return Ok(());
        }
        Err(DropError::local("follow the plan of the file", "it has more rows than it had").into())
    }

    fn cut(&mut self) -> Result<(), Stop> {
        let full = match &self.bounds {
            Bounds::Measured { rows, bytes } => self.rows >= *rows || self.bytes >= *bytes,
            Bounds::Planned(_) => self.rows >= self.limit,
        };
        if full { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> Result<(), Stop> {
        let failed = |error: tarn_model::ValidationError| DropError::local("collect a chunk", error);
        if let Some(builder) = self.builder.take() {
            self.pieces.push(builder.finish().map_err(failed)?);
        }
        let batch = PointBatch::concat(&std::mem::take(&mut self.pieces)).map_err(failed)?;
        let deletions = (0..batch.rows()).filter(|&row| batch.is_deleted(row)).count();
        let count = |rows: usize| u32::try_from(rows).unwrap_or(u32::MAX);
        let plan = ChunkPlan { rows: count(self.rows), deletions: count(deletions), offset: self.start.offset };
        let (offset, line) = self.end;
        self.start = Place { row: self.start.row + self.rows as u64, offset, line };
        (self.rows, self.bytes) = (0, 0);
        self.next_limit();
        (self.deliver)(batch, plan, self.start)
    }

    /// Hands over what is left.
    pub(crate) fn finish(mut self) -> Result<(), Stop> {
        if self.rows == 0 {
            return Ok(());
        }
        if matches!(self.bounds, Bounds::Planned(_)) {
            return Err(DropError::local("follow the plan of the file", "it has fewer rows than it had").into());
        }
        self.hand_over()
    }
}
