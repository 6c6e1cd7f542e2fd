//! Arrow columns of an upload to canonical columns, a whole column at a time.
//!
//! Casts are lenient as long as nothing is lost: a narrower integer or float, any timestamp unit, strings of any layout or
//! behind a dictionary, UUIDs as text or bytes. A value that the cast would change is refused, and the message names its
//! row and column. Vectors may come as f16, f32 or f64; f64 is rounded to f32, as in a JSON upload.
//!
//! A tombstone's other attributes and its vector are dropped: change feeds often carry the old values along.

mod attributes;
mod dense;
mod lists;
mod mapping;
mod size;
mod sparse;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::DataType;
use tarn_model::{DataSource, ValidationError, VectorKind, limits};

use crate::batch::PointBatch;
use crate::keys::KeyEncoder;
use crate::schema::{
    INDICES_COLUMN, VALUES_COLUMN, VECTOR_COLUMN, attribute_data_type, check_vector_bytes, delta_schema,
};

pub use mapping::ColumnMapping;
use mapping::Columns;

/// Why columns are no points: which row and which column, when it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnFault {
    /// From 0, in the batch.
    pub row: Option<usize>,
    /// As the batch names it.
    pub column: Option<String>,
    /// What is wrong; at least one message.
    pub messages: Vec<String>,
}

impl From<ValidationError> for ColumnFault {
    fn from(error: ValidationError) -> Self {
        Self { row: None, column: None, messages: error.messages }
    }
}

impl From<ColumnFault> for ValidationError {
    fn from(fault: ColumnFault) -> Self {
        let messages = fault.messages.into_iter();
        let messages = messages.map(|what| match (fault.row, &fault.column) {
            (None, None) => what,
            (None, Some(column)) => format!("column '{column}': {what}"),
            (Some(row), None) => format!("row {row} (from 0): {what}"),
            (Some(row), Some(column)) => format!("row {row} (from 0), column '{column}': {what}"),
        });
        Self { messages: messages.collect() }
    }
}

/// What is wrong with a row of a column.
#[derive(Debug)]
struct Fault {
    row: usize,
    what: String,
}

impl Fault {
    fn new(row: usize, what: impl Into<String>) -> Self {
        Self { row, what: what.into() }
    }
}

/// Either a whole column is unsuitable, or a row of it.
#[derive(Debug)]
enum Refusal {
    Column(String),
    Row(Fault),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Row(fault)
    }
}

impl Refusal {
    fn name(self, column: &str) -> ColumnFault {
        let (row, what) = match self {
            Self::Column(what) => (None, what),
            Self::Row(Fault { row, what }) => (Some(row), what),
        };
        ColumnFault { row, column: Some(column.to_owned()), messages: vec![what] }
    }
}

/// Which rows must have values: `None` means all.
#[derive(Clone, Debug)]
struct Live(Option<NullBuffer>);

impl Live {
    fn all() -> Self {
        Self(None)
    }

    /// Whether any row must have a value. True of no rows at all.
    fn any(&self) -> bool {
        self.0.as_ref().is_none_or(|live| live.null_count() < live.len())
    }

    /// The nulls of a canonical column.
    fn nulls(&self) -> Option<NullBuffer> {
        self.0.clone()
    }

    fn has(&self, row: usize) -> bool {
        self.0.as_ref().is_none_or(|live| live.is_valid(row))
    }

    /// The first row that must have a value and has none.
    fn first_missing(&self, array: &dyn Array) -> Option<usize> {
        let nulls = array.logical_nulls().filter(|nulls| nulls.null_count() > 0)?;
        (0..array.len()).find(|&row| self.has(row) && nulls.is_null(row))
    }
}

/// Refuses an upload of more points than one may have.
pub(crate) fn check_points(points: usize) -> Result<(), ValidationError> {
    if points > limits::BATCH_POINTS {
        return Err(ValidationError::one(format!(
            "an upload takes at most {} points; send several uploads, or drop a file",
            limits::BATCH_POINTS
        )));
    }
    Ok(())
}

