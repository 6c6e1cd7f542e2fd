//! What to build in one shard: which rows go into which new segments, which old segments stay.
//!
//! Two kinds of segments. *Packed* ones (flat, or sparse) hold rows of many splits. A split with at least `own_threshold` rows
//! in packed segments is promoted: those rows leave them for a segment of its *own* (cells, or a graph). One that has lost
//! most of its rows dissolves into packed rows. Packed segments are tiers of one merge tree, the own segments of each split are
//! tiers of another (see `merge`), whether they are cells or graphs; new rows are a run that need not be written before it is
//! merged.
//!
//! A pure function. New segments are *bins* of bounded size: consecutive small splits share one, a split that is larger
//! than a segment may be is spread over several by key hash.

use std::collections::BTreeMap;
use std::ops::Range;

use roaring::RoaringBitmap;
use tarn_model::{SplitKey, key_hash};
use tarn_segment::{CatalogSegment, SegmentKind};

use crate::merge::{MergePolicy, Run, plan_merges};

/// Bounds of a plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlanPolicy {
    pub(crate) merge: MergePolicy,
    /// `None`: the index is sparse, and all of its segments are packed.
    pub(crate) own_threshold: Option<u64>,
    /// A guess at the bytes of a row in a segment.
    pub(crate) row_bytes: u64,
    /// Most rows of a segment.
    pub(crate) rows_max: u64,
}

/// What to build in a shard.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct ShardPlan {
    /// New segments.
    pub(crate) bins: Vec<Bin>,
    /// For each split with new rows, the bins that take them; several share them by key hash, see [`bin_of`].
    pub(crate) new_rows: BTreeMap<SplitKey, Vec<usize>>,
    /// Rows that move from old segments.
    pub(crate) moves: Vec<Move>,
    /// Old segments that stay, with all of their dead rows.
    pub(crate) keep: Vec<(usize, RoaringBitmap)>,
}

/// A new segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bin {
    /// Whether it holds one split alone, in cells or with a graph.
    pub(crate) own: bool,
    /// About how many rows it gets.
    pub(crate) rows: u64,
}

/// Live rows of a split in an old segment that move to new ones.
#[derive(Debug, PartialEq)]
pub(crate) struct Move {
    pub(crate) segment: usize,
    pub(crate) rows: RoaringBitmap,
    pub(crate) bins: Vec<usize>,
}

/// Which of the bins that share a split takes a key.
pub(crate) fn bin_of(bins: &[usize], key: &[u8]) -> Option<usize> {
    let share = key_hash(key).checked_rem(bins.len() as u64)?;
    bins.get(usize::try_from(share).ok()?).copied()
}

/// The rows of `range` that are not dead.
fn live_in(segment: &CatalogSegment, range: &Range<u32>) -> RoaringBitmap {
    let mut live = RoaringBitmap::new();
    live.insert_range(range.clone());
    live - &segment.deleted
}

/// Rows that go into new segments together: by split, those of old segments and how many new ones.
#[derive(Default)]
struct Gathered {
    splits: BTreeMap<SplitKey, (Vec<(usize, RoaringBitmap)>, u64)>,
}

impl Gathered {
    fn add_old(&mut self, split: &SplitKey, segment: usize, rows: RoaringBitmap) {
        if !rows.is_empty() {
            self.splits.entry(split.clone()).or_default().0.push((segment, rows));
        }
    }

    fn add_segment(&mut self, number: usize, segment: &CatalogSegment) {
        for split in &segment.splits {
            self.add_old(&split.key, number, live_in(segment, &split.rows));
        }
    }

    fn absorb(&mut self, other: Self) {
        for (split, (old, new)) in other.splits {
            let entry = self.splits.entry(split).or_default();
            entry.0.extend(old);
            entry.1 += new;
        }
    }

    fn rows_of(entry: &(Vec<(usize, RoaringBitmap)>, u64)) -> u64 {
        entry.0.iter().map(|(_, rows)| rows.len()).sum::<u64>() + entry.1
    }

    fn rows(&self) -> u64 {
        self.splits.values().map(Self::rows_of).sum()
    }
}

struct Planner<'a> {
    policy: &'a PlanPolicy,
    plan: ShardPlan,
}

impl Planner<'_> {
    /// Cuts gathered rows into bins.
    fn bin(&mut self, gathered: Gathered, own: bool) {
        let rows_max = self.policy.rows_max.max(1);
        let mut open: Option<usize> = None;
        for (split, entry) in gathered.splits {
            let rows = Gathered::rows_of(&entry);
            let parts = usize::try_from(rows.div_ceil(rows_max)).unwrap_or(usize::MAX).max(1);
            let bins = if parts > 1 {
                (0..parts).map(|_| self.new_bin(own, rows / parts as u64)).collect()
            } else {
                let room = open.filter(|&bin| self.plan.bins[bin].rows + rows <= rows_max);
                let bin = room.unwrap_or_else(|| self.new_bin(own, 0));
                self.plan.bins[bin].rows += rows;
                open = Some(bin);
                vec![bin]
            };
            let (old, new) = entry;
            self.plan.moves.extend(old.into_iter().map(|(segment, rows)| Move { segment, rows, bins: bins.clone() }));
            if new > 0 {
                self.plan.new_rows.insert(split, bins);
            }
        }
    }

    fn new_bin(&mut self, own: bool, rows: u64) -> usize {
        self.plan.bins.push(Bin { own, rows });
        self.plan.bins.len() - 1
    }

    /// Merges old segments of one tree, and `fresh` rows as a run among them; returns the segments that were consumed.
    fn merge(&mut self, segments: &[CatalogSegment], members: &[usize], mut fresh: Gathered, own: bool) -> Vec<usize> {
        let run = |&number: &usize| {
            let segment: &CatalogSegment = &segments[number];
            Run::of(segment.object.bytes, u64::from(segment.rows), segment.deleted.len())
        };
        let mut runs: Vec<Run> = members.iter().map(run).collect();
        let fresh_rows = fresh.rows();
        if fresh_rows > 0 {
            runs.push(Run { live: fresh_rows.saturating_mul(self.policy.row_bytes), dead: 0 });
        }
        let mut consumed = Vec::new();
        for group in plan_merges(&runs, &self.policy.merge) {
            let mut gathered = Gathered::default();
            for i in group {
                match members.get(i) {
                    Some(&number) => {
                        gathered.add_segment(number, &segments[number]);
                        consumed.push(number);
                    }
                    None => gathered.absorb(std::mem::take(&mut fresh)),
                }
            }
            self.bin(gathered, own);
        }
        self.bin(fresh, own);
        consumed
    }
}

