//! The OpenAPI document and a page that shows it. The page fetches nothing but the document.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use bytes::Bytes;
use utoipa::openapi::OpenApi;

use crate::state::AppState;

const PAGE: &str = include_str!("docs/page.html");

pub(crate) fn routes(document: &OpenApi) -> Router<AppState> {
    let json = document.to_json().map(Bytes::from);
    let json = json.unwrap_or_else(|error| {
        tracing::error!(%error, "the OpenAPI document cannot be written as JSON");
        Bytes::from_static(b"{}")
    });
    Router::new()
        .route(
            "/openapi.json",
            get(move || async move { ([(CONTENT_TYPE, "application/json")], json).into_response() }),
        )
        .route("/docs", get(|| async { Html(PAGE) }))
}
