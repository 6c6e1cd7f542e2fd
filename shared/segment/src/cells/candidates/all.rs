//! Candidates without an end: all that reach a score, however many.

use super::{Candidates, parts};

impl Candidates {
    /// Keeps all that reach this score.
    pub(crate) fn reaching(score: f32) -> Self {
        Self { wanted: usize::MAX, full: usize::MAX, entries: Vec::new(), threshold: score }
    }

    /// From now on keeps only what reaches this score, too.
    pub(crate) fn raise(&mut self, score: f32) {
        self.threshold = self.threshold.max(score);
    }

    /// How many have been kept.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes them out, in the order in which they came.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (f32, u32)> + '_ {
        self.entries.drain(..).map(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::super::BLOCK_ROWS;
    use super::*;

    #[test]
    fn all_that_reach_a_score_are_kept_as_they_came() {
        let mut reaching = Candidates::reaching(2.0);
        let scores: [f32; BLOCK_ROWS] = std::array::from_fn(|lane| lane as f32 % 7.0);
        let mask = scores.iter().enumerate().fold(0, |mask, (lane, score)| mask | u16::from(*score >= 2.0) << lane);
        for first in (0..4000).step_by(BLOCK_ROWS) {
            reaching.offer_block(mask, &scores, first);
        }
        let want = (0..4000u32).map(|row| (scores[row as usize % BLOCK_ROWS], row)).filter(|(score, _)| *score >= 2.0);
        assert!(reaching.len() > 2000 && reaching.drain().eq(want) && reaching.len() == 0);
        reaching.raise(3.0);
        reaching.raise(1.0);
        assert_eq!(reaching.threshold(), 3.0);
    }
}
