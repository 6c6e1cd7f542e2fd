//! Columnar uploads: lenient where nothing is lost, and refusals that name row and column.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, FixedSizeListArray,
    Float16Array, Float32Array, Float64Array, Int8Array, Int32Array, Int64Array, LargeListArray, LargeStringArray,
    ListArray, RecordBatch, StringArray, StringViewArray, StringViewBuilder, TimestampMillisecondArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int32Type, Int64Type};
use half::f16;
use proptest::prelude::*;
use tarn_model::{
    AttributeType, AttributeValue, DataSource, Sharder, SparseVector, Update, Vector, VectorKind, limits,
};
use tarn_timeline::{ColumnMapping, PointBatch};
use uuid::Uuid;

use crate::common::{TYPES, any_updates, batch, dense_source, source, updates};

fn record_batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .expect("fits")
}

/// Dense, dimension 2, `id` and one attribute `x` of the type.
fn with(attribute_type: AttributeType) -> Arc<DataSource> {
    source(VectorKind::Dense, 2, &[("id", AttributeType::Int64), ("x", attribute_type)], &["id"])
}

fn vectors(rows: usize) -> ArrayRef {
    let rows = (0..rows).map(|row| Some(vec![Some(row as f32), Some(0.5)]));
    Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows, 2))
}

fn ids(rows: usize) -> ArrayRef {
    Arc::new((0..rows as i64).collect::<Int64Array>())
}

fn convert(source: &Arc<DataSource>, columns: Vec<(&str, ArrayRef)>) -> Result<PointBatch, String> {
    let batch = record_batch(columns);
    PointBatch::from_record_batch(Arc::clone(source), &batch, &ColumnMapping::default()).map_err(|e| e.to_string())
}

