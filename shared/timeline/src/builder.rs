//! Builds a [`PointBatch`] row by row: the path of JSON uploads, which come as rows.
//!
//! A row is validated before any part of it is added; so a refused row leaves the builder as it was.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBuilder, FixedSizeBinaryBuilder, FixedSizeListArray, Float32Array,
    Float64Builder, Int64Builder, ListArray, PrimitiveArray, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Float64Type, UInt32Type};
use arrow::error::ArrowError;
use tarn_model::{
    AttributeType, AttributeValue, Attributes, DataSource, PointKey, Update, ValidationError, Vector, VectorKind,
    check_attributes, check_dense, check_sparse, limits,
};

use crate::batch::PointBatch;
use crate::keys::shared;
use crate::schema::{attribute_data_type, check_vector_bytes, coordinate, delta_schema, dimension};

/// The vector of one row, borrowed.
#[derive(Clone, Copy, Debug)]
pub enum RowVector<'a> {
    /// As many coordinates as the data source's dimension.
    Dense(&'a [f32]),
    /// Pairs of index and value, in any order of the indices.
    Sparse {
        /// Unique, below the dimension.
        indices: &'a [u32],
        /// As many as there are indices.
        values: &'a [f64],
    },
}

impl<'a> From<&'a Vector> for RowVector<'a> {
    fn from(vector: &'a Vector) -> Self {
        match vector {
            Vector::Dense(values) => Self::Dense(values),
            Vector::Sparse(sparse) => Self::Sparse { indices: &sparse.indices, values: &sparse.values },
        }
    }
}

/// Collects validated updates into canonical columns.
#[derive(Debug)]
pub struct DeltaBuilder {
    source: Arc<DataSource>,
    key_offsets: Vec<i32>,
    keys: Vec<u8>,
    deleted: Vec<bool>,
    /// One per attribute of the data source, in key order.
    attributes: Vec<AttributeBuilder>,
    vectors: VectorBuilder,
}

#[derive(Debug)]
enum AttributeBuilder {
    Bool(BooleanBuilder),
    Int64(Int64Builder),
    Float64(Float64Builder),
    String(StringBuilder),
    Uuid(FixedSizeBinaryBuilder),
    DateTime(TimestampMicrosecondBuilder),
}

#[derive(Debug)]
enum VectorBuilder {
    Dense(Vec<f32>),
    Sparse { offsets: Vec<i32>, indices: Vec<u32>, values: Vec<f64> },
}

impl DeltaBuilder {
    /// A builder for about `capacity` rows.
    pub fn new(source: Arc<DataSource>, capacity: usize) -> Self {
        let capacity = capacity.min(limits::BATCH_POINTS);
        let attributes = source.attribute_types.values().map(|&t| AttributeBuilder::new(t, capacity)).collect();
        let vectors = match source.vector_kind {
            VectorKind::Dense => VectorBuilder::Dense(Vec::new()),
            VectorKind::Sparse => VectorBuilder::Sparse { offsets: vec![0], indices: Vec::new(), values: Vec::new() },
        };
        Self {
            source,
            key_offsets: vec![0],
            keys: Vec::new(),
            deleted: Vec::with_capacity(capacity),
            attributes,
            vectors,
        }
    }

    /// Adds an update.
    ///
    /// # Errors
    /// Every message that applies, in the wire texts; nothing is added then.
    pub fn push(&mut self, update: &Update) -> Result<(), ValidationError> {
        match update {
            Update::Upsert(point) => self.push_upsert(&point.attributes, (&point.vector).into()),
            Update::Delete(attributes) => self.push_delete(attributes),
        }
    }

    /// Adds an upsert.
    ///
    /// # Errors
    /// See [`Self::push`].
    pub fn push_upsert(&mut self, attributes: &Attributes, vector: RowVector<'_>) -> Result<(), ValidationError> {
        let mut messages = Vec::new();
        if let Err(error) = check_attributes(&self.source, attributes, false) {
            messages.extend(error.messages);
        }
        if let Err(error) = check_row_vector(&self.source, vector) {
            messages.extend(error.messages);
        }
        if !messages.is_empty() {
            return Err(ValidationError { messages });
        }
        self.push_checked(attributes, Some(vector))
    }

