//! The HTTP API: bodies, authentication, and the axum routes of ingest and management.
//!
//! Owns the wire: what bodies look like, which status and which message a fault gets, who may do what. It decides nothing
//! about points: the model validates them, the timeline commits them. Handlers exist once; `tarn serve` and the upload
//! function run the same router.
//!
//! Does not search, and does not link what searches: the routes that do are in `tarn-api-query`, which joins its routes to
//! [`ingest_routes`] with [`finish`].

mod auth;
mod auto_create;
mod body;
mod console;
mod definitions;
mod delete_by_filter;
mod docs;
mod drops;
mod dto;
mod error;
mod export;
pub mod gateway;
mod metrics;
mod middleware;
mod openapi;
mod query;
mod router;
mod settings;
mod sources;
mod state;
mod status;
mod upload;

pub use auth::{
    AuthMode, Caller, Grant, KeyRecord, KeySummary, KeysSeen, NewKey, Pattern, Resource, Scope, auth_required,
    create_key, list_keys, revoke_key,
};
pub use body::{HeldBody, MediaType};
pub use definitions::{
    CheckpointDto, DataSourceDescriptionDto, DataSourceDto, DataSourcesDto, IndexDto, IndicesDto,
    auto_create_definition, index_id, index_not_found,
};
pub use delete_by_filter::{DeleteByFilterDto, DeletedDto};
pub use drops::{DropDto, DropReportDto, DropsDto, UploadRequestDto, UploadTicketDto};
pub use dto::{
    AttributeDto, AttributeValueDto, AutoCreateDto, AutoIndexDto, DataSourceDefinitionDto, FileDto, IndexAlgorithmDto,
    IndexDefinitionDto, InputDataPointDto, NameVersionDto, RetentionDto, ShardConditionDto, ShardDto, SharderDto,
    SubscriptionDto, VectorDto,
};
pub use error::{ApiError, ErrorDto};
pub use export::{ExportFormat, Piece, Streaming, file_of_points, points_as_uploaded, wants_stream};
pub use metrics::{Counter, Metrics, Series};
pub use middleware::timeout as request_timeout;
pub use openapi::{openapi, status_openapi};
pub use query::pairs;
pub use router::{finish, ingest_router, ingest_routes, protected};
pub use settings::ApiSettings;
pub use state::{AppState, counted};
/// JSON in and out.
pub use tarn_rows::json;
pub use upload::{TARN_VERSION, version_header};
