//! Exact top-k over posting lists with upper bounds.
//!
//! MaxScore (Turtle and Flood, 1995) over windows of rows: in each window the *essential* lists are added up term by term;
//! the other lists together cannot lift a row over the threshold, so they are not read. A row whose estimate, plus what
//! those lists may add, reaches the threshold is scored canonically from its own coordinates; when there are many such rows
//! in a window, the other lists are added up after all, which leaves few. Estimates come from impacts rounded to f32 and
//! err by less than [`SLACK`].
//!
//! Two passes. The first looks only for rows nearer than 1. If there are fewer than `k`, the second scores every row that
//! shares an index with the query, for distances of 1 and above, and fills up with rows that share none: their
//! distance is exactly 1, and they come before rows with a negative cosine.

use std::ops::Range;

use tarn_model::Metric;

use super::{Inverted, SparseQuery, SparseRows};
use crate::keys::Keys;
use crate::rows::Allowed;
use crate::topk::TopK;

/// Rows per window; its sums stay in the first-level cache.
const WINDOW: u32 = 2048;
/// Words of a bit per row of a window.
const WORDS: usize = WINDOW as usize / 64;
/// Scoring a row takes about as long as adding up so many postings.
const SCORE_POSTINGS: usize = 32;
/// Bounds the error of an estimate: |Σ wᵢ·impactᵢ| of unit vectors is at most 1, each impact errs by 2⁻²⁴ of itself, and the
/// f64 sums by far less.
const SLACK: f64 = 1e-6;

/// What is searched.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) metric: Metric,
    pub(crate) rows: &'a SparseRows,
    pub(crate) lengths: &'a [f64],
    pub(crate) inverted: &'a Inverted,
    pub(crate) keys: &'a Keys,
}

/// The nearest allowed rows, and how many were considered.
pub(crate) fn search<'k>(
    source: Source<'k>,
    query: &SparseQuery,
    allowed: &Allowed,
    k: usize,
    stop: &(dyn Fn() -> bool + Sync),
) -> (TopK<'k>, u64) {
    let span = match (allowed.runs.first(), allowed.runs.last()) {
        (Some(first), Some(last)) if k > 0 => first.start..last.end,
        _ => return (TopK::new(k, source.keys), allowed.count),
    };
    let lists = lists(source, query, &span);
    let postings: usize = lists.iter().map(|list| list.rows.len()).sum();
    // Fewer postings than places: the second pass is certain, and complete by itself.
    if postings >= k {
        let mut pass = Pass::new(source, query, allowed, k, lists.clone());
        let stopped = pass.nearer_than_one(stop);
        if let Some(row) = stopped {
            return (pass.top, allowed.count_before(row));
        }
        if pass.top.len() == k {
            return (pass.top, allowed.count);
        }
    }
    let mut pass = Pass::new(source, query, allowed, k, lists);
    let stopped = pass.everything(stop);
    (pass.top, stopped.map_or(allowed.count, |row| allowed.count_before(row)))
}

/// One query term's postings inside the span of allowed rows.
#[derive(Clone)]
struct List<'a> {
    rows: &'a [u32],
    /// Empty for Jaccard.
    impacts: &'a [f32],
    /// What a posting's impact is multiplied by.
    weight: f64,
    /// The most that the list adds to a similarity; not negative.
    bound: f64,
    /// Postings before this lie before the window.
    at: usize,
}

impl List<'_> {
    /// The postings inside a window. Windows are asked for in ascending order.
    fn in_window(&mut self, window: &Range<u32>) -> Range<usize> {
        if self.rows.get(self.at).is_some_and(|&row| row < window.start) {
            self.at += self.rows[self.at..].partition_point(|&row| row < window.start);
        }
        let ahead = &self.rows[self.at..];
        let ahead = &ahead[..ahead.len().min(WINDOW as usize)];
        self.at..self.at + ahead.partition_point(|&row| row < window.end)
    }
}

