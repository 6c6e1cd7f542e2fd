//! Batches of points from files of rows: NDJSON and CSV.
//!
//! NDJSON rows are points of the HTTP API (`{"attributes": […], "vector": {…}}`) or flat objects with a property per
//! attribute (`{"id": "a", "vector": [0.1, 0.2]}`). CSV files have a header; the vector is one column that holds a JSON
//! array, or one column per coordinate named `{vector}_0`, `{vector}_1`, ….

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use serde_json::Value as Json;
use tarn_model::{Attributes, DataPoint, DataSource, Update, Vector, VectorKind};
use tarn_timeline::DeltaBuilder;

use super::{Batch, Sink};
use crate::error::CliError;
use crate::value::{json_value, json_vector, parse_value};

/// Longest line of an NDJSON file, in bytes: a point of the largest dimension fits many times over.
const LINE_BYTES: u64 = 64 * 1024 * 1024;

/// How a file's rows become points.
pub(super) struct Rows<'a> {
    pub(super) source: &'a Arc<DataSource>,
    /// For every attribute, in order, its property or column.
    pub(super) names: Vec<(String, String)>,
    pub(super) vector: &'a str,
    pub(super) deleted: Option<&'a str>,
    /// Rows in one batch.
    pub(super) rows: usize,
}

/// Points on their way into a batch.
struct Pending<'a> {
    rows: &'a Rows<'a>,
    sink: &'a Sink,
    builder: DeltaBuilder,
}

impl Pending<'_> {
    /// Adds a point; false when nobody wants more.
    fn push(&mut self, update: &Update, position: u64) -> Result<bool, CliError> {
        self.builder.push(update)?;
        if self.builder.rows() < self.rows.rows { Ok(true) } else { self.flush(position) }
    }

    fn flush(&mut self, position: u64) -> Result<bool, CliError> {
        if self.builder.rows() == 0 {
            return Ok(true);
        }
        let empty = DeltaBuilder::new(self.rows.source.clone(), self.rows.rows);
        let points = std::mem::replace(&mut self.builder, empty).finish()?;
        Ok(self.sink.send(Batch { points, position }))
    }
}

