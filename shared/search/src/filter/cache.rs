//! Bitmaps of filters over whole segments, least recently used dropped first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use roaring::RoaringBitmap;

/// A segment's number within the process, and the filter as text.
type Key = (u64, Arc<str>);

/// A bound on bytes, an order of use, and what is kept.
pub(crate) struct FilterCache {
    max_bytes: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<Key, Entry>,
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
}

struct Entry {
    rows: Arc<RoaringBitmap>,
    bytes: usize,
    used: u64,
}

impl FilterCache {
    /// Keeps at most this many bytes, keys included.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, inner: Mutex::default() }
    }

    /// The bitmap of a filter over a segment. Two callers at once may both compute it; the segment is immutable, so both
    /// are right.
    pub(crate) fn get_or_compute(
        &self,
        segment: u64,
        filter: &Arc<str>,
        compute: impl FnOnce() -> RoaringBitmap,
    ) -> Arc<RoaringBitmap> {
        let key = (segment, Arc::clone(filter));
        if let Some(rows) = self.get(&key) {
            return rows;
        }
        let rows = Arc::new(compute());
        self.put(key, Arc::clone(&rows));
        rows
    }

    /// The bitmap of a filter over a segment, if it is known.
    pub(crate) fn find(&self, segment: u64, filter: &Arc<str>) -> Option<Arc<RoaringBitmap>> {
        self.get(&(segment, Arc::clone(filter)))
    }

    fn get(&self, key: &Key) -> Option<Arc<RoaringBitmap>> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let entry = inner.entries.get_mut(key)?;
        inner.uses += 1;
        if let Some(key) = inner.by_use.remove(&entry.used) {
            inner.by_use.insert(inner.uses, key);
        }
        entry.used = inner.uses;
        Some(Arc::clone(&entry.rows))
    }

    /// Keeps the bitmap of a filter over a segment.
    pub(crate) fn keep(&self, segment: u64, filter: &Arc<str>, rows: Arc<RoaringBitmap>) {
        self.put((segment, Arc::clone(filter)), rows);
    }

    fn put(&self, key: Key, rows: Arc<RoaringBitmap>) {
        let bytes = rows.serialized_size() + key.1.len() + 128;
        if bytes > self.max_bytes {
            return;
        }
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        inner.uses += 1;
        let used = inner.uses;
        if let Some(old) = inner.entries.insert(key.clone(), Entry { rows, bytes, used }) {
            inner.by_use.remove(&old.used);
            inner.bytes -= old.bytes;
        }
        inner.by_use.insert(used, key);
        inner.bytes += bytes;
        while inner.bytes > self.max_bytes {
            let Some((_, oldest)) = inner.by_use.pop_first() else { break };
            if let Some(entry) = inner.entries.remove(&oldest) {
                inner.bytes -= entry.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_the_least_recently_used_and_stays_in_bounds() {
        let rows = |n: u32| (0..n * 64).step_by(2).collect::<RoaringBitmap>();
        let size = rows(16).serialized_size() + 1 + 128;
        let cache = FilterCache::new(size * 2);
        let filter: Arc<str> = "f".into();
        let mut computed = 0;
        let mut ask = |segment: u64| {
            let mut miss = false;
            cache.get_or_compute(segment, &filter, || {
                miss = true;
                rows(16)
            });
            computed += usize::from(miss);
            miss
        };
        assert!(ask(1));
        assert!(ask(2));
        assert!(!ask(1));
        assert!(ask(3), "3 is new and pushes out 2, the least recently used");
        assert!(!ask(1));
        assert!(ask(2));
        assert!(cache.inner.lock().bytes <= size * 2);
        assert_eq!(computed, 4);
    }

    #[test]
    fn a_bitmap_larger_than_the_cache_is_computed_and_not_kept() {
        let cache = FilterCache::new(10);
        let filter: Arc<str> = "f".into();
        let rows = cache.get_or_compute(1, &filter, || (0..1000).collect());
        assert_eq!(rows.len(), 1000);
        assert!(cache.inner.lock().entries.is_empty());
    }
}
