//! An index build: from the newest manifest and what changed since to the next manifest.
//!
//! Three moves, whether one process makes them or several (see `tasks`). *Order*: pin what to build on (a manifest), up to
//! where (a checkpoint), and which shards make up which part. *Parts*: build their shards, each part by itself and from
//! nothing but the order and what the store holds (`part`). *Publish*: put the parts together in the manifest of generation
//! + 1. In one process there is one part, so that the deltas are folded once.
//!
//! Owns `index-equals-checkpoint`: a manifest at a watermark holds the live set of the checkpoint at that watermark, as far
//! as its shards take it; and `parts-make-the-whole`.

mod buckets;
mod gather;
mod order;
mod part;
mod placement;
mod plan;
mod shard;
mod statistics;

use std::sync::Arc;

use tarn_model::{Checkpoint, Corrupt, DataSource, FORMAT, Index, IndexId, Manifest, ObjectKey, ShardEntry};
use tarn_store::{StoreError, latest_checkpoint, latest_manifest, load_index, load_source};

use crate::context::Context;
use crate::error::CompactError;
use crate::hint;
use crate::outcome::{BuildOutcome, Status};
use crate::publish::{Begun, Publication, publish_manifest};

pub(crate) use order::{BuildOrder, PartResult, Target};
pub(crate) use placement::Placement;
pub(crate) use shard::{catalog_key, load_catalog, segment_key};

/// Brings an index to the newest checkpoint of its data source.
pub(crate) async fn build(context: &Arc<Context>, id: &IndexId) -> Result<BuildOutcome, CompactError> {
    let (index, source) = definitions(context, id).await?;
    let begun = Begun::now(context);
    let previous = latest_manifest(&context.store, id, None).await?;
    let Some(checkpoint) = latest_checkpoint(&context.store, &source.id, None).await? else {
        return Ok(outcome(Status::UpToDate, previous.as_ref(), 0, 0));
    };
    let target = Target { from_generation: checkpoint.generation, watermark: checkpoint.watermark.clone() };
    let Some(order) = order(context, begun, &index, previous.as_ref(), target, 1) else {
        if let Some(newest) = &previous {
            hint::mend(context, &source, newest).await;
        }
        return Ok(outcome(Status::UpToDate, previous.as_ref(), 0, 0));
    };
    let context = Arc::clone(context);
    let step = Step { context, subject: id.to_string(), begun, order, source, index, previous, checkpoint };
    let part = step.build_part(0).await?;
    step.publish(vec![part]).await
}

/// The definitions of an index and its data source.
pub(crate) async fn definitions(
    context: &Context,
    id: &IndexId,
) -> Result<(Arc<Index>, Arc<DataSource>), CompactError> {
    let not_found = |what: String| CompactError::NotFound { what };
    let index = load_index(&context.store, id).await?.ok_or_else(|| not_found(id.to_string()))?;
    let source = load_source(&context.store, &index.data_source).await?;
    let source = source.ok_or_else(|| not_found(index.data_source.to_string()))?;
    Ok((index, source))
}

/// What is to be built, in at most so many parts; `None` when the manifest is there already.
pub(crate) fn order(
    context: &Context,
    begun: Begun,
    index: &Index,
    previous: Option<&Manifest>,
    target: Target,
    parts_max: usize,
) -> Option<BuildOrder> {
    if previous.is_some_and(|manifest| manifest.watermark.includes(&target.watermark)) {
        return None;
    }
    let shards: Vec<String> = index.shards.keys().cloned().collect();
    let in_a_part = shards.len().div_ceil(parts_max.max(1)).max(1);
    let id = context.new_id();
    Some(BuildOrder {
        format: FORMAT,
        id,
        commit_id: id,
        index: index.id.clone(),
        begun_ms: begun.wall_ms(),
        base: previous.map_or(0, |manifest| manifest.generation),
        checkpoint: target,
        parts: shards.chunks(in_a_part).map(<[String]>::to_vec).collect(),
    })
}

pub(crate) fn outcome(status: Status, newest: Option<&Manifest>, written: u64, carried: u64) -> BuildOutcome {
    BuildOutcome {
        status,
        generation: newest.map_or(0, |manifest| manifest.generation),
        watermark: newest.map(|manifest| manifest.watermark.clone()).unwrap_or_default(),
        rows: newest.map_or(0, |manifest| manifest.rows),
        segments_written: written,
        segments_carried: carried,
        lost_race: status == Status::LostRace,
    }
}

/// An order with all that it names.
pub(crate) struct Step {
    context: Arc<Context>,
    subject: String,
    begun: Begun,
    order: BuildOrder,
    source: Arc<DataSource>,
    index: Arc<Index>,
    previous: Option<Manifest>,
    checkpoint: Checkpoint,
}

impl Step {
    /// Goes on with an order that another process may have written.
    pub(crate) async fn resume(context: &Arc<Context>, order: BuildOrder) -> Result<Self, CompactError> {
        let begun = Begun::by(context, order.begun_ms);
        begun.check(context)?;
        let (index, source) = definitions(context, &order.index).await?;
        let previous = match order.base {
            0 => None,
            generation => {
                let key = ObjectKey::Manifest { index: order.index.clone(), generation };
                let name = key.render();
                let bytes = context.store.get(&key).await?;
                let bytes = bytes.ok_or_else(|| StoreError::Missing { object: name.clone() })?;
                Some(Manifest::parse(&name, &bytes, &order.index, generation)?)
            }
        };
        let checkpoint = order.checkpoint.find(context, &source.id).await?;
        let (context, subject) = (Arc::clone(context), order.index.to_string());
        Ok(Self { context, subject, begun, order, source, index, previous, checkpoint })
    }

