//! An index build: from the newest manifest and what changed since to the next manifest.
//!
//! Changed points are found by folding the deltas between the manifest's watermark and the checkpoint's, keys first. Their
//! old rows are marked dead in the catalogs, their new rows go to new segments, and segments are merged as `plan`
//! says. Everything else is carried over by name. Without a manifest, or when those deltas are collected, the index is
//! built from the checkpoint alone; the result holds the same rows.
//!
//! Owns `index-equals-checkpoint`: a manifest at a watermark holds the live set of the checkpoint at that watermark, as far
//! as its shards take it.

mod buckets;
mod gather;
mod placement;
mod plan;
mod shard;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use futures::StreamExt;
use futures::stream::BoxStream;
use tarn_model::{Checkpoint, Corrupt, DataSource, FORMAT, Index, IndexId, Manifest, ObjectKey, ShardEntry};
use tarn_segment::{Build, CatalogSegment, SegmentSettings, write_segment};
use tarn_store::{StoreError, latest_checkpoint, latest_manifest, latest_source_boundary, load_index, load_source};

use crate::checkpoint::{LoadedFile, data_key, file_rows, load_files, row_bytes};
use crate::context::{Context, Written, blocking};
use crate::error::CompactError;
use crate::fold::{DeltaSpool, Winners, newest_writes, winning_rows};
use crate::merge::MergePolicy;
use crate::outcome::{BuildOutcome, Status};
use crate::progress::Stage;
use crate::publish::{Begun, Publication, publish_manifest};
use crate::rows::{read_keys, unreadable};
use buckets::Buckets;
use gather::{Rows, gather};
use plan::{Bin, PlanPolicy, ShardPlan, bin_of, plan_shard};
use shard::ShardState;

pub(crate) use placement::Placement;
pub(crate) use shard::{catalog_key, load_catalog, segment_key};

/// Brings an index to the newest checkpoint of its data source.
pub(crate) async fn build(context: &Arc<Context>, id: &IndexId) -> Result<BuildOutcome, CompactError> {
    let not_found = |what: String| CompactError::NotFound { what };
    let index = load_index(&context.store, id).await?.ok_or_else(|| not_found(id.to_string()))?;
    let source = load_source(&context.store, &index.data_source).await?;
    let source = source.ok_or_else(|| not_found(index.data_source.to_string()))?;
    let previous = latest_manifest(&context.store, id, None).await?;
    let Some(checkpoint) = latest_checkpoint(&context.store, &source.id, None).await? else {
        return Ok(outcome(Status::UpToDate, previous.as_ref(), 0, 0));
    };
    if previous.as_ref().is_some_and(|manifest| manifest.watermark.includes(&checkpoint.watermark)) {
        return Ok(outcome(Status::UpToDate, previous.as_ref(), 0, 0));
    }
    let placement = Arc::new(Placement::new(&source, &index));
    let step =
        Step { context, subject: id.to_string(), begun: Begun::now(context), source, index, placement, checkpoint };
    if let Some(manifest) = &previous {
        let boundary = latest_source_boundary(&context.store, &step.source.id, None).await?;
        let collected = boundary.is_some_and(|boundary| !manifest.watermark.includes(&boundary.timeline));
        if !collected {
            match step.run(Some(manifest), true).await {
                // Collected while it was read, or lost: the checkpoint holds the same points.
                Err(CompactError::Store(StoreError::Missing { object })) => {
                    tracing::warn!(index = %id, %object, "building from the checkpoint: an object is missing");
                }
                other => return other,
            }
        }
    }
    step.run(previous.as_ref(), false).await
}

fn outcome(status: Status, newest: Option<&Manifest>, written: u64, carried: u64) -> BuildOutcome {
    BuildOutcome {
        status,
        generation: newest.map_or(0, |manifest| manifest.generation),
        watermark: newest.map(|manifest| manifest.watermark.clone()).unwrap_or_default(),
        rows: newest.map_or(0, |manifest| manifest.rows),
        segments_written: written,
        segments_carried: carried,
        lost_race: status == Status::LostRace,
    }
}

/// Where the changed rows come from.
enum Changes {
    /// The rows of a fold that won.
    Fold(Arc<DeltaSpool>, Winners),
    /// Every live row of the checkpoint.
    Checkpoint(Vec<LoadedFile>),
}

type RowStream = BoxStream<'static, Result<RecordBatch, CompactError>>;

