//! `tarn verify`: re-reads and checks every live object. The status tells whether the store is sound.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;
use tarn_compact::{Builder, BuilderSettings, VerifyReport};

use super::build::BuildBars;
use crate::context::{Context, Opening};
use crate::error::CliError;
use crate::output::{BAD, Cell, DIM, GOOD, Report, Table, bytes, count, counted};

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Verified(VerifyReport);

impl Report for Verified {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        let VerifyReport { objects, bytes: size, rows, orphans, problems, .. } = &self.0;
        writeln!(
            out,
            "read {}, {}; compared {}",
            counted(*objects, "object", "objects"),
            bytes(*size),
            counted(*rows, "row", "rows")
        )?;
        if *orphans > 0 {
            writeln!(
                out,
                "{DIM}{} objects are named by nothing; gc takes them when they are old enough{DIM:#}",
                count(*orphans)
            )?;
        }
        if problems.is_empty() {
            return writeln!(out, "{GOOD}the store is sound{GOOD:#}");
        }
        writeln!(out, "{BAD}{}{BAD:#}\n", counted(problems.len() as u64, "problem", "problems"))?;
        let mut table = Table::new(["OBJECT", "PROBLEM"]);
        for problem in problems {
            table.row([Cell::from(&problem.object), (&problem.message).into()]);
        }
        table.write(out)
    }
}

pub(super) async fn run(context: &Context) -> Result<ExitCode, CliError> {
    let store = context.store(Opening::Existing)?;
    let bars = Arc::new(BuildBars::new(context.out.bars()));
    let builder = Builder::new(store, BuilderSettings::default(), bars.clone())?;
    let verified = builder.verify().await;
    bars.clear();
    let report = verified?;
    let problems = report.problems.len() as u64;
    context.out.show(&Verified(report))?;
    if problems == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    CliError::new(format!("the store is not sound: {}", counted(problems, "problem", "problems")))
        .hint("docs/operations.md says what to do about each kind")
        .print();
    Ok(ExitCode::FAILURE)
}