    /// Builds the shards of a part. They hold the same rows however often this is called, and by whom.
    pub(crate) async fn build_part(&self, number: u32) -> Result<PartResult, CompactError> {
        let shards = self.order.shards_of(number)?;
        part::build_part(self, number, shards.iter().cloned()).await
    }

    /// Publishes all parts as one manifest. A second call finds the manifest of the first to be its own.
    pub(crate) async fn publish(&self, parts: Vec<PartResult>) -> Result<BuildOutcome, CompactError> {
        let written = total(parts.iter().map(|part| part.segments_written));
        let carried = total(parts.iter().map(|part| part.segments_carried));
        let mut shards: Vec<ShardEntry> = parts.into_iter().flat_map(|part| part.shards).collect();
        shards.sort_by(|a, b| a.shard.cmp(&b.shard));
        check_whole(&self.order, &self.index, &shards)?;
        let previous = self.previous.as_ref();
        let manifest = Manifest {
            format: FORMAT,
            index: self.index.id.clone(),
            generation: self.order.generation(),
            commit_id: self.order.commit_id,
            watermark: self.checkpoint.watermark.clone(),
            created_ms: self.context.store.clock().now_ms(),
            rows: total(shards.iter().map(|entry| entry.rows)),
            shards,
        };
        check_rows(&self.index, &self.checkpoint, &manifest)?;
        match publish_manifest(&self.context, self.begun, &manifest, previous).await? {
            Publication::Ours => {
                hint::write(&self.context, &self.source, &manifest).await;
                Ok(outcome(Status::Published, Some(&manifest), written, carried))
            }
            Publication::LostRace => {
                let newest = latest_manifest(&self.context.store, &self.index.id, None).await?;
                Ok(outcome(Status::LostRace, newest.as_ref(), written, carried))
            }
        }
    }
}

/// Of numbers that another process has written down.
fn total(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

/// `parts-make-the-whole`: together the parts have every shard of the definition, each once.
fn check_whole(order: &BuildOrder, index: &Index, shards: &[ShardEntry]) -> Result<(), Corrupt> {
    if shards.iter().map(|entry| &entry.shard).eq(index.shards.keys()) {
        return Ok(());
    }
    let of_definition: Vec<&str> = index.shards.keys().map(String::as_str).collect();
    let of_parts: Vec<&str> = shards.iter().map(|entry| entry.shard.as_str()).collect();
    Err(Corrupt {
        object: order.key().render(),
        part: "parts-make-the-whole".to_owned(),
        expected: format!("the shards {}", of_definition.join(", ")),
        found: of_parts.join(", "),
    })
}

/// `index-equals-checkpoint`, as far as counts tell: never more rows than the checkpoint, and all of them when there is
/// one shard that takes everything.
pub(crate) fn check_rows(index: &Index, checkpoint: &Checkpoint, manifest: &Manifest) -> Result<(), Corrupt> {
    let all = index.shards.len() == 1 && index.shards.values().all(|shard| shard.conditions.is_empty());
    if manifest.rows > checkpoint.rows || (all && manifest.rows != checkpoint.rows) {
        let manifest_key = ObjectKey::Manifest { index: index.id.clone(), generation: manifest.generation };
        return Err(Corrupt {
            object: manifest_key.render(),
            part: "index-equals-checkpoint".to_owned(),
            expected: format!("{} rows, as in the checkpoint at {}", checkpoint.rows, checkpoint.watermark),
            found: format!("{} rows", manifest.rows),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tarn_model::{DataSourceId, IndexAlgorithm, Metric, ReadToken, Shard};
    use ulid::Ulid;

    use super::*;

    #[test]
    fn parts_make_the_whole() {
        let shards = ["a", "b", "c"].map(|id| (id.to_owned(), Shard { conditions: BTreeMap::new() }));
        let index = Index {
            id: IndexId::new("films", "1").expect("valid"),
            data_source: DataSourceId::new("films", "1").expect("valid"),
            algorithm: IndexAlgorithm { metric: Metric::L2, hnsw: None },
            id_attributes: ["id".to_owned()].into(),
            split_attributes: [].into(),
            shards: shards.into(),
        };
        let order = BuildOrder {
            format: FORMAT,
            id: Ulid::nil(),
            commit_id: Ulid::nil(),
            index: index.id.clone(),
            begun_ms: 0,
            base: 0,
            checkpoint: Target { from_generation: 1, watermark: ReadToken::single(1) },
            parts: Vec::new(),
        };
        let check = |ids: &[&str]| {
            let entry = |id: &&str| ShardEntry {
                shard: (*id).to_owned(),
                rows: 0,
                splits: 0,
                segments: 0,
                segment_bytes: 0,
                catalog: None,
            };
            check_whole(&order, &index, &ids.iter().map(entry).collect::<Vec<_>>())
        };
        assert!(check(&["a", "b", "c"]).is_ok());
        for wrong in [&[][..], &["a", "b"], &["a", "b", "b", "c"], &["a", "b", "c", "d"], &["a", "b", "d"]] {
            let error = check(wrong).expect_err("refused");
            assert_eq!(error.part, "parts-make-the-whole", "{wrong:?}");
        }
    }
}
