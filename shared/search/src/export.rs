//! Points of an index as columns, a batch at a time: what an export and a large sample stream.
//!
//! The columns are those of a data source's export (`tarn_timeline::live`), so that the same encoders write both and what was
//! exported can be uploaded again.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Float64Array, ListArray, RecordBatch, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use futures::stream::BoxStream;
use tarn_model::{Attributes, DataSource, Filter, ReadToken, Vector, VectorKind};
use tarn_segment::Segment;
use tarn_timeline::checkpoint_schema;

use crate::error::SearchError;
use crate::request::Consistency;
use crate::sample::Sample;

/// Most rows of a batch.
const BATCH_ROWS: usize = 4096;
/// About how many coordinates a batch may have.
const BATCH_COORDINATES: usize = 1 << 20;

/// Which points to stream.
#[derive(Clone, Debug, Default)]
pub struct ExportRequest {
    /// Values of some, all or none of the index's split attributes.
    pub split_filter: Attributes,
    /// Only points that satisfy it.
    pub filter: Option<Filter>,
    /// Only a sample of them.
    pub sample: Option<Sample>,
    /// How fresh.
    pub consistency: Consistency,
    /// The state that an earlier generation shows.
    pub as_of: Option<u64>,
}

/// Points being read. Memory holds a bit for each row of one segment, and a batch.
pub struct Export {
    /// The version that the points are the state of.
    pub version: ReadToken,
    /// The generation that it rests on; 0 before the first build.
    pub generation: u64,
    /// Of the batches.
    pub schema: SchemaRef,
    /// Each point once, in no particular order. It ends after the first error.
    pub batches: BoxStream<'static, Result<RecordBatch, SearchError>>,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, generation, schema, .. } = self;
        let mut shown = f.debug_struct("Export");
        shown.field("version", version).field("generation", generation).field("schema", schema).finish_non_exhaustive()
    }
}

/// The columns that users know: the attributes, and the vector.
pub(crate) fn schema(source: &DataSource) -> SchemaRef {
    // `_key` and `_version` come first.
    Arc::new(Schema::new(checkpoint_schema(source).fields().iter().skip(2).cloned().collect::<Vec<_>>()))
}

/// Rows of a batch: fewer of long vectors.
pub(crate) fn batch_rows(source: &DataSource) -> usize {
    match source.vector_kind {
        VectorKind::Dense => (BATCH_COORDINATES / (source.vector_dimension as usize).max(1)).clamp(1, BATCH_ROWS),
        VectorKind::Sparse => BATCH_ROWS,
    }
}

/// Some rows of a segment.
///
/// # Errors
/// [`SearchError::Internal`] when the segment's columns are not the data source's.
pub(crate) fn batch(segment: &Segment, rows: Vec<u32>, schema: &SchemaRef) -> Result<RecordBatch, SearchError> {
    let built = build(segment, rows, schema);
    built.map_err(|error| SearchError::Internal(format!("a batch of points: {error}")))
}

fn build(segment: &Segment, rows: Vec<u32>, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let vectors: Vec<Vector> = rows.iter().map(|&row| segment.vector(row)).collect();
    let rows = UInt32Array::from(rows);
    let attributes = segment.attributes().columns().iter();
    let mut columns = attributes.map(|column| take(column, &rows, None)).collect::<Result<Vec<ArrayRef>, _>>()?;
    for field in schema.fields().iter().skip(columns.len()) {
        columns.push(match field.data_type() {
            DataType::FixedSizeList(coordinate, dimension) => {
                let values = vectors.iter().flat_map(|vector| match vector {
                    Vector::Dense(values) => values.as_slice(),
                    Vector::Sparse(_) => &[],
                });
                let values = Float32Array::from_iter_values(values.copied());
                Arc::new(FixedSizeListArray::try_new(Arc::clone(coordinate), *dimension, Arc::new(values), None)?)
            }
            DataType::List(coordinate) => {
                let sparse = || {
                    vectors.iter().filter_map(|vector| match vector {
                        Vector::Sparse(vector) => Some(vector),
                        Vector::Dense(_) => None,
                    })
                };
                let offsets = OffsetBuffer::from_lengths(sparse().map(|vector| vector.indices.len()));
                let values: ArrayRef = match coordinate.data_type() {
                    DataType::UInt32 => Arc::new(UInt32Array::from_iter_values(
                        sparse().flat_map(|vector| vector.indices.iter().copied()),
                    )),
                    _ => Arc::new(Float64Array::from_iter_values(
                        sparse().flat_map(|vector| vector.values.iter().copied()),
                    )),
                };
                Arc::new(ListArray::try_new(Arc::clone(coordinate), offsets, values, None)?)
            }
            other => return Err(ArrowError::SchemaError(format!("a vector column of type {other}"))),
        });
    }
    RecordBatch::try_new(Arc::clone(schema), columns)
}
