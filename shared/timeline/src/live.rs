//! The live set of a data source as a stream, in bounded memory.
//!
//! live set = newest checkpoint's rows, minus the rows it marks as deleted, minus the points that later deltas write or
//! remove, plus what the last of those deltas writes. Two passes over the tail: the first finds each key's last update,
//! the second hands out the winners' rows.
//!
//! Its *parts* are the checkpoint's files and then the deltas after it, one by one. As of one state, from one checkpoint, each part has
//! the same rows in the same order whenever it is read; so whoever was cut short can go on where it was ([`resume`]).
//!
//! Owns `live-set-is-the-fold`.
//!
//! One thread of the blocking pool does the work and hands batches over a short channel; so a slow consumer slows the
//! reader, and one that goes away stops it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tarn_model::{Checkpoint, CheckpointFile, Corrupt, DataSource, ObjectKey, ReadToken};
use tarn_store::{Store, StoreError, latest_checkpoint, latest_source_boundary};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::checkpoint_file::{fetch, object_key, read_deleted, read_rows};
use crate::codec::Delta;
use crate::error::TimelineError;
use crate::schema::{KEY_COLUMN, VERSION_COLUMN, checkpoint_schema, pack_version};
use crate::timeline::{LANE, Timeline};

/// Batches that wait for the consumer.
const BUFFERED: usize = 2;
/// Decoded deltas kept from the first pass to the second, in bytes; the others are read twice.
const KEEP_BYTES: usize = 64 << 20;
/// How often a checkpoint may be collected between being found and being read before we give up.
const ATTEMPTS: u32 = 3;

/// What of the live set to read.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// The live set as of here, or as of the head if that comes first; `None`: now.
    pub at: Option<ReadToken>,
    /// Only these columns of [`checkpoint_schema`], in its order; `None`: all.
    pub columns: Option<Vec<String>>,
    /// Most rows of one batch.
    pub batch_rows: usize,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self { at: None, columns: None, batch_rows: 4096 }
    }
}

/// A live set being read.
pub struct Live {
    /// The state of the data source that the rows are.
    pub at: ReadToken,
    /// The schema of the batches: columns of [`checkpoint_schema`].
    pub schema: SchemaRef,
    /// The rows, each point once, in no particular order. It ends after the first error.
    pub batches: BoxStream<'static, Result<RecordBatch, TimelineError>>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("at", &self.at).field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// What the parts of a live set are parts of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// The checkpoint that is read; 0: none.
    pub(crate) generation: u64,
    /// The state that the rows are.
    pub(crate) at: u64,
}

/// Deltas that are read because the base is old: the newest checkpoint has them folded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoldedDeltas {
    /// The last delta that is read, of the live set or of what was written after it.
    pub(crate) read_to: u64,
    /// More of them are too many.
    pub(crate) most: u64,
}

/// A live set being read, part by part.
pub(crate) struct Parts {
    pub(crate) base: Base,
    pub(crate) schema: SchemaRef,
    /// Rows, with the number of the part that they are of; in the order of the parts.
    pub(crate) batches: BoxStream<'static, Result<(u64, RecordBatch), TimelineError>>,
}

/// Reads the live set: the newest checkpoint (not after `at`), minus deleted rows, minus rows that later deltas replace
/// or remove, plus the later deltas' winners.
///
/// Memory holds the keys of the tail, some deltas, and a few batches; a checkpoint file of a remote store is spooled to
/// a temporary file while it is read.
///
/// # Errors
/// [`TimelineError::Collected`] when `at` is so old that its history is gone; failures of the store. Errors while rows are
/// read come through the stream.
pub async fn live(store: &Store, source: Arc<DataSource>, options: LiveOptions) -> Result<Live, TimelineError> {
    let Parts { base, schema, batches } = live_parts(store, source, options).await?;
    let batches = batches.map(|next| next.map(|(_, batch)| batch)).boxed();
    Ok(Live { at: ReadToken::single(base.at), schema, batches })
}

/// As [`live()`], part by part.
pub(crate) async fn live_parts(
    store: &Store,
    source: Arc<DataSource>,
    options: LiveOptions,
) -> Result<Parts, TimelineError> {
    let timeline = Timeline::open(store.clone(), source);
    let mut attempt = 1;
    let (checkpoint, head) = loop {
        match find(&timeline, options.at.as_ref()).await {
            // A builder may fold and collect between our reading of the checkpoint and of the deltas.
            Err(TimelineError::Collected { .. }) if attempt < ATTEMPTS && options.at.is_none() => attempt += 1,
            result => break result?,
        }
    };
    Ok(read_parts(timeline, checkpoint, head, 0, &options))
}

