//! Objects that others write, and may write again: read only as the version that was seen.
//!
//! Everything Tarn writes is immutable; a dropped file is not Tarn's. Every read here carries the version that the caller has
//! looked at, so that no two reads mix two files.

use std::ops::Range;

use bytes::Bytes;
use object_store::{Error as Below, GetOptions, GetRange, ObjectStoreExt, WriteMultipart};
use tarn_model::{KeyPrefix, ObjectKey};

use crate::error::StoreError;
use crate::store::{Listed, Store};

/// Copies go in parts of this size.
const PART_BYTES: u64 = 16 << 20;
/// Parts under way at once, which bounds the memory of a copy.
const PARTS_IN_FLIGHT: usize = 2;

/// How S3 calls what was written while versions were not kept; a later one has the same name.
const NO_VERSION: &str = "null";

/// One version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectVersion {
    /// Length in bytes.
    pub bytes: u64,
    /// When it was written, in milliseconds since the Unix epoch, by the store's clock.
    pub modified_ms: i64,
    /// Changes with the content, on every store.
    pub e_tag: Option<String>,
    /// On stores that keep versions. Differs even when the content is the same.
    pub version: Option<String>,
}

impl Store {
    /// The version of an object that is current, or the one of a name; `None` when it is not there.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn version(&self, key: &ObjectKey, named: Option<&str>) -> Result<Option<ObjectVersion>, StoreError> {
        let path = self.path(key);
        let options = GetOptions { version: named.map(str::to_owned), head: true, ..GetOptions::default() };
        match self.object_store().get_opts(&path, options).await {
            Ok(found) => Ok(Some(ObjectVersion {
                bytes: found.meta.size,
                modified_ms: found.meta.last_modified.timestamp_millis(),
                e_tag: found.meta.e_tag,
                version: found.meta.version.filter(|name| name != NO_VERSION),
            })),
            Err(Below::NotFound { .. }) => Ok(None),
            Err(error) => Err(StoreError::from_below("look at", path.as_ref(), error)),
        }
    }

    /// Reads a range of a version; `None` when it is not there any more. `named` reads it although another may be current.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn get_version_range(
        &self,
        key: &ObjectKey,
        version: &ObjectVersion,
        named: bool,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, StoreError> {
        if range.is_empty() {
            return Ok(Some(Bytes::new()));
        }
        let path = self.path(key);
        let expected = range.end - range.start;
        let options = GetOptions {
            if_match: version.e_tag.clone(),
            version: version.version.clone().filter(|_| named),
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let read = async { self.object_store().get_opts(&path, options).await?.bytes().await };
        match read.await {
            Ok(bytes) if bytes.len() as u64 == expected => Ok(Some(bytes)),
            // Shorter than it was: another file.
            Ok(_) | Err(Below::NotFound { .. } | Below::Precondition { .. }) => Ok(None),
            Err(error) => match self.version(key, version.version.as_deref().filter(|_| named)).await {
                // A range past the end is an error whose kind differs between stores.
                Ok(now) if now.as_ref() != Some(version) => Ok(None),
                _ => Err(StoreError::from_below("read", path.as_ref(), error)),
            },
        }
    }

    /// Copies a version under a key that is unique to it, in bounded memory; false when it is not there any more. Repeating
    /// it is harmless.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn copy_version(
        &self,
        from: &ObjectKey,
        version: &ObjectVersion,
        named: bool,
        to: &ObjectKey,
    ) -> Result<bool, StoreError> {
        if version.bytes <= PART_BYTES {
            let Some(bytes) = self.get_version_range(from, version, named, 0..version.bytes).await? else {
                return Ok(false);
            };
            self.put_unique(to, bytes).await?;
            return Ok(true);
        }
        let path = self.path(to);
        let below = |error| StoreError::from_below("write", path.as_ref(), error);
        let part_bytes = PART_BYTES.max(version.bytes.div_ceil(9_000));
        let upload = self.object_store().put_multipart(&path).await.map_err(below)?;
        let size = usize::try_from(part_bytes).unwrap_or(usize::MAX);
        let mut upload = WriteMultipart::new_with_chunk_size(upload, size);
        let mut start = 0;
        while start < version.bytes {
            let end = (start + part_bytes).min(version.bytes);
            let part = self.get_version_range(from, version, named, start..end).await;
            let ready = upload.wait_for_capacity(PARTS_IN_FLIGHT).await;
            match (part, ready) {
                (Ok(Some(part)), Ok(())) => upload.put(part),
                (part, ready) => {
                    if let Err(error) = upload.abort().await {
                        tracing::warn!(key = %path, %error, "could not abort a multipart upload");
                    }
                    ready.map_err(below)?;
                    return part.map(|_| false);
                }
            }
            start = end;
        }
        upload.finish().await.map_err(below)?;
        Ok(true)
    }

    /// The objects right below a prefix, sorted by key, and the names of what is further down.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn list_level(&self, prefix: &KeyPrefix) -> Result<(Vec<Listed>, Vec<String>), StoreError> {
        let path = self.below_root(&prefix.render());
        let listing = self.object_store().list_with_delimiter(Some(&path)).await;
        let listing = listing.map_err(|error| StoreError::from_below("list", path.as_ref(), error))?;
        let mut objects: Vec<Listed> = listing.objects.into_iter().map(|meta| self.listed(meta)).collect();
        objects.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let name = |child: &object_store::path::Path| child.filename().unwrap_or_default().to_owned();
        let mut children: Vec<String> = listing.common_prefixes.iter().map(name).collect();
        children.sort_unstable();
        Ok((objects, children))
    }
}