struct Step<'a> {
    context: &'a Arc<Context>,
    subject: String,
    begun: Begun,
    source: Arc<DataSource>,
    index: Arc<Index>,
    placement: Arc<Placement>,
    checkpoint: Checkpoint,
}

impl Step<'_> {
    async fn run(&self, previous: Option<&Manifest>, incremental: bool) -> Result<BuildOutcome, CompactError> {
        let mut shards = Vec::with_capacity(self.placement.shards().len());
        for id in self.placement.shards() {
            let entry = previous.filter(|_| incremental).and_then(|p| p.shards.iter().find(|entry| entry.shard == *id));
            shards.push(ShardState::load(self.context, &self.index.id, id, entry).await?);
        }
        let changes = match previous.filter(|_| incremental) {
            Some(manifest) => self.changes_since(manifest, &mut shards).await?,
            None => self.everything(&mut shards).await?,
        };
        let policy = self.policy();
        let plans: Vec<ShardPlan> = shards
            .iter()
            .map(|shard| {
                if shard.touched {
                    plan_shard(shard.segments.clone(), &shard.new_rows, &policy)
                } else {
                    ShardPlan::default()
                }
            })
            .collect();
        let mut buckets = self.distribute(changes, &plans).await?;

        let (mut entries, mut written, mut carried, mut first_bin) = (Vec::new(), 0, 0, 0);
        let total: u64 = plans.iter().flat_map(|plan| &plan.bins).map(|bin| bin.rows).sum();
        let mut done = 0;
        for (shard, plan) in shards.iter_mut().zip(plans) {
            if !shard.touched {
                let entry = shard.entry();
                carried += entry.segments;
                entries.push(entry);
                continue;
            }
            let mut segments: Vec<CatalogSegment> = plan
                .keep
                .iter()
                .map(|(number, deleted)| CatalogSegment { deleted: deleted.clone(), ..shard.segments[*number].clone() })
                .collect();
            carried += segments.len() as u64;
            for (number, bin) in plan.bins.iter().enumerate() {
                let batches = buckets.take(first_bin + number)?;
                let rows = self.rows_of(shard, &plan, number, batches).await?;
                self.context.report(&self.subject, Stage::Index, done, total);
                if let Some(segment) = self.write(*bin, rows, done, total).await? {
                    segments.push(segment);
                    written += 1;
                }
                done += bin.rows;
            }
            self.context.report(&self.subject, Stage::Index, done, total);
            first_bin += plan.bins.len();
            entries.push(shard.publish(self.context, &self.index.id, segments).await?);
        }
        self.publish(previous, entries, written, carried).await
    }

    /// Folds the deltas since a manifest; marks the old rows of changed points dead, counts their new rows.
    async fn changes_since(&self, manifest: &Manifest, shards: &mut [ShardState]) -> Result<Changes, CompactError> {
        let (after, up_to) = (&manifest.watermark, &self.checkpoint.watermark);
        let spool = DeltaSpool::new(self.context, &self.source, &self.subject, after, up_to)?;
        let spill = self.context.scratch()?;
        let mut newest = newest_writes(&self.context.settings, spill.path(), spool.writes()).await?;
        let mut winners = Winners::default();
        while let Some(writes) = newest.next().await {
            let writes = writes?;
            let mut lookups: HashMap<(usize, usize), Vec<usize>> = HashMap::new();
            for i in 0..writes.len() {
                let Some(place) = self.placement.place(writes.keys.value(i))? else { continue };
                let shard = &mut shards[place.shard];
                for &segment in shard.by_split.get(&place.split).into_iter().flatten() {
                    lookups.entry((place.shard, segment)).or_default().push(i);
                }
                let rank = writes.rank(i);
                if !rank.is_tombstone() {
                    winners.insert(rank);
                    shard.touched = true;
                    *shard.new_rows.entry(place.split).or_default() += 1;
                }
            }
            for ((shard, segment), rows) in lookups {
                let open = shards[shard].open(self.context, &self.index.id, segment).await?;
                let keys = writes.keys.clone();
                let find = move || Ok(open.rows_of_keys(rows.iter().map(|&i| keys.value(i))));
                let dead = blocking(find).await?;
                let before = shards[shard].segments[segment].deleted.len();
                shards[shard].segments[segment].deleted |= dead;
                shards[shard].touched |= shards[shard].segments[segment].deleted.len() > before;
            }
        }
        Ok(Changes::Fold(spool, winners))
    }

    /// Counts the live rows of the checkpoint.
    async fn everything(&self, shards: &mut [ShardState]) -> Result<Changes, CompactError> {
        let files = load_files(self.context, &self.checkpoint).await?;
        for shard in &mut *shards {
            shard.touched = true;
        }
        for file in &files {
            let key = data_key(&self.source.id)(file.file.data.id);
            let local = self.context.fetch(&key, &file.file.data).await?;
            let (placement, deleted) = (Arc::clone(&self.placement), file.deleted.clone());
            let count = move || {
                let mut counts: HashMap<_, u64> = HashMap::new();
                read_keys(local.path(), &key.render(), |first, keys| {
                    for (_, key) in (first..).zip(keys.iter().flatten()).filter(|(row, _)| !deleted.contains(*row)) {
                        if let Some(place) = placement.place(key)? {
                            *counts.entry((place.shard, place.split)).or_default() += 1;
                        }
                    }
                    Ok(())
                })?;
                Ok(counts)
            };
            for ((shard, split), rows) in blocking(count).await? {
                *shards[shard].new_rows.entry(split).or_default() += rows;
            }
        }
        Ok(Changes::Checkpoint(files))
    }

    fn policy(&self) -> PlanPolicy {
        let settings = &self.context.settings;
        // Files are compressed, segments are not: text may take several times as much.
        let (bytes, rows) = self.checkpoint.files.iter().fold((0, 0), |(b, r), f| (b + f.data.bytes, r + f.rows));
        let guess = row_bytes(&self.source);
        let row_bytes = guess + (bytes / rows.max(1)).saturating_sub(guess).saturating_mul(4);
        PlanPolicy {
            merge: MergePolicy {
                fan: settings.merge_fan,
                dead_percent_max: settings.dead_percent_max,
                full: settings.segment_bytes_max / 2,
            },
            graph_threshold: self.index.algorithm.hnsw.map(|_| settings.graph_threshold_rows),
            row_bytes,
            rows_max: (settings.segment_bytes_max / row_bytes.max(1)).clamp(1, u64::from(u32::MAX / 2)),
        }
    }

    async fn row_streams(&self, changes: Changes) -> Result<(Vec<RowStream>, u64), CompactError> {
        match changes {
            Changes::Fold(spool, winners) => {
                let rows = winners.rows;
                Ok((vec![winning_rows(&spool, winners)], rows))
            }
            Changes::Checkpoint(files) => {
                let mut streams = Vec::with_capacity(files.len());
                for file in &files {
                    streams.push(file_rows(self.context, &self.source, file).await?);
                }
                Ok((streams, self.checkpoint.rows))
            }
        }
    }

    /// Sorts the changed rows into bins.
    async fn distribute(&self, changes: Changes, plans: &[ShardPlan]) -> Result<Buckets, CompactError> {
        let mut buckets = Buckets::new(self.context, plans.iter().map(|plan| plan.bins.len()).sum())?;
        let mut first_bin = Vec::with_capacity(plans.len());
        plans.iter().fold(0, |sum, plan| {
            first_bin.push(sum);
            sum + plan.bins.len()
        });
        let assignments: Arc<Vec<_>> =
            Arc::new(plans.iter().zip(first_bin).map(|(plan, first)| (plan.new_rows.clone(), first)).collect());
        let (streams, total) = self.row_streams(changes).await?;
        let mut done = 0;
        for mut stream in streams {
            while let Some(batch) = stream.next().await {
                let batch = batch?;
                done += batch.num_rows() as u64;
                let (placement, assignments) = (Arc::clone(&self.placement), Arc::clone(&assignments));
                let name = self.source.id.to_string();
                buckets = blocking(move || {
                    let keys = batch.column(0).as_binary_opt::<i32>();
                    let keys = keys.ok_or_else(|| unreadable(&name, "rows without keys"))?;
                    let mut by_bin: HashMap<usize, Vec<u32>> = HashMap::new();
                    for (row, key) in (0_u32..).zip(keys.iter().flatten()) {
                        let Some(place) = placement.place(key)? else { continue };
                        let (splits, first) = &assignments[place.shard];
                        let bin = splits.get(&place.split).and_then(|bins| bin_of(bins, key));
                        let bin =
                            bin.ok_or_else(|| unreadable(&name, "a row that was not there when rows were counted"))?;
                        by_bin.entry(first + bin).or_default().push(row);
                    }
                    for (bin, rows) in by_bin {
                        buckets.add(bin, &batch, rows)?;
                    }
                    Ok(buckets)
                })
                .await?;
                self.context.report(&self.subject, Stage::Distribute, done, total);
            }
        }
        Ok(buckets)
    }

    /// The rows of a bin, from new batches and old segments.
    async fn rows_of(
        &self,
        shard: &mut ShardState,
        plan: &ShardPlan,
        bin: usize,
        batches: Vec<RecordBatch>,
    ) -> Result<Vec<Rows>, CompactError> {
        let mut rows: Vec<Rows> = batches.into_iter().map(Rows::New).collect();
        for moved in plan.moves.iter().filter(|moved| moved.bins.contains(&bin)) {
            let segment = shard.open(self.context, &self.index.id, moved.segment).await?;
            let mut chosen = moved.rows.clone();
            if moved.bins.len() > 1 {
                chosen.retain(|row| bin_of(&moved.bins, segment.key(row)) == Some(bin));
            }
            rows.push(Rows::Old(segment, chosen));
        }
        Ok(rows)
    }

    async fn write(
        &self,
        bin: Bin,
        rows: Vec<Rows>,
        done: u64,
        total: u64,
    ) -> Result<Option<CatalogSegment>, CompactError> {
        let directory = self.context.scratch()?;
        let path = directory.path().join("segment");
        let algorithm = self.index.algorithm;
        let build = match algorithm.hnsw {
            _ if algorithm.metric.is_sparse() => Build::Sparse,
            Some(params) if bin.graph => Build::Graph(params),
            _ => Build::Flat,
        };
        let settings =
            SegmentSettings { threads: self.context.settings.threads, ..self.context.settings.segment.clone() };
        let (source, placement) = (Arc::clone(&self.source), Arc::clone(&self.placement));
        let (context, subject) = (Arc::clone(self.context), self.subject.clone());
        let (summary, splits, path) = blocking(move || {
            let (input, splits) = gather(&source, &placement, algorithm.metric, rows)?;
            if input.rows() == 0 {
                return Ok((None, splits, path));
            }
            let progress = |rows: u64, _: u64| context.report(&subject, Stage::Index, done + rows, total);
            let summary = write_segment(&input, build, &settings, &path, &progress)?;
            Ok((Some(summary), splits, path))
        })
        .await?;
        let Some(summary) = summary else { return Ok(None) };
        let file = Written { path, bytes: summary.bytes, crc32c: summary.crc32c };
        let object = self.context.put_file(segment_key(&self.index.id), &file).await?;
        let (kind, rows) = (summary.kind, summary.rows);
        Ok(Some(CatalogSegment { object, kind, rows, deleted: roaring::RoaringBitmap::new(), splits }))
    }

    async fn publish(
        &self,
        previous: Option<&Manifest>,
        shards: Vec<ShardEntry>,
        written: u64,
        carried: u64,
    ) -> Result<BuildOutcome, CompactError> {
        let manifest = Manifest {
            format: FORMAT,
            index: self.index.id.clone(),
            generation: previous.map_or(0, |previous| previous.generation) + 1,
            commit_id: self.context.new_id(),
            watermark: self.checkpoint.watermark.clone(),
            created_ms: self.context.store.clock().now_ms(),
            rows: shards.iter().map(|entry| entry.rows).sum(),
            shards,
        };
        check_rows(&self.index, &self.checkpoint, &manifest)?;
        match publish_manifest(self.context, self.begun, &manifest, previous).await? {
            Publication::Ours => Ok(outcome(Status::Published, Some(&manifest), written, carried)),
            Publication::LostRace => {
                let newest = latest_manifest(&self.context.store, &self.index.id, None).await?;
                Ok(outcome(Status::LostRace, newest.as_ref(), written, carried))
            }
        }
    }
}

/// `index-equals-checkpoint`, as far as counts tell: never more rows than the checkpoint, and all of them when there is
/// one shard that takes everything.
pub(crate) fn check_rows(index: &Index, checkpoint: &Checkpoint, manifest: &Manifest) -> Result<(), Corrupt> {
    let all = index.shards.len() == 1 && index.shards.values().all(|shard| shard.conditions.is_empty());
    if manifest.rows > checkpoint.rows || (all && manifest.rows != checkpoint.rows) {
        let manifest_key = ObjectKey::Manifest { index: index.id.clone(), generation: manifest.generation };
        return Err(Corrupt {
            object: manifest_key.render(),
            part: "index-equals-checkpoint".to_owned(),
            expected: format!("{} rows, as in the checkpoint at {}", checkpoint.rows, checkpoint.watermark),
            found: format!("{} rows", manifest.rows),
        });
    }
    Ok(())
}
