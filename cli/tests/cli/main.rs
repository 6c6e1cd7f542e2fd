//! The `tarn` binary from the outside: every command against a directory, the server over HTTP, and kill -9.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod commands;
mod demo;
mod drops;
mod kill;
mod layer_two;
mod serve;
mod support;
mod uploads;