/// Goes on with a live set from one of its parts; `options.at` does not count.
///
/// # Errors
/// [`TimelineError::Collected`] when what it was read from may be gone, or never was, or is so old that more would be read.
pub(crate) async fn resume(
    store: &Store,
    source: Arc<DataSource>,
    base: Base,
    first_part: u64,
    folded: FoldedDeltas,
    options: LiveOptions,
) -> Result<Parts, TimelineError> {
    let timeline = Timeline::open(store.clone(), source);
    let checkpoint = match base.generation {
        0 => None,
        generation => Some(read_checkpoint(&timeline, generation).await?),
    };
    let watermark =
        |checkpoint: Option<&Checkpoint>| checkpoint.map_or(0, |checkpoint| checkpoint.watermark.sequence(LANE));
    let floor = watermark(checkpoint.as_ref());
    let newest = latest_checkpoint(timeline.store(), &timeline.source().id, None).await?;
    let again = watermark(newest.as_ref()).min(folded.read_to).saturating_sub(floor);
    let listing = timeline.list_after(floor).await?;
    let boundary = latest_source_boundary(timeline.store(), &timeline.source().id, None).await?;
    let announced = boundary.is_some_and(|boundary| base.generation > 0 && boundary.generation >= base.generation);
    if announced || again > folded.most || !(floor..=listing.head).contains(&base.at) {
        return Err(timeline.collected(listing.boundary));
    }
    Ok(read_parts(timeline, checkpoint, base.at, first_part, &options))
}

fn read_parts(
    timeline: Timeline,
    checkpoint: Option<Checkpoint>,
    at: u64,
    first_part: u64,
    options: &LiveOptions,
) -> Parts {
    let full = checkpoint_schema(timeline.source());
    let schema = match &options.columns {
        None => Arc::clone(&full),
        Some(columns) => {
            let kept = full.fields().iter().filter(|field| columns.contains(field.name())).cloned();
            Arc::new(Schema::new(kept.collect::<Vec<_>>()))
        }
    };
    let base = Base { generation: checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.generation), at };
    let (sender, receiver) = mpsc::channel(BUFFERED);
    let object = timeline.source().id.to_string();
    let reader = Reader {
        timeline,
        checkpoint,
        head: at,
        first_part,
        schema: Arc::clone(&schema),
        batch_rows: options.batch_rows.max(1),
        sender,
        runtime: Handle::current(),
    };
    let reading = tokio::task::spawn_blocking(move || reader.run());
    Parts { base, schema, batches: received(receiver, reading, object) }
}

/// The batches that a reading thread sends. After a panic there the rows would end as if they were all: that is an error.
fn received<T: Send + 'static>(
    mut receiver: mpsc::Receiver<Result<T, TimelineError>>,
    reading: JoinHandle<()>,
    object: String,
) -> BoxStream<'static, Result<T, TimelineError>> {
    let sent = stream::poll_fn(move |context| receiver.poll_recv(context));
    let end = stream::once(reading).filter_map(move |ended| {
        let failed = ended.err().map(|error| match error.is_panic() {
            true => TimelineError::Corrupt(Corrupt {
                object: object.clone(),
                part: "live set".to_owned(),
                expected: "rows that can be decoded".to_owned(),
                found: error.to_string(),
            }),
            false => TimelineError::Store(StoreError::Unavailable {
                operation: "read the live set of",
                object: object.clone(),
                cause: Arc::new(error),
            }),
        });
        std::future::ready(failed.map(Err))
    });
    sent.chain(end).boxed()
}

/// The checkpoint to start from, and the last sequence to include.
async fn find(timeline: &Timeline, at: Option<&ReadToken>) -> Result<(Option<Checkpoint>, u64), TimelineError> {
    let mut checkpoint = latest_checkpoint(timeline.store(), &timeline.source().id, None).await?;
    let at = at.map(|token| token.sequence(LANE));
    while let Some(newer) = checkpoint.as_ref().filter(|c| at.is_some_and(|at| c.watermark.sequence(LANE) > at)) {
        checkpoint = match newer.generation.checked_sub(1).filter(|&generation| generation > 0) {
            Some(generation) => Some(read_checkpoint(timeline, generation).await?),
            None => None,
        };
    }
    let floor = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.watermark.sequence(LANE));
    if at == Some(floor) {
        return Ok((checkpoint, floor));
    }
    let listing = timeline.list_after(floor).await?;
    Ok((checkpoint, at.map_or(listing.head, |at| listing.head.min(at))))
}

