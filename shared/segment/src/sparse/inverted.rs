//! Posting lists: for each index that occurs, the rows that have it.

use std::collections::HashMap;

use arrow::buffer::ScalarBuffer;
use tarn_model::Metric;

use super::{SparseRows, scale};

/// The inverted index of a segment's rows. Its size depends on the coordinates alone, never on the dimension.
#[derive(Clone, Debug)]
pub(crate) struct Inverted {
    /// The indices that occur, ascending.
    pub(crate) terms: ScalarBuffer<u32>,
    /// Where each term's postings begin; one more than terms.
    pub(crate) starts: ScalarBuffer<u32>,
    /// The largest and the smallest impact of each term. An impact is value / |row| for cosine, 1 for Jaccard.
    pub(crate) highest: ScalarBuffer<f64>,
    pub(crate) lowest: ScalarBuffer<f64>,
    /// Ascending inside a term.
    pub(crate) rows: ScalarBuffer<u32>,
    /// One per posting, rounded to f32, for cosine; empty for Jaccard.
    pub(crate) impacts: ScalarBuffer<f32>,
}

impl Inverted {
    /// The offsets of `rows` are i32, so a u32 counts every posting.
    pub(crate) fn build(rows: &SparseRows, metric: Metric, lengths: &[f64]) -> Self {
        let mut counts: HashMap<u32, u32> = HashMap::new();
        let mut total: u32 = 0;
        for row in 0..rows.rows() {
            let (indices, values) = rows.row(row);
            for (&index, _) in indices.iter().zip(values).filter(|(_, value)| **value != 0.0) {
                *counts.entry(index).or_default() += 1;
                total += 1;
            }
        }
        let mut terms: Vec<u32> = counts.keys().copied().collect();
        terms.sort_unstable();
        let mut starts = Vec::with_capacity(terms.len() + 1);
        let mut start = 0u32;
        // From here on the map gives a term's place.
        for (place, term) in (0u32..).zip(&terms) {
            starts.push(start);
            if let Some(count) = counts.get_mut(term) {
                start += std::mem::replace(count, place);
            }
        }
        starts.push(start);

        let cosine = metric == Metric::SparseCosine;
        let mut next = starts.clone();
        let mut posting_rows = vec![0u32; total as usize];
        let mut impacts = vec![0.0f32; if cosine { total as usize } else { 0 }];
        let mut highest = vec![f64::NEG_INFINITY; terms.len()];
        let mut lowest = vec![f64::INFINITY; terms.len()];
        for (row, &length) in lengths.iter().enumerate() {
            let (indices, values) = rows.row(row);
            let factor = if cosine && length < 0.0 { scale(values) } else { 1.0 };
            for (index, &value) in indices.iter().zip(values).filter(|(_, value)| **value != 0.0) {
                let Some(&place) = counts.get(index) else { continue };
                let place = place as usize;
                let impact = if cosine { value * factor / length.abs() } else { 1.0 };
                highest[place] = highest[place].max(impact);
                lowest[place] = lowest[place].min(impact);
                let at = next[place] as usize;
                next[place] += 1;
                posting_rows[at] = row as u32;
                if cosine {
                    impacts[at] = impact as f32;
                }
            }
        }
        Self {
            terms: terms.into(),
            starts: starts.into(),
            highest: highest.into(),
            lowest: lowest.into(),
            rows: posting_rows.into(),
            impacts: impacts.into(),
        }
    }

    /// The place of a term, if any row has it.
    pub(crate) fn find(&self, term: u32) -> Option<usize> {
        self.terms.binary_search(&term).ok()
    }

    /// Where a term's postings are.
    pub(crate) fn postings(&self, place: usize) -> std::ops::Range<usize> {
        self.starts[place] as usize..self.starts[place + 1] as usize
    }
}
