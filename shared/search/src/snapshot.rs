//! A snapshot: what one answer is computed against.
//!
//! Owns `snapshot-never-mixes-generations`: one manifest with its catalogs, and the deltas after exactly its watermark. A
//! snapshot is immutable; whoever holds one can go on asking it after newer generations are published.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use roaring::RoaringBitmap;
use tarn_model::ReadToken;
use tarn_segment::Segment;

use crate::definition::Definition;
use crate::generation::{BaseSegment, Generation};
use crate::tail::Tail;

/// One manifest and the tail after its watermark.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The index.
    pub(crate) definition: Arc<Definition>,
    /// The manifest's part.
    pub(crate) generation: Arc<Generation>,
    /// The timeline's part.
    pub(crate) tail: Arc<Tail>,
    /// By segment of the generation: the rows that the tail replaces or removes.
    superseded: Vec<Mask>,
}

/// Rows of one segment that the tail replaces or removes: found when a query first needs them, from what an earlier
/// snapshot of the same generation knew.
#[derive(Debug, Default)]
struct Mask {
    /// Rows replaced by sequences up to the given one.
    known: Option<(Arc<RoaringBitmap>, u64)>,
    rows: OnceLock<Arc<RoaringBitmap>>,
}

impl Snapshot {
    /// A snapshot without history.
    pub(crate) fn new(definition: Arc<Definition>, generation: Arc<Generation>, tail: Arc<Tail>) -> Self {
        let superseded = (0..generation.segment_count()).map(|_| Mask::default()).collect();
        Self { definition, generation, tail, superseded }
    }

    /// What is known of a snapshot when its tail is not.
    pub(crate) fn without_tail(definition: Arc<Definition>, generation: Arc<Generation>) -> Self {
        let watermark = generation.watermark().sequence(0);
        Self::new(definition, generation, Arc::new(Tail::empty(watermark)))
    }

    /// A snapshot of the same generation with a tail that has grown, or has not.
    pub(crate) fn with_tail(&self, tail: Arc<Tail>) -> Self {
        let superseded = self.superseded.iter().map(|mask| Mask {
            known: mask.rows.get().map(|rows| (Arc::clone(rows), self.tail.head())).or_else(|| mask.known.clone()),
            rows: OnceLock::new(),
        });
        Self {
            definition: Arc::clone(&self.definition),
            generation: Arc::clone(&self.generation),
            tail,
            superseded: superseded.collect(),
        }
    }

    /// Everything up to here is in the snapshot.
    pub(crate) fn version(&self) -> ReadToken {
        ReadToken::single(self.tail.head())
    }

    /// The rows of a segment that the tail replaces or removes. `segment`: the open segment at that position.
    pub(crate) fn superseded(&self, shard: u32, position: u32, segment: &Segment) -> Arc<RoaringBitmap> {
        let Some(mask) = self.superseded.get(self.generation.segment_index(shard, position)) else {
            return Arc::default();
        };
        Arc::clone(mask.rows.get_or_init(|| {
            let (known, upto) = mask.known.clone().unwrap_or_else(|| (Arc::default(), self.tail.watermark()));
            let mut fresh = RoaringBitmap::new();
            for part in self.tail.parts().iter().filter(|part| part.run.last() > upto) {
                for group in part.run.groups().iter().filter(|group| group.shard == shard) {
                    let is_news = part.run.keys_after(group, upto).next().is_some();
                    if is_news && self.holds(shard, position, &group.split) {
                        fresh |= segment.rows_of_keys(part.run.keys_after(group, upto));
                    }
                }
            }
            if fresh.is_subset(&known) { known } else { Arc::new(&*known | &fresh) }
        }))
    }

    /// The segments that hold a split which the tail touches, by shard and position. Nothing in the others is superseded.
    pub(crate) fn touched(&self) -> BTreeSet<(u32, u32)> {
        let groups = self.tail.parts().iter().flat_map(|part| part.run.groups());
        groups
            .flat_map(|group| {
                let catalog = self.generation.shards.get(group.shard as usize).and_then(Option::as_ref);
                let entries = catalog.map_or(&[][..], |catalog| catalog.directory.split(&group.split));
                entries.iter().map(|entry| (group.shard, entry.segment))
            })
            .collect()
    }

    /// A segment, by its place.
    pub(crate) fn base(&self, shard: u32, segment: u32) -> Option<&BaseSegment> {
        self.generation.segment(shard, segment)
    }

    fn holds(&self, shard: u32, position: u32, split: &[u8]) -> bool {
        let catalog = self.generation.shards.get(shard as usize).and_then(Option::as_ref);
        catalog.is_some_and(|catalog| catalog.directory.split(split).iter().any(|entry| entry.segment == position))
    }
}
