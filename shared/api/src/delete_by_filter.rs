//! Deleting the points that a filter is true of.
//!
//! The points are those that an index has, asked as they were when the request came; the tombstones go to its data source's timeline,
//! like any upload's. Nothing is searched: the live set is read, as an export reads it.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use tarn_model::{
    Attributes, DataSource, Filter, Index, ReadToken, VectorKind, WireSearch, WireVector, check_wire_search,
};
use tarn_store::load_index;
use tarn_timeline::{SweepError, SweepOptions};
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
    /// `version` of an answer that was not complete: goes on with it. Points that were written after it stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub version: Option<String>,
    /// Most points to delete.
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
    /// How many points; of a dry run, how many there are.
    pub deleted: u64,
    /// Whether these are all. If not, the same request with this `version` goes on.
    pub complete: bool,
    /// Points were deleted as they were then; what was written later stays.
    pub version: String,
}

/// Deletes the points of an index that a filter is true of, from its data source.
///
/// It is as if all were deleted at once, when the request began: a point that somebody writes while it runs stays. Large numbers of
/// points take several requests, each of which says whether it was the last; one that failed has deleted a part, and can be
/// repeated.
#[utoipa::path(post, path = "/api/v1/indices/{name}/{version}/delete-by-filter", tag = "Points",
    params(("name" = String, Path), ("version" = String, Path),
        ("Request-Timeout" = Option<String>, Header, description = "Seconds, such as 2.500")),
    request_body = DeleteByFilterDto,
    responses((status = 200, description = "A part is deleted, or all", body = DeletedDto,
            headers(("Tarn-Version" = String, description = "Includes the deletions; for minVersion of a search"))),
        (status = 400, body = ErrorDto), (status = 401, body = ErrorDto), (status = 403, body = ErrorDto),
        (status = 404, body = ErrorDto), (status = 413, body = ErrorDto), (status = 415, body = ErrorDto),
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
    let mut options = parse(body.bytes(), &index, &handle.source)?;
    let turn = TURN.min(timeout(&headers)? / 2);
    options.until = state.store().clock().monotonic().checked_add(turn);
    // Held until the sweep is over: each reads the whole live set, as an export does.
    let _permit = state.admit_export()?;
    let swept = handle.committer.timeline().sweep(options).await?;
    let mut headers = HeaderMap::new();
    headers.insert(TARN_VERSION, version_header(&swept.token)?);
    let version = swept.cut.to_string();
    Ok((headers, Json(DeletedDto { deleted: swept.deleted, complete: swept.complete, version })))
}

fn parse(bytes: &[u8], index: &Arc<Index>, source: &Arc<DataSource>) -> Result<SweepOptions, ApiError> {
    let (mut filter, mut split_filter, mut version, mut limit) = (None, None, None, None);
    let mut dry_run = false;
    let mut reader = Reader::new(bytes)?;
    reader.object::<JsonError>("what to delete", |r, name| {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("filter") {
            filter = optional(r, read_tree)?;
        } else if is("splitFilter") {
            split_filter = optional(r, read_attributes)?;
        } else if is("version") {
            version = optional(r, |r| match r.peek()? {
                Kind::Number => r.number("version").map(|text| text.into_owned()),
                _ => r.string("version").map(|text| text.into_owned()),
            })?;
        } else if is("limit") {
            limit = optional(r, |r| r.integer::<u64>("limit"))?;
        } else if is("dryRun") {
            dry_run = optional(r, |r| r.boolean("dryRun"))?.unwrap_or_default();
        } else {
            // A misspelled filter that is ignored would delete more than was meant.
            let name: String = name.chars().take(80).collect();
            let known = "filter, splitFilter, version, limit, dryRun";
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
    let filter = filter.map(|json| Filter::from_json(&json, source)).transpose()?;
    // Checked as that of a search with one good query vector.
    let query_vectors = vec![match source.vector_kind {
        VectorKind::Dense => WireVector::Dense(vec![0.0; source.vector_dimension as usize]),
        VectorKind::Sparse => WireVector::Sparse { coordinates: vec![0.0], indices: vec![0] },
    }];
    let search = WireSearch { split_filter: split_filter.unwrap_or_default(), query_vectors, k: 1 };
    let split_filter = check_wire_search(source, index, search)?.split_filter;
    let attributes = filter.iter().flat_map(Filter::attributes).map(str::to_owned).collect();
    let index = Arc::clone(index);
    let question = move |point: &Attributes| {
        split_filter.iter().all(|(name, value)| point.get(name) == Some(value))
            && filter.as_ref().is_none_or(|filter| filter.matches(point))
            && index.shard_of(point).is_some()
    };
    let mut options = SweepOptions::new(Arc::new(question), attributes);
    options.cut = version.map(|text| text.parse::<ReadToken>()).transpose()?;
    options.limit = limit.unwrap_or(u64::MAX);
    options.dry_run = dry_run;
    Ok(options)
}

fn optional<'a, T>(
    reader: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, JsonError>,
) -> Result<Option<T>, JsonError> {
    if reader.null()? { Ok(None) } else { read(reader).map(Some) }
}

impl From<SweepError> for ApiError {
    fn from(error: SweepError) -> Self {
        match error {
            SweepError::Read(error) => error.into(),
            SweepError::Append(error) => error.into(),
        }
    }
}
