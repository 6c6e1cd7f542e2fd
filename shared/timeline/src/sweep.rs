//! Deleting what a question is true of: a pass over the live set that appends a tombstone for every match.
//!
//! A sweep is about the points as they were at one moment, its *cut*: the head when it began, or the cut of a sweep that it goes on
//! with. It is as if all its tombstones had been written there and then, and every later write had come after them: a point that somebody
//! wrote again since is left alone, whatever it says now. So a sweep may take its time, and take turns with writers.
//!
//! Owns `a-sweep-removes-what-it-counts`: a tombstone of a sweep lies directly behind a state of the timeline in which its point was
//! live and had not been written since the cut. Before it appends, it reads what others have appended, and creates exactly the
//! sequence after that; when somebody else is faster, it reads that too. So no point is removed twice, no later write is lost, and the
//! number of tombstones is the number of points that are gone. What is read of the others counts only if garbage collection has not
//! announced it before it was read: where a delta was, a writer that slept may have put another.
//!
//! A sweep that ends early, for whatever reason, has removed a part. Another one with the same cut removes the rest; with the
//! *position* too, it need not look at the first part again. A position is a place in one state of the data source, read from one
//! checkpoint; newer checkpoints do no harm, because old ones are kept for a while. When that one is gone, or so old that a sweep would
//! read many deltas for its sake, the sweep's own tombstones among them, it begins at the start: what is deleted already is not there
//! any more.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use futures::TryStreamExt;
use tarn_model::{Attributes, Corrupt, Filter, Index, ReadToken, Update, VectorKind};
use tarn_store::BackoffPolicy;

use crate::append::{CONFLICTS, Member, Won};
use crate::batch::PointBatch;
use crate::blocking::run;
use crate::error::{AppendError, TimelineError};
use crate::live::{Base, FoldedDeltas, LiveOptions, Parts, live_parts, resume};
use crate::rows::row_attributes;
use crate::schema::{KEY_COLUMN, VERSION_COLUMN, attribute_column, unpack_version};
use crate::timeline::{Knowledge, LANE, Timeline};

/// Tombstones in one delta. Writers of other processes that win the sequence make the sweep read their delta and try again; it
/// is little that is tried again.
const DELTA_TOMBSTONES: usize = 10_000;
/// Most bytes of the places for dense vectors in one delta of tombstones. Nobody has asked for so much memory.
const DELTA_BYTES: usize = 32 << 20;
/// How often a put is made again whose outcome is not known, after all that the store has tried by itself.
const SETTLE: BackoffPolicy =
    BackoffPolicy { initial: Duration::from_millis(50), max: Duration::from_secs(1), retries: 3 };
/// See [`SweepOptions::least_rows`]. Looking at them costs little beside fetching the file that they are in.
const LEAST_ROWS: u64 = 1 << 18;

/// Deltas that a sweep reads at most because its position is older than the newest checkpoint: it holds the keys of all of them, and
/// neither [`SweepOptions::until`] nor the least rows bound that.
const FOLDED_DELTAS: u64 = 256;
/// As [`FOLDED_DELTAS`], for a count. It reads nothing after its position's state, so that what it reads does not become more; and it
/// cannot begin at the start.
const FOLDED_DELTAS_OF_COUNT: u64 = 4_096;

/// What a sweep asks of a point: its permanent attributes, and those that it names.
pub type Question = Arc<dyn Fn(&Attributes) -> bool + Send + Sync>;

/// What to delete.
#[derive(Clone)]
pub struct SweepOptions {
    /// True for the points to delete.
    pub question: Question,
    /// The attributes that it is about; permanent ones need not be named.
    pub attributes: BTreeSet<String>,
    /// The cut of a sweep to go on with, or any other moment; `None`: now.
    pub cut: Option<ReadToken>,
    /// Where a sweep with this cut and this question ended.
    pub position: Option<SweepPosition>,
    /// Most points to delete.
    pub limit: u64,
    /// When to end, by the store's monotonic clock, with what is done by then.
    pub until: Option<Duration>,
    /// Looks at so many points at least, however late it is: a sweep in parts comes to its end, though each part first fetches the file
    /// that it is about.
    pub least_rows: u64,
    /// Counts, and deletes nothing.
    pub dry_run: bool,
}

