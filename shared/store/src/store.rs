//! [`Store`]: typed keys over an object store, with answers that mean the same on S3, disk and memory.
//!
//! Absent objects are `None`, listings are sorted by key, deleting what is not there succeeds, and ranges are as long as
//! they were asked for. Commits are in `commit`, construction is in `open`.

use std::fmt;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AwsCredentialProvider;
use object_store::path::Path;
use object_store::{Error as Below, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use tarn_model::{Corrupt, KeyPrefix, ObjectKey};
use tokio::io::AsyncReadExt;

use crate::backoff::{Backoff, BackoffPolicy};
use crate::clock::Clock;
use crate::disk;
use crate::error::{Cause, StoreError};

/// Files up to this size go up in one put; larger ones in parts of at least this size.
const PART_BYTES: u64 = 16 << 20;
/// S3 allows 10,000 parts.
const MOST_PARTS: u64 = 9_000;
/// Parts under way at once, which bounds the memory of an upload.
const PARTS_IN_FLIGHT: usize = 4;

/// An object store, rooted at a prefix. Clones share everything.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    root: Path,
    local_root: Option<Arc<FilePath>>,
    url: Arc<str>,
    jitter: Arc<Mutex<SmallRng>>,
    bucket: Option<Arc<Bucket>>,
}

/// A bucket on S3, for what object stores in general cannot do.
#[derive(Clone)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Where S3 is, unless it is where AWS has it.
    pub endpoint: Option<String>,
    /// Whether the bucket's name is part of the host rather than of the path.
    pub virtual_hosted: bool,
    /// The credentials of the store's own requests. They are renewed when they expire.
    pub credentials: AwsCredentialProvider,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("name", &self.name).field("region", &self.region).finish_non_exhaustive()
    }
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key; `None` when it is none of ours.
    pub key: Option<ObjectKey>,
    /// The key as text, relative to the store's root.
    pub path: String,
    /// Length in bytes.
    pub bytes: u64,
    /// When it was last written, in milliseconds since the Unix epoch, by the store's clock.
    pub modified_ms: i64,
    /// Changes with the content. Opaque, and not told by every store.
    pub e_tag: Option<String>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("url", &self.url).field("objects", &self.objects.to_string()).finish()
    }
}

impl Store {
    /// A store over any implementation. It must support `PutMode::Create`.
    pub fn from_object_store(objects: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>) -> Self {
        Self {
            url: objects.to_string().into(),
            objects,
            clock,
            root: Path::default(),
            local_root: None,
            jitter: Arc::new(Mutex::new(SmallRng::from_os_rng())),
            bucket: None,
        }
    }

    /// The same store seen through a decorator.
    #[must_use]
    pub fn layer(&self, decorate: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        Self { objects: decorate(Arc::clone(&self.objects)), ..self.clone() }
    }

