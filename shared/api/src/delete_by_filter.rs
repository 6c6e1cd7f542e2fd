//! Deleting the points that a filter is true of.
//!
//! The points are those that an index has, asked as they were when the request came; the tombstones go to its data source's timeline,
//! like any upload's. Nothing is searched: the live set is read, as an export reads it.
//!
//! A request that does not come to the end says where it ended (`next`): the moment that it is about, the place, and a digest of what it
//! asked for, so that nobody goes on with another question.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tarn_model::{DataSource, Filter, Index, ReadToken, check_wire_split_filter};
use tarn_store::load_index;
use tarn_timeline::{AppendError, SweepError, SweepOptions, SweepPosition};
use utoipa::ToSchema;

use crate::auth::{Caller, Resource, Scope};
use crate::body::MediaType;
use crate::definitions::{index_id, index_not_found};
use crate::dto::AttributeDto;
use crate::error::{ApiError, ErrorDto};
use crate::json::{JsonError, Kind, Reader, read_attributes, read_tree};
use crate::middleware::timeout;
use crate::state::AppState;
use crate::upload::{TARN_VERSION, version_header};

/// How long one request goes on deleting, when it may take longer than this.
const TURN: Duration = Duration::from_secs(20);

/// What to delete.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteByFilterDto {
    /// As of a search. This or `splitFilter` must be there; `{}` is true of every point.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub filter: Option<serde_json::Value>,
    /// As of a search.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub split_filter: Option<Vec<AttributeDto>>,
    /// Of an earlier upload or answer: points that were written after it stay. Absent: now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub version: Option<String>,
    /// `next` of the answer to the same request, which was not complete: goes on where it ended, as of the same version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub next: Option<String>,
    /// Most points to delete in this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1)]
    pub limit: Option<u64>,
    /// Counts the points and deletes none.
    pub dry_run: bool,
}

/// What was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeletedDto {
    /// How many points; of a dry run, how many there are. Of a request that goes on: those that the ones before have not counted.
    pub deleted: u64,
    /// Whether that was the end. If not, the same request with this `next` goes on.
    pub complete: bool,
    /// Points were deleted as they were then; what was written later stays.
    pub version: String,
    /// Where it ended; absent when it is complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub next: Option<String>,
}

/// Deletes the points of an index that a filter is true of, from its data source.
///
/// It is as if all were deleted at once, when the request began: a point that somebody writes while it runs stays. Large numbers of
/// points take several requests, each of which says whether it was the last and where the next one goes on; one that failed has
/// deleted a part, and can be repeated.
#[utoipa::path(post, path = "/api/v1/indices/{name}/{version}/delete-by-filter", tag = "Points",
    params(("name" = String, Path), ("version" = String, Path),
        ("Request-Timeout" = Option<String>, Header, description = "Seconds, such as 2.500")),
    request_body = DeleteByFilterDto,
    responses((status = 200, description = "A part is deleted, or all", body = DeletedDto,
            headers(("Tarn-Version" = String, description = "Includes the deletions; for minVersion of a search"))),
        (status = 400, body = ErrorDto), (status = 401, body = ErrorDto), (status = 403, body = ErrorDto),
        (status = 404, body = ErrorDto),
        (status = 409, description = "`version` is ahead; or a dry run cannot go on", body = ErrorDto),
        (status = 413, body = ErrorDto), (status = 415, body = ErrorDto),
        (status = 429, body = ErrorDto), (status = 503, body = ErrorDto)))]