impl fmt::Debug for SweepOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attributes, cut, position, limit, dry_run, .. } = self;
        let mut options = f.debug_struct("SweepOptions");
        options.field("attributes", attributes).field("cut", cut).field("position", position);
        options.field("limit", limit).field("dry_run", dry_run).finish_non_exhaustive()
    }
}

impl SweepOptions {
    /// A sweep that deletes everything that the question is true of.
    pub fn new(question: Question, attributes: BTreeSet<String>) -> Self {
        Self {
            question,
            attributes,
            cut: None,
            position: None,
            limit: u64::MAX,
            until: None,
            least_rows: LEAST_ROWS,
            dry_run: false,
        }
    }

    /// A sweep that deletes the points of an index that have these attributes and that the filter, if there is one, is true of.
    pub fn of_index(index: Arc<Index>, equal: Attributes, filter: Option<Filter>) -> Self {
        let filtered = filter.iter().flat_map(Filter::attributes).map(str::to_owned);
        let attributes = filtered.chain(equal.keys().cloned()).collect();
        let question = move |point: &Attributes| {
            equal.iter().all(|(name, value)| point.get(name) == Some(value))
                && filter.as_ref().is_none_or(|filter| filter.matches(point))
                && index.shard_of(point).is_some()
        };
        Self::new(Arc::new(question), attributes)
    }
}

/// How far a sweep has come: so many rows of a part of the live set that it reads. As text: four numbers with dots between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepPosition {
    base: Base,
    part: u64,
    rows: u64,
}

impl fmt::Display for SweepPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base: Base { generation, at }, part, rows } = self;
        write!(f, "{generation}.{at}.{part}.{rows}")
    }
}

/// A text that is no position of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no position of a sweep")]
pub struct NoPosition;

impl FromStr for SweepPosition {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let numbers: Vec<u64> = text.split('.').map(str::parse).collect::<Result<_, _>>().map_err(|_| NoPosition)?;
        let &[generation, at, part, rows] = numbers.as_slice() else { return Err(NoPosition) };
        Ok(Self { base: Base { generation, at }, part, rows })
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
    /// Where the next sweep goes on; `None` when this is complete.
    pub position: Option<SweepPosition>,
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
    /// The cut has not come yet. Nothing was deleted.
    #[error(
        "version {cut} is ahead: the timeline is at {head}; name a version that an upload or a search has answered with"
    )]
    Ahead {
        /// What was asked for.
        cut: ReadToken,
        /// The newest there is.
        head: ReadToken,
    },
    /// The state that a count in parts was about is too old or not there any more; a sweep would begin at the start, a count would count
    /// again what it has counted.
    #[error(
        "the state that this count is about is too old, or was collected as garbage meanwhile; count again from the start"
    )]
    Forgotten,
    /// Whether the last tombstones are or will be durable is unknown, and so is what to count.
    #[error(
        "{deleted} points were deleted, and whether the next {tombstones} were is unknown: {cause}. Do the same again: what is gone \
         already is neither deleted nor counted a second time"
    )]
    Unsettled {
        /// Points deleted before.
        deleted: u64,
        /// Tombstones in question.
        tombstones: u64,
        /// What happened.
        cause: String,
    },
}

impl SweepError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Read(TimelineError::Collected { .. }) | Self::Unsettled { .. } => true,
            Self::Read(TimelineError::Store(error)) => error.is_retryable(),
            Self::Read(TimelineError::Corrupt(_)) | Self::Ahead { .. } | Self::Forgotten => false,
            Self::Append(error) => error.is_retryable(),
        }
    }

    /// Whether what was deleted until then is known, and the rest can be left to another sweep.
    fn ends_early(&self) -> bool {
        self.is_retryable() && !matches!(self, Self::Unsettled { .. })
    }
}

/// A point to delete.
struct Doomed {
    key: Box<[u8]>,
    /// The permanent ones.
    attributes: Attributes,
}

