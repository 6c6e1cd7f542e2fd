//! A store in a local directory that keeps what it has acknowledged, whatever crashes.
//!
//! Owns `acknowledged-means-durable`: when a put returns, the bytes, the object's name and every directory above it are
//! synced. An object appears under its key complete or not at all: the bytes are written to a file in `.staging` at the
//! root, synced, and then linked (`create`: exactly one of many wins) or renamed (`overwrite`) to the key.
//!
//! A writer holds a lock on its staged file. What a crashed writer left there is not locked, and the next process that
//! opens the directory removes it; listings never show it.
//!
//! The directory must be on one file system, with hard links and advisory locks. Reading goes through object_store's
//! `LocalFileSystem`, whose put does not sync, whose listing is not sorted and ends at the first name that is no key, and which
//! refuses to delete what is not there.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use parking_lot::Mutex;

use crate::error::StoreError;

mod staging;
mod walk;
use staging::Staged;

/// Where writers keep what is not complete yet, below the root.
const STAGING: &str = ".staging";
const STORE: &str = "DiskStore";

/// Wrapped in [`Error::Generic`]: the put failed before it could have any effect.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct NotApplied(io::Error);

/// Whether a put on disk certainly had no effect and never will.
pub(crate) fn not_applied(error: &Error) -> bool {
    matches!(error, Error::Generic { source, .. } if source.is::<NotApplied>())
}

/// A directory as an object store. See the module for what it promises.
#[derive(Clone, Debug)]
pub struct DiskStore {
    reads: LocalFileSystem,
    disk: Arc<Disk>,
}

impl DiskStore {
    /// Opens an existing directory and removes what crashed writers left in staging.
    ///
    /// # Errors
    /// [`StoreError::Config`] when the directory is missing or not writable.
    pub fn open(directory: &FilePath) -> std::result::Result<Self, StoreError> {
        let unusable = |error: &dyn fmt::Display| {
            StoreError::config(format!("cannot use '{}' as a store: {error}", directory.display()))
        };
        let root = directory.canonicalize().map_err(|error| unusable(&error))?;
        let reads = LocalFileSystem::new_with_prefix(&root).map_err(|error| unusable(&error))?;
        let disk = Disk { staging: root.join(STAGING), root, synced: Mutex::default() };
        fs::create_dir_all(&disk.staging).map_err(|error| unusable(&error))?;
        let swept = staging::sweep(&disk.staging).map_err(|error| unusable(&error))?;
        if swept > 0 {
            tracing::info!(directory = %disk.root.display(), swept, "removed incomplete files of a crashed writer");
        }
        if let Some(parent) = disk.root.parent() {
            // The root may be new. A parent that cannot be opened for reading was not made by us.
            match sync_directory(parent) {
                Err(error) if error.kind() != ErrorKind::PermissionDenied => return Err(unusable(&error)),
                _ => {}
            }
        }
        Ok(Self { reads, disk: Arc::new(disk) })
    }

    /// The directory, absolute and without symbolic links.
    pub fn root(&self) -> &FilePath {
        &self.disk.root
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Disk) -> Result<T> + Send + 'static) -> Result<T> {
        let disk = Arc::clone(&self.disk);
        tokio::task::spawn_blocking(move || work(&disk)).await?
    }
}

/// Objects in key order, without what is in staging.
fn sorted(listing: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
    async move {
        let mut all: Vec<_> =
            listing.try_filter(|meta| std::future::ready(is_object(&meta.location))).try_collect().await?;
        all.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok::<_, Error>(futures::stream::iter(all.into_iter().map(Ok)))
    }
    .into_stream()
    .try_flatten()
    .boxed()
}

fn is_object(path: &Path) -> bool {
    path.parts().next().is_some_and(|first| first.as_ref() != STAGING)
}

impl fmt::Display for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskStore({})", self.disk.root.display())
    }
}