/// The value of `x` in each row, after an upload of this column.
fn upload(attribute_type: AttributeType, x: ArrayRef) -> Result<Vec<AttributeValue>, String> {
    let rows = x.len();
    let batch = convert(&with(attribute_type), vec![("id", ids(rows)), ("x", x), ("vector", vectors(rows))])?;
    let value = |update| match update {
        Update::Upsert(point) => point.attributes["x"].clone(),
        Update::Delete(_) => unreachable!("nothing is deleted"),
    };
    Ok(updates(&batch).into_iter().map(value).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn both_ways_in_agree((source, expected) in any_updates(20)) {
        let row_wise = batch(&source, &expected);
        let columnar =
            PointBatch::from_record_batch(Arc::clone(&source), row_wise.record_batch(), &ColumnMapping::default());
        let columnar = columnar.expect("canonical columns are accepted");
        prop_assert_eq!(columnar.record_batch(), row_wise.record_batch());
        prop_assert_eq!(updates(&columnar), expected);
    }

    #[test]
    fn a_slice_is_as_good_as_a_whole((source, expected) in any_updates(20), start in 0_usize..20) {
        let whole = batch(&source, &expected);
        let start = start.min(expected.len());
        let slice = whole.record_batch().slice(start, expected.len() - start);
        let batch = PointBatch::from_record_batch(source, &slice, &ColumnMapping::default()).expect("valid");
        prop_assert_eq!(updates(&batch), &expected[start..]);
    }
}

#[test]
fn numbers_are_widened() {
    let int = |values: &[i64]| Ok(values.iter().map(|&value| AttributeValue::Int64(value)).collect::<Vec<_>>());
    assert_eq!(upload(AttributeType::Int64, Arc::new(Int8Array::from(vec![-1, 2]))), int(&[-1, 2]));
    assert_eq!(upload(AttributeType::Int64, Arc::new(UInt64Array::from(vec![7, 8]))), int(&[7, 8]));
    assert_eq!(upload(AttributeType::Int64, Arc::new(Float64Array::from(vec![3.0, -4.0]))), int(&[3, -4]));
    let float = |values: &[f64]| Ok(values.iter().map(|&value| AttributeValue::Float64(value)).collect::<Vec<_>>());
    assert_eq!(upload(AttributeType::Float64, Arc::new(Float32Array::from(vec![0.5, -0.0]))), float(&[0.5, 0.0]));
    assert_eq!(
        upload(AttributeType::Float64, Arc::new(Int32Array::from(vec![5, i32::MIN]))),
        float(&[5.0, -2147483648.0])
    );
}

#[test]
fn negative_zero_is_stored_as_zero() {
    let values = upload(AttributeType::Float64, Arc::new(Float64Array::from(vec![-0.0]))).expect("accepted");
    assert!(matches!(values[0], AttributeValue::Float64(zero) if zero.is_sign_positive()));
}

#[test]
fn lossy_numbers_are_refused_by_row_and_column() {
    let refused = |attribute_type, x: ArrayRef| upload(attribute_type, x).expect_err("refused");
    assert_eq!(
        refused(AttributeType::Int64, Arc::new(UInt64Array::from(vec![1, u64::MAX]))),
        "row 1 (from 0), column 'x': the value does not fit Int64"
    );
    assert_eq!(
        refused(AttributeType::Int64, Arc::new(Float64Array::from(vec![1.0, 2.5]))),
        "row 1 (from 0), column 'x': 2.5 is not a whole number that fits Int64"
    );
    assert_eq!(
        refused(AttributeType::Float64, Arc::new(Int64Array::from(vec![0, (1 << 53) + 1]))),
        "row 1 (from 0), column 'x': 9007199254740993 is not exact as Float64"
    );
    assert_eq!(
        refused(AttributeType::Float64, Arc::new(Float64Array::from(vec![0.0, f64::NAN]))),
        "row 1 (from 0), column 'x': the number must be finite"
    );
    assert_eq!(
        refused(AttributeType::Bool, Arc::new(Int64Array::from(vec![0, 1]))),
        "column 'x': a column of Int64 cannot hold an attribute of type Bool"
    );
}

#[test]
fn strings_of_any_layout_are_taken() {
    let expected = Ok(vec![AttributeValue::String("é".into()), AttributeValue::String(String::new())]);
    let arrays: [ArrayRef; 4] = [
        Arc::new(StringArray::from(vec!["é", ""])),
        Arc::new(LargeStringArray::from(vec!["é", ""])),
        Arc::new(StringViewArray::from(vec!["é", ""])),
        Arc::new(vec!["é", ""].into_iter().collect::<DictionaryArray<Int32Type>>()),
    ];
    for array in arrays {
        assert_eq!(upload(AttributeType::String, array), expected);
    }
    let long = "x".repeat(65_537);
    assert_eq!(
        upload(AttributeType::String, Arc::new(StringArray::from(vec!["", &long]))).expect_err("too long"),
        "row 1 (from 0), column 'x': the string is 65537 bytes long; at most 65536 are allowed"
    );
}

#[test]
fn uuids_come_as_bytes_or_text() {
    let uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    let expected = Ok(vec![AttributeValue::Uuid(uuid)]);
    let arrays: [ArrayRef; 3] = [
        Arc::new(FixedSizeBinaryArray::try_from_iter([uuid.as_bytes()].into_iter()).expect("fits")),
        Arc::new(BinaryArray::from(vec![uuid.as_bytes().as_slice()])),
        Arc::new(StringArray::from(vec![uuid.to_string()])),
    ];
    for array in arrays {
        assert_eq!(upload(AttributeType::Uuid, array), expected);
    }
    assert_eq!(
        upload(AttributeType::Uuid, Arc::new(StringArray::from(vec!["nonsense"]))).expect_err("refused"),
        "row 0 (from 0), column 'x': 'nonsense' is not a UUID"
    );
}

#[test]
fn instants_come_in_any_unit_that_fits() {
    let expected = |micros| Ok(vec![AttributeValue::DateTime(micros)]);
    let zoned = TimestampMillisecondArray::from(vec![1_500]).with_timezone("+05:00");
    assert_eq!(upload(AttributeType::DateTime, Arc::new(zoned)), expected(1_500_000));
    let nanos = |value| Arc::new(TimestampNanosecondArray::from(vec![value]));
    assert_eq!(upload(AttributeType::DateTime, nanos(-2_000)), expected(-2));
    let text = Arc::new(StringArray::from(vec!["1970-01-01T00:00:01+00:00"]));
    assert_eq!(upload(AttributeType::DateTime, text), expected(1_000_000));
    assert_eq!(
        upload(AttributeType::DateTime, nanos(1_001)).expect_err("a nanosecond would be lost"),
        "row 0 (from 0), column 'x': 1001 Nanoseconds do not make whole microseconds that fit Int64"
    );
    let far = Arc::new(TimestampMillisecondArray::from(vec![300_000_000_000_000]));
    upload(AttributeType::DateTime, far).expect_err("beyond the year 9999");
}

#[test]
fn vectors_of_any_list_and_float_are_taken() {
    let rows = [[1.0, 2.0], [3.0, 4.0]];
    let field = |data_type| Arc::new(Field::new("item", data_type, true));
    let nested = |rows: &[[f64; 2]]| rows.iter().map(|row| Some(row.map(Some).to_vec())).collect::<Vec<_>>();
    let f16s = Arc::new(Float16Array::from_iter_values(rows.iter().flatten().map(|&v| f16::from_f64(v))));
    let arrays: [ArrayRef; 4] = [
        Arc::new(FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(nested(&rows), 2)),
        Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(nested(&rows))),
        Arc::new(LargeListArray::from_iter_primitive::<Float64Type, _, _>(nested(&rows))),
        Arc::new(FixedSizeListArray::try_new(field(DataType::Float16), 2, f16s, None).expect("fits")),
    ];
    for array in arrays {
        let batch = convert(
            &with(AttributeType::Bool),
            vec![("id", ids(2)), ("x", Arc::new(BooleanArray::from(vec![true, false]))), ("_vector", array)],
        );
        for (update, expected) in updates(&batch.expect("accepted")).into_iter().zip([[1.0_f32, 2.0], [3.0, 4.0]]) {
            assert!(matches!(update, Update::Upsert(point) if point.vector == Vector::Dense(expected.to_vec())));
        }
    }
}

