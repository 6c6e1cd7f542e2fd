//! Garbage collection: the only deleter.
//!
//! **What may go**, and nothing else:
//! - A checkpoint or manifest that is not among the newest `retain_generations`, once a newer one has existed for the grace
//!   period. The others are *kept roots*; a reader pins a root for at most the grace period, so what it pins is kept.
//! - A data file, catalog or segment that no kept root names and that is older than the grace period. A builder
//!   publishes sooner than that or not at all (`unpublished-objects-are-young`), so nothing goes that will be named.
//! - What tasks of one build leave for each other (`builds/`), when it is older than the grace period: by then they have
//!   published or never will, for the same reason.
//! - A delta at or below the watermarks of all kept checkpoints and all kept manifests of every index of its data
//!   source, older than the grace period. An index without a manifest keeps every delta there is; one that is created
//!   later is built from the checkpoint.
//! - A receipt after `receipt_retention`; a boundary that was replaced for the grace period.
//! - Everything of a data source or index whose deletion marker is older than the grace period (a data source only when
//!   no index is left over it), and what is left under a name without a definition.
//!
//! **Order.** The boundary is created before anything it covers is deleted: a writer that slept re-reads it after its own
//! put (`zombies-do-not-publish`). Roots go before what they name, oldest first, so that a crash leaves no root that names
//! a missing object above the boundary; deltas go oldest first, so that the timeline above the boundary stays gapless.
//! Deletion markers go last.
//!
//! **Together.** Collectors may run at once. Those that race for a boundary leave the deleting to the winner. What is deleted
//! under a marker is deleted only while the marker stands, object by object, and every plan is dropped when it is older
//! than the grace period (`collectors-do-not-linger`): so a slow collector does not take what has been created since under
//! a name that was free again.
//!
//! **The hint** of an index goes with the index, before its definition. That of a living one is kept, and written anew when it is
//! no copy of the newest manifest: a bucket that was copied has other ETags, and a builder may have died before it wrote one.
//!
//! Owns `named-objects-are-kept`. Losing a race against another collector deletes nothing and is no error.

mod inventory;
mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tarn_model::{Boundary, DataSourceId, FORMAT, ObjectKey};
use tarn_store::{Created, latest_index_boundary, latest_source_boundary, load_index};
use tarn_timeline::MIN_COLLECTION_GRACE;

use crate::context::Context;
use crate::error::CompactError;
use crate::hint;
use crate::outcome::{Garbage, GcReport};
use crate::progress::Stage;
use crate::publish::to_json;
use crate::settings::GcOptions;
use inventory::Inventory;
use plan::{IndexPlan, Limits, OwnerGarbage, plan_deleted, plan_index, plan_source};

/// Deletes under way at once.
const CONCURRENCY: usize = 16;

/// Deletes what no reader and no builder can need.
pub(crate) async fn collect(context: &Arc<Context>, options: &GcOptions) -> Result<GcReport, CompactError> {
    if options.retain_generations == 0 {
        return Err(CompactError::Settings("gc must retain at least 1 generation".to_owned()));
    }
    let shortest = context.settings.shortest_grace();
    if options.grace < shortest && !options.dry_run && !options.store_is_idle {
        return Err(CompactError::GraceTooShort { grace_s: options.grace.as_secs(), shortest_s: shortest.as_secs() });
    }
    let mut report = GcReport { dry_run: options.dry_run, ..GcReport::default() };
    let patience = Patience::new(context, options);
    // The time before the listing: what is created during it looks younger than it is, never older.
    let limits = Limits::new(options, context.store.clock().now_ms());
    let inventory = Inventory::read(context).await?;
    if inventory.foreign > 0 {
        report.notes.push(format!("{} objects are none of ours; they are left alone", inventory.foreign));
    }

    let mut work: Vec<OwnerGarbage> = Vec::new();
    let mut indices: BTreeMap<DataSourceId, Vec<IndexPlan>> = BTreeMap::new();
    for (id, objects) in &inventory.indices {
        if let Some(garbage) = plan_deleted(&id.to_string(), objects, &limits) {
            work.push(garbage);
            continue;
        }
        let Some(index) = load_index(&context.store, id).await? else { continue };
        let plan = plan_index(context, id, objects, &limits).await;
        let plan = plan.unwrap_or_else(|error| {
            report.notes.push(format!("{id} and the timeline below it are left alone: {error}"));
            IndexPlan::default()
        });
        indices.entry(index.data_source.clone()).or_default().push(plan);
        if let Some(newest) = objects.roots.values().next_back()
            && !options.dry_run
        {
            hint::mend_listed(context, &index, &newest.key, newest.e_tag.as_deref()).await;
        }
    }
    for (id, objects) in &inventory.sources {
        let over = indices.remove(id).unwrap_or_default();
        if over.is_empty() {
            if let Some(garbage) = plan_deleted(&id.to_string(), objects, &limits) {
                work.push(garbage);
                continue;
            }
        } else if objects.marker.is_some() {
            report.notes.push(format!("{id} is deleted but kept, because an index is still over it"));
        }
        let watermarks: Vec<_> = over.iter().map(|plan| plan.watermark.clone()).collect();
        work.extend(over.into_iter().map(|plan| plan.garbage));
        match plan_source(context, id, objects, &watermarks, &limits).await {
            Ok(garbage) => work.push(garbage),
            Err(error) => report.notes.push(format!("{id} is left alone: {error}")),
        }
    }
    // Indices over data sources that are not there.
    work.extend(indices.into_values().flatten().map(|plan| plan.garbage));

    for garbage in work {
        sweep(context, garbage, options, &patience, &mut report).await?;
    }
    Ok(report)
}

