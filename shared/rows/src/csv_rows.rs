//! Points from records of CSV under a header.
//!
//! The vector is one column that holds a JSON array or the HTTP API's vector object, or one column per coordinate named
//! `{vector}_0`, `{vector}_1`, …; a sparse one may be two columns of JSON arrays.

use std::collections::HashMap;

use csv::StringRecord;
use tarn_model::{AttributeType, Attributes, DataPoint, DataSource, Update, Vector, VectorKind, WireVector, limits};

use crate::error::{RowError, shown};
use crate::json::Reader;
use crate::json_rows::{domain_vector, plain_vector, shape};
use crate::names::RowNames;
use crate::value::parse_value;

/// Reads records for a data source: where each column is, is settled once.
#[derive(Clone, Debug)]
pub struct CsvRows {
    /// Key, type, whether permanent, column, and its number.
    attributes: Vec<(String, AttributeType, bool, String, usize)>,
    vector: CsvVector,
    vector_name: String,
    deleted: Option<(String, usize)>,
    /// Whether vectors are dense, and how many coordinates they have then.
    shape: (bool, usize),
}

#[derive(Clone, Debug)]
enum CsvVector {
    Json(usize),
    Coordinates(Vec<usize>),
    Parts(usize, usize),
}

impl CsvRows {
    /// Finds the columns in a header.
    ///
    /// # Errors
    /// The column that is missing, and which ones there are.
    pub fn resolve(source: &DataSource, names: &RowNames, header: &StringRecord) -> Result<Self, RowError> {
        if header.len() > limits::ROW_COLUMNS {
            return Err(RowError::new(format!(
                "the header has {} columns; at most {} are read",
                header.len(),
                limits::ROW_COLUMNS
            )));
        }
        let mut columns = HashMap::with_capacity(header.len());
        for (at, column) in header.iter().enumerate() {
            columns.entry(column.trim_start_matches('\u{feff}').trim()).or_insert(at);
        }
        let find = |name: &str| columns.get(name).copied();
        let demand = |name: &str| {
            find(name).ok_or_else(|| {
                let columns = header.iter().take(20).map(|column| shown(column.trim())).collect::<Vec<_>>().join(", ");
                RowError::new(format!("there is no column '{name}'; the columns are {columns}"))
            })
        };
        let mut attributes = Vec::with_capacity(names.attributes.len());
        for (key, kind, name) in &names.attributes {
            let permanent = source.permanent_attributes.contains(key);
            attributes.push((key.clone(), *kind, permanent, name.clone(), demand(name)?));
        }
        let mut deleted = names.deleted.iter().find_map(|name| Some((name.clone(), find(name)?)));
        if names.deleted_required && deleted.is_none() {
            let name = names.deleted.first().map_or("", String::as_str);
            deleted = Some((name.to_owned(), demand(name)?));
        }
        let taken = |column: usize| attributes.iter().any(|(_, _, _, _, at)| *at == column);
        let free = |name: &str| find(name).filter(|&column| !taken(column));
        let first = free(&format!("{}_0", names.vector));
        let sparse = source.vector_kind == VectorKind::Sparse;
        let vector = match (free(&names.vector), first) {
            (Some(column), _) => CsvVector::Json(column),
            (None, Some(_)) if !sparse => {
                let coordinates = (0..source.vector_dimension).map(|i| demand(&format!("{}_{i}", names.vector)));
                CsvVector::Coordinates(coordinates.collect::<Result<_, _>>()?)
            }
            _ => match (free(&names.parts.0), free(&names.parts.1)) {
                (Some(indices), Some(values)) if sparse => CsvVector::Parts(indices, values),
                _ => CsvVector::Json(demand(&names.vector)?),
            },
        };
        Ok(Self { attributes, vector, vector_name: names.vector.clone(), deleted, shape: shape(source) })
    }

    /// The update that a record says.
    ///
    /// # Errors
    /// A cell is not of its type.
    pub fn update(&self, record: &StringRecord) -> Result<Update, RowError> {
        let cell = |i: usize| record.get(i).unwrap_or_default();
        let deleted = match &self.deleted {
            None => false,
            Some((name, column)) => {
                let mark = cell(*column).trim();
                match mark.to_ascii_lowercase().as_str() {
                    "" | "false" | "0" => false,
                    "true" | "1" => true,
                    _ => {
                        let message = format!("the deletion mark '{}' is neither true nor false", shown(mark));
                        return Err(RowError::at(name, message));
                    }
                }
            }
        };
        let mut attributes = Attributes::new();
        for (key, kind, permanent, name, column) in &self.attributes {
            if deleted && !permanent {
                continue;
            }
            let text = cell(*column);
            let value = parse_value(*kind, text)
                .ok_or_else(|| RowError::at(name, format!("'{}' is not a {kind}", shown(text))))?;
            attributes.insert(key.clone(), value);
        }
        if deleted {
            return Ok(Update::Delete(attributes));
        }
        let vector = self.vector(cell).map_err(|message| RowError::at(&self.vector_name, message))?;
        Ok(Update::Upsert(DataPoint { attributes, vector }))
    }

