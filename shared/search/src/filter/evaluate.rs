//! One filter over a range of rows.

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::buffer::BooleanBuffer;
use roaring::RoaringBitmap;
use tarn_model::{AttributeValue, CompareOp, DataSource, Filter};
use tarn_segment::Column;

use crate::column::uuid;

/// The rows in `ranges` that satisfy the filter. `attributes`: a segment's columns, checked by
/// [`crate::column::check_columns`]; `filter`: checked against the source.
pub(crate) fn matching_rows(
    filter: &Filter,
    attributes: &RecordBatch,
    source: &DataSource,
    ranges: &[Range<u32>],
) -> RoaringBitmap {
    let mut rows = RoaringBitmap::new();
    for range in ranges {
        let (start, end) = (range.start as usize, (range.end as usize).min(attributes.num_rows()));
        if start < end {
            let bits = evaluate(filter, &attributes.slice(start, end - start), source);
            // A split's range rarely begins at a multiple of eight, which `from_lsb0_bytes` wants.
            if start % 8 == 0 {
                let mut found = RoaringBitmap::from_lsb0_bytes(range.start, bits.sliced().as_slice());
                // The last byte's padding is whatever the operators left there.
                found.remove_range(end as u32..);
                rows |= found;
            } else {
                rows.extend(bits.set_indices().map(|row| range.start + row as u32));
            }
        }
    }
    rows
}

/// Which rows of a batch satisfy the filter.
pub(super) fn evaluate(filter: &Filter, attributes: &RecordBatch, source: &DataSource) -> BooleanBuffer {
    let rows = attributes.num_rows();
    match filter {
        Filter::And(parts) => parts
            .iter()
            .map(|part| evaluate(part, attributes, source))
            .reduce(|a, b| &a & &b)
            .unwrap_or_else(|| BooleanBuffer::new_set(rows)),
        Filter::Or(parts) => parts
            .iter()
            .map(|part| evaluate(part, attributes, source))
            .reduce(|a, b| &a | &b)
            .unwrap_or_else(|| BooleanBuffer::new_unset(rows)),
        Filter::Not(part) => !&evaluate(part, attributes, source),
        Filter::Compare { attribute, op, value } => match column(attribute, attributes, source) {
            Some(column) => compare(column, *op, value, rows),
            None => BooleanBuffer::new_unset(rows),
        },
        Filter::In { attribute, values } => match column(attribute, attributes, source) {
            Some(column) => is_in(column, values, rows),
            None => BooleanBuffer::new_unset(rows),
        },
        Filter::Exists { attribute } => match column(attribute, attributes, source) {
            Some(_) => BooleanBuffer::new_set(rows),
            None => BooleanBuffer::new_unset(rows),
        },
        Filter::StartsWith { attribute, prefix } => match column(attribute, attributes, source) {
            Some(Column::String(array)) => {
                let prefix = prefix.as_bytes();
                BooleanBuffer::collect_bool(rows, |row| array.value(row).as_bytes().starts_with(prefix))
            }
            _ => BooleanBuffer::new_unset(rows),
        },
    }
}

fn column<'a>(attribute: &str, attributes: &'a RecordBatch, source: &DataSource) -> Option<Column<'a>> {
    let position = source.attribute_types.keys().position(|key| key == attribute)?;
    Column::new(attributes.columns().get(position)?, *source.attribute_types.get(attribute)?)
}

