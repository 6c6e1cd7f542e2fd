//! From rows here and there to the input of one segment: sorted by split, then by point key.
//!
//! Dense vectors, most of what there is, are in memory once: each batch is dropped when its vectors are taken over, and they
//! are put in order where they are.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, RecordBatch, UInt32Array};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema, SchemaRef, UInt32Type};
use roaring::RoaringBitmap;
use tarn_model::{DataSource, Metric, SplitKey, Vector, VectorKind};
use tarn_segment::{Segment, SegmentInput, SplitRows, Vectors};
use tarn_timeline::checkpoint_schema;

use super::placement::Placement;
use crate::error::CompactError;
use crate::rows::unreadable;

const DOING: &str = "gathering rows";
/// Arrow counts the bytes of a text column with 31 bits.
const COLUMN_BYTES_MAX: usize = i32::MAX as usize;

/// Where some of a segment's rows come from.
pub(crate) enum Rows {
    /// Batches with the columns of a checkpoint file.
    New(RecordBatch),
    /// Rows of an old segment.
    Old(Arc<Segment>, RoaringBitmap),
}

/// One source of rows, taken apart.
struct Part {
    keys: BinaryArray,
    attributes: Vec<ArrayRef>,
    vectors: PartVectors,
}

enum PartVectors {
    /// Row-major.
    Dense(ScalarBuffer<f32>),
    Sparse {
        offsets: OffsetBuffer<i32>,
        indices: ScalarBuffer<u32>,
        values: ScalarBuffer<f64>,
    },
    /// Rows of a segment, fetched one at a time.
    Segment(Arc<Segment>, Vec<u32>),
}

/// The attribute columns of a data source, in key order.
pub(crate) fn attribute_schema(source: &DataSource) -> SchemaRef {
    let all = checkpoint_schema(source);
    // `_key` and `_version` first, the vector last.
    Arc::new(Schema::new(all.fields().iter().skip(2).take(source.attribute_types.len()).cloned().collect::<Vec<_>>()))
}

/// Gathers and sorts rows; also says which rows are which split's.
pub(crate) fn gather(
    source: &DataSource,
    placement: &Placement,
    metric: Metric,
    rows: Vec<Rows>,
) -> Result<(SegmentInput, Vec<SplitRows>), CompactError> {
    let parts = rows.into_iter().map(|rows| Part::new(source, rows)).collect::<Result<Vec<_>, _>>()?;
    let mut order: Vec<(SplitKey, usize, usize)> = Vec::with_capacity(parts.iter().map(|part| part.keys.len()).sum());
    for (number, part) in parts.iter().enumerate() {
        for row in 0..part.keys.len() {
            let split =
                placement.place(part.keys.value(row))?.map_or_else(|| SplitKey(Vec::new()), |place| place.split);
            order.push((split, number, row));
        }
    }
    let key = |&(_, part, row): &(SplitKey, usize, usize)| parts[part].keys.value(row);
    order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| key(a).cmp(key(b))));

    let splits = split_rows(&order);
    let order: Vec<(usize, usize)> = order.into_iter().map(|(_, part, row)| (part, row)).collect();
    let bytes: usize = parts.iter().map(|part| part.keys.value_data().len()).sum();
    let mut keys = BinaryBuilder::with_capacity(order.len(), bytes);
    for &(part, row) in &order {
        keys.append_value(parts[part].keys.value(row));
    }
    let attributes = gather_attributes(source, &parts, &order)?;
    // What is left of a batch: its other columns may be in one allocation with its vectors.
    let (lengths, vectors): (Vec<usize>, Vec<PartVectors>) =
        parts.into_iter().map(|part| (part.keys.len(), part.vectors)).unzip();
    let vectors = match source.vector_kind {
        VectorKind::Dense => gather_dense(source, &lengths, vectors, &order)?,
        VectorKind::Sparse => gather_sparse(&vectors, &order)?,
    };
    let input = SegmentInput { metric, dimension: source.vector_dimension, keys: keys.finish(), attributes, vectors };
    Ok((input, splits))
}

