//! Attributes and vectors on the wire.

use serde::ser::{Serialize, SerializeMap, Serializer};
use tarn_model::{AttributeValue, Vector, datetime};
use uuid::Uuid;

use super::reader::{JsonError, Kind, Reader};

/// An attribute as it came: nothing about it is checked yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WireAttribute {
    /// `None` when absent or null.
    pub key: Option<String>,
    /// `None` when absent or null.
    pub value: Option<WireValue>,
}

/// An attribute value as it came: any number of its properties are set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WireValue {
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
    /// `dateTime`, in microseconds since 1970.
    pub date_time: Option<i64>,
}

impl WireValue {
    /// The values that are set.
    pub fn set(self) -> Vec<AttributeValue> {
        let values = [
            self.string.map(AttributeValue::String),
            self.guid.map(AttributeValue::Uuid),
            self.bool.map(AttributeValue::Bool),
            self.int64.map(AttributeValue::Int64),
            self.float64.map(AttributeValue::Float64),
            self.date_time.map(AttributeValue::DateTime),
        ];
        values.into_iter().flatten().collect()
    }
}

/// A vector as it came. Buffers are reused from one vector to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WireVector {
    /// `isSparse`; absent is false.
    pub is_sparse: bool,
    /// `coordinates` of a dense vector, each rounded once from its decimal text. Filled by [`read_vector`] when it is told
    /// to expect dense vectors.
    pub dense: Vec<f32>,
    /// `coordinates` otherwise.
    pub values: Vec<f64>,
    /// Whether `coordinates` were there at all.
    pub has_coordinates: bool,
    /// `coordinateIndices`. An index that is negative has no place in a vector and arrives as `u32::MAX`, beyond every
    /// dimension.
    pub indices: Option<Vec<u32>>,
}

impl WireVector {
    fn clear(&mut self) {
        self.is_sparse = false;
        self.dense.clear();
        self.values.clear();
        self.has_coordinates = false;
        self.indices = None;
    }
}

/// Reads a list of attributes into `attributes`, which is cleared first. `null` is an empty list.
///
/// # Errors
/// The next value is something else.
pub fn read_attributes(reader: &mut Reader<'_>, attributes: &mut Vec<WireAttribute>) -> Result<(), JsonError> {
    attributes.clear();
    if reader.null()? {
        return Ok(());
    }
    reader.array("attributes", |reader| {
        let mut attribute = WireAttribute::default();
        if !reader.null()? {
            reader.object("an attribute", |reader, name| {
                if name.eq_ignore_ascii_case("key") {
                    attribute.key = if reader.null()? { None } else { Some(reader.string("key")?.into_owned()) };
                } else if name.eq_ignore_ascii_case("value") {
                    attribute.value = if reader.null()? { None } else { Some(read_value(reader)?) };
                } else {
                    reader.skip()?;
                }
                Ok(())
            })?;
        }
        attributes.push(attribute);
        Ok(())
    })
}

/// Reads an attribute value.
///
/// # Errors
/// The next value is no object, or a property of it is not of its type.
pub fn read_value(reader: &mut Reader<'_>) -> Result<WireValue, JsonError> {
    let mut value = WireValue::default();
    reader.object("value", |reader, name| {
        let start = reader.position();
        let null = reader.peek()? == Kind::Null;
        if name.eq_ignore_ascii_case("string") {
            value.string = if null { None } else { Some(reader.string("string")?.into_owned()) };
        } else if name.eq_ignore_ascii_case("guid") {
            value.guid = match null {
                true => None,
                false => {
                    let text = reader.string("guid")?;
                    let guid = Uuid::try_parse(&text);
                    Some(guid.map_err(|_| reader.error_at(start, "guid must be written as 8-4-4-4-12 hexadecimal digits"))?)
                }
            };
        } else if name.eq_ignore_ascii_case("bool") {
            value.bool = if null { None } else { Some(reader.boolean("bool")?) };
        } else if name.eq_ignore_ascii_case("int64") {
            value.int64 = if null { None } else { Some(reader.integer("int64")?) };
        } else if name.eq_ignore_ascii_case("float64") {
            value.float64 = if null { None } else { Some(reader.f64("float64")?) };
        } else if name.eq_ignore_ascii_case("dateTime") {
            value.date_time = match null {
                true => None,
                false => {
                    let text = reader.string("dateTime")?;
                    let parsed = datetime::parse(&text);
                    Some(parsed.ok_or_else(|| reader.error_at(start, "dateTime must be written as 2024-01-31T12:00:00Z"))?)
                }
            };
        } else {
            return reader.skip();
        }
        if null { reader.skip() } else { Ok(()) }
    })?;
    Ok(value)
}

/// Reads a vector into `vector`, which is cleared first. `dense` says what the data source has, and so to which precision
/// coordinates are read.
///
/// # Errors
/// The next value is no object, or a property of it is not of its type; a coordinate is null, as NaN and infinity
/// arrive.
pub fn read_vector(reader: &mut Reader<'_>, dense: bool, vector: &mut WireVector) -> Result<(), JsonError> {
    vector.clear();
    reader.object("a vector", |reader, name| {
        if name.eq_ignore_ascii_case("isSparse") {
            vector.is_sparse = if reader.null()? { false } else { reader.boolean("isSparse")? };
        } else if name.eq_ignore_ascii_case("coordinates") {
            vector.dense.clear();
            vector.values.clear();
            vector.has_coordinates = !reader.null()?;
            if vector.has_coordinates {
                let (floats, doubles) = (&mut vector.dense, &mut vector.values);
                reader.array("coordinates", |reader| {
                    if dense {
                        floats.push(reader.f32(COORDINATE)?);
                    } else {
                        doubles.push(reader.f64(COORDINATE)?);
                    }
                    Ok(())
                })?;
            }
        } else if name.eq_ignore_ascii_case("coordinateIndices") {
            vector.indices = None;
            if !reader.null()? {
                let mut indices = Vec::new();
                reader.array("coordinateIndices", |reader| {
                    let index: i32 = reader.integer("a coordinate index")?;
                    indices.push(u32::try_from(index).unwrap_or(u32::MAX));
                    Ok(())
                })?;
                vector.indices = Some(indices);
            }
        } else {
            reader.skip()?;
        }
        Ok(())
    })
}

const COORDINATE: &str = "a coordinate (NaN and infinity cannot be sent)";

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

impl Serialize for Wire<'_, (String, AttributeValue)> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("key", &self.0.0)?;
        map.serialize_entry("value", &Wire(&self.0.1))?;
        map.end()
    }
}
