//! Attributes and vectors on the wire.

use serde::ser::{Serialize, SerializeMap, Serializer};
use tarn_model::{AttributeValue, Vector, WireAttribute, WireAttributeValue, WireVector, datetime};
use uuid::Uuid;

use serde_json::{Map, Number, Value};

use super::reader::{JsonError, Kind, Reader};

const COORDINATE: &str = "a coordinate (NaN and infinity cannot be sent)";

/// Reads a list of attributes. `null` is an empty list.
///
/// # Errors
/// The next value is something else.
pub fn read_attributes(reader: &mut Reader<'_>) -> Result<Vec<WireAttribute>, JsonError> {
    let mut attributes = Vec::new();
    if reader.null()? {
        return Ok(attributes);
    }
    reader.array::<JsonError>("attributes", |reader| {
        let mut attribute = WireAttribute::default();
        if !reader.null()? {
            reader.object::<JsonError>("an attribute", |reader, name| {
                if name.eq_ignore_ascii_case("key") {
                    attribute.key = if reader.null()? { None } else { Some(reader.string("key")?.into_owned()) };
                } else if name.eq_ignore_ascii_case("value") {
                    attribute.value = if reader.null()? { WireAttributeValue::default() } else { read_value(reader)? };
                } else {
                    reader.skip()?;
                }
                Ok(())
            })?;
        }
        attributes.push(attribute);
        Ok(())
    })?;
    Ok(attributes)
}

/// Reads an attribute value.
///
/// # Errors
/// The next value is no object, or a property of it is not of its type.
pub fn read_value(reader: &mut Reader<'_>) -> Result<WireAttributeValue, JsonError> {
    let mut value = WireAttributeValue::default();
    reader.object::<JsonError>("value", |reader, name| {
        let null = reader.peek()? == Kind::Null;
        if name.eq_ignore_ascii_case("string") {
            value.string = if null { None } else { Some(reader.string("string")?.into_owned()) };
        } else if name.eq_ignore_ascii_case("guid") {
            value.guid = if null { None } else { Some(read_guid(reader)?) };
        } else if name.eq_ignore_ascii_case("bool") {
            value.bool = if null { None } else { Some(reader.boolean("bool")?) };
        } else if name.eq_ignore_ascii_case("int64") {
            value.int64 = if null { None } else { Some(reader.integer("int64")?) };
        } else if name.eq_ignore_ascii_case("float64") {
            value.float64 = if null { None } else { Some(reader.f64("float64")?) };
        } else if name.eq_ignore_ascii_case("dateTime") {
            value.date_time = if null { None } else { Some(read_date_time(reader)?) };
        } else {
            return reader.skip();
        }
        if null { reader.skip() } else { Ok(()) }
    })?;
    Ok(value)
}

fn read_guid(reader: &mut Reader<'_>) -> Result<Uuid, JsonError> {
    let start = reader.position();
    let text = reader.string("guid")?;
    Uuid::try_parse(&text).map_err(|_| reader.error_at(start, "guid must be written as 8-4-4-4-12 hexadecimal digits"))
}

fn read_date_time(reader: &mut Reader<'_>) -> Result<i64, JsonError> {
    let start = reader.position();
    let text = reader.string("dateTime")?;
    let parsed = datetime::parse(&text);
    parsed.ok_or_else(|| {
        reader.error_at(start, "dateTime must be written as 2024-01-31T12:00:00Z, in the years 1 to 9999")
    })
}

