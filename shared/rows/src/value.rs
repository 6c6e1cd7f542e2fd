//! Attribute values from text, typed by a data source.

use tarn_model::{AttributeType, AttributeValue, datetime};
use uuid::Uuid;

/// A value of a type. A date-time without an offset is UTC.
pub fn parse_value(kind: AttributeType, text: &str) -> Option<AttributeValue> {
    Some(match kind {
        AttributeType::Bool if text.eq_ignore_ascii_case("true") => AttributeValue::Bool(true),
        AttributeType::Bool if text.eq_ignore_ascii_case("false") => AttributeValue::Bool(false),
        AttributeType::Bool => return None,
        AttributeType::Int64 => AttributeValue::Int64(text.parse().ok()?),
        // Adding zero turns -0.0 into 0.0, the form in which it is stored.
        AttributeType::Float64 => AttributeValue::Float64(text.parse().ok().filter(|v: &f64| v.is_finite())? + 0.0),
        AttributeType::String => AttributeValue::String(text.to_owned()),
        AttributeType::Uuid => AttributeValue::Uuid(Uuid::parse_str(text).ok()?),
        AttributeType::DateTime => AttributeValue::DateTime(datetime::parse(text)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_its_own_text() {
        let cases = [
            (AttributeType::Bool, "True", Some(AttributeValue::Bool(true))),
            (AttributeType::Bool, "1", None),
            (AttributeType::Int64, "-5", Some(AttributeValue::Int64(-5))),
            (AttributeType::Int64, "9223372036854775808", None),
            (AttributeType::Float64, "-0.0", Some(AttributeValue::Float64(0.0))),
            (AttributeType::Float64, "NaN", None),
            (AttributeType::String, "", Some(AttributeValue::String(String::new()))),
            (AttributeType::Uuid, "not", None),
            (AttributeType::DateTime, "1970-01-01T00:00:01+00:00", Some(AttributeValue::DateTime(1_000_000))),
            (AttributeType::DateTime, "1970-01-01T00:00:00.000001", Some(AttributeValue::DateTime(1))),
        ];
        for (kind, text, expected) in cases {
            assert_eq!(parse_value(kind, text), expected, "{kind} {text}");
        }
    }
}
