//! Publishing: the last step of a fold or a build, and the only one that changes what readers see.
//!
//! Order: data objects, then catalogs, then the root, which is created if absent at generation + 1. Whoever creates it
//! first wins. A loser has lost nothing but work: its objects are garbage, and the winner's root is at least as new. After a
//! manifest comes the hint of it (see `hint`), on which nothing depends.
//!
//! `zombies-do-not-publish`: create-if-absent forgets an id once garbage collection has deleted it, so a builder that
//! slept may create a generation that has long been. It re-reads the boundary after the put and takes a generation at or
//! below it as not published. `unpublished-objects-are-young`: objects that no root names may be collected after the
//! grace period, so a build that took longer than `longest_build` does not publish at all.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tarn_model::{Boundary, Checkpoint, IndexId, Manifest, ObjectKey};
use tarn_store::{Created, latest_index_boundary, latest_source_boundary};
use ulid::Ulid;

use crate::context::Context;
use crate::error::CompactError;

/// When a step began to write, by both clocks of the store; the longer time counts. The monotonic one is to count suspensions,
/// the other may be set: where one of them errs, taking a build for older than it is loses only its work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    monotonic: Duration,
    wall_ms: i64,
}

impl Begun {
    pub(crate) fn now(context: &Context) -> Self {
        let clock = context.store.clock();
        Self { monotonic: clock.monotonic(), wall_ms: clock.now_ms() }
    }

    /// For a process that goes on with what another began. Of the other's time the wall clock alone tells; how far the
    /// clocks of two machines differ is little beside `MIN_COLLECTION_GRACE`, which the grace period has to spare.
    pub(crate) fn by(context: &Context, wall_ms: i64) -> Self {
        Self { wall_ms, ..Self::now(context) }
    }

    /// As the wall clock showed it, for [`Self::by`].
    pub(crate) fn wall_ms(self) -> i64 {
        self.wall_ms
    }

    /// How long ago that is.
    pub(crate) fn age(self, context: &Context) -> Duration {
        let clock = context.store.clock();
        let by_wall = u64::try_from(clock.now_ms().saturating_sub(self.wall_ms)).unwrap_or(0);
        clock.monotonic().saturating_sub(self.monotonic).max(Duration::from_millis(by_wall))
    }

    /// `unpublished-objects-are-young`.
    pub(crate) fn check(self, context: &Context) -> Result<(), CompactError> {
        let took = self.age(context);
        let limit = context.settings.longest_build;
        if took > limit {
            return Err(CompactError::TooSlow { took_s: took.as_secs(), limit_s: limit.as_secs() });
        }
        Ok(())
    }
}

/// Whether this builder's root is the one that readers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Publication {
    Ours,
    LostRace,
}

/// Publishes a checkpoint whose data objects are stored. `predecessor` is what it was computed from.
pub(crate) async fn publish_checkpoint(
    context: &Context,
    begun: Begun,
    checkpoint: &Checkpoint,
    predecessor: Option<&Checkpoint>,
) -> Result<Publication, CompactError> {
    checkpoint.check_successor(predecessor)?;
    begun.check(context)?;
    let id = |root: &Checkpoint| root.commit_id;
    if create(context, &checkpoint.key(), checkpoint, checkpoint.commit_id, id).await? == Publication::LostRace {
        return Ok(Publication::LostRace);
    }
    let boundary = latest_source_boundary(&context.store, &checkpoint.source, None).await?;
    Ok(unless_collected(boundary.as_ref(), checkpoint.generation))
}

/// Publishes a manifest whose segments and catalogs are stored. `predecessor` is what it was computed from.
pub(crate) async fn publish_manifest(
    context: &Context,
    begun: Begun,
    manifest: &Manifest,
    predecessor: Option<&Manifest>,
) -> Result<Publication, CompactError> {
    manifest.check_successor(predecessor)?;
    begun.check(context)?;
    let id = |root: &Manifest| root.commit_id;
    if create(context, &manifest.key(), manifest, manifest.commit_id, id).await? == Publication::LostRace {
        return Ok(Publication::LostRace);
    }
    stands(context, &manifest.index, manifest.generation).await
}

/// Whether a manifest of ours that is there counts: `zombies-do-not-publish`.
pub(crate) async fn stands(context: &Context, index: &IndexId, generation: u64) -> Result<Publication, CompactError> {
    let boundary = latest_index_boundary(&context.store, index, None).await?;
    Ok(unless_collected(boundary.as_ref(), generation))
}

async fn create<T: Serialize + DeserializeOwned>(
    context: &Context,
    key: &ObjectKey,
    root: &T,
    commit: Ulid,
    commit_of: impl Fn(&T) -> Ulid,
) -> Result<Publication, CompactError> {
    let bytes = to_json(root)?;
    let is_ours = |found: &Bytes| serde_json::from_slice::<T>(found).is_ok_and(|found| commit_of(&found) == commit);
    Ok(match context.store.create(key, bytes, is_ours).await? {
        Created::Ours => Publication::Ours,
        Created::Taken(_) => Publication::LostRace,
    })
}

pub(crate) fn to_json(root: &impl Serialize) -> Result<Bytes, CompactError> {
    let mut bytes = serde_json::to_vec_pretty(root).map_err(|e| CompactError::engine("writing JSON", e))?;
    bytes.push(b'\n');
    Ok(bytes.into())
}

/// `zombies-do-not-publish`.
fn unless_collected(boundary: Option<&Boundary>, generation: u64) -> Publication {
    if boundary.is_some_and(|boundary| generation <= boundary.generation) {
        Publication::LostRace
    } else {
        Publication::Ours
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use async_trait::async_trait;
    use tarn_store::{Clock, Store};

    use super::*;
    use crate::progress::Silent;
    use crate::settings::BuilderSettings;

    /// A machine that is suspended: the monotonic clock stands still.
    #[derive(Debug, Default)]
    struct Suspended(AtomicI64);

    #[async_trait]
    impl Clock for Suspended {
        fn now_ms(&self) -> i64 {
            self.0.load(Ordering::SeqCst)
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }

        async fn sleep(&self, _: Duration) {}
    }

    #[test]
    fn unpublished_objects_are_young_by_either_clock() {
        let clock = Arc::new(Suspended::default());
        let store = Store::memory().with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let settings = BuilderSettings { longest_build: Duration::from_secs(60), ..BuilderSettings::default() };
        let context = Context::new(store, settings, Arc::new(Silent)).expect("a context");
        let begun = Begun::now(&context);
        clock.0.store(60_000, Ordering::SeqCst);
        assert!(begun.check(&context).is_ok());
        clock.0.store(61_000, Ordering::SeqCst);
        assert!(matches!(begun.check(&context), Err(CompactError::TooSlow { took_s: 61, limit_s: 60 })));
        // A clock that was set back says nothing.
        clock.0.store(-1_000_000, Ordering::SeqCst);
        assert!(begun.check(&context).is_ok());
    }
}
