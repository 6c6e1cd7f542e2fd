//! Objects that hold rows: deltas, the timeline of them, and segment files.

use std::fmt::Write as _;

use arrow::array::{Array, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde::Serialize;
use serde_json::Value as Json;
use tarn_model::{AttributeValue, DataSourceId, IndexId, KeyPrefix, ObjectKey, Vector};
use tarn_segment::Segment;
use tarn_timeline::{decode_delta, decode_header, row_attributes, row_vector};
use ulid::Ulid;

use super::roots::{kind_name, need};
use crate::args::path_of;
use crate::context::{self, Context, Opening};
use crate::error::CliError;
use crate::output::{BAD, Cell, DIM, NAME, Report, Table, bytes, count, counted, fields, instant, value_text};
use crate::value::{value_json, vector_json};

/// Coordinates of a vector that a table shows.
const SHOWN_COORDINATES: usize = 4;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TimelineReport {
    deltas: Vec<DeltaRow>,
    /// Deltas that are stored, also when `deltas` shows the last ones alone.
    stored: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DeltaRow {
    sequence: u64,
    rows: u64,
    batches: u64,
    bytes: u64,
    stored_ms: i64,
}

impl Report for TimelineReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        let mut table = Table::new([">SEQUENCE", ">ROWS", ">UPLOADS", ">SIZE", "STORED"]);
        for delta in &self.deltas {
            table.row([
                Cell::styled(delta.sequence.to_string(), NAME),
                count(delta.rows).into(),
                count(delta.batches).into(),
                bytes(delta.bytes).into(),
                Cell::styled(instant(delta.stored_ms), DIM),
            ]);
        }
        if table.is_empty() {
            writeln!(out, "the timeline is empty")?;
        } else {
            table.write(out)?;
        }
        writeln!(out, "\nstored: {}, {}", counted(self.stored, "delta", "deltas"), bytes(self.bytes))
    }
}

pub(super) async fn timeline(context: &Context, id: &DataSourceId, last: usize) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    context::source(&store, id).await?;
    let listed = store.list(&KeyPrefix::Timeline(id.clone(), 0)).await?;
    let mut deltas = Vec::new();
    for object in listed.iter().skip(listed.len().saturating_sub(last)) {
        let Some(key @ ObjectKey::Delta { sequence, .. }) = &object.key else { continue };
        // Collected between the listing and now: the next one tells the story as well.
        let Some(found) = store.get(key).await? else { continue };
        let header = decode_header(&key.render(), &found)?;
        deltas.push(DeltaRow {
            sequence: *sequence,
            rows: header.batches.iter().map(|batch| batch.rows).sum(),
            batches: header.batches.len() as u64,
            bytes: object.bytes,
            stored_ms: object.modified_ms,
        });
    }
    let total = listed.iter().map(|object| object.bytes).sum();
    context.out.show(&TimelineReport { deltas, stored: listed.len() as u64, bytes: total })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RowsReport {
    #[serde(skip)]
    title: String,
    object: String,
    #[serde(flatten)]
    facts: serde_json::Map<String, Json>,
    rows: Vec<Row>,
    #[serde(skip)]
    total: u64,
}

#[derive(Debug, Serialize)]
struct Row {
    deleted: bool,
    attributes: serde_json::Map<String, Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<Json>,
    #[serde(skip)]
    shown: Vec<(String, AttributeValue)>,
    #[serde(skip)]
    shown_vector: String,
}

impl Row {
    fn new(deleted: bool, attributes: Vec<(String, AttributeValue)>, vector: Option<&Vector>) -> Self {
        Self {
            deleted,
            attributes: attributes.iter().map(|(key, value)| (key.clone(), value_json(value))).collect(),
            vector: vector.map(vector_json),
            shown: attributes,
            shown_vector: vector.map(vector_text).unwrap_or_default(),
        }
    }
}

fn vector_text(vector: &Vector) -> String {
    let (parts, all): (Vec<String>, usize) = match vector {
        Vector::Dense(values) => (values.iter().take(SHOWN_COORDINATES).map(f32::to_string).collect(), values.len()),
        Vector::Sparse(sparse) => {
            let pairs = sparse.indices.iter().zip(&sparse.values).take(SHOWN_COORDINATES);
            (pairs.map(|(index, value)| format!("{index}: {value}")).collect(), sparse.indices.len())
        }
    };
    let more = if all > SHOWN_COORDINATES { ", …" } else { "" };
    format!("[{}{more}] ({all})", parts.join(", "))
}

