//! Which objects of one owner may go, and why. Deletes nothing.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use tarn_model::{Checkpoint, Corrupt, DataSourceId, IndexId, Manifest, ObjectKey, ReadToken};
use tarn_store::StoreError;
use ulid::Ulid;

use super::inventory::{Item, Objects};
use crate::build::load_catalog;
use crate::context::Context;
use crate::error::CompactError;
use crate::settings::GcOptions;

/// The options as points in time.
pub(super) struct Limits {
    /// What was last modified at or before this is older than the grace period.
    old_ms: i64,
    receipts_ms: i64,
    retain: u64,
    grace_s: u64,
}

impl Limits {
    pub(super) fn new(options: &GcOptions, now_ms: i64) -> Self {
        let before = |duration: std::time::Duration| {
            now_ms.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
        };
        Self {
            old_ms: before(options.grace),
            // A receipt outlives the grace period in any case.
            receipts_ms: before(options.receipt_retention.max(options.grace)),
            retain: options.retain_generations,
            grace_s: options.grace.as_secs(),
        }
    }

    fn is_old(&self, item: &Item) -> bool {
        item.modified_ms <= self.old_ms
    }
}

/// Whose boundary it is.
#[derive(Clone, Debug)]
pub(super) enum Owner {
    Source(DataSourceId),
    Index(IndexId),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(id) => id.fmt(f),
            Self::Index(id) => id.fmt(f),
        }
    }
}

/// An object that may go.
#[derive(Debug)]
pub(super) struct Doomed {
    pub(super) key: ObjectKey,
    pub(super) bytes: u64,
    pub(super) why: String,
}

impl Doomed {
    fn new(item: &Item, why: impl Into<String>) -> Self {
        Self { key: item.key.clone(), bytes: item.bytes, why: why.into() }
    }
}

/// The garbage of one owner.
#[derive(Debug, Default)]
pub(super) struct OwnerGarbage {
    pub(super) name: String,
    /// What to announce before deleting: the last timeline position and the last generation that go.
    pub(super) boundary: Option<(Owner, ReadToken, u64)>,
    /// The marker of a deleted owner: only while it stands may the objects go.
    pub(super) marker: Option<ObjectKey>,
    /// In the order in which they go.
    pub(super) objects: Vec<Doomed>,
}

/// What an index lets go of, and what of the timeline it still needs.
#[derive(Debug, Default)]
pub(super) struct IndexPlan {
    pub(super) garbage: OwnerGarbage,
    /// The index needs the deltas after this; empty: all of them.
    pub(super) watermark: ReadToken,
}

/// The oldest generation that is kept: the newest `retain` are, and each that was the newest within the grace period.
fn first_kept(roots: &BTreeMap<u64, Item>, limits: &Limits) -> u64 {
    let mut kept = None;
    let mut successor: Option<&Item> = None;
    for ((&generation, item), age) in roots.iter().rev().zip(0_u64..) {
        let replaced_long_ago = successor.is_some_and(|successor| limits.is_old(successor));
        if age >= limits.retain && replaced_long_ago {
            break;
        }
        kept = Some(generation);
        successor = Some(item);
    }
    kept.unwrap_or(0)
}

fn old_roots<'a>(objects: &'a Objects, first_kept: u64, limits: &'a Limits) -> impl Iterator<Item = Doomed> + 'a {
    let (retain, grace) = (limits.retain, limits.grace_s);
    let why = move |generation| {
        format!("generation {generation} is not among the newest {retain} and was replaced more than {grace} s ago")
    };
    objects.roots.range(..first_kept).map(move |(&generation, item)| Doomed::new(item, why(generation)))
}

fn unnamed<'a>(
    objects: &'a Objects,
    named: &'a HashSet<Ulid>,
    limits: &'a Limits,
) -> impl Iterator<Item = Doomed> + 'a {
    let id = |item: &Item| match &item.key {
        ObjectKey::CheckpointData { id, .. } | ObjectKey::Catalog { id, .. } | ObjectKey::Segment { id, .. } => {
            Some(*id)
        }
        // No root names them.
        ObjectKey::BuildOrder { id, .. } | ObjectKey::BuildPart { order: id, .. } => Some(*id),
        _ => None,
    };
    let grace = limits.grace_s;
    objects
        .data
        .iter()
        .filter(move |item| id(item).is_some_and(|id| !named.contains(&id)) && limits.is_old(item))
        .map(move |item| Doomed::new(item, format!("no kept generation names it and it is older than {grace} s")))
}

fn old_boundaries<'a>(objects: &'a Objects, limits: &'a Limits) -> impl Iterator<Item = Doomed> + 'a {
    let newer = objects.boundaries.values().skip(1);
    objects
        .boundaries
        .values()
        .zip(newer)
        .take_while(|(_, newer)| limits.is_old(newer))
        .map(|(item, _)| Doomed::new(item, "a newer boundary has replaced it"))
}