/// Reads a vector. `dense` says what the data source has: coordinates of a dense vector are rounded once, from their text
/// to f32.
///
/// # Errors
/// The next value is no object, or a property of it is not of its type; a coordinate is null, as NaN and infinity
/// arrive.
pub fn read_vector(reader: &mut Reader<'_>, dense: bool, capacity: usize) -> Result<WireVector, JsonError> {
    let mut is_sparse = false;
    let (mut floats, mut doubles, mut indices) = (Vec::new(), Vec::new(), Vec::new());
    reader.object::<JsonError>("a vector", |reader, name| {
        if name.eq_ignore_ascii_case("isSparse") {
            is_sparse = if reader.null()? { false } else { reader.boolean("isSparse")? };
        } else if name.eq_ignore_ascii_case("coordinates") {
            floats.clear();
            doubles.clear();
            if reader.null()? {
                return Ok(());
            }
            if dense {
                floats.reserve_exact(capacity);
                reader.array("coordinates", |reader| reader.f32(COORDINATE).map(|value| floats.push(value)))?;
            } else {
                reader.array("coordinates", |reader| reader.f64(COORDINATE).map(|value| doubles.push(value)))?;
            }
        } else if name.eq_ignore_ascii_case("coordinateIndices") {
            indices.clear();
            if !reader.null()? {
                let index = "a coordinate index";
                reader.array("coordinateIndices", |reader| reader.integer(index).map(|value| indices.push(value)))?;
            }
        } else {
            reader.skip()?;
        }
        Ok(())
    })?;
    // A vector of the kind that was not expected is refused whatever its coordinates are.
    Ok(if is_sparse { WireVector::Sparse { coordinates: doubles, indices } } else { WireVector::Dense(floats) })
}

/// Reads any value as a tree: for filters, which are small. Floats are rounded once, which `serde_json` alone does not do.
///
/// # Errors
/// The value is malformed, or a number is beyond the range of f64.
pub fn read_tree(reader: &mut Reader<'_>) -> Result<Value, JsonError> {
    Ok(match reader.peek()? {
        Kind::Null => {
            reader.skip()?;
            Value::Null
        }
        Kind::Bool => Value::Bool(reader.boolean("")?),
        Kind::String => Value::String(reader.string("")?.into_owned()),
        Kind::Number => {
            let text = reader.number("")?;
            let whole = text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from));
            let number = whole.ok().or_else(|| Number::from_f64(text.parse().ok()?));
            Value::Number(number.ok_or_else(|| reader.error("the number is beyond the range of a 64-bit float"))?)
        }
        Kind::Array => {
            let mut values = Vec::new();
            reader.array("", |reader| read_tree(reader).map(|value| values.push(value)))?;
            Value::Array(values)
        }
        Kind::Object => {
            let mut map = Map::new();
            reader
                .object("", |reader, name| read_tree(reader).map(|value| drop(map.insert(name.to_owned(), value))))?;
            Value::Object(map)
        }
    })
}

/// Writes attribute values and vectors as layer 1 has them.
#[derive(Debug)]
pub struct Wire<'a, T>(pub &'a T);

impl Serialize for Wire<'_, AttributeValue> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match self.0 {
            AttributeValue::Bool(value) => map.serialize_entry("bool", value)?,
            AttributeValue::Int64(value) => map.serialize_entry("int64", value)?,
            AttributeValue::Float64(value) => map.serialize_entry("float64", value)?,
            AttributeValue::String(value) => map.serialize_entry("string", value)?,
            AttributeValue::Uuid(value) => map.serialize_entry("guid", value)?,
            AttributeValue::DateTime(micros) => map.serialize_entry("dateTime", &datetime::format(*micros))?,
        }
        map.end()
    }
}

impl Serialize for Wire<'_, Vector> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Vector::Dense(coordinates) => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("isSparse", &false)?;
                map.serialize_entry("coordinates", coordinates)?;
                map.end()
            }
            Vector::Sparse(sparse) => {
                let mut map = serializer.serialize_map(Some(3))?;
                map.serialize_entry("isSparse", &true)?;
                map.serialize_entry("coordinates", &sparse.values)?;
                map.serialize_entry("coordinateIndices", &sparse.indices)?;
                map.end()
            }
        }
    }
}

/// A query vector goes back as it came.
impl Serialize for Wire<'_, WireVector> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.0 {
            WireVector::Dense(coordinates) => {
                map.serialize_entry("isSparse", &false)?;
                map.serialize_entry("coordinates", coordinates)?;
            }
            WireVector::Sparse { coordinates, indices } => {
                map.serialize_entry("isSparse", &true)?;
                map.serialize_entry("coordinates", coordinates)?;
                map.serialize_entry("coordinateIndices", indices)?;
            }
        }
        map.end()
    }
}

impl Serialize for Wire<'_, (String, AttributeValue)> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("key", &self.0.0)?;
        map.serialize_entry("value", &Wire(&self.0.1))?;
        map.end()
    }
}

/// A list, each element as layer 1 has it.
impl<T> Serialize for Wire<'_, Vec<T>>
where
    for<'a> Wire<'a, T>: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Wire))
    }
}
