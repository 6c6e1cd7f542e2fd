//! A fold: from the newest checkpoint and the deltas after its watermark to the next checkpoint. A long timeline takes
//! several steps, each of which publishes (`spool_bytes_max`, `fold_deltas_max`): disk and time for one of them are bounded,
//! and a builder that dies has lost no other.
//!
//! Old data files are never rewritten for a changed point: the row that is no longer live is added to the file's list of
//! deleted rows, and the new row goes to a new file. Files are merged by size or when too many of their rows are dead.
//! See `docs/adr/004-checkpoints-with-deleted-rows.md`.
//!
//! Owns `live-in-one-place`: a point is live in exactly one row of one file.

mod lookup;

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use roaring::RoaringBitmap;
use tarn_model::{Checkpoint, CheckpointFile, DataSource, DataSourceId, FORMAT, ObjectKey, ReadToken, limits};
use tarn_store::{latest_checkpoint, load_source};
use tarn_timeline::Timeline;

use crate::context::{Context, blocking};
use crate::error::CompactError;
use crate::fold::{DeltaSpool, Winners, newest_writes, winning_rows};
use crate::merge::{MergePolicy, Run, plan_merges};
use crate::outcome::{FoldOutcome, Status};
use crate::progress::Stage;
use crate::publish::{Begun, Publication, publish_checkpoint};
use crate::rows::{RowWriter, decode_deleted, encode_deleted, live_rows};
use lookup::KeySet;

/// A data file with the rows of it that are no longer live.
pub(crate) struct LoadedFile {
    pub(crate) file: CheckpointFile,
    pub(crate) deleted: RoaringBitmap,
}

pub(crate) fn data_key(source: &DataSourceId) -> impl Fn(ulid::Ulid) -> ObjectKey + use<> {
    let source = source.clone();
    move |id| ObjectKey::CheckpointData { source: source.clone(), id }
}

/// The files of a checkpoint with their lists of deleted rows.
pub(crate) async fn load_files(context: &Context, checkpoint: &Checkpoint) -> Result<Vec<LoadedFile>, CompactError> {
    let mut files = Vec::with_capacity(checkpoint.files.len());
    for file in &checkpoint.files {
        let deleted = match &file.deleted {
            Some(object) => {
                let key = data_key(&checkpoint.source)(object.id);
                decode_deleted(&key.render(), file, context.read(&key, object).await?)?
            }
            None => RoaringBitmap::new(),
        };
        files.push(LoadedFile { file: file.clone(), deleted });
    }
    Ok(files)
}

/// The live rows of a data file.
pub(crate) async fn file_rows(
    context: &Arc<Context>,
    source: &Arc<DataSource>,
    file: &LoadedFile,
) -> Result<BoxStream<'static, Result<arrow::array::RecordBatch, CompactError>>, CompactError> {
    let key = data_key(&source.id)(file.file.data.id);
    let local = context.fetch(&key, &file.file.data).await?;
    let rows = live_rows(local.path(), &key.render(), source, file.file.rows, &file.deleted)?;
    // The handle keeps the cache from evicting the file while it is read.
    Ok(off_thread(rows, local))
}

/// Draws an iterator that decodes files on the threads for such work, a batch at a time.
fn off_thread<T: Send + 'static, K: Send + 'static>(
    rows: impl Iterator<Item = Result<T, CompactError>> + Send + 'static,
    keep: K,
) -> BoxStream<'static, Result<T, CompactError>> {
    futures::stream::try_unfold((rows, keep), |(mut rows, keep)| {
        blocking(move || Ok(rows.next().transpose()?.map(|row| (row, (rows, keep)))))
    })
    .boxed()
}

/// What a fold starts from, and where it ends.
pub(crate) struct FoldPlan {
    source: Arc<DataSource>,
    pub(crate) previous: Option<Checkpoint>,
    pub(crate) up_to: ReadToken,
}

