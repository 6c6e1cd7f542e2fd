//! Sparse vector columns: lists of indices and lists of values, brought into ascending order of the indices.

use std::sync::Arc;

use arrow::array::types::ArrowPrimitiveType;
use arrow::array::{Array, ArrayRef, AsArray, ListArray, PrimitiveArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt32Type};
use tarn_model::{DataSource, limits};

use super::lists::Lists;
use super::{Fault, Live, Refusal};
use crate::schema::coordinate;

/// The canonical type of the indices.
pub(super) fn indices_type() -> DataType {
    DataType::List(coordinate(DataType::UInt32))
}

/// The canonical type of the values.
pub(super) fn values_type() -> DataType {
    DataType::List(coordinate(DataType::Float64))
}

/// Checked numbers of all live rows, one row after the other, with an end per row.
pub(super) struct Flat<T> {
    numbers: Vec<T>,
    ends: Vec<usize>,
}

impl<T> Flat<T> {
    fn range(&self, row: usize) -> std::ops::Range<usize> {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[row]
    }
}

/// Checks the indices: integers from 0 to below the dimension.
pub(super) fn indices(array: &ArrayRef, source: &DataSource, live: &Live) -> Result<Flat<u32>, Refusal> {
    let lists = Lists::new(array, live)?;
    lists.check_no_nulls(array.len(), live)?;
    if !lists.values.data_type().is_integer() {
        return Err(Refusal::Column(format!("indices must be integers, not {}", lists.values.data_type())));
    }
    // Indices above i64 become null, that is -1 here: refused like every other that is out of range.
    let wide = cast(lists.values, &DataType::Int64).map_err(|error| Refusal::Column(error.to_string()))?;
    let wide = wide.as_primitive::<Int64Type>();
    let dimension = source.vector_dimension;
    collect(array.len(), &lists, live, |at| {
        let index = if wide.is_null(at) { -1 } else { wide.value(at) };
        let index = u32::try_from(index).ok().filter(|&index| index < dimension);
        index.ok_or_else(|| {
            format!(
                "an index is not between 0 and {} (Vector coordinates must have dimension: {dimension})",
                dimension.saturating_sub(1)
            )
        })
    })
}

/// Checks the values: finite and within the limit.
pub(super) fn values(array: &ArrayRef, live: &Live) -> Result<Flat<f64>, Refusal> {
    let lists = Lists::new(array, live)?;
    lists.check_no_nulls(array.len(), live)?;
    match lists.values.data_type() {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {}
        other => return Err(Refusal::Column(format!("values must be Float16, Float32 or Float64, not {other}"))),
    }
    let wide = cast(lists.values, &DataType::Float64).map_err(|error| Refusal::Column(error.to_string()))?;
    let wide = wide.as_primitive::<Float64Type>().values();
    collect(array.len(), &lists, live, |at| {
        let value = wide[at];
        let good = value.abs() <= limits::SPARSE_COORDINATE;
        good.then_some(value)
            .ok_or_else(|| format!("value {value} is not a number of at most {:e}", limits::SPARSE_COORDINATE))
    })
}

fn collect<T>(
    rows: usize,
    lists: &Lists<'_>,
    live: &Live,
    check: impl Fn(usize) -> Result<T, String>,
) -> Result<Flat<T>, Refusal> {
    let mut flat = Flat { numbers: Vec::with_capacity(lists.values.len()), ends: Vec::with_capacity(rows) };
    for row in 0..rows {
        if live.has(row) {
            let range = lists.range(row);
            if range.is_empty() {
                return Err(Fault::new(row, "Vector must have coordinates").into());
            }
            if range.len() > limits::SPARSE_COORDINATES {
                let what = format!("{} coordinates; at most {} are allowed", range.len(), limits::SPARSE_COORDINATES);
                return Err(Fault::new(row, what).into());
            }
            for at in range {
                flat.numbers.push(check(at).map_err(|what| Fault::new(row, what))?);
            }
        }
        flat.ends.push(flat.numbers.len());
    }
    Ok(flat)
}

/// Pairs indices with values and sorts them within each row: the canonical columns.
pub(super) fn combine(
    mut indices: Flat<u32>,
    mut values: Flat<f64>,
    live: &Live,
) -> Result<(ArrayRef, ArrayRef), Fault> {
    let mut pairs: Vec<(u32, f64)> = Vec::new();
    for row in 0..indices.ends.len() {
        let range = indices.range(row);
        if range != values.range(row) {
            let what = format!(
                "Each vector coordinate value must have unique corresponding index ({} indices, {} values)",
                range.len(),
                values.range(row).len()
            );
            return Err(Fault::new(row, what));
        }
        let row_indices = &mut indices.numbers[range.clone()];
        if row_indices.is_sorted_by(|a, b| a < b) {
            continue;
        }
        pairs.clear();
        pairs.extend(row_indices.iter().copied().zip(values.numbers[range.clone()].iter().copied()));
        pairs.sort_unstable_by_key(|&(index, _)| index);
        if let Some(twice) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let what = format!(
                "Each vector coordinate value must have unique corresponding index ({} is there twice)",
                twice[0].0
            );
            return Err(Fault::new(row, what));
        }
        for (at, &(index, value)) in range.zip(&pairs) {
            indices.numbers[at] = index;
            values.numbers[at] = value;
        }
    }
    let offsets = offsets(&indices.ends)?;
    Ok((
        list::<UInt32Type>(indices.numbers, offsets.clone(), live)?,
        list::<Float64Type>(values.numbers, offsets, live)?,
    ))
}

fn offsets(ends: &[usize]) -> Result<OffsetBuffer<i32>, Fault> {
    let end = |(row, &end): (usize, &usize)| {
        i32::try_from(end).map_err(|_| Fault::new(row, "an upload takes at most 2³¹ coordinates; send several uploads"))
    };
    let offsets = std::iter::once(Ok(0)).chain(ends.iter().enumerate().map(end)).collect::<Result<Vec<_>, _>>()?;
    Ok(OffsetBuffer::new(ScalarBuffer::from(offsets)))
}

fn list<T: ArrowPrimitiveType>(
    numbers: Vec<T::Native>,
    offsets: OffsetBuffer<i32>,
    live: &Live,
) -> Result<ArrayRef, Fault> {
    let values = Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(numbers), None));
    ListArray::try_new(coordinate(T::DATA_TYPE), offsets, values, live.nulls())
        .map(|array| Arc::new(array) as ArrayRef)
        .map_err(|error| Fault::new(0, error.to_string()))
}
