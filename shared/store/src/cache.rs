//! The local cache of immutable data objects: segment files, catalogs, checkpoint data.

use std::path::{Path as FilePath, PathBuf};

use tarn_model::{ObjectKey, ObjectRef};

use crate::error::StoreError;
use crate::store::Store;

/// What a cache holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Files now.
    pub files: u64,
    /// Bytes now.
    pub bytes: u64,
    /// Answers from local files.
    pub hits: u64,
    /// Downloads.
    pub misses: u64,
    /// Files removed for space.
    pub evictions: u64,
}

/// Files of immutable objects in a local directory.
#[derive(Clone, Debug)]
pub struct SegmentCache {
    store: Store,
}

/// A local file with an object's bytes.
#[derive(Clone, Debug)]
pub struct LocalFile {
    path: PathBuf,
}

impl LocalFile {
    /// Where the file is.
    pub fn path(&self) -> &FilePath {
        &self.path
    }
}

impl SegmentCache {
    /// Opens a cache.
    ///
    /// # Errors
    /// [`StoreError::Config`] when the directory cannot be used.
    pub fn new(directory: &FilePath, max_bytes: u64, store: Store) -> Result<Self, StoreError> {
        let _ = (directory, max_bytes);
        Ok(Self { store })
    }

    /// The object's bytes as a local file.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Corrupt`].
    pub async fn fetch(&self, key: &ObjectKey, object: &ObjectRef) -> Result<LocalFile, StoreError> {
        let _ = object;
        self.store
            .local_file(key)
            .map(|path| LocalFile { path })
            .ok_or_else(|| StoreError::Missing { object: key.render() })
    }
}
