//! The cases are those of Vektonn's own tests, and what Tarn adds.

use super::*;
use crate::fixtures;
use crate::source::Sharder;
use crate::wire::WireAttributeValue;

use AttributeType::{Bool, Int64, String as Text, Uuid as Guid};

fn source(attributes: &[(&str, AttributeType)]) -> DataSource {
    let keys: Vec<&str> = attributes.iter().map(|&(key, _)| key).collect();
    fixtures::source(attributes, &keys)
}

fn sparse(mut source: DataSource) -> DataSource {
    source.vector_kind = VectorKind::Sparse;
    source.vector_dimension = 10;
    source
}

fn attribute(key: &str, value: AttributeValue) -> WireAttribute {
    WireAttribute { key: Some(key.to_owned()), value: value.into() }
}

fn int(key: &str, value: i64) -> WireAttribute {
    attribute(key, AttributeValue::Int64(value))
}

fn text(key: &str, value: &str) -> WireAttribute {
    attribute(key, AttributeValue::String(value.to_owned()))
}

fn empty(key: &str) -> WireAttribute {
    WireAttribute { key: Some(key.to_owned()), value: WireAttributeValue::default() }
}

fn dense_vector() -> Option<WireVector> {
    Some(WireVector::Dense(vec![0.5, 1.5]))
}

fn sparse_vector() -> Option<WireVector> {
    Some(WireVector::Sparse { coordinates: vec![0.5, 1.5], indices: vec![7, 3] })
}

fn upsert<const N: usize>(attributes: [WireAttribute; N], vector: Option<WireVector>) -> WirePoint {
    WirePoint { attributes: attributes.into(), vector, is_deleted: false }
}

fn tombstone<const N: usize>(attributes: [WireAttribute; N]) -> WirePoint {
    WirePoint { attributes: attributes.into(), vector: None, is_deleted: true }
}

fn refused(source: &DataSource, point: WirePoint) -> Vec<String> {
    check_wire_point(source, point).expect_err("refused").messages
}

fn vector_refused(source: &DataSource, vector: WireVector) -> Vec<String> {
    check_wire_vector(source, vector).expect_err("refused").messages
}

#[test]
fn good_points_become_updates() {
    let dense = source(&[("key", Int64)]);
    let attributes = Attributes::from([("key".to_owned(), AttributeValue::Int64(42))]);
    let upserted = DataPoint { attributes: attributes.clone(), vector: Vector::Dense(vec![0.5, 1.5]) };
    assert_eq!(check_wire_point(&dense, upsert([int("key", 42)], dense_vector())), Ok(Update::Upsert(upserted)));
    assert_eq!(check_wire_point(&dense, tombstone([int("key", 42)])), Ok(Update::Delete(attributes.clone())));

    let sorted = SparseVector { indices: vec![3, 7], values: vec![1.5, 0.5] };
    let upserted = DataPoint { attributes, vector: Vector::Sparse(sorted) };
    let update = check_wire_point(&sparse(dense), upsert([int("key", 42)], sparse_vector()));
    assert_eq!(update, Ok(Update::Upsert(upserted)));
}

#[test]
fn attribute_keys_must_be_unique() {
    let point = upsert([int("key", 42), int("key", 24)], dense_vector());
    assert_eq!(refused(&source(&[("key", Int64)]), point), ["Attribute keys must be unique"]);
}

#[test]
fn all_attributes_and_no_other_must_be_specified() {
    let all = "All attributes defined for data source (and no other ones) must be specified";
    assert_eq!(
        refused(&source(&[("key", Int64)]), upsert([int("key", 42), int("extraKey", 24)], dense_vector())),
        [all, "InputDataPoint attribute key is unknown: 'extraKey'"]
    );
    assert_eq!(
        refused(&source(&[("key", Int64), ("extraKey", Int64)]), upsert([int("key", 42)], dense_vector())),
        [all]
    );
    assert_eq!(
        refused(&source(&[("key", Int64)]), WirePoint { is_deleted: true, ..upsert([int("KEY", 42)], dense_vector()) }),
        [all, "InputDataPoint attribute key is unknown: 'KEY'", "IsDeleted is inconsistent with Vector"]
    );
    assert_eq!(
        refused(&source(&[("key", Int64)]), upsert([int("key", 42), WireAttribute::default()], dense_vector())),
        [all, "InputDataPoint attribute key is null or whitespace"]
    );
    assert_eq!(
        refused(&source(&[("key", Int64)]), upsert([int("key", 42), int(" \t", 1)], dense_vector())),
        [all, "InputDataPoint attribute key is null or whitespace"]
    );
}

