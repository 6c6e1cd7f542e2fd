//! The best few by approximate score.
//!
//! A buffer of three times what is wanted is cut back by selection when it is full: an offer costs O(1), nothing is
//! allocated after the beginning, and the threshold only rises.
//!
//! What is kept does not depend on the order of the offers: a score equal to the threshold gets in, and numbers decide.
//!
//! An entry is one integer, its score above its number, so that the nearer of two is the smaller: selection then compares
//! without branches.

mod all;

use super::kernels::BLOCK_ROWS;

/// Collects numbers, of rows or of cells, and keeps those with the highest scores; of equal scores those with the lowest
/// numbers.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    wanted: usize,
    full: usize,
    entries: Vec<u64>,
    threshold: f32,
}

impl Candidates {
    /// Keeps the best `wanted` of at most `total`.
    pub(crate) fn new(wanted: usize, total: usize) -> Self {
        let mut out = Self::default();
        out.reset(wanted, total);
        out
    }

    /// Begins again, in the memory that is there.
    pub(crate) fn reset(&mut self, wanted: usize, total: usize) {
        self.wanted = wanted.min(total);
        self.full = self.wanted.saturating_mul(3).max(self.wanted + 64);
        self.entries.clear();
        // A block is offered as a whole, so up to fifteen entries come after the one that fills the buffer.
        self.entries.reserve(self.full.min(total) + BLOCK_ROWS);
        // No score reaches what is not a number; all but minus infinity reach the least number.
        self.threshold = if self.wanted == 0 { f32::NAN } else { f32::MIN };
    }

    /// Lower scores cannot be among the best, nor can minus infinity.
    #[inline]
    pub(crate) fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Takes the lanes of a block whose bit is set; lane `i` is number `first + i`.
    #[inline]
    pub(crate) fn offer_block(&mut self, mask: u16, scores: &[f32; BLOCK_ROWS], first: u32) {
        let mut left = mask;
        while left != 0 {
            let lane = left.trailing_zeros();
            self.entries.push(entry(scores[lane as usize], first + lane));
            left &= left - 1;
        }
        if self.entries.len() >= self.full {
            self.cut();
        }
    }

    #[cold]
    fn cut(&mut self) {
        if self.wanted > 0 && self.entries.len() > self.wanted {
            let (_, last, _) = self.entries.select_nth_unstable(self.wanted - 1);
            self.threshold = parts(*last).0;
            self.entries.truncate(self.wanted);
        }
    }

    /// How many entries there is room for.
    pub(crate) fn room(&self) -> usize {
        self.entries.capacity()
    }

    /// Puts the `first` highest scores in front, in no order, and returns all that are among the best.
    pub(crate) fn best_first(&mut self, first: usize) -> impl ExactSizeIterator<Item = (f32, u32)> + Clone + '_ {
        self.cut();
        if self.entries.len() > first {
            self.entries.select_nth_unstable(first);
        }
        self.entries.iter().map(|&entry| parts(entry))
    }

    /// As [`Self::best_first`], to keep.
    pub(crate) fn into_best_first(mut self, first: usize) -> Vec<(f32, u32)> {
        self.best_first(first).collect()
    }

    /// Highest score first; equal ones by number.
    pub(crate) fn sorted(&mut self) -> impl ExactSizeIterator<Item = (f32, u32)> + '_ {
        self.cut();
        self.entries.sort_unstable();
        self.entries.iter().map(|&entry| parts(entry))
    }

    /// As [`Self::sorted`], to keep.
    pub(crate) fn into_sorted(mut self) -> Vec<(f32, u32)> {
        self.sorted().collect()
    }
}

/// Smaller when the score is higher, by `f32::total_cmp`, then when the number is lower.
#[inline]
fn entry(score: f32, number: u32) -> u64 {
    let bits = score.to_bits();
    // Positive numbers ascend as their bits do, negative ones descend: the former are turned around, the latter put above.
    let key = if bits >> 31 == 0 { bits ^ 0x7fff_ffff } else { bits };
    u64::from(key) << 32 | u64::from(number)
}

#[inline]
fn parts(entry: u64) -> (f32, u32) {
    let key = (entry >> 32) as u32;
    let bits = if key >> 31 == 0 { key ^ 0x7fff_ffff } else { key };
    (f32::from_bits(bits), entry as u32)
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::*;

    fn order(a: &(f32, u32), b: &(f32, u32)) -> Ordering {
        b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
    }

    proptest! {
        #[test]
        fn keeps_what_a_full_sort_keeps(scores in prop::collection::vec(0u8..200, 0..600), wanted in 0usize..50) {
            let mut best = Candidates::new(wanted, scores.len());
            let mut want: Vec<(f32, u32)> = (0u32..).zip(&scores).map(|(i, &score)| (f32::from(score), i)).collect();
            for (block, chunk) in want.chunks(BLOCK_ROWS).enumerate() {
                let mut lanes = [f32::NAN; BLOCK_ROWS];
                let mut mask = 0;
                for (lane, (score, _)) in chunk.iter().enumerate() {
                    lanes[lane] = *score;
                    mask |= u16::from(*score >= best.threshold()) << lane;
                }
                best.offer_block(mask, &lanes, (block * BLOCK_ROWS) as u32);
            }
            want.sort_unstable_by(order);
            want.truncate(wanted);
            prop_assert_eq!(best.sorted().collect::<Vec<_>>(), want.clone());
            // The last first.
            best.reset(wanted, scores.len());
            for (block, chunk) in scores.chunks(BLOCK_ROWS).enumerate().rev() {
                let mut lanes = [f32::NAN; BLOCK_ROWS];
                let mut mask = 0;
                for (lane, score) in chunk.iter().enumerate() {
                    lanes[lane] = f32::from(*score);
                    mask |= u16::from(lanes[lane] >= best.threshold()) << lane;
                }
                best.offer_block(mask, &lanes, (block * BLOCK_ROWS) as u32);
            }
            prop_assert_eq!(best.into_sorted(), want);
        }
    }
}
