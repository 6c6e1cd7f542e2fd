//! One row of canonical columns as vocabulary values: the slow path, for answers and for tests.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Float64Type, Int64Type, TimestampMicrosecondType, UInt32Type};
use tarn_model::{AttributeType, AttributeValue, Attributes, DataSource, SparseVector, Vector, VectorKind};
use uuid::Uuid;

use crate::schema::{INDICES_COLUMN, VALUES_COLUMN, VECTOR_COLUMN, attribute_column};

/// The attributes of a row of a delta, a checkpoint file, or any batch that has their attribute columns: those that are
/// there and not null. `row` must be below the batch's row count.
pub fn row_attributes(batch: &RecordBatch, source: &DataSource, row: usize) -> Attributes {
    let value = |(name, &attribute_type): (&String, &AttributeType)| {
        let column = batch.column_by_name(&attribute_column(name))?;
        Some((name.clone(), attribute_value(column, attribute_type, row)?))
    };
    source.attribute_types.iter().filter_map(value).collect()
}

/// One value of a canonical attribute column; `None` when null, or when the column is of another type.
pub(crate) fn attribute_value(column: &dyn Array, attribute_type: AttributeType, row: usize) -> Option<AttributeValue> {
    if column.is_null(row) {
        return None;
    }
    Some(match attribute_type {
        AttributeType::Bool => AttributeValue::Bool(column.as_boolean_opt()?.value(row)),
        AttributeType::Int64 => AttributeValue::Int64(column.as_primitive_opt::<Int64Type>()?.value(row)),
        AttributeType::Float64 => AttributeValue::Float64(column.as_primitive_opt::<Float64Type>()?.value(row)),
        AttributeType::String => AttributeValue::String(column.as_string_opt::<i32>()?.value(row).to_owned()),
        AttributeType::Uuid => {
            AttributeValue::Uuid(Uuid::from_slice(column.as_fixed_size_binary_opt()?.value(row)).ok()?)
        }
        AttributeType::DateTime => {
            AttributeValue::DateTime(column.as_primitive_opt::<TimestampMicrosecondType>()?.value(row))
        }
    })
}

/// The vector of a row; `None` for a tombstone, or when the batch has no vector columns. `row` must be below the batch's
/// row count.
pub fn row_vector(batch: &RecordBatch, source: &DataSource, row: usize) -> Option<Vector> {
    match source.vector_kind {
        VectorKind::Dense => {
            let column = batch.column_by_name(VECTOR_COLUMN)?.as_fixed_size_list_opt()?;
            if column.is_null(row) {
                return None;
            }
            let values = column.value(row);
            Some(Vector::Dense(values.as_primitive_opt::<Float32Type>()?.values().to_vec()))
        }
        VectorKind::Sparse => {
            let indices = batch.column_by_name(INDICES_COLUMN)?.as_list_opt::<i32>()?;
            let values = batch.column_by_name(VALUES_COLUMN)?.as_list_opt::<i32>()?;
            if indices.is_null(row) || values.is_null(row) {
                return None;
            }
            Some(Vector::Sparse(SparseVector {
                indices: indices.value(row).as_primitive_opt::<UInt32Type>()?.values().to_vec(),
                values: values.value(row).as_primitive_opt::<Float64Type>()?.values().to_vec(),
            }))
        }
    }
}
