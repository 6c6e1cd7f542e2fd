//! Vector search with nothing running: the command line and the embedded server.
//!
//! `args` parses what was typed, `commands` does it against a store, `output` prints it. Everything about points, indices
//! and the wire lives in the libraries; this crate holds no rule of theirs.

mod args;
mod commands;
mod context;
mod error;
mod output;
mod value;
mod vektonn;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match commands::run(args::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            error.print();
            ExitCode::FAILURE
        }
    }
}
