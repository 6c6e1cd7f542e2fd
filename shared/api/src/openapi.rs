//! The OpenAPI document, generated from the handlers.

use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::{definitions, delete_by_filter, drops, export, status, upload};

#[derive(OpenApi)]
#[openapi(paths(
    upload::upload,
    drops::create_upload,
    drops::drops,
    definitions::list_data_sources,
    definitions::put_data_source,
    definitions::describe_data_source,
    definitions::delete_data_source,
    export::export,
    definitions::list_indices,
    definitions::put_index,
    definitions::delete_index,
    delete_by_filter::delete_by_filter,
))]
struct Document;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tarn",
        description = "Vector search with nothing running. Layer 1 is wire-compatible with Vektonn 0.7; layer 2 extends it.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(status::ping, status::version, status::healthz, status::readyz, status::metrics),
    modifiers(&Security),
    security((), ("bearer" = []), ("apiKey" = []))
)]
struct StatusDocument;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key")).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        components.add_security_scheme("apiKey", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-Api-Key"))));
    }
}

/// The document of ingest and management, with what every server has beside them.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = status_openapi();
    document.merge(Document::openapi());
    document
}

/// The document of what every server has: health, version, metrics, and how to show a key.
pub fn status_openapi() -> utoipa::openapi::OpenApi {
    StatusDocument::openapi()
}
