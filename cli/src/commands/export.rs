//! `tarn source export` and `tarn index export`: points into a file, or to standard output.
//!
//! A file is there under its name when it is whole, and not before; pipes and devices are written to as standard output is.
//! What is exported can be uploaded again.

use std::fmt::Display;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::Serialize;
use tarn_api::{ExportFormat, Piece, file_of_points};
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
    let target = target(args.output.as_deref())?;
    let format = format_of(args, matches!(target, Target::Stream(_)))?;
    let mut pieces = file_of_points(format, source, &schema, batches, filter)?;
    let (path, mode) = match target {
        Target::File { path, mode } => (path, mode),
        Target::Stream(mut out) => return pour(pieces, &mut out).await,
    };
    let named = |error: std::io::Error| CliError::of(&error).while_doing(path.display());
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    // As any new file; it goes when it is not kept.
    let created = Permissions::from_mode(mode.unwrap_or(0o666));
    let mut file = tempfile::Builder::new().permissions(created).tempfile_in(folder).map_err(named)?;
    if let Some(mode) = mode {
        // The umask has nothing to say about a file that there was.
        file.as_file().set_permissions(Permissions::from_mode(mode)).map_err(named)?;
    }
    let bar = context.out.bars().items("exporting", 0);
    let (mut count, mut size) = (0_u64, 0_u64);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| broken(error, false))?;
        file.write_all(&piece.bytes).map_err(named)?;
        count += piece.points as u64;
        size += piece.bytes.len() as u64;
        bar.set_position(count);
        bar.set_message(bytes(size));
    }
    file.as_file().sync_all().map_err(named)?;
    file.persist(&path).map_err(|error| named(error.error))?;
    bar.finish_and_clear();
    let seconds = clock.monotonic().saturating_sub(started).as_secs_f64();
    context.out.show(&ExportReport { file: path, points: count, bytes: size, version, seconds })
}

/// Writes the pieces as they come.
async fn pour(
    mut pieces: BoxStream<'static, Result<Piece, String>>,
    out: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let mut begun = false;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| broken(error, begun))?;
        match out.write_all(&piece.bytes) {
            // Whoever read has had enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
        begun |= !piece.bytes.is_empty();
    }
    Ok(out.flush()?)
}

/// Where points are written.
enum Target {
    /// What is written is gone: standard output, pipes, devices.
    Stream(Box<dyn Write + Send>),
    /// A file that is there when it is whole, with the permissions of the one that it replaces.
    File { path: PathBuf, mode: Option<u32> },
}

fn target(output: Option<&Path>) -> Result<Target, CliError> {
    let stdout = || Ok(Target::Stream(Box::new(std::io::stdout())));
    let Some(path) = output.filter(|path| path.as_os_str() != "-") else { return stdout() };
    let named = |error: std::io::Error| CliError::of(&error).while_doing(path.display());
    let found = match std::fs::metadata(path) {
        Ok(found) => Some(found),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(named(error)),
    };
    let Some(found) = found else { return Ok(Target::File { path: resolved(path), mode: None }) };
    // /dev/stdout may be a regular file, which whoever started this has open.
    let own = std::io::stdout().as_fd().try_clone_to_owned().and_then(|own| File::from(own).metadata());
    if own.is_ok_and(|own| (own.dev(), own.ino()) == (found.dev(), found.ino())) {
        return stdout();
    }
    if found.is_file() {
        return Ok(Target::File { path: resolved(path), mode: Some(found.mode() & 0o777) });
    }
    Ok(Target::Stream(Box::new(OpenOptions::new().write(true).open(path).map_err(named)?)))
}

/// What the path's last part links to; it need not be there. A rename would replace the link.
fn resolved(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    // A circle was an error before.
    while let Ok(to) = std::fs::read_link(&path) {
        path = path.parent().unwrap_or_else(|| Path::new("")).join(to);
    }
    path
}

fn broken(error: String, begun: bool) -> CliError {
    CliError::new(error).while_doing(match begun {
        false => "the points could not all be read; nothing was exported",
        true => "the points could not all be read; what was written is only a part of them",
    })
}

fn format_of(args: &ExportArgs, to_stream: bool) -> Result<ExportFormat, CliError> {
    let by_name = || {
        let extension = args.output.as_deref()?.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "parquet" | "pq" => Some(FileFormat::Parquet),
            "arrow" | "arrows" => Some(FileFormat::Arrow),
            "ndjson" | "jsonl" => Some(FileFormat::Ndjson),
            _ => None,
        }
    };
    match args.format.or_else(by_name) {
        Some(FileFormat::Parquet) => Ok(ExportFormat::Parquet),
        Some(FileFormat::Arrow) => Ok(ExportFormat::Arrow),
        Some(FileFormat::Ndjson) => Ok(ExportFormat::Ndjson),
        None if to_stream => Ok(ExportFormat::Ndjson),
        None => Err(CliError::new("the file's format is not clear from its name")
            .hint("pass --format ndjson, arrow or parquet")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_breaks_off_says_whether_something_has_gone_out() {
        let piece = |text: &'static str| Ok(Piece { bytes: text.into(), points: 1 });
        for (first, said) in [("", "nothing was exported"), ("a", "only a part")] {
            let pieces = futures::stream::iter([piece(first), Err("damaged".to_owned()), piece("b")]).boxed();
            let mut out = Vec::new();
            let error = pour(pieces, &mut out).await.unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("damaged"), "{error}");
            assert_eq!(out, first.as_bytes());
        }
    }
}