/// Where a sweep stands.
struct Sweep<'a> {
    timeline: &'a Timeline,
    /// What others have written up to here is taken into account.
    seen: u64,
    /// Keys that others have written since the state that is read.
    rewritten: HashSet<Box<[u8]>>,
    /// The points to delete next.
    doomed: Vec<Doomed>,
    deleted: u64,
    token: ReadToken,
    /// Every row before it was looked at.
    looked: SweepPosition,
    /// And of those before this one none is left to delete.
    settled: SweepPosition,
}

impl Timeline {
    /// Deletes the live points that a question is true of.
    ///
    /// It takes turns with the appends through this timeline and its clones; so it ends, however much these write. It can lose to
    /// all other writers, and says so then.
    ///
    /// # Errors
    /// See [`SweepError`]. Once something was deleted, an error that another sweep may not meet is no error but an answer that is not
    /// complete; unless it is not known what was deleted.
    pub async fn sweep(&self, options: SweepOptions) -> Result<Swept, SweepError> {
        self.refuse_deleted().await?;
        let (parts, from) = self.rows_to_ask(&options).await?;
        let head = ReadToken::single(from.base.at);
        let cut = options.cut.clone().unwrap_or_else(|| head.clone());
        if !head.includes(&cut) {
            return Err(SweepError::Ahead { cut, head });
        }
        let mut sweep = Sweep {
            timeline: self,
            seen: from.base.at,
            rewritten: HashSet::new(),
            doomed: Vec::new(),
            deleted: 0,
            token: head,
            looked: from,
            settled: from,
        };
        let complete = match sweep.all(parts, &options, cut.sequence(LANE)).await {
            Ok(complete) => complete,
            Err(error) if error.ends_early() && sweep.deleted > 0 => {
                let source = &self.source().id;
                tracing::warn!(%source, %error, deleted = sweep.deleted, "a sweep ends early");
                false
            }
            Err(error) => return Err(error),
        };
        let position = (!complete).then_some(sweep.settled);
        Ok(Swept { deleted: sweep.deleted, complete, cut, token: sweep.token, position })
    }

    /// The rows to ask, and the position that they begin at.
    async fn rows_to_ask(&self, options: &SweepOptions) -> Result<(Parts, SweepPosition), SweepError> {
        let source = self.source();
        let mut columns = vec![KEY_COLUMN.to_owned(), VERSION_COLUMN.to_owned()];
        columns.extend(source.permanent_attributes.union(&options.attributes).map(|name| attribute_column(name)));
        let read = LiveOptions { columns: Some(columns), ..LiveOptions::default() };
        if let Some(position) = options.position {
            // The text may be of anybody's making: it bounds nothing by itself.
            let folded = match options.dry_run {
                true => FoldedDeltas { read_to: position.base.at, most: FOLDED_DELTAS_OF_COUNT },
                false => FoldedDeltas { read_to: u64::MAX, most: FOLDED_DELTAS },
            };
            let (base, part) = (position.base, position.part);
            match resume(self.store(), Arc::clone(source), base, part, folded, read.clone()).await {
                Ok(parts) => return Ok((parts, position)),
                Err(TimelineError::Collected { .. }) if options.dry_run => return Err(SweepError::Forgotten),
                Err(TimelineError::Collected { .. }) => {
                    tracing::info!(source = %source.id, %position, "a sweep begins at the start: what it read is old or collected");
                }
                Err(error) => return Err(error.into()),
            }
        }
        let parts = live_parts(self.store(), Arc::clone(source), read).await?;
        let start = SweepPosition { base: parts.base, part: 0, rows: 0 };
        Ok((parts, start))
    }
}

