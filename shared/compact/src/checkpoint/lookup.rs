//! Finds the rows of changed points in existing data files by reading their key columns.
//!
//! Memory holds a bounded set of changed keys at a time; when more have changed, the key columns are read again for the
//! next part. Nothing is believed of hashes: keys are compared.

use std::collections::HashSet;
use std::path::Path;

use roaring::RoaringBitmap;

use crate::error::CompactError;
use crate::rows::read_keys;

/// What a key takes in the set besides its bytes, about.
const ENTRY_BYTES: u64 = 64;

/// Keys, up to a number of bytes.
pub(super) struct KeySet {
    keys: HashSet<Box<[u8]>>,
    bytes: u64,
    bytes_max: u64,
}

impl KeySet {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { keys: HashSet::new(), bytes: 0, bytes_max }
    }

    pub(super) fn insert(&mut self, key: &[u8]) {
        if self.keys.insert(key.into()) {
            self.bytes += key.len() as u64 + ENTRY_BYTES;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Look these up before more are added.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    /// The keys; the set is empty afterwards.
    pub(super) fn take(&mut self) -> Self {
        let bytes_max = self.bytes_max;
        std::mem::replace(self, Self::new(bytes_max))
    }

    /// The rows of a data file that have one of the keys.
    pub(super) fn rows_in(&self, path: &Path, name: &str) -> Result<RoaringBitmap, CompactError> {
        let mut found = RoaringBitmap::new();
        read_keys(path, name, |first, keys| {
            // Row numbers fit: `read_keys` has checked.
            let rows = (first..).zip(keys.iter());
            found.extend(rows.filter(|(_, key)| key.is_some_and(|key| self.keys.contains(key))).map(|(row, _)| row));
            Ok(())
        })?;
        Ok(found)
    }
}
