//! The HTTP API of ingest and management, driven through its router over a store in memory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod auth;
mod auto_create;
mod console;
mod definitions;
mod delete_by_filter;
mod drops;
mod export;
mod openapi;
mod protocol;
mod server;
mod uploads;