    fn vector<'r>(&self, cell: impl Fn(usize) -> &'r str) -> Result<Vector, String> {
        match &self.vector {
            CsvVector::Json(column) => {
                let text = cell(*column);
                let mut reader = Reader::new(text.as_bytes()).map_err(|error| error.what)?;
                let vector = plain_vector(&mut reader, self.shape.0, self.shape.1);
                let vector = vector.and_then(|vector| reader.end().map(|()| vector));
                domain_vector(vector.map_err(|error| format!("'{}' is no vector: {}", shown(text), error.what))?)
            }
            CsvVector::Coordinates(columns) => {
                let coordinate = |&column: &usize| {
                    let text = cell(column).trim();
                    text.parse::<f32>().map_err(|_| format!("coordinate '{}' is not a number", shown(text)))
                };
                Ok(Vector::Dense(columns.iter().map(coordinate).collect::<Result<_, _>>()?))
            }
            CsvVector::Parts(indices, values) => {
                let wrong = |what: &str, error: &serde_json::Error| format!("{what} are no array of numbers: {error}");
                let indices: Vec<i64> =
                    serde_json::from_str(cell(*indices)).map_err(|error| wrong("the indices", &error))?;
                let coordinates: Vec<f64> =
                    serde_json::from_str(cell(*values)).map_err(|error| wrong("the values", &error))?;
                domain_vector(WireVector::Sparse { coordinates, indices })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tarn_model::{AttributeValue, SparseVector};

    use super::*;
    use crate::fixtures::source;

    fn read(kind: VectorKind, header: &[&str], record: &[&str]) -> Result<Update, RowError> {
        let source = source(kind);
        let rows = CsvRows::resolve(&source, &RowNames::of(&source), &StringRecord::from(header.to_vec()))?;
        rows.update(&StringRecord::from(record.to_vec()))
    }

    #[test]
    fn a_vector_is_one_column_or_several() {
        let of = |update: Update| match update {
            Update::Upsert(point) => point.vector,
            Update::Delete(_) => panic!("a tombstone"),
        };
        let dense = Vector::Dense(vec![1.0, 2.5]);
        let one = read(VectorKind::Dense, &["\u{feff}id", "name", "vector"], &["5", "n", "[1, 2.5]"]);
        assert_eq!(of(one.unwrap()), dense);
        let each = read(VectorKind::Dense, &["vector_1", "id", "name", "vector_0"], &["2.5", "5", "n", " 1"]);
        assert_eq!(of(each.unwrap()), dense);
        let sparse = Vector::Sparse(SparseVector { indices: vec![0, 1], values: vec![2.0, 1.0] });
        let parts = read(VectorKind::Sparse, &["id", "name", "indices", "values"], &["5", "n", "[1,0]", "[1,2]"]);
        assert_eq!(of(parts.unwrap()), sparse);
    }

    #[test]
    fn a_tombstone_needs_its_permanent_attributes_alone() {
        let update = read(VectorKind::Dense, &["id", "name", "vector", "isDeleted"], &["5", "", "", "True"]);
        assert_eq!(update, Ok(Update::Delete([("id".to_owned(), AttributeValue::Int64(5))].into())));
    }

    #[test]
    fn a_fault_names_its_column() {
        let header = ["id", "name", "vector", "isDeleted"];
        for (record, column, message) in [
            (["five", "n", "[1,2]", ""], "id", "'five' is not a Int64"),
            (["5", "n", "1,2", ""], "vector", "is no vector"),
            (["5", "n", "[1,2]", "yes"], "isDeleted", "neither true nor false"),
        ] {
            let error = read(VectorKind::Dense, &header, &record).unwrap_err();
            assert_eq!(error.column.as_deref(), Some(column), "{error}");
            assert!(error.message.contains(message), "{error}");
        }
        let error = read(VectorKind::Dense, &["id", "vector"], &["5", "[1,2]"]).unwrap_err();
        assert!(error.message.contains("no column 'name'; the columns are id, vector"), "{error}");
        let error = read(VectorKind::Dense, &vec!["id"; limits::ROW_COLUMNS + 1], &[]).unwrap_err();
        assert!(error.message.contains("at most"), "{error}");
    }
}