    /// Adds a tombstone; attributes that are not permanent are checked and dropped.
    ///
    /// # Errors
    /// See [`Self::push`].
    pub fn push_delete(&mut self, attributes: &Attributes) -> Result<(), ValidationError> {
        check_attributes(&self.source, attributes, true)?;
        self.push_checked(attributes, None)
    }

    fn push_checked(&mut self, attributes: &Attributes, vector: Option<RowVector<'_>>) -> Result<(), ValidationError> {
        if self.rows() == limits::BATCH_POINTS {
            return Err(ValidationError::one(format!(
                "an upload takes at most {} points; send several uploads, or drop a file",
                limits::BATCH_POINTS
            )));
        }
        check_vector_bytes(&self.source, self.rows() + 1)?;
        let key = PointKey::encode(&self.source, attributes)?;
        let key_end = offset(self.keys.len() + key.0.len())?;
        self.vectors.push(vector, &self.source)?;
        self.keys.extend_from_slice(&key.0);
        self.key_offsets.push(key_end);
        for (name, builder) in self.source.attribute_types.keys().zip(&mut self.attributes) {
            let kept = vector.is_some() || self.source.permanent_attributes.contains(name);
            builder.push(attributes.get(name).filter(|_| kept))?;
        }
        self.deleted.push(vector.is_none());
        Ok(())
    }

    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.deleted.len()
    }

    /// The batch.
    ///
    /// # Errors
    /// The columns do not fit together: an internal error, reported rather than risked.
    pub fn finish(self) -> Result<PointBatch, ValidationError> {
        let deleted = BooleanArray::from(self.deleted);
        let nulls = deleted.has_true().then(|| NullBuffer::new(!deleted.values()));
        let keys = BinaryArray::new(
            OffsetBuffer::new(ScalarBuffer::from(self.key_offsets)),
            Buffer::from_vec(self.keys),
            None,
        );
        let mut rest: Vec<ArrayRef> = self.attributes.into_iter().map(AttributeBuilder::finish).collect();
        let vectors = self.vectors.finish(&self.source, nulls);
        rest.extend(
            vectors.map_err(|error| ValidationError::one(format!("the vectors do not fit together: {error}")))?,
        );
        let schema = delta_schema(&self.source);
        PointBatch::from_canonical(self.source, schema, keys, deleted, rest)
    }
}

fn check_row_vector(source: &DataSource, vector: RowVector<'_>) -> Result<(), ValidationError> {
    match (source.vector_kind, vector) {
        (VectorKind::Dense, RowVector::Dense(values)) => check_dense(source.vector_dimension, values),
        (VectorKind::Sparse, RowVector::Sparse { indices, values }) => {
            check_sparse(source.vector_dimension, indices, values)
        }
        (VectorKind::Dense, RowVector::Sparse { .. }) => Err(ValidationError::one("Vector must be dense")),
        (VectorKind::Sparse, RowVector::Dense(_)) => Err(ValidationError::one("Vector must be sparse")),
    }
}

fn offset(bytes: usize) -> Result<i32, ValidationError> {
    i32::try_from(bytes).map_err(|_| ValidationError::one("the upload is too large; send several uploads"))
}

impl AttributeBuilder {
    fn new(attribute_type: AttributeType, capacity: usize) -> Self {
        match attribute_type {
            AttributeType::Bool => Self::Bool(BooleanBuilder::with_capacity(capacity)),
            AttributeType::Int64 => Self::Int64(Int64Builder::with_capacity(capacity)),
            AttributeType::Float64 => Self::Float64(Float64Builder::with_capacity(capacity)),
            AttributeType::String => Self::String(StringBuilder::with_capacity(capacity, capacity * 16)),
            AttributeType::Uuid => Self::Uuid(FixedSizeBinaryBuilder::with_capacity(capacity, 16)),
            AttributeType::DateTime => Self::DateTime(
                TimestampMicrosecondBuilder::with_capacity(capacity)
                    .with_data_type(attribute_data_type(AttributeType::DateTime)),
            ),
        }
    }

