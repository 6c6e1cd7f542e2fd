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

use ::arrow::array::RecordBatch;
use ::arrow::datatypes::SchemaRef;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tarn_model::DataSource;
use tarn_timeline::{INDICES_COLUMN, LiveOptions, VALUES_COLUMN, VECTOR_COLUMN, attribute_column, live};
use tokio::sync::OwnedSemaphorePermit;

use crate::auth::{Caller, Resource, Scope};
use crate::definitions::source_id;
use crate::dto::FileDto;
use crate::error::{ApiError, ErrorDto};
use crate::state::AppState;
use crate::upload::{TARN_VERSION, version_header};

const NDJSON: &str = "application/x-ndjson";
const ARROW: &str = "application/vnd.apache.arrow.stream";
const PARQUET: &str = "application/vnd.apache.parquet";

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
    params(("name" = String, Path), ("version" = String, Path)),
    responses((status = 200, description = "The points, in no particular order", content(
            (String = "application/x-ndjson"), (FileDto = "application/vnd.apache.arrow.stream"),
            (FileDto = "application/vnd.apache.parquet")),
            headers(("Tarn-Version" = String, description = "The version that the points are the state of"))),
        (status = 401, body = ErrorDto), (status = 403, body = ErrorDto), (status = 404, body = ErrorDto),
        (status = 406, body = ErrorDto), (status = 429, body = ErrorDto), (status = 503, body = ErrorDto)))]
pub(crate) async fn export(
    State(state): State<AppState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = source_id(path)?;
    caller.require(Scope::Read, Resource::DataSource(&id))?;
    let streaming = Streaming::begin(&state, &headers)?;
    let source = state.sources().get(&id).await?.source;
    let live = live(state.store(), Arc::clone(&source), options(&source)).await?;
    let mut response = streaming.respond(source, &live.schema, live.batches, ApiError::from).await?;
    response.headers_mut().insert(TARN_VERSION, version_header(&live.at)?);
    Ok(response)
}

/// Whether the request asks for a stream of points by name, where JSON is the answer otherwise.
pub fn wants_stream(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let mut ranges = accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
    ranges.any(|range| [NDJSON, "application/ndjson", ARROW, PARQUET].contains(&range))
}

/// A stream of points that has been admitted: its format, and its place among the exports under way.
#[derive(Debug)]
pub struct Streaming {
    media: &'static str,
    permit: OwnedSemaphorePermit,
}

impl Streaming {
    /// Admits a stream.
    ///
    /// # Errors
    /// 406 when no format is acceptable; 429 when as many are under way as may be.
    pub fn begin(state: &AppState, headers: &HeaderMap) -> Result<Self, ApiError> {
        Ok(Self { media: accepted(headers)?, permit: state.admit_export()? })
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
        let Self { media, permit } = self;
        let mut batches = batches.fuse();
        let first = batches.next().await.transpose().map_err(failed)?;
        let encoder = encoder(media, source, schema)?;
        let rest = futures::stream::iter(first.map(Ok)).chain(batches).boxed();
        // The permit is given back when the client has read the last piece, or has gone away.
        let pieces = encoded(rest, encoder).map(move |piece| {
            let _held = &permit;
            piece
        });
        let mut response = Response::new(Body::from_stream(pieces));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
        Ok(response)
    }
}

/// What a user uploaded, and nothing of how it is stored.
#[expect(clippy::field_reassign_with_default, reason = "the struct is non-exhaustive")]
fn options(source: &DataSource) -> LiveOptions {
    let mut columns: Vec<String> = source.attribute_types.keys().map(|key| attribute_column(key)).collect();
    match source.vector_kind {
        tarn_model::VectorKind::Dense => columns.push(VECTOR_COLUMN.to_owned()),
        tarn_model::VectorKind::Sparse => columns.extend([INDICES_COLUMN.to_owned(), VALUES_COLUMN.to_owned()]),
    }
    let mut options = LiveOptions::default();
    options.columns = Some(columns);
    options
}

fn encoder(media: &str, source: Arc<DataSource>, schema: &SchemaRef) -> Result<Box<dyn Encoder>, ApiError> {
    let failed = |error: String| {
        tracing::error!(error, "an export cannot begin");
        ApiError::internal()
    };
    Ok(match media {
        ARROW => Box::new(arrow::ArrowEncoder::new(schema).map_err(failed)?),
        PARQUET => Box::new(parquet::ParquetEncoder::new(Arc::clone(schema)).map_err(failed)?),
        _ => Box::new(ndjson::NdjsonEncoder::new(source)),
    })
}

/// Encodes batches as they come. An error ends the stream in one.
fn encoded<E: Display + Send + 'static>(
    batches: BoxStream<'static, Result<RecordBatch, E>>,
    encoder: Box<dyn Encoder>,
) -> impl Stream<Item = Result<Bytes, String>> + Send {
    let state = Some((batches, encoder));
    let pieces = futures::stream::unfold(state, |state| async move {
        let (mut batches, mut encoder) = state?;
        match batches.next().await {
            Some(Ok(batch)) => {
                let encode = move || (encoder.batch(&batch), encoder);
                match tokio::task::spawn_blocking(encode).await {
                    Ok((Ok(bytes), encoder)) => Some((Ok(bytes), Some((batches, encoder)))),
                    Ok((Err(error), _)) => Some((Err(error), None)),
                    Err(error) => Some((Err(error.to_string()), None)),
                }
            }
            Some(Err(error)) => Some((Err(error.to_string()), None)),
            None => Some((encoder.end(), None)),
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
fn accepted(headers: &HeaderMap) -> Result<&'static str, ApiError> {
    let Some(accept) = headers.get(ACCEPT) else { return Ok(NDJSON) };
    let accept = accept.to_str().unwrap_or_default().to_ascii_lowercase();
    let mut best: Option<(f32, &'static str)> = None;
    for range in accept.split(',') {
        let (range, parameters) = range.split_once(';').unwrap_or((range, ""));
        let quality = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("q=")?.parse().ok());
        let quality: f32 = quality.unwrap_or(1.0);
        let media = match range.trim() {
            NDJSON | "application/ndjson" | "application/*" | "*/*" => NDJSON,
            ARROW => ARROW,
            PARQUET => PARQUET,
            _ => continue,
        };
        if quality > 0.0 && best.is_none_or(|(found, _)| quality > found) {
            best = Some((quality, media));
        }
    }
    best.map(|(_, media)| media).ok_or_else(|| {
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
            let pieces: Vec<_> = encoded(batches, Box::new(FailsAt(fails_at))).collect().await;
            let pieces: Vec<_> = pieces.iter().map(|piece| piece.as_deref().ok()).collect();
            assert_eq!(pieces, expected.into_iter().map(|text| text.map(str::as_bytes)).collect::<Vec<_>>());
        }
    }
}
