//! What an index consists of, for people.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tarn_model::{Attributes, Index, KeyPrefix, ObjectKey, ReadToken, SplitKey};
use tarn_segment::Segment;
use tarn_store::Store;

use crate::error::SearchError;
use crate::plan::{Origin, Unit};
use crate::recall::ObservedRecall;
use crate::snapshot::Snapshot;

/// The state of an index.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexDescription {
    /// The definition.
    pub index: Index,
    /// The manifest's generation; 0 when the index has not been built.
    pub generation: u64,
    /// When the generation was published, in milliseconds since the Unix epoch by the builder's clock.
    pub published_ms: Option<i64>,
    /// What the segments include.
    pub watermark: ReadToken,
    /// The timeline's head.
    pub head: ReadToken,
    /// Deltas between watermark and head: what every strong search scans.
    pub lag_deltas: u64,
    /// How long ago the oldest of those deltas was stored, in milliseconds; 0 when there is none.
    pub lag_ms: u64,
    /// Live points, the tail included.
    pub points: u64,
    /// Bytes of all segment files.
    pub segment_bytes: u64,
    /// By shard id.
    pub shards: Vec<ShardDescription>,
    /// Splits in the order of their keys, at most as many as asked for.
    pub splits: Vec<SplitDescription>,
    /// How many splits there are, also when `splits` is cut short.
    pub splits_total: u64,
    /// The recall of this process's searches, as far as they were compared.
    pub recall: Vec<ObservedRecall>,
}

/// One shard of an index.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardDescription {
    /// The shard's id in the definition.
    pub shard: String,
    /// Live points, the tail included.
    pub points: u64,
    /// Splits with rows in segments.
    pub splits: u64,
    /// Bytes of the shard's segment files.
    pub segment_bytes: u64,
    /// The segment files.
    pub segments: Vec<SegmentDescription>,
}

/// One segment file.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentDescription {
    /// The object's id.
    pub id: String,
    /// `flat`, `graph` or `sparse`.
    pub kind: String,
    /// Rows in the file, dead ones included.
    pub rows: u64,
    /// Rows that the catalog marks as deleted.
    pub deleted: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// One split of a shard.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitDescription {
    /// The shard's id.
    pub shard: String,
    /// The values of the split attributes.
    pub attributes: Attributes,
    /// Live points, the tail included.
    pub points: u64,
    /// The split's share of its segment files' bytes, by rows.
    pub bytes: u64,
}

/// Live rows of a snapshot, the tail taken into account.
#[derive(Debug)]
pub(crate) struct LiveRows {
    /// All of them.
    pub(crate) total: u64,
    /// By shard position.
    shards: Vec<u64>,
    /// Rows that the tail replaces or removes, of the segments it touches: by shard and segment.
    superseded: HashMap<(u32, u32), Arc<roaring::RoaringBitmap>>,
}

/// Counts live rows. `touched`: the open segments whose splits the tail touches.
pub(crate) fn live_rows(snapshot: &Snapshot, touched: &[(Unit, Option<Arc<Segment>>)]) -> LiveRows {
    let mut superseded = HashMap::new();
    for (unit, segment) in touched {
        if let (Origin::Base { shard, segment: position }, Some(segment)) = (unit.origin, segment) {
            superseded.insert((shard, position), snapshot.superseded(shard, position, segment));
        }
    }
    let mut shards = vec![0; snapshot.definition.shards.len()];
    for ((catalog, live), shard) in snapshot.generation.shards.iter().zip(&mut shards).zip(0u32..) {
        for (segment, position) in catalog.iter().flat_map(|catalog| &catalog.segments).zip(0u32..) {
            // Both may name a row: the catalog, because it was already dead; the tail, because its key came again.
            let replaced = superseded.get(&(shard, position)).map_or(0, |rows| rows.difference_len(&segment.deleted));
            *live += segment.live() - replaced;
        }
    }
    for part in snapshot.tail.parts() {
        let all_dead = snapshot.dead(part);
        for group in part.run.groups() {
            let dead = all_dead.range_cardinality(group.rows.clone());
            if let Some(live) = shards.get_mut(group.shard as usize) {
                *live += u64::from(group.rows.end - group.rows.start) - dead;
            }
        }
    }
    LiveRows { total: shards.iter().sum(), shards, superseded }
}

