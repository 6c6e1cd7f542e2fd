//! The fold: from a run of deltas to the newest write of each point.
//!
//! **The rule.** Writes are ordered by (sequence, row). Of all writes of one point key the last wins. A tombstone that
//! wins removes the point. There is nothing else to it: [`Rank`] is the order, and [`newest_writes`] is
//! `max(rank) group by key`.
//!
//! It runs keys first: the query engine sees keys and ranks alone, under a memory limit with spilling, never vectors. A
//! rank is the address of a row, so the winners' rows are read afterwards, by row selection, one delta at a time. See
//! `docs/adr/003-keys-first-fold.md`.
//!
//! Owns the rule; `deltas` reads the rows, `engine` runs the query.

mod deltas;
mod engine;

use std::collections::BTreeMap;

use arrow::array::{Array, BinaryArray, UInt64Array};
use roaring::RoaringBitmap;
use tarn_timeline::{pack_version, unpack_version};

pub(crate) use deltas::{DeltaSpool, winning_rows};
pub(crate) use engine::{newest_writes, writes_schema};

/// A write's place in the order of all writes of a data source, and whether it is a tombstone, as one number. Ranks
/// compare as (sequence, row) do: no two writes share those, so the lowest bit never decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(pub(crate) u64);

/// The last sequence that a rank can hold: at a thousand deltas a second it is reached after 17 years.
const LAST_SEQUENCE: u64 = (1 << 39) - 1;

impl Rank {
    /// `None` beyond [`LAST_SEQUENCE`].
    pub(crate) fn new(sequence: u64, row: u32, tombstone: bool) -> Option<Self> {
        (sequence <= LAST_SEQUENCE).then(|| Self(pack_version(sequence, row) << 1 | u64::from(tombstone)))
    }

    pub(crate) fn is_tombstone(self) -> bool {
        self.0 & 1 == 1
    }

    /// (sequence, row).
    pub(crate) fn address(self) -> (u64, u32) {
        unpack_version(self.0 >> 1)
    }
}

/// Some points with their newest writes; no point comes twice in a fold.
pub(crate) struct NewestWrites {
    pub(crate) keys: BinaryArray,
    ranks: UInt64Array,
}

impl NewestWrites {
    pub(crate) fn rank(&self, i: usize) -> Rank {
        Rank(self.ranks.value(i))
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }
}

/// The rows that stay, by delta. A bit a row: what the fold holds in memory of its result.
#[derive(Debug, Default)]
pub(crate) struct Winners {
    pub(crate) by_delta: BTreeMap<u64, RoaringBitmap>,
    pub(crate) rows: u64,
}

impl Winners {
    pub(crate) fn insert(&mut self, rank: Rank) {
        let (sequence, row) = rank.address();
        self.by_delta.entry(sequence).or_default().insert(row);
        self.rows += 1;
    }
}

#[cfg(test)]
mod tests;
