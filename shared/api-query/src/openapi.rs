//! The OpenAPI document of the routes that search.

use utoipa::OpenApi;

use crate::{describe, points, recall, sample, search, statistics};

#[derive(OpenApi)]
#[openapi(paths(
    search::search,
    search::info,
    search::info_of_the_only_index,
    search::probe,
    describe::describe,
    describe::warm,
    points::points,
    recall::recall,
    sample::sample,
    sample::export,
    statistics::statistics,
))]
struct Document;

/// The document of the routes that search, with what every server has beside them.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = tarn_api::status_openapi();
    document.merge(Document::openapi());
    document
}
