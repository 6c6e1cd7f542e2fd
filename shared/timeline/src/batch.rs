//! A validated batch of updates in canonical columns.
//!
//! Whoever holds a [`PointBatch`] need check nothing again: its columns are those of [`delta_schema`], every key equals
//! its permanent attributes, every value is within its limits, tombstones are null but for their permanent attributes.
//! Rows are in the order of the upload; of several rows with one key the last wins, and nothing here removes the others.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, BooleanArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use tarn_model::{Attributes, DataPoint, DataSource, Update, ValidationError};

use crate::columnar::{ColumnFault, ColumnMapping, check_points, convert};
use crate::rows::{row_attributes, row_vector};
use crate::schema::{MAX_DELTA_ROWS, delta_schema};

/// A validated batch of updates of one data source. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PointBatch {
    source: Arc<DataSource>,
    batch: RecordBatch,
    keys: BinaryArray,
    deleted: BooleanArray,
}

impl PointBatch {
    /// Validates updates, row by row.
    ///
    /// # Errors
    /// Every message that applies to the first faulty update, in the wire texts.
    pub fn from_updates(source: Arc<DataSource>, updates: &[Update]) -> Result<Self, ValidationError> {
        let mut builder = crate::DeltaBuilder::new(source, updates.len());
        for update in updates {
            builder.push(update)?;
        }
        builder.finish()
    }

    /// Validates columns, a whole column at a time.
    ///
    /// # Errors
    /// A column is missing, unknown or of a type that cannot hold the attribute without loss, or a value breaks a rule
    /// of the data source; the message names row and column.
    pub fn from_record_batch(
        source: Arc<DataSource>,
        batch: &RecordBatch,
        mapping: &ColumnMapping,
    ) -> Result<Self, ValidationError> {
        Self::from_part(source, batch, mapping, 0)
    }

    /// As [`Self::from_record_batch`], with an error that tells row and column apart.
    ///
    /// # Errors
    /// See [`Self::from_record_batch`].
    pub fn try_from_columns(
        source: Arc<DataSource>,
        batch: &RecordBatch,
        mapping: &ColumnMapping,
    ) -> Result<Self, ColumnFault> {
        convert(source, batch, mapping)
    }

    /// As [`Self::from_record_batch`], for the rows of an upload from `first_row` on: messages count rows from its start.
    ///
    /// # Errors
    /// See [`Self::from_record_batch`]; also when the upload has too many rows up to here.
    pub fn from_part(
        source: Arc<DataSource>,
        part: &RecordBatch,
        mapping: &ColumnMapping,
        first_row: usize,
    ) -> Result<Self, ValidationError> {
        check_points(first_row.saturating_add(part.num_rows()))?;
        Ok(convert(source, part, mapping)
            .map_err(|fault| ColumnFault { row: fault.row.map(|row| first_row.saturating_add(row)), ..fault })?)
    }

    /// Wraps columns that are known to be canonical.
    pub(crate) fn from_canonical(
        source: Arc<DataSource>,
        schema: SchemaRef,
        keys: BinaryArray,
        deleted: BooleanArray,
        rest: Vec<ArrayRef>,
    ) -> Result<Self, ValidationError> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(keys.clone()), Arc::new(deleted.clone())];
        columns.extend(rest);
        let batch = RecordBatch::try_new(schema, columns).map_err(|e| ValidationError::one(e.to_string()))?;
        Ok(Self { source, batch, keys, deleted })
    }

    /// One batch with the rows of all, in order.
    ///
    /// # Errors
    /// No batch at all, batches of different data sources, or more rows than a delta takes ([`MAX_DELTA_ROWS`]).
    pub fn concat(batches: &[Self]) -> Result<Self, ValidationError> {
        let [first, rest @ ..] = batches else {
            return Err(ValidationError::one("there is no batch to join"));
        };
        if rest.is_empty() {
            return Ok(first.clone());
        }
        if rest.iter().any(|other| other.source != first.source) {
            return Err(ValidationError::one("batches of different data sources cannot be joined"));
        }
        let rows: usize = batches.iter().map(Self::rows).sum();
        if rows > MAX_DELTA_ROWS {
            return Err(ValidationError::one(format!(
                "a delta takes at most {MAX_DELTA_ROWS} rows, not {rows}; upload in several parts"
            )));
        }
        let schema = first.batch.schema();
        let batch = concat_batches(&schema, batches.iter().map(|b| &b.batch))
            .map_err(|e| ValidationError::one(format!("the batches do not fit together: {e}")))?;
        let (Some(keys), Some(deleted)) = (
            batch.column(0).as_any().downcast_ref::<BinaryArray>().cloned(),
            batch.column(1).as_any().downcast_ref::<BooleanArray>().cloned(),
        ) else {
            return Err(ValidationError::one("the batches are not in canonical columns"));
        };
        Ok(Self { source: Arc::clone(&first.source), batch, keys, deleted })
    }

    /// An empty batch.
    pub fn empty(source: Arc<DataSource>) -> Self {
        let batch = RecordBatch::new_empty(delta_schema(&source));
        Self { source, batch, keys: BinaryArray::from_vec(Vec::new()), deleted: BooleanArray::from(Vec::<bool>::new()) }
    }

    /// The number of updates.
    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// Whether there is no update.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// The data source.
    pub fn source(&self) -> &Arc<DataSource> {
        &self.source
    }

    /// The point key of a row below [`Self::rows`].
    pub fn key(&self, row: usize) -> &[u8] {
        self.keys.value(row)
    }

    /// The point keys.
    pub fn keys(&self) -> &BinaryArray {
        &self.keys
    }

    /// Whether a row below [`Self::rows`] is a tombstone.
    pub fn is_deleted(&self, row: usize) -> bool {
        self.deleted.value(row)
    }

    /// The canonical columns, see [`delta_schema`].
    pub fn record_batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// One row as an update. A tombstone carries its permanent attributes alone. `None` beyond the last row.
    pub fn update(&self, row: usize) -> Option<Update> {
        if row >= self.rows() {
            return None;
        }
        let attributes: Attributes = row_attributes(&self.batch, &self.source, row);
        Some(match row_vector(&self.batch, &self.source, row) {
            Some(vector) if !self.is_deleted(row) => Update::Upsert(DataPoint { attributes, vector }),
            _ => Update::Delete(attributes),
        })
    }

    /// What the columns take in memory, in bytes, to within allocation slack.
    pub fn estimated_bytes(&self) -> usize {
        self.batch
            .columns()
            .iter()
            .map(|column| column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()))
            .sum()
    }
}
