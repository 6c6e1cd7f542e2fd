//! Walks along links: from the nearest row whose links have not been followed to what it leads to, until that row is farther
//! than all that are kept.
//!
//! Rows that are not allowed lead on, but are not kept.

use std::cell::Cell;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use tarn_model::Metric;

use super::Links;
use crate::cells::{Among, Cells, Probe};
use crate::dense::{DenseQuery, DenseRows};
use crate::rows::Bits;

/// Where cells let a walk begin: several places, for some may lead nowhere.
pub(crate) const ENTRIES: Probe = Probe { nprobe: 8, rescored: 16 };
/// Rows that are scored between two calls of `stop`, and those that one row leads to.
const STOP_ROWS: usize = 256;
/// Bytes that a thread keeps between walks, at most.
const KEPT_BYTES: usize = 4 * 1024 * 1024;

thread_local! {
    static VISITED: Cell<Option<Visited>> = const { Cell::new(None) };
}

/// The rows that are walked on.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) rows: &'a DenseRows,
    pub(crate) metric: Metric,
    /// Where each row is among `rows`, when not in its own place.
    pub(crate) order: Option<&'a [u32]>,
}

/// What a walk found.
pub(crate) struct Walked {
    /// At most `ef` allowed rows, in no promised order, with their scores.
    pub(crate) near: Vec<(f32, u32)>,
    /// Allowed rows that were scored, when `stop` ended the walk; `None` when it did not.
    pub(crate) stopped_after: Option<u64>,
}

/// A row and its score; nearer is less.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Near {
    score: f32,
    row: u32,
}

impl Eq for Near {}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ground<'_> {
    fn place(&self, row: u32) -> u32 {
        self.order.map_or(row, |order| order[row as usize])
    }

    fn score(&self, query: &DenseQuery, row: u32) -> f32 {
        let mut score = [0.0];
        self.rows.score_rows(self.metric, query, self.place(row), &mut score);
        score[0]
    }
}

impl Links {
    /// The nearest rows that a walk meets which begins where these cells say, whether those rows are allowed or not.
    pub(crate) fn search(
        &self,
        (cells, among): (&Cells, Among<'_>),
        ground: Ground<'_>,
        query: &DenseQuery,
        ef: usize,
        allowed: Option<&Bits>,
        stop: &dyn Fn() -> bool,
    ) -> Walked {
        let entries = cells
            .propose(query, ENTRIES, among, stop, |rows, stopped_after| stopped_after.is_none().then(|| rows.to_vec()));
        match entries {
            Some(entries) => self.walk(ground, query, &entries, ef, allowed, stop),
            None => Walked { near: Vec::new(), stopped_after: Some(0) },
        }
    }

    /// The nearest rows that a walk from `entries` meets.
    fn walk(
        &self,
        ground: Ground<'_>,
        query: &DenseQuery,
        entries: &[u32],
        ef: usize,
        allowed: Option<&Bits>,
        stop: &dyn Fn() -> bool,
    ) -> Walked {
        let ef = ef.max(1);
        let is_allowed = |row: u32| allowed.is_none_or(|bits| bits.contains(u64::from(row)));
        let mut ahead: BinaryHeap<Reverse<Near>> = BinaryHeap::new();
        let mut best: BinaryHeap<Near> = BinaryHeap::new();
        let stopped_after = with_visited(self.rows(), |visited| {
            let mut met: Vec<u32> = entries.iter().copied().filter(|&row| visited.insert(row)).collect();
            let mut ask_at = 0;
            loop {
                for &row in &met {
                    ground.rows.prefetch(ground.place(row));
                }
                for &row in &met {
                    let near = Near { score: ground.score(query, row), row };
                    if best.len() >= ef && best.peek().is_some_and(|worst| near > *worst) {
                        continue;
                    }
                    ahead.push(Reverse(near));
                    if is_allowed(row) {
                        best.push(near);
                        if best.len() > ef {
                            best.pop();
                        }
                    }
                }
                let Reverse(next) = ahead.pop()?;
                if best.len() >= ef && best.peek().is_some_and(|worst| next > *worst) {
                    return None;
                }
                if visited.rows.len() >= ask_at {
                    ask_at = visited.rows.len() + STOP_ROWS;
                    if stop() {
                        return Some(visited.rows.iter().filter(|row| is_allowed(**row)).count() as u64);
                    }
                }
                met.clear();
                met.extend(self.of(next.row).iter().copied().filter(|&row| visited.insert(row)));
            }
        });
        Walked { near: best.into_iter().map(|near| (near.score, near.row)).collect(), stopped_after }
    }
}

/// Lends the thread's memory, in which no row has been met.
fn with_visited<T>(rows: usize, use_it: impl FnOnce(&mut Visited) -> T) -> T {
    let mut visited = VISITED.take().unwrap_or_default();
    visited.make_room(rows);
    let out = use_it(&mut visited);
    visited.clear();
    if visited.bytes() <= KEPT_BYTES {
        VISITED.set(Some(visited));
    }
    out
}

/// The rows that a walk has met.
#[derive(Default)]
struct Visited {
    /// A bit per row.
    words: Vec<u64>,
    rows: Vec<u32>,
}

impl Visited {
    fn make_room(&mut self, rows: usize) {
        if self.words.len() < rows.div_ceil(64) {
            self.words.resize(rows.div_ceil(64), 0);
        }
    }