#[async_trait]
impl ObjectStore for DiskStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let mode = publish_mode(&opts.mode)?;
        let location = location.clone();
        self.blocking(move |disk| {
            let mut staged = disk.stage(&location)?;
            for chunk in &payload {
                staged.file.write_all(chunk).map_err(|error| before(&location, error))?;
            }
            disk.publish(&mut staged, &location, mode)
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let at = location.clone();
        let staged = self.blocking(move |disk| disk.stage(&at)).await?;
        let staged = Arc::new(Mutex::new(Some(staged)));
        Ok(Box::new(DiskUpload { store: self.clone(), location: location.clone(), staged, offset: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.reads.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.reads.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let reads = self.reads.clone();
        locations
            .then(move |location| {
                let reads = reads.clone();
                async move {
                    let location = location?;
                    match reads.delete(&location).await {
                        Ok(()) | Err(Error::NotFound { .. }) => Ok(location),
                        Err(error) => Err(error),
                    }
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listed = async move { store.blocking(move |disk| walk::walk(&disk.root, prefix.as_ref())).await };
        let listed = listed.map_ok(|found| futures::stream::iter(found.into_iter().map(Ok)));
        sorted(listed.into_stream().try_flatten().boxed())
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        sorted(self.reads.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut result = self.reads.list_with_delimiter(prefix).await?;
        result.common_prefixes.retain(is_object);
        Ok(result)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let bytes = self.reads.get(from).await?.bytes().await?;
        let mode = match options.mode {
            CopyMode::Overwrite => PutMode::Overwrite,
            CopyMode::Create => PutMode::Create,
        };
        self.put_opts(to, bytes.into(), PutOptions { mode, ..PutOptions::default() }).await.map(drop)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Publish {
    Create,
    Overwrite,
}

fn publish_mode(mode: &PutMode) -> Result<Publish> {
    match mode {
        PutMode::Create => Ok(Publish::Create),
        PutMode::Overwrite => Ok(Publish::Overwrite),
        PutMode::Update(_) => {
            Err(Error::NotImplemented { operation: "put_opts with PutMode::Update".into(), implementer: STORE.into() })
        }
    }
}

#[derive(Debug)]
struct Disk {
    root: PathBuf,
    staging: PathBuf,
    /// Directories whose own names are durable, all the way up. Only ever an optimisation.
    synced: Mutex<HashSet<PathBuf>>,
}

impl Disk {
    fn file(&self, location: &Path) -> PathBuf {
        let mut file = self.root.clone();
        file.extend(location.parts().map(|part| part.as_ref().to_owned()));
        file
    }

    fn stage(&self, location: &Path) -> Result<Staged> {
        Staged::create(&self.staging).map_err(|error| before(location, error))
    }

    /// Syncs a staged file and gives it its name.
    fn publish(&self, staged: &mut Staged, location: &Path, mode: Publish) -> Result<PutResult> {
        let file = self.file(location);
        let directory = file.parent().unwrap_or(&self.root);
        staged.file.sync_all().map_err(|error| before(location, error))?;
        self.ensure_directory(directory).map_err(|error| before(location, error))?;
        let name = |staged: &Staged| match mode {
            Publish::Create => fs::hard_link(&staged.path, &file),
            Publish::Overwrite => fs::rename(&staged.path, &file),
        };
        let mut named = name(staged);
        if matches!(&named, Err(error) if error.kind() == ErrorKind::NotFound) {
            // Somebody removed the directory since it was made.
            self.synced.lock().clear();
            self.ensure_directory(directory).map_err(|error| before(location, error))?;
            named = name(staged);
        }
        match named {
            Ok(()) => {
                sync_directory(directory).map_err(generic)?;
                Ok(PutResult { e_tag: None, version: None })
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // The winner may not have synced yet; whoever is told of the object may rely on it.
                sync_directory(directory).map_err(generic)?;
                Err(Error::AlreadyExists { path: location.to_string(), source: Box::new(error) })
            }
            Err(error) => Err(before(location, error)),
        }
    }

    /// Creates a directory, and makes its name and those of the directories above it durable.
    fn ensure_directory(&self, directory: &FilePath) -> io::Result<()> {
        if self.synced.lock().contains(directory) {
            return Ok(());
        }
        fs::create_dir_all(directory)?;
        for above in directory.ancestors().skip(1).take_while(|above| above.starts_with(&self.root)) {
            sync_directory(above)?;
        }
        self.synced.lock().insert(directory.to_path_buf());
        Ok(())
    }
}

pub(crate) fn sync_directory(directory: &FilePath) -> io::Result<()> {
    // Windows cannot open a directory as a file, and journals its names by itself.
    if cfg!(windows) { Ok(()) } else { File::open(directory)?.sync_all() }
}

/// An error from before the object got its name.
fn before(location: &Path, error: io::Error) -> Error {
    let path = location.to_string();
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Error::PermissionDenied { path, source: Box::new(error) }
        }
        ErrorKind::InvalidFilename | ErrorKind::Unsupported | ErrorKind::CrossesDevices => {
            Error::NotSupported { source: Box::new(error) }
        }
        _ => Error::Generic { store: STORE, source: Box::new(NotApplied(error)) },
    }
}

fn generic(error: io::Error) -> Error {
    Error::Generic { store: STORE, source: Box::new(error) }
}

/// A multipart upload: parts are written side by side into one staged file.
#[derive(Debug)]
struct DiskUpload {
    store: DiskStore,
    location: Path,
    staged: Arc<Mutex<Option<Staged>>>,
    offset: u64,
}

#[async_trait]
impl MultipartUpload for DiskUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let offset = self.offset;
        self.offset += data.content_length() as u64;
        let (staged, location) = (Arc::clone(&self.staged), self.location.clone());
        let store = self.store.clone();
        async move {
            store
                .blocking(move |_| {
                    let mut staged = staged.lock();
                    let staged = staged.as_mut().ok_or_else(finished)?;
                    staged.write_at(offset, &data).map_err(|error| before(&location, error))
                })
                .await
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let mut staged = self.staged.lock().take().ok_or_else(finished)?;
        let location = self.location.clone();
        self.store.blocking(move |disk| disk.publish(&mut staged, &location, Publish::Overwrite)).await
    }

    async fn abort(&mut self) -> Result<()> {
        // Dropping the staged file removes it.
        self.staged.lock().take().map(drop).ok_or_else(finished)
    }
}

fn finished() -> Error {
    generic(io::Error::other("the upload has been completed or aborted"))
}

#[cfg(test)]
mod tests;
