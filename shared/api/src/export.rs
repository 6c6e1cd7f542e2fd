//! Export: the live points of a data source as a stream, in bounded memory. What streams the points of an index ends here,
//! too: it brings batches of the same columns.
//!
//! The first batch is awaited before the answer begins, so that what cannot be read is an error and not a broken stream. A
//! failure later breaks the connection off: a client never takes a part for the whole.
//!
//! Owns `an-export-is-whole-or-broken`.

mod arrow;
mod ndjson;
mod parquet;

use std::fmt::Display;
use std::sync::Arc;

use ::arrow::array::{BooleanArray, RecordBatch};
use ::arrow::compute::filter_record_batch;
use ::arrow::datatypes::SchemaRef;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tarn_model::{DataSource, DataSourceId, Filter, ReadToken};
use tarn_timeline::{
    INDICES_COLUMN, LiveOptions, VALUES_COLUMN, VECTOR_COLUMN, attribute_column, live, row_attributes,
    version_of_generation,
};
use tokio::sync::OwnedSemaphorePermit;

use crate::auth::{Caller, Resource, Scope};
use crate::definitions::source_id;
use crate::dto::FileDto;
use crate::error::{ApiError, ErrorDto};
use crate::json::{Reader, read_tree};
use crate::query::pairs;
use crate::state::AppState;
use crate::upload::{TARN_VERSION, version_header};

const NDJSON: &str = "application/x-ndjson";
const ARROW: &str = "application/vnd.apache.arrow.stream";
const PARQUET: &str = "application/vnd.apache.parquet";
const JSON: &str = "application/json";
/// Wildcards that stand for any format here.
const ANY: [&str; 2] = ["application/*", "*/*"];

/// What files of points look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// One point of the HTTP API a line.
    Ndjson,
    /// An Arrow IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
}

impl ExportFormat {
    /// All of them, the one that is meant without more first.
    const ALL: [Self; 3] = [Self::Ndjson, Self::Arrow, Self::Parquet];

    /// What it is called in `Accept` and `Content-Type`.
    fn media(self) -> &'static str {
        match self {
            Self::Ndjson => NDJSON,
            Self::Arrow => ARROW,
            Self::Parquet => PARQUET,
        }
    }

    /// By the name of a media type, in lower case.
    fn named(media: &str) -> Option<Self> {
        match media {
            "application/ndjson" => Some(Self::Ndjson),
            media => Self::ALL.into_iter().find(|format| format.media() == media),
        }
    }
}

/// Turns batches into pieces of a file.
trait Encoder: Send + 'static {
    /// The bytes that a batch adds.
    fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, String>;
    /// The bytes after the last batch.
    fn end(&mut self) -> Result<Bytes, String>;
}

/// Streams every live point of a data source.
///
/// What was exported can be uploaded again. The format is chosen by `Accept`; NDJSON unless it says otherwise.
#[utoipa::path(get, path = "/api/v1/data-sources/{name}/{version}/export", tag = "Points",
    params(("name" = String, Path), ("version" = String, Path),
        ("filter" = Option<String>, Query, description = "As in a search, as JSON"),
        ("asOf" = Option<u64>, Query, description = "The state that an earlier generation of the checkpoint shows", minimum = 1),
        ("Request-Timeout" = Option<String>, Header, description = "Seconds until the first points go out, such as 2.500")),
    responses((status = 200, description = "The points, in no particular order", content(
            (String = "application/x-ndjson"), (FileDto = "application/vnd.apache.arrow.stream"),
            (FileDto = "application/vnd.apache.parquet")),
            headers(("Tarn-Version" = String, description = "The version that the points are the state of"))),
        (status = 400, body = ErrorDto), (status = 401, body = ErrorDto), (status = 403, body = ErrorDto),
        (status = 404, body = ErrorDto), (status = 406, body = ErrorDto),
        (status = 409, description = "The generation is not there yet", body = ErrorDto),
        (status = 410, description = "The generation is gone", body = ErrorDto), (status = 429, body = ErrorDto),
        (status = 503, body = ErrorDto)))]