fn compare(column: Column<'_>, op: CompareOp, value: &AttributeValue, rows: usize) -> BooleanBuffer {
    match (column, value) {
        (Column::Bool(array), AttributeValue::Bool(value)) => typed(op, *value, rows, |row| array.value(row)),
        (Column::Int64(array), AttributeValue::Int64(value)) => {
            let values = array.values();
            typed(op, *value, rows, |row| values[row])
        }
        (Column::DateTime(array), AttributeValue::DateTime(value)) => {
            let values = array.values();
            typed(op, *value, rows, |row| values[row])
        }
        (Column::Float64(array), AttributeValue::Float64(value)) => {
            let values = array.values();
            typed(op, *value, rows, |row| values[row])
        }
        (Column::String(array), AttributeValue::String(value)) => {
            typed(op, value.as_bytes(), rows, |row| array.value(row).as_bytes())
        }
        (Column::Uuid(array), AttributeValue::Uuid(value)) => {
            typed(op, value.as_bytes().as_slice(), rows, |row| array.value(row))
        }
        // Values of different types have no order, as in the reference.
        _ => BooleanBuffer::new_unset(rows),
    }
}

fn typed<T: PartialOrd + Copy>(op: CompareOp, value: T, rows: usize, get: impl Fn(usize) -> T) -> BooleanBuffer {
    match op {
        CompareOp::Eq => BooleanBuffer::collect_bool(rows, |row| get(row) == value),
        CompareOp::Ne => BooleanBuffer::collect_bool(rows, |row| get(row) != value),
        CompareOp::Lt => BooleanBuffer::collect_bool(rows, |row| get(row) < value),
        CompareOp::Lte => BooleanBuffer::collect_bool(rows, |row| get(row) <= value),
        CompareOp::Gt => BooleanBuffer::collect_bool(rows, |row| get(row) > value),
        CompareOp::Gte => BooleanBuffer::collect_bool(rows, |row| get(row) >= value),
    }
}

