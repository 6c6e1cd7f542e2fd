//! A part of an index build: some shards, from the manifest that the build stands on and what changed since.
//!
//! Changed points are found by folding the deltas between the manifest's watermark and the checkpoint's, keys first. Their
//! old rows are marked dead in the catalogs, their new rows go to new segments, and segments are merged as `plan`
//! says. Everything else is carried over by name. Without a manifest, or when those deltas are collected, the shards are
//! built from the checkpoint alone; the result holds the same rows. So parts of one build may differ in how they were
//! built, never in what they hold.
//!
//! Writes segments and catalogs, which nothing names until the build is published. Publishes nothing.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tarn_model::{Checkpoint, DataSource, Index, Manifest};
use tarn_segment::{Build, CatalogSegment, SegmentSettings, SegmentSummary, write_segment};
use tarn_store::{StoreError, latest_source_boundary};

use super::buckets::Buckets;
use super::gather::{Rows, gather};
use super::order::PartResult;
use super::plan::{Bin, PlanPolicy, ShardPlan, bin_of, plan_shard};
use super::shard::{ShardState, segment_key};
use super::statistics::Centre;
use super::{Placement, Step};
use crate::checkpoint::{LoadedFile, data_key, file_rows, load_files, row_bytes};
use crate::context::{Context, Written, blocking};
use crate::error::CompactError;
use crate::fold::{DeltaSpool, Winners, newest_writes, winning_rows};
use crate::merge::MergePolicy;
use crate::progress::Stage;
use crate::rows::{read_keys, unreadable};
use crate::settings::ApproximateIndex;

/// Where the changed rows come from.
enum Changes {
    /// The rows of a fold that won.
    Fold(Arc<DeltaSpool>, Winners),
    /// Every live row of the checkpoint.
    Checkpoint(Vec<LoadedFile>),
}

type RowStream = BoxStream<'static, Result<RecordBatch, CompactError>>;

/// The shards of a part under construction.
struct Part<'a> {
    context: &'a Arc<Context>,
    subject: &'a str,
    source: &'a Arc<DataSource>,
    index: &'a Arc<Index>,
    checkpoint: &'a Checkpoint,
    placement: Arc<Placement>,
}

/// Builds some shards of a step.
pub(super) async fn build_part(
    step: &Step,
    number: u32,
    shards: impl IntoIterator<Item = String>,
) -> Result<PartResult, CompactError> {
    let part = Part {
        context: &step.context,
        subject: &step.subject,
        source: &step.source,
        index: &step.index,
        checkpoint: &step.checkpoint,
        placement: Arc::new(Placement::within(&step.source, &step.index, shards)),
    };
    let mut result = PartResult::new(&step.order, number);
    if let Some(manifest) = &step.previous {
        let boundary = latest_source_boundary(&step.context.store, &step.source.id, None).await?;
        let collected = boundary.is_some_and(|boundary| !manifest.watermark.includes(&boundary.timeline));
        if !collected {
            match part.build(Some(manifest), &mut result).await {
                // Collected while it was read, or lost: the checkpoint holds the same points.
                Err(CompactError::Store(StoreError::Missing { object })) => {
                    tracing::warn!(index = %step.index.id, %object, "building from the checkpoint: an object is missing");
                }
                other => return other.map(|()| result),
            }
        }
    }
    result = PartResult::new(&step.order, number);
    part.build(None, &mut result).await?;
    Ok(result)
}

