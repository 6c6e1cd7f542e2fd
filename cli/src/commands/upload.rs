//! `tarn upload`: points from files into a timeline, batch by batch, in bounded memory.
//!
//! A thread reads and validates while the previous batch is being committed. Each batch is one atomic commit; what was
//! committed before a failure stays, and the error says how far it got.

mod columns;
mod rows;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tarn_model::{DataSource, ReadToken, VectorKind, limits};
use tarn_rows::RowNames;
use tarn_timeline::{AppendOptions, ColumnMapping, PointBatch, Timeline};
use tokio::sync::mpsc;

use self::columns::Columns;
use self::rows::Rows;
use crate::args::{UploadArgs, UploadFormat, path_of};
use crate::context::{self, Context, Opening};
use crate::error::CliError;
use crate::output::{GOOD, NAME, Report, count, counted, duration};

/// What a batch should hold in memory, at most, unless --batch says otherwise.
const BATCH_BYTES: u64 = 64 * 1024 * 1024;
/// Batches that are read ahead of the one being committed.
const READ_AHEAD: usize = 1;

/// Validated points, and how many bytes of their file have been read.
struct Batch {
    points: PointBatch,
    position: u64,
}

/// Where a reading thread puts its batches.
struct Sink(mpsc::Sender<Batch>);

impl Sink {
    /// False when the committing side has ended; the reader then just stops.
    fn send(&self, batch: Batch) -> bool {
        self.0.blocking_send(batch).is_ok()
    }
}

/// What is the same for all files of an upload.
#[derive(Clone, Debug)]
struct Plan {
    source: Arc<DataSource>,
    mapping: ColumnMapping,
    names: RowNames,
    rows: usize,
    format: Option<UploadFormat>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UploadReport {
    data_source: String,
    points: u64,
    deletions: u64,
    batches: u64,
    /// Batches that an earlier run had committed under the same idempotency key.
    replayed: u64,
    /// The version that includes everything: pass it as `--min-version` or `minVersion`.
    version: ReadToken,
    seconds: f64,
}

impl Report for UploadReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        write!(out, "{GOOD}uploaded{GOOD:#} {}", counted(self.points, "point", "points"))?;
        if self.deletions > 0 {
            write!(out, " and {}", counted(self.deletions, "deletion", "deletions"))?;
        }
        writeln!(
            out,
            " to {NAME}{}{NAME:#} in {}: {}, version {}",
            self.data_source,
            duration(Duration::from_secs_f64(self.seconds)),
            counted(self.batches, "batch", "batches"),
            self.version
        )?;
        if self.replayed > 0 {
            writeln!(
                out,
                "{} of the batches were there already, under the same idempotency key",
                count(self.replayed)
            )?;
        }
        Ok(())
    }
}

pub(super) async fn run(context: &Context, args: UploadArgs) -> Result<ExitCode, CliError> {
    let store = context.store(Opening::Existing)?;
    let source = context::source_of_upload(&store, &args.to.source()).await?;
    let plan = plan(&args, source.clone())?;
    let started = store.clock().monotonic();
    let mut report = UploadReport {
        data_source: path_of(&source.id.name, &source.id.version),
        points: 0,
        deletions: 0,
        batches: 0,
        replayed: 0,
        version: ReadToken::default(),
        seconds: 0.0,
    };
    let timeline = Timeline::open(store.clone(), source);
    for (number, path) in args.files.iter().enumerate() {
        let key = args.idempotency_key.as_ref().map(|key| format!("{key}/{number}"));
        let uploaded = upload_file(context, &timeline, &plan, path, key, &mut report).await;
        uploaded.map_err(|error| {
            let error = error.while_doing(path.display());
            if report.batches == 0 {
                return error;
            }
            let rows = report.points + report.deletions;
            error.hint(format!("the {} rows before it are committed; upload again, it replaces them", count(rows)))
        })?;
    }
    report.seconds = store.clock().monotonic().saturating_sub(started).as_secs_f64();
    context.out.show(&report)?;
    Ok(ExitCode::SUCCESS)
}

