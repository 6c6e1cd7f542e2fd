//! The `tarn` binary from the outside: every command against a directory, the server over HTTP, and kill -9.

mod commands;
mod demo;
mod kill;
mod serve;
mod support;
mod uploads;
