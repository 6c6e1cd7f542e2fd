//! The drop folder over HTTP: leave to upload a file of any size into it, and what became of the files.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use tarn_drop::{DropEntry, DropError, DropReport, DropState, PresignRequest, list_drops, upload_path};
use tarn_model::{datetime, limits};
use utoipa::ToSchema;

use crate::auth::{Caller, Resource, Scope};
use crate::auto_create::Destination;
use crate::body::MediaType;
use crate::definitions::source_id;
use crate::error::{ApiError, ErrorDto};
use crate::state::AppState;

/// Entries of a page unless the request says otherwise.
const DEFAULT_LIMIT: usize = 50;
/// Most entries of a page; each is an object to read.
const MOST: usize = 200;
/// Longest media type.
const CONTENT_TYPE_BYTES: usize = 200;

/// A file that is to be uploaded.
#[derive(Clone, Debug, PartialEq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UploadRequestDto {
    /// A name without slashes; its extension tells the format.
    pub file_name: String,
    /// The exact length in bytes, if it is known; the upload must have it then.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// The Content-Type of the upload.
    #[serde(default)]
    pub content_type: Option<String>,
}

/// Leave to upload a file.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UploadTicketDto {
    /// Always PUT.
    pub method: String,
    /// Where to put the file. A secret: whoever has it may upload.
    pub url: String,
    /// Headers that the upload must have, as they are.
    pub headers: std::collections::BTreeMap<String, String>,
    /// The object that the upload makes.
    pub key: String,
    /// When the permission ends.
    pub expires_at: String,
}

/// What became of a dropped file.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DropDto {
    /// Its name, below the data source's folder.
    pub file: String,
    /// `pending`, `running`, `committed` or `refused`.
    pub state: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was dropped (pending), read (running) or settled.
    pub changed_at: String,
    /// Points and tombstones in it, once that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// How many of them are committed.
    pub rows_committed: u64,
    /// The sequences of its deltas.
    pub sequences: Vec<u64>,
    /// Includes all of the file; for `minVersion` of a search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<DropReportDto>,
    /// Names the file's records in the bucket.
    pub identity: String,
}

/// Why a file was refused.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DropReportDto {
    /// The row at fault, from 1; a header is no row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    /// In text formats, its line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The column or property at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// What was found.
    pub message: String,
    /// What to do.
    pub action: String,
}

/// Dropped files, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DropsDto {
    /// At most `limit`.
    pub drops: Vec<DropDto>,
    /// Pass it as `after` to go on; absent when this is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Gives leave to upload a file into the drop folder.
///
/// PUT the file to `url` with exactly `headers`. It is validated and committed as a whole, soon after it has arrived; ask the drops
/// of the data source what became of it.
#[utoipa::path(post, path = "/api/v1/uploads/{name}/{version}", tag = "Points",
    params(("name" = String, Path), ("version" = String, Path)),
    request_body = UploadRequestDto,
    responses((status = 200, body = UploadTicketDto), (status = 400, body = ErrorDto), (status = 401, body = ErrorDto),
        (status = 403, body = ErrorDto), (status = 404, body = ErrorDto),
        (status = 409, description = "The store is a directory: the answer says which one to copy the file to", body = ErrorDto),
        (status = 413, body = ErrorDto), (status = 415, body = ErrorDto), (status = 429, body = ErrorDto),
        (status = 503, body = ErrorDto)))]
