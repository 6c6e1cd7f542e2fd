//! Which of the rows near a row it is linked to: near ones in different directions.
//!
//! A candidate that is nearer to a chosen one than to the row is left out: a walk reaches it by way of that one. This is the
//! heuristic of HNSW (Malkov and Yashunin, 2016, algorithm 4). Directions are Euclidean whatever the metric.

use crate::cells::Points;
use crate::kernels;

/// What a choice needs for a while.
pub(super) struct Selector<'a> {
    points: &'a Points,
    /// The row of `points` at each place.
    order: &'a [u32],
    from: Vec<f32>,
    /// The candidates' coordinates, and those of the chosen.
    all: Vec<f32>,
    kept: Vec<f32>,
    scores: Vec<f32>,
    candidates: Vec<(f32, u32, u32)>,
    chosen: Vec<u32>,
}

impl<'a> Selector<'a> {
    pub(super) fn new(points: &'a Points, order: &'a [u32]) -> Self {
        let from = vec![0.0; points.dimension()];
        let (all, kept, scores) = (Vec::new(), Vec::new(), Vec::new());
        Self { points, order, from, all, kept, scores, candidates: Vec::new(), chosen: Vec::new() }
    }

    /// At most `most` of the candidates. `nearest_first`: by distance, else they come in the order in which they are wanted.
    pub(super) fn select(
        &mut self,
        row: u32,
        candidates: impl Iterator<Item = u32>,
        nearest_first: bool,
        most: usize,
    ) -> &[u32] {
        let dimension = self.points.dimension();
        let place = |row: u32| self.order[row as usize];
        self.points.load(place(row), &mut self.from);
        self.candidates.clear();
        self.all.clear();
        for (at, candidate) in (0u32..).zip(candidates.filter(|&candidate| candidate != row)) {
            self.candidates.push((0.0, candidate, at));
            let start = self.all.len();
            self.all.resize(start + dimension, 0.0);
            self.points.load(place(candidate), &mut self.all[start..]);
        }
        self.scores.resize(self.scores.len().max(self.candidates.len()), 0.0);
        kernels::l2_rows(&self.from, &self.all, dimension, &mut self.scores[..self.candidates.len()]);
        for (candidate, &score) in self.candidates.iter_mut().zip(&self.scores) {
            candidate.0 = score;
        }
        if nearest_first {
            self.candidates.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        }
        self.chosen.clear();
        self.kept.clear();
        for &(distance, candidate, at) in &self.candidates {
            if self.chosen.len() == most {
                break;
            }
            let values = &self.all[at as usize * dimension..][..dimension];
            let scores = &mut self.scores[..self.chosen.len()];
            kernels::l2_rows(values, &self.kept, dimension, scores);
            // Of rows that are all alike none stands in another's way.
            if scores.iter().all(|&score| score >= distance) {
                self.chosen.push(candidate);
                self.kept.extend_from_slice(values);
            }
        }
        &self.chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_candidates_in_one_direction_the_nearest_is_chosen() {
        let points = Points::plain(2, vec![0.0, 0.0, 3.0, 0.1, 1.0, 0.0, 0.0, 2.0, 2.0, 0.0, -4.0, 0.0]);
        let order = [0, 1, 2, 3, 4, 5];
        let mut selector = Selector::new(&points, &order);
        assert_eq!(selector.select(0, 0..6, true, 8), [2, 3, 5]);
        assert_eq!(selector.select(0, 0..6, true, 2), [2, 3]);
        // As they come: what is behind a chosen one is left out, what is before it is not.
        assert_eq!(selector.select(0, [5, 1, 2, 4].into_iter(), false, 8), [5, 1, 2]);
        assert!(selector.select(0, [0].into_iter(), true, 8).is_empty());
    }

    #[test]
    fn rows_that_are_alike_are_linked() {
        let points = Points::plain(1, vec![7.0; 5]);
        let order = [0, 1, 2, 3, 4];
        assert_eq!(Selector::new(&points, &order).select(2, 0..5, true, 3), [0, 1, 3]);
    }
}