    /// False when it is there already.
    fn insert(&mut self, row: u32) -> bool {
        let (word, bit) = (&mut self.words[row as usize / 64], 1 << (row % 64));
        let new = *word & bit == 0;
        if new {
            *word |= bit;
            self.rows.push(row);
        }
        new
    }

    fn bytes(&self) -> usize {
        size_of::<u64>() * self.words.capacity() + size_of::<u32>() * self.rows.capacity()
    }

    /// Costs as much as the walk met, not as there are rows.
    fn clear(&mut self) {
        for row in self.rows.drain(..) {
            self.words[row as usize / 64] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows on a line, each linked to the next and the one before.
    fn line(rows: u32) -> (DenseRows, Links) {
        let values: Vec<f32> = (0..rows).map(|row| row as f32).collect();
        let (mut starts, mut links) = (vec![0], Vec::new());
        for row in 0..rows {
            links.extend([row.checked_sub(1), Some(row + 1).filter(|&next| next < rows)].into_iter().flatten());
            starts.push(links.len() as u32);
        }
        let links = Links::read(starts.into(), links.into(), rows as usize, 2).unwrap();
        (DenseRows::new(Metric::L2, 1, values.into()), links)
    }

    #[test]
    fn a_walk_ends_where_it_is_nearest() {
        let (rows, links) = line(1000);
        let query = DenseQuery { values: vec![700.2] };
        let ground = Ground { rows: &rows, metric: Metric::L2, order: None };
        let walk = |ef, allowed: Option<&Bits>| {
            let walked = links.walk(ground, &query, &[3, 900], ef, allowed, &|| false);
            assert_eq!(walked.stopped_after, None);
            let mut rows: Vec<u32> = walked.near.iter().map(|(_, row)| *row).collect();
            rows.sort_unstable();
            rows
        };
        assert_eq!(walk(3, None), [699, 700, 701]);
        assert_eq!(walk(3, None), [699, 700, 701], "what one walk has met means nothing to the next");
        // Rows that are not allowed lead on.
        let ranges = [0..10, 640..650];
        let mask = crate::rows::Rows { ranges: &ranges, ..crate::rows::Rows::default() };
        let bits = crate::rows::Allowed::resolve(&mask, 1000).bits(1000);
        assert_eq!(walk(3, Some(&bits)), [647, 648, 649]);
        // Rows in other places.
        let order: Vec<u32> = (0..1000).rev().collect();
        let ground = Ground { order: Some(&order), ..ground };
        let walked = links.walk(ground, &query, &[5], 1, None, &|| false);
        assert_eq!(walked.near[0].1, 299);
    }

    #[test]
    fn a_walk_that_is_stopped_says_how_far_it_came() {
        let (rows, links) = line(1000);
        let ground = Ground { rows: &rows, metric: Metric::L2, order: None };
        let asked = std::cell::Cell::new(0);
        let stop = || {
            asked.set(asked.get() + 1);
            asked.get() > 2
        };
        let query = DenseQuery { values: vec![999.0] };
        let walked = links.walk(ground, &query, &[0], 1, None, &stop);
        assert_eq!((walked.stopped_after, walked.near.len()), (Some(2 * STOP_ROWS as u64 + 1), 1));
        // Rows that may not be in the answer are not in what it accounts for.
        asked.set(0);
        let some = 100..200;
        let mask = crate::rows::Rows { ranges: std::slice::from_ref(&some), ..crate::rows::Rows::default() };
        let bits = crate::rows::Allowed::resolve(&mask, 1000).bits(1000);
        assert_eq!(links.walk(ground, &query, &[0], 1000, Some(&bits), &stop).stopped_after, Some(100));
    }

    #[test]
    fn a_thread_gives_back_what_a_long_walk_took() {
        let (rows, links) = line(KEPT_BYTES as u32 / 4);
        let ground = Ground { rows: &rows, metric: Metric::L2, order: None };
        let kept = |ef: usize| {
            links.walk(ground, &DenseQuery { values: vec![9.0] }, &[9], ef, None, &|| false);
            let visited = VISITED.take().unwrap_or_default();
            let bytes = visited.bytes();
            VISITED.set(Some(visited));
            bytes
        };
        assert!(kept(10) > 0);
        assert_eq!(kept(usize::MAX), 0);
    }
}
