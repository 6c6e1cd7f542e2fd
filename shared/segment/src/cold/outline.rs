//! The end of a cells file: what a reader needs first.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use tarn_model::{Corrupt, Metric, ObjectRef};

use super::fetched::FetchedCells;
use super::plan::{CellPlan, ColdBudget};
use crate::calibration::CellsCalibration;
use crate::error::SegmentError;
use crate::hit::Effort;
use crate::query::Query;
use crate::rows::Rows;

/// What is known of a cells file from its last bytes: its cells, their centroids, and where everything is.
///
/// Immutable; share it behind an `Arc`.
#[derive(Debug)]
pub struct Outline {
    name: String,
    metric: Metric,
    dimension: u32,
    rows: u32,
    schema: SchemaRef,
    calibration: CellsCalibration,
}

impl Outline {
    /// Verifies and decodes the last bytes of a file. `tail`: at least the catalog's `outline` bytes, up to the end of
    /// the file. `object`: what the catalog says of the file. `name` stands in errors.
    ///
    /// # Errors
    /// [`Corrupt`] when a byte of it is not what was written, or it is not the end of that object.
    pub fn read(name: &str, tail: Bytes, object: &ObjectRef) -> Result<Self, Corrupt> {
        let _ = (tail, object);
        Err(Self::unfinished(name))
    }

    /// The name in errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The distance.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// The vectors' dimension.
    pub fn dimension(&self) -> u32 {
        self.dimension
    }

    /// The number of rows, dead ones included.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// The number of cells.
    pub fn cells(&self) -> usize {
        0
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

    /// Bytes of memory that the outline takes, roughly.
    pub fn bytes(&self) -> usize {
        0
    }

    /// Where a column of the attributes lies in the file. `None` when there is no such column. May be empty.
    pub fn column_range(&self, column: usize) -> Option<Range<u64>> {
        let _ = column;
        None
    }

    /// A batch of these columns, in the order given, of all rows. `fetched`: the columns' positions, each with the bytes
    /// of its [`Self::column_range`].
    ///
    /// # Errors
    /// [`Corrupt`] when the bytes are not the column's.
    pub fn columns(&self, fetched: &[(usize, Bytes)]) -> Result<RecordBatch, Corrupt> {
        let _ = fetched;
        Err(Self::unfinished(&self.name))
    }

    /// Chooses the cells to look into. `None`: nothing this plan may do reaches what was asked for; fetch the whole file.
    ///
    /// `allowed.superseded` is usually `None`: rows are known by key only when they have been read, and
    /// [`RowPlan::hits`][super::RowPlan::hits] asks then.
    ///
    /// # Errors
    /// [`SegmentError::Input`] when a query does not fit the segment, or there is none.
    #[expect(clippy::too_many_arguments, reason = "a search is all of these")]
    pub fn plan_cells(
        self: &Arc<Self>,
        queries: &[Query],
        k: usize,
        effort: Effort,
        allowed: &Rows<'_>,
        budget: &ColdBudget,
        fetched: &FetchedCells,
    ) -> Result<Option<CellPlan>, SegmentError> {
        let _ = (queries, k, effort, allowed, budget, fetched);
        Ok(None)
    }

    fn unfinished(name: &str) -> Corrupt {
        Corrupt { object: name.to_owned(), part: String::new(), expected: String::new(), found: String::new() }
    }
}
