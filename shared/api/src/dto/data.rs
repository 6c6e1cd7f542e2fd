//! Points, as layer 1 has them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tarn_model::{AttributeValue, SparseVector, Vector, datetime};
use utoipa::ToSchema;
use uuid::Uuid;

/// A named value of a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AttributeDto {
    /// The attribute's name.
    pub key: String,
    /// Its value.
    pub value: AttributeValueDto,
}

/// A value: exactly one property is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(min_properties = 1, max_properties = 1)]
pub struct AttributeValueDto {
    /// Text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub string: Option<String>,
    /// A UUID, as 8-4-4-4-12 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<String>)]
    pub guid: Option<Uuid>,
    /// True or false.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub bool: Option<bool>,
    /// A whole number of 64 bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub int64: Option<i64>,
    /// A finite float of 64 bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub float64: Option<f64>,
    /// An instant, `2024-01-31T12:00:00.123456Z`; without an offset it is UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    pub date_time: Option<String>,
}

/// A vector, dense or sparse.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VectorDto {
    /// Whether it is sparse.
    pub is_sparse: bool,
    /// Dense: as many as the data source's dimension. Sparse: one for each coordinate index.
    pub coordinates: Vec<f64>,
    /// Sparse alone: where each coordinate stands; unique, below the dimension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub coordinate_indices: Option<Vec<i32>>,
}

/// A point to add or to replace, or a tombstone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InputDataPointDto {
    /// All attributes of the data source; a tombstone may carry the permanent ones alone.
    pub attributes: Vec<AttributeDto>,
    /// Absent in a tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub vector: Option<VectorDto>,
    /// Whether it is a tombstone.
    #[serde(default)]
    pub is_deleted: bool,
}

impl From<&AttributeValue> for AttributeValueDto {
    fn from(value: &AttributeValue) -> Self {
        let mut dto = Self::default();
        match value {
            AttributeValue::Bool(value) => dto.bool = Some(*value),
            AttributeValue::Int64(value) => dto.int64 = Some(*value),
            AttributeValue::Float64(value) => dto.float64 = Some(*value),
            AttributeValue::String(value) => dto.string = Some(value.clone()),
            AttributeValue::Uuid(value) => dto.guid = Some(*value),
            AttributeValue::DateTime(micros) => dto.date_time = Some(datetime::format(*micros)),
        }
        dto
    }
}

impl AttributeValueDto {
    /// The value, when exactly one property is set and it can be.
    pub fn value(&self) -> Option<AttributeValue> {
        let date_time = match &self.date_time {
            Some(text) => Some(AttributeValue::DateTime(datetime::parse(text)?)),
            None => None,
        };
        let mut values = [
            self.string.clone().map(AttributeValue::String),
            self.guid.map(AttributeValue::Uuid),
            self.bool.map(AttributeValue::Bool),
            self.int64.map(AttributeValue::Int64),
            self.float64.map(AttributeValue::Float64),
            date_time,
        ]
        .into_iter()
        .flatten();
        let value = values.next()?;
        (values.next().is_none() && value.problem().is_none()).then(|| value.canonical())
    }
}

impl From<&Vector> for VectorDto {
    fn from(vector: &Vector) -> Self {
        match vector {
            Vector::Dense(coordinates) => {
                let coordinates = coordinates.iter().map(|&coordinate| f64::from(coordinate)).collect();
                Self { is_sparse: false, coordinates, coordinate_indices: None }
            }
            Vector::Sparse(SparseVector { indices, values }) => {
                let indices = indices.iter().map(|&index| i32::try_from(index).unwrap_or(i32::MAX)).collect();
                Self { is_sparse: true, coordinates: values.clone(), coordinate_indices: Some(indices) }
            }
        }
    }
}

/// Attributes as a list, in the order given.
impl AttributeDto {
    /// One attribute.
    pub fn new(key: &str, value: &AttributeValue) -> Self {
        Self { key: key.to_owned(), value: value.into() }
    }

    /// All attributes of a map, by key.
    pub fn list(attributes: &BTreeMap<String, AttributeValue>) -> Vec<Self> {
        attributes.iter().map(|(key, value)| Self::new(key, value)).collect()
    }
}

/// The bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct FileDto(pub Vec<u8>);