    /// The same store with another clock.
    #[must_use]
    pub fn with_clock(&self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self.clone() }
    }

    /// The same store with the jitter of its back-off drawn from a seed, for tests that must repeat.
    #[must_use]
    pub fn with_seed(&self, seed: u64) -> Self {
        Self { jitter: Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))), ..self.clone() }
    }

    /// The same store without direct access to local files, as a store on the network has none.
    #[must_use]
    pub fn without_local_files(&self) -> Self {
        Self { local_root: None, ..self.clone() }
    }

    pub(crate) fn with_url(self, url: impl Into<Arc<str>>) -> Self {
        Self { url: url.into(), ..self }
    }

    pub(crate) fn with_prefix(self, root: Path) -> Self {
        Self { root, ..self }
    }

    pub(crate) fn with_local_root(self, root: PathBuf) -> Self {
        Self { local_root: Some(root.into()), ..self }
    }

    /// Where the store is, as a person would write it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The implementation, for readers that stream by themselves; see [`Self::path`].
    pub fn object_store(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// The waits of one operation, jittered.
    pub fn backoff(&self, policy: BackoffPolicy) -> Backoff {
        Backoff::new(policy, self.jitter.lock().next_u64())
    }

    /// The key below the store's root of what the implementation calls `text`; `None` when it is not below the root.
    pub fn key_below_root<'a>(&self, text: &'a str) -> Option<&'a str> {
        if self.root.is_root() {
            return Some(text);
        }
        text.strip_prefix(self.root.as_ref())?.strip_prefix('/')
    }

    /// The directory that is the store, if it is one.
    pub fn local_root(&self) -> Option<&FilePath> {
        self.local_root.as_deref()
    }

    /// The bucket that is the store, and who we are there, if it is on S3.
    pub fn bucket(&self) -> Option<&Bucket> {
        self.bucket.as_deref()
    }

    pub(crate) fn with_bucket(self, bucket: Bucket) -> Self {
        Self { bucket: Some(Arc::new(bucket)), ..self }
    }

    /// The key in the implementation, below the root prefix.
    pub fn path(&self, key: &ObjectKey) -> Path {
        self.below_root(&key.render())
    }

    /// The file that is the object, on stores in a local directory. It may not exist.
    pub fn local_file(&self, key: &ObjectKey) -> Option<PathBuf> {
        let mut file = self.local_root.as_deref()?.to_path_buf();
        file.extend(key.render().split('/'));
        Some(file)
    }

    /// Makes sure that an object which was found by reading stays, whatever crashes: in a local directory its writer gives it
    /// its name before that name is durable. Nothing to do elsewhere. Whoever acknowledges what another has written calls this.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn make_durable(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let Some(file) = self.local_file(key) else { return Ok(()) };
        let failed = |cause: Cause| StoreError::Unavailable { operation: "sync", object: key.render(), cause };
        let synced = tokio::task::spawn_blocking(move || file.parent().map_or(Ok(()), disk::sync_directory)).await;
        synced.map_err(|error| failed(Arc::new(error)))?.map_err(|error| failed(Arc::new(error)))
    }

    /// Reads a whole object; `None` when it is absent.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn get(&self, key: &ObjectKey) -> Result<Option<Bytes>, StoreError> {
        let path = self.path(key);
        let read = async { self.objects.get(&path).await?.bytes().await };
        present("read", &path, read.await)
    }

    /// The length of an object in bytes; `None` when it is absent.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn size(&self, key: &ObjectKey) -> Result<Option<u64>, StoreError> {
        let path = self.path(key);
        let head = self.objects.head(&path).await.map(|meta| meta.size);
        present("look at", &path, head)
    }

    /// Reads parts of an object, in the order asked for. Ranges that lie close together share a request.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Corrupt`] when the object ends before a range does.
    pub async fn get_ranges(&self, key: &ObjectKey, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StoreError> {
        let path = self.path(key);
        let parts = match self.objects.get_ranges(&path, ranges).await {
            Ok(parts) => parts,
            Err(error) => {
                let end = ranges.iter().map(|range| range.end).max().unwrap_or(0);
                return Err(self.unread(&path, end, error).await);
            }
        };
        for (range, part) in ranges.iter().zip(&parts) {
            let expected = range.end.saturating_sub(range.start);
            if part.len() as u64 != expected {
                return Err(too_short(&path, range.end, range.start + part.len() as u64));
            }
        }
        Ok(parts)
    }

    /// Why a read of bytes up to `end` failed.
    pub(crate) async fn unread(&self, path: &Path, end: u64, error: Below) -> StoreError {
        if matches!(error, Below::NotFound { .. }) {
            return StoreError::Missing { object: path.to_string() };
        }
        // A range past the end is an error whose kind differs between stores; the size tells.
        match self.objects.head(path).await {
            Ok(meta) if meta.size < end => too_short(path, end, meta.size),
            _ => StoreError::from_below("read", path.as_ref(), error),
        }
    }

    /// Writes an object whose key is unique to these bytes (named by a fresh ulid). Repeating it is harmless. It commits
    /// nothing: an object counts when a root names it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn put_unique(&self, key: &ObjectKey, bytes: Bytes) -> Result<(), StoreError> {
        let path = self.path(key);
        match self.objects.put(&path, PutPayload::from_bytes(bytes)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(StoreError::from_below("write", path.as_ref(), error)),
        }
    }

    /// Writes an object whatever is there. Of several writers the last one wins, and none learns of the others: for the hint of
    /// an index ([`ObjectKey::Hint`]) alone, on which nothing depends.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn overwrite(&self, key: &ObjectKey, bytes: Bytes) -> Result<(), StoreError> {
        self.put_unique(key, bytes).await
    }

    /// As [`Self::put_unique`], from a file, in bounded memory.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn put_unique_file(&self, key: &ObjectKey, file: &FilePath) -> Result<(), StoreError> {
        let unreadable = |error| StoreError::local("read", file, error);
        let mut reader = tokio::fs::File::open(file).await.map_err(unreadable)?;
        let length = reader.metadata().await.map_err(unreadable)?.len();
        if length <= PART_BYTES {
            let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
            reader.read_to_end(&mut bytes).await.map_err(unreadable)?;
            return self.put_unique(key, bytes.into()).await;
        }
        let path = self.path(key);
        let below = |error| StoreError::from_below("write", path.as_ref(), error);
        let part_bytes = length.div_ceil(MOST_PARTS).max(PART_BYTES);
        let upload = self.objects.put_multipart(&path).await.map_err(below)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, usize::try_from(part_bytes).unwrap_or(usize::MAX));
        let mut left = length;
        while left > 0 {
            let mut part = Vec::with_capacity(usize::try_from(left.min(part_bytes)).unwrap_or(0));
            let read = (&mut reader).take(part_bytes).read_to_end(&mut part).await;
            let ready = upload.wait_for_capacity(PARTS_IN_FLIGHT).await;
            match (read, ready) {
                (Ok(count), Ok(())) if count > 0 => {
                    left = left.saturating_sub(count as u64);
                    upload.put(part.into());
                }
                (read, ready) => {
                    abort(upload, &path).await;
                    ready.map_err(below)?;
                    read.map_err(unreadable)?;
                    return Err(unreadable(std::io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
        // On failure `finish` aborts the upload itself.
        upload.finish().await.map(drop).map_err(below)
    }

    /// Every object under a prefix, sorted by key.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn list(&self, prefix: &KeyPrefix) -> Result<Vec<Listed>, StoreError> {
        let path = self.below_root(&prefix.render());
        self.collect_sorted(&path, self.objects.list(Some(&path))).await
    }

    /// As [`Self::list`], the objects whose keys sort after `after`, which need not exist.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn list_after(&self, prefix: &KeyPrefix, after: &ObjectKey) -> Result<Vec<Listed>, StoreError> {
        let path = self.below_root(&prefix.render());
        let listing = self.objects.list_with_offset(Some(&path), &self.path(after));
        self.collect_sorted(&path, listing).await
    }

    /// The object under a prefix whose key sorts first, in one list request.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn first(&self, prefix: &KeyPrefix) -> Result<Option<Listed>, StoreError> {
        // S3, memory and DiskStore list in key order. (S3 Express directory buckets do not, and are not supported.)
        let path = self.below_root(&prefix.render());
        let first = self.objects.list(Some(&path)).next().await.transpose();
        let first = first.map_err(|error| StoreError::from_below("list", path.as_ref(), error))?;
        Ok(first.map(|meta| self.listed(meta)))
    }

    /// The names that follow a prefix, up to the next slash, sorted; each with the prefix in front, relative to the root.
    pub(crate) async fn children(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let path = self.below_root(prefix);
        let listing = self.objects.list_with_delimiter(Some(&path)).await;
        let listing = listing.map_err(|error| StoreError::from_below("list", path.as_ref(), error))?;
        let mut children: Vec<_> = listing.common_prefixes.iter().map(|child| self.relative(child)).collect();
        children.sort_unstable();
        Ok(children)
    }

    /// Deletes an object; it is no error when there is none. Garbage collection is the only caller, and the drop folder, which
    /// removes [`ObjectKey::Dropped`] alone.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let path = self.path(key);
        match self.objects.delete(&path).await {
            Ok(()) | Err(Below::NotFound { .. }) => Ok(()),
            Err(error) => Err(StoreError::from_below("delete", path.as_ref(), error)),
        }
    }

    pub(crate) fn below_root(&self, relative: &str) -> Path {
        // `Path::from` would percent-encode a second time; the layout has already made every byte harmless, and
        // `from_iter` over parsed parts cannot fail for what it renders.
        let relative = relative.trim_end_matches('/');
        let joined = if self.root.is_root() { relative.to_owned() } else { format!("{}/{relative}", self.root) };
        Path::parse(&joined).unwrap_or_else(|_| Path::from(joined.as_str()))
    }

    fn relative(&self, path: &Path) -> String {
        let text = path.as_ref();
        let below = text.strip_prefix(self.root.as_ref()).unwrap_or(text);
        below.strip_prefix('/').unwrap_or(below).to_owned()
    }

    pub(crate) fn listed(&self, meta: ObjectMeta) -> Listed {
        let path = self.relative(&meta.location);
        Listed {
            key: ObjectKey::parse(&path),
            path,
            bytes: meta.size,
            modified_ms: meta.last_modified.timestamp_millis(),
            e_tag: meta.e_tag,
        }
    }

    async fn collect_sorted(
        &self,
        prefix: &Path,
        listing: futures::stream::BoxStream<'_, object_store::Result<ObjectMeta>>,
    ) -> Result<Vec<Listed>, StoreError> {
        let listed = listing.map_ok(|meta| self.listed(meta)).try_collect::<Vec<_>>().await;
        let mut listed = listed.map_err(|error| StoreError::from_below("list", prefix.as_ref(), error))?;
        listed.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(listed)
    }
}

fn present<T>(operation: &'static str, path: &Path, result: Result<T, Below>) -> Result<Option<T>, StoreError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Below::NotFound { .. }) => Ok(None),
        Err(error) => Err(StoreError::from_below(operation, path.as_ref(), error)),
    }
}

fn too_short(path: &Path, expected: u64, found: u64) -> StoreError {
    StoreError::Corrupt(Corrupt {
        object: path.to_string(),
        part: "length".into(),
        expected: format!("at least {expected} bytes"),
        found: format!("{found} bytes"),
    })
}

async fn abort(upload: WriteMultipart, path: &Path) {
    if let Err(error) = upload.abort().await {
        // The parts stay until the bucket's lifecycle rule for incomplete uploads removes them.
        tracing::warn!(key = %path, %error, "could not abort a multipart upload");
    }
}