#[test]
fn a_tombstone_may_carry_the_permanent_attributes_alone() {
    let source = fixtures::source(&[("id", Int64), ("tag", Text)], &["id"]);
    assert!(check_wire_point(&source, tombstone([int("id", 1)])).is_ok());
    assert!(check_wire_point(&source, tombstone([int("id", 1), text("tag", "x")])).is_ok());
    let all = "All attributes defined for data source (and no other ones) must be specified";
    assert_eq!(refused(&source, tombstone([text("tag", "x")])), [all]);
    assert_eq!(
        refused(&source, tombstone([int("id", 1), int("other", 1)])),
        [all, "InputDataPoint attribute key is unknown: 'other'"]
    );
    assert_eq!(refused(&source, upsert([int("id", 1)], dense_vector())), [all]);
}

#[test]
fn values_must_have_the_type_of_the_attribute() {
    assert_eq!(
        refused(&source(&[("key", Text)]), upsert([int("key", 42)], dense_vector())),
        ["InputDataPoint attribute 'key' has invalid value: '42'"]
    );
    assert_eq!(
        refused(&source(&[("key", Text)]), upsert([empty("key")], dense_vector())),
        ["InputDataPoint attribute 'key' has invalid value: ''"]
    );
    let mut both = int("key", 42);
    both.value.string = Some("str".to_owned());
    assert_eq!(
        refused(&source(&[("key", Text)]), upsert([both], dense_vector())),
        ["InputDataPoint attribute 'key' has invalid value: 'str'"]
    );
}

#[test]
fn values_that_cannot_be_stored_are_refused_without_quoting_them() {
    let long = "x".repeat(limits::STRING_VALUE_BYTES + 1);
    assert_eq!(
        refused(&source(&[("key", Text)]), upsert([text("key", &long)], dense_vector())),
        ["InputDataPoint attribute 'key' has invalid value: the string is 65537 bytes long; at most 65536 are allowed"]
    );
    let [message] = refused(&source(&[("key", Int64)]), upsert([text("key", &long)], dense_vector()))
        .try_into()
        .expect("one message");
    assert!(message.len() < 1_200);
}

#[test]
fn sharders_decide_which_values_are_acceptable() {
    let mut source = source(&[("k1", Bool), ("k2", Text)]);
    let accept = |values: &[&str]| Sharder::Values {
        possible_values: values.iter().map(|&value| AttributeValue::String(value.to_owned())).collect(),
    };
    let point = || upsert([attribute("k1", AttributeValue::Bool(true)), text("k2", "la-la-la")], dense_vector());
    source.sharders.insert("k2".to_owned(), accept(&["bu-bu-bu"]));
    assert_eq!(
        refused(&source, point()),
        ["InputDataPoint attribute 'k2' has unacceptable value 'la-la-la' for corresponding sharder"]
    );
    source.sharders.insert("k2".to_owned(), accept(&["la-la-la", "bu-bu-bu"]));
    assert!(check_wire_point(&source, point()).is_ok());
    source.sharders.insert("k1".to_owned(), Sharder::Values { possible_values: vec![AttributeValue::Bool(false)] });
    assert_eq!(
        refused(&source, point()),
        ["InputDataPoint attribute 'k1' has unacceptable value 'True' for corresponding sharder"]
    );
}

#[test]
fn a_split_filter_asks_for_values_that_the_sharder_accepts() {
    let (mut source, index) = index(&[("sk1", Bool)]);
    source.sharders.insert("sk1".to_owned(), Sharder::Values { possible_values: vec![AttributeValue::Bool(false)] });
    let refused = ["SplitFilter attribute 'sk1' has unacceptable value 'True' for corresponding sharder"];
    let search = |value| WireSearch {
        split_filter: vec![attribute("sk1", AttributeValue::Bool(value))],
        query_vectors: vec![WireVector::Dense(vec![0.0; 2])],
        k: 1,
    };
    assert!(check_wire_search(&source, &index, search(false)).is_ok());
    assert_eq!(check_wire_search(&source, &index, search(true)).expect_err("refused").messages, refused);
    let filter = Attributes::from([("sk1".to_owned(), AttributeValue::Bool(true))]);
    let error = check_search(&source, &index, &filter, &[Vector::Dense(vec![0.0; 2])], 1).expect_err("refused");
    assert_eq!(error.messages, refused);
}

#[test]
fn a_point_with_a_flood_of_attributes_gets_few_messages() {
    let attributes = (0..10_000).map(|i| int(&format!("unknown {i}"), 0)).collect();
    let point = WirePoint { attributes, vector: dense_vector(), is_deleted: false };
    assert_eq!(refused(&source(&[("key", Int64)]), point).len(), 1 + limits::ATTRIBUTES);
}