fn split_rows(order: &[(SplitKey, usize, usize)]) -> Vec<SplitRows> {
    let mut splits: Vec<SplitRows> = Vec::new();
    for (row, (split, _, _)) in (0_u32..).zip(order) {
        match splits.last_mut() {
            Some(last) if last.key == *split => last.rows.end = row + 1,
            _ => splits.push(SplitRows { key: split.clone(), rows: row..row + 1 }),
        }
    }
    splits
}

fn gather_attributes(
    source: &DataSource,
    parts: &[Part],
    order: &[(usize, usize)],
) -> Result<RecordBatch, CompactError> {
    let schema = attribute_schema(source);
    let failed = |e| CompactError::engine(DOING, e);
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (i, field) in schema.fields().iter().enumerate() {
        let of_parts: Vec<&dyn Array> = parts.iter().map(|part| part.attributes[i].as_ref()).collect();
        if *field.data_type() == DataType::Utf8 {
            let bytes: usize =
                of_parts.iter().map(|column| column.as_string_opt::<i32>().map_or(0, |c| c.value_data().len())).sum();
            if bytes > COLUMN_BYTES_MAX {
                return Err(CompactError::Settings(format!(
                    "a segment would hold {bytes} bytes of '{}', at most {COLUMN_BYTES_MAX} are possible; lower \
                     segment_bytes_max",
                    field.name()
                )));
            }
        }
        columns.push(interleave(&of_parts, order).map_err(failed)?);
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(order.len()));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(failed)
}

fn wrong_kind() -> CompactError {
    CompactError::engine(DOING, "a vector is of another kind than its data source")
}

/// `lengths`: the rows of each part.
fn gather_dense(
    source: &DataSource,
    lengths: &[usize],
    parts: Vec<PartVectors>,
    order: &[(usize, usize)],
) -> Result<Vectors, CompactError> {
    let dimension = source.vector_dimension as usize;
    let mut values: Vec<f32> = Vec::with_capacity(order.len() * dimension);
    for part in parts {
        match part {
            PartVectors::Dense(all) => values.extend_from_slice(&all),
            PartVectors::Segment(segment, rows) => {
                for row in rows {
                    match segment.vector(row) {
                        Vector::Dense(vector) if vector.len() == dimension => values.extend_from_slice(&vector),
                        _ => return Err(wrong_kind()),
                    }
                }
            }
            PartVectors::Sparse { .. } => return Err(wrong_kind()),
        }
    }
    let mut first = 0;
    let firsts: Vec<usize> = lengths
        .iter()
        .map(|length| {
            first += length;
            first - length
        })
        .collect();
    if first * dimension != values.len() || first != order.len() {
        return Err(wrong_kind());
    }
    put_in_order(&mut values, dimension, order.iter().map(|&(part, row)| firsts[part] + row).collect());
    Ok(Vectors::Dense(values.into()))
}

/// Moves row `from[i]` to place `i`, for every `i`, within the rows' own memory. `from` has each row once.
fn put_in_order(values: &mut [f32], dimension: usize, mut from: Vec<usize>) {
    let mut held = vec![0.0; dimension];
    for start in 0..from.len() {
        if from[start] == start {
            continue;
        }
        // Along the circle of places that begins here: each takes the next one's row, the last one the first's.
        held.copy_from_slice(&values[start * dimension..][..dimension]);
        let mut place = start;
        loop {
            let next = std::mem::replace(&mut from[place], place);
            if next == start {
                break;
            }
            values.copy_within(next * dimension..(next + 1) * dimension, place * dimension);
            place = next;
        }
        values[place * dimension..][..dimension].copy_from_slice(&held);
    }
}

fn gather_sparse(parts: &[PartVectors], order: &[(usize, usize)]) -> Result<Vectors, CompactError> {
    let (mut lengths, mut all_indices, mut all_values) = (Vec::with_capacity(order.len()), Vec::new(), Vec::new());
    for &(part, row) in order {
        match &parts[part] {
            PartVectors::Sparse { offsets, indices, values } => {
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                lengths.push(range.len());
                all_indices.extend_from_slice(&indices[range.clone()]);
                all_values.extend_from_slice(&values[range]);
            }
            PartVectors::Segment(segment, rows) => match segment.vector(rows[row]) {
                Vector::Sparse(vector) => {
                    lengths.push(vector.indices.len());
                    all_indices.extend_from_slice(&vector.indices);
                    all_values.extend_from_slice(&vector.values);
                }
                Vector::Dense(_) => return Err(wrong_kind()),
            },
            PartVectors::Dense(_) => return Err(wrong_kind()),
        }
        if all_indices.len() > COLUMN_BYTES_MAX {
            return Err(CompactError::Settings(
                "a segment would hold too many coordinates; lower segment_bytes_max".to_owned(),
            ));
        }
    }
    Ok(Vectors::Sparse {
        offsets: OffsetBuffer::from_lengths(lengths),
        indices: all_indices.into(),
        values: all_values.into(),
    })
}

