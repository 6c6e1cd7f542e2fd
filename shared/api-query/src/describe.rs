//! What an index consists of, and getting it ready.

use axum::Json;
use axum::extract::{Extension, Path, RawQuery};
use axum::http::StatusCode;
use tarn_api::{ApiError, Caller, ErrorDto, Resource, Scope, index_id, pairs};

use crate::dto::IndexDescriptionDto;
use crate::error::to_api;
use crate::state::QueryState;

/// Splits described unless the request says otherwise.
const DEFAULT_SPLITS: usize = 100;
/// Most splits described.
const MOST_SPLITS: usize = 10_000;

/// Describes an index: generation, watermark, how far it lags, and counts and bytes per shard and split.
#[utoipa::path(get, path = "/api/v1/indices/{name}/{version}", tag = "Indices",
    params(("name" = String, Path), ("version" = String, Path),
        ("splits" = Option<u32>, Query, description = "Most splits to describe, 100 unless given", minimum = 0, maximum = 10000)),
    responses((status = 200, body = IndexDescriptionDto), (status = 400, body = ErrorDto), (status = 404, body = ErrorDto),
        (status = 429, body = ErrorDto),
        (status = 401, body = ErrorDto), (status = 403, body = ErrorDto), (status = 503, body = ErrorDto)))]
pub(crate) async fn describe(
    Extension(state): Extension<QueryState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<IndexDescriptionDto>, ApiError> {
    let id = index_id(path)?;
    caller.require(Scope::Read, Resource::Index(&id))?;
    let mut splits = DEFAULT_SPLITS;
    for (_, value) in pairs(query.as_deref()).into_iter().filter(|(name, _)| name == "splits") {
        let asked = value.parse().ok().filter(|&asked| asked <= MOST_SPLITS);
        splits = asked.ok_or_else(|| ApiError::invalid(format!("splits must be a number from 0 to {MOST_SPLITS}")))?;
    }
    let description = state.engine().describe(&id, splits).await.map_err(to_api)?;
    Ok(Json(description.into()))
}

/// Fetches and opens everything that a search of the index would need.
#[utoipa::path(post, path = "/api/v1/indices/{name}/{version}/warm", tag = "Indices",
    params(("name" = String, Path), ("version" = String, Path),
        ("Request-Timeout" = Option<String>, Header, description = "Seconds, such as 2.500")),
    responses((status = 204, description = "Ready"), (status = 400, body = ErrorDto), (status = 404, body = ErrorDto),
        (status = 429, body = ErrorDto),
        (status = 401, body = ErrorDto), (status = 403, body = ErrorDto), (status = 503, body = ErrorDto)))]
pub(crate) async fn warm(
    Extension(state): Extension<QueryState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let id = index_id(path)?;
    caller.require(Scope::Read, Resource::Index(&id))?;
    state.engine().warm(&id).await.map_err(to_api)?;
    Ok(StatusCode::NO_CONTENT)
}
