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
use crate::expiry::Gone;
use crate::generation::{BaseSegment, Generation};
use crate::tail::{Part, Tail};

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
    superseded: Arc<[Mask]>,
    /// What has expired, as of the moment for which the snapshot was taken.
    gone: Option<Gone>,
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
        Self { definition, generation, tail, superseded, gone: None }
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
            gone: self.gone,
        }
    }

    /// The same, without what has expired at `now`, in microseconds since 1970. Shares everything with this one.
    pub(crate) fn at_time(self: &Arc<Self>, now: i64) -> Arc<Self> {
        let gone = Gone::at(&self.definition, now);
        if gone == self.gone {
            return Arc::clone(self);
        }
        Arc::new(Self {
            definition: Arc::clone(&self.definition),
            generation: Arc::clone(&self.generation),
            tail: Arc::clone(&self.tail),
            superseded: Arc::clone(&self.superseded),
            gone,
        })
    }

    /// The moment as of which expired rows are left out; `None`: rows do not expire.
    pub(crate) fn moment(&self) -> Option<i64> {
        self.gone.map(|gone| gone.now)
    }

    /// The rows of a part of the tail that are not live.
    pub(crate) fn dead(&self, part: &Part) -> Arc<RoaringBitmap> {
        match (self.gone, part.run.segment()) {
            (Some(gone), Some(segment)) => both(Arc::clone(&part.dead), part.run.expiry.rows(segment, gone)),
            _ => Arc::clone(&part.dead),
        }
    }

    /// Everything up to here is in the snapshot.
    pub(crate) fn version(&self) -> ReadToken {
        ReadToken::single(self.tail.head())
    }

    /// The rows of a segment that the tail replaces or removes, and those that have expired. `segment`: the open segment at that
    /// position.
    pub(crate) fn superseded(&self, shard: u32, position: u32, segment: &Segment) -> Arc<RoaringBitmap> {
        let replaced = self.replaced(shard, position, segment);
        match (self.gone, self.base(shard, position)) {
            (Some(gone), Some(base)) => both(replaced, base.file.expiry.rows(segment, gone)),
            _ => replaced,
        }
    }

    fn replaced(&self, shard: u32, position: u32, segment: &Segment) -> Arc<RoaringBitmap> {
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

    /// The segments that hold a split which the tail touches, by shard and position; all of them, where rows expire. Nothing in the
    /// others is superseded.
    pub(crate) fn touched(&self) -> BTreeSet<(u32, u32)> {
        if self.gone.is_some() {
            let shards = self.generation.shards.iter().zip(0u32..);
            let segments = shards.flat_map(|(shard, number)| {
                let segments = shard.iter().flat_map(|shard| &shard.segments).zip(0u32..);
                segments.filter(|(base, _)| base.rows > 0).map(move |(_, segment)| (number, segment))
            });
            return segments.collect();
        }
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

fn both(some: Arc<RoaringBitmap>, others: Arc<RoaringBitmap>) -> Arc<RoaringBitmap> {
    match (some.is_empty(), others.is_empty()) {
        (_, true) => some,
        (true, _) => others,
        _ => Arc::new(&*some | &*others),
    }
}
