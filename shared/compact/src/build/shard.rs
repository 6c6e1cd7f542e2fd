//! One shard during a build: its old segments, what changed, and its new catalog.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use roaring::RoaringBitmap;
use tarn_model::{Corrupt, IndexId, ObjectKey, ShardEntry, SplitKey};
use tarn_segment::{Catalog, CatalogSegment, Segment};
use tarn_store::LocalFile;
use ulid::Ulid;

use crate::context::{Context, blocking};
use crate::error::CompactError;

pub(crate) fn segment_key(index: &IndexId) -> impl Fn(Ulid) -> ObjectKey + use<> {
    let index = index.clone();
    move |id| ObjectKey::Segment { index: index.clone(), id }
}

pub(crate) fn catalog_key(index: &IndexId) -> impl Fn(Ulid) -> ObjectKey + use<> {
    let index = index.clone();
    move |id| ObjectKey::Catalog { index: index.clone(), id }
}

/// Reads a shard's catalog and checks it against its entry in the manifest.
pub(crate) async fn load_catalog(
    context: &Context,
    index: &IndexId,
    entry: &ShardEntry,
) -> Result<Option<Catalog>, CompactError> {
    let Some(object) = &entry.catalog else { return Ok(None) };
    let key = catalog_key(index)(object.id);
    let bytes = context.read(&key, object).await?;
    let name = key.render();
    let catalog = Catalog::decode(&name, &bytes)?;
    let found = summary(&entry.shard, &catalog.segments, entry.catalog.clone());
    if catalog.shard != entry.shard || found != *entry {
        return Err(Corrupt {
            object: name,
            part: "rows-add-up".to_owned(),
            expected: format!(
                "shard '{}' with {} rows of {} splits in {} segments of {} bytes",
                entry.shard, entry.rows, entry.splits, entry.segments, entry.segment_bytes
            ),
            found: format!(
                "shard '{}' with {} rows of {} splits in {} segments of {} bytes",
                catalog.shard, found.rows, found.splits, found.segments, found.segment_bytes
            ),
        }
        .into());
    }
    Ok(Some(catalog))
}

/// What the manifest says of a shard with these segments.
fn summary(shard: &str, segments: &[CatalogSegment], catalog: Option<tarn_model::ObjectRef>) -> ShardEntry {
    let splits: BTreeSet<&SplitKey> = segments
        .iter()
        .flat_map(|segment| {
            segment.splits.iter().filter(|split| {
                let dead = segment.deleted.range_cardinality(split.rows.clone());
                dead < u64::from(split.rows.end - split.rows.start)
            })
        })
        .map(|split| &split.key)
        .collect();
    ShardEntry {
        shard: shard.to_owned(),
        rows: segments.iter().map(|segment| u64::from(segment.rows).saturating_sub(segment.deleted.len())).sum(),
        splits: splits.len() as u64,
        segments: segments.len() as u64,
        segment_bytes: segments.iter().map(|segment| segment.object.bytes).sum(),
        catalog,
    }
}

/// A shard during a build.
pub(super) struct ShardState {
    id: String,
    entry: Option<ShardEntry>,
    /// The old segments; `deleted` grows while changes are found.
    pub(super) segments: Vec<CatalogSegment>,
    /// What was deleted of each when its statistics were counted.
    counted: Vec<RoaringBitmap>,
    /// Which segments have live rows of a split.
    pub(super) by_split: HashMap<SplitKey, Vec<usize>>,
    /// New rows by split.
    pub(super) new_rows: BTreeMap<SplitKey, u64>,
    /// Whether anything changed.
    pub(super) touched: bool,
    open: HashMap<usize, (Arc<Segment>, LocalFile)>,
}

impl ShardState {
    /// `entry`: what the previous manifest says of the shard; `None` starts an empty one.
    pub(super) async fn load(
        context: &Context,
        index: &IndexId,
        id: &str,
        entry: Option<&ShardEntry>,
    ) -> Result<Self, CompactError> {
        let catalog = match entry {
            Some(entry) => load_catalog(context, index, entry).await?,
            None => None,
        };
        let segments = catalog.map(|catalog| catalog.segments).unwrap_or_default();
        let mut by_split: HashMap<SplitKey, Vec<usize>> = HashMap::new();
        for (number, segment) in segments.iter().enumerate() {
            for split in &segment.splits {
                if segment.deleted.range_cardinality(split.rows.clone()) < u64::from(split.rows.end - split.rows.start)
                {
                    by_split.entry(split.key.clone()).or_default().push(number);
                }
            }
        }
        Ok(Self {
            id: id.to_owned(),
            entry: entry.cloned(),
            counted: segments.iter().map(|segment| segment.deleted.clone()).collect(),
            segments,
            by_split,
            new_rows: BTreeMap::new(),
            touched: false,
            open: HashMap::new(),
        })
    }

    /// The rows of an old segment that were deleted before this build.
    pub(super) fn counted(&self, number: usize) -> &RoaringBitmap {
        &self.counted[number]
    }

    /// An old segment, verified.
    pub(super) async fn open(
        &mut self,
        context: &Context,
        index: &IndexId,
        number: usize,
    ) -> Result<Arc<Segment>, CompactError> {
        if let Some((segment, _)) = self.open.get(&number) {
            return Ok(Arc::clone(segment));
        }
        let entry = &self.segments[number];
        let key = segment_key(index)(entry.object.id);
        let local = context.fetch_unverified(&key, &entry.object).await?;
        let (path, object, rows) = (local.path().to_path_buf(), entry.object.clone(), entry.rows);
        let segment = blocking(move || Ok(Segment::open(&path, Some(&object))?)).await?;
        if segment.rows() != rows {
            return Err(Corrupt {
                object: key.render(),
                part: "rows-add-up".to_owned(),
                expected: format!("{rows} rows, as its catalog says"),
                found: format!("{} rows", segment.rows()),
            }
            .into());
        }
        let segment = Arc::new(segment);
        self.open.insert(number, (Arc::clone(&segment), local));
        Ok(segment)
    }

    /// The entry of a shard that did not change.
    pub(super) fn entry(&self) -> ShardEntry {
        self.entry.clone().unwrap_or_else(|| summary(&self.id, &[], None))
    }

    /// Stores a new catalog; gives its entry for the manifest.
    pub(super) async fn publish(
        &self,
        context: &Context,
        index: &IndexId,
        segments: Vec<CatalogSegment>,
    ) -> Result<ShardEntry, CompactError> {
        if segments.is_empty() {
            return Ok(summary(&self.id, &[], None));
        }
        let catalog = Catalog { shard: self.id.clone(), segments };
        let object = context.put(catalog_key(index), catalog.encode()?).await?;
        Ok(summary(&self.id, &catalog.segments, Some(object)))
    }
}
