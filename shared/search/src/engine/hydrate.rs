//! Hydration: files that a search did without, or read a few ranges of, come into the cache for the next one.
//!
//! Where that happens is a setting ([`Hydration`]). No search waits for it: one that finds a file on its way reads ranges of it
//! again. A file that does not fit the cache stays where it is.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use futures::StreamExt;

use super::{Engine, OPENS_AT_ONCE};
use crate::definition::Definition;
use crate::error::SearchError;
use crate::generation::{BaseSegment, Generation};
use crate::settings::Hydration;

/// Files that are fetched at once in the background: a search's own reads use the same link.
pub(super) const BACKGROUND_FILES: usize = 2;

/// Files that searches did without, or read ranges of. Keeps nothing alive: who pins no longer what it missed has no use for it.
#[derive(Debug)]
pub(super) struct Missed {
    definition: Arc<Definition>,
    generation: Weak<Generation>,
    /// By shard and segment.
    files: BTreeSet<(u32, u32)>,
}

/// What an engine has done so far, beside answering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStats {
    /// Searches that read ranges of files which stayed where they are.
    pub cold_searches: u64,
    /// Files that were fetched after a search had done without them or read ranges of them.
    pub hydrated_files: u64,
    /// Bytes of these.
    pub hydrated_bytes: u64,
    /// Searches that were answered as the same search was before, because nothing had changed.
    pub query_cache_hits: u64,
    /// Searches that might have been, and were not.
    pub query_cache_misses: u64,
    /// Searches that were to be compared with an exact one, and were not: too many waited, or a file was not at hand.
    pub recall_dropped: u64,
}

/// The same, counting.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) cold_searches: AtomicU64,
    hydrated_files: AtomicU64,
    hydrated_bytes: AtomicU64,
}

impl Stats {
    fn hydrated(&self, bytes: u64) {
        self.hydrated_files.fetch_add(1, Ordering::Relaxed);
        self.hydrated_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Lowers a flag, however the task ends that has raised it.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Engine {
    /// What has been done so far.
    pub fn stats(&self) -> EngineStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Stats { cold_searches, hydrated_files, hydrated_bytes } = &self.inner.stats;
        let (hits, misses) = self.inner.queries.counts();
        EngineStats {
            cold_searches: read(cold_searches),
            hydrated_files: read(hydrated_files),
            hydrated_bytes: read(hydrated_bytes),
            query_cache_hits: hits,
            query_cache_misses: misses,
            recall_dropped: self.inner.monitor.as_ref().map_or(0, |monitor| monitor.dropped()),
        }
    }

    /// Fetches and opens the files that searches did without at a deadline, or read ranges of, as of the newest generation of
    /// each index that was searched; no more of them than the cache holds. Whoever is frozen between requests calls it before
    /// it lets itself be.
    ///
    /// # Errors
    /// The first failure, after all have been tried. A failed file is fetched when a search needs it.
    pub async fn hydrate(&self) -> Result<(), SearchError> {
        let missed = std::mem::take(&mut *self.inner.missed.lock());
        let (mut outcome, mut room) = (Ok(()), self.inner.settings.cache_bytes);
        for Missed { definition, generation, files } in missed.into_values() {
            let Some(generation) = generation.upgrade() else { continue };
            let files = files.iter().filter_map(|&(shard, segment)| generation.segment(shard, segment));
            let files = files.filter(|base| !base.file.is_open() && self.fits(base, &definition));
            // More would push out what has just been fetched.
            let files = files.map_while(|base| {
                room = room.checked_sub(base.file.object.bytes)?;
                Some(base)
            });
            let files: Vec<_> = files.collect();
            let fetching = futures::stream::iter(files).map(|base| self.fetch(base, &definition));
            let fetched: Vec<_> = fetching.buffer_unordered(OPENS_AT_ONCE).collect().await;
            outcome = fetched.into_iter().fold(outcome, Result::and);
        }
        outcome
    }

    async fn fetch(&self, base: &BaseSegment, definition: &Arc<Definition>) -> Result<(), SearchError> {
        base.open(&self.inner.files, definition).await?;
        self.inner.stats.hydrated(base.file.object.bytes);
        Ok(())
    }

    /// Sees to it that files come into the cache which a search has read ranges of.
    pub(super) fn hydrate_later(
        &self,
        definition: &Arc<Definition>,
        generation: &Arc<Generation>,
        files: BTreeSet<(u32, u32)>,
    ) {
        match self.inner.settings.hydration {
            Hydration::Off => {}
            Hydration::Manual => self.note_missed(definition, generation, files),
            Hydration::Background => {
                for place in files {
                    self.hydrate_in_background(definition, generation, place);
                }
            }
        }
    }

    /// Notes files for [`Self::hydrate`].
    pub(super) fn note_missed(
        &self,
        definition: &Arc<Definition>,
        generation: &Arc<Generation>,
        files: BTreeSet<(u32, u32)>,
    ) {
        let mut all = self.inner.missed.lock();
        match all.get_mut(&definition.index.id) {
            Some(missed) if missed.generation.as_ptr() == Arc::as_ptr(generation) => missed.files.extend(files),
            _ => {
                let (definition, generation) = (Arc::clone(definition), Arc::downgrade(generation));
                all.insert(definition.index.id.clone(), Missed { definition, generation, files });
            }
        }
    }

    fn hydrate_in_background(&self, definition: &Arc<Definition>, generation: &Arc<Generation>, place: (u32, u32)) {
        let Some(base) = generation.segment(place.0, place.1) else { return };
        if base.file.is_open() || !self.fits(base, definition) || base.file.hydrating.swap(true, Ordering::Acquire) {
            return;
        }
        let (engine, definition) = (self.clone(), Arc::clone(definition));
        let (file, generation) = (Arc::clone(&base.file), Arc::downgrade(generation));
        tokio::spawn(async move {
            let _raised = Raised(&file.hydrating);
            let Ok(_turn) = engine.inner.hydrations.acquire().await else { return };
            // While it waited, a newer generation may have left the file behind.
            let Some(generation) = generation.upgrade() else { return };
            let Some(base) = generation.segment(place.0, place.1).filter(|base| !base.file.is_open()) else { return };
            if let Err(error) = engine.fetch(base, &definition).await {
                tracing::warn!(file = %base.file.name(&definition), %error, "could not fetch a file that was searched");
            }
        });
    }

    /// Whether the cache holds a file of this size; if not, the log says so once.
    fn fits(&self, base: &BaseSegment, definition: &Definition) -> bool {
        let (bytes, cache_bytes) = (base.file.object.bytes, self.inner.settings.cache_bytes);
        if bytes <= cache_bytes {
            return true;
        }
        if !base.file.said_too_large.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                file = %base.file.name(definition), bytes, cache_bytes,
                "a file does not fit the cache: every search reads ranges of it; enlarge the cache, or give the index shards"
            );
        }
        false
    }
}
