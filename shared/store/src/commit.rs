//! The one commit primitive: create an object if it is absent, and know for certain who created it.
//!
//! Owns `commits-are-created-once`: for a key, [`Created::Ours`] is reported to one writer alone, and only for bytes that
//! are stored under the key. A put can fail and still take effect: its response is lost, it times out on the way, a proxy
//! answers 5xx after the server stored it, or the client library retries it and then collides with itself. So no failure
//! and no `AlreadyExists` is believed: the object is put again until it exists, then read, and its body says whose it is.
//!
//! Putting again, rather than reading, is what settles a put that is still on its way: once the key exists, the late one
//! can only lose. On disk it has one more purpose: an `AlreadyExists` there comes after the directory is synced, so that
//! what `Ours` reports is durable even when the first try failed between link and sync.
//!
//! Not promised: that a key which garbage collection deleted is not created anew. The writers of numbered objects re-read
//! the boundary after they commit; see `Boundary` in tarn-model.

use std::sync::Arc;

use bytes::Bytes;
use object_store::{Error as Below, PutMode, PutOptions, PutPayload};
use tarn_model::ObjectKey;

use crate::backoff::BackoffPolicy;
use crate::disk;
use crate::error::{Cause, StoreError};
use crate::store::Store;

/// Who created the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// This call did; it is durable.
    Ours,
    /// Somebody else did, with these bytes; nothing of ours was or will be stored under the key.
    Taken(Bytes),
}

impl Store {
    /// Creates `key` if it is absent. `is_ours` tells our bytes from those of another writer, usually by a commit id in
    /// them; it must hold for `bytes` and for nobody else's.
    ///
    /// One put when nobody contends and nothing fails. On `Ok` the outcome is certain and, when ours, durable.
    ///
    /// # Errors
    /// [`StoreError::Ambiguous`] when the store failed for so long that what is durable is unknown.
    /// [`StoreError::Denied`] and [`StoreError::Config`]: it was not written and never will be.
    pub async fn create(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        is_ours: impl Fn(&Bytes) -> bool,
    ) -> Result<Created, StoreError> {
        debug_assert!(is_ours(&bytes), "is_ours must recognise the bytes that are to be written");
        let path = self.path(key);
        let mut backoff = self.backoff(BackoffPolicy::default());
        // Whether an earlier put may have taken effect, so that a refusal of a later one settles nothing.
        let mut in_doubt = false;
        loop {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let payload = PutPayload::from_bytes(bytes.clone());
            let cause: Cause = match self.object_store().put_opts(&path, payload, options).await {
                Ok(_) => return Ok(Created::Ours),
                Err(Below::AlreadyExists { .. } | Below::Precondition { .. }) => match self.get(key).await {
                    Ok(Some(found)) if is_ours(&found) => return Ok(Created::Ours),
                    Ok(Some(found)) => return Ok(Created::Taken(found)),
                    // Two racing creates may both be refused (S3's 409), and the other may be an earlier try of the client
                    // library's own, still on its way; or the object was deleted in between.
                    Ok(None) => {
                        in_doubt = true;
                        Arc::new(Vanished)
                    }
                    Err(error) => {
                        in_doubt = true;
                        Arc::new(error)
                    }
                },
                Err(error) => {
                    let harmless = disk::not_applied(&error);
                    match StoreError::from_below("create", path.as_ref(), error) {
                        StoreError::Unavailable { cause, .. } => {
                            in_doubt |= !harmless;
                            cause
                        }
                        certain if !in_doubt => return Err(certain),
                        certain => Arc::new(certain),
                    }
                }
            };
            match backoff.next_wait() {
                Some(wait) => {
                    tracing::debug!(key = %path, attempt = backoff.taken(), %cause, "create again");
                    self.clock().sleep(wait).await;
                }
                None if in_doubt => {
                    return Err(StoreError::Ambiguous {
                        object: path.to_string(),
                        attempts: backoff.taken() + 1,
                        cause,
                    });
                }
                None => return Err(StoreError::Unavailable { operation: "create", object: path.to_string(), cause }),
            }
        }
    }
}

/// The store says that the object exists, and that it does not.
#[derive(Debug, thiserror::Error)]
#[error("the store refused to create the object because it exists, but it cannot be read")]
struct Vanished;
