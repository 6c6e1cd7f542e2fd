//! Deleting what a question is true of: a pass over the live set that appends a tombstone for every match.
//!
//! A sweep is about the points as they were at one moment, its *cut*: the head when it began, or the cut of a sweep that it goes on
//! with. It is as if all its tombstones had been written there and then, and every later write had come after them: a point that somebody
//! wrote again since is left alone, whatever it says now. So a sweep may take its time, and take turns with writers.
//!
//! Owns `a-sweep-removes-what-it-counts`: a tombstone of a sweep lies directly behind a state of the timeline in which its point was
//! live and had not been written since the cut. Before it appends, it reads what others have appended, and creates exactly the
//! sequence after that; when somebody else is faster, it reads that too. So no point is removed twice, no later write is lost, and the
//! number of tombstones is the number of points that are gone.
//!
//! A sweep that ends early, for whatever reason, has removed a part. Another one with the same cut removes the rest.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tarn_model::{Attributes, ReadToken, Update, limits};

use crate::append::{CONFLICTS, Member, Won};
use crate::batch::PointBatch;
use crate::blocking::run;
use crate::error::{AppendError, TimelineError};
use crate::live::{LiveOptions, live};
use crate::rows::row_attributes;
use crate::schema::{KEY_COLUMN, VERSION_COLUMN, attribute_column, unpack_version};
use crate::timeline::{LANE, Timeline};

/// Tombstones in one delta. Writers of other processes that win the sequence make the sweep read their delta and try again; it
/// is little that is tried again.
const DELTA_TOMBSTONES: usize = 10_000;

/// What a sweep asks of a point: its permanent attributes, and those that it names.
pub type Question = Arc<dyn Fn(&Attributes) -> bool + Send + Sync>;

/// What to delete.
#[derive(Clone)]
pub struct SweepOptions {
    /// True for the points to delete.
    pub question: Question,
    /// The attributes that it is about; permanent ones need not be named.
    pub attributes: BTreeSet<String>,
    /// The cut of a sweep to go on with; `None`: now.
    pub cut: Option<ReadToken>,
    /// Most points to delete.
    pub limit: u64,
    /// When to end, by the store's monotonic clock, with what is done by then.
    pub until: Option<Duration>,
    /// Counts, and deletes nothing.
    pub dry_run: bool,
}

impl std::fmt::Debug for SweepOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { attributes, cut, limit, dry_run, .. } = self;
        let mut options = f.debug_struct("SweepOptions");
        options.field("attributes", attributes).field("cut", cut).field("limit", limit).field("dry_run", dry_run);
        options.finish_non_exhaustive()
    }
}

impl SweepOptions {
    /// A sweep that deletes everything that the question is true of.
    pub fn new(question: Question, attributes: BTreeSet<String>) -> Self {
        Self { question, attributes, cut: None, limit: u64::MAX, until: None, dry_run: false }
    }
}

/// What a sweep did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Points deleted; of a dry run, points that would have been.
    pub deleted: u64,
    /// Whether that is all of them. If not, another sweep with this cut goes on.
    pub complete: bool,
    /// The points were asked as they were then.
    pub cut: ReadToken,
    /// Includes the tombstones.
    pub token: ReadToken,
}

/// A failed sweep. It may have deleted a part; repeating it deletes the rest.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SweepError {
    /// The live set or the timeline could not be read.
    #[error(transparent)]
    Read(#[from] TimelineError),
    /// Tombstones could not be written.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl SweepError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Read(TimelineError::Collected { .. }) => true,
            Self::Read(TimelineError::Store(error)) => error.is_retryable(),
            Self::Read(TimelineError::Corrupt(_)) => false,
            Self::Append(error) => error.is_retryable(),
        }
    }
}

/// Where a sweep stands.
struct Sweep<'a> {
    timeline: &'a Timeline,
    /// What others have written up to here is taken into account.
    seen: u64,
    /// Keys that others have written since the live set was read.
    rewritten: HashSet<Box<[u8]>>,
    /// Keys and permanent attributes of the points to delete next.
    doomed: Vec<(Box<[u8]>, Attributes)>,
    deleted: u64,
    token: ReadToken,
}

impl Timeline {
    /// Deletes the live points that a question is true of.
    ///
    /// One sweep at a time takes turns with the uploads of this process; so it ends, however much is uploaded. It can lose to
    /// writers of other processes, and says so then.
    ///
    /// # Errors
    /// See [`SweepError`]. Once something was deleted, an error that another sweep may not meet is no error but an answer that is not
    /// complete.
    pub async fn sweep(&self, options: SweepOptions) -> Result<Swept, SweepError> {
        self.refuse_deleted().await?;
        let source = Arc::clone(self.source());
        let mut columns = vec![KEY_COLUMN.to_owned(), VERSION_COLUMN.to_owned()];
        columns.extend(source.permanent_attributes.union(&options.attributes).map(|name| attribute_column(name)));
        let read = LiveOptions { columns: Some(columns), ..LiveOptions::default() };
        let rows = live(self.store(), Arc::clone(&source), read).await?;
        let began = rows.at.sequence(LANE);
        let cut = options.cut.clone().unwrap_or_else(|| rows.at.clone());
        let mut sweep = Sweep {
            timeline: self,
            seen: began,
            rewritten: HashSet::new(),
            doomed: Vec::new(),
            deleted: 0,
            token: rows.at.clone(),
        };
        let swept = sweep.all(rows.batches, &options, cut.sequence(LANE)).await;
        let complete = match swept {
            Ok(complete) => complete,
            Err(error) if error.is_retryable() && sweep.deleted > 0 => {
                tracing::warn!(source = %source.id, %error, deleted = sweep.deleted, "a sweep ends early");
                false
            }
            Err(error) => return Err(error),
        };
        Ok(Swept { deleted: sweep.deleted, complete, cut, token: sweep.token })
    }
}

