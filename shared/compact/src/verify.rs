//! Verification: re-reads every live object and checks that the parts agree.
//!
//! Live is what any root above the boundary names. Checked are: every data object's length and checksum; roots, lists of
//! deleted rows, catalogs and segments against each other; the timeline above the boundary, gapless and each delta whole;
//! each point in one place; the newest checkpoint against the fold of the deltas that still exist; the newest manifest
//! of each index against the checkpoint at its watermark, row by row: keys, attributes, vectors, shard and split.
//!
//! Memory stays bounded: sets of rows are compared by the sum of their 128-bit hashes, which does not depend on order (see
//! `digest`). So a difference is known to exist but not which row it is.
//!
//! Repairs nothing.

mod digest;
mod index;
mod source;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tarn_model::{Corrupt, KeyPrefix, ObjectKey, ObjectRef};
use tarn_store::{StoreError, list_indices, list_sources};

use crate::context::{Context, check_bytes};
use crate::error::CompactError;
use crate::outcome::{Problem, VerifyReport};
use crate::progress::Stage;
use digest::Digest;

/// Bytes of an object that are read at once.
const CHUNK_BYTES: u64 = 16 << 20;
const SUBJECT: &str = "store";

/// Re-reads every live object and checks it.
pub(crate) async fn verify(context: &Arc<Context>) -> Result<VerifyReport, CompactError> {
    let mut findings = Findings { report: VerifyReport::default(), seen: HashSet::new(), context: Arc::clone(context) };
    // Listed first: what is written meanwhile is not counted as an orphan.
    let mut listed = BTreeMap::new();
    for prefix in [KeyPrefix::Sources, KeyPrefix::Indices] {
        for object in context.store.list(&prefix).await? {
            match object.key {
                Some(key) => {
                    listed.insert(object.path, key);
                }
                None => findings.problem(&object.path, "none of ours; nothing reads it"),
            }
        }
    }
    let mut checkpoints = BTreeMap::new();
    for definition in list_sources(&context.store).await? {
        let id = definition.id.clone();
        let found = source::verify(&mut findings, definition, &listed).await?;
        checkpoints.insert(id, found);
    }
    for definition in list_indices(&context.store).await? {
        let none = Vec::new();
        let of_source = checkpoints.get(&definition.data_source).unwrap_or(&none);
        index::verify(&mut findings, definition, of_source, &listed).await?;
    }
    let is_data = |key: &ObjectKey| {
        matches!(key, ObjectKey::CheckpointData { .. } | ObjectKey::Segment { .. } | ObjectKey::Catalog { .. })
    };
    let orphans = listed.values().filter(|key| is_data(key) && !findings.seen.contains(&key.render()));
    findings.report.orphans = orphans.count() as u64;
    Ok(findings.report)
}

/// What has been found so far.
struct Findings {
    report: VerifyReport,
    context: Arc<Context>,
    /// Keys of the data objects that roots name.
    seen: HashSet<String>,
}

impl Findings {
    fn problem(&mut self, object: &str, message: impl Into<String>) {
        self.report.problems.push(Problem { object: object.to_owned(), message: message.into() });
    }

    /// Turns what is wrong with the stored bytes into a finding; `None` then. The store's own failures stay errors.
    fn take<T>(&mut self, object: &str, result: Result<T, CompactError>) -> Result<Option<T>, CompactError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(CompactError::Corrupt(corrupt) | CompactError::Store(StoreError::Corrupt(corrupt))) => {
                let object = corrupt.object.clone();
                self.problem(&object, corrupt.to_string());
                Ok(None)
            }
            Err(CompactError::Store(StoreError::Missing { object: missing })) => {
                self.problem(&missing, format!("missing, though {object} needs it"));
                Ok(None)
            }
            Err(error @ CompactError::Segment(_)) => {
                self.problem(object, error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn count(&mut self, bytes: u64) {
        self.report.objects += 1;
        self.report.bytes += bytes;
        self.context.report(SUBJECT, Stage::Verify, self.report.objects, self.report.objects);
    }

    /// Reads a data object through, once however many roots name it; whether it is what they say.
    async fn data(&mut self, key: &ObjectKey, object: &ObjectRef) -> Result<bool, CompactError> {
        let name = key.render();
        if !self.seen.insert(name.clone()) {
            // A second root may say something else of it; reading it on behalf of that root would tell.
            return Ok(!self.report.problems.iter().any(|problem| problem.object == name));
        }
        self.count(object.bytes);
        let read = read_through(&self.context, key, object).await;
        Ok(self.take(&name, read)?.is_some())
    }
}

/// Reads an object in parts; checks length and checksum.
async fn read_through(context: &Context, key: &ObjectKey, object: &ObjectRef) -> Result<(), CompactError> {
    let name = key.render();
    let size = context.store.size(key).await?.ok_or_else(|| StoreError::Missing { object: name.clone() })?;
    if size != object.bytes {
        let (expected, found) = (format!("{} bytes", object.bytes), format!("{size} bytes"));
        return Err(Corrupt { object: name, part: "length".to_owned(), expected, found }.into());
    }
    let (mut crc, mut at) = (0, 0);
    while at < size {
        let end = size.min(at + CHUNK_BYTES);
        for part in context.store.get_ranges(key, std::slice::from_ref(&(at..end))).await? {
            crc = crc32c::crc32c_append(crc, &part);
        }
        at = end;
    }
    Ok(check_bytes(&name, object, size, crc)?)
}

/// A checkpoint whose objects were read through and found to be sound.
struct Sound {
    checkpoint: tarn_model::Checkpoint,
    files: Vec<crate::checkpoint::LoadedFile>,
    source: Arc<tarn_model::DataSource>,
}
