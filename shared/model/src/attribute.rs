//! Attributes: typed, named values of a data point.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

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