impl Part<'_> {
    /// `base`: a manifest whose segments are carried over; `None` builds from the checkpoint alone.
    async fn build(&self, base: Option<&Manifest>, result: &mut PartResult) -> Result<(), CompactError> {
        let mut shards = Vec::with_capacity(self.placement.shards().len());
        for id in self.placement.shards() {
            let entry = base.and_then(|base| base.shards.iter().find(|entry| entry.shard == *id));
            shards.push(ShardState::load(self.context, &self.index.id, id, entry).await?);
        }
        let changes = match base {
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
        let mut centre = match (&changes, base) {
            (Changes::Checkpoint(files), _) => Centre::of_checkpoint(self.context, self.source, files).await?,
            (Changes::Fold(..), Some(manifest)) => {
                Centre::of_index(self.context, self.source, &self.index.id, manifest, &shards).await?
            }
            (Changes::Fold(..), None) => Centre::default(),
        };
        let mut buckets = self.distribute(changes, &plans).await?;

        let mut first_bin = 0;
        let total: u64 = plans.iter().flat_map(|plan| &plan.bins).map(|bin| bin.rows).sum();
        let mut done = 0;
        for (shard, plan) in shards.iter_mut().zip(plans) {
            if !shard.touched {
                let entry = shard.entry();
                result.segments_carried += entry.segments;
                result.shards.push(entry);
                continue;
            }
            let mut segments: Vec<CatalogSegment> = Vec::with_capacity(plan.keep.len() + plan.bins.len());
            for (number, deleted) in &plan.keep {
                let mut kept = CatalogSegment { deleted: deleted.clone(), ..shard.segments[*number].clone() };
                centre.renew(self.context, &self.index.id, shard, *number, &mut kept).await?;
                segments.push(kept);
            }
            result.segments_carried += segments.len() as u64;
            for (number, bin) in plan.bins.iter().enumerate() {
                let batches = buckets.take(first_bin + number)?;
                let rows = self.rows_of(shard, &plan, number, batches).await?;
                self.context.report(self.subject, Stage::Index, done, total);
                if let Some(segment) = self.write(*bin, rows, &mut centre, done, total).await? {
                    segments.push(segment);
                    result.segments_written += 1;
                }
                done += bin.rows;
            }
            self.context.report(self.subject, Stage::Index, done, total);
            first_bin += plan.bins.len();
            result.shards.push(shard.publish(self.context, &self.index.id, segments).await?);
        }
        Ok(())
    }

    /// Folds the deltas since a manifest; marks the old rows of changed points dead, counts their new rows.
    async fn changes_since(&self, manifest: &Manifest, shards: &mut [ShardState]) -> Result<Changes, CompactError> {
        let (after, up_to) = (&manifest.watermark, &self.checkpoint.watermark);
        let spool = DeltaSpool::new(self.context, self.source, self.subject, after, up_to)?;
        let spill = self.context.scratch()?;
        let mut newest = newest_writes(&self.context.settings, spill.path(), spool.writes(u64::MAX)).await?;
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
        let files = load_files(self.context, self.checkpoint).await?;
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
        let guess = row_bytes(self.source);
        let row_bytes = guess + (bytes / rows.max(1)).saturating_sub(guess).saturating_mul(4);
        PlanPolicy {
            merge: MergePolicy {
                fan: settings.merge_fan,
                dead_percent_max: settings.dead_percent_max,
                full: settings.segment_bytes_max / 2,
            },
            own_threshold: settings.own_threshold_rows(&self.index.algorithm),
            row_bytes,
            rows_max: (settings.segment_bytes_max / row_bytes.max(1)).clamp(1, u64::from(u32::MAX / 2)),
        }
    }

    /// The changed rows, and how many are to be expected. Files of the checkpoint are fetched one after the other, so that
    /// the cache need not hold them all.
    fn rows(&self, changes: Changes) -> (RowStream, u64) {
        match changes {
            Changes::Fold(spool, winners) => {
                let rows = winners.rows;
                (winning_rows(&spool, winners), rows)
            }
            Changes::Checkpoint(files) => {
                let (context, source) = (Arc::clone(self.context), Arc::clone(self.source));
                let open = move |file: LoadedFile| {
                    let (context, source) = (Arc::clone(&context), Arc::clone(&source));
                    async move { file_rows(&context, &source, &file).await }
                };
                (futures::stream::iter(files).then(open).try_flatten().boxed(), self.checkpoint.rows)
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
        let (mut rows, total) = self.rows(changes);
        let mut done = 0;
        while let Some(batch) = rows.next().await {
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
            self.context.report(self.subject, Stage::Distribute, done, total);
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
        centre: &mut Centre,
        done: u64,
        total: u64,
    ) -> Result<Option<CatalogSegment>, CompactError> {
        let directory = self.context.scratch()?;
        let path = directory.path().join("segment");
        let algorithm = self.index.algorithm;
        let build = match algorithm.hnsw {
            _ if algorithm.metric.is_sparse() => Build::Sparse,
            _ if !bin.own => Build::Flat,
            // Of an exact index codes say which rows need not be compared.
            None => Build::Cells,
            Some(params) => match self.context.settings.approximate_index {
                ApproximateIndex::Cells => Build::Cells,
                ApproximateIndex::Graph => Build::Graph(params),
                ApproximateIndex::Both => Build::CellsAndGraph(params),
            },
        };
        let mut settings =
            SegmentSettings { threads: self.context.settings.threads, ..self.context.settings.segment.clone() };
        if algorithm.is_exact() {
            // Nobody asks what recall an effort gives.
            settings.calibration_queries = 0;
        }
        let (source, placement) = (Arc::clone(self.source), Arc::clone(&self.placement));
        let (context, subject) = (Arc::clone(self.context), self.subject.to_owned());
        let mut counting = centre.clone();
        let (summary, splits, path, counted) = blocking(move || {
            let (input, splits) = gather(&source, &placement, algorithm.metric, rows)?;
            if input.rows() == 0 {
                return Ok((None, splits, path, (counting, None)));
            }
            let statistics = counting.count(&source, &input);
            let progress = |rows: u64, _: u64| context.report(&subject, Stage::Index, done + rows, total);
            let summary = write_segment(&input, build, &settings, &path, &progress)?;
            Ok((Some(summary), splits, path, (counting, statistics)))
        })
        .await?;
        let (counting, statistics) = counted;
        *centre = counting;
        let Some(summary) = summary else { return Ok(None) };
        let file = Written { path, bytes: summary.bytes, crc32c: summary.crc32c };
        let object = self.context.put_file(segment_key(&self.index.id), &file).await?;
        let SegmentSummary { kind, outline, rows, .. } = summary;
        let deleted = roaring::RoaringBitmap::new();
        Ok(Some(CatalogSegment { object, kind, outline, rows, deleted, splits, statistics }))
    }
}