fn dense(array: ArrayRef) -> String {
    let rows = array.len();
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true; rows]));
    convert(&with(AttributeType::Bool), vec![("id", ids(rows)), ("x", flags), ("vector", array)]).expect_err("refused")
}

#[test]
fn bad_vectors_are_refused_by_row() {
    let lists = |rows: Vec<Option<Vec<Option<f32>>>>| -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows))
    };
    let good = Some(vec![Some(1.0), Some(2.0)]);
    assert_eq!(
        dense(lists(vec![good.clone(), Some(vec![Some(1.0)])])),
        "row 1 (from 0), column 'vector': Vector coordinates must have dimension: 2 (it has 1)"
    );
    assert_eq!(
        dense(lists(vec![good.clone(), None])),
        "row 1 (from 0), column 'vector': the vector is null; only tombstones may have none"
    );
    assert_eq!(
        dense(lists(vec![good.clone(), Some(vec![Some(1.0), None])])),
        "row 1 (from 0), column 'vector': a coordinate is null"
    );
    for bad in [f32::NAN, f32::INFINITY, 1.1e16] {
        let message = dense(lists(vec![good.clone(), Some(vec![Some(1.0), Some(bad)])]));
        assert_eq!(
            message,
            format!("row 1 (from 0), column 'vector': coordinate {bad} is not a number of at most 1e16")
        );
    }
    let ints = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), Some(2)])]));
    assert_eq!(dense(ints), "column 'vector': coordinates must be Float16, Float32 or Float64, not Int64");
    assert_eq!(dense(ids(1)), "column 'vector': must hold lists of numbers, not Int64");
}

#[test]
fn a_vector_that_is_too_long_for_f32_is_refused() {
    let huge = Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>([Some(vec![Some(1e300), Some(0.0)])]));
    assert_eq!(dense(huge), "row 0 (from 0), column 'vector': coordinate inf is not a number of at most 1e16");
}

fn sparse(indices: ArrayRef, values: ArrayRef) -> Result<Vec<Update>, String> {
    let source = source(VectorKind::Sparse, 10, &[("id", AttributeType::Int64)], &["id"]);
    let rows = indices.len();
    convert(&source, vec![("id", ids(rows)), ("indices", indices), ("values", values)]).map(|batch| updates(&batch))
}

fn int_lists(rows: Vec<Vec<i64>>) -> ArrayRef {
    let rows = rows.into_iter().map(|row| Some(row.into_iter().map(Some).collect::<Vec<_>>()));
    Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(rows))
}

