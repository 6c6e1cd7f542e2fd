//! Which of the rows near a row it is linked to: near ones in different directions.
//!
//! A candidate that is nearer to a chosen one than to the row is left out: a walk reaches it by way of that one. This is the
//! heuristic of HNSW (Malkov and Yashunin, 2016, algorithm 4). Directions are Euclidean whatever the metric.
//!
//! Rows that are the same take half of a row's links at most: of many of them, the rest lead away and back.

use std::cmp::Ordering;

use crate::cells::Points;
use crate::kernels;

/// Candidates whose coordinates are in memory at once: of more, those who are wanted first. Long vectors by inner product, and
/// the first of many rows that are the same, have a large part of all rows as candidates.
const CANDIDATES: usize = 1024;

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
        self.candidates.extend(candidates.filter(|&candidate| candidate != row).map(|candidate| (0.0, candidate, 0)));
        if self.candidates.len() > CANDIDATES {
            if nearest_first {
                self.keep_nearest();
            }
            self.candidates.truncate(CANDIDATES);
        }
        self.all.clear();
        for (at, candidate) in (0u32..).zip(&mut self.candidates) {
            candidate.2 = at;
            let start = self.all.len();
            self.all.resize(start + dimension, 0.0);
            self.points.load(place(candidate.1), &mut self.all[start..]);
        }
        self.scores.resize(self.scores.len().max(self.candidates.len()), 0.0);
        kernels::l2_rows(&self.from, &self.all, dimension, &mut self.scores[..self.candidates.len()]);
        for (candidate, &score) in self.candidates.iter_mut().zip(&self.scores) {
            candidate.0 = score;
        }
        if nearest_first {
            self.candidates.sort_unstable_by(order);
        }
        self.chosen.clear();
        self.kept.clear();
        let mut same_left = most.div_ceil(2);
        for &(distance, candidate, at) in &self.candidates {
            if self.chosen.len() == most {
                break;
            }
            if distance <= 0.0 {
                if same_left == 0 {
                    continue;
                }
                same_left -= 1;
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

    /// Puts the nearest candidates in front, as many as there is memory for.
    fn keep_nearest(&mut self) {
        self.all.resize(self.points.dimension(), 0.0);
        for candidate in &mut self.candidates {
            self.points.load(self.order[candidate.1 as usize], &mut self.all);
            kernels::l2_rows(&self.from, &self.all, self.points.dimension(), std::slice::from_mut(&mut candidate.0));
        }
        self.candidates.select_nth_unstable_by(CANDIDATES, order);
    }
}

/// Nearest first; of equals the lower number.
fn order(a: &(f32, u32, u32), b: &(f32, u32, u32)) -> Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
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
        assert_eq!(Selector::new(&points, &order).select(2, 0..5, true, 6), [0, 1, 3]);
    }

    #[test]
    fn rows_that_are_alike_leave_room_for_others() {
        let points = Points::plain(1, vec![7.0, 7.0, 7.0, 7.0, 9.0, 4.0, 3.0]);
        let order = [0, 1, 2, 3, 4, 5, 6];
        assert_eq!(Selector::new(&points, &order).select(2, 0..7, true, 4), [0, 1, 4, 5]);
    }

    #[test]
    fn of_very_many_candidates_the_nearest_are_looked_at() {
        let rows = 10 * CANDIDATES as u32;
        // The farthest come first.
        let values: Vec<f32> = (0..rows).flat_map(|row| [(rows - row) as f32, (row % 2) as f32]).collect();
        let (points, order): (_, Vec<u32>) = (Points::plain(2, values), (0..rows).collect());
        let mut selector = Selector::new(&points, &order);
        let last = rows - 1;
        assert_eq!(selector.select(last, 0..rows, true, 8), [last - 1]);
        assert!(selector.all.len() <= 2 * CANDIDATES, "{}", selector.all.len());
        // In the order in which they are wanted.
        assert_eq!(selector.select(last, 0..rows, false, 8)[0], 0);
        assert!(selector.all.len() <= 2 * CANDIDATES, "{}", selector.all.len());
    }
}