#[test]
fn a_vector_is_there_unless_the_point_is_deleted() {
    let source = source(&[("key", Int64)]);
    let inconsistent = ["IsDeleted is inconsistent with Vector"];
    assert_eq!(refused(&source, upsert([int("key", 42)], None)), inconsistent);
    assert_eq!(refused(&source, WirePoint { vector: dense_vector(), ..tombstone([int("key", 42)]) }), inconsistent);
}

#[test]
fn dense_vectors_have_the_dimension_and_finite_coordinates() {
    let source = source(&[("key", Int64)]);
    assert_eq!(refused(&source, upsert([int("key", 42)], sparse_vector())), ["Vector must be dense"]);
    for coordinates in [vec![], vec![1.0], vec![1.0, 2.0, 3.0]] {
        let message = "Vector coordinates must have dimension: 2";
        assert_eq!(vector_refused(&source, WireVector::Dense(coordinates)), [message]);
    }
    assert_eq!(
        vector_refused(&source, WireVector::Dense(vec![0.0, f32::NAN])),
        ["Vector coordinate 1 is not a number"]
    );
    assert_eq!(
        vector_refused(&source, WireVector::Dense(vec![-2.0e16, 0.0])),
        ["Vector coordinate 0 is -2e16; magnitudes up to 1e16 are allowed"
            .replace("-2e16", &format!("{:e}", f64::from(-2.0e16_f32)))
            .replace("to 1e16", &format!("to {:e}", f64::from(limits::DENSE_COORDINATE)))]
    );
    assert!(check_dense(2, &[f32::INFINITY, 0.0]).is_err());
}

#[test]
fn sparse_vectors_have_one_value_for_each_unique_index_in_range() {
    let source = sparse(source(&[("key", Int64)]));
    let refused = |coordinates: &[f64], indices: &[i64]| {
        let vector = WireVector::Sparse { coordinates: coordinates.to_vec(), indices: indices.to_vec() };
        vector_refused(&source, vector).join("; ")
    };
    assert_eq!(vector_refused(&source, WireVector::Dense(vec![1.0])), ["Vector must be sparse"]);
    assert_eq!(refused(&[], &[]), "Vector must have coordinates");
    let unique = "Each vector coordinate value must have unique corresponding index";
    assert_eq!(refused(&[1.0, 2.0], &[1, 1]), unique);
    assert_eq!(refused(&[1.0, 2.0, 3.0], &[2, 1, 2]), unique);
    assert_eq!(refused(&[1.0, 2.0], &[1]), unique);
    assert_eq!(refused(&[1.0], &[1, 2]), unique);
    let dimension = "Vector coordinates must have dimension: 10";
    assert_eq!(refused(&[1.0], &[10]), dimension);
    assert_eq!(refused(&[1.0], &[-1]), dimension);
    assert_eq!(refused(&[1.0], &[i64::MAX]), dimension);
    assert_eq!(
        refused(&[1.0, f64::INFINITY], &[1, 2]),
        "Vector coordinate 1 is inf; magnitudes up to 1e100 are allowed"
    );
    let many = vec![1.0; limits::SPARSE_COORDINATES + 1];
    assert!(check_sparse(limits::SPARSE_DIMENSION, &Vec::from_iter(0..65_537_u32), &many).is_err());
}

fn index(splits: &[(&str, AttributeType)]) -> (DataSource, Index) {
    let mut types = splits.to_vec();
    types.push(("id", Int64));
    let source = source(&types);
    let keys: Vec<&str> = splits.iter().map(|&(key, _)| key).collect();
    let index = fixtures::index(&source, &["id"], &keys);
    (source, index)
}

fn search_refused(splits: &[(&str, AttributeType)], filter: &[WireAttribute]) -> Vec<String> {
    let (source, index) = index(splits);
    let search =
        WireSearch { split_filter: filter.to_vec(), query_vectors: vec![WireVector::Dense(vec![0.0; 2])], k: 1 };
    check_wire_search(&source, &index, search).expect_err("refused").messages
}

