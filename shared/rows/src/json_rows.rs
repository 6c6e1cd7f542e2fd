//! Points from JSON: the HTTP API's form, and flat objects.
//!
//! A row is a point of the HTTP API (`{"attributes": […], "vector": {…}}`) or a flat object with a property per attribute
//! (`{"id": "a", "vector": [0.1, 0.2]}`). Which one is told by `attributes`: an array of that name is the HTTP API's, unless
//! the data source has an attribute of the name.

use tarn_model::{
    AttributeType, AttributeValue, Attributes, DataPoint, DataSource, SparseVector, Update, Vector, VectorKind,
    WirePoint, WireVector, check_wire_point,
};

use crate::error::{RowError, shown};
use crate::json::{JsonError, Kind, Reader, read_attributes, read_vector};
use crate::names::RowNames;
use crate::value::parse_value;

/// Reads one point of the HTTP API. Nothing is checked but its form.
///
/// # Errors
/// The next value is no such object.
pub fn read_point(reader: &mut Reader<'_>, source: &DataSource) -> Result<WirePoint, JsonError> {
    let (dense, dimension) = shape(source);
    let mut point = WirePoint::default();
    reader.object::<JsonError>("a data point", |reader, name| {
        if name.eq_ignore_ascii_case("attributes") {
            point.attributes = read_attributes(reader)?;
        } else if name.eq_ignore_ascii_case("vector") {
            point.vector = if reader.null()? { None } else { Some(read_vector(reader, dense, dimension)?) };
        } else if name.eq_ignore_ascii_case("isDeleted") {
            point.is_deleted = if reader.null()? { false } else { reader.boolean("isDeleted")? };
        } else {
            reader.skip()?;
        }
        Ok(())
    })?;
    Ok(point)
}

pub(crate) fn shape(source: &DataSource) -> (bool, usize) {
    match source.vector_kind {
        VectorKind::Dense => (true, source.vector_dimension as usize),
        VectorKind::Sparse => (false, 0),
    }
}

/// Reads rows of NDJSON for a data source.
#[derive(Clone, Copy, Debug)]
pub struct JsonRows<'a> {
    /// The data source.
    pub source: &'a DataSource,
    /// Which property feeds what, in flat rows.
    pub names: &'a RowNames,
}

#[derive(Default)]
struct Parts {
    wire: Option<Vec<tarn_model::WireAttribute>>,
    flat: Attributes,
    vector: Option<WireVector>,
    indices: Option<Vec<i64>>,
    values: Option<Vec<f64>>,
    deleted: Option<bool>,
}

impl JsonRows<'_> {
    /// The update that a line says. Whether attributes are missing is for the caller's builder to find out.
    ///
    /// # Errors
    /// The line is not one such object, or a part of it is not of its type.
    pub fn update(&self, line: &[u8]) -> Result<Update, RowError> {
        let mut reader = Reader::new(line)?;
        let mut parts = Parts::default();
        let wire_may_be = self.names.attribute("attributes").is_none();
        reader.object::<RowError>("a row", |reader, name| self.property(reader, name, wire_may_be, &mut parts))?;
        reader.end()?;
        let deleted = parts.deleted.unwrap_or(false);
        if let (None, Some(coordinates), Some(indices)) = (&parts.vector, parts.values.take(), parts.indices.take()) {
            parts.vector = Some(WireVector::Sparse { coordinates, indices });
        }
        if let Some(attributes) = parts.wire {
            // A tombstone that still carries its vector: change feeds do that.
            let vector = parts.vector.filter(|_| !deleted);
            let point = WirePoint { attributes, vector, is_deleted: deleted };
            return Ok(check_wire_point(self.source, point)?);
        }
        if deleted {
            return Ok(Update::Delete(parts.flat));
        }
        let vector = parts.vector.ok_or_else(|| {
            RowError::at(&self.names.vector, format!("there is no '{}', the vector", self.names.vector))
        })?;
        let vector = domain_vector(vector).map_err(|message| RowError::at(&self.names.vector, message))?;
        Ok(Update::Upsert(DataPoint { attributes: parts.flat, vector }))
    }

    fn property(
        &self,
        reader: &mut Reader<'_>,
        name: &str,
        wire_may_be: bool,
        parts: &mut Parts,
    ) -> Result<(), RowError> {
        if wire_may_be && name.eq_ignore_ascii_case("attributes") && reader.peek()? == Kind::Array {
            parts.wire = Some(read_attributes(reader)?);
        } else if let Some((at, kind)) = self.names.attribute(name) {
            if !reader.null()? {
                let key = self.names.attributes[at].0.clone();
                parts.flat.insert(key, flat_value(reader, kind, name)?);
            }
        } else if self.names.deleted.iter().any(|mark| mark == name) {
            let value = if reader.null()? { false } else { reader.boolean(name)? };
            // The first name of the list counts.
            if parts.deleted.is_none() || self.names.deleted.first().is_some_and(|first| first == name) {
                parts.deleted = Some(value);
            }
        } else if name == self.names.vector || (wire_may_be && name.eq_ignore_ascii_case(&self.names.vector)) {
            parts.vector = if reader.null()? { None } else { Some(self.vector(reader)?) };
        } else if name == self.names.parts.0 && reader.peek()? == Kind::Array {
            let mut indices = Vec::new();
            reader.array("indices", |reader| reader.integer("an index").map(|index| indices.push(index)))?;
            parts.indices = Some(indices);
        } else if name == self.names.parts.1 && reader.peek()? == Kind::Array {
            let mut values = Vec::new();
            reader.array("values", |reader| reader.f64("a value").map(|value| values.push(value)))?;
            parts.values = Some(values);
        } else {
            reader.skip()?;
        }
        Ok(())
    }

    fn vector(&self, reader: &mut Reader<'_>) -> Result<WireVector, RowError> {
        let (dense, dimension) = shape(self.source);
        let read = plain_vector(reader, dense, dimension);
        read.map_err(|error| RowError { column: Some(self.names.vector.clone()), ..error.into() })
    }
}