/// Binary search among the values; they are sorted here, because a filter built by hand may not be.
fn is_in(column: Column<'_>, values: &[AttributeValue], rows: usize) -> BooleanBuffer {
    fn sorted<T: PartialOrd>(values: impl Iterator<Item = T>) -> Vec<T> {
        let mut values: Vec<T> = values.collect();
        values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        values
    }
    fn found<T: PartialOrd>(values: &[T], value: T) -> bool {
        values.binary_search_by(|v| v.partial_cmp(&value).unwrap_or(std::cmp::Ordering::Equal)).is_ok()
    }
    macro_rules! among {
        ($pattern:pat => $value:expr, $get:expr) => {{
            let values = sorted(values.iter().filter_map(|v| if let $pattern = v { Some($value) } else { None }));
            BooleanBuffer::collect_bool(rows, |row| found(&values, $get(row)))
        }};
    }
    match column {
        Column::Bool(array) => among!(AttributeValue::Bool(v) => *v, |row| array.value(row)),
        Column::Int64(array) => among!(AttributeValue::Int64(v) => *v, |row: usize| array.values()[row]),
        Column::DateTime(array) => among!(AttributeValue::DateTime(v) => *v, |row: usize| array.values()[row]),
        Column::Float64(array) => among!(AttributeValue::Float64(v) => *v, |row: usize| array.values()[row]),
        Column::String(array) => among!(AttributeValue::String(v) => v.as_str(), |row| array.value(row)),
        Column::Uuid(array) => among!(AttributeValue::Uuid(v) => *v, |row| uuid(array.value(row))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
    };
    use rand::rngs::SmallRng;
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};
    use tarn_model::{AttributeType, Attributes};
    use tarn_testkit::Scenario;

    use super::*;

    fn batch(source: &DataSource, rows: &[Attributes]) -> RecordBatch {
        macro_rules! values {
            ($kind:ident, $name:expr) => {
                rows.iter().map(|row| match &row[$name] {
                    AttributeValue::$kind(value) => value.clone(),
                    other => panic!("{other}"),
                })
            };
        }
        let columns = source.attribute_types.iter().map(|(name, attribute_type)| {
            let array: ArrayRef = match attribute_type {
                AttributeType::Bool => Arc::new(BooleanArray::from_iter(values!(Bool, name).map(Some))),
                AttributeType::Int64 => Arc::new(Int64Array::from_iter_values(values!(Int64, name))),
                AttributeType::Float64 => Arc::new(Float64Array::from_iter_values(values!(Float64, name))),
                AttributeType::String => Arc::new(StringArray::from_iter_values(values!(String, name))),
                AttributeType::Uuid => {
                    let bytes = values!(Uuid, name).map(|uuid| *uuid.as_bytes());
                    Arc::new(FixedSizeBinaryArray::try_from_iter(bytes).unwrap())
                }
                AttributeType::DateTime => {
                    Arc::new(TimestampMicrosecondArray::from_iter_values(values!(DateTime, name)))
                }
            };
            (name.clone(), array)
        });
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn random(scenario: &Scenario, rng: &mut SmallRng, depth: usize) -> Filter {
        let parts = |rng: &mut SmallRng| {
            (0..rng.random_range(0..4)).map(|_| random(scenario, rng, depth + 1)).collect::<Vec<_>>()
        };
        match rng.random_range(if depth < 3 { 0 } else { 3 }..8) {
            0 => Filter::And(parts(rng)),
            1 => Filter::Or(parts(rng)),
            2 => Filter::Not(Box::new(random(scenario, rng, depth + 1))),
            3 => Filter::StartsWith {
                attribute: "colour".into(),
                prefix: ["", "r", "red", "reddish!", "blau"].choose(rng).unwrap().to_string(),
            },
            kind => {
                let names: Vec<&String> = scenario.source.attribute_types.keys().collect();
                let attribute = (*names.choose(rng).unwrap()).clone();
                let value = scenario.value(rng, &attribute);
                match kind {
                    4 => Filter::In {
                        values: (0..rng.random_range(0..5)).map(|_| scenario.value(rng, &attribute)).collect(),
                        attribute,
                    },
                    5 => Filter::Exists { attribute },
                    _ => {
                        use CompareOp::{Eq, Gt, Gte, Lt, Lte, Ne};
                        let op = *[Eq, Ne, Lt, Lte, Gt, Gte].choose(rng).unwrap();
                        Filter::Compare { attribute, op, value }
                    }
                }
            }
        }
    }

    #[test]
    fn ranges_across_the_containers_of_a_bitmap_hold_all_their_rows() {
        let mut source = (*Scenario::dense().source).clone();
        source.attribute_types.retain(|name, _| name == "serial");
        let serials: ArrayRef = Arc::new(Int64Array::from_iter_values((0..200_000).map(|row| row % 7)));
        let batch = RecordBatch::try_from_iter([("serial", serials)]).unwrap();
        let value = AttributeValue::Int64(3);
        let filter = Filter::Compare { attribute: "serial".into(), op: CompareOp::Gte, value };
        for range in [0..200_000, 8..65_536, 65_528..131_080, 65_536..65_544, 65_535..131_073, 131_064..131_077] {
            let found = matching_rows(&filter, &batch, &source, std::slice::from_ref(&range));
            let expected: RoaringBitmap = range.clone().filter(|row| row % 7 >= 3).collect();
            assert_eq!(found, expected, "{range:?}");
        }
    }

    #[test]
    fn whole_columns_agree_with_the_reference_row_by_row() {
        let scenario = Scenario::dense();
        let mut rng = SmallRng::seed_from_u64(7);
        let rows: Vec<Attributes> = (0..500).map(|serial| scenario.point(&mut rng, serial).attributes).collect();
        let batch = batch(&scenario.source, &rows);
        for _ in 0..500 {
            let filter = random(&scenario, &mut rng, 0);
            let (a, b) = (rng.random_range(0..500), rng.random_range(0..600));
            let ranges = [a.min(b)..a, a.max(b)..b.max(a) + 77];
            let found = matching_rows(&filter, &batch, &scenario.source, &ranges);
            let expected: RoaringBitmap = (0u32..500)
                .filter(|&row| ranges.iter().any(|range| range.contains(&row)) && filter.matches(&rows[row as usize]))
                .collect();
            assert_eq!(found, expected, "{filter:?} over {ranges:?}");
        }
    }
}
