//! From the store to a file: ranges in parallel, written in order, checked against length and CRC-32C.

use std::fs::File;
use std::io::Read;
use std::path::Path as FilePath;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{Error as Below, GetOptions};
use tarn_model::{Corrupt, ObjectKey, ObjectRef};
use tokio::io::AsyncWriteExt;

use crate::error::StoreError;
use crate::meter::Meter;
use crate::store::Store;

/// One request asks for this much; an object no longer than that is one request.
const PART_BYTES: u64 = 8 << 20;
/// Requests under way at once for one object.
const PARTS_IN_FLIGHT: usize = 4;

/// Downloads an object to a new file, which the caller removes on failure.
pub(super) async fn download(
    store: &Store,
    key: &ObjectKey,
    object: &ObjectRef,
    to: &FilePath,
) -> Result<(), StoreError> {
    let unwritable = |error| StoreError::local("write", to, error);
    let mut file = tokio::fs::File::create(to).await.map_err(unwritable)?;
    let starts = (0..object.bytes.max(1)).step_by(PART_BYTES as usize);
    let mut parts =
        futures::stream::iter(starts).map(|start| read_part(store, key, object, start)).buffered(PARTS_IN_FLIGHT);
    let mut crc32c = 0;
    let written = async {
        while let Some(part) = parts.try_next().await? {
            crc32c = crc32c::crc32c_append(crc32c, &part);
            file.write_all(&part).await.map_err(unwritable)?;
        }
        Ok::<_, StoreError>(())
    };
    Meter::one_trip(written).await?;
    file.flush().await.map_err(unwritable)?;
    check(&key.render(), "crc32c", format!("{:08x}", object.crc32c), format!("{crc32c:08x}"))
}

async fn read_part(store: &Store, key: &ObjectKey, object: &ObjectRef, start: u64) -> Result<Bytes, StoreError> {
    let path = store.path(key);
    let end = object.bytes.min(start.saturating_add(PART_BYTES));
    let mut options = GetOptions::default();
    if object.bytes > PART_BYTES {
        options.range = Some((start..end).into());
    }
    let below = |error| match error {
        Below::NotFound { .. } => StoreError::Missing { object: key.render() },
        other => StoreError::from_below("read", path.as_ref(), other),
    };
    let result = match store.object_store().get_opts(&path, options).await {
        Ok(result) => result,
        // A range that the object does not have is an error of no particular kind; its length tells.
        Err(error @ Below::Generic { .. }) => {
            if let Some(size) = store.size(key).await? {
                check_length(key, object, size)?;
            }
            return Err(below(error));
        }
        Err(error) => return Err(below(error)),
    };
    // Before the body is read: a wrong length must not cost the memory of a wrong body.
    check_length(key, object, result.meta.size)?;
    let bytes = result.bytes().await.map_err(below)?;
    check(&key.render(), "length of a range", (end - start).to_string(), bytes.len().to_string())?;
    Ok(bytes)
}

fn check_length(key: &ObjectKey, object: &ObjectRef, found: u64) -> Result<(), StoreError> {
    check(&key.render(), "length", format!("{} bytes", object.bytes), format!("{found} bytes"))
}

/// Checks a file that an earlier process downloaded.
pub(super) async fn verify(file: &FilePath, object: &ObjectRef) -> Result<(), StoreError> {
    let (path, object) = (file.to_path_buf(), object.clone());
    let verified = tokio::task::spawn_blocking(move || {
        let unreadable = |error| StoreError::local("read", &path, error);
        let mut file = File::open(&path).map_err(unreadable)?;
        let (mut crc32c, mut length) = (0, 0);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut buffer).map_err(unreadable)?;
            if count == 0 {
                break;
            }
            crc32c = crc32c::crc32c_append(crc32c, &buffer[..count]);
            length += count as u64;
        }
        let name = path.display().to_string();
        check(&name, "length", format!("{} bytes", object.bytes), format!("{length} bytes"))?;
        check(&name, "crc32c", format!("{:08x}", object.crc32c), format!("{crc32c:08x}"))
    });
    verified.await.unwrap_or_else(|error| Err(StoreError::local("verify", file, std::io::Error::other(error))))
}

fn check(object: &str, part: &str, expected: String, found: String) -> Result<(), StoreError> {
    if expected == found {
        return Ok(());
    }
    Err(Corrupt { object: object.into(), part: part.into(), expected, found }.into())
}
