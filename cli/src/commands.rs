//! One module per command. Each opens what it needs, calls the libraries, and shows one report.

mod build;
mod demo;
mod drops;
mod export;
mod gc;
mod import_config;
mod index;
mod inspect;
mod keys;
mod search;
mod serve;
mod source;
mod upload;
mod verify;

use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};

use crate::args::{Cli, Command};
use crate::context::Context;
use crate::error::CliError;

/// Runs a command to its end.
///
/// # Errors
/// Whatever the user must be told; it has not been printed yet.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, CliError> {
    let context = Context::new(&cli.global);
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => serve::run(&context, args).await,
            Command::Demo(args) => demo::run(&context, args).await,
            Command::Source(command) => source::run(&context, command).await,
            Command::Index(command) => index::run(&context, command).await,
            Command::ImportConfig(args) => import_config::run(&context, args).await,
            Command::Upload(args) => upload::run(&context, args).await,
            Command::Drops(args) => drops::run(&context, args).await,
            Command::Search(args) => search::run(&context, args).await,
            Command::Build(args) => build::run(&context, args).await,
            Command::Gc(args) => gc::run(&context, args).await,
            Command::Inspect(command) => inspect::run(&context, command).await,
            Command::Verify(_) => verify::run(&context).await,
            Command::Keys(command) => keys::run(&context, command).await,
        }
    });
    // Blocking reads of standard input cannot be cancelled; nothing else is left to wait for, least of all after a failure.
    runtime.shutdown_background();
    outcome
}

fn runtime() -> Result<Runtime, CliError> {
    Builder::new_multi_thread()
        .enable_all()
        .thread_name("tarn")
        .build()
        .map_err(|error| CliError::of(&error).while_doing("cannot start threads"))
}