pub(crate) async fn export(
    State(state): State<AppState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = source_id(path)?;
    caller.require(Scope::Read, Resource::DataSource(&id))?;
    let mut streaming = Streaming::begin(&state, &headers)?;
    let source = state.sources().get(&id).await?.source;
    let Asked { filter, generation } = Asked::parse(query.as_deref(), &source)?;
    let at = match generation {
        Some(generation) => Some(version_of(&state, &id, generation).await?),
        None => None,
    };
    let live = live(state.store(), Arc::clone(&source), LiveOptions { at, ..points_as_uploaded(&source) }).await?;
    streaming.filter = filter;
    let mut response = streaming.respond(source, &live.schema, live.batches, ApiError::from).await?;
    response.headers_mut().insert(TARN_VERSION, version_header(&live.at)?);
    Ok(response)
}

/// Which points of a data source to export.
struct Asked {
    filter: Option<Filter>,
    generation: Option<u64>,
}

impl Asked {
    fn parse(query: Option<&str>, source: &DataSource) -> Result<Self, ApiError> {
        let (mut filter, mut generation) = (None, None);
        for (name, value) in pairs(query) {
            match name.as_str() {
                "filter" => {
                    let mut reader = Reader::new(value.as_bytes())?;
                    let tree = read_tree(&mut reader)?;
                    reader.end()?;
                    filter = Some(Filter::from_json(&tree, source)?);
                }
                "asOf" => {
                    let number = value.parse().ok().filter(|&number| number > 0);
                    let wrong = || ApiError::invalid("asOf must be the number of a generation, from 1");
                    generation = Some(number.ok_or_else(wrong)?);
                }
                _ => {}
            }
        }
        Ok(Self { filter, generation })
    }
}

async fn version_of(state: &AppState, id: &DataSourceId, generation: u64) -> Result<ReadToken, ApiError> {
    let version = version_of_generation(state.store(), id, generation).await?;
    version.map_err(|missing| match missing.is_gone() {
        true => ApiError::new(StatusCode::GONE, "generationGone", missing.to_string()),
        false => ApiError::conflict(vec![missing.to_string()]),
    })
}

/// Whether the request prefers a stream of points, by name, where JSON is the answer otherwise. Of equals, what is named is preferred
/// to what a wildcard stands for, and JSON to a stream.
pub fn wants_stream(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let best =
        |is: &dyn Fn(&str) -> bool| ranges(&accept).filter(|(range, _)| is(range)).map(|(_, q)| q).reduce(f32::max);
    let stream = best(&|range| ExportFormat::named(range).is_some()).unwrap_or(0.0);
    match best(&|range| range == JSON) {
        Some(json) => stream > json,
        None => stream > 0.0 && stream >= best(&|range| ANY.contains(&range)).unwrap_or(0.0),
    }
}

/// The media ranges of an `Accept` in lower case, with their quality values; 1 unless given.
fn ranges(accept: &str) -> impl Iterator<Item = (&str, f32)> {
    accept.split(',').map(|range| {
        let (range, parameters) = range.split_once(';').unwrap_or((range, ""));
        let quality = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("q=")?.parse().ok());
        (range.trim(), quality.unwrap_or(1.0))
    })
}

/// A stream of points that has been admitted: its format, and its place among the exports under way.
#[derive(Debug)]
pub struct Streaming {
    format: ExportFormat,
    /// Of the points of the batches only those that satisfy it.
    filter: Option<Filter>,
    permit: OwnedSemaphorePermit,
}

impl Streaming {
    /// Admits a stream.
    ///
    /// # Errors
    /// 406 when no format is acceptable; 429 when as many are under way as may be.
    pub fn begin(state: &AppState, headers: &HeaderMap) -> Result<Self, ApiError> {
        Ok(Self { format: accepted(headers)?, filter: None, permit: state.admit_reading()? })
    }

    /// Streams batches whose columns are the attributes and the vector of a data source. The first is awaited.
    ///
    /// # Errors
    /// When the first batch cannot be had, as `failed` says.
    pub async fn respond<E: Display + Send + 'static>(
        self,
        source: Arc<DataSource>,
        schema: &SchemaRef,
        batches: BoxStream<'static, Result<RecordBatch, E>>,
        failed: impl FnOnce(E) -> ApiError,
    ) -> Result<Response, ApiError> {
        let Self { format, filter, permit } = self;
        let mut batches = batches.fuse();
        let first = batches.next().await.transpose().map_err(failed)?;
        let rest = futures::stream::iter(first.map(Ok)).chain(batches).boxed();
        // The permit is given back when the client has read the last piece, or has gone away.
        let pieces = file_of_points(format, source, schema, rest, filter)?.map(move |piece| {
            let _held = &permit;
            piece.map(|piece| piece.bytes)
        });
        let mut response = Response::new(Body::from_stream(pieces));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.media()));
        Ok(response)
    }
}