/// `collectors-do-not-linger`: a plan is carried out within the grace period after its listing, or not at all. What
/// it dooms by name could be in use anew after that: a data source that was deleted and made again numbers its deltas from 1.
struct Patience {
    listed_at: Duration,
    limit: Duration,
}

impl Patience {
    fn new(context: &Context, options: &GcOptions) -> Self {
        Self { listed_at: context.store.clock().monotonic(), limit: options.grace.max(MIN_COLLECTION_GRACE) }
    }

    fn check(&self, context: &Context) -> Result<(), CompactError> {
        let took = context.store.clock().monotonic().saturating_sub(self.listed_at);
        if took >= self.limit {
            return Err(CompactError::CollectorTooSlow { took_s: took.as_secs(), limit_s: self.limit.as_secs() });
        }
        Ok(())
    }
}

/// Whether the owner of doomed objects is still deleted. Another collector may have finished with it, and the name may have
/// been taken again; then the same keys hold what somebody has just uploaded.
async fn still_deleted(context: &Context, marker: Option<&ObjectKey>) -> Result<bool, CompactError> {
    match marker {
        Some(marker) => Ok(context.store.size(marker).await?.is_some()),
        None => Ok(true),
    }
}

/// Writes the boundary, then deletes.
async fn sweep(
    context: &Arc<Context>,
    garbage: OwnerGarbage,
    options: &GcOptions,
    patience: &Patience,
    report: &mut GcReport,
) -> Result<(), CompactError> {
    if let Some((owner, timeline, generation)) = garbage.boundary.filter(|_| !options.dry_run) {
        // The number follows the newest boundary's.
        let mine = Boundary { format: FORMAT, number: 0, commit_id: context.new_id(), timeline, generation };
        if !advance_boundary(context, &owner, mine).await? {
            report.notes.push(format!("{owner}: another garbage collection is at work; nothing was deleted"));
            return Ok(());
        }
    }
    let total = garbage.objects.len() as u64;
    let mut done = 0;
    let (owner, marker) = (garbage.name, garbage.marker.as_ref());
    for stage in in_order(garbage.objects) {
        let deleting = futures::stream::iter(stage).map(|(key, found)| async move {
            if !options.dry_run {
                patience.check(context)?;
                if !still_deleted(context, marker).await? {
                    return Ok(None);
                }
                context.store.delete(&key).await?;
            }
            Ok::<_, CompactError>(Some(found))
        });
        let mut deleted = deleting.buffered(CONCURRENCY);
        while let Some(found) = deleted.try_next().await? {
            let Some(found) = found else {
                report.notes.push(format!("{owner}: another garbage collection has finished with it"));
                return Ok(());
            };
            report.bytes += found.bytes;
            report.objects.push(found);
            done += 1;
            context.report(&owner, Stage::Collect, done, total);
        }
    }
    Ok(())
}

/// Runs of objects of one kind may go at the same time, except for those that must go one after the other.
fn in_order(objects: Vec<plan::Doomed>) -> Vec<Vec<(ObjectKey, Garbage)>> {
    let mut stages: Vec<Vec<(ObjectKey, Garbage)>> = Vec::new();
    let mut last: Option<std::mem::Discriminant<ObjectKey>> = None;
    for doomed in objects {
        let kind = std::mem::discriminant(&doomed.key);
        let one_by_one =
            matches!(doomed.key, ObjectKey::Delta { .. } | ObjectKey::Checkpoint { .. } | ObjectKey::Manifest { .. });
        let found = Garbage { key: doomed.key.render(), bytes: doomed.bytes, why: doomed.why };
        match stages.last_mut() {
            Some(stage) if last == Some(kind) && !one_by_one => stage.push((doomed.key, found)),
            _ => stages.push(vec![(doomed.key, found)]),
        }
        last = Some(kind);
    }
    stages
}

/// Creates the next boundary; `false` when somebody else just did.
async fn advance_boundary(
    context: &Context,
    owner: &plan::Owner,
    mut boundary: Boundary,
) -> Result<bool, CompactError> {
    let previous = match owner {
        plan::Owner::Source(id) => latest_source_boundary(&context.store, id, None).await?,
        plan::Owner::Index(id) => latest_index_boundary(&context.store, id, None).await?,
    };
    boundary.number = previous.as_ref().map_or(0, |previous| previous.number) + 1;
    if let Some(previous) = &previous {
        boundary.timeline = boundary.timeline.max(&previous.timeline);
        boundary.generation = boundary.generation.max(previous.generation);
        if (&boundary.timeline, boundary.generation) == (&previous.timeline, previous.generation) {
            return Ok(true);
        }
    }
    let number = boundary.number;
    let key = match owner {
        plan::Owner::Source(id) => ObjectKey::SourceBoundary { source: id.clone(), number },
        plan::Owner::Index(id) => ObjectKey::IndexBoundary { index: id.clone(), number },
    };
    boundary.check_successor(&key.render(), previous.as_ref())?;
    let commit = boundary.commit_id;
    let is_ours =
        |found: &Bytes| serde_json::from_slice::<Boundary>(found).is_ok_and(|found| found.commit_id == commit);
    let created = context.store.create(&key, to_json(&boundary)?, is_ours).await?;
    Ok(created == Created::Ours)
}
