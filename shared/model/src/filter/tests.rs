//! Specification of filters: operators, types, limits, messages.

use serde_json::json;

use super::*;
use crate::fixtures;

fn source() -> DataSource {
    let types = [
        ("n", AttributeType::Int64),
        ("x", AttributeType::Float64),
        ("s", AttributeType::String),
        ("b", AttributeType::Bool),
        ("t", AttributeType::DateTime),
        ("g", AttributeType::Uuid),
    ];
    fixtures::source(&types, &["n"])
}

fn point() -> Attributes {
    let values = [
        ("n", AttributeValue::Int64(5)),
        ("x", AttributeValue::Float64(0.5)),
        ("s", AttributeValue::String("film noir".into())),
        ("b", AttributeValue::Bool(true)),
        ("t", AttributeValue::DateTime(1_000_000)),
        ("g", AttributeValue::Uuid(uuid::Uuid::from_u128(7))),
    ];
    values.map(|(key, value)| (key.to_owned(), value)).into()
}

fn parse(json: &Value) -> Result<Filter, String> {
    Filter::from_json(json, &source()).map_err(|error| error.to_string())
}

#[test]
fn every_operator_decides_as_documented() {
    let key = |key: &str, value: Value| json!({"key": key, "value": value});
    for (filter, expected) in [
        (json!({}), true),
        (json!({"eq": key("n", json!(5))}), true),
        (json!({"eq": key("n", json!({"int64": 5}))}), true),
        (json!({"eq": key("n", json!("5"))}), true),
        (json!({"ne": key("n", json!(5))}), false),
        (json!({"lt": key("n", json!(5))}), false),
        (json!({"lte": key("n", json!(5))}), true),
        (json!({"gt": key("n", json!(4))}), true),
        (json!({"gte": key("n", json!(6))}), false),
        (json!({"lt": key("x", json!(1))}), true),
        (json!({"gt": key("s", json!("film"))}), true),
        (json!({"gt": key("t", json!("1970-01-01T00:00:00"))}), true),
        (json!({"eq": key("t", json!({"dateTime": "1970-01-01T00:00:01Z"}))}), true),
        (json!({"eq": key("g", json!("00000000-0000-0000-0000-000000000007"))}), true),
        (json!({"eq": key("b", json!(true))}), true),
        (json!({"ne": key("b", json!(true))}), false),
        (json!({"in": {"key": "n", "values": [4, 5, 5]}}), true),
        (json!({"in": {"key": "n", "values": []}}), false),
        (json!({"notIn": {"key": "n", "values": [4, 5]}}), false),
        (json!({"notIn": {"key": "n", "values": []}}), true),
        (json!({"exists": {"key": "s"}}), true),
        (json!({"startsWith": key("s", json!("film"))}), true),
        (json!({"startsWith": key("s", json!("noir"))}), false),
        (json!({"and": []}), true),
        (json!({"or": []}), false),
        (json!({"not": {"or": []}}), true),
        (json!({"and": [{"eq": key("n", json!(5))}, {"eq": key("b", json!(false))}]}), false),
        (json!({"or": [{"eq": key("n", json!(6))}, {"eq": key("b", json!(true))}]}), true),
        (json!({"gte": key("n", json!(5)), "lt": key("n", json!(6))}), true),
        (json!({"gte": key("n", json!(5)), "lt": key("n", json!(5))}), false),
    ] {
        let parsed = parse(&filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
        assert_eq!(parsed.matches(&point()), expected, "{filter}");
    }
}

#[test]
fn faults_are_found_with_their_path() {
    for (filter, message) in [
        (json!(5), "filter: must be an object with an operator"),
        (json!({"near": {}}), "filter.near: unknown operator; the operators are: and, or"),
        (json!({"and": {}}), "filter.and: must be a list of filters"),
        (json!({"and": [{"eq": {"key": "q", "value": 1}}]}), "filter.and[0].eq.key: attribute 'q' is unknown"),
        (json!({"eq": {"value": 1}}), "filter.eq.key: is missing"),
        (json!({"eq": {"key": 1, "value": 1}}), "filter.eq.key: must be the key of an attribute"),
        (json!({"eq": {"key": "n"}}), "filter.eq.value: is missing"),
        (json!({"eq": {"key": "n", "value": 1, "vaule": 2}}), "filter.eq.vaule: unknown field; expected key and value"),
        (json!({"eq": {"key": "n", "value": "x"}}), "filter.eq.value: \"x\" is not a value of type Int64"),
        (json!({"eq": {"key": "n", "value": null}}), "filter.eq.value: null is not a value of type Int64"),
        (json!({"eq": {"key": "n", "value": 1.5}}), "filter.eq.value: 1.5 is not a value of type Int64"),
        (
            json!({"eq": {"key": "n", "value": {"string": "x"}}}),
            "filter.eq.value: {\"string\":\"x\"} is not a value of",
        ),
        (json!({"lt": {"key": "b", "value": true}}), "filter.lt: attribute 'b' is a Bool, which has no order"),
        (json!({"startsWith": {"key": "n", "value": "5"}}), "filter.startsWith: attribute 'n' is of type Int64"),
        (json!({"in": {"key": "n", "values": 5}}), "filter.in.values: must be a list of values"),
        (json!({"in": {"key": "n", "values": [5, "x"]}}), "filter.in.values[1]: \"x\" is not a value of type Int64"),
        (json!({"not": []}), "filter.not: must be an object with an operator"),
    ] {
        let error = parse(&filter).expect_err(&filter.to_string());
        assert!(error.starts_with(message), "{filter}: {error}");
    }
}

#[test]
fn filters_have_bounds() {
    let leaf = json!({"exists": {"key": "n"}});
    let nested = |depth| (0..depth).fold(leaf.clone(), |inner, _| json!({"not": inner}));
    assert!(parse(&nested(limits::FILTER_DEPTH - 1)).is_ok());
    assert!(parse(&nested(limits::FILTER_DEPTH)).expect_err("too deep").contains("nested deeper than 32 levels"));

    let wide = |parts| json!({"or": vec![leaf.clone(); parts]});
    assert!(parse(&wide(limits::FILTER_NODES - 1)).is_ok());
    assert!(parse(&wide(limits::FILTER_NODES)).expect_err("too wide").contains("more than 1000 parts"));

    let hollow = json!({"or": vec![json!({}); limits::FILTER_NODES]});
    assert!(parse(&hollow).expect_err("empty filters are parts too").contains("more than 1000 parts"));

    let many = json!({"in": {"key": "n", "values": vec![1; limits::FILTER_VALUES + 1]}});
    assert!(parse(&many).expect_err("too many").contains("10001 values; at most 10000 are allowed"));
}

#[test]
fn a_filter_knows_the_attributes_it_reads() {
    let filter = json!({"and": [{"exists": {"key": "s"}}, {"not": {"in": {"key": "n", "values": [1]}}}]});
    assert_eq!(Vec::from_iter(parse(&filter).expect("parses").attributes()), ["n", "s"]);
}
