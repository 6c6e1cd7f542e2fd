//! `tarn demo`.

use std::process::ExitCode;

use crate::args::DemoArgs;
use crate::context::Context;
use crate::error::CliError;

pub(super) async fn run(context: &Context, args: DemoArgs) -> Result<ExitCode, CliError> {
    let _ = (context, args);
    Err(CliError::new("not wired up yet"))
}