fn plan(args: &UploadArgs, source: Arc<DataSource>) -> Result<Plan, CliError> {
    let mut mapping = ColumnMapping::default();
    for pair in &args.map {
        if !source.attribute_types.contains_key(&pair.key) {
            let known = source.attribute_types.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(CliError::new(format!("--map names an attribute that does not exist: '{}'", pair.key))
                .hint(format!("the attributes are {known}")));
        }
        mapping.attributes.insert(pair.key.clone(), pair.value.clone());
    }
    // Files often hold more than a data source wants.
    mapping.ignore_unknown = true;
    mapping.deleted.clone_from(&args.deleted_column);
    if source.vector_kind == VectorKind::Dense {
        mapping.vector.clone_from(&args.vector_column);
    }
    let mut names = RowNames::of(&source);
    for (key, column) in &mapping.attributes {
        names.rename(key, column);
    }
    if let Some(column) = &args.vector_column {
        names.vector.clone_from(column);
    }
    if let Some(column) = &args.deleted_column {
        names.mark_deleted_by(column);
    }
    let most = limits::BATCH_POINTS as u64;
    let point_bytes = match source.vector_kind {
        VectorKind::Dense => u64::from(source.vector_dimension) * 4,
        VectorKind::Sparse => 1_200,
    } + 64 * source.attribute_types.len() as u64;
    let rows = args.batch.unwrap_or((BATCH_BYTES / point_bytes).clamp(1, most)).min(most);
    Ok(Plan {
        names,
        mapping,
        rows: usize::try_from(rows).unwrap_or(limits::BATCH_POINTS),
        format: args.format,
        source,
    })
}

async fn upload_file(
    context: &Context,
    timeline: &Timeline,
    plan: &Plan,
    path: &Path,
    key: Option<String>,
    report: &mut UploadReport,
) -> Result<(), CliError> {
    let is_stdin = path.as_os_str() == "-";
    let bytes = if is_stdin { 0 } else { std::fs::metadata(path)?.len() };
    let bar = context.out.bars().bytes(&path.file_name().unwrap_or(path.as_os_str()).to_string_lossy(), bytes);
    let (sender, mut batches) = mpsc::channel(READ_AHEAD);
    let reader = {
        let (plan, path) = (plan.clone(), path.to_owned());
        tokio::task::spawn_blocking(move || read(&plan, &path, &Sink(sender)))
    };
    let mut number = 0_u64;
    while let Some(Batch { points, position }) = batches.recv().await {
        if report.batches == 0 {
            timeline.create_for_upload().await?;
        }
        let deletions = (0..points.rows()).filter(|&row| points.is_deleted(row)).count() as u64;
        let rows = points.rows() as u64;
        let key = key.as_ref().map(|key| format!("{key}/{number}"));
        let options = key.map_or_else(AppendOptions::default, AppendOptions::idempotent);
        let appended = timeline.append(points, options).await?;
        number += 1;
        report.points += rows - deletions;
        report.deletions += deletions;
        report.batches += 1;
        report.replayed += u64::from(appended.replayed);
        report.version = report.version.max(&appended.token);
        bar.set_position(position);
        bar.set_message(format!("{} points", count(report.points)));
    }
    bar.finish_and_clear();
    reader.await.map_err(|error| CliError::of(&error).while_doing("the reader failed"))?
}

/// Reads a whole file into the sink. Runs on a thread of its own.
fn read(plan: &Plan, path: &Path, sink: &Sink) -> Result<(), CliError> {
    let path = (path.as_os_str() != "-").then_some(path);
    let columns = Columns { source: &plan.source, mapping: &plan.mapping, rows: plan.rows };
    let rows = Rows { source: &plan.source, names: &plan.names, rows: plan.rows };
    let open = || -> Result<Box<dyn Read>, CliError> {
        Ok(match path {
            None => Box::new(stdin()),
            Some(path) => Box::new(File::open(path)?),
        })
    };
    match (plan.format.or_else(|| path.and_then(format_of)), path) {
        (Some(UploadFormat::Parquet), Some(path)) => columns.parquet(path, sink),
        (Some(UploadFormat::Parquet), None) => {
            Err(CliError::new("Parquet cannot be read from standard input").hint("name a file"))
        }
        (Some(UploadFormat::Arrow), path) => columns.arrow(path, sink),
        (Some(UploadFormat::Ndjson), _) => rows.ndjson(open()?, sink),
        (Some(UploadFormat::Csv), _) => rows.csv(open()?, sink),
        (None, _) => Err(CliError::new("the file's format is not clear from its name")
            .hint("pass --format parquet, arrow, ndjson or csv")),
    }
}

fn format_of(path: &Path) -> Option<UploadFormat> {
    let extension = PathBuf::from(path).extension()?.to_str()?.to_ascii_lowercase();
    Some(match extension.as_str() {
        "parquet" | "pq" => UploadFormat::Parquet,
        "arrow" | "arrows" | "ipc" | "feather" => UploadFormat::Arrow,
        "ndjson" | "jsonl" | "json" => UploadFormat::Ndjson,
        "csv" => UploadFormat::Csv,
        _ => return None,
    })
}