async fn read_checkpoint(timeline: &Timeline, generation: u64) -> Result<Checkpoint, TimelineError> {
    let source = &timeline.source().id;
    let key = ObjectKey::Checkpoint { source: source.clone(), generation };
    match timeline.store().get(&key).await? {
        Some(bytes) => Ok(Checkpoint::parse(&key.render(), &bytes, source, generation)?),
        // Collected: what came before is folded into the generations after it.
        None => Err(timeline.collected(timeline.boundary().await?)),
    }
}

/// Each key's last update in the tail, as [`pack_version`] counts.
type Winners = HashMap<Box<[u8]>, u64>;

struct Reader {
    timeline: Timeline,
    checkpoint: Option<Checkpoint>,
    head: u64,
    /// Parts before it are left out.
    first_part: u64,
    schema: SchemaRef,
    batch_rows: usize,
    sender: mpsc::Sender<Result<(u64, RecordBatch), TimelineError>>,
    runtime: Handle,
}

/// The consumer went away, or something failed.
enum Stop {
    Gone,
    Failed(TimelineError),
}

impl<E: Into<TimelineError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Reader {
    fn run(self) {
        if let Err(Stop::Failed(error)) = self.read_all() {
            // A consumer that is gone does not want to know.
            let _gone = self.sender.blocking_send(Err(error));
        }
    }