impl FoldPlan {
    async fn new(context: &Context, id: &DataSourceId, up_to: Option<ReadToken>) -> Result<Self, CompactError> {
        let source =
            load_source(&context.store, id).await?.ok_or_else(|| CompactError::NotFound { what: id.to_string() })?;
        if up_to.is_none() {
            crate::retention::apply(context, &source).await?;
        }
        let previous = latest_checkpoint(&context.store, id, None).await?;
        let up_to = match up_to {
            Some(up_to) => up_to,
            None => Timeline::open(context.store.clone(), Arc::clone(&source)).head().await?,
        };
        Ok(Self { source, previous, up_to })
    }

    /// Whether the newest checkpoint lacks anything.
    pub(crate) fn is_due(&self) -> bool {
        let watermark = self.previous.as_ref().map(|checkpoint| checkpoint.watermark.clone()).unwrap_or_default();
        !watermark.includes(&self.up_to)
    }
}

/// What there is to fold, up to the head of the timeline.
pub(crate) async fn plan(context: &Context, id: &DataSourceId) -> Result<FoldPlan, CompactError> {
    FoldPlan::new(context, id, None).await
}

/// Folds the timeline of a data source up to its head, or until somebody else is faster.
pub(crate) async fn fold(context: &Arc<Context>, id: &DataSourceId) -> Result<FoldOutcome, CompactError> {
    run_while(context, plan(context, id).await?, |step| step.status == Status::Published).await
}

/// Folds the timeline of a data source until a checkpoint includes `up_to`, whoever publishes it.
pub(crate) async fn fold_up_to(
    context: &Arc<Context>,
    id: &DataSourceId,
    up_to: &ReadToken,
) -> Result<FoldOutcome, CompactError> {
    if let Some(lane) = up_to.lanes.get(usize::from(limits::LANES)..).and_then(|beyond| beyond.first()) {
        return Err(CompactError::NotFound { what: format!("a lane of {id} with sequence {lane} in {up_to}") });
    }
    let plan = FoldPlan::new(context, id, Some(up_to.clone())).await?;
    // Each step moves the watermark, or whoever won its race has, so this ends.
    run_while(context, plan, |_| true).await
}

/// Folds step by step up to where the plan says, as long as `goes_on` after a step.
async fn run_while(
    context: &Arc<Context>,
    mut plan: FoldPlan,
    goes_on: impl Fn(&FoldOutcome) -> bool,
) -> Result<FoldOutcome, CompactError> {
    let mut step = run(context, &plan).await?;
    let mut all = step.clone();
    while !step.watermark.includes(&plan.up_to) && goes_on(&step) {
        plan = FoldPlan::new(context, &plan.source.id, Some(plan.up_to)).await?;
        step = run(context, &plan).await?;
        all = FoldOutcome {
            status: if all.status == Status::Published { Status::Published } else { step.status },
            deltas: all.deltas + step.deltas,
            files_written: all.files_written + step.files_written,
            spilled_bytes: all.spilled_bytes + step.spilled_bytes,
            ..step.clone()
        };
    }
    Ok(all)
}

async fn run(context: &Arc<Context>, plan: &FoldPlan) -> Result<FoldOutcome, CompactError> {
    let (id, previous) = (&plan.source.id, plan.previous.as_ref());
    if !plan.is_due() {
        return Ok(outcome(Status::UpToDate, previous, 0, 0, 0));
    }
    let watermark = previous.map(|checkpoint| checkpoint.watermark.clone()).unwrap_or_default();
    let step = Step { context, source: &plan.source, subject: id.to_string(), begun: Begun::now(context) };
    match step.run(previous, &watermark, &plan.up_to).await {
        Ok(outcome) => Ok(outcome),
        // Deltas are collected only when newer roots exist: somebody was faster, by far.
        Err(error) => match latest_checkpoint(&context.store, id, None).await? {
            Some(newer) if Some(newer.generation) > previous.map(|p| p.generation) && is_missing(&error) => {
                Ok(outcome(Status::LostRace, Some(&newer), 0, 0, 0))
            }
            _ => Err(error),
        },
    }
}

fn is_missing(error: &CompactError) -> bool {
    matches!(error, CompactError::Store(tarn_store::StoreError::Missing { .. }))
}

