//! Uploads: points and tombstones, in four formats, all or nothing.

mod columnar;
mod rows;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tarn_model::{DataSource, ReadToken, limits};
use tarn_timeline::{AppendError, AppendOptions, PointBatch, TimelineError};

use crate::auth::{Caller, Resource, Scope};
use crate::auto_create::Destination;
use crate::body::{HeldBody, MediaType, Share};
use crate::definitions::source_id;
use crate::dto::{FileDto, InputDataPointDto};
use crate::error::{ApiError, ErrorDto};
use crate::sources::source_not_found;
use crate::state::AppState;

/// The version that includes a write, or that an answer shows.
pub const TARN_VERSION: HeaderName = HeaderName::from_static("tarn-version");
/// `true` when an upload with the same idempotency key had been committed before.
const TARN_REPLAYED: HeaderName = HeaderName::from_static("tarn-replayed");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Uploads points and tombstones.
///
/// All or nothing: every point is validated first, and the batch is one atomic commit. The last write of a point wins, also
/// within one batch. When the answer arrives, the batch is durable and strong searches find it.
#[utoipa::path(post, path = "/api/v1/upload/{name}/{version}", tag = "Points",
    params(("name" = String, Path), ("version" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated upload take effect once", max_length = 256),
        ("Request-Timeout" = Option<String>, Header, description = "Seconds, such as 2.500")),
    request_body(content(
        (Vec<InputDataPointDto> = "application/json"),
        (String = "application/x-ndjson"),
        (FileDto = "application/vnd.apache.arrow.stream"),
        (FileDto = "application/vnd.apache.parquet"))),
    responses((status = 200, description = "Committed; the body is empty",
            headers(("Tarn-Version" = String, description = "Includes this upload; for minVersion of a search"))),
        (status = 400, body = ErrorDto), (status = 401, body = ErrorDto), (status = 403, body = ErrorDto),
        (status = 404, body = ErrorDto), (status = 409, body = ErrorDto), (status = 413, body = ErrorDto),
        (status = 415, body = ErrorDto), (status = 429, body = ErrorDto), (status = 503, body = ErrorDto)))]
pub(crate) async fn upload(
    State(state): State<AppState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let id = source_id(path)?;
    caller.require(Scope::Write, Resource::DataSource(&id))?;
    let media = MediaType::of(&headers)?;
    let options = append_options(&headers)?;
    let destination = Destination::of(&state, &id).await?;
    let body = state.read_body(body).await?;
    let body_bytes = body.bytes().len() as u64;

    let (batch, share) = parse(Arc::clone(destination.source()), media, body).await?;
    let (points, tombstones) = counts(&batch);
    let (token, replayed) = if batch.is_empty() {
        let head = match &destination {
            Destination::There(handle) => handle.committer.timeline().head().await?,
            Destination::ToCome(_) => ReadToken::single(0),
        };
        (head, false)
    } else {
        let handle = destination.created(&state).await?;
        // A task of its own: a client that goes away must not stop a commit half-way.
        let committer = handle.committer.clone();
        let commit = tokio::spawn(async move {
            let outcome = committer.submit(batch, options).await;
            drop(share);
            outcome
        });
        let appended = commit.await.map_err(|error| {
            tracing::error!(%error, "a commit did not end");
            ApiError::internal()
        })?;
        let appended = appended.inspect_err(|error| {
            if matches!(error, AppendError::Deleted { .. }) {
                state.sources().forget(&id);
            }
        })?;
        (appended.token, appended.replayed)
    };
    if !replayed {
        state.metrics().upload(points, tombstones, body_bytes);
    }
    let mut response = (StatusCode::OK, [(TARN_VERSION, version_header(&token)?)]).into_response();
    if replayed {
        response.headers_mut().insert(TARN_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

async fn parse(source: Arc<DataSource>, media: MediaType, body: HeldBody) -> Result<(PointBatch, Share), ApiError> {
    // Columns never are quick: small files of them can be much work.
    let quick = matches!(media, MediaType::Json | MediaType::Ndjson);
    let parse = move |body: HeldBody| {
        let (bytes, mut share) = body.into_parts();
        let batch = match media {
            MediaType::Json => rows::json(source, &bytes),
            MediaType::Ndjson => rows::ndjson(source, &bytes),
            MediaType::ArrowStream => columnar::arrow(source, &bytes, &mut share),
            MediaType::Parquet => columnar::parquet(source, bytes.into(), &mut share),
        }?;
        // From here on the upload is its columns.
        share.set(batch.estimated_bytes());
        Ok((batch, share))
    };
    body.parse(quick, parse).await
}

fn append_options(headers: &HeaderMap) -> Result<AppendOptions, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(AppendOptions::default()) };
    match value.to_str() {
        Ok(key) if (1..=limits::IDEMPOTENCY_KEY_BYTES).contains(&key.len()) => Ok(AppendOptions::idempotent(key)),
        _ => Err(ApiError::invalid(format!(
            "Idempotency-Key must have 1 to {} visible ASCII characters",
            limits::IDEMPOTENCY_KEY_BYTES
        ))),
    }
}

fn counts(batch: &PointBatch) -> (u64, u64) {
    let tombstones = (0..batch.rows()).filter(|&row| batch.is_deleted(row)).count();
    ((batch.rows() - tombstones) as u64, tombstones as u64)
}

/// A version as a header's value.
///
/// # Errors
/// Never in practice: versions are digits and dots.
pub fn version_header(token: &ReadToken) -> Result<HeaderValue, ApiError> {
    HeaderValue::from_str(&token.to_string()).map_err(|error| {
        tracing::error!(%error, "a version cannot be a header");
        ApiError::internal()
    })
}

impl From<AppendError> for ApiError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Invalid(error) => error.into(),
            AppendError::Deleted { source_id } => source_not_found(&source_id),
            AppendError::KeyReused | AppendError::KeyExpired { .. } => Self::conflict(vec![error.to_string()]),
            AppendError::Overloaded { .. } => Self::overloaded(error.to_string(), 1),
            AppendError::Contended { .. } => {
                tracing::warn!(%error, "upload failed");
                Self::unavailable(error.to_string())
            }
            // What the store said is for the log: it may name buckets and hosts.
            AppendError::Ambiguous { .. } => {
                tracing::warn!(%error, "the outcome of an upload is unknown");
                Self::unavailable(
                    "It is not known whether the upload was written; repeat it with the same Idempotency-Key header",
                )
            }
            AppendError::NotApplied(error) => error.into(),
            AppendError::Corrupt(error) => error.into(),
            error => {
                tracing::error!(%error, "upload failed");
                Self::internal()
            }
        }
    }
}

impl From<TimelineError> for ApiError {
    fn from(error: TimelineError) -> Self {
        match error {
            TimelineError::Store(error) => error.into(),
            TimelineError::Corrupt(error) => error.into(),
            error => {
                tracing::warn!(%error, "a timeline cannot be read");
                Self::unavailable(error.to_string())
            }
        }
    }
}

fn too_many_points() -> ApiError {
    ApiError::too_large(format!("An upload takes at most {} points; send it in parts", limits::BATCH_POINTS))
}
