//! Attribute values and types from text, typed by a data source.

use serde_json::Value as Json;
use tarn_model::{AttributeType, AttributeValue, Attributes, DataSource, Filter, SparseVector, Vector, datetime};
use tarn_rows::{parse_value, sparse_vector};

use crate::args::Pair;
use crate::error::CliError;

/// A type by name, without regard to case; Vektonn's names and ours.
pub(crate) fn parse_type(text: &str) -> Result<AttributeType, CliError> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "bool" => AttributeType::Bool,
        "int64" => AttributeType::Int64,
        "float64" => AttributeType::Float64,
        "string" => AttributeType::String,
        "uuid" | "guid" => AttributeType::Uuid,
        "datetime" => AttributeType::DateTime,
        _ => {
            return Err(CliError::new(format!("'{text}' is not an attribute type"))
                .hint("the types are bool, int64, float64, string, uuid and datetime"));
        }
    })
}

/// An attribute value as plain JSON: `5`, `"x"`, `true`; dates and UUIDs are strings.
pub(crate) fn value_json(value: &AttributeValue) -> Json {
    match value {
        AttributeValue::Bool(value) => Json::from(*value),
        AttributeValue::Int64(value) => Json::from(*value),
        AttributeValue::Float64(value) => Json::from(*value),
        AttributeValue::String(value) => Json::from(value.as_str()),
        AttributeValue::Uuid(value) => Json::from(value.to_string()),
        AttributeValue::DateTime(micros) => Json::from(datetime::format(*micros)),
    }
}

/// A vector from JSON: an array of coordinates, or the HTTP API's vector object. Kind and length are not checked against
/// a data source here; numbers are.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn json_vector(json: &Json) -> Result<Vector, String> {
    let numbers = |json: &Json| -> Result<Vec<f64>, String> {
        let items = json.as_array().ok_or("a vector's coordinates must be an array of numbers")?;
        items.iter().map(|item| item.as_f64().ok_or_else(|| format!("coordinate {item} is not a number"))).collect()
    };
    #[expect(clippy::cast_possible_truncation, reason = "dense vectors are f32; the range is checked by their user")]
    let dense = |values: Vec<f64>| Vector::Dense(values.into_iter().map(|value| value as f32).collect());
    let Some(object) = json.as_object() else {
        return numbers(json).map(dense);
    };
    let coordinates = numbers(object.get("coordinates").ok_or("a vector object must have coordinates")?)?;
    let Some(indices) = object.get("coordinateIndices").filter(|indices| !indices.is_null()) else {
        return Ok(dense(coordinates));
    };
    let indices = indices.as_array().ok_or("coordinateIndices must be an array")?;
    let index =
        |item: &Json| item.as_u64().and_then(|i| u32::try_from(i).ok()).ok_or(format!("index {item} is not valid"));
    let indices = indices.iter().map(index).collect::<Result<Vec<u32>, String>>()?;
    if indices.len() != coordinates.len() {
        return Err(format!("{} coordinates have {} indices", coordinates.len(), indices.len()));
    }
    sparse_vector(indices, coordinates)
}

/// A vector as JSON, in the form that [`json_vector`] reads.
pub(crate) fn vector_json(vector: &Vector) -> Json {
    match vector {
        Vector::Dense(coordinates) => Json::from(coordinates.as_slice()),
        Vector::Sparse(SparseVector { indices, values }) => {
            serde_json::json!({ "isSparse": true, "coordinates": values, "coordinateIndices": indices })
        }
    }
}

/// `KEY=VALUE` arguments as attributes of a data source.
///
/// # Errors
/// An unknown or repeated key, or a value that its type does not have.
pub(crate) fn parse_attributes(source: &DataSource, pairs: &[Pair]) -> Result<Attributes, CliError> {
    let mut attributes = Attributes::new();
    for Pair { key, value } in pairs {
        let Some(&kind) = source.attribute_types.get(key) else {
            let known = source.attribute_types.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(
                CliError::new(format!("there is no attribute '{key}'")).hint(format!("the attributes are {known}"))
            );
        };
        let parsed = parse_value(kind, value)
            .ok_or_else(|| CliError::new(format!("'{value}' is not a {kind}, the type of attribute '{key}'")))?;
        if attributes.insert(key.clone(), parsed).is_some() {
            return Err(CliError::new(format!("attribute '{key}' is given twice")));
        }
    }
    Ok(attributes)
}

/// `--filter` as a filter of a data source's points.
///
/// # Errors
/// It is no JSON, or no filter of such points.
pub(crate) fn parse_filter(source: &DataSource, text: Option<&str>) -> Result<Option<Filter>, CliError> {
    let Some(text) = text else { return Ok(None) };
    let json: Json = serde_json::from_str(text).map_err(|error| {
        CliError::of(&error)
            .while_doing("--filter is not JSON")
            .hint("write for example '{\"eq\": {\"key\": \"lang\", \"value\": \"de\"}}'")
    })?;
    Ok(Some(Filter::from_json(&json, source)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_they_are_read() {
        for (kind, text) in [
            (AttributeType::Bool, "true"),
            (AttributeType::String, "\u{e4}"),
            (AttributeType::Uuid, "12345678-1234-1234-1234-123456789abc"),
            (AttributeType::DateTime, "2024-01-31T12:00:00.000001Z"),
        ] {
            let json = value_json(&parse_value(kind, text).unwrap());
            assert_eq!(json.as_str().map_or_else(|| json.to_string(), str::to_owned), text);
        }
    }

    #[test]
    fn vectors_are_arrays_or_objects() {
        let read = |text: &str| json_vector(&serde_json::from_str(text).unwrap());
        assert_eq!(read("[1, 2.5]"), Ok(Vector::Dense(vec![1.0, 2.5])));
        assert_eq!(read(r#"{"isSparse": false, "coordinates": [1]}"#), Ok(Vector::Dense(vec![1.0])));
        let sparse = read(r#"{"coordinates": [1, 2], "coordinateIndices": [7, 3]}"#).unwrap();
        assert_eq!(sparse, Vector::Sparse(SparseVector { indices: vec![3, 7], values: vec![2.0, 1.0] }));
        assert_eq!(json_vector(&vector_json(&sparse)), Ok(sparse));
        for wrong in [
            "5",
            r#"["a"]"#,
            "{}",
            r#"{"coordinates": [1], "coordinateIndices": []}"#,
            r#"{"coordinates": [1, 1], "coordinateIndices": [2, 2]}"#,
            r#"{"coordinates": [1], "coordinateIndices": [-2]}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn vektonn_type_names_are_case_insensitive() {
        assert_eq!(parse_type("GUID").unwrap(), AttributeType::Uuid);
        assert!(parse_type("text").is_err());
    }
}
