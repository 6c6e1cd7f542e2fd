//! An index with its data source, and what follows from the two: computed once.

use std::collections::BTreeMap;
use std::sync::Arc;

use tarn_model::{AttributeType, Attributes, DataSource, Index, PointKey, SplitKey};

/// An index's definition, prepared for queries.
#[derive(Debug)]
pub(crate) struct Definition {
    /// The index.
    pub(crate) index: Arc<Index>,
    /// Its data source.
    pub(crate) source: Arc<DataSource>,
    /// Shard ids in order; a shard's position here stands for it everywhere in this crate.
    pub(crate) shards: Vec<String>,
    positions: BTreeMap<String, u32>,
    /// The attributes in wire order, each with its column in a segment.
    pub(crate) wire_order: Vec<(String, usize)>,
    /// Of an index with one shard without conditions and no splits: where every point is, whatever its key.
    only_place: Option<Place>,
}

/// Where a point belongs. A function of its key, so a point never moves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// The shard's position.
    pub(crate) shard: u32,
    /// The split's key.
    pub(crate) split: Arc<[u8]>,
}

impl Definition {
    /// Prepares a definition.
    pub(crate) fn new(index: Arc<Index>, source: Arc<DataSource>) -> Self {
        let shards: Vec<String> = index.shards.keys().cloned().collect();
        let positions = shards.iter().cloned().zip(0..).collect();
        let wire_order = index
            .attribute_order(&source)
            .into_iter()
            .filter_map(|name| {
                let column = source.attribute_types.keys().position(|key| *key == name)?;
                Some((name, column))
            })
            .collect();
        let single = index.split_attributes.is_empty()
            && index.shards.len() == 1
            && index.shards.values().all(|shard| shard.conditions.is_empty());
        let only_place = single.then(|| Place { shard: 0, split: Arc::from([]) });
        Self { index, source, shards, positions, wire_order, only_place }
    }

    /// The split attributes in key order, with their types.
    pub(crate) fn split_types(&self) -> Vec<(String, AttributeType)> {
        let typed = self.index.split_attributes.iter();
        typed.filter_map(|name| Some((name.clone(), *self.source.attribute_types.get(name)?))).collect()
    }

    /// The attributes that a found point carries, in wire order, each with its column in a segment. `None`: all.
    pub(crate) fn columns<'a>(&'a self, wanted: Option<&'a [String]>) -> impl Iterator<Item = &'a (String, usize)> {
        self.wire_order.iter().filter(move |(name, _)| wanted.is_none_or(|wanted| wanted.contains(name)))
    }

    /// The position of a shard.
    pub(crate) fn shard_position(&self, shard: &str) -> Option<u32> {
        self.positions.get(shard).copied()
    }

    /// Where the point with this key belongs; `None` when no shard of the index takes it.
    ///
    /// # Errors
    /// The key's bytes, when they are no key of the data source.
    pub(crate) fn place(&self, key: &[u8]) -> Result<Option<Place>, BadKey> {
        if self.only_place.is_some() {
            return Ok(self.only_place.clone());
        }
        let permanent: Attributes = PointKey::decode(&self.source, key).ok_or(BadKey)?;
        let Some(shard) = self.index.shard_of(&permanent).and_then(|shard| self.shard_position(shard)) else {
            return Ok(None);
        };
        let split = SplitKey::encode(&self.index.split_attributes, &permanent).ok_or(BadKey)?;
        Ok(Some(Place { shard, split: split.0.into() }))
    }
}

/// Bytes that are no point key of the data source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadKey;
