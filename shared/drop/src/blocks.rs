//! A dropped file as blocking readers see it: ranges of one version, a block at a time.
//!
//! Decoders of files are blocking code; they run on a thread for that, and wait for the store here. A file that changes under
//! their hands and a store that fails are told apart from faults of the file: whoever gets an error from a decoder asks
//! [`Remote::failure`] first.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tarn_model::ObjectKey;
use tarn_store::{ObjectVersion, Store};
use tokio::runtime::Handle;

use crate::error::DropError;

/// One version of a file in the store. Clones share the failure.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    key: ObjectKey,
    version: ObjectVersion,
    /// Whether to read it although another version may be current.
    named: bool,
    block_bytes: u64,
    runtime: Handle,
    failure: Mutex<Option<DropError>>,
}

impl Remote {
    /// Must be called on the runtime that the store belongs to.
    pub(crate) fn new(store: Store, key: ObjectKey, version: ObjectVersion, named: bool, block_bytes: u64) -> Self {
        let (runtime, failure) = (Handle::current(), Mutex::default());
        Self {
            inner: Arc::new(Inner { store, key, version, named, block_bytes: block_bytes.max(1), runtime, failure }),
        }
    }

    /// The file's length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.inner.version.bytes
    }

    pub(crate) fn block_bytes(&self) -> u64 {
        self.inner.block_bytes
    }

    /// Why the last read failed, if it was not the file's fault.
    pub(crate) fn failure(&self) -> Option<DropError> {
        self.inner.failure.lock().take()
    }

    /// Reads a range that is cut off at the end of the file. Blocks.
    pub(crate) fn range(&self, start: u64, bytes: u64) -> io::Result<Bytes> {
        let inner = &self.inner;
        let end = start.saturating_add(bytes).min(self.len());
        let read = inner.store.get_version_range(&inner.key, &inner.version, inner.named, start.min(end)..end);
        let error = match inner.runtime.block_on(read) {
            Ok(Some(bytes)) => return Ok(bytes),
            Ok(None) => DropError::Changed { key: inner.key.render() },
            Err(error) => error.into(),
        };
        *inner.failure.lock() = Some(error);
        Err(io::Error::other("the store failed"))
    }

    /// The bytes from an offset to the end.
    pub(crate) fn from(&self, offset: u64) -> RemoteRead {
        RemoteRead { remote: self.clone(), at: offset, block: Bytes::new() }
    }
}

/// Reads a file from front to back.
#[derive(Debug)]
pub(crate) struct RemoteRead {
    remote: Remote,
    at: u64,
    block: Bytes,
}

impl Read for RemoteRead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.block.is_empty() && !out.is_empty() {
            // What was read is given back before more is asked for.
            self.block = Bytes::new();
            self.block = self.remote.range(self.at, self.remote.block_bytes())?;
            self.at += self.block.len() as u64;
        }
        let count = out.len().min(self.block.len());
        self.block.copy_to_slice(&mut out[..count]);
        Ok(count)
    }
}