/// A vector as an array of coordinates, or as the HTTP API's object.
pub(crate) fn plain_vector(reader: &mut Reader<'_>, dense: bool, dimension: usize) -> Result<WireVector, JsonError> {
    if reader.peek()? != Kind::Array {
        return read_object(reader, dense, dimension);
    }
    let mut coordinates = Vec::with_capacity(dimension);
    reader.array::<JsonError>("coordinates", |reader| {
        reader.f32("a coordinate").map(|coordinate| coordinates.push(coordinate))
    })?;
    Ok(WireVector::Dense(coordinates))
}

/// A vector object, whose `isSparse` may be left out: indices tell as much.
fn read_object(reader: &mut Reader<'_>, dense: bool, dimension: usize) -> Result<WireVector, JsonError> {
    let start = reader.position();
    let read = read_vector(reader, dense, dimension)?;
    if dense || !matches!(read, WireVector::Dense(_)) {
        return Ok(read);
    }
    let (mut coordinates, mut indices, mut marked) = (Vec::new(), Vec::new(), false);
    let mut again = Reader::new(reader.slice(start).as_bytes())?;
    again.object::<JsonError>("a vector", |reader, name| {
        if name.eq_ignore_ascii_case("coordinates") && reader.peek()? == Kind::Array {
            coordinates.clear();
            reader.array("coordinates", |reader| reader.f64("a coordinate").map(|value| coordinates.push(value)))
        } else if name.eq_ignore_ascii_case("coordinateIndices") && reader.peek()? == Kind::Array {
            indices.clear();
            reader.array("coordinateIndices", |reader| reader.integer("an index").map(|value| indices.push(value)))
        } else {
            marked |= name.eq_ignore_ascii_case("isSparse");
            reader.skip()
        }
    })?;
    Ok(if marked || indices.is_empty() { read } else { WireVector::Sparse { coordinates, indices } })
}

/// An attribute's value from plain JSON; dates and UUIDs are strings, numbers may be.
fn flat_value(reader: &mut Reader<'_>, kind: AttributeType, name: &str) -> Result<AttributeValue, RowError> {
    let start = reader.position();
    let value = match (kind, reader.peek()?) {
        (AttributeType::Bool, Kind::Bool) => Some(AttributeValue::Bool(reader.boolean(name)?)),
        (AttributeType::Int64, Kind::Number) => reader.number(name)?.parse().ok().map(AttributeValue::Int64),
        (AttributeType::Float64, Kind::Number) => {
            let value: Option<f64> = reader.number(name)?.parse().ok();
            value.filter(|value| value.is_finite()).map(|value| AttributeValue::Float64(value + 0.0))
        }
        (AttributeType::Bool, _) => {
            reader.skip()?;
            None
        }
        (kind, Kind::String) => parse_value(kind, &reader.string(name)?),
        _ => {
            reader.skip()?;
            None
        }
    };
    value.ok_or_else(|| RowError::at(name, format!("{} is not a {kind}", shown(reader.slice(start)))))
}

/// A vector as the timeline takes it; whether it fits the data source is checked there.
pub(crate) fn domain_vector(vector: WireVector) -> Result<Vector, String> {
    match vector {
        WireVector::Dense(coordinates) => Ok(Vector::Dense(coordinates)),
        WireVector::Sparse { coordinates, indices } => {
            if indices.len() != coordinates.len() {
                return Err(format!("{} coordinates have {} indices", coordinates.len(), indices.len()));
            }
            let index = |&index: &i64| u32::try_from(index).map_err(|_| format!("index {index} is not valid"));
            let indices = indices.iter().map(index).collect::<Result<Vec<u32>, String>>()?;
            sparse_vector(indices, coordinates)
        }
    }
}