/// How long the oldest delta of the tail has been stored, in milliseconds.
///
/// # Errors
/// See [`tarn_store::StoreError`].
pub(crate) async fn lag_ms(store: &Store, snapshot: &Snapshot) -> Result<u64, SearchError> {
    if snapshot.tail.head() == snapshot.tail.watermark() {
        return Ok(0);
    }
    let source = snapshot.definition.source.id.clone();
    let watermark = ObjectKey::Delta { source: source.clone(), lane: 0, sequence: snapshot.tail.watermark() };
    let listed = store.list_after(&KeyPrefix::Timeline(source, 0), &watermark).await?;
    let age = listed.first().map_or(0, |oldest| store.clock().now_ms().saturating_sub(oldest.modified_ms));
    Ok(u64::try_from(age).unwrap_or(0))
}

/// Puts the description together; at most `limit` splits.
///
/// # Errors
/// [`SearchError::Corrupt`] when a split key is none of the data source.
pub(crate) fn describe(
    snapshot: &Snapshot,
    live: &LiveRows,
    lag_ms: u64,
    limit: usize,
) -> Result<IndexDescription, SearchError> {
    let definition = &snapshot.definition;
    let mut shards = Vec::with_capacity(definition.shards.len());
    for ((id, catalog), &points) in definition.shards.iter().zip(&snapshot.generation.shards).zip(&live.shards) {
        let segments = catalog.iter().flat_map(|catalog| &catalog.segments).map(|segment| SegmentDescription {
            id: segment.file.object.id.to_string(),
            kind: format!("{:?}", segment.kind).to_lowercase(),
            rows: u64::from(segment.rows),
            deleted: segment.deleted.len(),
            bytes: segment.file.object.bytes,
        });
        let segments: Vec<_> = segments.collect();
        shards.push(ShardDescription {
            shard: id.clone(),
            points,
            splits: catalog.as_ref().map_or(0, |catalog| catalog.directory.count()),
            segment_bytes: segments.iter().map(|segment| segment.bytes).sum(),
            segments,
        });
    }
    let (splits, splits_total) = describe_splits(snapshot, live, limit)?;
    let manifest = snapshot.generation.manifest.as_ref();
    Ok(IndexDescription {
        index: (*definition.index).clone(),
        generation: snapshot.generation.number(),
        published_ms: manifest.map(|manifest| manifest.created_ms),
        watermark: snapshot.generation.watermark(),
        head: snapshot.version(),
        lag_deltas: snapshot.tail.head() - snapshot.tail.watermark(),
        lag_ms,
        points: live.total,
        segment_bytes: shards.iter().map(|shard| shard.segment_bytes).sum(),
        shards,
        splits,
        splits_total,
        recall: Vec::new(),
    })
}

/// The first splits by key, then shard; and how many there are in segments and tail.
fn describe_splits(
    snapshot: &Snapshot,
    live: &LiveRows,
    limit: usize,
) -> Result<(Vec<SplitDescription>, u64), SearchError> {
    let definition = &snapshot.definition;
    let mut places: BTreeMap<(&[u8], u32), (u64, u64)> = BTreeMap::new();
    for (catalog, shard) in snapshot.generation.shards.iter().zip(0u32..) {
        let Some(catalog) = catalog else { continue };
        for entry in catalog.directory.entries() {
            let segment = &catalog.segments[entry.segment as usize];
            let rows = entry.start..entry.end;
            let mut dead = segment.deleted.range_cardinality(rows.clone());
            if let Some(superseded) = live.superseded.get(&(shard, entry.segment)) {
                dead = (&segment.deleted | &**superseded).range_cardinality(rows.clone());
            }
            let count = u64::from(entry.end - entry.start);
            let (points, bytes) = places.entry((&entry.key, shard)).or_default();
            *points += count - dead;
            *bytes += segment.file.object.bytes * count / u64::from(segment.rows).max(1);
        }
    }
    for part in snapshot.tail.parts() {
        let all_dead = snapshot.dead(part);
        for group in part.run.groups() {
            let dead = all_dead.range_cardinality(group.rows.clone());
            let (points, _) = places.entry((&group.split, group.shard)).or_default();
            *points += u64::from(group.rows.end - group.rows.start) - dead;
        }
    }
    let total = places.len() as u64;
    let types: Vec<_> = definition.split_types();
    let splits = places.into_iter().take(limit).map(|((key, shard), (points, bytes))| {
        let attributes = SplitKey::decode(types.iter().map(|(name, t)| (name, *t)), key);
        let attributes = attributes.ok_or_else(|| tarn_model::Corrupt {
            object: definition.index.id.to_string(),
            part: "split key".to_owned(),
            expected: "the values of the split attributes".to_owned(),
            found: format!("{} bytes that are none", key.len()),
        })?;
        let shard = definition.shards.get(shard as usize).cloned().unwrap_or_default();
        Ok(SplitDescription { shard, attributes, points, bytes })
    });
    Ok((splits.collect::<Result<_, SearchError>>()?, total))
}