impl Rows<'_> {
    fn pending<'a>(&'a self, sink: &'a Sink) -> Pending<'a> {
        Pending { rows: self, sink, builder: DeltaBuilder::new(self.source.clone(), self.rows) }
    }

    /// Sends the points of NDJSON text.
    pub(super) fn ndjson(&self, input: impl Read, sink: &Sink) -> Result<(), CliError> {
        let mut input = BufReader::with_capacity(1 << 20, input);
        let mut pending = self.pending(sink);
        let (mut line, mut number, mut position) = (Vec::new(), 0_u64, 0_u64);
        loop {
            line.clear();
            let read = input.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line)? as u64;
            if read == 0 {
                return pending.flush(position).map(drop);
            }
            number += 1;
            position += read;
            let at_line = |error: CliError| error.while_doing(format_args!("line {number}"));
            if read == LINE_BYTES {
                return Err(at_line(CliError::new(format!("longer than {LINE_BYTES} bytes"))));
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let wanted = serde_json::from_slice(&line)
                .map_err(CliError::from)
                .and_then(|json| self.json_update(&json))
                .and_then(|update| pending.push(&update, position))
                .map_err(at_line)?;
            if !wanted {
                return Ok(());
            }
        }
    }

    fn json_update(&self, json: &Json) -> Result<Update, CliError> {
        let object = json.as_object().ok_or_else(|| CliError::new("a row must be a JSON object"))?;
        let attributes = match object.get("attributes") {
            Some(Json::Array(list)) if !self.source.attribute_types.contains_key("attributes") => {
                self.wire_attributes(list)?
            }
            _ => self.flat_attributes(|name| object.get(name).filter(|value| !value.is_null()), json_value)?,
        };
        let deleted = match object.get(self.deleted.unwrap_or("isDeleted")) {
            None | Some(Json::Null) => false,
            Some(value) => value.as_bool().ok_or_else(|| CliError::new("the deletion mark must be true or false"))?,
        };
        if deleted {
            return Ok(Update::Delete(attributes));
        }
        let vector = object.get(self.vector).ok_or_else(|| CliError::new(format!("there is no '{}'", self.vector)))?;
        Ok(Update::Upsert(DataPoint { attributes, vector: json_vector(vector).map_err(CliError::new)? }))
    }

    /// `[{"key": …, "value": {"string": …}}, …]`, the HTTP API's form.
    fn wire_attributes(&self, list: &[Json]) -> Result<Attributes, CliError> {
        let mut attributes = Attributes::new();
        for item in list {
            let key =
                item.get("key").and_then(Json::as_str).ok_or_else(|| CliError::new("an attribute must have a key"))?;
            let kind = self.source.attribute_types.get(key);
            let &kind = kind.ok_or_else(|| CliError::new(format!("attribute key is unknown: '{key}'")))?;
            let value = item.get("value").and_then(Json::as_object).and_then(|value| {
                let mut set = value.values().filter(|value| !value.is_null());
                set.next().filter(|_| set.next().is_none())
            });
            let value = value.and_then(|value| json_value(kind, value));
            let value = value.ok_or_else(|| CliError::new(format!("attribute '{key}' has no valid {kind} value")))?;
            if attributes.insert(key.to_owned(), value).is_some() {
                return Err(CliError::new("Attribute keys must be unique"));
            }
        }
        Ok(attributes)
    }

    /// One attribute per name. An absent one stays absent; whether it may is for the builder to judge.
    fn flat_attributes<'v, V: std::fmt::Display + 'v + ?Sized>(
        &self,
        get: impl Fn(&str) -> Option<&'v V>,
        parse: impl Fn(tarn_model::AttributeType, &V) -> Option<tarn_model::AttributeValue>,
    ) -> Result<Attributes, CliError> {
        let mut attributes = Attributes::new();
        for (key, name) in &self.names {
            let (Some(value), Some(&kind)) = (get(name), self.source.attribute_types.get(key)) else { continue };
            let parsed = parse(kind, value)
                .ok_or_else(|| CliError::new(format!("'{name}' holds {value}, which is not a {kind}")))?;
            attributes.insert(key.clone(), parsed);
        }
        Ok(attributes)
    }

    /// Sends the points of a CSV file.
    pub(super) fn csv(&self, input: impl Read, sink: &Sink) -> Result<(), CliError> {
        let mut reader = csv::ReaderBuilder::new().buffer_capacity(1 << 20).from_reader(input);
        let header = reader.headers().map_err(|error| CliError::of(&error))?.clone();
        let columns = CsvColumns::resolve(self, &header)?;
        let mut pending = self.pending(sink);
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).map_err(|error| CliError::of(&error))? {
            let (line, position) = record.position().map_or((0, 0), |position| (position.line(), position.byte()));
            let wanted = self
                .csv_update(&columns, &record)
                .and_then(|update| pending.push(&update, position))
                .map_err(|error| error.while_doing(format_args!("line {line}")))?;
            if !wanted {
                return Ok(());
            }
        }
        pending.flush(reader.position().byte()).map(drop)
    }

    fn csv_update(&self, columns: &CsvColumns, record: &csv::StringRecord) -> Result<Update, CliError> {
        let cell = |i: usize| record.get(i).unwrap_or_default();
        let mark = columns.deleted.map(cell).unwrap_or_default();
        let deleted = match mark.trim().to_ascii_lowercase().as_str() {
            "" | "false" | "0" => false,
            "true" | "1" => true,
            _ => return Err(CliError::new(format!("the deletion mark '{mark}' is neither true nor false"))),
        };
        let mut attributes = Attributes::new();
        for ((key, name), &column) in self.names.iter().zip(&columns.attributes) {
            let Some(&kind) = self.source.attribute_types.get(key) else { continue };
            if deleted && !self.source.permanent_attributes.contains(key) {
                continue;
            }
            let text = cell(column);
            let value = parse_value(kind, text)
                .ok_or_else(|| CliError::new(format!("column '{name}' holds '{text}', which is not a {kind}")))?;
            attributes.insert(key.clone(), value);
        }
        if deleted {
            return Ok(Update::Delete(attributes));
        }
        let vector = match &columns.vector {
            CsvVector::Json(column) => {
                let json: Json = serde_json::from_str(cell(*column))
                    .map_err(|error| CliError::of(&error).while_doing(format_args!("column '{}'", self.vector)))?;
                json_vector(&json).map_err(CliError::new)?
            }
            CsvVector::Coordinates(coordinates) => {
                let coordinate = |&i: &usize| {
                    let text = cell(i);
                    text.trim()
                        .parse::<f32>()
                        .map_err(|_| CliError::new(format!("coordinate '{text}' is not a number")))
                };
                Vector::Dense(coordinates.iter().map(coordinate).collect::<Result<_, _>>()?)
            }
        };
        Ok(Update::Upsert(DataPoint { attributes, vector }))
    }
}

/// Where a CSV file holds what.
struct CsvColumns {
    /// Parallel to [`Rows::names`].
    attributes: Vec<usize>,
    vector: CsvVector,
    deleted: Option<usize>,
}

enum CsvVector {
    Json(usize),
    Coordinates(Vec<usize>),
}

impl CsvColumns {
    fn resolve(rows: &Rows<'_>, header: &csv::StringRecord) -> Result<Self, CliError> {
        let find = |name: &str| header.iter().position(|column| column.trim() == name);
        let demand = |name: &str| {
            find(name).ok_or_else(|| {
                let columns = header.iter().take(20).collect::<Vec<_>>().join(", ");
                CliError::new(format!("there is no column '{name}'"))
                    .hint(format!("the columns are {columns}; --map ATTRIBUTE=COLUMN names those called otherwise"))
            })
        };
        let attributes = rows.names.iter().map(|(_, name)| demand(name)).collect::<Result<_, _>>()?;
        let deleted = rows.deleted.map(demand).transpose()?;
        let first = find(&format!("{}_0", rows.vector));
        let vector = match (find(rows.vector), first) {
            (None, Some(_)) if rows.source.vector_kind == VectorKind::Dense => {
                let coordinates = (0..rows.source.vector_dimension).map(|i| demand(&format!("{}_{i}", rows.vector)));
                CsvVector::Coordinates(coordinates.collect::<Result<_, _>>()?)
            }
            _ => CsvVector::Json(demand(rows.vector)?),
        };
        Ok(Self { attributes, vector, deleted })
    }
}
