//! The point keys of a segment's rows, and their index by hash.

use std::sync::OnceLock;

use arrow::array::{Array, BinaryArray};
use arrow::buffer::ScalarBuffer;
use tarn_model::key_hash;

/// Keys by row, and rows by key.
#[derive(Debug)]
pub(crate) struct Keys {
    keys: BinaryArray,
    index: HashIndex,
    sorted_runs: OnceLock<Vec<u32>>,
}

/// Pairs of hash and row, sorted by both.
#[derive(Debug)]
enum HashIndex {
    Stored {
        hashes: ScalarBuffer<u64>,
        rows: ScalarBuffer<u32>,
    },
    /// Computed when first asked for: most segments in memory are never asked.
    Computed(OnceLock<Vec<(u64, u32)>>),
}

impl Keys {
    /// Keys whose index has been read from a file; `hashes` and `rows` are as long as `keys`, `rows` within.
    pub(crate) fn stored(keys: BinaryArray, hashes: ScalarBuffer<u64>, rows: ScalarBuffer<u32>) -> Self {
        Self { keys, index: HashIndex::Stored { hashes, rows }, sorted_runs: OnceLock::new() }
    }

    /// Keys in memory.
    pub(crate) fn computed(keys: BinaryArray) -> Self {
        Self { keys, index: HashIndex::Computed(OnceLock::new()), sorted_runs: OnceLock::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Panics when `row` is out of range.
    #[inline]
    pub(crate) fn get(&self, row: u32) -> &[u8] {
        self.keys.value(row as usize)
    }

    /// Every row with this key, ascending; one at most, unless the rows in memory repeat a point.
    pub(crate) fn rows_of<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
        let hash = key_hash(key);
        let at = |i: usize| match &self.index {
            HashIndex::Stored { hashes, rows } => hashes.get(i).zip(rows.get(i)).map(|(&hash, &row)| (hash, row)),
            HashIndex::Computed(pairs) => pairs.get_or_init(|| hash_pairs(&self.keys)).get(i).copied(),
        };
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if at(middle).is_some_and(|(found, _)| found < hash) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (low..)
            .map_while(at)
            .take_while(move |(found, _)| *found == hash)
            .map(|(_, row)| row)
            .filter(move |row| self.get(*row) == key)
    }

    /// Rows at which a stretch of ascending keys begins; the first is 0. One for each split, when rows are in key order.
    pub(crate) fn sorted_runs(&self) -> &[u32] {
        self.sorted_runs.get_or_init(|| {
            let rows = self.keys.len() as u32;
            (0..rows).filter(|&row| row == 0 || self.get(row) < self.get(row - 1)).collect()
        })
    }
}

/// The hash of each key with its row, sorted.
pub(crate) fn hash_pairs(keys: &BinaryArray) -> Vec<(u64, u32)> {
    let mut pairs: Vec<(u64, u32)> =
        (0u32..).zip(0..keys.len()).map(|(row, i)| (key_hash(keys.value(i)), row)).collect();
    pairs.sort_unstable();
    pairs
}
