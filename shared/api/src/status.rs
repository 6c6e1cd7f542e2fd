//! Is it alive, is it ready, what is it, what has it done.

use std::fmt::Write;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::{Caller, KeysSeen, Resource, Scope};
use crate::error::{ApiError, ErrorDto};
use crate::state::AppState;

/// Age up to which the object store is believed to answer: the question costs a listing, and everybody may ask it.
const READY: Duration = Duration::from_secs(1);

/// The answer to a ping. Its property begins with a capital, as Vektonn's does.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PingDto {
    /// Always `Ok`.
    #[serde(rename = "Status")]
    pub(crate) status: &'static str,
}

/// The version of the server.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionDto {
    /// The commit that the server was built from.
    #[serde(rename = "CommitHash")]
    pub(crate) commit_hash: String,
    /// The version of the release.
    #[serde(rename = "Version")]
    pub(crate) version: &'static str,
}

/// Says that the server answers.
#[utoipa::path(get, path = "/_status/ping", tag = "Status", security(()), responses((status = 200, body = PingDto)))]
pub(crate) async fn ping() -> Json<PingDto> {
    Json(PingDto { status: "Ok" })
}

/// Says which build the server is.
#[utoipa::path(get, path = "/_status/version", tag = "Status", security(()), responses((status = 200, body = VersionDto)))]
pub(crate) async fn version(State(state): State<AppState>) -> Json<VersionDto> {
    let commit_hash = state.settings().commit_hash.clone();
    Json(VersionDto { commit_hash, version: env!("CARGO_PKG_VERSION") })
}

/// Says that the process lives. Asks nothing else.
#[utoipa::path(get, path = "/healthz", tag = "Status", security(()), responses((status = 200, body = PingDto)))]
pub(crate) async fn healthz() -> Json<PingDto> {
    Json(PingDto { status: "Ok" })
}

/// Says whether the server can serve: whether its object store answers.
#[utoipa::path(get, path = "/readyz", tag = "Status", security(()),
    responses((status = 200, body = PingDto), (status = 503, body = ErrorDto)))]
pub(crate) async fn readyz(State(state): State<AppState>) -> Result<Json<PingDto>, ApiError> {
    let now = state.store().clock().monotonic();
    let fresh = |answered: Duration| now.saturating_sub(answered) < READY;
    if !state.ready().lock().is_some_and(fresh) {
        let seen = KeysSeen::look(state.store()).await.map_err(|error| {
            tracing::warn!(%error, "not ready");
            ApiError::unavailable("The object store does not answer; ask again in a moment")
        })?;
        state.learn_keys(seen);
        *state.ready().lock() = Some(now);
    }
    Ok(Json(PingDto { status: "Ok" }))
}

/// The counters of this process, in Prometheus' text format. Needs the grant `read:*`.
#[utoipa::path(get, path = "/metrics", tag = "Status",
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = 429, body = ErrorDto), (status = 503, body = ErrorDto), (status = 401, body = ErrorDto), (status = 403, body = ErrorDto)))]
pub(crate) async fn metrics(State(state): State<AppState>, caller: Caller) -> Result<Response, ApiError> {
    caller.require(Scope::Read, Resource::Server)?;
    let mut text = state.metrics().render();
    if let Some(counts) = state.requests().map(tarn_store::Requests::counts) {
        text.push_str("# HELP tarn_store_requests_total Requests to the object store.\n# TYPE tarn_store_requests_total counter\n");
        for (kind, count) in [
            ("get", counts.gets),
            ("head", counts.heads),
            ("put", counts.puts),
            ("list", counts.lists),
            ("delete", counts.deletes),
        ] {
            let _ = writeln!(text, "tarn_store_requests_total{{kind=\"{kind}\"}} {count}");
        }
        text.push_str("# HELP tarn_store_bytes_total Bytes to and from the object store.\n# TYPE tarn_store_bytes_total counter\n");
        for (direction, bytes) in [("read", counts.bytes_read), ("written", counts.bytes_written)] {
            let _ = writeln!(text, "tarn_store_bytes_total{{direction=\"{direction}\"}} {bytes}");
        }
    }
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
