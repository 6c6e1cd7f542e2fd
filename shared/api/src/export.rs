//! Export: the live points of a data source as a stream, in bounded memory.

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;

use crate::auth::{Caller, Resource, Scope};
use crate::definitions::source_id;
use crate::error::{ApiError, ErrorDto};
use crate::state::AppState;

/// Streams every live point of a data source.
#[utoipa::path(get, path = "/api/v1/data-sources/{name}/{version}/export", tag = "Points",
    params(("name" = String, Path), ("version" = String, Path)),
    responses((status = 200, description = "The points", content(
            (String = "application/x-ndjson"), (Vec<u8> = "application/vnd.apache.arrow.stream"),
            (Vec<u8> = "application/vnd.apache.parquet"))),
        (status = 401, body = ErrorDto), (status = 403, body = ErrorDto), (status = 404, body = ErrorDto),
        (status = 406, body = ErrorDto), (status = 503, body = ErrorDto)))]
pub(crate) async fn export(
    State(state): State<AppState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = source_id(path)?;
    caller.require(Scope::Read, Resource::DataSource(&id))?;
    let _ = (state, headers);
    todo!()
}
