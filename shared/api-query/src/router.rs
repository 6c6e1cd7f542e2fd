//! Routers from routes.

use axum::Router;
use axum::extract::Extension;
use axum::routing::{get, post};
use tarn_api::{AppState, finish, ingest_routes, protected};

use crate::state::QueryState;
use crate::{describe, points, recall, sample, search, statistics};

/// Search alone: what the search function runs.
pub fn query_router(state: QueryState) -> Router {
    let app = state.app().clone();
    finish(query_routes(state), app, &crate::openapi())
}

/// Everything: ingest, management and search in one process.
pub fn serve_router(state: QueryState) -> Router {
    let app = state.app().clone();
    let mut document = tarn_api::openapi();
    document.merge(crate::openapi());
    finish(ingest_routes(&app).merge(query_routes(state)), app, &document)
}

fn query_routes(state: QueryState) -> Router<AppState> {
    let routes = Router::new()
        .route("/api/v1/search/{name}/{version}", post(search::search).get(search::search))
        .route("/api/v1/info", get(search::info_of_the_only_index))
        .route("/api/v1/info/{name}/{version}", get(search::info))
        .route("/api/v1/probe/{name}/{version}", get(search::probe))
        .route("/api/v1/indices/{name}/{version}", get(describe::describe))
        .route("/api/v1/indices/{name}/{version}/points", get(points::points))
        .route("/api/v1/indices/{name}/{version}/export", get(sample::export))
        .route("/api/v1/indices/{name}/{version}/recall", post(recall::recall))
        .route("/api/v1/indices/{name}/{version}/sample", post(sample::sample))
        .route("/api/v1/indices/{name}/{version}/statistics", get(statistics::statistics))
        .route("/api/v1/indices/{name}/{version}/warm", post(describe::warm));
    let app = state.app().clone();
    protected(routes.layer(Extension(state)), &app)
}
