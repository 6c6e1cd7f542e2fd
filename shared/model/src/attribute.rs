//! Attributes: typed, named values of a data point.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{datetime, limits};

/// The attributes of one point, by key.
pub type Attributes = BTreeMap<String, AttributeValue>;

/// The type that a data source gives an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AttributeType {
    /// `true` or `false`.
    Bool,
    /// A signed 64-bit integer.
    Int64,
    /// A finite 64-bit float.
    Float64,
    /// Unicode text.
    String,
    /// 128 bits; Vektonn's `Guid`.
    Uuid,
    /// An instant, to the microsecond, UTC.
    DateTime,
}

/// A value of one of the [`AttributeType`]s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AttributeValue {
    /// `true` or `false`.
    Bool(bool),
    /// A signed 64-bit integer.
    Int64(i64),
    /// A finite 64-bit float; `-0.0` is stored as `0.0`.
    Float64(f64),
    /// Unicode text.
    String(String),
    /// 128 bits.
    Uuid(Uuid),
    /// Microseconds since 1970-01-01T00:00:00Z.
    DateTime(i64),
}

impl AttributeValue {
    /// The value's type.
    pub fn attribute_type(&self) -> AttributeType {
        match self {
            Self::Bool(_) => AttributeType::Bool,
            Self::Int64(_) => AttributeType::Int64,
            Self::Float64(_) => AttributeType::Float64,
            Self::String(_) => AttributeType::String,
            Self::Uuid(_) => AttributeType::Uuid,
            Self::DateTime(_) => AttributeType::DateTime,
        }
    }

    /// Why no point can have this value: a float that is not finite, a string beyond the limit, a date-time outside the
    /// years 1 to 9999. `None` for a good value.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Float64(value) if !value.is_finite() => Some("the number must be finite".to_owned()),
            Self::String(text) if text.len() > limits::STRING_VALUE_BYTES => Some(format!(
                "the string is {} bytes long; at most {} are allowed",
                text.len(),
                limits::STRING_VALUE_BYTES
            )),
            Self::DateTime(micros) if !datetime::in_range(*micros) => {
                Some("the date-time must be in the years 1 to 9999".to_owned())
            }
            _ => None,
        }
    }

    /// The value in the one form in which it is stored: `-0.0` becomes `0.0`.
    #[must_use]
    pub fn canonical(self) -> Self {
        match self {
            Self::Float64(value) => Self::Float64(value + 0.0),
            other => other,
        }
    }

    /// The order of two values of one type; `None` when the types differ. Strings compare by code point.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Int64(a), Self::Int64(b)) | (Self::DateTime(a), Self::DateTime(b)) => Some(a.cmp(b)),
            (Self::Float64(a), Self::Float64(b)) => a.partial_cmp(b),
            (Self::String(a), Self::String(b)) => Some(a.cmp(b)),
            (Self::Uuid(a), Self::Uuid(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

/// As Vektonn's messages print a value, which is as .NET does: `True`, `42`, `1E+20`, `2024-01-31T12:00:00.0000000Z`.
impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(true) => f.write_str("True"),
            Self::Bool(false) => f.write_str("False"),
            Self::Int64(value) => value.fmt(f),
            Self::Float64(value) => f.write_str(&dotnet_float(*value)),
            Self::String(text) => f.write_str(text),
            Self::Uuid(value) => value.hyphenated().fmt(f),
            Self::DateTime(micros) => f.write_str(&datetime::format_round_trip(*micros)),
        }
    }
}

/// A float as .NET Core 3.0 and later print it: the shortest digits that round-trip, positional while the decimal
/// exponent is -4 to 14, else `d.dddE+XX`.
fn dotnet_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{value:E}");
    let Some((digits, exponent)) = scientific.split_once('E') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..15).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}E{sign}{:02}", exponent.unsigned_abs())
        }
        _ => format!("{value}"),
    }
}

impl fmt::Display for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "Bool",
            Self::Int64 => "Int64",
            Self::Float64 => "Float64",
            Self::String => "String",
            Self::Uuid => "Guid",
            Self::DateTime => "DateTime",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_print_as_in_dotnet() {
        let printed = |value: AttributeValue| value.to_string();
        assert_eq!(printed(AttributeValue::Bool(true)), "True");
        assert_eq!(printed(AttributeValue::Bool(false)), "False");
        assert_eq!(printed(AttributeValue::Int64(-42)), "-42");
        assert_eq!(printed(AttributeValue::String("la-la".into())), "la-la");
        let uuid = Uuid::from_u128(0xABCDEF00_1122_3344_5566_778899AABBCC);
        assert_eq!(printed(AttributeValue::Uuid(uuid)), "abcdef00-1122-3344-5566-778899aabbcc");
        assert_eq!(printed(AttributeValue::DateTime(0)), "1970-01-01T00:00:00.0000000Z");
        for (value, text) in [
            (0.1, "0.1"),
            (3.0, "3"),
            (-0.0, "-0"),
            (123_456_789.25, "123456789.25"),
            (100_000_000_000_000.0, "100000000000000"),
            (1e15, "1E+15"),
            (-1.5e20, "-1.5E+20"),
            (0.0001, "0.0001"),
            (0.00001, "1E-05"),
            (1.25e-7, "1.25E-07"),
            (1e300, "1E+300"),
        ] {
            assert_eq!(printed(AttributeValue::Float64(value)), text);
        }
    }

    #[test]
    fn values_that_no_point_can_have_are_named() {
        assert!(AttributeValue::Float64(f64::NAN).problem().is_some());
        assert!(AttributeValue::Float64(f64::NEG_INFINITY).problem().is_some());
        assert!(AttributeValue::String("x".repeat(limits::STRING_VALUE_BYTES + 1)).problem().is_some());
        assert!(AttributeValue::String("x".repeat(limits::STRING_VALUE_BYTES)).problem().is_none());
        assert!(AttributeValue::DateTime(i64::MIN).problem().is_some());
        assert!(AttributeValue::DateTime(datetime::MAX).problem().is_none());
        assert!(AttributeValue::DateTime(datetime::MAX + 1).problem().is_some());
    }
}
