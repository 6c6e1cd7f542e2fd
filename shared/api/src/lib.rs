//! DTOs, authentication and the axum routers for ingest and management.
