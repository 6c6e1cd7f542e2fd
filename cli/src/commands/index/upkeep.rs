//! `tarn index recall|warm|delete-points`: in this process, on the store directly.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use tarn_model::{Attributes, ReadToken};
use tarn_search::{Hydration, RecallRequest};
use tarn_timeline::{SweepError, SweepOptions, Swept, Timeline};

use super::super::search::engine;
use super::only;
use crate::args::{IndexDeletePointsArgs, IndexRecallArgs, IndexWarmArgs, path_of};
use crate::context::{self, Context, Opening};
use crate::error::CliError;
use crate::output::{GOOD, NAME, Report, WARN, bytes, counted, duration, fields};
use crate::value::{parse_attributes, parse_filter};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RecallReport {
    recall: f64,
    lowest: f64,
    queries: u32,
    /// False when the deadline struck before all of them were searched for.
    complete: bool,
    k: u32,
    search_seconds: f64,
    exact_seconds: f64,
    version: ReadToken,
    generation: u64,
}

impl Report for RecallReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        let each = |seconds: f64| format!("{:.3} ms", seconds * 1e3 / f64::from(self.queries.max(1)));
        let lines = [
            ("recall", format!("{:.4} @ {}", self.recall, self.k)),
            ("worst query", format!("{:.4}", self.lowest)),
            ("queries", self.queries.to_string()),
            ("a search", each(self.search_seconds)),
            ("an exact one", each(self.exact_seconds)),
        ];
        fields(out, &lines)?;
        if !self.complete {
            writeln!(out, "{WARN}the time was up before all points were searched for{WARN:#}")?;
        }
        Ok(())
    }
}

pub(super) async fn recall(context: &Context, args: IndexRecallArgs) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    let id = args.index.index();
    let (split_filter, filter, _) = only(&store, &id, &args.only).await?;
    let engine = engine(store, &args.cache, Hydration::Off)?;
    let request = RecallRequest {
        queries: args.queries,
        k: args.k,
        seed: args.seed,
        split_filter,
        filter,
        target_recall: args.target_recall,
        ef_search: args.ef_search,
        nprobe: args.nprobe,
        deadline: args.deadline.map(|deadline| deadline.0),
        ..RecallRequest::default()
    };
    let waiting = context.out.bars().waiting("measuring");
    let report = engine.recall(&id, request).await?;
    waiting.finish_and_clear();
    context.out.show(&RecallReport {
        recall: report.recall,
        lowest: report.lowest,
        queries: report.queries,
        complete: report.complete,
        k: report.k,
        search_seconds: report.searching.as_secs_f64(),
        exact_seconds: report.exact.as_secs_f64(),
        version: report.version,
        generation: report.generation,
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DeletedReport {
    deleted: u64,
    complete: bool,
    version: ReadToken,
    #[serde(skip)]
    dry_run: bool,
}

impl Report for DeletedReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        let points = counted(self.deleted, "point", "points");
        match (self.dry_run, self.complete) {
            (true, true) => writeln!(out, "{points} would be deleted"),
            (true, false) => writeln!(out, "{points} would be deleted, which is the limit; there are more"),
            (false, true) => writeln!(out, "{points} deleted"),
            (false, false) => writeln!(out, "{points} deleted, which is the limit; there are more"),
        }
    }
}

pub(super) async fn delete_points(context: &Context, args: IndexDeletePointsArgs) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    let index = context::index(&store, &args.index.index()).await?;
    let source = context::source(&store, &index.data_source).await?;
    let equal: Attributes = parse_attributes(&source, &args.equal)?;
    let filter = parse_filter(&source, args.filter.as_deref())?;
    let limit = args.limit.unwrap_or(u64::MAX);
    let mut options = SweepOptions::of_index(index, equal, filter);
    (options.dry_run, options.limit, options.cut) = (args.dry_run, limit, args.up_to);
    let waiting = context.out.bars().waiting(if args.dry_run { "counting" } else { "deleting" });
    let swept = sweep_to_the_end(&Timeline::open(store, source), options).await?;
    waiting.finish_and_clear();
    let dry_run = args.dry_run;
    context.out.show(&DeletedReport { deleted: swept.deleted, complete: swept.complete, version: swept.token, dry_run })
}

