//! Where a point belongs in an index: a function of its key alone, so a point never moves.

use std::sync::Arc;

use tarn_model::{Corrupt, DataSource, Index, PointKey, SplitKey};

/// Places points by their keys, in all shards of an index or in some.
pub(crate) struct Placement {
    source: Arc<DataSource>,
    index: Arc<Index>,
    /// Sorted.
    shards: Vec<String>,
    /// One shard without conditions and no splits: keys need not be decoded.
    trivial: bool,
}

/// The shard, by its position among [`Placement::shards`], and the split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) shard: usize,
    pub(crate) split: SplitKey,
}

impl Placement {
    /// In every shard of the definition.
    pub(crate) fn new(source: &Arc<DataSource>, index: &Arc<Index>) -> Self {
        Self::within(source, index, index.shards.keys().cloned())
    }

    /// In some shards of the definition; what belongs to others has no place.
    pub(crate) fn within(
        source: &Arc<DataSource>,
        index: &Arc<Index>,
        shards: impl IntoIterator<Item = String>,
    ) -> Self {
        let unconditional = index.shards.len() == 1 && index.shards.values().all(|shard| shard.conditions.is_empty());
        let mut shards: Vec<String> = shards.into_iter().filter(|id| index.shards.contains_key(id)).collect();
        shards.sort_unstable();
        shards.dedup();
        Self {
            source: Arc::clone(source),
            index: Arc::clone(index),
            trivial: unconditional && !shards.is_empty() && index.split_attributes.is_empty(),
            shards,
        }
    }

    /// Their ids, sorted.
    pub(crate) fn shards(&self) -> &[String] {
        &self.shards
    }

    /// `None` when none of the shards takes the point.
    pub(crate) fn place(&self, key: &[u8]) -> Result<Option<Place>, Corrupt> {
        if self.trivial {
            return Ok(Some(Place { shard: 0, split: SplitKey(Vec::new()) }));
        }
        let attributes = PointKey::decode(&self.source, key).ok_or_else(|| self.not_a_key(key))?;
        let shard = self.index.shard_of(&attributes);
        let Some(shard) = shard.and_then(|id| self.shards.binary_search_by(|other| other.as_str().cmp(id)).ok()) else {
            return Ok(None);
        };
        let split = SplitKey::encode(&self.index.split_attributes, &attributes).ok_or_else(|| self.not_a_key(key))?;
        Ok(Some(Place { shard, split }))
    }

    fn not_a_key(&self, key: &[u8]) -> Corrupt {
        let head: Vec<String> = key.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Corrupt {
            object: self.source.id.to_string(),
            part: "point key".to_owned(),
            expected: "the permanent attributes of the data source".to_owned(),
            found: format!("{} bytes, {}…", key.len(), head.join("")),
        }
    }
}