#[test]
fn split_filters_name_split_attributes_once_with_values_of_their_type() {
    let two = [("sk1", Int64), ("sk2", Int64)];
    let outside = "SplitFilter attribute keys must be in SplitAttributes: {sk1, sk2}";
    assert_eq!(search_refused(&two, &[int("sk3", 0), int("sk2", 1), int("sk1", 2)]), [outside]);
    assert_eq!(search_refused(&two, &[int("sk2", 42), attribute("SK2", AttributeValue::Bool(true))]), [outside]);
    assert_eq!(search_refused(&two, &[WireAttribute::default()]), [outside]);
    assert_eq!(search_refused(&two, &[int("", 42)]), [outside]);
    assert_eq!(
        search_refused(&[("sk1", Int64), ("sk2", Int64)], &[int("sk1", 42), int("sk1", 24)]),
        ["SplitFilter attribute keys must be unique"]
    );
    assert_eq!(
        search_refused(&[("sk1", Guid)], &[attribute("sk1", AttributeValue::Bool(true))]),
        ["SplitFilter attribute 'sk1' has invalid value: 'True'"]
    );
    assert_eq!(
        search_refused(&[("sk1", Text)], &[empty("sk1")]),
        ["SplitFilter attribute 'sk1' has invalid value: ''"]
    );
}

#[test]
fn good_searches_become_domain_values() {
    let (source, index) = index(&[("sk1", Int64), ("sk2", Bool)]);
    let vector = WireVector::Dense(vec![0.0; 2]);
    let search = WireSearch { split_filter: vec![int("sk1", 42)], query_vectors: vec![vector], k: 3 };
    let checked = check_wire_search(&source, &index, search).expect("accepted");
    assert_eq!(checked.k, 3);
    assert_eq!(checked.split_filter, Attributes::from([("sk1".to_owned(), AttributeValue::Int64(42))]));
    assert_eq!(checked.queries, [Vector::Dense(vec![0.0; 2])]);
    check_search(&source, &index, &checked.split_filter, &checked.queries, checked.k).expect("accepted");
}

#[test]
fn k_and_query_vectors_are_needed_and_bounded() {
    let (source, index) = index(&[]);
    let refused = |k, queries: usize| {
        let query_vectors = vec![WireVector::Dense(vec![0.0; 2]); queries];
        let search = WireSearch { split_filter: vec![], query_vectors, k };
        check_wire_search(&source, &index, search).expect_err("refused").messages
    };
    assert_eq!(refused(0, 1), ["K must be positive"]);
    assert_eq!(refused(i64::MIN, 1), ["K must be positive"]);
    assert_eq!(refused(1, 0), ["At least one query vector is required"]);
    assert_eq!(refused(0, 0), ["K must be positive", "At least one query vector is required"]);
    assert_eq!(refused(10_001, 1), ["K must be at most 10000"]);
    assert_eq!(refused(1, 1_001), ["1001 query vectors are given; at most 1000 are allowed"]);
}

#[test]
fn the_first_bad_query_vector_is_reported() {
    let (source, index) = index(&[]);
    let query_vectors = vec![WireVector::Dense(vec![0.0; 3]), sparse_vector().expect("some")];
    let search = WireSearch { split_filter: vec![], query_vectors, k: 0 };
    let messages = check_wire_search(&source, &index, search).expect_err("refused").messages;
    assert_eq!(messages, ["K must be positive", "Vector coordinates must have dimension: 2"]);
}

#[test]
fn domain_values_get_the_same_messages() {
    let source = fixtures::source(&[("id", Int64), ("tag", Text)], &["id"]);
    let all = "All attributes defined for data source (and no other ones) must be specified";
    let attributes = |entries: &[(&str, AttributeValue)]| -> Attributes {
        entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    };
    let messages = |update: &Update| check_update(&source, update).expect_err("refused").messages;
    let point = |entries: &[(&str, AttributeValue)], vector| {
        Update::Upsert(DataPoint { attributes: attributes(entries), vector })
    };
    let good = [("id", AttributeValue::Int64(1)), ("tag", AttributeValue::String("x".into()))];
    let vector = Vector::Dense(vec![0.0; 2]);
    assert_eq!(check_update(&source, &point(&good, vector.clone())), Ok(()));
    assert_eq!(check_update(&source, &Update::Delete(attributes(&good[..1]))), Ok(()));
    assert_eq!(messages(&point(&good[..1], vector.clone())), [all]);
    assert_eq!(
        messages(&point(&[("id", AttributeValue::Bool(true)), good[1].clone()], Vector::Dense(vec![0.0]))),
        ["InputDataPoint attribute 'id' has invalid value: 'True'", "Vector coordinates must have dimension: 2"]
    );
    let unsorted = SparseVector { indices: vec![3, 1], values: vec![1.0, 2.0] };
    assert_eq!(messages(&point(&good, Vector::Sparse(unsorted.clone()))), ["Vector must be dense"]);
    let error = check_vector(&sparse(source.clone()), &Vector::Sparse(unsorted)).expect_err("refused");
    assert_eq!(error.messages, ["Vector coordinate indices must be ascending"]);
}