impl Report for RowsReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{}\n", self.title)?;
        let text = |json: &Json| json.as_str().map_or_else(|| json.to_string(), str::to_owned);
        let object = [("object", self.object.clone())];
        let facts: Vec<(&str, String)> =
            object.into_iter().chain(self.facts.iter().map(|(key, value)| (key.as_str(), text(value)))).collect();
        fields(out, &facts)?;
        let mut keys: Vec<&str> = Vec::new();
        for (key, _) in self.rows.iter().flat_map(|row| &row.shown) {
            if !keys.contains(&key.as_str()) {
                keys.push(key);
            }
        }
        let headings: Vec<String> = keys.iter().map(|key| key.to_uppercase()).collect();
        let mut table = Table::new([""].into_iter().chain(headings.iter().map(String::as_str)).chain(["VECTOR"]));
        for row in &self.rows {
            let mark = if row.deleted { Cell::styled("deleted", BAD) } else { "".into() };
            let value = |key: &&str| {
                let found = row.shown.iter().find(|(name, _)| name == key);
                Cell::from(found.map(|(_, value)| value_text(value)).unwrap_or_default())
            };
            let vector = Cell::styled(&row.shown_vector, DIM);
            table.row([mark].into_iter().chain(keys.iter().map(value)).chain([vector]));
        }
        if !table.is_empty() {
            writeln!(out)?;
            table.write(out)?;
        }
        let more = self.total.saturating_sub(self.rows.len() as u64);
        if more > 0 { writeln!(out, "  {DIM}… and {} more rows; see --rows{DIM:#}", count(more)) } else { Ok(()) }
    }
}

pub(super) async fn delta(context: &Context, id: &DataSourceId, sequence: u64, rows: usize) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    let source = context::source(&store, id).await?;
    let key = ObjectKey::Delta { source: id.clone(), lane: 0, sequence };
    let object = key.render();
    let found = store.get(&key).await?.ok_or_else(|| {
        CliError::new(format!("there is no delta {sequence}"))
            .hint("`tarn inspect timeline` shows those that are stored")
    })?;
    let delta = decode_delta(&object, &source, 0, sequence, &found)?;
    let shown = (0..delta.rows().min(rows)).map(|row| {
        let attributes = row_attributes(&delta.data, &source, row).into_iter().collect();
        Row::new(delta.is_deleted(row), attributes, row_vector(&delta.data, &source, row).as_ref())
    });
    let batches =
        delta.batches.iter().map(|batch| serde_json::json!({ "id": batch.id.to_string(), "rows": batch.rows }));
    let facts = serde_json::Map::from_iter([
        ("sequence".to_owned(), Json::from(sequence)),
        ("bytes".to_owned(), Json::from(found.len())),
        ("rowsTotal".to_owned(), Json::from(delta.rows())),
        ("batches".to_owned(), Json::from_iter(batches)),
    ]);
    let title = format!("delta {sequence} of data source {NAME}{}{NAME:#}", path_of(&id.name, &id.version));
    let total = delta.rows() as u64;
    context.out.show(&RowsReport { title, object, facts, rows: shown.collect(), total })
}

pub(super) async fn segment(context: &Context, id: &IndexId, segment: Ulid, rows: usize) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    context::index(&store, id).await?;
    let key = ObjectKey::Segment { index: id.clone(), id: segment };
    let object = key.render();
    let found = need(&store, &key).await?;
    let bytes_total = found.len();
    let segment = Segment::from_bytes(&object, found)?;
    let attributes = segment.attributes();
    let shown = (0..segment.rows().min(u32::try_from(rows).unwrap_or(u32::MAX))).map(|row| {
        let values = display_row(attributes, row as usize)?;
        Ok(Row::new(false, values, Some(&segment.vector(row))))
    });
    let shown = shown.collect::<Result<Vec<_>, CliError>>()?;
    // Recall by effort, measured when the graph or the cells were built; null for kinds without either.
    let calibration = match segment.cell_calibration() {
        Some(cells) => serde_json::to_value(cells)?,
        None => serde_json::to_value(segment.calibration())?,
    };
    let facts = serde_json::Map::from_iter([
        ("kind".to_owned(), Json::from(kind_name(segment.kind()))),
        ("metric".to_owned(), Json::from(segment.metric().algorithm_type())),
        ("bytes".to_owned(), Json::from(bytes_total)),
        ("rowsTotal".to_owned(), Json::from(segment.rows())),
        ("calibration".to_owned(), calibration),
    ]);
    let title = format!("segment of index {NAME}{}{NAME:#}", path_of(&id.name, &id.version));
    let total = u64::from(segment.rows());
    context.out.show(&RowsReport { title, object, facts, rows: shown, total })
}

/// A row of attribute columns, for display alone: values as text.
fn display_row(attributes: &RecordBatch, row: usize) -> Result<Vec<(String, AttributeValue)>, CliError> {
    let options = FormatOptions::default();
    let mut values = Vec::new();
    for (field, column) in attributes.schema_ref().fields().iter().zip(attributes.columns()) {
        if column.is_valid(row) {
            let text = ArrayFormatter::try_new(column.as_ref(), &options)?.value(row).try_to_string()?;
            values.push((field.name().clone(), AttributeValue::String(text)));
        }
    }
    Ok(values)
}