fn outcome(status: Status, newest: Option<&Checkpoint>, deltas: u64, written: usize, carried: usize) -> FoldOutcome {
    FoldOutcome {
        status,
        generation: newest.map_or(0, |checkpoint| checkpoint.generation),
        watermark: newest.map(|checkpoint| checkpoint.watermark.clone()).unwrap_or_default(),
        rows: newest.map_or(0, |checkpoint| checkpoint.rows),
        deltas,
        files_written: written as u64,
        files_carried: carried as u64,
        spilled_bytes: 0,
    }
}

struct Step<'a> {
    context: &'a Arc<Context>,
    source: &'a Arc<DataSource>,
    subject: String,
    begun: Begun,
}

impl Step<'_> {
    async fn run(
        &self,
        previous: Option<&Checkpoint>,
        watermark: &ReadToken,
        up_to: &ReadToken,
    ) -> Result<FoldOutcome, CompactError> {
        let mut old = match previous {
            Some(previous) => load_files(self.context, previous).await?,
            None => Vec::new(),
        };
        let deleted_before: Vec<u64> = old.iter().map(|file| file.deleted.len()).collect();
        // A source has one lane (limits::LANES).
        let first = watermark.sequence(0);
        let last = first.saturating_add(self.context.settings.fold_deltas_max.max(1)).min(up_to.sequence(0));
        let spool = DeltaSpool::new(self.context, self.source, &self.subject, watermark, &ReadToken::single(last))?;
        let (winners, spilled_bytes) = self.find_winners(&spool, &mut old).await?;
        let deltas = spool.reached() - first;

        let mut files = Vec::new();
        let (groups, new_rows_group) = self.plan(&old, &winners);
        let merged: Vec<usize> = groups.iter().flatten().copied().collect();
        for (i, file) in old.iter().enumerate().filter(|(i, _)| !merged.contains(i)) {
            files.push(self.carry(file, deleted_before[i]).await?);
        }
        let carried = files.len();
        let mut new_rows = Some(winning_rows(&spool, winners));
        for (number, group) in groups.iter().enumerate() {
            let new_rows = if new_rows_group == Some(number) { new_rows.take() } else { None };
            let inputs: Vec<&LoadedFile> = group.iter().filter_map(|&i| old.get(i)).collect();
            files.extend(self.write(&inputs, new_rows).await?);
        }
        if let Some(new_rows) = new_rows {
            files.extend(self.write(&[], Some(new_rows)).await?);
        }
        let checkpoint = Checkpoint {
            format: FORMAT,
            source: self.source.id.clone(),
            generation: previous.map_or(0, |previous| previous.generation) + 1,
            commit_id: self.context.new_id(),
            watermark: ReadToken::single(spool.reached()),
            created_ms: self.context.store.clock().now_ms(),
            rows: files.iter().map(|file| file.rows - file.deleted_rows).sum(),
            files,
        };
        let written = checkpoint.files.len() - carried;
        let outcome = match publish_checkpoint(self.context, self.begun, &checkpoint, previous).await? {
            Publication::Ours => outcome(Status::Published, Some(&checkpoint), deltas, written, carried),
            Publication::LostRace => {
                let newest = latest_checkpoint(&self.context.store, &self.source.id, None).await?;
                outcome(Status::LostRace, newest.as_ref(), deltas, written, carried)
            }
        };
        Ok(FoldOutcome { spilled_bytes, ..outcome })
    }

    /// Folds the deltas; marks in the old files the rows that they replace or remove. Also says how much was spilled.
    async fn find_winners(
        &self,
        spool: &Arc<DeltaSpool>,
        old: &mut [LoadedFile],
    ) -> Result<(Winners, u64), CompactError> {
        let spill = self.context.scratch()?;
        let mut newest =
            newest_writes(&self.context.settings, spill.path(), spool.writes(self.context.settings.spool_bytes_max))
                .await?;
        let mut winners = Winners::default();
        let mut changed = KeySet::new(self.context.settings.memory_limit_bytes / 4);
        while let Some(writes) = newest.next().await {
            let writes = writes?;
            for i in 0..writes.len() {
                let rank = writes.rank(i);
                if !rank.is_tombstone() {
                    winners.insert(rank);
                }
                if !old.is_empty() {
                    changed.insert(writes.keys.value(i));
                }
            }
            if changed.is_full() {
                self.look_up(&mut changed, old).await?;
            }
        }
        self.look_up(&mut changed, old).await?;
        Ok((winners, newest.spilled_bytes()))
    }

    async fn look_up(&self, changed: &mut KeySet, old: &mut [LoadedFile]) -> Result<(), CompactError> {
        if changed.is_empty() {
            return Ok(());
        }
        let total = old.iter().map(|file| file.file.rows).sum();
        let mut done = 0;
        let keys = Arc::new(changed.take());
        for file in old {
            let key = data_key(&self.source.id)(file.file.data.id);
            let local = self.context.fetch(&key, &file.file.data).await?;
            let (keys, name) = (Arc::clone(&keys), key.render());
            let found = blocking(move || keys.rows_in(local.path(), &name)).await?;
            file.deleted |= found;
            done += file.file.rows;
            self.context.report(&self.subject, Stage::LookUp, done, total);
        }
        Ok(())
    }

    /// The groups of old files to merge, and which group takes the new rows: they are a run like any other, but need not
    /// be written before they are merged.
    fn plan(&self, old: &[LoadedFile], winners: &Winners) -> (Vec<Vec<usize>>, Option<usize>) {
        let settings = &self.context.settings;
        let mut runs: Vec<Run> =
            old.iter().map(|file| Run::of(file.file.data.bytes, file.file.rows, file.deleted.len())).collect();
        let new = runs.len();
        if winners.rows > 0 {
            runs.push(Run { live: winners.rows.saturating_mul(row_bytes(self.source)), dead: 0 });
        }
        let policy = MergePolicy {
            fan: settings.merge_fan,
            dead_percent_max: settings.dead_percent_max,
            full: settings.checkpoint_file_bytes_max / 2,
        };
        let mut groups = plan_merges(&runs, &policy);
        let with_new = groups.iter().position(|group| group.contains(&new));
        for group in &mut groups {
            group.retain(|&i| i != new);
        }
        (groups, with_new)
    }

    async fn carry(&self, file: &LoadedFile, deleted_before: u64) -> Result<CheckpointFile, CompactError> {
        if file.deleted.len() == deleted_before {
            return Ok(file.file.clone());
        }
        let bytes = encode_deleted(&file.deleted)?;
        let object = self.context.put(data_key(&self.source.id), bytes).await?;
        Ok(CheckpointFile { deleted: Some(object), deleted_rows: file.deleted.len(), ..file.file.clone() })
    }

    /// Writes the live rows of some old files, and new rows, to new files.
    async fn write(
        &self,
        old: &[&LoadedFile],
        new_rows: Option<BoxStream<'static, Result<arrow::array::RecordBatch, CompactError>>>,
    ) -> Result<Vec<CheckpointFile>, CompactError> {
        let directory = self.context.scratch()?;
        let bytes_max = self.context.settings.checkpoint_file_bytes_max;
        let mut writer = RowWriter::new(self.source, directory.path(), bytes_max);
        let mut inputs = Vec::new();
        for file in old {
            inputs.push((Stage::Merge, file_rows(self.context, self.source, file).await?));
        }
        inputs.extend(new_rows.map(|rows| (Stage::Write, rows)));
        let mut done = 0;
        for (stage, mut rows) in inputs {
            while let Some(batch) = rows.next().await {
                let batch = batch?;
                done += batch.num_rows() as u64;
                writer = blocking(move || {
                    writer.write(&batch)?;
                    Ok(writer)
                })
                .await?;
                self.context.report(&self.subject, stage, done, done);
            }
        }
        let mut files = Vec::new();
        for (written, rows) in blocking(move || writer.finish()).await? {
            let data = self.context.put_file(data_key(&self.source.id), &written).await?;
            files.push(CheckpointFile { data, rows, deleted: None, deleted_rows: 0 });
        }
        Ok(files)
    }
}

/// A guess at the bytes that a row takes in a file.
pub(crate) fn row_bytes(source: &DataSource) -> u64 {
    let vector = match source.vector_kind {
        tarn_model::VectorKind::Dense => u64::from(source.vector_dimension) * 4,
        tarn_model::VectorKind::Sparse => 1024,
    };
    vector + 16 * source.attribute_types.len() as u64 + 32
}