pub(crate) fn convert(
    source: Arc<DataSource>,
    batch: &RecordBatch,
    mapping: &ColumnMapping,
) -> Result<PointBatch, ColumnFault> {
    check_points(batch.num_rows())?;
    check_vector_bytes(&source, batch.num_rows())?;
    let columns = Columns::resolve(&source, batch, mapping)?;
    size::check(columns.attributes.iter().flatten().map(|column| column.array))?;
    let deleted = deleted(&columns)?;
    let live = match &deleted {
        Some(deleted) if deleted.has_true() => Live(Some(NullBuffer::new(!deleted.values()))),
        _ => Live::all(),
    };

    let mut rest = Vec::with_capacity(source.attribute_types.len() + 2);
    for ((name, &attribute_type), column) in source.attribute_types.iter().zip(&columns.attributes) {
        let permanent = source.permanent_attributes.contains(name);
        let must = if permanent { Live::all() } else { live.clone() };
        let Some(column) = column else {
            if !permanent && !live.any() {
                rest.push(new_null_array(&attribute_data_type(attribute_type), batch.num_rows()));
                continue;
            }
            return Err(ValidationError::one(format!(
                "All attributes defined for data source (and no other ones) must be specified: there is no column '{name}'"
            ))
            .into());
        };
        let converted = attributes::convert(column.array, name, attribute_type, &must, source.sharders.get(name));
        rest.push(converted.map_err(|refusal| refusal.name(column.name))?);
    }
    vectors(&source, &columns, &live, &mut rest)?;

    let permanent = source.attribute_types.iter().zip(&rest);
    let permanent = permanent.filter(|((name, _), _)| source.permanent_attributes.contains(*name));
    let encoder = KeyEncoder::new(permanent.map(|((_, &attribute_type), array)| (attribute_type, array)))
        .ok_or_else(|| ValidationError::one("a permanent attribute's column is of another type"))?;
    let keys = encoder.encode_all(batch.num_rows()).map_err(|(row, what)| ColumnFault {
        row: Some(row),
        column: None,
        messages: vec![what],
    })?;
    let deleted = deleted.unwrap_or_else(|| BooleanArray::new(BooleanBuffer::new_unset(batch.num_rows()), None));
    let schema = delta_schema(&source);
    Ok(PointBatch::from_canonical(source, schema, keys, deleted, rest)?)
}

fn deleted(columns: &Columns<'_>) -> Result<Option<BooleanArray>, ColumnFault> {
    let Some(column) = columns.deleted else { return Ok(None) };
    let refuse = |refusal: Refusal| refusal.name(column.name);
    let Some(flags) = column.array.as_boolean_opt() else {
        let found = column.array.data_type();
        return Err(refuse(Refusal::Column(format!("marks tombstones and must be Boolean, not {found}"))));
    };
    match Live::all().first_missing(flags) {
        Some(row) => Err(refuse(Fault::new(row, "must be true or false, not null").into())),
        None => Ok(Some(BooleanArray::new(flags.values().clone(), None))),
    }
}

fn vectors(
    source: &DataSource,
    columns: &Columns<'_>,
    live: &Live,
    rest: &mut Vec<ArrayRef>,
) -> Result<(), ColumnFault> {
    let rows = columns.rows;
    let nulls = |data_type: DataType| new_null_array(&data_type, rows);
    match source.vector_kind {
        VectorKind::Dense => {
            let vector = match columns.vector {
                Some(column) => dense::convert(column.array, source, live).map_err(|r| r.name(column.name))?,
                None if live.any() => return Err(missing(VECTOR_COLUMN, "vector", "Vector must be dense")),
                None => nulls(dense::data_type(source)),
            };
            rest.push(vector);
        }
        VectorKind::Sparse => match (columns.indices, columns.values) {
            (Some(indices), Some(values)) => {
                let checked = sparse::indices(indices.array, source, live).map_err(|r| r.name(indices.name))?;
                let values = sparse::values(values.array, live).map_err(|r| r.name(values.name))?;
                let (indices, values) =
                    sparse::combine(checked, values, live).map_err(|fault| Refusal::Row(fault).name(indices.name))?;
                rest.extend([indices, values]);
            }
            (None, _) if live.any() => return Err(missing(INDICES_COLUMN, "indices", "Vector must be sparse")),
            (_, None) if live.any() => return Err(missing(VALUES_COLUMN, "values", "Vector must be sparse")),
            _ => rest.extend([nulls(sparse::indices_type()), nulls(sparse::values_type())]),
        },
    }
    Ok(())
}

fn missing(ours: &str, alias: &str, message: &str) -> ColumnFault {
    ValidationError::one(format!("{message}: there is no column '{ours}' or '{alias}'")).into()
}