    fn push(&mut self, value: Option<&AttributeValue>) -> Result<(), ValidationError> {
        match (self, value) {
            (Self::Bool(builder), Some(AttributeValue::Bool(value))) => builder.append_value(*value),
            (Self::Int64(builder), Some(AttributeValue::Int64(value))) => builder.append_value(*value),
            // Adding zero turns -0.0 into 0.0, the form in which a zero is stored.
            (Self::Float64(builder), Some(AttributeValue::Float64(value))) => builder.append_value(*value + 0.0),
            (Self::String(builder), Some(AttributeValue::String(value))) => builder.append_value(value),
            (Self::Uuid(builder), Some(AttributeValue::Uuid(value))) => {
                builder.append_value(value.as_bytes()).map_err(|error| ValidationError::one(error.to_string()))?;
            }
            (Self::DateTime(builder), Some(AttributeValue::DateTime(value))) => builder.append_value(*value),
            (Self::Bool(builder), None) => builder.append_null(),
            (Self::Int64(builder), None) => builder.append_null(),
            (Self::Float64(builder), None) => builder.append_null(),
            (Self::String(builder), None) => builder.append_null(),
            (Self::Uuid(builder), None) => builder.append_null(),
            (Self::DateTime(builder), None) => builder.append_null(),
            (_, Some(value)) => {
                return Err(ValidationError::one(format!("'{value}' is not of the attribute's type")));
            }
        }
        Ok(())
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Bool(mut builder) => shared(builder.finish()),
            Self::Int64(mut builder) => shared(builder.finish()),
            Self::Float64(mut builder) => shared(builder.finish()),
            Self::String(mut builder) => shared(builder.finish()),
            Self::Uuid(mut builder) => shared(builder.finish()),
            Self::DateTime(mut builder) => shared(builder.finish()),
        }
    }
}

impl VectorBuilder {
    /// Adds a checked vector of the right kind, or the empty place of a tombstone.
    fn push(&mut self, vector: Option<RowVector<'_>>, source: &DataSource) -> Result<(), ValidationError> {
        match self {
            Self::Dense(flat) => match vector {
                Some(RowVector::Dense(values)) => flat.extend_from_slice(values),
                _ => flat.resize(flat.len() + usize::try_from(dimension(source)).unwrap_or(0), 0.0),
            },
            Self::Sparse { offsets, indices, values } => {
                if let Some(RowVector::Sparse { indices: row_indices, values: row_values }) = vector {
                    offset(indices.len() + row_indices.len())?;
                    if row_indices.is_sorted() {
                        indices.extend_from_slice(row_indices);
                        values.extend_from_slice(row_values);
                    } else {
                        let mut pairs: Vec<_> = row_indices.iter().copied().zip(row_values.iter().copied()).collect();
                        pairs.sort_unstable_by_key(|&(index, _)| index);
                        indices.extend(pairs.iter().map(|&(index, _)| index));
                        values.extend(pairs.iter().map(|&(_, value)| value));
                    }
                }
                offsets.push(offset(indices.len())?);
            }
        }
        Ok(())
    }

    fn finish(self, source: &DataSource, nulls: Option<NullBuffer>) -> Result<Vec<ArrayRef>, ArrowError> {
        match self {
            Self::Dense(flat) => {
                let values = shared(Float32Array::from(flat));
                let lists =
                    FixedSizeListArray::try_new(coordinate(DataType::Float32), dimension(source), values, nulls)?;
                Ok(vec![shared(lists)])
            }
            Self::Sparse { offsets, indices, values } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                let indices = shared(PrimitiveArray::<UInt32Type>::from(indices));
                let values = shared(PrimitiveArray::<Float64Type>::from(values));
                Ok(vec![
                    shared(ListArray::try_new(coordinate(DataType::UInt32), offsets.clone(), indices, nulls.clone())?),
                    shared(ListArray::try_new(coordinate(DataType::Float64), offsets, values, nulls)?),
                ])
            }
        }
    }
}
