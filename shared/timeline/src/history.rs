//! Earlier states of a data source, by the generation of the checkpoint that shows them.
//!
//! A checkpoint is never rewritten; how far back they go is garbage collection's business, which announces in a boundary what
//! goes before it goes. A generation at or below the boundary counts as gone, even if its checkpoint is still there.

use tarn_model::{Checkpoint, DataSourceId, KeyPrefix, ObjectKey, ReadToken};
use tarn_store::{Store, StoreError, latest_source_boundary};

/// The generation of a checkpoint that is gone, or not there yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", said(source_id, *wanted, *kept))]
pub struct NoGeneration {
    /// The data source.
    pub source_id: DataSourceId,
    /// The generation asked for.
    pub wanted: u64,
    /// The oldest and the newest that there are, if any.
    pub kept: Option<(u64, u64)>,
}

impl NoGeneration {
    /// Whether it was there once.
    pub fn is_gone(&self) -> bool {
        self.kept.is_some_and(|(_, newest)| self.wanted <= newest)
    }
}

fn said(id: &DataSourceId, wanted: u64, kept: Option<(u64, u64)>) -> String {
    match kept {
        None => format!("Data source {id} has no checkpoint yet, and no generation {wanted}; leave asOf out"),
        Some((_, newest)) if wanted > newest => format!(
            "Data source {id} has no generation {wanted} yet, the newest is {newest}; leave asOf out for the newest state"
        ),
        Some((oldest, newest)) => format!(
            "generation {wanted} of data source {id} is gone, there are {oldest} to {newest}; name one of these, and have gc retain \
             more generations if older ones are needed"
        ),
    }
}

/// The version that the checkpoint of a generation shows: for [`crate::LiveOptions::at`].
///
/// # Errors
/// [`StoreError`]; that there is no such generation is the inner result's.
pub async fn version_of_generation(
    store: &Store,
    source_id: &DataSourceId,
    generation: u64,
) -> Result<Result<ReadToken, NoGeneration>, StoreError> {
    let key = ObjectKey::Checkpoint { source: source_id.clone(), generation };
    let found = match store.get(&key).await? {
        Some(bytes) => Some(Checkpoint::parse(&key.render(), &bytes, source_id, generation)?),
        None => None,
    };
    let gone = latest_source_boundary(store, source_id, None).await?.map_or(0, |boundary| boundary.generation);
    if let Some(checkpoint) = found.filter(|checkpoint| checkpoint.generation > gone) {
        return Ok(Ok(checkpoint.watermark));
    }
    let listed = store.list(&KeyPrefix::Checkpoints(source_id.clone())).await?;
    let numbers = listed.into_iter().filter_map(|listed| match listed.key {
        Some(ObjectKey::Checkpoint { generation, .. }) if generation > gone => Some(generation),
        _ => None,
    });
    let (mut oldest, mut newest) = (None, 0);
    for number in numbers {
        oldest = Some(oldest.map_or(number, |oldest: u64| oldest.min(number)));
        newest = newest.max(number);
    }
    let kept = oldest.map(|oldest| (oldest, newest));
    Ok(Err(NoGeneration { source_id: source_id.clone(), wanted: generation, kept }))
}
