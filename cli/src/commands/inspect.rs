//! `tarn inspect …`: what the objects of a store say, read with the libraries' own readers.

mod roots;
mod rows;

use std::process::ExitCode;

use crate::args::InspectCommand;
use crate::context::Context;
use crate::error::CliError;

pub(super) async fn run(context: &Context, command: InspectCommand) -> Result<ExitCode, CliError> {
    match command {
        InspectCommand::Manifest { index, generation } => roots::manifest(context, &index.index(), generation).await,
        InspectCommand::Checkpoint { source, generation } => {
            roots::checkpoint(context, &source.source(), generation).await
        }
        InspectCommand::Timeline { source, last } => rows::timeline(context, &source.source(), last).await,
        InspectCommand::Delta { source, sequence, rows } => {
            rows::delta(context, &source.source(), sequence, rows).await
        }
        InspectCommand::Segment { index, id, rows } => rows::segment(context, &index.index(), id, rows).await,
    }?;
    Ok(ExitCode::SUCCESS)
}