    fn read_all(&self) -> Result<(), Stop> {
        let floor = self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.watermark.sequence(LANE));
        let sequences: Vec<u64> = (floor + 1..=self.head).collect();
        let mut winners = Winners::new();
        let mut kept: HashMap<u64, Delta> = HashMap::new();
        let mut kept_bytes = 0;
        self.each_delta(sequences.clone(), |delta| {
            for row in 0..delta.rows() {
                winners.insert(delta.key(row).into(), version_of(&delta, row));
            }
            if kept_bytes + delta.memory_bytes() <= KEEP_BYTES {
                kept_bytes += delta.memory_bytes();
                kept.insert(delta.sequence, delta);
            }
            Ok(())
        })?;
        let files = self.checkpoint.as_ref().map_or(&[][..], |checkpoint| &checkpoint.files);
        for (part, file) in (0..).zip(files).filter(|(part, _)| *part >= self.first_part) {
            self.read_file(part, file, &winners)?;
        }
        let tail = (files.len() as u64..).zip(sequences).filter(|(part, _)| *part >= self.first_part);
        let tail: Vec<(u64, u64)> = tail.collect();
        let unread = tail.iter().map(|(_, sequence)| *sequence).filter(|sequence| !kept.contains_key(sequence));
        let mut unread = Box::pin(self.timeline.read_each(unread.collect()));
        for (part, sequence) in tail {
            let delta = match kept.remove(&sequence) {
                Some(delta) => delta,
                None => {
                    let object = self.timeline.key(sequence).render();
                    let next = self.runtime.block_on(unread.next());
                    next.unwrap_or_else(|| Err(corrupt(&object, "sequence", "a delta").into()))?
                }
            };
            self.send_winners(part, &delta, &winners)?;
        }
        Ok(())
    }

    fn each_delta(&self, sequences: Vec<u64>, mut each: impl FnMut(Delta) -> Result<(), Stop>) -> Result<(), Stop> {
        let mut deltas = Box::pin(self.timeline.read_each(sequences));
        while let Some(delta) = self.runtime.block_on(deltas.next()) {
            each(delta?)?;
        }
        Ok(())
    }

    fn read_file(&self, part: u64, file: &CheckpointFile, winners: &Winners) -> Result<(), Stop> {
        let source = self.timeline.source();
        let fetched = |reference| self.runtime.block_on(fetch(self.timeline.store(), &source.id, reference));
        let deleted = match &file.deleted {
            Some(reference) => {
                let object = object_key(&source.id, reference).render();
                read_deleted(&object, fetched(reference)?, file.deleted_rows, file.rows)?
            }
            None => Vec::new(),
        };
        let object = object_key(&source.id, &file.data).render();
        let mut columns: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        columns.push(KEY_COLUMN);
        let reader = read_rows(&object, fetched(&file.data)?, source, &columns, self.batch_rows)?;
        let (mut first_row, mut next_deleted) = (0_u64, 0);
        for batch in reader {
            let batch = batch?;
            let keys = column(&object, &batch, KEY_COLUMN)?;
            let keys = keys.as_binary_opt::<i32>().ok_or_else(|| corrupt(&object, KEY_COLUMN, "Binary"))?;
            let end = first_row + batch.num_rows() as u64;
            let mut keep: Vec<bool> = (0..batch.num_rows()).map(|row| !winners.contains_key(keys.value(row))).collect();
            while let Some(&row) = deleted.get(next_deleted).filter(|&&row| row < end) {
                if let Some(keep) = usize::try_from(row - first_row).ok().and_then(|at| keep.get_mut(at)) {
                    *keep = false;
                }
                next_deleted += 1;
            }
            first_row = end;
            self.send_rows(part, &object, &batch, keep)?;
        }
        if first_row != file.rows {
            let (expected, found) = (file.rows.to_string(), first_row.to_string());
            return Err(Corrupt { object: object.clone(), part: "rows".to_owned(), expected, found }.into());
        }
        Ok(())
    }

    fn send_winners(&self, part: u64, delta: &Delta, winners: &Winners) -> Result<(), Stop> {
        let wins = |row| !delta.is_deleted(row) && winners.get(delta.key(row)) == Some(&version_of(delta, row));
        let keep = (0..delta.rows()).map(wins).collect();
        let versions: UInt64Array = (0..delta.rows()).map(|row| version_of(delta, row)).collect();
        let object = self.timeline.key(delta.sequence).render();
        // As in a delta, but for the version in the place of the tombstone mark; and nullable as there until the
        // tombstones are filtered out.
        let mut fields: Vec<_> = delta.data.schema_ref().fields().iter().cloned().collect();
        let mut columns: Vec<ArrayRef> = delta.data.columns().to_vec();
        if let Some(field) = checkpoint_schema(self.timeline.source()).fields().find(VERSION_COLUMN) {
            fields[1] = Arc::clone(field.1);
        }
        columns[1] = Arc::new(versions);
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
            .map_err(|error| corrupt(&object, "columns", &error.to_string()))?;
        self.send_rows(part, &object, &batch, keep)
    }

    /// Sends the rows to keep, with the columns asked for.
    fn send_rows(&self, part: u64, object: &str, batch: &RecordBatch, keep: Vec<bool>) -> Result<(), Stop> {
        let unfit = |error: arrow::error::ArrowError| corrupt(object, "columns", &error.to_string());
        let rows = filter_record_batch(batch, &BooleanArray::from(keep)).map_err(unfit)?;
        let columns = self.schema.fields().iter().map(|field| column(object, &rows, field.name()).cloned());
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(unfit)?;
        let mut start = 0;
        while start < rows.num_rows() {
            let length = self.batch_rows.min(rows.num_rows() - start);
            self.sender.blocking_send(Ok((part, rows.slice(start, length)))).map_err(|_| Stop::Gone)?;
            start += length;
        }
        Ok(())
    }
}

fn version_of(delta: &Delta, row: usize) -> u64 {
    // A delta has fewer than 2²⁴ rows.
    pack_version(delta.sequence, u32::try_from(row).unwrap_or(u32::MAX))
}

fn column<'a>(object: &str, batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, Corrupt> {
    batch.column_by_name(name).ok_or_else(|| corrupt(object, name, "a column"))
}

fn corrupt(object: &str, part: &str, expected: &str) -> Corrupt {
    Corrupt {
        object: object.to_owned(),
        part: part.to_owned(),
        expected: expected.to_owned(),
        found: "something else".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_of_the_reading_thread_does_not_pass_for_the_end() {
        let (sender, receiver) = mpsc::channel(BUFFERED);
        let reading = tokio::task::spawn_blocking(move || {
            let batch = RecordBatch::new_empty(Arc::new(Schema::empty()));
            sender.blocking_send(Ok(batch)).expect("somebody reads");
            panic!("on purpose: this is a test")
        });
        let found: Vec<_> = received(receiver, reading, "points".to_owned()).collect().await;
        assert!(matches!(found.as_slice(), [Ok(_), Err(TimelineError::Corrupt(_))]), "{found:?}");
    }
}
