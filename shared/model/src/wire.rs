//! Requests of layer 1 as the wire carries them: parsed, not yet checked.
//!
//! On the wire an attribute key may be missing, a value may have no field set or several, and a sparse vector's indices may be
//! anything. These types can hold all of that; `validate` turns them into domain values or into Vektonn's messages. Not
//! here: JSON itself, which the API crate reads.

use std::fmt;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::attribute::{AttributeType, AttributeValue};
use crate::datetime;

/// `{"key": …, "value": …}`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WireAttribute {
    /// Missing or null: `None`.
    pub key: Option<String>,
    /// The value.
    pub value: WireAttributeValue,
}

/// `{"int64": 5}` and the like. Good ones have exactly one field set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WireAttributeValue {
    /// `string`
    pub string: Option<String>,
    /// `guid`
    pub guid: Option<Uuid>,
    /// `bool`
    pub bool: Option<bool>,
    /// `int64`
    pub int64: Option<i64>,
    /// `float64`
    pub float64: Option<f64>,
    /// `dateTime`, in microseconds since 1970, UTC.
    pub date_time: Option<i64>,
}

/// `{"isSparse": …, "coordinates": […], "coordinateIndices": […]}`.
#[derive(Clone, Debug, PartialEq)]
pub enum WireVector {
    /// `isSparse` is false.
    Dense(Vec<f32>),
    /// `isSparse` is true.
    Sparse {
        /// One value for each index.
        coordinates: Vec<f64>,
        /// In any order.
        indices: Vec<i64>,
    },
}

/// One point of an upload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WirePoint {
    /// In the order of the request.
    pub attributes: Vec<WireAttribute>,
    /// Missing or null: `None`.
    pub vector: Option<WireVector>,
    /// Whether the point is a tombstone.
    pub is_deleted: bool,
}

/// A search of layer 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WireSearch {
    /// Missing or null: empty.
    pub split_filter: Vec<WireAttribute>,
    /// At least one, when the request is good.
    pub query_vectors: Vec<WireVector>,
    /// As it came.
    pub k: i64,
}

impl WireAttributeValue {
    /// The value as the type, in canonical form; `None` unless exactly the one field of that type is set.
    pub fn typed(&self, attribute_type: AttributeType) -> Option<AttributeValue> {
        let fields = [
            self.string.is_some(),
            self.guid.is_some(),
            self.bool.is_some(),
            self.int64.is_some(),
            self.float64.is_some(),
            self.date_time.is_some(),
        ];
        if fields.iter().filter(|&&set| set).count() != 1 {
            return None;
        }
        let value = match attribute_type {
            AttributeType::Bool => AttributeValue::Bool(self.bool?),
            AttributeType::Int64 => AttributeValue::Int64(self.int64?),
            AttributeType::Float64 => AttributeValue::Float64(self.float64?),
            AttributeType::String => AttributeValue::String(self.string.clone()?),
            AttributeType::Uuid => AttributeValue::Uuid(self.guid?),
            AttributeType::DateTime => AttributeValue::DateTime(self.date_time?),
        };
        Some(value.canonical())
    }

    /// From a JSON object of the wire. Names match without regard to case, unknown ones are ignored, numbers may come as
    /// strings.
    ///
    /// # Errors
    /// A field that is not of its type; says which.
    pub fn from_json(fields: &Map<String, Value>) -> Result<Self, String> {
        let mut value = Self::default();
        for (name, json) in fields.iter().filter(|(_, json)| !json.is_null()) {
            let Some(attribute_type) = field_type(name) else { continue };
            let typed = plain(json, attribute_type);
            let typed = typed.ok_or_else(|| format!("{name} is not a value of type {attribute_type}"))?;
            value.set(typed);
        }
        Ok(value)
    }

    /// From plain JSON (`5`, `"x"`, `true`), read as the type. `None` when it cannot be read so.
    pub fn from_plain(json: &Value, attribute_type: AttributeType) -> Option<Self> {
        plain(json, attribute_type).map(Self::from)
    }

    fn set(&mut self, value: AttributeValue) {
        match value {
            AttributeValue::Bool(value) => self.bool = Some(value),
            AttributeValue::Int64(value) => self.int64 = Some(value),
            AttributeValue::Float64(value) => self.float64 = Some(value),
            AttributeValue::String(value) => self.string = Some(value),
            AttributeValue::Uuid(value) => self.guid = Some(value),
            AttributeValue::DateTime(value) => self.date_time = Some(value),
        }
    }
}

