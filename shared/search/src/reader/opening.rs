//! The first look at an index: its definition, and as much of the newest generation as one round trip tells.
//!
//! Three questions at the same time: the definition, a listing of the newest manifest, and the hint, a copy of that manifest and
//! of what it names. The hint is believed only when the listing shows the same key and ETag; then nothing else need be read
//! before the timeline's tail. Whatever is off with it (absent, of another manifest, damaged, of another data source), the reader
//! goes the long way: data source, manifest, catalogs. And when a file then turns out not to be what it must be, the reader goes the
//! long way too, before it calls the file corrupt. So a hint can be lost, stale or damaged, and the answer is the same.
//!
//! What deletion has to do with it. The marker of a deleted index is asked for with the definition, so a hint that outlives its
//! index is not looked at. An index that was made anew under the same name publishes manifests with other ETags, so a hint that a
//! builder of the old one writes late is of no manifest that a listing shows. The marker of the data source is not asked for: it
//! cannot be deleted while it has indices. It is the next time that the definition is compared with the store's, as in every
//! reader that knows the definition.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join3;
use tarn_model::{Hint, Index, KeyPrefix, ObjectKey};
use tarn_store::{Listed, StoreError, load_index};

use super::Reader;
use crate::definition::Definition;
use crate::error::SearchError;
use crate::generation::{Generation, Wanted};
use crate::moment::Moment;

/// What the first look found besides the definition, for the look at the store that follows it.
pub(super) struct Opening {
    definition: Arc<Definition>,
    looked: Moment,
    newest: Newest,
}

/// The newest generation, as far as it is known.
pub(super) enum Newest {
    /// All of it.
    Generation(Arc<Generation>),
    /// The number of its manifest; 0: there is none.
    Listed(u64),
}

impl Reader {
    /// The definition of an index that this reader knows nothing of.
    ///
    /// # Errors
    /// [`SearchError::IndexNotFound`], [`SearchError::SourceNotFound`].
    pub(super) async fn first_look(&self) -> Result<Arc<Definition>, SearchError> {
        let (store, looked) = (&self.files.store, self.now());
        if store.local_root().is_some() {
            // There is no trip to be spared.
            let (index, source) = self.load_definition(None).await?;
            return Ok(Arc::new(Definition::new(index, source)));
        }
        let (manifests, hint) = (KeyPrefix::Manifests(self.id.clone()), ObjectKey::Hint(self.id.clone()));
        let asked = join3(load_index(store, &self.id), store.first(&manifests), store.get(&hint));
        let (index, listed, bytes) = asked.await;
        let index = index?.ok_or_else(|| SearchError::IndexNotFound(self.id.clone()))?;
        // A listing that failed is made again by whoever cannot do without it.
        let listed = listed.ok();
        let unreadable = |error: &StoreError| tracing::warn!(index = %self.id, %error, "a hint cannot be read");
        let bytes = bytes.inspect_err(unreadable).ok().flatten();
        if let (Some(Some(listed)), Some(bytes)) = (&listed, bytes)
            && self.believes()
            && let Some(hint) = self.believed(&hint.render(), &bytes, listed, &index)
            && let Some((definition, generation)) = self.generation_of(hint, &index).await
        {
            self.announce(&definition, &generation);
            self.believed.store(true, Ordering::Relaxed);
            let newest = Newest::Generation(generation);
            *self.opening.lock() = Some(Opening { definition: Arc::clone(&definition), looked, newest });
            return Ok(definition);
        }
        let source = self.load_source(&index).await?;
        let definition = Arc::new(Definition::new(index, source));
        let number = match &listed {
            Some(None) => Some(0),
            Some(Some(Listed { key: Some(ObjectKey::Manifest { generation, .. }), .. })) => Some(*generation),
            _ => None,
        };
        if let Some(number) = number {
            let newest = Newest::Listed(number);
            *self.opening.lock() = Some(Opening { definition: Arc::clone(&definition), looked, newest });
        }
        Ok(definition)
    }

    /// What the first look found, if it still counts; and when that was. Only once.
    pub(super) fn take_opening(&self, definition: &Arc<Definition>, now: Moment) -> Option<(Newest, Moment)> {
        let Opening { definition: of, looked, newest } = self.opening.lock().take()?;
        let counts = Arc::ptr_eq(&of, definition) && now.since(looked) <= self.settings.trust_absence;
        counts.then_some((newest, looked))
    }

    /// The hint, if it is a copy of what was listed.
    fn believed(&self, object: &str, bytes: &[u8], listed: &Listed, index: &Index) -> Option<Hint> {
        let hint = Hint::parse(object, bytes, &self.id);
        let hint =
            hint.inspect_err(|error| tracing::warn!(%error, "a hint is no use; the next build mends it")).ok()?;
        let same = listed.key.as_ref().is_some_and(|key| hint.is_of(key, listed.e_tag.as_deref()));
        (same && hint.data_source.id == index.data_source).then_some(hint)
    }

    async fn generation_of(&self, hint: Hint, index: &Arc<Index>) -> Option<(Arc<Definition>, Arc<Generation>)> {
        let Hint { manifest, data_source, catalogs, .. } = hint;
        let definition = Arc::new(Definition::new(Arc::clone(index), Arc::new(data_source)));
        let lender = Generation::unbuilt(&definition);
        match Generation::load(&self.files, &definition, manifest, Wanted::All, &lender, &catalogs).await {
            Ok(generation) => Some((definition, Arc::new(generation))),
            Err(error) => {
                tracing::warn!(index = %self.id, %error, "a hint is no use; the next build mends it");
                None
            }
        }
    }
}
