//! Routers from routes: the layers that every deployment wants, once.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{from_fn_with_state, map_request};
use axum::routing::{get, post, put};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::decompression::RequestDecompressionLayer;
use utoipa::openapi::OpenApi;

use crate::auth::authenticate;
use crate::middleware::observe;
use crate::state::AppState;
use crate::{console, definitions, delete_by_filter, docs, drops, export, status, upload};

/// The routes of ingest and management, and the console, without layers, to be joined with others.
pub fn ingest_routes(state: &AppState) -> Router<AppState> {
    let routes = Router::new()
        .route("/api/v1/upload/{name}/{version}", post(upload::upload))
        .route("/api/v1/uploads/{name}/{version}", post(drops::create_upload))
        .route("/api/v1/drops/{name}/{version}", get(drops::drops))
        .route("/api/v1/data-sources", get(definitions::list_data_sources))
        .route(
            "/api/v1/data-sources/{name}/{version}",
            put(definitions::put_data_source)
                .get(definitions::describe_data_source)
                .delete(definitions::delete_data_source),
        )
        .route("/api/v1/data-sources/{name}/{version}/export", get(export::export))
        .route("/api/v1/indices", get(definitions::list_indices))
        .route("/api/v1/indices/{name}/{version}", put(definitions::put_index).delete(definitions::delete_index))
        .route("/api/v1/indices/{name}/{version}/delete-by-filter", post(delete_by_filter::delete_by_filter));
    protected(routes, state).merge(console::routes())
}

/// Demands a caller, known to the handlers as [`crate::Caller`], for every route that was added so far.
pub fn protected(routes: Router<AppState>, state: &AppState) -> Router<AppState> {
    routes.route_layer(from_fn_with_state(state.clone(), authenticate))
}

/// Makes a router of routes: adds health, metrics and documentation, and the layers around them all.
pub fn finish(routes: Router<AppState>, state: AppState, document: &OpenApi) -> Router {
    let metrics = protected(Router::new().route("/metrics", get(status::metrics)), &state);
    // What is small costs more than it saves; Arrow and Parquet are compressed by themselves.
    let worth_compressing = SizeAbove::new(1024).and(NotForContentType::const_new("application/vnd.apache"));
    routes
        .merge(metrics)
        .merge(docs::routes(document))
        .route("/_status/ping", get(status::ping))
        .route("/_status/version", get(status::version))
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(map_request(|request: Request<_>| async { request.map(Body::new) }))
        .layer(RequestDecompressionLayer::new())
        .layer(from_fn_with_state(state.clone(), observe))
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(worth_compressing))
        .with_state(state)
}

/// Ingest and management alone: what the upload function runs.
pub fn ingest_router(state: AppState) -> Router {
    finish(ingest_routes(&state), state.clone(), &crate::openapi())
}
