//! `tarn gc`: deletes what nobody can need, or says what it would delete.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;
use tarn_compact::{Builder, BuilderSettings, CompactError, GcOptions, GcReport};

use super::build::BuildBars;
use crate::args::GcArgs;
use crate::context::{Context, Opening};
use crate::error::CliError;
use crate::output::{DIM, GOOD, Report, Table, bytes, count, counted};

/// Objects that a table shows one by one; more are summed up.
const SHOWN: usize = 40;

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Collected(GcReport);

impl Report for Collected {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        let GcReport { dry_run, objects, bytes: total, notes, .. } = &self.0;
        let verb = if *dry_run { "would delete" } else { "deleted" };
        if objects.is_empty() {
            writeln!(out, "{GOOD}nothing to delete{GOOD:#}")?;
        } else {
            let mut table = Table::new([">SIZE", "WHY", "OBJECT"]);
            for object in objects.iter().take(SHOWN) {
                table.row([bytes(object.bytes).into(), (&object.why).into(), (&object.key).into()]);
            }
            table.write(out)?;
            if objects.len() > SHOWN {
                let mut reasons: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
                for object in objects.iter().skip(SHOWN) {
                    let sum = reasons.entry(object.why.as_str()).or_default();
                    *sum = (sum.0 + 1, sum.1 + object.bytes);
                }
                for (why, (number, size)) in reasons {
                    writeln!(out, "  {DIM}… and {} more, {}: {why}{DIM:#}", count(number), bytes(size))?;
                }
            }
            writeln!(out, "\n{verb} {}, {}", counted(objects.len() as u64, "object", "objects"), bytes(*total))?;
        }
        for note in notes {
            writeln!(out, "{DIM}{note}{DIM:#}")?;
        }
        Ok(())
    }
}

pub(super) async fn run(context: &Context, args: GcArgs) -> Result<ExitCode, CliError> {
    let store = context.store(Opening::Existing)?;
    let mut options = GcOptions::default();
    options.dry_run = args.dry_run;
    options.store_is_idle = args.store_is_idle;
    if let Some(grace) = args.grace {
        options.grace = grace.0;
    }
    if let Some(retain) = args.retain {
        options.retain_generations = retain;
    }
    let bars = Arc::new(BuildBars::new(context.out.bars()));
    let builder = Builder::new(store, BuilderSettings::default(), bars.clone())?;
    let collected = builder.collect_garbage(&options).await;
    bars.clear();
    let report = collected.map_err(|error| match error {
        CompactError::GraceTooShort { .. } => CliError::of(&error)
            .hint("stop everything that uses the store and add --store-is-idle, or leave --grace out"),
        other => other.into(),
    })?;
    context.out.show(&Collected(report))?;
    Ok(ExitCode::SUCCESS)
}
