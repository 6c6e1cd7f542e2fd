//! The order of a build: everything that its parts and its publication are named by; and what a part gives back.
//!
//! An order pins its inputs, so that whoever carries out a part, how often and when, builds the same rows: the manifest to
//! build on, by generation; the checkpoint to reach, as the first from a generation on that includes a watermark, because
//! it may still have to be folded when the order is written; and the shards of each part.
//!
//! Whoever plans the same from the same gives the order the same id, and finds it: what has been built for it stays built.

use serde::{Deserialize, Serialize};
use tarn_model::{Checkpoint, Corrupt, DataSourceId, IndexId, ObjectKey, ReadToken, ShardEntry};
use ulid::Ulid;
use xxhash_rust::xxh3::xxh3_128;

use crate::context::Context;
use crate::error::CompactError;

/// What to build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BuildOrder {
    /// [`tarn_model::FORMAT`].
    pub(crate) format: u32,
    /// In its key. By its inputs, see [`Self::id_by_inputs`], unless an order of that name has grown too old.
    pub(crate) id: Ulid,
    /// Unique, and so is the order with its results, also if its name was another's once: what that one's builders leave is
    /// not taken for its own. The commit id of the manifest, so that a publication that is repeated finds its own.
    pub(crate) commit_id: Ulid,
    pub(crate) index: IndexId,
    /// Nothing is published when this is longer ago than `longest_build`.
    pub(crate) begun_ms: i64,
    /// The generation of the manifest to build on; 0: none.
    pub(crate) base: u64,
    pub(crate) checkpoint: Target,
    /// The ids of each part's shards.
    pub(crate) parts: Vec<Vec<String>>,
}

/// A checkpoint that is there, or will be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Target {
    /// The first generation that may be it.
    pub(crate) from_generation: u64,
    /// What it includes at least.
    pub(crate) watermark: ReadToken,
}

/// What a part has built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PartResult {
    /// [`tarn_model::FORMAT`].
    pub(crate) format: u32,
    /// The order's commit id.
    pub(crate) order: Ulid,
    pub(crate) part: u32,
    pub(crate) shards: Vec<ShardEntry>,
    pub(crate) segments_written: u64,
    pub(crate) segments_carried: u64,
}

impl BuildOrder {
    pub(crate) fn key(&self) -> ObjectKey {
        ObjectKey::BuildOrder { index: self.index.clone(), id: self.id }
    }

    /// The same for all orders that ask for the same.
    pub(crate) fn id_by_inputs(&self) -> Result<Ulid, CompactError> {
        let inputs = serde_json::to_vec(&self.inputs()).map_err(|error| CompactError::engine("writing JSON", error))?;
        Ok(Ulid(xxh3_128(&inputs)))
    }

    /// Whether it asks for the same as another.
    pub(crate) fn asks_the_same(&self, other: &Self) -> bool {
        self.inputs() == other.inputs()
    }

    /// Not from which generation on the checkpoint is looked for: its watermark says which one it is.
    fn inputs(&self) -> (&IndexId, u64, &ReadToken, &[Vec<String>]) {
        (&self.index, self.base, &self.checkpoint.watermark, &self.parts)
    }

    /// The generation that it is to have.
    pub(crate) fn generation(&self) -> u64 {
        self.base.saturating_add(1)
    }

    pub(crate) fn part_key(&self, part: u32) -> ObjectKey {
        ObjectKey::BuildPart { index: self.index.clone(), order: self.id, part }
    }

    pub(crate) fn shards_of(&self, part: u32) -> Result<&[String], Corrupt> {
        let shards = usize::try_from(part).ok().and_then(|part| self.parts.get(part));
        shards.map(Vec::as_slice).ok_or_else(|| Corrupt {
            object: self.key().render(),
            part: "parts".to_owned(),
            expected: format!("part {part}"),
            found: format!("{} parts", self.parts.len()),
        })
    }
}

impl PartResult {
    /// Nothing built yet.
    pub(crate) fn new(order: &BuildOrder, part: u32) -> Self {
        let (format, order) = (tarn_model::FORMAT, order.commit_id);
        Self { format, order, part, shards: Vec::new(), segments_written: 0, segments_carried: 0 }
    }
}

impl Target {
    /// The checkpoint. Checkpoints are never rewritten and their watermarks never regress, so everybody finds the same one.
    pub(crate) async fn find(&self, context: &Context, source: &DataSourceId) -> Result<Checkpoint, CompactError> {
        let mut generation = self.from_generation;
        loop {
            let key = ObjectKey::Checkpoint { source: source.clone(), generation };
            let Some(bytes) = context.store.get(&key).await? else {
                let what = format!(
                    "a checkpoint of {source} that includes {}, which its fold must publish first,",
                    self.watermark
                );
                return Err(CompactError::NotFound { what });
            };
            let checkpoint = Checkpoint::parse(&key.render(), &bytes, source, generation)?;
            if checkpoint.watermark.includes(&self.watermark) {
                return Ok(checkpoint);
            }
            generation += 1;
        }
    }
}
