//! Reading a file into chunks, on a thread where blocking is allowed.

mod arrow_ipc;
mod csv_text;
mod ndjson;
mod parquet_file;

use std::sync::Arc;

use tarn_model::{DataSource, FORMAT};
use tarn_timeline::PointBatch;
use tokio::sync::mpsc;

use crate::blocks::Remote;
use crate::chunk::{Bounds, Chunker, Stop};
use crate::detect::{self, Compression, FileFormat};
use crate::error::DropError;
use crate::mapping::DropMapping;
use crate::records::{ChunkPlan, Commit, Place, Survey};
use crate::report::DropReport;
use crate::settings::DropSettings;
use crate::text;

/// A file and how to read it.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) remote: Remote,
    pub(crate) source: Arc<DataSource>,
    pub(crate) settings: Arc<DropSettings>,
}

/// What a run has found out about a file.
pub(crate) enum Measured {
    /// All of it is valid.
    Whole(Commit),
    /// So much is valid; there was no time for more.
    Part(Survey),
}

/// Begins to measure a file: which format it has.
pub(crate) async fn begin(job: &Job, name: &str, mapping: DropMapping) -> Result<Survey, Stop> {
    let (job, name) = (job.clone(), name.to_owned());
    on_thread(move || {
        let (file_format, compression) = detect(&job, &name, &mapping)?;
        let commit = Commit { file_format, compression, mapping, chunks: Vec::new() };
        Ok(Survey { format: FORMAT, commit, next: Place::default() })
    })
    .await
}

/// Reads and validates a file from where a survey ended, and plans its chunks. `go_on` is asked after each.
pub(crate) async fn measure(
    job: &Job,
    survey: Survey,
    go_on: impl Fn() -> bool + Send + 'static,
) -> Result<Measured, Stop> {
    let job = job.clone();
    on_thread(move || {
        let Survey { format, mut commit, next: start } = survey;
        let mut chunks = std::mem::take(&mut commit.chunks);
        let mut end = start;
        let mut collect = |_: PointBatch, chunk: ChunkPlan, next: Place| {
            if chunks.len() >= tarn_model::limits::DROP_CHUNKS as usize {
                return Err(DropReport::file("The file has too many rows.", "Drop it in several parts.").into());
            }
            chunks.push(chunk);
            end = next;
            if go_on() { Ok(()) } else { Err(Stop::Ended) }
        };
        let bounds = Bounds::measured(&job.source, job.settings.chunk_bytes);
        let chunker = Chunker::new(Arc::clone(&job.source), bounds, start, &mut collect);
        let read = read(&job, &commit, start, chunker);
        commit.chunks = chunks;
        match read {
            Ok(()) => Ok(Measured::Whole(commit)),
            Err(Stop::Ended) => Ok(Measured::Part(Survey { format, commit, next: end })),
            Err(stop) => Err(stop),
        }
    })
    .await
}

/// Reads the planned chunks from `first` on into `sink`.
pub(crate) async fn chunks(
    job: &Job,
    commit: &Commit,
    first: usize,
    sink: mpsc::Sender<PointBatch>,
) -> Result<(), Stop> {
    let (job, mut commit) = (job.clone(), commit.clone());
    on_thread(move || {
        let after = commit.chunks.split_off(first.min(commit.chunks.len()));
        let Some(begin) = after.first() else { return Ok(()) };
        // Lines are for reports; nothing is reported any more.
        let start = Place { offset: begin.offset, row: commit.rows(), line: 0 };
        let mut send = |batch: PointBatch, _: ChunkPlan, _: Place| sink.blocking_send(batch).map_err(|_| Stop::Ended);
        let bounds = Bounds::Planned(after.into_iter());
        let chunker = Chunker::new(Arc::clone(&job.source), bounds, start, &mut send);
        read(&job, &commit, start, chunker)
    })
    .await
}

/// The decoders are written for files of friends: a fault that makes one panic is a fault of the file.
async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, Stop> + Send + 'static) -> Result<T, Stop> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => Err(DropReport::file(
            "The file cannot be decoded; its contents contradict themselves.",
            "Nothing of the file was written. Write the file anew and drop it again.",
        )
        .into()),
        Err(error) => Err(DropError::local("read the file", error).into()),
    }
}

fn detect(job: &Job, name: &str, mapping: &DropMapping) -> Result<(FileFormat, Compression), Stop> {
    let unreadable = |error: std::io::Error| text::read_error(&job.remote, &error);
    let head = detect::head(&mut job.remote.from(0)).map_err(unreadable)?;
    let compression = detect::compression(&head);
    let head = match compression {
        Compression::None => head,
        _ => text::open(&job.remote, compression, 0)
            .and_then(|mut inner| detect::head(&mut inner))
            .map_err(unreadable)?,
    };
    Ok((detect::format(name, &head, mapping.format)?, compression))
}

fn read(job: &Job, commit: &Commit, start: Place, chunker: Chunker<'_>) -> Result<(), Stop> {
    let (compression, mapping) = (commit.compression, &commit.mapping);
    match commit.file_format {
        FileFormat::Ndjson => ndjson::read(job, compression, mapping, start, chunker),
        FileFormat::Csv => csv_text::read(job, compression, mapping, start, chunker),
        FileFormat::ArrowFile => arrow_ipc::read(job, compression, mapping, start, true, chunker),
        FileFormat::ArrowStream => arrow_ipc::read(job, compression, mapping, start, false, chunker),
        FileFormat::Parquet => parquet_file::read(job, compression, mapping, start, chunker),
    }
}
