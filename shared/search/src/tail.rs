//! The tail: what the timeline holds after a manifest's watermark, as small segments in memory.
//!
//! Owns `a-point-is-live-once`: of all rows with one key, in the manifest's segments and in the tail, at most the newest is
//! live, and none when the newest update is a tombstone. Newer parts mask rows of older ones; nothing is rewritten.
//!
//! A tail that grows delta by delta keeps few parts: neighbours of similar size merge, as in a log-structured merge tree, so
//! a query visits a logarithmic number of them. A tail is immutable; growing makes a new one that shares parts.

mod build;
mod run;

use std::sync::Arc;

use roaring::RoaringBitmap;
use tarn_model::Corrupt;

use crate::definition::{Definition, Place};

pub(crate) use build::DeltaRows;
pub(crate) use run::{Run, segment_number};

/// Most touched keys that a merged run may hold. Larger runs cost more to merge again than one more part costs a query.
const MERGE_ROWS: usize = 64 * 1024;
/// Most bytes that a merged run may hold, for the same reason; and Arrow counts the bytes of a string column in 31 bits.
const MERGE_BYTES: usize = 64 << 20;

/// The updates after a watermark.
#[derive(Debug)]
pub(crate) struct Tail {
    /// Sequences up to this one are in the manifest.
    watermark: u64,
    /// The last sequence included; at least the watermark.
    head: u64,
    /// Oldest first.
    parts: Vec<Part>,
}

/// A run, and which of its rows are not live in this tail.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// The rows.
    pub(crate) run: Arc<Run>,
    /// Rows that later parts replace or remove, or that the manifest has taken in.
    pub(crate) dead: Arc<RoaringBitmap>,
}

impl Tail {
    /// Nothing after the watermark.
    pub(crate) fn empty(watermark: u64) -> Self {
        Self { watermark, head: watermark, parts: Vec::new() }
    }

    /// The last sequence included.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// What the manifest includes.
    pub(crate) fn watermark(&self) -> u64 {
        self.watermark
    }

    /// Oldest first.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether a point was updated or deleted after the watermark, so that no row of the manifest's segments is it any more.
    /// `place` is where its key belongs.
    pub(crate) fn supersedes(&self, place: &Place, key: &[u8]) -> bool {
        let news = |part: &Part| part.run.last_update(place, key).is_some_and(|sequence| sequence > self.watermark);
        self.parts.iter().any(news)
    }

    /// The tail after a later watermark: parts that the manifest has taken in go, rows of a part that straddles it die.
    pub(crate) fn advance(&self, watermark: u64) -> Self {
        let parts = self.parts.iter().filter(|part| part.run.last() > watermark).map(|part| {
            let folded = part.run.rows_up_to(watermark);
            if folded.is_empty() {
                part.clone()
            } else {
                Part { run: Arc::clone(&part.run), dead: Arc::new(&*part.dead | &folded) }
            }
        });
        Self { watermark, head: self.head.max(watermark), parts: parts.collect() }
    }

    /// The tail with more deltas, which follow its head without a gap.
    ///
    /// # Errors
    /// [`Corrupt`] names the delta that does not fit the data source.
    pub(crate) fn grow(&self, definition: &Definition, deltas: Vec<DeltaRows>) -> Result<Self, Corrupt> {
        let mut tail = Self { watermark: self.watermark, head: self.head, parts: self.parts.clone() };
        let mut deltas = deltas.into_iter().peekable();
        while let Some(first) = deltas.next() {
            let (mut rows, mut bytes) = (first.rows(), first.bytes());
            let mut batch = vec![first];
            let fits = |rows, bytes| rows <= MERGE_ROWS && bytes <= MERGE_BYTES;
            while let Some(next) = deltas.next_if(|next| fits(rows + next.rows(), bytes + next.bytes())) {
                rows += next.rows();
                bytes += next.bytes();
                batch.push(next);
            }
            tail.push(definition, batch)?;
        }
        Ok(tail)
    }