fn float_lists(rows: Vec<Vec<f64>>) -> ArrayRef {
    let rows = rows.into_iter().map(|row| Some(row.into_iter().map(Some).collect::<Vec<_>>()));
    Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(rows))
}

#[test]
fn sparse_vectors_are_sorted() {
    let found = sparse(int_lists(vec![vec![3], vec![9, 0, 4]]), float_lists(vec![vec![1.0], vec![9.0, 0.5, 4.0]]));
    let Update::Upsert(point) = &found.expect("accepted")[1] else { unreachable!("an upsert") };
    assert_eq!(point.vector, Vector::Sparse(SparseVector { indices: vec![0, 4, 9], values: vec![0.5, 4.0, 9.0] }));
}

#[test]
fn bad_sparse_vectors_are_refused_by_row() {
    let one = vec![1.0];
    let refused = |indices: Vec<i64>, values: Vec<f64>| {
        sparse(int_lists(vec![vec![1], indices]), float_lists(vec![one.clone(), values])).expect_err("refused")
    };
    let at = "row 1 (from 0), column";
    assert_eq!(
        refused(vec![2, 2], vec![1.0, 1.0]),
        format!("{at} 'indices': Each vector coordinate value must have unique corresponding index (2 is there twice)")
    );
    assert_eq!(
        refused(vec![2, 3], vec![1.0]),
        format!(
            "{at} 'indices': Each vector coordinate value must have unique corresponding index (2 indices, 1 values)"
        )
    );
    assert_eq!(refused(vec![], vec![]), format!("{at} 'indices': Vector must have coordinates"));
    for index in [10, -1, i64::MAX] {
        assert!(
            refused(vec![index], vec![1.0]).starts_with(&format!("{at} 'indices': an index is not between 0 and 9"))
        );
    }
    assert_eq!(refused(vec![0], vec![f64::NAN]), format!("{at} 'values': value NaN is not a number of at most 1e100"));
}

#[test]
fn tombstones_keep_their_permanent_attributes_alone() {
    let source = dense_source();
    let rows = 3;
    let columns = vec![
        ("id", ids(rows)),
        ("odd", Arc::new(BooleanArray::from(vec![Some(true), Some(true), None])) as ArrayRef),
        ("price", Arc::new(Float64Array::from(vec![1.0, f64::NAN, 2.0]))),
        ("ref", Arc::new(StringArray::from(vec![Uuid::nil().to_string(), "nonsense".into(), Uuid::nil().to_string()]))),
        ("title", Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]))),
        ("when", Arc::new(TimestampNanosecondArray::from(vec![0, 1, 1]))),
        (
            "vector",
            Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>([
                Some(vec![Some(1.0); 4]),
                None,
                Some(vec![Some(f32::NAN); 3]),
            ])),
        ),
        ("deleted", Arc::new(BooleanArray::from(vec![false, true, true]))),
    ];
    let attributes = BTreeMap::from([("_odd".to_owned(), "odd".to_owned())]);
    let mapping = ColumnMapping { attributes, ..Default::default() };
    let batch = PointBatch::from_record_batch(source, &record_batch(columns), &mapping).expect("accepted");
    let updates = updates(&batch);
    assert!(matches!(&updates[0], Update::Upsert(point) if point.attributes.len() == 6));
    for (row, update) in updates.iter().enumerate().skip(1) {
        let Update::Delete(attributes) = update else { unreachable!("a tombstone") };
        assert_eq!(attributes.iter().collect::<Vec<_>>(), [(&"id".to_owned(), &AttributeValue::Int64(row as i64))]);
    }
}

#[test]
fn tombstones_alone_need_the_permanent_attributes_alone() {
    let deleted: ArrayRef = Arc::new(BooleanArray::from(vec![true, true]));
    let batch = convert(&dense_source(), vec![("id", ids(2)), ("deleted", deleted)]).expect("accepted");
    assert!(batch.is_deleted(0) && batch.is_deleted(1));
}

