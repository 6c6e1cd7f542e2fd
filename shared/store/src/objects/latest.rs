//! The newest of the numbered roots: checkpoints, manifests, boundaries.
//!
//! Numbers are gapless from 1 and newest sorts first, so a reader that knows nothing asks with one list request and one
//! get, and a reader that holds number `n` asks for `n + 1` with a get that usually answers 404.
//!
//! `hint-is-younger-than-grace`: a 404 for `n + 1` proves that `n` is newest only as long as garbage collection cannot
//! have taken `n + 1` away. It takes a root only when a newer one has existed for the grace period. So a hint is good
//! for less than that from when it was last found to be the newest; a caller that has slept for longer passes `None`.

use futures::StreamExt;
use tarn_model::{Boundary, Checkpoint, Corrupt, DataSourceId, IndexId, KeyPrefix, Manifest, ObjectKey};

use crate::error::StoreError;
use crate::store::{Listed, Store};

/// Listing finds a root that garbage collection removes before it is read at most this often before we give up.
const VANISHED_MOST: u32 = 8;
/// Generations asked for at the same time after a first newer one was found.
const PROBE_WIDTH: u64 = 4;

/// The newest manifest of an index. With a hint: the newest that is newer than the hint, or `None` when there is none.
///
/// # Errors
/// [`StoreError`]; `Corrupt` when the manifest does not hold what its key says.
pub async fn latest_manifest(
    store: &Store,
    index: &IndexId,
    hint: Option<u64>,
) -> Result<Option<Manifest>, StoreError> {
    let key = |generation| ObjectKey::Manifest { index: index.clone(), generation };
    let parse = |object: &str, bytes: &[u8], generation| Manifest::parse(object, bytes, index, generation);
    latest(store, &KeyPrefix::Manifests(index.clone()), key, parse, hint).await
}

/// The newest checkpoint of a data source; hint as for [`latest_manifest`].
///
/// # Errors
/// See [`latest_manifest`].
pub async fn latest_checkpoint(
    store: &Store,
    source: &DataSourceId,
    hint: Option<u64>,
) -> Result<Option<Checkpoint>, StoreError> {
    let key = |generation| ObjectKey::Checkpoint { source: source.clone(), generation };
    let parse = |object: &str, bytes: &[u8], generation| Checkpoint::parse(object, bytes, source, generation);
    latest(store, &KeyPrefix::Checkpoints(source.clone()), key, parse, hint).await
}

/// The newest boundary of a data source; hint as for [`latest_manifest`].
///
/// # Errors
/// See [`latest_manifest`].
pub async fn latest_source_boundary(
    store: &Store,
    source: &DataSourceId,
    hint: Option<u64>,
) -> Result<Option<Boundary>, StoreError> {
    let key = |number| ObjectKey::SourceBoundary { source: source.clone(), number };
    latest(store, &KeyPrefix::SourceBoundaries(source.clone()), key, Boundary::parse, hint).await
}

/// The newest boundary of an index; hint as for [`latest_manifest`].
///
/// # Errors
/// See [`latest_manifest`].
pub async fn latest_index_boundary(
    store: &Store,
    index: &IndexId,
    hint: Option<u64>,
) -> Result<Option<Boundary>, StoreError> {
    let key = |number| ObjectKey::IndexBoundary { index: index.clone(), number };
    latest(store, &KeyPrefix::IndexBoundaries(index.clone()), key, Boundary::parse, hint).await
}

fn number_of(key: &ObjectKey) -> Option<u64> {
    match key {
        ObjectKey::Manifest { generation, .. } | ObjectKey::Checkpoint { generation, .. } => Some(*generation),
        ObjectKey::SourceBoundary { number, .. } | ObjectKey::IndexBoundary { number, .. } => Some(*number),
        _ => None,
    }
}

async fn latest<T>(
    store: &Store,
    prefix: &KeyPrefix,
    key: impl Fn(u64) -> ObjectKey,
    parse: impl Fn(&str, &[u8], u64) -> Result<T, Corrupt>,
    hint: Option<u64>,
) -> Result<Option<T>, StoreError> {
    let read = async |number: u64| -> Result<Option<T>, StoreError> {
        let key = key(number);
        match store.get(&key).await? {
            Some(bytes) => Ok(Some(parse(&key.render(), &bytes, number)?)),
            None => Ok(None),
        }
    };
    if let Some(hint) = hint {
        let mut number = hint.saturating_add(1);
        let Some(mut newest) = read(number).await? else { return Ok(None) };
        // We are behind; how far is unknown.
        'probing: loop {
            let next = number.saturating_add(1);
            let ahead: Vec<_> = futures::stream::iter(next..next.saturating_add(PROBE_WIDTH))
                .map(&read)
                .buffered(PROBE_WIDTH as usize)
                .collect()
                .await;
            if ahead.is_empty() {
                // There is no number after this one.
                break;
            }
            for found in ahead {
                match found? {
                    Some(found) => (newest, number) = (found, number + 1),
                    None => break 'probing,
                }
            }
        }
        return Ok(Some(newest));
    }
    for _ in 0..VANISHED_MOST {
        let Some(number) = newest_number(store, prefix).await? else { return Ok(None) };
        if let Some(found) = read(number).await? {
            return Ok(Some(found));
        }
    }
    Err(StoreError::Missing { object: prefix.render() })
}

/// The number of the root that sorts first. A foreign object may stand before it, such as the `.DS_Store` that a Mac leaves in
/// a directory that somebody has looked at; then it takes a whole listing.
async fn newest_number(store: &Store, prefix: &KeyPrefix) -> Result<Option<u64>, StoreError> {
    let number = |listed: &Listed| listed.key.as_ref().and_then(number_of);
    let Some(first) = store.first(prefix).await? else { return Ok(None) };
    match number(&first) {
        Some(newest) => Ok(Some(newest)),
        None => Ok(store.list(prefix).await?.iter().find_map(number)),
    }
}
