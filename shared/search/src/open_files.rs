//! The segment files that an engine has open, so that those which no search uses can be closed for others.
//!
//! An open file is mapped, and its local copy is held in the cache, which never removes what is held. Owns
//! `idle-files-give-way`: before a file is opened, files that no search uses are closed, least recently used first, as far as
//! what is open would not fit the cache otherwise. Files in use stay open, also when together they do not fit. Files of a store
//! in a local directory cost no space and do not count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::generation::SegmentFile;

/// What is open in one engine.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    bytes_max: u64,
    /// Of files that are open or being opened.
    bytes: AtomicU64,
    /// Counts uses; orders files by the last one.
    uses: AtomicU64,
    /// Files that were opened; some have been closed since, or are gone.
    files: Mutex<Vec<Weak<SegmentFile>>>,
}

/// The space of one file. It is given back with this.
#[derive(Debug)]
pub(crate) struct Space {
    files: Arc<OpenFiles>,
    bytes: u64,
}

impl Drop for Space {
    fn drop(&mut self) {
        self.files.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl OpenFiles {
    /// None are open.
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, bytes: AtomicU64::new(0), uses: AtomicU64::new(0), files: Mutex::default() }
    }

    /// The number of a use that happens now.
    pub(crate) fn next_use(&self) -> u64 {
        self.uses.fetch_add(1, Ordering::Relaxed)
    }

    /// Space for a file that is about to be opened: closes what is idle, if need be.
    pub(crate) fn make_room(self: &Arc<Self>, bytes: u64) -> Space {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let space = Space { files: Arc::clone(self), bytes };
        if self.is_full() {
            self.close_idle();
        }
        space
    }

    /// Notes a file that has been opened.
    pub(crate) fn add(&self, file: &Arc<SegmentFile>) {
        self.files.lock().push(Arc::downgrade(file));
    }

    fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.bytes_max
    }

    /// Closes idle files, least recently used first, until the rest fits or none is idle.
    fn close_idle(&self) {
        let mut files = self.files.lock();
        let mut open: Vec<_> =
            files.drain(..).filter_map(|file| file.upgrade()).filter(|file| file.is_open()).collect();
        open.sort_by_cached_key(|file| file.last_use());
        open.retain(|file| !(self.is_full() && file.close_if_idle()));
        files.extend(open.iter().map(Arc::downgrade));
    }
}
