//! What canonical columns obey, checked on columns that come out of a store.
//!
//! Owns `delta-matches-source`: the columns are those of the data source; keys equal the permanent attributes; exactly the
//! tombstones lack the other attributes and the vector; coordinates are finite and, when sparse, ascending and below the
//! dimension.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Float32Type, Float64Type, UInt32Type};
use tarn_model::{AttributeType, Corrupt, DataSource, VectorKind, limits};

use crate::keys::KeyEncoder;

/// What is wrong, before it is known in which object.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) part: String,
    pub(crate) expected: String,
    pub(crate) found: String,
}

impl Broken {
    pub(crate) fn new(part: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { part: part.into(), expected: expected.into(), found: found.into() }
    }

    pub(crate) fn in_object(self, object: &str) -> Corrupt {
        Corrupt { object: object.to_owned(), part: self.part, expected: self.expected, found: self.found }
    }
}

/// Checks columns that have the schema of a delta.
pub(crate) fn check_delta(
    source: &DataSource,
    batch: &RecordBatch,
    keys: &BinaryArray,
    deleted: &BooleanArray,
) -> Result<(), Broken> {
    let live = deleted.has_true().then(|| NullBuffer::new(!deleted.values()));
    // Columns follow `_key` and `_deleted`: attributes in key order, then the vector.
    let attributes: Vec<_> = source.attribute_types.iter().zip(batch.columns().iter().skip(2)).collect();
    for &((name, &attribute_type), column) in &attributes {
        if !source.permanent_attributes.contains(name) {
            check_nulls(name, column, live.as_ref())?;
        }
        check_values(name, column, attribute_type)?;
    }
    let permanent = attributes.iter().filter(|((name, _), _)| source.permanent_attributes.contains(*name));
    check_keys(keys, KeyEncoder::new(permanent.map(|((_, attribute_type), column)| (**attribute_type, *column))))?;
    check_vectors(source, &batch.columns()[2 + attributes.len()..], live.as_ref())
}

fn check_nulls(column: &str, array: &ArrayRef, live: Option<&NullBuffer>) -> Result<(), Broken> {
    let same = match (array.nulls(), live) {
        (None, None) => true,
        (Some(nulls), None) => nulls.null_count() == 0,
        (None, Some(live)) => live.null_count() == 0,
        (Some(nulls), Some(live)) => nulls.inner() == live.inner(),
    };
    if same {
        return Ok(());
    }
    let tombstones = live.map_or(0, NullBuffer::null_count);
    Err(Broken::new(
        format!("column {column}"),
        format!("null in the {tombstones} tombstones alone"),
        format!("{} nulls", array.null_count()),
    ))
}

fn check_values(name: &str, column: &ArrayRef, attribute_type: AttributeType) -> Result<(), Broken> {
    if attribute_type == AttributeType::Float64 {
        let bad = column
            .as_primitive_opt::<Float64Type>()
            .and_then(|floats| floats.iter().flatten().find(|v| !v.is_finite()));
        if let Some(bad) = bad {
            return Err(Broken::new(format!("column {name}"), "finite numbers", bad.to_string()));
        }
    }
    Ok(())
}

fn check_keys(keys: &BinaryArray, encoder: Option<KeyEncoder<'_>>) -> Result<(), Broken> {
    let Some(encoder) = encoder else {
        return Err(Broken::new("columns", "the types of the data source", "others"));
    };
    let mut key = Vec::new();
    for row in 0..keys.len() {
        key.clear();
        encoder.encode(row, &mut key);
        if keys.value(row) != key {
            return Err(Broken::new(format!("column _key, row {row}"), hex(&key), hex(keys.value(row))));
        }
    }
    Ok(())
}

fn check_vectors(source: &DataSource, columns: &[ArrayRef], live: Option<&NullBuffer>) -> Result<(), Broken> {
    let broken = |expected: &str| Broken::new("vectors", expected, "others");
    let columns_missing = || broken("the vector columns of the data source");
    match (source.vector_kind, columns) {
        (VectorKind::Dense, [vectors]) => {
            check_nulls("_vector", vectors, live)?;
            let lists = vectors.as_fixed_size_list_opt().ok_or_else(columns_missing)?;
            let values = lists.values().as_primitive_opt::<Float32Type>().ok_or_else(columns_missing)?.values();
            let good = |v: &f32| v.abs() <= limits::DENSE_COORDINATE;
            let all_good = values.chunks(4096).all(|block| block.iter().fold(true, |all, value| all & good(value)));
            if !all_good {
                return Err(broken("finite coordinates"));
            }
        }
        (VectorKind::Sparse, [indices, values]) => {
            check_nulls("_indices", indices, live)?;
            check_nulls("_values", values, live)?;
            let indices = indices.as_list_opt::<i32>().ok_or_else(columns_missing)?;
            let values = values.as_list_opt::<i32>().ok_or_else(columns_missing)?;
            if indices.value_offsets() != values.value_offsets() {
                return Err(broken("as many indices as values"));
            }
            let flat = indices.values().as_primitive_opt::<UInt32Type>().ok_or_else(columns_missing)?.values();
            for ends in indices.value_offsets().windows(2) {
                let range = usize::try_from(ends[0]).unwrap_or(0)..usize::try_from(ends[1]).unwrap_or(0);
                let row = &flat[range];
                let in_range = row.last().is_none_or(|&last| last < source.vector_dimension);
                if !in_range || !row.is_sorted_by(|a, b| a < b) {
                    return Err(broken("ascending indices below the dimension"));
                }
            }
            let flat = values.values().as_primitive_opt::<Float64Type>().ok_or_else(columns_missing)?.values();
            if !flat.iter().all(|value| value.abs() <= limits::SPARSE_COORDINATE) {
                return Err(broken("finite values"));
            }
        }
        _ => return Err(columns_missing()),
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(32).map(|byte| format!("{byte:02x}")).collect()
}