/// Everything of an owner that is deleted, or that has no definition. `None` when it has one.
pub(super) fn plan_deleted(owner: &str, objects: &Objects, limits: &Limits) -> Option<OwnerGarbage> {
    let why = match (&objects.marker, &objects.definition) {
        (Some(marker), _) if limits.is_old(marker) => "its owner was deleted",
        (None, None) => "its owner has no definition",
        _ => return None,
    };
    let deleted = objects.marker.is_some();
    // With a marker nothing of it can be in use. Without a definition only what is old is taken, as for any orphan.
    let may_go = |item: &&Item| deleted || limits.is_old(item);
    let contents = objects.contents().filter(may_go);
    // No reader finds a hint without finding the index.
    let mut doomed: Vec<Doomed> = objects.hint.iter().filter(may_go).map(|item| Doomed::new(item, why)).collect();
    doomed.extend(objects.definition.iter().map(|item| Doomed::new(item, why)));
    doomed.extend(contents.map(|item| Doomed::new(item, why)));
    // The marker keeps the name from being taken again until everything else is gone.
    doomed.extend(objects.marker.iter().map(|item| Doomed::new(item, why)));
    let marker = objects.marker.as_ref().map(|item| item.key.clone());
    Some(OwnerGarbage { name: owner.to_owned(), boundary: None, marker, objects: doomed })
}

/// Reads a kept root. It cannot be missing: only garbage collection deletes, and it would have written a boundary.
async fn read_root<T>(
    context: &Context,
    item: &Item,
    parse: impl FnOnce(&str, &[u8]) -> Result<T, Corrupt>,
) -> Result<T, CompactError> {
    let name = item.key.render();
    let bytes = context.store.get(&item.key).await?.ok_or_else(|| StoreError::Missing { object: name.clone() })?;
    Ok(parse(&name, &bytes)?)
}

fn earliest(a: Option<ReadToken>, b: &ReadToken) -> Option<ReadToken> {
    // One lane; see limits::LANES.
    Some(match a {
        Some(a) if a.sequence(0) <= b.sequence(0) => a,
        _ => b.clone(),
    })
}

pub(super) async fn plan_index(
    context: &Arc<Context>,
    id: &IndexId,
    objects: &Objects,
    limits: &Limits,
) -> Result<IndexPlan, CompactError> {
    let first = first_kept(&objects.roots, limits);
    let (mut named, mut catalogs, mut watermark) = (HashSet::new(), HashSet::new(), None);
    for (&generation, item) in objects.roots.range(first..) {
        let manifest = read_root(context, item, |name, bytes| Manifest::parse(name, bytes, id, generation)).await?;
        watermark = earliest(watermark, &manifest.watermark);
        for entry in &manifest.shards {
            let Some(object) = &entry.catalog else { continue };
            named.insert(object.id);
            // Generations share catalogs of shards that did not change.
            if catalogs.insert(object.id) {
                let catalog = load_catalog(context, id, entry).await?;
                named.extend(catalog.iter().flat_map(|catalog| &catalog.segments).map(|segment| segment.object.id));
            }
        }
    }
    let mut doomed: Vec<Doomed> = old_roots(objects, first, limits).collect();
    let last_root = objects.roots.range(..first).next_back().map(|(&generation, _)| generation);
    doomed.extend(unnamed(objects, &named, limits));
    doomed.extend(old_boundaries(objects, limits));
    let boundary = last_root.map(|last| (Owner::Index(id.clone()), ReadToken::default(), last));
    let garbage = OwnerGarbage { name: id.to_string(), boundary, marker: None, objects: doomed };
    Ok(IndexPlan { garbage, watermark: watermark.unwrap_or_default() })
}

/// `watermarks`: of the indices over the data source, see [`IndexPlan::watermark`].
pub(super) async fn plan_source(
    context: &Arc<Context>,
    id: &DataSourceId,
    objects: &Objects,
    watermarks: &[ReadToken],
    limits: &Limits,
) -> Result<OwnerGarbage, CompactError> {
    let first = first_kept(&objects.roots, limits);
    let (mut named, mut needed_after) = (HashSet::new(), None);
    for (&generation, item) in objects.roots.range(first..) {
        let checkpoint = read_root(context, item, |name, bytes| Checkpoint::parse(name, bytes, id, generation)).await?;
        needed_after = earliest(needed_after, &checkpoint.watermark);
        named.extend(checkpoint.files.iter().flat_map(|f| std::iter::once(&f.data).chain(&f.deleted)).map(|o| o.id));
    }
    // Without a checkpoint every delta is needed.
    let needed_after = watermarks.iter().fold(needed_after.unwrap_or_default(), |needed, watermark| {
        earliest(Some(needed), watermark).unwrap_or_default()
    });
    let mut doomed: Vec<Doomed> = old_roots(objects, first, limits).collect();
    let last_root = objects.roots.range(..first).next_back().map(|(&generation, _)| generation);
    doomed.extend(unnamed(objects, &named, limits));
    let mut last_delta = None;
    for (&sequence, item) in
        objects.deltas.range(..=needed_after.sequence(0)).take_while(|(_, item)| limits.is_old(item))
    {
        last_delta = Some(sequence);
        let why = format!("every kept checkpoint and manifest includes sequence {sequence}");
        doomed.push(Doomed::new(item, why));
    }
    let receipts = objects.receipts.iter().filter(|item| item.modified_ms <= limits.receipts_ms);
    doomed.extend(receipts.map(|item| Doomed::new(item, "its idempotency key has expired")));
    doomed.extend(old_boundaries(objects, limits));
    let boundary = (last_root.is_some() || last_delta.is_some()).then(|| {
        let timeline = last_delta.map(ReadToken::single).unwrap_or_default();
        (Owner::Source(id.clone()), timeline, last_root.unwrap_or(0))
    });
    // It may be deleted and not yet old enough; another collector could finish with it before this one does.
    let marker = objects.marker.as_ref().map(|item| item.key.clone());
    Ok(OwnerGarbage { name: id.to_string(), boundary, marker, objects: doomed })
}
