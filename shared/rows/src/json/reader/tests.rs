//! The reader accepts what RFC 8259 calls JSON and nothing else, and says where the fault is.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::json::read_tree;

fn tree(text: &str) -> Result<Value, JsonError> {
    let mut reader = Reader::new(text.as_bytes())?;
    let tree = read_tree(&mut reader)?;
    reader.end()?;
    Ok(tree)
}

fn skips(text: &str) -> bool {
    let mut reader = Reader::new(text.as_bytes()).unwrap();
    reader.skip().and_then(|()| reader.end()).is_ok()
}

fn fault(text: &str) -> String {
    tree(text).unwrap_err().to_string()
}

#[test]
fn values_of_every_kind_are_read() {
    let text = r#" {"a": [1, -2.5e3, true, false, null, "x\n\u00e9\ud83d\ude00\/"], "b": {}, "c": [], "": 0} "#;
    assert_eq!(tree(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    assert_eq!(tree("\u{feff}1").unwrap(), Value::from(1));
}

#[test]
fn faults_are_named_with_line_and_column() {
    assert_eq!(fault("{\"a\" 1}"), "Malformed JSON: expected ':' at line 1 column 6");
    assert_eq!(fault("[1,\n 2,\n  x]"), "Malformed JSON: expected a value at line 3 column 3");
    assert_eq!(fault(""), "Malformed JSON: expected a value, found the end of the text at line 1 column 1");
    assert_eq!(fault("[1] 2"), "Malformed JSON: expected the end of the text at line 1 column 5");
    let error = Reader::new(b"[\n\"\xff\"]").unwrap_err();
    assert_eq!(error.to_string(), "Malformed JSON: the text is not UTF-8 at line 2 column 2");
}

#[test]
fn what_is_not_json_is_refused() {
    for text in [
        "[1,]",
        "{,}",
        "{\"a\":1,}",
        "[01]",
        "[1.]",
        "[.5]",
        "[+1]",
        "[1e]",
        "[-]",
        "[NaN]",
        "[Infinity]",
        "nul",
        "truex",
        "'a'",
        "\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "\"\n\"",
        "[",
        "{",
        "{\"a\"",
        "{\"a\":",
        "[1 2]",
        "{\"a\":1 \"b\":2}",
        "{a:1}",
        "// x\n1",
        "\u{a0}1",
    ] {
        assert!(tree(text).is_err(), "{text}");
        assert!(!skips(text), "{text}");
        assert!(serde_json::from_str::<Value>(text).is_err(), "serde_json takes {text}");
    }
}

#[test]
fn json_depth_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(tree(&nested(DEPTH as usize)).is_ok());
    assert!(fault(&nested(DEPTH as usize + 1)).contains("nest deeper than"));
    assert!(fault(&"{\"a\":".repeat(1_000_000)).contains("nest deeper than"));
    assert!(!skips(&nested(1_000_000)));
}

#[test]
fn numbers_may_come_as_strings() {
    let number = |text: &str| Reader::new(text.as_bytes()).unwrap().f64("x");
    assert_eq!(number("1.5"), Ok(1.5));
    assert_eq!(number("\"1.5\""), Ok(1.5));
    assert_eq!(number("\"-1e2\""), Ok(-100.0));
    for text in ["\"\"", "\"x\"", "\"NaN\"", "\" 1\"", "\"1 \"", "\"0x1\"", "null", "true", "[1]"] {
        assert!(number(text).is_err(), "{text}");
    }
}

#[test]
fn integers_are_exact_or_refused() {
    let int64 = |text: &str| Reader::new(text.as_bytes()).unwrap().integer::<i64>("int64");
    assert_eq!(int64("9223372036854775807"), Ok(i64::MAX));
    assert_eq!(int64("\"-9223372036854775808\""), Ok(i64::MIN));
    assert_eq!(
        int64("9223372036854775808").unwrap_err().to_string(),
        "int64 must be a whole number of 64 bits, found 9223372036854775808 at line 1 column 1"
    );
    for text in ["1.0", "1e3", "-9223372036854775809", "\"1.5\""] {
        assert!(int64(text).is_err(), "{text}");
    }
}

#[test]
fn the_last_of_repeated_properties_is_seen_last() {
    assert_eq!(tree(r#"{"a":1,"A":2,"a":3}"#).unwrap(), serde_json::json!({"a": 3, "A": 2}));
}

proptest! {
    #[test]
    fn what_serde_json_writes_comes_back(value in any_json()) {
        let text = serde_json::to_string(&value).unwrap();
        prop_assert_eq!(tree(&text).unwrap(), value.clone());
        prop_assert!(skips(&serde_json::to_string_pretty(&value).unwrap()));
    }

    #[test]
    fn it_agrees_with_serde_json_on_what_is_json(text in r#"[ \[\]{}:,"a\\unlre0-9.eE+-]{0,24}"#) {
        // Beyond the range of f64 the tree refuses, and so does serde_json.
        prop_assert_eq!(tree(&text).is_ok(), serde_json::from_str::<Value>(&text).is_ok(), "{}", text);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(mut reader) = Reader::new(&bytes) {
            let _ = reader.skip();
        }
    }

    #[test]
    fn floats_are_rounded_once(value in any::<f64>().prop_filter("JSON has no others", |value| value.is_finite())) {
        let text = format!("{value:?}");
        prop_assert_eq!(Reader::new(text.as_bytes()).unwrap().f64("x").unwrap().to_bits(), value.to_bits());
        #[allow(clippy::cast_possible_truncation)]
        let single = value as f32;
        let text = format!("{single:?}");
        if single.is_finite() {
            prop_assert_eq!(Reader::new(text.as_bytes()).unwrap().f32("x").unwrap().to_bits(), single.to_bits());
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no others", |value| value.is_finite()).prop_map(Value::from),
        ".{0,10}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::btree_map(".{0,6}", inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
