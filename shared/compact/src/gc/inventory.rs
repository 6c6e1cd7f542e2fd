//! What is in the bucket, by owner, from one listing.

use std::collections::BTreeMap;

use tarn_model::{DataSourceId, IndexId, KeyPrefix, ObjectKey};
use tarn_store::Listed;

use crate::context::Context;
use crate::error::CompactError;

/// One object.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) key: ObjectKey,
    pub(super) bytes: u64,
    pub(super) modified_ms: i64,
    pub(super) e_tag: Option<String>,
}

/// The objects of one data source or index, each kind in ascending order of number.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    pub(super) definition: Option<Item>,
    pub(super) marker: Option<Item>,
    pub(super) hint: Option<Item>,
    /// Checkpoints or manifests.
    pub(super) roots: BTreeMap<u64, Item>,
    /// Data files; or catalogs, segments, and what tasks of a build leave for each other.
    pub(super) data: Vec<Item>,
    pub(super) deltas: BTreeMap<u64, Item>,
    pub(super) receipts: Vec<Item>,
    pub(super) boundaries: BTreeMap<u64, Item>,
}

impl Objects {
    /// Everything but definition, marker and hint.
    pub(super) fn contents(&self) -> impl Iterator<Item = &Item> {
        let numbered = self.roots.values().chain(self.deltas.values());
        numbered.chain(&self.data).chain(&self.receipts).chain(self.boundaries.values())
    }
}

/// Everything, by owner.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) sources: BTreeMap<DataSourceId, Objects>,
    pub(super) indices: BTreeMap<IndexId, Objects>,
    /// Objects whose keys are none of ours.
    pub(super) foreign: u64,
}

impl Inventory {
    pub(super) async fn read(context: &Context) -> Result<Self, CompactError> {
        let mut inventory = Self::default();
        for prefix in [KeyPrefix::Indices, KeyPrefix::Sources] {
            for listed in context.store.list(&prefix).await? {
                inventory.add(listed);
            }
        }
        Ok(inventory)
    }

    fn add(&mut self, listed: Listed) {
        let Some(key) = listed.key else {
            self.foreign += 1;
            return;
        };
        let Listed { bytes, modified_ms, e_tag, .. } = listed;
        let item = Item { key: key.clone(), bytes, modified_ms, e_tag };
        let (sources, indices) = (&mut self.sources, &mut self.indices);
        match key {
            ObjectKey::Source(id) => sources.entry(id).or_default().definition = Some(item),
            ObjectKey::SourceDeleted(id) => sources.entry(id).or_default().marker = Some(item),
            ObjectKey::Delta { source, sequence, .. } => {
                sources.entry(source).or_default().deltas.insert(sequence, item);
            }
            ObjectKey::Receipt { source, .. } => sources.entry(source).or_default().receipts.push(item),
            ObjectKey::Checkpoint { source, generation } => {
                sources.entry(source).or_default().roots.insert(generation, item);
            }
            ObjectKey::CheckpointData { source, .. } => sources.entry(source).or_default().data.push(item),
            ObjectKey::SourceBoundary { source, number } => {
                sources.entry(source).or_default().boundaries.insert(number, item);
            }
            ObjectKey::Index(id) => indices.entry(id).or_default().definition = Some(item),
            ObjectKey::IndexDeleted(id) => indices.entry(id).or_default().marker = Some(item),
            ObjectKey::Hint(id) => indices.entry(id).or_default().hint = Some(item),
            ObjectKey::Manifest { index, generation } => {
                indices.entry(index).or_default().roots.insert(generation, item);
            }
            ObjectKey::Segment { index, .. }
            | ObjectKey::Catalog { index, .. }
            | ObjectKey::BuildOrder { index, .. }
            | ObjectKey::BuildPart { index, .. } => {
                indices.entry(index).or_default().data.push(item);
            }
            ObjectKey::IndexBoundary { index, number } => {
                indices.entry(index).or_default().boundaries.insert(number, item);
            }
            // Not below the prefixes that are listed, or kinds that a newer version knows: not ours to take.
            _ => self.foreign += 1,
        }
    }
}
