//! The tail: what the timeline holds after a manifest's watermark, as small segments in memory.
//!
//! Owns `a-point-is-live-once`: of all rows with one key, in the manifest's segments and in the tail, at most the newest is
//! live, and none when the newest update is a tombstone. Newer parts mask rows of older ones; nothing is rewritten.
//!
//! A tail that grows delta by delta keeps few parts: neighbours of similar size merge, as in a log-structured merge tree, so
//! a query visits a logarithmic number of them. A tail is immutable; growing makes a new one that shares parts.

mod build;
mod run;

use std::sync::Arc;

use roaring::RoaringBitmap;
use tarn_model::Corrupt;

use crate::definition::Definition;

pub(crate) use build::DeltaRows;
pub(crate) use run::{Run, segment_number};

/// Most touched keys that a merged run may hold. Larger runs cost more to merge again than one more part costs a query.
const MERGE_ROWS: usize = 64 * 1024;

/// The updates after a watermark.
#[derive(Debug)]
pub(crate) struct Tail {
    /// Sequences up to this one are in the manifest.
    watermark: u64,
    /// The last sequence included; at least the watermark.
    head: u64,
    /// Oldest first.
    parts: Vec<Part>,
}

/// A run, and which of its rows are not live in this tail.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// The rows.
    pub(crate) run: Arc<Run>,
    /// Rows that later parts replace or remove, or that the manifest has taken in.
    pub(crate) dead: Arc<RoaringBitmap>,
}

impl Tail {
    /// Nothing after the watermark.
    pub(crate) fn empty(watermark: u64) -> Self {
        Self { watermark, head: watermark, parts: Vec::new() }
    }

    /// The last sequence included.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// What the manifest includes.
    pub(crate) fn watermark(&self) -> u64 {
        self.watermark
    }

    /// Oldest first.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The tail after a later watermark: parts that the manifest has taken in go, rows of a part that straddles it die.
    pub(crate) fn advance(&self, watermark: u64) -> Self {
        let parts = self.parts.iter().filter(|part| part.run.last() > watermark).map(|part| {
            let folded = part.run.rows_up_to(watermark);
            if folded.is_empty() {
                part.clone()
            } else {
                Part { run: Arc::clone(&part.run), dead: Arc::new(&*part.dead | &folded) }
            }
        });
        Self { watermark, head: self.head.max(watermark), parts: parts.collect() }
    }

    /// The tail with more deltas, which follow its head without a gap.
    ///
    /// # Errors
    /// [`Corrupt`] names the delta that does not fit the data source.
    pub(crate) fn grow(&self, definition: &Definition, deltas: Vec<DeltaRows>) -> Result<Self, Corrupt> {
        let mut tail = Self { watermark: self.watermark, head: self.head, parts: self.parts.clone() };
        let mut deltas = deltas.into_iter().peekable();
        while let Some(first) = deltas.next() {
            let mut rows = first.rows();
            let mut batch = vec![first];
            while let Some(next) = deltas.next_if(|next| rows + next.rows() <= MERGE_ROWS) {
                rows += next.rows();
                batch.push(next);
            }
            tail.push(definition, batch)?;
        }
        Ok(tail)
    }

    fn push(&mut self, definition: &Definition, deltas: Vec<DeltaRows>) -> Result<(), Corrupt> {
        let Some(head) = deltas.iter().map(DeltaRows::sequence).max() else { return Ok(()) };
        let fresh = Run::from_deltas(definition, &deltas)?;
        self.head = head;
        for part in &mut self.parts {
            let superseded = part.run.rows_of(fresh.touched_after(self.watermark));
            if !superseded.is_subset(&part.dead) {
                part.dead = Arc::new(&*part.dead | &superseded);
            }
        }
        // Equal and smaller neighbours merge with the newcomer; each row is merged a logarithmic number of times.
        let mut total = fresh.touched();
        let mut keep = self.parts.len();
        while keep > 0 {
            let size = self.parts[keep - 1].run.touched();
            if size > 2 * total || size + total > MERGE_ROWS {
                break;
            }
            total += size;
            keep -= 1;
        }
        let run = if keep == self.parts.len() {
            fresh
        } else {
            let older = self.parts.split_off(keep);
            let mut runs: Vec<&Run> = older.iter().map(|part| &*part.run).collect();
            runs.push(&fresh);
            Run::merge(definition, &runs, self.watermark)?
        };
        if run.touched() > 0 {
            self.parts.push(Part { run: Arc::new(run), dead: Arc::default() });
        }
        Ok(())
    }
}