impl Part {
    fn new(source: &DataSource, rows: Rows) -> Result<Self, CompactError> {
        match rows {
            Rows::New(batch) => Self::of_batch(source, &batch),
            Rows::Old(segment, rows) => Self::of_segment(segment, &rows),
        }
    }

    fn of_batch(source: &DataSource, batch: &RecordBatch) -> Result<Self, CompactError> {
        let wrong = || CompactError::from(unreadable(&source.id.to_string(), "rows with other columns"));
        let attributes = source.attribute_types.len();
        if batch.schema().fields() != checkpoint_schema(source).fields() {
            return Err(wrong());
        }
        let keys = batch.column(0).as_binary_opt::<i32>().ok_or_else(wrong)?.clone();
        let columns = batch.columns()[2..2 + attributes].to_vec();
        let vectors = match source.vector_kind {
            VectorKind::Dense => {
                let list = batch.column(2 + attributes).as_fixed_size_list_opt().ok_or_else(wrong)?;
                let values = list.values().as_primitive_opt::<Float32Type>().ok_or_else(wrong)?.values();
                // A slice of a list keeps all of its values.
                let start = list.value_offset(0) as usize;
                PartVectors::Dense(values.slice(start, list.len() * source.vector_dimension as usize))
            }
            VectorKind::Sparse => {
                let indices = batch.column(2 + attributes).as_list_opt::<i32>().ok_or_else(wrong)?;
                let values = batch.column(3 + attributes).as_list_opt::<i32>().ok_or_else(wrong)?;
                // Both columns were validated to have the same lengths; their offsets may start elsewhere.
                let (index_start, value_start) = (indices.value_offsets()[0], values.value_offsets()[0]);
                let indices_of = indices.values().as_primitive_opt::<UInt32Type>().ok_or_else(wrong)?.values();
                let values_of = values.values().as_primitive_opt::<Float64Type>().ok_or_else(wrong)?.values();
                let lengths: Vec<usize> = indices.offsets().lengths().collect();
                if lengths.iter().copied().ne(values.offsets().lengths()) {
                    return Err(wrong());
                }
                let total: usize = lengths.iter().sum();
                PartVectors::Sparse {
                    offsets: OffsetBuffer::from_lengths(lengths),
                    indices: indices_of.slice(index_start as usize, total),
                    values: values_of.slice(value_start as usize, total),
                }
            }
        };
        Ok(Self { keys, attributes: columns, vectors })
    }

    fn of_segment(segment: Arc<Segment>, rows: &RoaringBitmap) -> Result<Self, CompactError> {
        let rows: Vec<u32> = rows.iter().collect();
        let keys = BinaryArray::from_iter_values(rows.iter().map(|&row| segment.key(row)));
        let indices = UInt32Array::from(rows.clone());
        let attributes = segment
            .attributes()
            .columns()
            .iter()
            .map(|column| take(column, &indices, None).map_err(|e| CompactError::engine(DOING, e)))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { keys, attributes, vectors: PartVectors::Segment(segment, rows) })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use rand::seq::SliceRandom;

    use super::*;

    #[test]
    fn rows_are_put_in_order_where_they_are() {
        let mut rng = SmallRng::seed_from_u64(3);
        for rows in [0, 1, 2, 3, 10, 100] {
            for _ in 0..50 {
                let mut from: Vec<usize> = (0..rows).collect();
                from.shuffle(&mut rng);
                let row = |row: usize| [row as f32, -(row as f32)];
                let mut values: Vec<f32> = (0..rows).flat_map(row).collect();
                put_in_order(&mut values, 2, from.clone());
                assert_eq!(values, from.into_iter().flat_map(row).collect::<Vec<f32>>());
            }
        }
    }
}