/// The bytes of a file of points, piece by piece, as its batches come: of all their points, or of those that satisfy a filter. An
/// error ends it: what came before is no whole file.
///
/// # Errors
/// The columns cannot be written in this format.
pub fn file_of_points<E: Display + Send + 'static>(
    format: ExportFormat,
    source: Arc<DataSource>,
    schema: &SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch, E>>,
    filter: Option<Filter>,
) -> Result<BoxStream<'static, Result<Piece, String>>, ApiError> {
    let encoder = encoder(format, Arc::clone(&source), schema)?;
    Ok(encoded(batches, encoder, filter.map(|filter| Arc::new((source, filter)))).boxed())
}

/// A piece of a file of points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// What follows in the file.
    pub bytes: Bytes,
    /// How many points came with it; in some formats their bytes come later.
    pub points: usize,
}

/// Which points of a batch to write.
type Only = Option<Arc<(Arc<DataSource>, Filter)>>;

/// Writes a batch, or what of it is wanted.
fn write(encoder: &mut dyn Encoder, batch: &RecordBatch, only: &Only) -> Result<Piece, String> {
    let kept;
    let batch = match only.as_deref() {
        None => batch,
        Some((source, filter)) => {
            let matches = |row| filter.matches(&row_attributes(batch, source, row));
            let keep: Vec<bool> = (0..batch.num_rows()).map(matches).collect();
            kept = filter_record_batch(batch, &BooleanArray::from(keep)).map_err(|error| text(&error))?;
            &kept
        }
    };
    Ok(Piece { bytes: encoder.batch(batch)?, points: batch.num_rows() })
}

/// What a user uploaded, and nothing of how it is stored.
pub fn points_as_uploaded(source: &DataSource) -> LiveOptions {
    let mut columns: Vec<String> = source.attribute_types.keys().map(|key| attribute_column(key)).collect();
    match source.vector_kind {
        tarn_model::VectorKind::Dense => columns.push(VECTOR_COLUMN.to_owned()),
        tarn_model::VectorKind::Sparse => columns.extend([INDICES_COLUMN.to_owned(), VALUES_COLUMN.to_owned()]),
    }
    LiveOptions { columns: Some(columns), ..LiveOptions::default() }
}

fn encoder(format: ExportFormat, source: Arc<DataSource>, schema: &SchemaRef) -> Result<Box<dyn Encoder>, ApiError> {
    let failed = |error: String| {
        tracing::error!(error, "an export cannot begin");
        ApiError::internal()
    };
    Ok(match format {
        ExportFormat::Arrow => Box::new(arrow::ArrowEncoder::new(schema).map_err(failed)?),
        ExportFormat::Parquet => Box::new(parquet::ParquetEncoder::new(Arc::clone(schema)).map_err(failed)?),
        ExportFormat::Ndjson => Box::new(ndjson::NdjsonEncoder::new(source)),
    })
}

/// Encodes batches as they come. An error ends the stream in one.
fn encoded<E: Display + Send + 'static>(
    batches: BoxStream<'static, Result<RecordBatch, E>>,
    encoder: Box<dyn Encoder>,
    only: Only,
) -> impl Stream<Item = Result<Piece, String>> + Send {
    let state = Some((batches, encoder));
    let pieces = futures::stream::unfold(state, move |state| {
        let only = only.clone();
        async move {
            let (mut batches, mut encoder) = state?;
            match batches.next().await {
                Some(Ok(batch)) => {
                    let encode = move || (write(&mut *encoder, &batch, &only), encoder);
                    match tokio::task::spawn_blocking(encode).await {
                        Ok((Ok(piece), encoder)) => Some((Ok(piece), Some((batches, encoder)))),
                        Ok((Err(error), _)) => Some((Err(error), None)),
                        Err(error) => Some((Err(error.to_string()), None)),
                    }
                }
                Some(Err(error)) => Some((Err(error.to_string()), None)),
                None => Some((encoder.end().map(|bytes| Piece { bytes, points: 0 }), None)),
            }
        }
    });
    // Fused: a compressed body polls once more after the end.
    pieces.fuse().inspect(|piece| {
        if let Err(error) = piece {
            tracing::error!(error, "an export broke off");
        }
    })
}