pub(crate) async fn delete_by_filter(
    State(state): State<AppState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<(HeaderMap, Json<DeletedDto>), ApiError> {
    let id = index_id(path)?;
    // The count tells of what is there.
    caller.require(Scope::Read, Resource::Index(&id))?;
    MediaType::require_json(&headers)?;
    let index = load_index(state.store(), &id).await?.ok_or_else(|| index_not_found(&id))?;
    caller.require(Scope::Write, Resource::DataSource(&index.data_source))?;
    let handle = state.sources().get(&index.data_source).await?;
    let body = state.read_body(body).await?;
    let Asked { mut options, digest } = parse(body.bytes(), &index, &handle.source)?;
    let turn = TURN.min(timeout(&headers)? / 2);
    options.until = state.store().clock().monotonic().checked_add(turn);
    // Held until the sweep is over: each reads the whole live set, as an export does.
    let _permit = state.admit_reading()?;
    let swept = handle.committer.timeline().sweep(options).await?;
    let mut headers = HeaderMap::new();
    headers.insert(TARN_VERSION, version_header(&swept.token)?);
    let next = swept.position.map(|position| format!("{}-{position}-{digest}", swept.cut));
    let version = swept.cut.to_string();
    Ok((headers, Json(DeletedDto { deleted: swept.deleted, complete: swept.complete, version, next })))
}

/// A request's body.
struct Asked {
    options: SweepOptions,
    /// Of everything that a request and the one that goes on with it have in common.
    digest: String,
}

fn parse(bytes: &[u8], index: &Arc<Index>, source: &Arc<DataSource>) -> Result<Asked, ApiError> {
    let (mut filter, mut split_filter, mut version, mut next, mut limit) = (None, None, None, None, None);
    let mut dry_run = false;
    let mut reader = Reader::new(bytes)?;
    reader.object::<JsonError>("what to delete", |r, name| {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("filter") {
            filter = r.optional(read_tree)?;
        } else if is("splitFilter") {
            split_filter = r.optional(read_attributes)?;
        } else if is("version") {
            version = r.optional(|r| match r.peek()? {
                Kind::Number => r.number("version").map(|text| text.into_owned()),
                _ => r.string("version").map(|text| text.into_owned()),
            })?;
        } else if is("next") {
            next = r.optional(|r| r.string("next").map(|text| text.into_owned()))?;
        } else if is("limit") {
            limit = r.optional(|r| r.integer::<u64>("limit"))?;
        } else if is("dryRun") {
            dry_run = r.optional(|r| r.boolean("dryRun"))?.unwrap_or_default();
        } else {
            // A misspelled filter that is ignored would delete more than was meant.
            let name: String = name.chars().take(80).collect();
            let known = "filter, splitFilter, version, next, limit, dryRun";
            return Err(r.error(format!("'{name}' is not a property here; the properties are {known}")));
        }
        Ok(())
    })?;
    reader.end()?;
    if filter.is_none() && split_filter.as_ref().is_none_or(Vec::is_empty) {
        return Err(ApiError::invalid(
            "filter or splitFilter must say which points to delete; the filter {} is true of every point",
        ));
    }
    if limit == Some(0) {
        return Err(ApiError::invalid("limit must be at least 1"));
    }
    if next.is_some() && version.is_some() {
        return Err(ApiError::invalid("next says as of which version it goes on; leave version out"));
    }
    let filter_text = filter.as_ref().map(serde_json::Value::to_string);
    let filter = filter.map(|json| Filter::from_json(&json, source)).transpose()?;
    let split_filter = check_wire_split_filter(source, index, &split_filter.unwrap_or_default())?;
    let digest = digest(&format!("{} {split_filter:?} {filter_text:?} {dry_run}", index.id));
    let mut options = SweepOptions::of_index(Arc::clone(index), split_filter, filter);
    options.cut = version.map(|text| text.parse::<ReadToken>()).transpose()?;
    if let Some(next) = next {
        let (cut, position) = place(&next, &digest).ok_or_else(|| {
            ApiError::invalid("next must be that of the answer to the same request, with the same filters and dryRun")
        })?;
        (options.cut, options.position) = (Some(cut), Some(position));
    }
    options.limit = limit.unwrap_or(u64::MAX);
    options.dry_run = dry_run;
    Ok(Asked { options, digest })
}

fn digest(of: &str) -> String {
    Sha256::digest(of.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// What `next` says: as of when, and where to go on. `None` if it is not of a request with this digest.
fn place(next: &str, digest: &str) -> Option<(ReadToken, SweepPosition)> {
    let (rest, of) = next.rsplit_once('-')?;
    let (cut, position) = rest.split_once('-')?;
    (of == digest).then_some((cut.parse().ok()?, position.parse().ok()?))
}

impl From<SweepError> for ApiError {
    fn from(error: SweepError) -> Self {
        match error {
            SweepError::Read(error) => error.into(),
            // An upload's text would say to repeat it with an idempotency key.
            SweepError::Append(AppendError::Ambiguous { .. }) | SweepError::Unsettled { .. } => {
                tracing::warn!(%error, "the outcome of a deletion is unknown");
                Self::unavailable(
                    "It is not known whether the last points were deleted, so not how many are; repeat the request: what is gone \
                     already is neither deleted nor counted again",
                )
            }
            SweepError::Append(error) => error.into(),
            error @ (SweepError::Ahead { .. } | SweepError::Forgotten) => Self::conflict(vec![error.to_string()]),
        }
    }
}