/// A place for a vector is made in tombstones too; a small upload must not take all memory.
#[test]
fn tombstones_of_large_vectors_are_bounded() {
    let source = source(VectorKind::Dense, limits::DENSE_DIMENSION, &[("id", AttributeType::Int64)], &["id"]);
    let most = limits::BATCH_BYTES / (4 * limits::DENSE_DIMENSION as usize);
    let deleted: ArrayRef = Arc::new(BooleanArray::from(vec![true; most + 1]));
    let error = convert(&source, vec![("id", ids(most + 1)), ("deleted", deleted)]).expect_err("too many");
    assert!(error.contains(&format!("at most {most} points or tombstones")), "{error}");
}

/// A hundred thousand rows may share one long string; each of them would get its own.
#[test]
fn shared_strings_are_counted_before_they_are_copied() {
    let long = "x".repeat(limits::STRING_VALUE_BYTES);
    let rows = limits::BATCH_BYTES / long.len() + 1;
    let keys = Int32Array::from(vec![0; rows]);
    let dictionary: DictionaryArray<Int32Type> =
        DictionaryArray::new(keys, Arc::new(StringArray::from(vec![long.as_str()])));
    let mut views = StringViewBuilder::new();
    let block = views.append_block(long.as_bytes().into());
    for _ in 0..rows {
        views.try_append_view(block, 0, long.len() as u32).expect("a view");
    }
    for shared in [Arc::new(dictionary) as ArrayRef, Arc::new(views.finish())] {
        let error = upload(AttributeType::String, shared.clone()).expect_err("too large");
        assert!(error.contains("when each row has its own"), "{error}");
        upload(AttributeType::String, shared.slice(0, 2)).expect("two of them are no harm");
    }
    let empty: DictionaryArray<Int32Type> =
        DictionaryArray::new(Int32Array::from(Vec::<i32>::new()), Arc::new(StringArray::from(Vec::<&str>::new())));
    assert_eq!(upload(AttributeType::String, Arc::new(empty)), Ok(vec![]));
}

#[test]
fn columns_that_lack_or_are_unknown_are_named() {
    let source = with(AttributeType::Bool);
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
    let all = "All attributes defined for data source (and no other ones) must be specified";
    assert_eq!(
        convert(&source, vec![("id", ids(1)), ("vector", vectors(1))]).expect_err("refused"),
        format!("{all}: there is no column 'x'")
    );
    let columns = vec![("id", ids(1)), ("x", flags), ("vector", vectors(1)), ("y", ids(1)), ("_key", ids(1))];
    let message = convert(&source, columns.clone()).expect_err("refused");
    assert!(message.starts_with(&format!("{all}: columns that the data source does not know: 'y';")), "{message}");
    let mapping = ColumnMapping { ignore_unknown: true, ..Default::default() };
    PointBatch::from_record_batch(source, &record_batch(columns), &mapping).expect("ignored when told so");
}

#[test]
fn an_attribute_may_be_called_vector_or_deleted() {
    let attributes = [("deleted", AttributeType::Bool), ("vector", AttributeType::Int64)];
    let source = source(VectorKind::Dense, 2, &attributes, &["vector"]);
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
    let columns = vec![("deleted", flags), ("vector", ids(1)), ("_vector", vectors(1))];
    let batch = convert(&source, columns).expect("accepted");
    assert!(!batch.is_deleted(0));
}

#[test]
fn a_value_that_its_sharder_does_not_list_is_refused() {
    let mut source = DataSource::clone(&with(AttributeType::Bool));
    source.permanent_attributes.insert("x".to_owned());
    let possible_values = vec![AttributeValue::Bool(true)];
    source.sharders.insert("x".to_owned(), Sharder::Values { possible_values });
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
    assert_eq!(
        convert(&Arc::new(source), vec![("id", ids(2)), ("x", flags), ("vector", vectors(2))]).expect_err("refused"),
        "row 1 (from 0), column 'x': InputDataPoint attribute 'x' has unacceptable value 'False' for corresponding sharder"
    );
}

#[test]
fn nulls_are_refused_whatever_the_type() {
    for attribute_type in TYPES {
        let x = arrow::array::new_null_array(&DataType::Null, 1);
        upload(attribute_type, x).expect_err("a null column");
    }
    let x: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    assert_eq!(
        upload(AttributeType::Int64, x).expect_err("refused"),
        "row 1 (from 0), column 'x': InputDataPoint attribute 'x' has invalid value: '' (it is null)"
    );
}
