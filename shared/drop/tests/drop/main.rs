//! Tests of the drop folder, against a store in memory that fails on request.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bounds;
mod crash;
mod creates;
mod disk;
mod formats;
mod listing;
mod protocol;
mod refusals;
mod support;
mod versions;