/// Ascending by bound, and with equal bounds the longest first: those that soonest need not be read.
fn lists<'a>(source: Source<'a>, query: &SparseQuery, span: &Range<u32>) -> Vec<List<'a>> {
    let inverted = source.inverted;
    let mut lists: Vec<List<'a>> = Vec::with_capacity(query.terms.len());
    for &(term, value) in &query.terms {
        let Some(place) = inverted.find(term) else { continue };
        let range = inverted.postings(place);
        let rows = &inverted.rows[range.clone()];
        let from = rows.partition_point(|&row| row < span.start);
        let to = from + rows[from..].partition_point(|&row| row < span.end);
        if from == to {
            continue;
        }
        let (weight, impacts, highest, lowest) = match source.metric {
            // Common indices are counted.
            Metric::SparseJaccard => (1.0, &[][..], 1.0, 1.0),
            _ => (value / query.norm, &inverted.impacts[range], inverted.highest[place], inverted.lowest[place]),
        };
        let bound = (weight * highest).max(weight * lowest).max(0.0);
        let impacts = impacts.get(from..to).unwrap_or_default();
        lists.push(List { rows: &rows[from..to], impacts, weight, bound, at: 0 });
    }
    lists.sort_by(|a, b| a.bound.total_cmp(&b.bound).then(b.rows.len().cmp(&a.rows.len())));
    lists
}

struct Pass<'k, 'q> {
    source: Source<'k>,
    query: &'q SparseQuery,
    allowed: &'q Allowed,
    lists: Vec<List<'k>>,
    /// `bounds[i]` is what the first `i` lists add at most.
    bounds: Vec<f64>,
    /// A sum divided by this is a similarity, at most: 1, or for Jaccard the size of the query, for a union is not smaller.
    unit: f64,
    top: TopK<'k>,
    sums: Vec<f64>,
    touched: [u64; WORDS],
}

impl<'k, 'q> Pass<'k, 'q> {
    fn new(source: Source<'k>, query: &'q SparseQuery, allowed: &'q Allowed, k: usize, lists: Vec<List<'k>>) -> Self {
        let mut bounds = vec![0.0];
        let mut sum = 0.0;
        for list in &lists {
            sum += list.bound;
            bounds.push(sum);
        }
        let unit = if source.metric == Metric::SparseJaccard { query.terms.len() as f64 } else { 1.0 };
        let top = TopK::new(k, source.keys);
        let sums = vec![0.0; WINDOW as usize];
        Self { source, query, allowed, lists, bounds, unit, top, sums, touched: [0; WORDS] }
    }

    /// Offers the nearest rows of distance below 1. Returns the row at which it was stopped.
    fn nearer_than_one(&mut self, stop: &(dyn Fn() -> bool + Sync)) -> Option<u32> {
        let runs: &'q [Range<u32>] = &self.allowed.runs;
        for window in windows(runs) {
            if stop() {
                return Some(window.start);
            }
            self.top.shrink();
            // Without k rows it is -∞, and only lists that never help are left out.
            let threshold = 1.0 - self.top.threshold();
            let bound = |&bound: &f64| bound == 0.0 || bound / self.unit + SLACK < threshold;
            let mut rest = self.bounds.partition_point(bound) - 1;
            self.add_up(&window, rest..self.lists.len());
            let allowed = window_bits(runs, &window);
            self.touched.iter_mut().zip(allowed).for_each(|(word, mask)| *word &= mask);
            if rest > 0 {
                let unsure = set_bits(&self.touched).filter(|&at| self.may_enter(&window, at, rest)).count();
                if unsure * SCORE_POSTINGS > self.postings_in(&window, rest) {
                    self.add_up(&window, 0..rest);
                    self.touched.iter_mut().zip(allowed).for_each(|(word, mask)| *word &= mask);
                    rest = 0;
                }
            }
            let touched = std::mem::take(&mut self.touched);
            for at in set_bits(&touched) {
                if self.may_enter(&window, at, rest) {
                    let row = window.start + at as u32;
                    let distance = self.distance(row);
                    if distance < 1.0 {
                        self.top.offer(distance, row);
                    }
                }
            }
            self.sums.fill(0.0);
        }
        None
    }

    /// Whether a row, of which all lists but the first `rest` have been added up, may be nearer than 1 and among the best.
    fn may_enter(&self, window: &Range<u32>, at: usize, rest: usize) -> bool {
        let most = self.sums[at] + self.bounds[rest];
        let similarity = if self.source.metric == Metric::SparseJaccard {
            let length = self.source.lengths[window.start as usize + at];
            let most = most.min(length);
            most / (self.unit + length - most)
        } else {
            most
        };
        similarity + SLACK >= (1.0 - self.top.threshold()).max(0.0)
    }

    /// Postings of the first `rest` lists in a window.
    fn postings_in(&mut self, window: &Range<u32>, rest: usize) -> usize {
        self.lists[..rest].iter_mut().map(|list| list.in_window(window).len()).sum()
    }

