//! Samples: so many of the points, each as likely as any other, the same ones for the same seed.
//!
//! A point's *lot* is a 64-bit number made of its key's hash and the seed; the sample is the points with the smallest lots,
//! equal ones by key. A lot depends on nothing else, so a sample is the same whichever segments and tail the points are in,
//! a smaller one is a part of a larger one of the same seed, and new points change it only by pushing others out.
//!
//! Costs: the keys of all points in question are read, their vectors and attributes only of those that are drawn. Two passes find
//! the largest lot that is in, one that counts lots by their first bits and one that sorts those which the cut goes through;
//! so memory does not grow with the sample.

use tarn_model::{Attributes, Filter, ReadToken, key_hash};

use crate::error::SearchError;
use crate::execute::Prepared;
use crate::points::Point;
use crate::request::Consistency;

/// Lots are counted by so many of their first bits.
const BITS: u32 = 16;

/// A sample that fits one answer.
#[derive(Clone, Debug, Default)]
pub struct SampleRequest {
    /// How many points, and by which seed.
    pub sample: Sample,
    /// Values of some, all or none of the index's split attributes.
    pub split_filter: Attributes,
    /// Only points that satisfy it.
    pub filter: Option<Filter>,
    /// Whether the points carry their vectors.
    pub retrieve_vectors: bool,
    /// How fresh.
    pub consistency: Consistency,
    /// The state that an earlier generation shows.
    pub as_of: Option<u64>,
}

/// How many, and which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// At least 1; fewer are drawn only when there are fewer.
    pub n: u64,
    /// Another seed draws another sample.
    pub seed: u64,
}

/// What was drawn.
#[derive(Clone, Debug)]
pub struct SampledPoints {
    /// In the order of their lots: the first m are the sample of m.
    pub points: Vec<Point>,
    /// How many points there are to draw from.
    pub population: u64,
    /// The version that the answer shows.
    pub version: ReadToken,
    /// The generation that it rests on; 0 before the first build.
    pub generation: u64,
}

/// A point's lot. Each step is a bijection, so no two hashes get one lot, and two rounds keep seeds that differ in a bit apart.
pub(crate) fn lot(key: &[u8], seed: u64) -> u64 {
    mix(mix(key_hash(key)) ^ mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Which points are drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Drawn {
    /// All of them.
    All,
    /// Those whose lot and key are at most these.
    UpTo {
        /// The seed of the lots.
        seed: u64,
        /// The largest lot.
        lot: u64,
        /// The largest key with it.
        key: Vec<u8>,
    },
}

impl Drawn {
    /// Whether a point is.
    pub(crate) fn has(&self, point: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::UpTo { seed, lot: most, key } => (lot(point, *seed), point) <= (*most, key.as_slice()),
        }
    }
}

/// The first pass: how many lots begin with which bits.
#[derive(Debug)]
pub(crate) struct Lots {
    seed: u64,
    counts: Vec<u64>,
}

/// Where the cut goes: through the lots that begin with these bits, after so many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    seed: u64,
    first_bits: usize,
    rest: usize,
}

impl Lots {
    /// Of no points.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, counts: vec![0; 1 << BITS] }
    }

    /// Counts the points of a unit. Runs on the pool.
    ///
    /// # Errors
    /// A segment's own failure.
    pub(crate) fn add(&mut self, prepared: &Prepared) -> Result<(), SearchError> {
        let segment = prepared.segment()?;
        for row in prepared.live_rows() {
            self.counts[first_bits(lot(segment.key(row), self.seed))] += 1;
        }
        Ok(())
    }

    /// How many points there are.
    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Where to cut so that `n` are in; `None` when that is all.
    pub(crate) fn cut(&self, n: u64) -> Option<Cut> {
        let mut before = 0;
        for (first_bits, count) in self.counts.iter().enumerate() {
            if n < before + count {
                return Some(Cut { seed: self.seed, first_bits, rest: usize::try_from(n - before).ok()? });
            }
            before += count;
        }
        None
    }
}

impl Cut {
    /// The second pass: the lots and keys of a unit's points that the cut goes through. Runs on the pool.
    ///
    /// # Errors
    /// A segment's own failure.
    pub(crate) fn add(&self, prepared: &Prepared, through: &mut Vec<(u64, Vec<u8>)>) -> Result<(), SearchError> {
        let segment = prepared.segment()?;
        for row in prepared.live_rows() {
            let key = segment.key(row);
            let lot = lot(key, self.seed);
            if first_bits(lot) == self.first_bits {
                through.push((lot, key.to_vec()));
            }
        }
        Ok(())
    }

    /// What is drawn.
    pub(crate) fn drawn(&self, mut through: Vec<(u64, Vec<u8>)>) -> Drawn {
        through.sort_unstable();
        let seed = self.seed;
        match self.rest.checked_sub(1).and_then(|last| through.into_iter().nth(last)) {
            Some((lot, key)) => Drawn::UpTo { seed, lot, key },
            // All lots that begin with smaller bits, and none of these.
            None => {
                let lot = (self.first_bits as u64) << (64 - BITS);
                Drawn::UpTo { seed, lot, key: Vec::new() }
            }
        }
    }
}

fn first_bits(lot: u64) -> usize {
    (lot >> (64 - BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: u32) -> Vec<Vec<u8>> {
        (0..count).map(|i| i.to_be_bytes().to_vec()).collect()
    }

    #[test]
    fn the_points_with_the_smallest_lots_are_drawn() {
        let keys = keys(700);
        for seed in [0, 1, u64::MAX] {
            let mut lots = Lots::new(seed);
            keys.iter().for_each(|key| lots.counts[first_bits(lot(key, seed))] += 1);
            assert_eq!(lots.total(), 700);
            let mut sorted: Vec<&Vec<u8>> = keys.iter().collect();
            sorted.sort_by_key(|key| (lot(key, seed), key.to_vec()));
            for n in 1..700 {
                let cut = lots.cut(n as u64).expect("some are left out");
                let through = keys.iter().map(|key| (lot(key, seed), key.clone()));
                let drawn = cut.drawn(through.filter(|(lot, _)| first_bits(*lot) == cut.first_bits).collect());
                assert!(sorted[..n].iter().all(|key| drawn.has(key)), "{n} of seed {seed}");
                assert!(!sorted[n..].iter().any(|key| drawn.has(key)), "{n} of seed {seed}");
            }
            assert_eq!(lots.cut(700), None, "all of them");
        }
    }

    #[test]
    fn equal_lots_go_by_key() {
        let cut = Cut { seed: 0, first_bits: 0, rest: 2 };
        let drawn = cut.drawn(vec![(5, b"c".to_vec()), (5, b"a".to_vec()), (5, b"b".to_vec())]);
        assert_eq!(drawn, Drawn::UpTo { seed: 0, lot: 5, key: b"b".to_vec() });
    }

    #[test]
    fn seeds_that_differ_in_a_bit_draw_unlike_samples() {
        // Of 4000 points, 1000 each: of independent draws 250 agree, give or take 14.
        let keys = keys(4000);
        let drawn = |seed: u64| {
            let mut sorted: Vec<&Vec<u8>> = keys.iter().collect();
            sorted.sort_by_key(|key| lot(key, seed));
            sorted.into_iter().take(1000).collect::<std::collections::BTreeSet<_>>()
        };
        let base = drawn(7);
        for bit in 0..64 {
            let both = base.intersection(&drawn(7 ^ (1 << bit))).count();
            assert!((190..310).contains(&both), "bit {bit}: {both}");
        }
    }
}