/// The best media type that the request accepts. Quality values order the choices; ties go to NDJSON first.
fn accepted(headers: &HeaderMap) -> Result<ExportFormat, ApiError> {
    let Some(accept) = headers.get(ACCEPT) else { return Ok(ExportFormat::Ndjson) };
    let accept = accept.to_str().unwrap_or_default().to_ascii_lowercase();
    let mut best: Option<(f32, ExportFormat)> = None;
    for (range, quality) in ranges(&accept) {
        let any = ANY.contains(&range).then_some(ExportFormat::Ndjson);
        let Some(format) = any.or_else(|| ExportFormat::named(range)) else { continue };
        if quality > 0.0 && best.is_none_or(|(found, _)| quality > found) {
            best = Some((quality, format));
        }
    }
    best.map(|(_, format)| format).ok_or_else(|| {
        let message = format!("Accept must name one of {NDJSON}, {ARROW}, {PARQUET}");
        ApiError::new(StatusCode::NOT_ACCEPTABLE, "notAcceptable", message)
    })
}

/// A sink that many pieces go out of.
#[derive(Clone, Debug, Default)]
struct Pieces(Arc<parking_lot::Mutex<Vec<u8>>>);

impl Pieces {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock()).into()
    }
}

impl std::io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Errors of the encoders, which write to memory, as text for the log.
fn text(error: &dyn std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use ::arrow::array::{ArrayRef, Int64Array};
    use tarn_model::Corrupt;
    use tarn_timeline::TimelineError;

    use super::*;

    fn batch() -> RecordBatch {
        RecordBatch::try_from_iter([("a", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap()
    }

    /// Fails at the batch of this number, from 0.
    struct FailsAt(usize);

    impl Encoder for FailsAt {
        fn batch(&mut self, _: &RecordBatch) -> Result<Bytes, String> {
            let left = self.0.checked_sub(1).ok_or("on purpose: this is a test")?;
            self.0 = left;
            Ok(Bytes::from_static(b"piece"))
        }

        fn end(&mut self) -> Result<Bytes, String> {
            Ok(Bytes::from_static(b"end"))
        }
    }

    #[test]
    fn a_stream_is_asked_for_by_name() {
        let wants =
            |accept: &'static str| wants_stream(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]));
        assert!(wants("application/x-ndjson"));
        assert!(wants("text/html, Application/vnd.apache.parquet;q=0.5"));
        assert!(wants("application/x-ndjson, */*"));
        assert!(wants("application/json;q=0.9, application/x-ndjson"));
        assert!(!wants("application/json, application/x-ndjson;q=0.9"));
        assert!(!wants("application/json, application/x-ndjson"));
        assert!(!wants("*/*, application/x-ndjson; q=0.5"));
        assert!(!wants("application/x-ndjson;q=0, */*"));
        assert!(!wants("*/*"));
        assert!(!wants("application/json"));
        assert!(!wants_stream(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn an_export_is_whole_or_broken() {
        let corrupt = || Corrupt {
            object: "x".to_owned(),
            part: "rows".to_owned(),
            expected: "3".to_owned(),
            found: "2".to_owned(),
        };
        for (last, fails_at, expected) in [
            (Ok(batch()), 9, vec![Some("piece"), Some("piece"), Some("end")]),
            (Err(TimelineError::Corrupt(corrupt())), 9, vec![Some("piece"), None]),
            (Ok(batch()), 1, vec![Some("piece"), None]),
        ] {
            let batches = futures::stream::iter([Ok(batch()), last]).boxed();
            let pieces: Vec<_> = encoded(batches, Box::new(FailsAt(fails_at)), None).collect().await;
            let pieces: Vec<_> = pieces.iter().map(|piece| piece.as_ref().ok().map(|piece| &piece.bytes[..])).collect();
            assert_eq!(pieces, expected.into_iter().map(|text| text.map(str::as_bytes)).collect::<Vec<_>>());
        }
    }
}