impl Sweep<'_> {
    /// Whether everything was looked at.
    async fn all(
        &mut self,
        mut batches: futures::stream::BoxStream<'static, Result<arrow::array::RecordBatch, TimelineError>>,
        options: &SweepOptions,
        cut: u64,
    ) -> Result<bool, SweepError> {
        let most = delta_rows(self.timeline);
        while let Some(batch) = batches.next().await {
            if options.until.is_some_and(|until| self.timeline.now() >= until) {
                self.delete(options.dry_run).await?;
                return Ok(false);
            }
            let matches = self.matches(batch?, options, cut).await?;
            for found in matches {
                if self.deleted + self.doomed.len() as u64 >= options.limit {
                    self.delete(options.dry_run).await?;
                    if self.deleted >= options.limit {
                        return Ok(false);
                    }
                }
                self.doomed.push(found);
                if self.doomed.len() >= most {
                    self.delete(options.dry_run).await?;
                }
            }
        }
        self.delete(options.dry_run).await?;
        Ok(true)
    }

    /// The points of a batch to delete.
    async fn matches(
        &self,
        batch: arrow::array::RecordBatch,
        options: &SweepOptions,
        cut: u64,
    ) -> Result<Vec<(Box<[u8]>, Attributes)>, SweepError> {
        let (source, question) = (Arc::clone(self.timeline.source()), Arc::clone(&options.question));
        let bytes = batch.get_array_memory_size();
        let ask = move || {
            use arrow::array::AsArray;
            use arrow::datatypes::UInt64Type;
            let keys = batch.column_by_name(KEY_COLUMN).and_then(|column| column.as_binary_opt::<i32>());
            let versions = batch.column_by_name(VERSION_COLUMN);
            let versions = versions.and_then(|column| column.as_primitive_opt::<UInt64Type>());
            let (Some(keys), Some(versions)) = (keys, versions) else { return Vec::new() };
            let rows = (0..batch.num_rows()).filter(|&row| unpack_version(versions.value(row)).0 <= cut);
            let found = rows.filter_map(|row| {
                let mut attributes = row_attributes(&batch, &source, row);
                if !question(&attributes) {
                    return None;
                }
                attributes.retain(|name, _| source.permanent_attributes.contains(name));
                Some((Box::from(keys.value(row)), attributes))
            });
            found.collect()
        };
        Ok(run(bytes, ask).await.map_err(TimelineError::Store)?)
    }

    /// Deletes what waits for it, but for what somebody has written meanwhile.
    async fn delete(&mut self, dry_run: bool) -> Result<(), SweepError> {
        if dry_run || self.doomed.is_empty() {
            self.deleted += std::mem::take(&mut self.doomed).len() as u64;
            return Ok(());
        }
        let timeline = self.timeline;
        let _writer = timeline.inner.writer.lock().await;
        let mut backoff = timeline.store().backoff(CONFLICTS);
        let mut lost_races = 0;
        loop {
            let known = timeline.known_or_find().await?;
            self.catch_up(known.head).await?;
            let rewritten = &self.rewritten;
            self.doomed.retain(|(key, _)| !rewritten.contains(key));
            if self.doomed.is_empty() {
                return Ok(());
            }
            let batch = self.tombstones()?;
            let rows = batch.rows() as u64;
            let member = Member { id: timeline.new_id(), batch, absent_up_to: None };
            let sequence = self.seen + 1;
            match timeline.try_sequence(sequence, &[&member], known).await? {
                Won::Ours => {
                    self.doomed.clear();
                    self.deleted += rows;
                    self.seen = sequence;
                    self.token = ReadToken::single(sequence);
                    return Ok(());
                }
                Won::Nobody => continue,
                Won::Other => lost_races += 1,
            }
            let Some(wait) = backoff.next_wait() else {
                return Err(AppendError::Contended { attempts: lost_races }.into());
            };
            timeline.store().clock().sleep(wait).await;
        }
    }

    /// Reads what others have written, up to `head`.
    async fn catch_up(&mut self, head: u64) -> Result<(), TimelineError> {
        let mut deltas = Box::pin(self.timeline.read_each((self.seen + 1..=head).collect()));
        while let Some(delta) = deltas.try_next().await? {
            self.rewritten.extend((0..delta.rows()).map(|row| Box::from(delta.key(row))));
            self.seen = delta.sequence;
        }
        Ok(())
    }

    fn tombstones(&self) -> Result<PointBatch, AppendError> {
        let updates: Vec<Update> =
            self.doomed.iter().map(|(_, attributes)| Update::Delete(attributes.clone())).collect();
        Ok(PointBatch::from_updates(Arc::clone(self.timeline.source()), &updates)?)
    }
}

/// Tombstones that fit into one delta; there is a place for a dense vector in each.
fn delta_rows(timeline: &Timeline) -> usize {
    let source = timeline.source();
    match source.vector_kind {
        tarn_model::VectorKind::Sparse => DELTA_TOMBSTONES,
        tarn_model::VectorKind::Dense => {
            let bytes = size_of::<f32>() * usize::try_from(source.vector_dimension).unwrap_or(usize::MAX / 8);
            (limits::BATCH_BYTES / bytes.max(1)).clamp(1, DELTA_TOMBSTONES)
        }
    }
}