impl Sweep<'_> {
    /// Whether everything was looked at.
    async fn all(&mut self, parts: Parts, options: &SweepOptions, cut: u64) -> Result<bool, SweepError> {
        let most = delta_rows(self.timeline);
        let from = self.looked;
        let (mut part, mut next_row, mut asked) = (from.part, 0, 0);
        let mut batches = parts.batches;
        while let Some((of, batch)) = batches.try_next().await? {
            let is_late = options.until.is_some_and(|until| self.timeline.now() >= until);
            if is_late && asked >= options.least_rows {
                self.delete(options.dry_run).await?;
                return Ok(false);
            }
            if of != part {
                (part, next_row) = (of, 0);
            }
            // Of the part where another sweep ended, the first rows are done.
            let rows = batch.num_rows() as u64;
            let done = if part == from.part { from.rows.saturating_sub(next_row).min(rows) } else { 0 };
            let batch = batch.slice(done as usize, (rows - done) as usize);
            let first = next_row + done;
            next_row += rows;
            asked += rows - done;
            for (row, found) in self.matches(batch, options, cut).await? {
                if self.deleted + self.doomed.len() as u64 >= options.limit {
                    self.delete(options.dry_run).await?;
                    if self.deleted >= options.limit {
                        return Ok(false);
                    }
                }
                self.doomed.push(found);
                self.looked = SweepPosition { part, rows: first + row as u64 + 1, ..self.looked };
                if self.doomed.len() >= most {
                    self.delete(options.dry_run).await?;
                }
            }
            self.looked = SweepPosition { part, rows: next_row, ..self.looked };
            if self.doomed.is_empty() {
                self.settled = self.looked;
            }
        }
        self.delete(options.dry_run).await?;
        Ok(true)
    }

    /// The points of a batch to delete, and the rows that they are in.
    async fn matches(
        &self,
        batch: RecordBatch,
        options: &SweepOptions,
        cut: u64,
    ) -> Result<Vec<(usize, Doomed)>, SweepError> {
        let (source, question) = (Arc::clone(self.timeline.source()), Arc::clone(&options.question));
        let bytes = batch.get_array_memory_size();
        let ask = move || {
            let column = |name| {
                batch.column_by_name(name).ok_or_else(|| Corrupt {
                    object: source.id.to_string(),
                    part: "live set".to_owned(),
                    expected: format!("the column {name}"),
                    found: "none".to_owned(),
                })
            };
            let unfit = |name: &str| Corrupt {
                object: source.id.to_string(),
                part: "live set".to_owned(),
                expected: format!("keys and versions in {name}"),
                found: "something else".to_owned(),
            };
            let keys = column(KEY_COLUMN)?.as_binary_opt::<i32>().ok_or_else(|| unfit(KEY_COLUMN))?;
            let versions = column(VERSION_COLUMN)?;
            let versions = versions.as_primitive_opt::<UInt64Type>().ok_or_else(|| unfit(VERSION_COLUMN))?;
            let rows = (0..batch.num_rows()).filter(|&row| unpack_version(versions.value(row)).0 <= cut);
            let found = rows.filter_map(|row| {
                let mut attributes = row_attributes(&batch, &source, row);
                if !question(&attributes) {
                    return None;
                }
                attributes.retain(|name, _| source.permanent_attributes.contains(name));
                Some((row, Doomed { key: Box::from(keys.value(row)), attributes }))
            });
            Ok::<_, Corrupt>(found.collect())
        };
        Ok(run(bytes, ask).await.map_err(TimelineError::Store)?.map_err(TimelineError::Corrupt)?)
    }

    /// Deletes what waits for it, but for what somebody has written meanwhile.
    async fn delete(&mut self, dry_run: bool) -> Result<(), SweepError> {
        if dry_run || self.doomed.is_empty() {
            self.deleted += std::mem::take(&mut self.doomed).len() as u64;
            self.settled = self.looked;
            return Ok(());
        }
        let timeline = self.timeline;
        // Most of what others have written is read before the uploads of this process have to wait for it.
        let known = timeline.find_head().await?;
        self.catch_up(known.head).await?;
        let _writer = timeline.inner.writer.lock().await;
        let mut backoff = timeline.store().backoff(CONFLICTS);
        let mut lost_races = 0;
        loop {
            // What is known of the head may be minutes old. That is enough to append, which walks on; one who is to read all that
            // others have written would not come to the end.
            let known = timeline.find_head().await?;
            if known.head < self.seen {
                return Err(AppendError::Deleted { source_id: timeline.source().id.clone() }.into());
            }
            self.catch_up(known.head).await?;
            let rewritten = &self.rewritten;
            self.doomed.retain(|doomed| !rewritten.contains(&doomed.key));
            if self.doomed.is_empty() {
                self.settled = self.looked;
                return Ok(());
            }
            match self.put_tombstones(known).await? {
                Won::Ours => {
                    self.deleted += std::mem::take(&mut self.doomed).len() as u64;
                    self.seen += 1;
                    self.token = ReadToken::single(self.seen);
                    self.settled = self.looked;
                    return Ok(());
                }
                // Others have used the sequence before, it was collected, and what they wrote there cannot be read any more.
                Won::Nobody => {
                    return Err(timeline.collected(timeline.boundary().await.map_err(TimelineError::Store)?).into());
                }
                Won::Other => lost_races += 1,
            }
            let Some(wait) = backoff.next_wait() else {
                return Err(AppendError::Contended { attempts: lost_races }.into());
            };
            timeline.store().clock().sleep(wait).await;
        }
    }

    /// Creates the delta after what was seen. A put whose outcome is unknown is made again: it finds what it has written, or what
    /// somebody else has, and then it can have no effect any more.
    async fn put_tombstones(&self, known: Knowledge) -> Result<Won, SweepError> {
        let timeline = self.timeline;
        let updates: Vec<Update> = self.doomed.iter().map(|doomed| Update::Delete(doomed.attributes.clone())).collect();
        let batch = PointBatch::from_updates(Arc::clone(timeline.source()), &updates).map_err(AppendError::from)?;
        let mut member = Member { id: timeline.new_id(), batch, absent_up_to: None };
        let mut backoff = timeline.store().backoff(SETTLE);
        let mut unknown = None;
        loop {
            match timeline.try_sequence(self.seen + 1, &[&member], known).await {
                Ok(won) => return Ok(won),
                Err(AppendError::Ambiguous { cause }) => unknown = Some(cause),
                // This put had no effect; the one before may have had.
                Err(AppendError::NotApplied(_)) if unknown.is_some() => {}
                Err(error) => return Err(error.into()),
            }
            // It may be there already, and others after it.
            member.absent_up_to = Some(self.seen);
            let Some(wait) = backoff.next_wait() else {
                let (deleted, tombstones) = (self.deleted, self.doomed.len() as u64);
                return Err(SweepError::Unsettled { deleted, tombstones, cause: unknown.unwrap_or_default() });
            };
            timeline.store().clock().sleep(wait).await;
        }
    }

    /// Reads what others have written, up to `head`.
    async fn catch_up(&mut self, head: u64) -> Result<(), TimelineError> {
        if head <= self.seen {
            return Ok(());
        }
        let before = self.seen;
        let mut deltas = Box::pin(self.timeline.read_each((before + 1..=head).collect()));
        while let Some(delta) = deltas.try_next().await? {
            self.rewritten.extend((0..delta.rows()).map(|row| Box::from(delta.key(row))));
            self.seen = delta.sequence;
        }
        // The boundary is written before deltas go: it tells whether these were still those that had been written.
        let boundary = self.timeline.boundary().await?;
        if before < boundary {
            return Err(self.timeline.collected(boundary));
        }
        Ok(())
    }
}

/// Tombstones that fit into one delta; there is a place for a dense vector in each.
fn delta_rows(timeline: &Timeline) -> usize {
    let source = timeline.source();
    match source.vector_kind {
        VectorKind::Sparse => DELTA_TOMBSTONES,
        VectorKind::Dense => {
            let bytes = size_of::<f32>() * usize::try_from(source.vector_dimension).unwrap_or(usize::MAX / 8);
            (DELTA_BYTES / bytes.max(1)).clamp(1, DELTA_TOMBSTONES)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_texts() {
        let position = SweepPosition { base: Base { generation: 3, at: 17 }, part: 2, rows: 4096 };
        assert_eq!(position.to_string(), "3.17.2.4096");
        assert_eq!("3.17.2.4096".parse(), Ok(position));
        for wrong in ["", "3.17.2", "3.17.2.4096.1", "3.17.x.1", "-1.2.3.4", "3.17.2.99999999999999999999"] {
            assert_eq!(wrong.parse::<SweepPosition>(), Err(NoPosition), "{wrong}");
        }
    }
}