pub(crate) async fn create_upload(
    State(state): State<AppState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<UploadTicketDto>, ApiError> {
    let id = source_id(path)?;
    caller.require(Scope::Write, Resource::DataSource(&id))?;
    MediaType::require_json(&headers)?;
    Destination::of(&state, &id).await?;
    let body = state.read_body(body).await?;
    let request: UploadRequestDto = serde_json::from_slice(body.bytes())
        .map_err(|error| ApiError::invalid(format!("The body must be {{\"fileName\": …, \"bytes\"?: …}}: {error}")))?;
    let key = upload_path(&id, &request.file_name)?;
    if request.bytes.is_some_and(|bytes| bytes > limits::PRESIGNED_BYTES) {
        return Err(ApiError::too_large(format!(
            "One upload takes at most {} bytes; split the file, or copy it into the bucket with a tool that uploads in parts, as {}",
            limits::PRESIGNED_BYTES,
            key.render()
        )));
    }
    if let Some(content_type) = &request.content_type {
        let visible = content_type.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if content_type.is_empty() || content_type.len() > CONTENT_TYPE_BYTES || !visible {
            return Err(ApiError::invalid(format!(
                "contentType must have 1 to {CONTENT_TYPE_BYTES} visible ASCII characters"
            )));
        }
    }
    let Some(presigner) = state.presigner() else {
        let place = match state.store().local_root() {
            Some(root) => format!("copy the file to {}", root.join(key.render()).display()),
            None => "upload the points themselves with POST /api/v1/upload/{name}/{version}".to_owned(),
        };
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "noPresignedUrls",
            format!("This server's store is no bucket, and there is no URL to upload to; {place}"),
        ));
    };
    let request = PresignRequest { key, bytes: request.bytes, content_type: request.content_type };
    let signed = presigner.presign(&request).await?;
    Ok(Json(UploadTicketDto {
        method: "PUT".to_owned(),
        url: signed.url,
        headers: signed.headers.into_iter().collect(),
        key: request.key.render(),
        expires_at: instant(signed.expires_ms),
    }))
}

/// Says what became of the files that were dropped for a data source, newest first.
#[utoipa::path(get, path = "/api/v1/drops/{name}/{version}", tag = "Points", params(
        ("name" = String, Path), ("version" = String, Path),
        ("limit" = Option<u32>, Query, description = "Most entries, 50 unless given", minimum = 1, maximum = 200),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, body = DropsDto), (status = 400, body = ErrorDto), (status = 401, body = ErrorDto),
        (status = 403, body = ErrorDto), (status = 404, body = ErrorDto), (status = 429, body = ErrorDto),
        (status = 503, body = ErrorDto)))]
pub(crate) async fn drops(
    State(state): State<AppState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<DropsDto>, ApiError> {
    let id = source_id(path)?;
    caller.require(Scope::Write, Resource::DataSource(&id))?;
    let (mut limit, mut after) = (DEFAULT_LIMIT, None);
    for (name, value) in crate::query::pairs(query.as_deref()) {
        match name.as_str() {
            "limit" => match value.parse() {
                Ok(given @ 1..=MOST) => limit = given,
                _ => return Err(ApiError::invalid(format!("limit must be a number from 1 to {MOST}"))),
            },
            "after" => after = Some(value),
            _ => {}
        }
    }
    state.sources().get(&id).await?;
    let page = list_drops(state.store(), &id, limit, after.as_deref()).await?;
    let page = page.ok_or_else(|| ApiError::invalid("after must be the 'next' of the page before"))?;
    Ok(Json(DropsDto { drops: page.entries.into_iter().map(DropDto::from).collect(), next: page.next }))
}

fn instant(ms: i64) -> String {
    datetime::format(ms.saturating_mul(1_000))
}

impl From<DropEntry> for DropDto {
    fn from(entry: DropEntry) -> Self {
        let state = match entry.state {
            DropState::Pending => "pending",
            DropState::Running => "running",
            DropState::Committed => "committed",
            _ => "refused",
        };
        Self {
            file: entry.path,
            state: state.to_owned(),
            bytes: entry.bytes,
            changed_at: instant(entry.changed_ms),
            rows: entry.rows,
            rows_committed: entry.rows_committed,
            sequences: entry.sequences,
            version: entry.version.map(|version| version.to_string()),
            report: entry.report.map(DropReportDto::from),
            identity: entry.identity.to_string(),
        }
    }
}

impl From<DropReport> for DropReportDto {
    fn from(report: DropReport) -> Self {
        let DropReport { row, line, column, message, action } = report;
        Self { row, line, column, message, action }
    }
}

impl From<DropError> for ApiError {
    fn from(error: DropError) -> Self {
        match error {
            DropError::Store(error) => error.into(),
            DropError::Corrupt(error) => error.into(),
            DropError::Append(error) => error.into(),
            error => {
                tracing::error!(%error, "the drop folder failed");
                Self::unavailable("The server cannot do it now; repeat the request in a moment")
            }
        }
    }
}