    /// Offers every row, scored or of distance 1. Returns the row at which it was stopped.
    fn everything(&mut self, stop: &(dyn Fn() -> bool + Sync)) -> Option<u32> {
        let mut overlapping = vec![0u64; (self.source.rows.rows()).div_ceil(64)];
        let mut stopped = None;
        let runs: &'q [Range<u32>] = &self.allowed.runs;
        for window in windows(runs) {
            if stop() {
                stopped = Some(window.start);
                break;
            }
            self.add_up(&window, 0..self.lists.len());
            self.sums.fill(0.0);
            let mut touched = std::mem::take(&mut self.touched);
            touched.iter_mut().zip(window_bits(runs, &window)).for_each(|(word, mask)| *word &= mask);
            for (all, bits) in overlapping[window.start as usize / 64..].iter_mut().zip(touched) {
                *all = bits;
            }
            for at in set_bits(&touched) {
                let row = window.start + at as u32;
                let distance = self.distance(row);
                self.top.offer(distance, row);
            }
        }
        self.fill_up(&overlapping, stopped.unwrap_or(u32::MAX));
        stopped
    }

    /// Offers rows below `end` that share no index with the query. In a stretch of ascending keys, once one is not good
    /// enough, none after it is.
    fn fill_up(&mut self, overlapping: &[u64], end: u32) {
        self.top.shrink();
        if self.top.threshold() < 1.0 {
            return;
        }
        let stretches = self.source.keys.sorted_runs();
        let runs: &'q [Range<u32>] = &self.allowed.runs;
        for run in runs {
            let mut start = run.start;
            let run_end = run.end.min(end);
            while start < run_end {
                let next = stretches.partition_point(|&first| first <= start);
                let stretch_end = stretches.get(next).map_or(run_end, |&first| first.min(run_end));
                for row in start..stretch_end {
                    if overlapping[row as usize / 64] >> (row % 64) & 1 == 0 {
                        if !self.top.admits(1.0, row) {
                            break;
                        }
                        self.top.offer(1.0, row);
                    }
                }
                start = stretch_end;
            }
        }
    }

    /// Adds the postings of some lists inside the window to `sums`, and marks their rows.
    fn add_up(&mut self, window: &Range<u32>, which: Range<usize>) {
        for list in &mut self.lists[which] {
            let postings = list.in_window(window);
            let rows = &list.rows[postings.clone()];
            if let Some(impacts) = list.impacts.get(postings) {
                for (&row, &impact) in rows.iter().zip(impacts) {
                    let at = (row - window.start) as usize;
                    self.sums[at] += list.weight * f64::from(impact);
                    self.touched[at / 64] |= 1 << (at % 64);
                }
            } else {
                for &row in rows {
                    let at = (row - window.start) as usize;
                    self.sums[at] += list.weight;
                    self.touched[at / 64] |= 1 << (at % 64);
                }
            }
        }
    }

    fn distance(&self, row: u32) -> f64 {
        let at = row as usize;
        self.source.rows.distance(self.source.metric, self.query, at, self.source.lengths[at])
    }
}

/// Aligned windows that hold allowed rows, ascending.
fn windows(runs: &[Range<u32>]) -> impl Iterator<Item = Range<u32>> + '_ {
    let mut at = 0;
    let mut from = 0u32;
    std::iter::from_fn(move || {
        while runs.get(at).is_some_and(|run| run.end <= from) {
            at += 1;
        }
        let run = runs.get(at)?;
        let start = run.start.max(from) / WINDOW * WINDOW;
        from = start.saturating_add(WINDOW);
        Some(start..from)
    })
}

/// The places of the bits that are set, ascending.
fn set_bits(words: &[u64; WORDS]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(word, &bits)| {
        let next = |bits: &u64| Some(bits & bits.wrapping_sub(1)).filter(|&rest| rest != 0);
        let rests = std::iter::successors(Some(bits).filter(|&bits| bits != 0), next);
        rests.map(move |rest| word * 64 + rest.trailing_zeros() as usize)
    })
}

/// The allowed rows of a window, a bit each.
fn window_bits(runs: &[Range<u32>], window: &Range<u32>) -> [u64; WORDS] {
    let mut words = [0u64; WORDS];
    let first = runs.partition_point(|run| run.end <= window.start);
    for run in runs[first..].iter().take_while(|run| run.start < window.end) {
        let (start, end) = (run.start.max(window.start) - window.start, run.end.min(window.end) - window.start);
        crate::rows::set_range(&mut words, start..end);
    }
    words
}
