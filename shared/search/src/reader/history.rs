//! Earlier generations: an index as it was at one of its builds, and nothing that came after.
//!
//! A manifest is never rewritten, so whoever still finds the one of an earlier generation reads exactly what it showed. How far
//! back that goes is garbage collection's business: it keeps the newest few, and announces in a boundary what goes before it
//! goes. A generation at or below the boundary counts as gone, even if its manifest is still there: what it names may not be,
//! and a builder that slept may have written that manifest only now.
//!
//! Owns `a-generation-shows-itself-or-is-gone`: an answer as of a generation is that generation's, or an error that says which
//! ones there are. Manifest and boundary are asked for each time, so that no answer is of an index that was deleted and created anew, or
//! of a generation that other processes call gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join;
use tarn_model::{KeyPrefix, Manifest, ObjectKey, ReadToken};
use tarn_store::latest_index_boundary;

use super::Reader;
use crate::definition::Definition;
use crate::error::SearchError;
use crate::generation::{Generation, Wanted};
use crate::request::Consistency;
use crate::snapshot::Snapshot;

/// Earlier generations that are kept at hand.
const KEPT: usize = 2;

/// Which state of an index a request is about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct State<'a> {
    /// That of an earlier generation; `None`: the newest there is.
    pub(crate) generation: Option<u64>,
    /// How fresh, when it is the newest.
    pub(crate) consistency: Consistency,
    /// What it must include.
    pub(crate) min_version: Option<&'a ReadToken>,
}

impl Reader {
    /// A snapshot of this state.
    ///
    /// # Errors
    /// [`SearchError::NoGeneration`]; those of [`Self::snapshot`].
    pub(crate) async fn state(self: &Arc<Self>, state: State<'_>) -> Result<Arc<Snapshot>, SearchError> {
        let Some(generation) = state.generation else {
            return self.snapshot(state.consistency, state.min_version).await;
        };
        let snapshot = self.earlier(generation).await?;
        match state.min_version {
            Some(want) if !snapshot.version().includes(want) => {
                Err(SearchError::NotYet { have: snapshot.version(), want: want.clone() })
            }
            _ => Ok(snapshot),
        }
    }

    async fn earlier(&self, number: u64) -> Result<Arc<Snapshot>, SearchError> {
        let definition = self.definition().await?;
        let key = ObjectKey::Manifest { index: self.id.clone(), generation: number };
        let manifest = async { Ok::<_, SearchError>(self.files.store.get(&key).await?) };
        let boundary = async { Ok(latest_index_boundary(&self.files.store, &self.id, None).await?) };
        // Also when it is at hand: all processes answer alike.
        let (bytes, boundary) = try_join(manifest, boundary).await?;
        let is_gone = boundary.is_some_and(|boundary| boundary.generation >= number);
        let Some(bytes) = bytes.filter(|_| !is_gone) else { return Err(self.no_generation(number).await?) };
        let manifest = Manifest::parse(&key.render(), &bytes, &self.id, number)?;
        let is_meant = |snapshot: &Snapshot| {
            snapshot.generation.commit_id() == Some(manifest.commit_id)
                && Arc::ptr_eq(&snapshot.definition, &definition)
        };
        let mut earlier = self.earlier.lock().await;
        let known = earlier.iter().position(|snapshot| is_meant(snapshot)).map(|place| earlier.remove(place));
        let snapshot = match known {
            Some(known) => known,
            None => {
                let pinned = self.pinned.read().as_ref().map(|pinned| Arc::clone(&pinned.snapshot));
                let same = pinned.as_ref().filter(|pinned| is_meant(pinned)).map(|same| Arc::clone(&same.generation));
                let generation = match same {
                    Some(same) => same,
                    None => Arc::new(self.load_earlier(&definition, manifest, pinned.as_deref()).await?),
                };
                Arc::new(Snapshot::without_tail(definition, generation))
            }
        };
        earlier.push(Arc::clone(&snapshot));
        if earlier.len() > KEPT {
            earlier.remove(0);
        }
        Ok(snapshot)
    }

    /// Shares with the newest generation the catalogs and files that both name.
    async fn load_earlier(
        &self,
        definition: &Arc<Definition>,
        manifest: Manifest,
        pinned: Option<&Snapshot>,
    ) -> Result<Generation, SearchError> {
        let unbuilt = Generation::unbuilt(definition);
        let lender = pinned.filter(|pinned| Arc::ptr_eq(&pinned.definition, definition));
        let lender = lender.map_or(&unbuilt, |pinned| &*pinned.generation);
        Generation::load(&self.files, definition, manifest, Wanted::All, lender, &BTreeMap::new()).await
    }

    /// The error that says which generations there are.
    async fn no_generation(&self, wanted: u64) -> Result<SearchError, SearchError> {
        let listed = self.files.store.list(&KeyPrefix::Manifests(self.id.clone())).await?;
        let boundary = latest_index_boundary(&self.files.store, &self.id, None).await?;
        let gone = boundary.map_or(0, |boundary| boundary.generation);
        let numbers = listed.into_iter().filter_map(|listed| match listed.key {
            Some(ObjectKey::Manifest { generation, .. }) if generation > gone => Some(generation),
            _ => None,
        });
        let (mut oldest, mut newest) = (None, 0);
        for number in numbers {
            oldest = Some(oldest.map_or(number, |oldest: u64| oldest.min(number)));
            newest = newest.max(number);
        }
        Ok(SearchError::NoGeneration { index: self.id.clone(), wanted, kept: oldest.map(|oldest| (oldest, newest)) })
    }
}
