//! The local cache of immutable data objects: segment files, catalogs, checkpoint data.
//!
//! Owns `cached-bytes-are-verified`: a file is given out only after its length and CRC-32C have been found to be what
//! the manifest says, once per process; a file that fails (a crash of the machine, a bad disk) is fetched again.
//!
//! Files are named by content, so nothing is ever stale. They survive a restart. The cache keeps within its bytes by
//! removing what was used longest ago, but never a file that somebody holds (see [`LocalFile`]): when all are held it
//! exceeds its bound rather than fail. However many ask for an object at once, it is downloaded once; a download goes on
//! when those who asked have given up.
//!
//! A process has a slot of the directory to itself, so that two of them never remove each other's files. A store in a
//! local directory needs no cache: its objects are files already, and are given out as they are, unverified; whoever
//! opens one verifies its blocks.

mod download;
mod slot;

use std::collections::HashMap;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tarn_model::{Corrupt, ObjectKey, ObjectRef};

use crate::error::StoreError;
use crate::meter::Meter;
use crate::store::Store;
use slot::Slot;

/// How often the last use of a file is written down for the next process.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// What a cache holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Files now.
    pub files: u64,
    /// Bytes now.
    pub bytes: u64,
    /// Answers from local files, without waiting.
    pub hits: u64,
    /// Downloads that were started.
    pub downloads: u64,
    /// Files removed for space.
    pub evictions: u64,
}

/// Files of immutable objects in a local directory. Clones share everything. See the module.
#[derive(Clone, Debug)]
pub struct SegmentCache {
    inner: Arc<Inner>,
}

/// A local file with an object's bytes. It stays while any clone of this lives.
#[derive(Clone, Debug)]
pub struct LocalFile {
    path: Arc<PathBuf>,
}

impl LocalFile {
    /// Where the file is.
    pub fn path(&self) -> &FilePath {
        &self.path
    }
}

#[derive(Debug)]
struct Inner {
    store: Store,
    slot: Slot,
    max_bytes: u64,
    state: Mutex<State>,
}

type Flight = Shared<BoxFuture<'static, Result<LocalFile, StoreError>>>;

#[derive(Debug, Default)]
struct State {
    entries: HashMap<ObjectRef, Entry>,
    flights: HashMap<ObjectRef, Flight>,
    /// Of downloads under way.
    reserved_bytes: u64,
    /// Counts uses; orders entries by the last one.
    tick: u64,
    stats: CacheStats,
}

#[derive(Debug)]
struct Entry {
    /// Held by somebody when this is not the only handle.
    file: LocalFile,
    verified: bool,
    used: u64,
    touched: Duration,
}

impl State {
    fn use_entry(&mut self, object: &ObjectRef) -> Option<&mut Entry> {
        self.tick += 1;
        let entry = self.entries.get_mut(object)?;
        entry.used = self.tick;
        Some(entry)
    }

    fn insert(&mut self, object: ObjectRef, file: LocalFile, verified: bool, now: Duration) {
        self.tick += 1;
        let entry = Entry { file, verified, used: self.tick, touched: now };
        self.stats.bytes += object.bytes;
        if self.entries.insert(object.clone(), entry).is_some() {
            self.stats.bytes -= object.bytes;
        }
        self.stats.files = self.entries.len() as u64;
    }

    fn remove(&mut self, object: &ObjectRef) -> Option<LocalFile> {
        let entry = self.entries.remove(object)?;
        self.stats.bytes -= object.bytes;
        self.stats.files = self.entries.len() as u64;
        Some(entry.file)
    }

    /// Takes out the files to remove so that what is there and what is to come fits, as far as they are not held.
    fn make_room(&mut self, max_bytes: u64) -> Vec<LocalFile> {
        let mut excess = (self.stats.bytes + self.reserved_bytes).saturating_sub(max_bytes);
        if excess == 0 {
            return Vec::new();
        }
        let free = |entry: &Entry| Arc::strong_count(&entry.file.path) == 1;
        let mut candidates: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| free(entry))
            .map(|(object, entry)| (entry.used, object.clone()))
            .collect();
        candidates.sort_unstable_by_key(|(used, _)| *used);
        let mut removed = Vec::new();
        for (_, object) in candidates {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(object.bytes);
            self.stats.evictions += 1;
            removed.extend(self.remove(&object));
        }
        removed
    }
}

impl SegmentCache {
    /// Opens a cache in a directory, which is created when missing, and takes up what an earlier process left there.
    ///
    /// # Errors
    /// [`StoreError::Config`] when the directory cannot be used.
    pub fn new(directory: &FilePath, max_bytes: u64, store: Store) -> Result<Self, StoreError> {
        let (slot, found) = Slot::acquire(directory)?;
        let mut state = State::default();
        for (object, path) in found {
            state.insert(object, LocalFile { path: Arc::new(path) }, false, Duration::ZERO);
        }
        let excess = state.make_room(max_bytes);
        let inner = Arc::new(Inner { store, slot, max_bytes, state: Mutex::new(state) });
        slot::remove_files(excess);
        Ok(Self { inner })
    }

