//! The `k` best rows seen so far.

use std::cmp::Ordering;

use crate::hit::Hit;
use crate::keys::Keys;

/// Room for rows that is made at once; what is more grows.
const ROOM_MAX: usize = 256;

/// Collects rows and keeps the `k` with the lowest scores; of equal scores those with the lowest keys. A score is lower
/// when nearer: a distance, or an inner product negated. Never NaN.
///
/// Candidates gather in a buffer of twice `k` that is cut back by selection, so an offer costs O(1) and keys are compared
/// only between equal scores.
pub(crate) struct TopK<'a> {
    k: usize,
    keys: &'a Keys,
    buffer: Vec<(f64, u32)>,
    /// No score above this can be among the best.
    threshold: f64,
    /// The `k`-th best when the buffer was last cut back; nothing worse can be among the best.
    worst: Option<(f64, u32)>,
}

impl<'a> TopK<'a> {
    pub(crate) fn new(k: usize, keys: &'a Keys) -> Self {
        let threshold = if k == 0 { f64::NEG_INFINITY } else { f64::INFINITY };
        // As much as is ever needed, for usual `k`: hits are made in the same memory.
        let room = k.saturating_mul(2).max(k.saturating_add(16)).min(ROOM_MAX);
        Self { k, keys, buffer: Vec::with_capacity(room), threshold, worst: None }
    }

    /// Scores above this are refused; an equal one may still get in by its key.
    #[inline]
    pub(crate) fn threshold(&self) -> f64 {
        self.threshold
    }

    #[inline]
    pub(crate) fn offer(&mut self, score: f64, row: u32) {
        if score <= self.threshold && self.admits(score, row) {
            self.buffer.push((score, row));
            if self.buffer.len() >= self.k.saturating_mul(2).max(self.k.saturating_add(16)) {
                self.shrink();
            }
        }
    }

    /// Brings the threshold up to date: afterwards it is the `k`-th best score, if there are `k`.
    pub(crate) fn shrink(&mut self) {
        if self.k > 0 && self.buffer.len() >= self.k {
            let keys = self.keys;
            let (_, last, _) = self.buffer.select_nth_unstable_by(self.k - 1, |a, b| order(keys, a, b));
            self.threshold = last.0;
            self.worst = Some(*last);
            self.buffer.truncate(self.k);
        }
    }

    /// Whether a row of this score and key may be among the best. Certain that it is not when false.
    #[inline]
    pub(crate) fn admits(&self, score: f64, row: u32) -> bool {
        match &self.worst {
            Some(worst) => score < worst.0 || order(self.keys, &(score, row), worst) == Ordering::Less,
            None => self.k > 0,
        }
    }

    /// How many rows it holds, at most `k`.
    pub(crate) fn len(&mut self) -> usize {
        self.shrink();
        self.buffer.len()
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (score, row) in other.buffer {
            self.offer(score, row);
        }
    }

    /// Nearest first. `negated`: scores are inner products with the sign changed.
    pub(crate) fn into_hits(mut self, negated: bool) -> Vec<Hit> {
        self.shrink();
        let keys = self.keys;
        self.buffer.sort_unstable_by(|a, b| order(keys, a, b));
        // Adding zero turns -0.0 into 0.0.
        let distance = |score: f64| if negated { -score + 0.0 } else { score };
        self.buffer.into_iter().map(|(score, row)| Hit { row, distance: distance(score) }).collect()
    }
}

fn order(keys: &Keys, a: &(f64, u32), b: &(f64, u32)) -> Ordering {
    // The row decides between repeated keys, so that the order is total.
    a.0.total_cmp(&b.0).then_with(|| keys.get(a.1).cmp(keys.get(b.1))).then(a.1.cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use arrow::array::BinaryArray;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keeps_what_a_full_sort_keeps(
            rows in prop::collection::vec((0u8..6, any::<u16>()), 0..200),
            k in 0usize..40,
        ) {
            let names: Vec<[u8; 2]> = rows.iter().map(|(_, key)| key.to_be_bytes()).collect();
            let keys = Keys::computed(BinaryArray::from_iter_values(&names));
            let mut top = TopK::new(k, &keys);
            let mut want: Vec<(u8, [u8; 2], u32)> = Vec::new();
            for (row, (score, _)) in (0u32..).zip(&rows) {
                top.offer(f64::from(*score), row);
                want.push((*score, names[row as usize], row));
            }
            want.sort_unstable();
            want.truncate(k);
            let got: Vec<u32> = top.into_hits(false).iter().map(|hit| hit.row).collect();
            prop_assert_eq!(got, want.iter().map(|(_, _, row)| *row).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_inner_product_of_minus_zero_is_zero() {
        let keys = Keys::computed(BinaryArray::from_iter_values([b"a"]));
        let mut top = TopK::new(1, &keys);
        top.offer(0.0, 0);
        assert!(top.into_hits(true)[0].distance.is_sign_positive());
    }
}
