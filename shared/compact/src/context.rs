//! What every step of a builder shares: store, settings, scratch space, unique ids, verified local files.
//!
//! Owns `local-bytes-are-verified`: a file is read only after its length and CRC-32C were found to be what the root says,
//! once per builder.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tarn_model::{Corrupt, DataSourceId, ObjectKey, ObjectRef};
use tarn_store::{LocalFile, SegmentCache, Store, StoreError};
use tempfile::TempDir;
use ulid::Ulid;

use crate::error::CompactError;
use crate::progress::{Progress, Stage};
use crate::retention::Remembered;
use crate::scratch::Scratch;
use crate::settings::BuilderSettings;

/// Shared by the steps of a builder; cheap to clone behind its `Arc`.
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) settings: BuilderSettings,
    progress: Arc<dyn Progress>,
    cache: SegmentCache,
    scratch: Scratch,
    rng: Mutex<SmallRng>,
    verified: Mutex<HashSet<ObjectRef>>,
    /// What retention remembers.
    pub(crate) retention: Mutex<HashMap<DataSourceId, Remembered>>,
}

/// A file written to scratch space, ready to become an object.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) crc32c: u32,
}

impl Context {
    pub(crate) fn new(
        store: Store,
        settings: BuilderSettings,
        progress: Arc<dyn Progress>,
    ) -> Result<Arc<Self>, CompactError> {
        if settings.merge_fan < 2 || settings.dead_percent_max > 100 || settings.threads == 0 {
            return Err(CompactError::Settings(
                "builder settings: merge_fan must be at least 2, dead_percent_max at most 100, threads at least 1"
                    .into(),
            ));
        }
        let parent = settings.temp_dir.clone().unwrap_or_else(std::env::temp_dir);
        let scratch = Scratch::new(&parent)?;
        let cache_dir = settings.cache_dir.clone().unwrap_or_else(|| scratch.path().join("cache"));
        let cache = SegmentCache::new(&cache_dir, settings.cache_bytes, store.clone())?;
        let rng = settings.seed.map_or_else(SmallRng::from_os_rng, SmallRng::seed_from_u64);
        let verified = Mutex::new(HashSet::new());
        let retention = Mutex::default();
        Ok(Arc::new(Self { store, settings, progress, cache, scratch, rng: Mutex::new(rng), verified, retention }))
    }

    /// A unique id whose time part is the store's clock.
    pub(crate) fn new_id(&self) -> Ulid {
        let ms = u64::try_from(self.store.clock().now_ms()).unwrap_or(0);
        Ulid::from_parts(ms, self.rng.lock().random())
    }

    /// A list from some place in it on, and then what is before. Who goes through it like this and is cut short every time,
    /// has begun somewhere else each time, so that all have their turn.
    pub(crate) fn rotated<T>(&self, mut items: Vec<T>) -> Vec<T> {
        if !items.is_empty() {
            let first = self.rng.lock().random_range(0..items.len());
            items.rotate_left(first);
        }
        items
    }

    /// A directory of its own for one step; removed when the step drops it.
    pub(crate) fn scratch(&self) -> Result<TempDir, CompactError> {
        let parent = self.scratch.path();
        tempfile::tempdir_in(parent).map_err(|e| CompactError::local("create a directory in", parent, e))
    }

    pub(crate) fn report(&self, subject: &str, stage: Stage, done: u64, total: u64) {
        self.progress.update(subject, stage, done, total);
    }

    /// A data object as a local file whose bytes are what the root says.
    pub(crate) async fn fetch(&self, key: &ObjectKey, object: &ObjectRef) -> Result<LocalFile, CompactError> {
        let file = self.cache.fetch(key, object).await?;
        if !self.verified.lock().contains(object) {
            let (path, name, expected) = (file.path().to_path_buf(), key.render(), object.clone());
            blocking(move || check_file(&path, &name, &expected)).await?;
            self.verified.lock().insert(object.clone());
        }
        Ok(file)
    }

    /// As [`Self::fetch`], for a segment: opening one verifies every block of it, so nothing is read twice.
    pub(crate) async fn fetch_unverified(
        &self,
        key: &ObjectKey,
        object: &ObjectRef,
    ) -> Result<LocalFile, CompactError> {
        Ok(self.cache.fetch(key, object).await?)
    }

    /// A small data object in memory, checked.
    pub(crate) async fn read(&self, key: &ObjectKey, object: &ObjectRef) -> Result<Bytes, CompactError> {
        let missing = || StoreError::Missing { object: key.render() };
        let bytes = self.store.get(key).await?.ok_or_else(missing)?;
        check_bytes(&key.render(), object, bytes.len() as u64, crc32c::crc32c(&bytes))?;
        Ok(bytes)
    }

    /// Stores bytes under a new id.
    pub(crate) async fn put(
        &self,
        key: impl FnOnce(Ulid) -> ObjectKey,
        bytes: Bytes,
    ) -> Result<ObjectRef, CompactError> {
        let object = ObjectRef { id: self.new_id(), bytes: bytes.len() as u64, crc32c: crc32c::crc32c(&bytes) };
        self.store.put_unique(&key(object.id), bytes).await?;
        Ok(object)
    }

    /// Stores a scratch file under a new id and removes it from scratch space.
    pub(crate) async fn put_file(
        &self,
        key: impl FnOnce(Ulid) -> ObjectKey,
        file: &Written,
    ) -> Result<ObjectRef, CompactError> {
        let object = ObjectRef { id: self.new_id(), bytes: file.bytes, crc32c: file.crc32c };
        self.store.put_unique_file(&key(object.id), &file.path).await?;
        // Space is all that is at stake: the directory goes when the step ends.
        if let Err(error) = std::fs::remove_file(&file.path) {
            tracing::warn!(path = %file.path.display(), %error, "cannot remove a temporary file");
        }
        Ok(object)
    }
}

/// Runs work that computes or reads local files, off the threads that wait for the network.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CompactError> + Send + 'static,
) -> Result<T, CompactError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(CompactError::engine("background work", error)),
        },
    }
}

/// Length and checksum of a local file.
pub(crate) fn measure(path: &Path) -> Result<(u64, u32), CompactError> {
    let failed = |e| CompactError::local("read", path, e);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut buffer = vec![0_u8; 1 << 20];
    let (mut bytes, mut crc) = (0, 0);
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            return Ok((bytes, crc));
        }
        bytes += read as u64;
        crc = crc32c::crc32c_append(crc, &buffer[..read]);
    }
}

fn check_file(path: &Path, name: &str, expected: &ObjectRef) -> Result<(), CompactError> {
    let (bytes, crc) = measure(path)?;
    Ok(check_bytes(name, expected, bytes, crc)?)
}

pub(crate) fn check_bytes(name: &str, expected: &ObjectRef, bytes: u64, crc: u32) -> Result<(), Corrupt> {
    let corrupt = |part: &str, expected: String, found: String| {
        Err(Corrupt { object: name.to_owned(), part: part.to_owned(), expected, found })
    };
    if bytes != expected.bytes {
        return corrupt("length", format!("{} bytes", expected.bytes), format!("{bytes} bytes"));
    }
    if crc != expected.crc32c {
        return corrupt("CRC-32C", format!("{:08x}", expected.crc32c), format!("{crc:08x}"));
    }
    Ok(())
}
