//! `tarn source export` and `tarn index export`: points into a file, or to standard output.
//!
//! A file is there under its name when it is whole, and not before. What is exported can be uploaded again.

use std::fmt::Display;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::Serialize;
use tarn_api::{ExportFormat, file_of_points};
use tarn_model::{DataSource, Filter, ReadToken};

use crate::args::{ExportArgs, FileFormat};
use crate::context::Context;
use crate::error::CliError;
use crate::output::{DIM, GOOD, NAME, Report, bytes, counted, duration};

/// Points to be written, and what they are the state of.
pub(super) struct Points<E> {
    pub(super) source: Arc<DataSource>,
    pub(super) schema: SchemaRef,
    pub(super) batches: BoxStream<'static, Result<RecordBatch, E>>,
    /// Of these points only those that satisfy it.
    pub(super) filter: Option<Filter>,
    pub(super) version: ReadToken,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportReport {
    file: PathBuf,
    points: u64,
    bytes: u64,
    /// What the points are the state of.
    version: ReadToken,
    seconds: f64,
}

impl Report for ExportReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        let (points, size) = (counted(self.points, "point", "points"), bytes(self.bytes));
        let took = duration(Duration::from_secs_f64(self.seconds));
        writeln!(out, "{GOOD}exported{GOOD:#} {points} to {NAME}{}{NAME:#}: {size} in {took}", self.file.display())?;
        writeln!(out, "{DIM}version {}{DIM:#}", self.version)
    }
}

/// Writes the points where the arguments say.
///
/// # Errors
/// The points cannot be read, or the file not be written; there is no file under its name then.
pub(super) async fn write<E: Display + Send + 'static>(
    context: &Context,
    args: &ExportArgs,
    points: Points<E>,
    clock: &dyn tarn_store::Clock,
) -> Result<(), CliError> {
    let started = clock.monotonic();
    let Points { source, schema, batches, filter, version } = points;
    let format = format_of(args)?;
    let mut pieces = file_of_points(format, source, &schema, batches, filter)?;
    let Some(path) = args.output.as_deref().filter(|path| path.as_os_str() != "-") else {
        let mut out = std::io::stdout();
        while let Some(piece) = pieces.next().await {
            match out.write_all(&piece.map_err(broken)?.bytes) {
                // Whoever read has had enough.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
        }
        return Ok(out.flush()?);
    };
    let named = |error: std::io::Error| CliError::of(&error).while_doing(path.display());
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    // As any new file; it goes when it is not kept.
    let anybody = std::fs::Permissions::from_mode(0o666);
    let mut file = tempfile::Builder::new().permissions(anybody).tempfile_in(folder).map_err(named)?;
    let bar = context.out.bars().items("exporting", 0);
    let (mut count, mut size) = (0_u64, 0_u64);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(broken)?;
        file.write_all(&piece.bytes).map_err(named)?;
        count += piece.points as u64;
        size += piece.bytes.len() as u64;
        bar.set_position(count);
        bar.set_message(bytes(size));
    }
    file.as_file().sync_all().map_err(named)?;
    file.persist(path).map_err(|error| named(error.error))?;
    bar.finish_and_clear();
    let seconds = clock.monotonic().saturating_sub(started).as_secs_f64();
    context.out.show(&ExportReport { file: path.to_owned(), points: count, bytes: size, version, seconds })
}

fn broken(error: String) -> CliError {
    CliError::new(error).while_doing("the points could not all be read; nothing was exported")
}

fn format_of(args: &ExportArgs) -> Result<ExportFormat, CliError> {
    let by_name = || {
        let extension = args.output.as_deref()?.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "parquet" | "pq" => Some(FileFormat::Parquet),
            "arrow" | "arrows" => Some(FileFormat::Arrow),
            "ndjson" | "jsonl" => Some(FileFormat::Ndjson),
            _ => None,
        }
    };
    let to_stdout = args.output.as_deref().is_none_or(|path| path.as_os_str() == "-");
    match args.format.or_else(by_name) {
        Some(FileFormat::Parquet) => Ok(ExportFormat::Parquet),
        Some(FileFormat::Arrow) => Ok(ExportFormat::Arrow),
        Some(FileFormat::Ndjson) => Ok(ExportFormat::Ndjson),
        None if to_stdout => Ok(ExportFormat::Ndjson),
        None => Err(CliError::new("the file's format is not clear from its name")
            .hint("pass --format ndjson, arrow or parquet")),
    }
}