/// Goes on where writers of other processes were faster, as of the same version, until nothing is left or the limit is reached.
async fn sweep_to_the_end(timeline: &Timeline, mut options: SweepOptions) -> Result<Swept, CliError> {
    let (limit, mut deleted) = (options.limit, 0);
    loop {
        match timeline.sweep(options.clone()).await {
            Ok(swept) => {
                deleted += swept.deleted;
                if swept.complete || deleted >= limit {
                    return Ok(Swept { deleted, ..swept });
                }
                // It has come on: one that deletes nothing and does not come to the end is an error.
                (options.cut, options.position) = (Some(swept.cut), swept.position);
                options.limit = limit - deleted;
            }
            Err(error) => return Err(unswept(error, deleted, options.cut.as_ref(), options.dry_run)),
        }
    }
}

/// Why a sweep failed after so many points, and how to go on.
fn unswept(error: SweepError, before: u64, cut: Option<&ReadToken>, dry_run: bool) -> CliError {
    let error = match error {
        // Its text says what to do, and nothing was deleted.
        SweepError::Ahead { .. } => return CliError::of(&error),
        _ if dry_run => {
            return CliError::of(&error)
                .while_doing("the points could not all be counted")
                .hint("run the command again: it counts from the start, and deletes nothing");
        }
        SweepError::Unsettled { deleted, tombstones, cause } => {
            CliError::of(&SweepError::Unsettled { deleted: before + deleted, tombstones, cause })
        }
        // The last call may have deleted some of its own.
        _ if before > 0 => {
            CliError::of(&error).while_doing(format_args!("at least {} deleted", counted(before, "point", "points")))
        }
        _ => CliError::of(&error),
    };
    error.hint(match cut {
        Some(cut) => format!("run the command again with --up-to {cut} for the rest; no point is deleted twice"),
        None => "run the command again; no point is deleted twice".to_owned(),
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WarmReport {
    index: String,
    files: u64,
    bytes: u64,
    generation: u64,
    seconds: f64,
}

impl Report for WarmReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        let (files, size) = (counted(self.files, "file", "files"), bytes(self.bytes));
        let took = duration(Duration::from_secs_f64(self.seconds));
        writeln!(out, "{GOOD}ready{GOOD:#} {NAME}{}{NAME:#}: {files}, {size}, in {took}", self.index)
    }
}

pub(super) async fn warm(context: &Context, args: IndexWarmArgs) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    let clock = store.clock().clone();
    let id = args.index.index();
    context::index(&store, &id).await?;
    let engine = engine(store, &args.cache, Hydration::Off)?;
    let started = clock.monotonic();
    let waiting = context.out.bars().waiting("fetching");
    engine.warm(&id).await?;
    waiting.finish_and_clear();
    let seconds = clock.monotonic().saturating_sub(started).as_secs_f64();
    let description = engine.describe(&id, 0).await?;
    let files = description.shards.iter().map(|shard| shard.segments.len() as u64).sum();
    let index = path_of(&id.name, &id.version);
    context.out.show(&WarmReport {
        index,
        files,
        bytes: description.segment_bytes,
        generation: description.generation,
        seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_deletion_says_what_it_came_to() {
        let cut: ReadToken = "7".parse().unwrap();
        let unsettled = || SweepError::Unsettled { deleted: 10_000, tombstones: 5, cause: "no answer".to_owned() };
        for before in [0, 20] {
            let said = unswept(unsettled(), before, Some(&cut), false).to_string();
            assert!(said.starts_with(&format!("{} points were deleted", before + 10_000)), "{said}");
            assert!(!said.contains("points deleted"), "{said}");
        }
        let said = unswept(SweepError::Forgotten, 20, Some(&cut), false).to_string();
        assert!(said.starts_with("at least 20 points deleted: "), "{said}");
    }

    #[test]
    fn a_failed_count_speaks_of_no_deletion() {
        let cut: ReadToken = "7".parse().unwrap();
        let error = unswept(SweepError::Forgotten, 20, Some(&cut), true);
        assert!(error.to_string().starts_with("the points could not all be counted: the state"), "{error}");
        let whole = format!("{error:?}");
        assert!(!whole.contains("--up-to") && whole.contains("from the start, and deletes nothing"), "{whole}");
    }
}
