//! The end of a cells file: what a reader needs first.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tarn_model::{AttributeType, Corrupt, Metric, ObjectRef, limits};

use super::calibration::ColdCalibration;
use super::fetched::FetchedCells;
use super::plan::{CellPlan, ColdBudget, plan_cells};
use crate::calibration::CellsCalibration;
use crate::cells::Map;
use crate::columns::{ColumnLayout, ColumnsLayout};
use crate::error::SegmentError;
use crate::format::{BlockKind, Entry, Frame, Meta};
use crate::hit::Effort;
use crate::kind::SegmentKind;
use crate::query::Query;
use crate::rows::Rows;
use crate::slots::SlotLayout;

/// What is known of a cells file from its last bytes: its cells, their centroids, and where everything is.
///
/// Immutable; share it behind an `Arc`.
#[derive(Debug)]
pub struct Outline {
    name: String,
    pub(super) meta: Meta,
    schema: SchemaRef,
    columns: ColumnsLayout,
    pub(super) types: Vec<AttributeType>,
    calibration: CellsCalibration,
    pub(super) map: Map,
    pub(super) slots: SlotLayout,
    tail_bytes: usize,
    attributes: Range<u64>,
    /// Where the codes of cells lie in the file, the rows' slots, and the records that did not fit theirs.
    pub(super) codes: Range<u64>,
    pub(super) rows: Range<u64>,
    pub(super) records: Range<u64>,
}

impl Outline {
    /// Verifies and decodes the last bytes of a file. `tail`: at least the catalog's `outline` bytes, up to the end of
    /// the file. `object`: what the catalog says of the file. `name` stands in errors.
    ///
    /// # Errors
    /// [`Corrupt`] when a byte of it is not what was written, or it is not the end of that object.
    pub fn read(name: &str, tail: Bytes, object: &ObjectRef) -> Result<Self, Corrupt> {
        let frame = Frame::read(name, &tail, object.bytes)?;
        frame.verify_blocks(name, &tail)?;
        frame.verify_whole(name, &tail, Some(object))?;
        let tail_bytes = tail.len();
        let start = object.bytes - tail_bytes as u64;
        let blocks = Blocks { name, frame, tail: Buffer::from(tail), start };

        let meta: Meta = blocks.json(BlockKind::Meta)?;
        let layout = meta.slot_bytes.and_then(|bytes| SlotLayout::new(meta.dimension, bytes));
        let fits = meta.kind == SegmentKind::Cells
            && !meta.metric.is_sparse()
            && (1..=limits::DENSE_DIMENSION).contains(&meta.dimension)
            && meta.rows <= i32::MAX as u32;
        let (Some(slots), true) = (layout, fits) else {
            return Err(blocks.corrupt(BlockKind::Meta, "a segment of cells", format!("{meta:?}")));
        };
        let rows = blocks.range(BlockKind::RowSlots)?;
        if rows.end - rows.start != u64::from(meta.rows) * slots.bytes as u64 {
            let found = format!("{} bytes for {} rows", rows.end - rows.start, meta.rows);
            return Err(blocks.corrupt(BlockKind::RowSlots, &format!("{} bytes a row", slots.bytes), found));
        }
        let attributes = blocks.range(BlockKind::Attributes)?;
        let columns: ColumnsLayout = blocks.json(BlockKind::AttributeColumns)?;
        columns
            .check(attributes.end - attributes.start)
            .map_err(|found| blocks.corrupt(BlockKind::AttributeColumns, "columns inside the attributes", found))?;
        let codes = blocks.range(BlockKind::CellCodes)?;
        let (directory, centroids) = (blocks.get(BlockKind::Cells)?, blocks.get(BlockKind::CellCentroids)?);
        let map = Map::read(&directory, centroids, codes.end - codes.start, meta.metric, meta.dimension, meta.rows)
            .map_err(|(kind, found)| blocks.corrupt(kind, "valid contents", found))?;
        let calibration: CellsCalibration = blocks.json(BlockKind::CellCalibration)?;
        for measured in &calibration.cold {
            measured.check().map_err(|found| blocks.corrupt(BlockKind::CellCalibration, "parts of a whole", found))?;
        }
        Ok(Self {
            name: name.to_owned(),
            schema: columns.schema(),
            types: columns.columns.iter().map(|column| column.attribute_type).collect(),
            columns,
            calibration,
            map,
            slots,
            tail_bytes,
            attributes,
            codes,
            rows,
            records: blocks.range(BlockKind::Records)?,
            meta,
        })
    }

    /// The name in errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The distance.
    pub fn metric(&self) -> Metric {
        self.meta.metric
    }

    /// The vectors' dimension.
    pub fn dimension(&self) -> u32 {
        self.meta.dimension
    }

    /// The number of rows, dead ones included.
    pub fn rows(&self) -> u32 {
        self.meta.rows
    }

    /// The number of cells.
    pub fn cells(&self) -> usize {
        self.map.count()
    }

    /// Recall as it was measured at build.
    pub fn calibration(&self) -> &CellsCalibration {
        &self.calibration
    }

    /// Names and types of the attribute columns, in their order. [`ColdHit::values`][super::ColdHit::values] has the
    /// same order.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Bytes of memory that the outline takes, roughly: the bytes that it was read from, and what was made of them.
    pub fn bytes(&self) -> usize {
        // Centroids are looked up in the bytes that were read, so that all of those stay.
        self.tail_bytes + self.map.bytes()
    }