    fn push(&mut self, definition: &Definition, deltas: Vec<DeltaRows>) -> Result<(), Corrupt> {
        let Some(head) = deltas.iter().map(DeltaRows::sequence).max() else { return Ok(()) };
        let fresh = Run::from_deltas(definition, &deltas)?;
        self.head = head;
        for part in &mut self.parts {
            let superseded = part.run.rows_of(fresh.touched_after(self.watermark));
            if !superseded.is_subset(&part.dead) {
                part.dead = Arc::new(&*part.dead | &superseded);
            }
        }
        // Equal and smaller neighbours merge with the newcomer; each row is merged a logarithmic number of times.
        let (mut total, mut bytes) = (fresh.touched(), fresh.bytes());
        let mut keep = self.parts.len();
        while keep > 0 {
            let older = &self.parts[keep - 1].run;
            let size = older.touched();
            if size > 2 * total || size + total > MERGE_ROWS || older.bytes() + bytes > MERGE_BYTES {
                break;
            }
            total += size;
            bytes += older.bytes();
            keep -= 1;
        }
        let run = if keep == self.parts.len() {
            fresh
        } else {
            let older = self.parts.split_off(keep);
            let mut runs: Vec<&Run> = older.iter().map(|part| &*part.run).collect();
            runs.push(&fresh);
            Run::merge(definition, &runs, self.watermark)?
        };
        if run.touched() > 0 {
            self.parts.push(Part { run: Arc::new(run), dead: Arc::default() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};
    use tarn_model::{AttributeValue, PointKey, Update, limits};
    use tarn_testkit::Scenario;
    use tarn_timeline::PointBatch;

    use super::*;

    struct World {
        scenario: Scenario,
        definition: Definition,
        rng: SmallRng,
        /// For each key, the sequence of its last update, and whether that was an upsert.
        last: BTreeMap<Vec<u8>, (u64, bool)>,
    }

    impl World {
        fn new(index: &str) -> Self {
            let scenario = Scenario::dense();
            let index = scenario.indices.iter().find(|i| i.id.name == index).unwrap().clone();
            let definition = Definition::new(index, scenario.source.clone());
            Self { scenario, definition, rng: SmallRng::seed_from_u64(3), last: BTreeMap::new() }
        }

        fn delta(&mut self, sequence: u64, rows: usize) -> DeltaRows {
            let updates = (0..rows).map(|_| match self.rng.random_ratio(1, 3) {
                true => self.scenario.tombstone(&mut self.rng),
                false => Update::Upsert(self.scenario.point(&mut self.rng, 1)),
            });
            let updates: Vec<Update> = updates.collect();
            for update in &updates {
                let (attributes, live) = match update {
                    Update::Upsert(point) => (&point.attributes, true),
                    Update::Delete(attributes) => (attributes, false),
                };
                if self.definition.index.shard_of(attributes).is_some() {
                    let key = PointKey::encode(&self.scenario.source, attributes).unwrap();
                    self.last.insert(key.0, (sequence, live));
                }
            }
            let batch = PointBatch::from_updates(self.scenario.source.clone(), &updates).unwrap();
            DeltaRows::new(format!("delta {sequence}"), sequence, batch.record_batch().clone())
        }

        /// Checks that exactly the last upserts after the watermark are live, each in its place, and once.
        fn check(&self, tail: &Tail) {
            let mut live = Vec::new();
            for part in tail.parts() {
                let mut covered = 0;
                for group in part.run.groups() {
                    assert_eq!(group.rows.start, covered, "groups cover the rows in order");
                    covered = group.rows.end;
                    for row in group.rows.clone().filter(|row| !part.dead.contains(*row)) {
                        let key = part.run.segment().unwrap().key(row);
                        let place = self.definition.place(key).unwrap().unwrap();
                        assert_eq!((place.shard, &*place.split), (group.shard, &*group.split));
                        live.push(key.to_vec());
                    }
                }
            }
            live.sort();
            for (key, (sequence, _)) in &self.last {
                let place = self.definition.place(key).unwrap().unwrap();
                assert_eq!(tail.supersedes(&place, key), *sequence > tail.watermark());
                assert!(!tail.supersedes(&place, &key[..key.len() - 1]));
            }
            let expected = self.last.iter().filter(|(_, (sequence, live))| *live && *sequence > tail.watermark());
            assert_eq!(live, expected.map(|(key, _)| key.clone()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_point_is_live_once() {
        for index in ["exact-l2", "exact-ip", "exact-cosine", "graph-cosine-some"] {
            let mut world = World::new(index);
            let mut tail = Tail::empty(0);
            let mut sequence = 0;
            for round in 0..60 {
                let count = world.rng.random_range(0..4);
                let deltas = (0..count).map(|_| {
                    sequence += 1;
                    let rows = [1, 2, 50][world.rng.random_range(0..3)];
                    world.delta(sequence, rows)
                });
                let deltas = deltas.collect();
                tail = tail.grow(&world.definition, deltas).unwrap();
                assert_eq!(tail.head(), sequence);
                if round % 5 == 4 {
                    let watermark = world.rng.random_range(tail.watermark()..=sequence);
                    tail = tail.advance(watermark);
                }
                world.check(&tail);
            }
        }
    }

    #[test]
    fn a_thousand_small_deltas_are_few_parts() {
        let mut world = World::new("exact-l2");
        let mut tail = Tail::empty(0);
        for sequence in 1..=1000 {
            let delta = world.delta(sequence, 1);
            tail = tail.grow(&world.definition, vec![delta]).unwrap();
            assert!(tail.parts().len() <= 12, "{} parts after {sequence} deltas", tail.parts().len());
        }
        world.check(&tail);
    }

    #[test]
    fn runs_of_many_bytes_stay_apart() {
        let mut world = World::new("exact-l2");
        let rows = MERGE_BYTES / limits::STRING_VALUE_BYTES / 2 + 1;
        let long = AttributeValue::String("x".repeat(limits::STRING_VALUE_BYTES));
        let mut delta = |sequence: u64| {
            let first = sequence * 100_000;
            let updates = (first..).take(rows).map(|id| {
                let mut point = world.scenario.point(&mut world.rng, 1);
                point.attributes.insert("id".into(), AttributeValue::Int64(id.cast_signed()));
                point.attributes.insert("colour".into(), long.clone());
                Update::Upsert(point)
            });
            let batch = PointBatch::from_updates(world.scenario.source.clone(), &updates.collect::<Vec<_>>()).unwrap();
            DeltaRows::new(format!("delta {sequence}"), sequence, batch.record_batch().clone())
        };
        let deltas: Vec<DeltaRows> = (1..=3).map(&mut delta).collect();
        let fourth = delta(4);
        let tail = Tail::empty(0).grow(&world.definition, deltas).unwrap();
        assert_eq!(tail.parts().len(), 3, "deltas that come together");
        let tail = tail.grow(&world.definition, vec![fourth]).unwrap();
        assert_eq!(tail.parts().len(), 4, "a delta that comes later");
    }

    #[test]
    fn a_watermark_beyond_the_head_empties_the_tail() {
        let mut world = World::new("exact-l2");
        let delta = world.delta(1, 20);
        let tail = Tail::empty(0).grow(&world.definition, vec![delta]).unwrap().advance(5);
        assert_eq!((tail.head(), tail.watermark(), tail.parts().len()), (5, 5, 0));
    }
}