/// Plans a shard. `segments` have all of their dead rows marked; `new_rows` counts the new rows of each split.
pub(crate) fn plan_shard(
    mut segments: Vec<CatalogSegment>,
    new_rows: &BTreeMap<SplitKey, u64>,
    policy: &PlanPolicy,
) -> ShardPlan {
    let mut planner = Planner { policy, plan: ShardPlan::default() };
    let mut consumed = vec![false; segments.len()];

    // What is packed, or will be.
    let mut alone: BTreeMap<SplitKey, Vec<usize>> = BTreeMap::new();
    let mut loose = Gathered::default();
    for (number, segment) in segments.iter().enumerate().filter(|(_, segment)| !is_packed(segment)) {
        for split in &segment.splits {
            alone.entry(split.key.clone()).or_default().push(number);
        }
    }
    let live = |number: usize, segments: &[CatalogSegment]| {
        let segment = &segments[number];
        u64::from(segment.rows).saturating_sub(segment.deleted.len())
    };
    alone.retain(|_, members| {
        let total: u64 = members.iter().map(|&number| live(number, &segments)).sum();
        let stay = policy.own_threshold.is_some_and(|threshold| total >= threshold / 2 && total > 0);
        if !stay {
            for &number in &*members {
                loose.add_segment(number, &segments[number]);
                consumed[number] = true;
            }
        }
        stay
    });
    for (split, &rows) in new_rows.iter().filter(|(_, rows)| **rows > 0) {
        loose.splits.entry(split.clone()).or_default().1 += rows;
    }

    let mut promoted: BTreeMap<SplitKey, Gathered> = BTreeMap::new();
    if let Some(threshold) = policy.own_threshold {
        let packed = packed_rows(&segments, &loose);
        for (split, _) in packed.into_iter().filter(|(_, rows)| *rows >= threshold.max(1)) {
            let mut gathered = Gathered::default();
            gathered.splits.extend(loose.splits.remove_entry(&split));
            for (number, segment) in segments.iter_mut().enumerate().filter(|(_, s)| is_packed(s)) {
                let ranges: Vec<Range<u32>> =
                    segment.splits.iter().filter(|s| s.key == split).map(|s| s.rows.clone()).collect();
                for range in ranges {
                    gathered.add_old(&split, number, live_in(segment, &range));
                    segment.deleted.insert_range(range);
                }
            }
            promoted.insert(split, gathered);
        }
    }

    let none = Vec::new();
    let splits: Vec<SplitKey> = alone.keys().chain(promoted.keys()).cloned().collect();
    let mut done = std::collections::BTreeSet::new();
    for split in splits.into_iter().filter(|split| done.insert(split.clone())) {
        let fresh = promoted.remove(&split).unwrap_or_default();
        let members = alone.get(&split).unwrap_or(&none);
        for number in planner.merge(&segments, members, fresh, true) {
            consumed[number] = true;
        }
    }
    let packed: Vec<usize> = (0..segments.len()).filter(|&i| is_packed(&segments[i])).collect();
    for number in planner.merge(&segments, &packed, loose, false) {
        consumed[number] = true;
    }
    let mut plan = planner.plan;
    plan.keep = segments
        .into_iter()
        .enumerate()
        .filter(|(number, segment)| !consumed[*number] && segment.deleted.len() < u64::from(segment.rows))
        .map(|(number, segment)| (number, segment.deleted))
        .collect();
    plan
}

/// Whether a segment may hold rows of many splits.
fn is_packed(segment: &CatalogSegment) -> bool {
    match segment.kind {
        SegmentKind::Flat | SegmentKind::Sparse => true,
        SegmentKind::Cells | SegmentKind::Graph => false,
    }
}

/// The rows of each split that are packed, or about to be.
fn packed_rows(segments: &[CatalogSegment], loose: &Gathered) -> BTreeMap<SplitKey, u64> {
    let mut packed: BTreeMap<SplitKey, u64> = BTreeMap::new();
    for (split, entry) in &loose.splits {
        *packed.entry(split.clone()).or_default() += Gathered::rows_of(entry);
    }
    for segment in segments.iter().filter(|segment| is_packed(segment)) {
        for split in &segment.splits {
            let rows = u64::from(split.rows.end - split.rows.start);
            let dead = segment.deleted.range_cardinality(split.rows.clone());
            *packed.entry(split.key.clone()).or_default() += rows.saturating_sub(dead);
        }
    }
    packed
}

#[cfg(test)]
mod tests;
