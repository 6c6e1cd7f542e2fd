//! Dense vector columns: one flat buffer of f32, taken over without a copy when it already is one.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type};
use tarn_model::{DataSource, limits};

use super::lists::Lists;
use super::{Fault, Live, Refusal};
use crate::schema::{coordinate, dimension};

/// The canonical type.
pub(super) fn data_type(source: &DataSource) -> DataType {
    DataType::FixedSizeList(coordinate(DataType::Float32), dimension(source))
}

/// The canonical column.
pub(super) fn convert(array: &ArrayRef, source: &DataSource, live: &Live) -> Result<ArrayRef, Refusal> {
    let rows = array.len();
    let lists = Lists::new(array, live)?;
    lists.check_no_nulls(rows, live)?;
    let flat = match lists.values.data_type() {
        DataType::Float32 => Arc::clone(lists.values),
        DataType::Float16 | DataType::Float64 => {
            cast(lists.values, &DataType::Float32).map_err(|error| Refusal::Column(error.to_string()))?
        }
        other => return Err(Refusal::Column(format!("coordinates must be Float16, Float32 or Float64, not {other}"))),
    };
    let flat = flat.as_primitive::<Float32Type>().values();
    let size = usize::try_from(dimension(source)).unwrap_or(0);
    let values = rectangle(&lists, flat, rows, size, live)?;
    check_finite(&values, size, live)?;
    let values = Arc::new(Float32Array::new(values, None));
    FixedSizeListArray::try_new(coordinate(DataType::Float32), dimension(source), values, live.nulls())
        .map(|array| Arc::new(array) as ArrayRef)
        .map_err(|error| Refusal::Column(error.to_string()))
}

/// The coordinates of all rows, `size` each: the given buffer if it is laid out so, else a copy.
fn rectangle(
    lists: &Lists<'_>,
    flat: &ScalarBuffer<f32>,
    rows: usize,
    size: usize,
    live: &Live,
) -> Result<ScalarBuffer<f32>, Refusal> {
    let mut even = true;
    for row in 0..rows {
        let length = lists.range(row).len();
        if length != size {
            if live.has(row) {
                let what = format!("Vector coordinates must have dimension: {size} (it has {length})");
                return Err(Fault::new(row, what).into());
            }
            even = false;
        }
    }
    if even {
        let start = if rows == 0 { 0 } else { lists.range(0).start };
        return Ok(flat.slice(start, rows * size));
    }
    let mut values = vec![0.0; rows * size];
    for (row, target) in values.chunks_exact_mut(size.max(1)).enumerate().filter(|(row, _)| live.has(*row)) {
        target.copy_from_slice(&flat[lists.range(row)]);
    }
    Ok(ScalarBuffer::from(values))
}

/// Every coordinate of a live row must be a number within the limit.
fn check_finite(values: &[f32], size: usize, live: &Live) -> Result<(), Refusal> {
    // A NaN fails the comparison. Blocks without an early exit inside, so that the loop runs on vectors.
    let good = |block: &[f32]| block.iter().fold(true, |good, value| good & (value.abs() <= limits::DENSE_COORDINATE));
    if values.chunks(4096).all(good) {
        return Ok(());
    }
    for (row, vector) in values.chunks_exact(size.max(1)).enumerate().filter(|(row, _)| live.has(*row)) {
        if let Some(bad) = vector.iter().find(|value| !good(&[**value])) {
            let what = format!("coordinate {bad} is not a number of at most {:e}", limits::DENSE_COORDINATE);
            return Err(Fault::new(row, what).into());
        }
    }
    Ok(())
}
