//! The best few by approximate score.
//!
//! A buffer of three times what is wanted is cut back by selection when it is full: an offer costs O(1), nothing is
//! allocated after the beginning, and the threshold only rises.

use std::cmp::Ordering;

use super::kernels::BLOCK_ROWS;

/// Collects numbers, of rows or of cells, and keeps those with the highest scores; of equal scores those that came first.
#[derive(Debug)]
pub(crate) struct Candidates {
    wanted: usize,
    full: usize,
    entries: Vec<(f32, u32)>,
    threshold: f32,
}

impl Candidates {
    /// Keeps the best `wanted` of at most `total`.
    pub(crate) fn new(wanted: usize, total: usize) -> Self {
        let wanted = wanted.min(total);
        let full = wanted.saturating_mul(3).max(wanted + 64);
        // A block is offered as a whole, so up to fifteen entries come after the one that fills the buffer.
        let entries = Vec::with_capacity(full.min(total) + BLOCK_ROWS);
        let threshold = if wanted == 0 { f32::INFINITY } else { f32::NEG_INFINITY };
        Self { wanted, full, entries, threshold }
    }

    /// Only higher scores can be among the best.
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
            self.entries.push((scores[lane as usize], first + lane));
            left &= left - 1;
        }
        if self.entries.len() >= self.full {
            self.cut();
        }
    }

    #[cold]
    fn cut(&mut self) {
        if self.wanted > 0 && self.entries.len() > self.wanted {
            let (_, last, _) = self.entries.select_nth_unstable_by(self.wanted - 1, order);
            self.threshold = last.0;
            self.entries.truncate(self.wanted);
        }
    }

    /// The `first` highest scores in front, in no order; then the others.
    pub(crate) fn into_best_first(mut self, first: usize) -> Vec<(f32, u32)> {
        self.cut();
        if self.entries.len() > first {
            self.entries.select_nth_unstable_by(first, order);
        }
        self.entries
    }

    /// Highest score first; equal ones by number.
    pub(crate) fn into_sorted(mut self) -> Vec<(f32, u32)> {
        self.cut();
        self.entries.sort_unstable_by(order);
        self.entries
    }
}

fn order(a: &(f32, u32), b: &(f32, u32)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
                    mask |= u16::from(*score > best.threshold()) << lane;
                }
                best.offer_block(mask, &lanes, (block * BLOCK_ROWS) as u32);
            }
            want.sort_unstable_by(order);
            want.truncate(wanted);
            prop_assert_eq!(best.into_sorted(), want);
        }
    }
}