    /// Where a column of the attributes lies in the file. `None` when there is no such column. May be empty.
    pub fn column_range(&self, column: usize) -> Option<Range<u64>> {
        let ColumnLayout { offset, length, .. } = self.columns.columns.get(column)?;
        let start = self.attributes.start + offset;
        Some(start..start + length)
    }

    /// A batch of these columns, in the order given, of all rows. `fetched`: the columns' positions, each with the bytes
    /// of its [`Self::column_range`].
    ///
    /// # Errors
    /// [`Corrupt`] when the bytes are not the column's.
    pub fn columns(&self, fetched: &[(usize, Bytes)]) -> Result<RecordBatch, Corrupt> {
        let rows = self.meta.rows as usize;
        let mut arrays = Vec::with_capacity(fetched.len());
        let mut positions = Vec::with_capacity(fetched.len());
        for (position, bytes) in fetched {
            let Some(column) = self.columns.columns.get(*position) else {
                let expected = format!("fewer than {} columns", self.columns.columns.len());
                return Err(self.corrupt(BlockKind::AttributeColumns, expected, format!("column {position}")));
            };
            let array = column.decode(bytes, rows);
            let expected = || format!("attribute {} as it was written", column.name);
            arrays.push(array.map_err(|found| self.corrupt(BlockKind::Attributes, expected(), found))?);
            positions.push(*position);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = self.schema.project(&positions);
        schema
            .and_then(|schema| RecordBatch::try_new_with_options(Arc::new(schema), arrays, &options))
            .map_err(|error| self.corrupt(BlockKind::Attributes, format!("{rows} rows"), error.to_string()))
    }

    /// Chooses the cells to look into. `None`: nothing this plan may do reaches what was asked for; fetch the whole file.
    ///
    /// `allowed.superseded` is usually `None`: rows are known by key only when they have been read, and
    /// [`RowPlan::hits`][super::RowPlan::hits] asks then.
    ///
    /// # Errors
    /// [`SegmentError::Input`] when a query does not fit the segment.
    pub fn plan_cells(
        self: &Arc<Self>,
        queries: &[Query],
        k: usize,
        effort: Effort,
        allowed: &Rows<'_>,
        budget: &ColdBudget,
        fetched: &FetchedCells,
    ) -> Result<Option<CellPlan>, SegmentError> {
        plan_cells(self, queries, k, effort, allowed, budget, fetched)
    }

    /// What was measured for so many neighbours.
    pub(super) fn cold_calibration(&self, k: usize) -> Option<&ColdCalibration> {
        self.calibration.cold.iter().find(|measured| k <= measured.k as usize)
    }

    /// Whether as many bytes were read as the ranges have.
    pub(super) fn check_lengths(&self, kind: BlockKind, ranges: &[Range<u64>], bytes: &[Bytes]) -> Result<(), Corrupt> {
        if ranges.len() != bytes.len() {
            return Err(self.corrupt(kind, format!("{} ranges", ranges.len()), format!("{} ranges", bytes.len())));
        }
        for (range, bytes) in ranges.iter().zip(bytes) {
            if range.end - range.start != bytes.len() as u64 {
                let expected = format!("{} bytes at {}", range.end - range.start, range.start);
                return Err(self.corrupt(kind, expected, format!("{} bytes", bytes.len())));
            }
        }
        Ok(())
    }

    pub(super) fn corrupt(&self, kind: BlockKind, expected: String, found: String) -> Corrupt {
        Corrupt { object: self.name.clone(), part: format!("block {}", kind.name()), expected, found }
    }
}

/// The blocks of a file, of which the last are at hand.
struct Blocks<'a> {
    name: &'a str,
    frame: Frame,
    tail: Buffer,
    /// Where the tail begins in the file.
    start: u64,
}

impl Blocks<'_> {
    fn corrupt(&self, kind: BlockKind, expected: &str, found: String) -> Corrupt {
        let part = format!("block {}", kind.name());
        Corrupt { object: self.name.to_owned(), part, expected: expected.to_owned(), found }
    }

    fn entry(&self, kind: BlockKind) -> Result<&Entry, Corrupt> {
        self.frame.entry(kind).ok_or_else(|| self.corrupt(kind, "a block", "none".to_owned()))
    }

    fn range(&self, kind: BlockKind) -> Result<Range<u64>, Corrupt> {
        self.entry(kind).map(|entry| entry.offset..entry.offset + entry.length)
    }

    fn get(&self, kind: BlockKind) -> Result<Buffer, Corrupt> {
        let entry = self.entry(kind)?;
        let at = entry.offset.checked_sub(self.start);
        // What begins in the tail ends there: the footer, which comes later, is in it.
        let at = at.ok_or_else(|| {
            self.corrupt(kind, &format!("at {} or later", self.start), format!("at {}", entry.offset))
        })?;
        Ok(self.tail.slice_with_length(at as usize, entry.length as usize))
    }

    fn json<T: DeserializeOwned>(&self, kind: BlockKind) -> Result<T, Corrupt> {
        serde_json::from_slice(&self.get(kind)?)
            .map_err(|error| self.corrupt(kind, "JSON of this block", error.to_string()))
    }
}
