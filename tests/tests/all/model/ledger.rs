//! What was uploaded, and what became of it.
//!
//! The timeline itself says which uploads count: whatever is found in it is applied to the reference. The ledger checks that it
//! says nothing else than what the uploaders were told: an acknowledged upload is in it, once; a refused one never; one whose
//! outcome is unknown may be in it, once, from any moment on.
//!
//! What nobody uploaded must be tombstones of a sweep: each of a point that was live directly before, and that somebody wanted gone.

use std::collections::BTreeSet;
use std::ops::Range;

use tarn_model::{PointKey, Update};
use tarn_testkit::Reference;
use tarn_timeline::{Delta, Timeline, row_attributes, row_vector};

/// An upload's place in the ledger.
pub(crate) type Entry = usize;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    uploads: Vec<Recorded>,
}

#[derive(Debug)]
struct Recorded {
    updates: Vec<Update>,
    committed_at: Option<u64>,
    refused: bool,
}

impl Ledger {
    /// Before the upload is sent.
    pub(crate) fn begin(&mut self, updates: &[Update]) -> Entry {
        self.uploads.push(Recorded { updates: updates.to_vec(), committed_at: None, refused: false });
        self.uploads.len() - 1
    }

    /// Before the upload is sent again.
    pub(crate) fn repeat(&mut self, entry: Entry) {
        self.uploads[entry].refused = false;
    }

    /// The uploader was told that nothing was written.
    pub(crate) fn refuse(&mut self, entry: Entry) -> Result<(), String> {
        let upload = &mut self.uploads[entry];
        upload.refused = true;
        match upload.committed_at {
            Some(sequence) => Err(format!("upload {entry} was refused, but is in the timeline at {sequence}")),
            None => Ok(()),
        }
    }

    /// The uploader was told that the write is included at `sequence`.
    pub(crate) fn acknowledge(&self, entry: Entry, sequence: u64) -> Result<(), String> {
        match self.uploads[entry].committed_at {
            Some(committed) if committed <= sequence => Ok(()),
            found => Err(format!("upload {entry} was acknowledged at {sequence}; the timeline has it at {found:?}")),
        }
    }

    /// Applies to the reference what the timeline has beyond it. `may_go`: whether a sweep may remove a live point. Returns how
    /// many points sweeps have removed.
    pub(crate) async fn follow(
        &mut self,
        timeline: &Timeline,
        reference: &mut Reference,
        may_go: &dyn Fn(&Reference, &PointKey) -> bool,
    ) -> Result<u64, String> {
        let mut swept = 0;
        loop {
            let sequence = reference.head() + 1;
            let Some(delta) = timeline.read(sequence).await.map_err(|error| error.to_string())? else { break };
            let rows: usize = delta.batches.iter().map(|batch| rows_of(batch.rows)).sum();
            if rows != delta.rows() || delta.batches.is_empty() {
                return Err(format!("delta {sequence} has {} rows, its batches {rows}", delta.rows()));
            }
            let mut updates = Vec::with_capacity(rows);
            for batch in &delta.batches {
                let start = updates.len();
                updates.extend(read(timeline, &delta, start..start + rows_of(batch.rows)));
                let batch = &updates[start..];
                if batch.iter().all(|update| matches!(update, Update::Delete(_))) {
                    swept += check_sweep(batch, sequence, reference, may_go)?;
                } else {
                    self.commit(batch, sequence)?;
                }
            }
            reference.apply(&updates).map_err(|error| error.to_string())?;
        }
        let head = timeline.head().await.map_err(|error| error.to_string())?.sequence(0);
        if head != reference.head() {
            return Err(format!("the timeline's head is {head}, but its deltas end at {}", reference.head()));
        }
        Ok(swept)
    }

    fn commit(&mut self, updates: &[Update], sequence: u64) -> Result<(), String> {
        // The newest first: it is nearly always that.
        let found = self.uploads.iter_mut().enumerate().rev().find(|(_, upload)| upload.updates == updates);
        let Some((entry, upload)) = found else {
            return Err(format!(
                "sequence {sequence} holds {} updates that nobody uploaded: {updates:?}",
                updates.len()
            ));
        };
        if upload.refused {
            return Err(format!("upload {entry} was refused, but is in the timeline at {sequence}"));
        }
        match upload.committed_at.replace(sequence) {
            None => Ok(()),
            Some(before) => Err(format!("upload {entry} is in the timeline twice, at {before} and {sequence}")),
        }
    }
}

/// Uploads have an upsert at least; so these are of a sweep.
fn check_sweep(
    tombstones: &[Update],
    sequence: u64,
    reference: &Reference,
    may_go: &dyn Fn(&Reference, &PointKey) -> bool,
) -> Result<u64, String> {
    let live: BTreeSet<&PointKey> = reference.live_at(reference.head()).map(|(key, _)| key).collect();
    let mut seen = BTreeSet::new();
    for update in tombstones {
        let key = match update {
            Update::Delete(attributes) => PointKey::encode(reference.source(), attributes),
            Update::Upsert(point) => PointKey::encode(reference.source(), &point.attributes),
        };
        let key = key.map_err(|error| error.to_string())?;
        if !live.contains(&key) || !may_go(reference, &key) {
            return Err(format!("sequence {sequence} removes a point that is not live or was not to go: {update:?}"));
        }
        if !seen.insert(key) {
            return Err(format!("sequence {sequence} removes a point twice: {update:?}"));
        }
    }
    Ok(seen.len() as u64)
}

fn rows_of(rows: impl TryInto<usize>) -> usize {
    rows.try_into().unwrap_or(usize::MAX)
}

fn read(timeline: &Timeline, delta: &Delta, rows: Range<usize>) -> Vec<Update> {
    let read = |row| {
        let attributes = row_attributes(&delta.data, timeline.source(), row);
        match row_vector(&delta.data, timeline.source(), row) {
            Some(vector) if !delta.is_deleted(row) => Update::Upsert(tarn_model::DataPoint { attributes, vector }),
            _ => Update::Delete(attributes),
        }
    };
    rows.map(read).collect()
}
