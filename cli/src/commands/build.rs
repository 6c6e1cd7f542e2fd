//! `tarn build`: folds every timeline and builds every index, with progress.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;
use std::sync::Mutex;
use tarn_compact::{
    BuildOutcome, Builder, BuilderSettings, CompactError, FoldOutcome, Progress, RunItem, Stage, Status,
};
use tarn_store::Store;

use crate::args::{BuildArgs, BuilderArgs, path_of};
use crate::context::{self, Context, Opening};
use crate::error::CliError;
use crate::output::{BAD, Bars, Cell, DIM, GOOD, NAME, Report, Table, count, duration};

/// Builder settings from arguments.
pub(super) fn settings(args: &BuilderArgs, threads: Option<usize>) -> BuilderSettings {
    let mut settings = BuilderSettings::default();
    if let Some(limit) = args.memory_limit {
        settings.memory_limit_bytes = limit.0;
    }
    if let Some(kind) = args.approximate_index {
        settings.approximate_index = kind;
    }
    if let Some(rows) = args.cells_threshold {
        settings.cells_threshold_rows = rows;
    }
    if let Some(rows) = args.graph_threshold {
        settings.graph_threshold_rows = rows;
    }
    if let Some(threads) = threads {
        settings.threads = threads;
    }
    settings.temp_dir.clone_from(&args.temp_dir);
    settings.cache_dir.clone_from(&args.builder_cache_dir);
    settings.retention = !args.no_retention;
    settings
}

/// A bar per step that is under way. A new step of a subject replaces the one before.
pub(super) struct BuildBars {
    bars: Bars,
    steps: Mutex<BTreeMap<String, (Stage, ProgressBar)>>,
}

impl BuildBars {
    pub(super) fn new(bars: Bars) -> Self {
        Self { bars, steps: Mutex::default() }
    }

    pub(super) fn clear(&self) {
        self.bars.clear();
    }
}

/// A command that fails half way leaves no bars above its error either.
impl Drop for BuildBars {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Progress for BuildBars {
    fn update(&self, subject: &str, stage: Stage, done: u64, total: u64) {
        // A poisoned lock means that another thread panicked while it drew; drawing goes on.
        let mut steps = self.steps.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let fresh = steps.get(subject).is_none_or(|(current, _)| *current != stage);
        if fresh {
            let bar = self.bars.items(&stage.to_string(), total.max(1));
            bar.set_message(subject.to_owned());
            if let Some((_, old)) = steps.insert(subject.to_owned(), (stage, bar)) {
                old.finish_and_clear();
            }
        }
        if let Some((_, bar)) = steps.get(subject) {
            bar.set_length(total.max(1));
            bar.set_position(done);
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BuildReport {
    steps: Vec<Step>,
    failures: usize,
    seconds: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    step: &'static str,
    name: String,
    /// Absent when the step failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    generation: u64,
    rows: u64,
    /// Files or segments.
    written: u64,
    carried: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Step {
    fn fold(name: String, outcome: Result<FoldOutcome, CompactError>) -> Self {
        match outcome {
            Ok(outcome) => Self {
                step: "fold",
                name,
                status: Some(outcome.status),
                generation: outcome.generation,
                rows: outcome.rows,
                written: outcome.files_written,
                carried: outcome.files_carried,
                error: None,
            },
            Err(error) => Self::failed("fold", name, &error),
        }
    }

    fn build(name: String, outcome: Result<BuildOutcome, CompactError>) -> Self {
        match outcome {
            Ok(outcome) => Self {
                step: "index",
                name,
                status: Some(outcome.status),
                generation: outcome.generation,
                rows: outcome.rows,
                written: outcome.segments_written,
                carried: outcome.segments_carried,
                error: None,
            },
            Err(error) => Self::failed("index", name, &error),
        }
    }

    fn failed(step: &'static str, name: String, error: &CompactError) -> Self {
        let error = Some(CliError::of(error).to_string());
        Self { step, name, status: None, generation: 0, rows: 0, written: 0, carried: 0, error }
    }
}

impl Report for BuildReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        if self.steps.is_empty() {
            return writeln!(out, "nothing to build: the store has no data sources");
        }
        let mut table = Table::new(["STEP", "NAME", "STATUS", ">GENERATION", ">POINTS", ">WRITTEN", ">CARRIED OVER"]);
        for step in &self.steps {
            let status = match step.status {
                Some(Status::Published) => Cell::styled("published", GOOD),
                Some(Status::UpToDate) => Cell::styled("up to date", DIM),
                Some(Status::LostRace) => Cell::styled("another builder was first", DIM),
                None => Cell::styled("failed", BAD),
            };
            table.row([
                step.step.into(),
                Cell::styled(&step.name, NAME),
                status,
                step.generation.to_string().into(),
                count(step.rows).into(),
                count(step.written).into(),
                count(step.carried).into(),
            ]);
        }
        table.write(out)?;
        writeln!(out, "\n{DIM}{}{DIM:#}", duration(Duration::from_secs_f64(self.seconds)))
    }
}

pub(super) async fn run(context: &Context, args: BuildArgs) -> Result<ExitCode, CliError> {
    let store = context.store(Opening::Existing)?;
    let clock = store.clock().clone();
    let started = clock.monotonic();
    let bars = Arc::new(BuildBars::new(context.out.bars()));
    let builder = Builder::new(store.clone(), settings(&args.builder, args.threads), bars.clone())?;
    let steps = match args.index {
        Some(index) => one(&store, &builder, &index.index()).await?,
        None => {
            let summary = builder.run().await?;
            summary.items.into_iter().filter_map(step).collect()
        }
    };
    bars.clear();
    let failures = steps.iter().filter(|step| step.error.is_some()).count();
    let seconds = clock.monotonic().saturating_sub(started).as_secs_f64();
    let report = BuildReport { steps, failures, seconds };
    context.out.show(&report)?;
    for step in &report.steps {
        if let Some(error) = &step.error {
            CliError::new(error.clone()).while_doing(format_args!("{} {}", step.step, step.name)).print();
        }
    }
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `None` for a kind of item that this version does not know.
fn step(item: RunItem) -> Option<Step> {
    Some(match item {
        RunItem::Fold(id, outcome) => Step::fold(path_of(&id.name, &id.version), outcome),
        RunItem::Build(id, outcome) => Step::build(path_of(&id.name, &id.version), outcome),
        _ => return None,
    })
}

async fn one(store: &Store, builder: &Builder, id: &tarn_model::IndexId) -> Result<Vec<Step>, CliError> {
    let index = context::index(store, id).await?;
    let source = &index.data_source;
    let fold = Step::fold(path_of(&source.name, &source.version), builder.fold(source).await);
    if fold.error.is_some() {
        return Ok(vec![fold]);
    }
    Ok(vec![fold, Step::build(path_of(&id.name, &id.version), builder.build(id).await)])
}