/// A sparse vector with its indices in order; `values` has one for each of `indices`.
///
/// # Errors
/// An index that is there twice, in the wire text.
pub fn sparse_vector(indices: Vec<u32>, values: Vec<f64>) -> Result<Vector, String> {
    let mut pairs: Vec<(u32, f64)> = indices.into_iter().zip(values).collect();
    pairs.sort_by_key(|pair| pair.0);
    if pairs.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err("Each vector coordinate value must have unique corresponding index".to_owned());
    }
    let (indices, values) = pairs.into_iter().unzip();
    Ok(Vector::Sparse(SparseVector { indices, values }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::source;

    fn read(kind: VectorKind, line: &str) -> Result<Update, RowError> {
        let source = source(kind);
        let names = RowNames::of(&source);
        JsonRows { source: &source, names: &names }.update(line.as_bytes())
    }

    fn point(vector: Vector) -> Update {
        let attributes =
            [("id".to_owned(), AttributeValue::Int64(5)), ("name".to_owned(), AttributeValue::String("n".into()))];
        Update::Upsert(DataPoint { attributes: attributes.into(), vector })
    }

    #[test]
    fn flat_rows_and_points_of_the_api_say_the_same() {
        let dense = point(Vector::Dense(vec![1.0, 2.5]));
        for line in [
            r#"{"id": 5, "name": "n", "vector": [1, 2.5]}"#,
            r#"{"id": "5", "name": "n", "vector": {"coordinates": [1, 2.5]}, "more": {"a": [1]}}"#,
            r#"{"attributes": [{"key": "id", "value": {"int64": 5}}, {"key": "name", "value": {"string": "n"}}],
                "vector": {"isSparse": false, "coordinates": [1, 2.5]}}"#,
            r#"{"Attributes": [{"key": "id", "value": {"int64": "5"}}, {"key": "name", "value": {"string": "n"}}],
                "Vector": [1, "2.5"], "isDeleted": null}"#,
        ] {
            assert_eq!(read(VectorKind::Dense, line), Ok(dense.clone()), "{line}");
        }
        let sparse = point(Vector::Sparse(SparseVector { indices: vec![0, 1], values: vec![2.0, 1.0] }));
        for line in [
            r#"{"id": 5, "name": "n", "vector": {"coordinates": [1, 2], "coordinateIndices": [1, 0]}}"#,
            r#"{"id": 5, "name": "n", "vector": {"isSparse": true, "coordinates": [1, 2], "coordinateIndices": [1, 0]}}"#,
            r#"{"id": 5, "name": "n", "indices": [1, 0], "values": [1, 2]}"#,
        ] {
            assert_eq!(read(VectorKind::Sparse, line), Ok(sparse.clone()), "{line}");
        }
    }

    #[test]
    fn a_tombstone_needs_no_vector() {
        let attributes: Attributes = [("id".to_owned(), AttributeValue::Int64(5))].into();
        for line in [
            r#"{"id": 5, "isDeleted": true}"#,
            r#"{"attributes": [{"key": "id", "value": {"int64": 5}}], "isDeleted": true, "vector": [1, 2]}"#,
        ] {
            assert_eq!(read(VectorKind::Dense, line), Ok(Update::Delete(attributes.clone())), "{line}");
        }
    }

    #[test]
    fn a_fault_names_its_property() {
        let cases = [
            (r#"{"id": 5.5, "name": "n", "vector": [1, 2]}"#, Some("id"), "5.5 is not a Int64"),
            (r#"{"id": 5, "name": 7, "vector": [1, 2]}"#, Some("name"), "7 is not a String"),
            (r#"{"id": 5, "name": "n", "vector": [1, null]}"#, Some("vector"), "must be a number"),
            (r#"{"id": 5, "name": "n"}"#, Some("vector"), "there is no 'vector'"),
            (r#"{"id": 5, "name": "n", "vector": [1, 2], "isDeleted": "no"}"#, None, "isDeleted must be true or false"),
            (r#"{"id": 5"#, None, "at character 9"),
            (r#"{"id": 5} {"id": 6}"#, None, "expected the end"),
            ("[]", None, "must be an object"),
        ];
        for (line, column, message) in cases {
            let error = read(VectorKind::Dense, line).unwrap_err();
            assert_eq!(error.column.as_deref(), column, "{line}: {error}");
            assert!(error.message.contains(message), "{line}: {error}");
        }
    }
}