    /// The object's bytes as a local file, downloaded if need be.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Corrupt`], [`StoreError::Unavailable`] (also when the local disk is full).
    pub async fn fetch(&self, key: &ObjectKey, object: &ObjectRef) -> Result<LocalFile, StoreError> {
        if let Some(path) = self.inner.store.local_file(key) {
            return in_place(key, object, path).await;
        }
        let flight = match self.hit_or_join(key, object) {
            Ok(file) => return Ok(file),
            Err(flight) => flight,
        };
        flight.await
    }

    /// Whether a fetch would download nothing, unless the file that is there turns out to be bad.
    pub fn holds(&self, object: &ObjectRef) -> bool {
        self.inner.state.lock().entries.contains_key(object)
    }

    /// Forgets an object whose file turned out to be bad after it was verified, so that the next fetch downloads it.
    pub fn discard(&self, object: &ObjectRef) {
        let removed = self.inner.state.lock().remove(object);
        slot::remove_files(removed);
    }

    /// What the cache holds and has done.
    pub fn stats(&self) -> CacheStats {
        self.inner.state.lock().stats
    }

    fn hit_or_join(&self, key: &ObjectKey, object: &ObjectRef) -> Result<LocalFile, Flight> {
        let now = self.inner.store.clock().monotonic();
        let mut state = self.inner.state.lock();
        if let Some(entry) = state.use_entry(object).filter(|entry| entry.verified) {
            let file = entry.file.clone();
            let touch = now.saturating_sub(entry.touched) >= TOUCH_EVERY;
            if touch {
                entry.touched = now;
            }
            state.stats.hits += 1;
            drop(state);
            if touch {
                slot::touch(file.path(), self.inner.store.clock().now_ms());
            }
            return Ok(file);
        }
        if let Some(flight) = state.flights.get(object) {
            return Err(flight.clone());
        }
        let landing = Landing { inner: Arc::clone(&self.inner), object: object.clone() };
        let key = key.clone();
        let obtaining = async move { landing.inner.obtain(&key, &landing.object).await };
        // Whoever asked first pays; the others wait with it.
        let task = tokio::spawn(Meter::follow(obtaining));
        let name = object.id.to_string();
        let flight = task
            .map(move |joined| {
                joined.unwrap_or_else(|error| {
                    Err(StoreError::Unavailable { operation: "fetch", object: name, cause: Arc::new(error) })
                })
            })
            .boxed()
            .shared();
        state.flights.insert(object.clone(), flight.clone());
        Err(flight)
    }
}

/// Ends a flight, however its task ends.
struct Landing {
    inner: Arc<Inner>,
    object: ObjectRef,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.inner.state.lock().flights.remove(&self.object);
    }
}

/// Gives back what a download reserved, however it ends.
struct Reserved<'a> {
    inner: &'a Inner,
    bytes: u64,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.inner.state.lock().reserved_bytes -= self.bytes;
    }
}

impl Inner {
    /// Verifies what an earlier process left, or downloads.
    async fn obtain(&self, key: &ObjectKey, object: &ObjectRef) -> Result<LocalFile, StoreError> {
        let left_over = self.state.lock().entries.get(object).map(|entry| entry.file.clone());
        if let Some(file) = left_over {
            match download::verify(file.path(), object).await {
                Ok(()) => {
                    if let Some(entry) = self.state.lock().use_entry(object) {
                        entry.verified = true;
                    }
                    return Ok(file);
                }
                Err(error) => {
                    tracing::warn!(%error, "a cached file is bad; fetching it again");
                    let removed = self.state.lock().remove(object);
                    slot::remove_files(removed);
                }
            }
        }
        let _reserved = self.reserve(object.bytes);
        let part = self.slot.part(object);
        download::download(&self.store, key, object, part.path()).await?;
        let path = part.complete(object)?;
        let file = LocalFile { path: Arc::new(path) };
        let now = self.store.clock().monotonic();
        self.state.lock().insert(object.clone(), file.clone(), true, now);
        Ok(file)
    }

    fn reserve(&self, bytes: u64) -> Reserved<'_> {
        let mut state = self.state.lock();
        state.stats.downloads += 1;
        state.reserved_bytes += bytes;
        let removed = state.make_room(self.max_bytes);
        drop(state);
        slot::remove_files(removed);
        Reserved { inner: self, bytes }
    }
}

/// The object of a local store, which is there and has the right length.
async fn in_place(key: &ObjectKey, object: &ObjectRef, path: PathBuf) -> Result<LocalFile, StoreError> {
    match tokio::fs::metadata(&path).await {
        Ok(metadata) if metadata.len() == object.bytes => Ok(LocalFile { path: Arc::new(path) }),
        Ok(metadata) => Err(Corrupt {
            object: key.render(),
            part: "length".into(),
            expected: format!("{} bytes", object.bytes),
            found: format!("{} bytes", metadata.len()),
        }
        .into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(StoreError::Missing { object: key.render() }),
        Err(error) => Err(StoreError::local("look at", &path, error)),
    }
}