impl From<AttributeValue> for WireAttributeValue {
    fn from(value: AttributeValue) -> Self {
        let mut wire = Self::default();
        wire.set(value);
        wire
    }
}

/// As Vektonn prints it in messages: the first field that is set, or nothing.
impl fmt::Display for WireAttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = None
            .or_else(|| self.string.clone().map(AttributeValue::String))
            .or_else(|| self.guid.map(AttributeValue::Uuid))
            .or_else(|| self.bool.map(AttributeValue::Bool))
            .or_else(|| self.int64.map(AttributeValue::Int64))
            .or_else(|| self.float64.map(AttributeValue::Float64))
            .or_else(|| self.date_time.map(AttributeValue::DateTime));
        first.map_or(Ok(()), |value| value.fmt(f))
    }
}

fn field_type(name: &str) -> Option<AttributeType> {
    let fields = [
        ("string", AttributeType::String),
        ("guid", AttributeType::Uuid),
        ("bool", AttributeType::Bool),
        ("int64", AttributeType::Int64),
        ("float64", AttributeType::Float64),
        ("dateTime", AttributeType::DateTime),
    ];
    fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, attribute_type)| attribute_type)
}

fn plain(json: &Value, attribute_type: AttributeType) -> Option<AttributeValue> {
    match (attribute_type, json) {
        (AttributeType::Bool, Value::Bool(value)) => Some(AttributeValue::Bool(*value)),
        (AttributeType::Int64, Value::Number(number)) => number.as_i64().map(AttributeValue::Int64),
        (AttributeType::Int64, Value::String(text)) => text.parse().ok().map(AttributeValue::Int64),
        (AttributeType::Float64, Value::Number(number)) => number.as_f64().map(AttributeValue::Float64),
        (AttributeType::Float64, Value::String(text)) => parse_float(text).map(AttributeValue::Float64),
        (AttributeType::String, Value::String(text)) => Some(AttributeValue::String(text.clone())),
        (AttributeType::Uuid, Value::String(text)) => Uuid::try_parse(text).ok().map(AttributeValue::Uuid),
        (AttributeType::DateTime, Value::String(text)) => datetime::parse(text).map(AttributeValue::DateTime),
        _ => None,
    }
}

/// Rust also reads `inf` and `NaN`; JSON numbers are digits.
fn parse_float(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures::any_value;

    proptest::proptest! {
        #[test]
        fn a_value_comes_back_as_its_own_type_and_no_other(value in any_value()) {
            let wire = WireAttributeValue::from(value.clone());
            proptest::prop_assert_eq!(wire.typed(value.attribute_type()), Some(value.clone()));
            proptest::prop_assert_eq!(wire.to_string(), value.to_string());
            let other = if value.attribute_type() == AttributeType::Bool { AttributeType::Int64 } else { AttributeType::Bool };
            proptest::prop_assert_eq!(wire.typed(other), None);
        }
    }

    fn from_json(json: Value) -> Result<WireAttributeValue, String> {
        WireAttributeValue::from_json(json.as_object().expect("an object"))
    }

    #[test]
    fn json_objects_are_read_leniently() {
        let five = WireAttributeValue { int64: Some(5), ..Default::default() };
        assert_eq!(from_json(json!({"int64": 5})), Ok(five.clone()));
        assert_eq!(from_json(json!({"INT64": "5", "string": null, "other": {}})), Ok(five));
        assert_eq!(from_json(json!({})), Ok(WireAttributeValue::default()));
        assert_eq!(from_json(json!({"dateTime": "1970-01-01T00:00:00.000001"})).map(|v| v.date_time), Ok(Some(1)));
        assert!(from_json(json!({"int64": 9_223_372_036_854_775_808_u64})).is_err());
        assert!(from_json(json!({"int64": 5.5})).is_err());
        assert!(from_json(json!({"float64": "NaN"})).is_err());
        assert!(from_json(json!({"guid": "x"})).is_err());
    }

    #[test]
    fn exactly_one_field_must_be_set() {
        let both = from_json(json!({"int64": 5, "string": "x"})).expect("parses");
        assert_eq!(both.typed(AttributeType::Int64), None);
        assert_eq!(both.to_string(), "x");
        assert_eq!(WireAttributeValue::default().typed(AttributeType::Int64), None);
        assert_eq!(WireAttributeValue::default().to_string(), "");
    }
}
