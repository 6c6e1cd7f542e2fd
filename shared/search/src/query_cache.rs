//! Answers that were given before, kept as long as nothing has changed.
//!
//! Owns `cached-answers-are-current`: an answer is given again only for the very snapshot that it was computed against. A search looks
//! for what is current first, as always; when the generation or the tail is another than the last answer's, all answers of the index
//! are dropped at once. What is spared is the computing, and the requests of a search that reads ranges; not the look.
//!
//! Not kept: what a deadline cut short, what was to be explained, and answers of data sources whose points expire, for those change
//! without anything being written.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tarn_model::{AttributeValue, IndexId, Vector};

use crate::generation::Generation;
use crate::request::{Consistency, SearchRequest, SearchResponse};
use crate::snapshot::Snapshot;
use crate::tail::Tail;

/// A search, as text: everything of it that its answer depends on.
pub(crate) type QueryKey = Arc<[u8]>;

/// See the module.
pub(crate) struct QueryCache {
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    indices: HashMap<IndexId, OfIndex>,
    by_use: BTreeMap<u64, (IndexId, QueryKey)>,
    uses: u64,
    bytes: usize,
    hits: u64,
    misses: u64,
}

/// The answers of one index's current snapshot.
struct OfIndex {
    generation: Weak<Generation>,
    tail: Weak<Tail>,
    answers: HashMap<QueryKey, Kept>,
}

struct Kept {
    answer: Arc<SearchResponse>,
    bytes: usize,
    used: u64,
}

impl OfIndex {
    fn is_of(&self, snapshot: &Snapshot) -> bool {
        // A weak reference keeps the address from being used again: equal addresses are equal objects.
        std::ptr::eq(self.generation.as_ptr(), Arc::as_ptr(&snapshot.generation))
            && std::ptr::eq(self.tail.as_ptr(), Arc::as_ptr(&snapshot.tail))
    }

    /// Whether a search that began earlier, on a snapshot that is past, must not displace these.
    fn is_newer_than(&self, snapshot: &Snapshot) -> bool {
        match (self.generation.upgrade(), self.tail.upgrade()) {
            (Some(generation), Some(tail)) => {
                (generation.number(), tail.head()) > (snapshot.generation.number(), snapshot.tail.head())
            }
            _ => false,
        }
    }
}

impl QueryCache {
    /// Keeps at most this many bytes; 0: nothing.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, inner: Mutex::default() }
    }

    /// What the request is called here. `None`: its answer is not kept.
    pub(crate) fn key(&self, request: &SearchRequest) -> Option<QueryKey> {
        let lasts = request.alive_at.is_none() && request.as_of.is_none();
        if self.bytes_max == 0 || request.explain || request.shape.is_some() || !lasts {
            return None;
        }
        // How fresh the snapshot must be was decided when it was pinned; and what a deadline cut short is not kept.
        let asked =
            SearchRequest { consistency: Consistency::Strong, min_version: None, deadline: None, ..request.clone() };
        serde_json::to_vec(&asked).ok().map(Into::into)
    }

    /// The answer to a search of this snapshot, if it is known.
    pub(crate) fn find(&self, id: &IndexId, snapshot: &Snapshot, key: &QueryKey) -> Option<Arc<SearchResponse>> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let of_index = inner.indices.get_mut(id).filter(|of_index| of_index.is_of(snapshot));
        let Some(kept) = of_index.and_then(|of_index| of_index.answers.get_mut(key)) else {
            inner.misses += 1;
            return None;
        };
        inner.hits += 1;
        inner.uses += 1;
        if let Some(name) = inner.by_use.remove(&kept.used) {
            inner.by_use.insert(inner.uses, name);
        }
        kept.used = inner.uses;
        Some(Arc::clone(&kept.answer))
    }

    /// Keeps an answer, if it is whole.
    pub(crate) fn put(&self, id: &IndexId, snapshot: &Snapshot, key: QueryKey, answer: &SearchResponse) {
        let bytes = key.len() * 2 + bytes_of(answer);
        if answer.coverage < 1.0 || !answer.failures.is_empty() || bytes > self.bytes_max {
            return;
        }
        let answer = Arc::new(answer.clone());
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if inner.indices.get(id).is_some_and(|of_index| of_index.is_newer_than(snapshot)) {
            return;
        }
        if !inner.indices.get(id).is_some_and(|of_index| of_index.is_of(snapshot)) {
            inner.forget(id);
        }
        inner.uses += 1;
        let used = inner.uses;
        let of_index = inner.indices.entry(id.clone()).or_insert_with(|| OfIndex {
            generation: Arc::downgrade(&snapshot.generation),
            tail: Arc::downgrade(&snapshot.tail),
            answers: HashMap::new(),
        });
        if let Some(old) = of_index.answers.insert(Arc::clone(&key), Kept { answer, bytes, used }) {
            inner.by_use.remove(&old.used);
            inner.bytes -= old.bytes;
        }
        inner.by_use.insert(used, (id.clone(), key));
        inner.bytes += bytes;
        while inner.bytes > self.bytes_max {
            let Some((_, (id, key))) = inner.by_use.pop_first() else { break };
            if let Some(kept) = inner.indices.get_mut(&id).and_then(|of_index| of_index.answers.remove(&key)) {
                inner.bytes -= kept.bytes;
            }
        }
    }

    /// Drops the answers of an index.
    pub(crate) fn forget(&self, id: &IndexId) {
        self.inner.lock().forget(id);
    }

    /// Searches that found their answer, and those that did not.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        (inner.hits, inner.misses)
    }
}

impl Inner {
    fn forget(&mut self, id: &IndexId) {
        let Some(of_index) = self.indices.remove(id) else { return };
        for kept in of_index.answers.values() {
            self.by_use.remove(&kept.used);
            self.bytes -= kept.bytes;
        }
    }
}

/// The memory that an answer takes, roughly.
fn bytes_of(answer: &SearchResponse) -> usize {
    let value = |value: &AttributeValue| match value {
        AttributeValue::String(text) => text.len(),
        _ => 0,
    };
    let vector = |vector: &Vector| match vector {
        Vector::Dense(values) => values.len() * size_of::<f32>(),
        Vector::Sparse(sparse) => sparse.indices.len() * (size_of::<u32>() + size_of::<f64>()),
    };
    let found = answer.results.iter().flatten().map(|found| {
        let attributes = found.attributes.iter().map(|(name, held)| 80 + name.len() + value(held));
        96 + attributes.sum::<usize>() + found.vector.as_ref().map_or(0, vector)
    });
    size_of::<SearchResponse>() + found.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use tarn_testkit::Scenario;

    use super::*;
    use crate::definition::Definition;
    use crate::leaf::LeafWork;
    use crate::ranking::Ranked;
    use crate::request::Timings;

    fn answer(generation: u64) -> SearchResponse {
        SearchResponse {
            results: Vec::new(),
            coverage: 1.0,
            failures: Vec::new(),
            version: tarn_model::ReadToken::single(0),
            generation,
            timings: Timings::default(),
            spent: tarn_store::Spent::default(),
            leaves: LeafWork::default(),
            segments: Vec::new(),
            ranked: Ranked { score: None, higher_is_better: false, by_index: true },
            groups: None,
            stored: Vec::new(),
        }
    }

    #[test]
    fn a_search_that_began_earlier_does_not_displace_the_answers_of_a_newer_snapshot() {
        let scenario = Scenario::dense();
        let (index, source) = (Arc::clone(&scenario.indices[0]), Arc::clone(&scenario.source));
        let id = index.id.clone();
        let definition = Arc::new(Definition::new(index, source));
        let generation = Arc::new(Generation::unbuilt(&definition));
        let at = |head| Snapshot::new(Arc::clone(&definition), Arc::clone(&generation), Arc::new(Tail::empty(head)));
        let (older, newer, newest) = (at(4), at(5), at(6));
        let cache = QueryCache::new(1 << 20);
        let key: QueryKey = Arc::from(&b"asked"[..]);
        let put = |snapshot, says| cache.put(&id, snapshot, Arc::clone(&key), &answer(says));
        let found = |snapshot| cache.find(&id, snapshot, &key).map(|answer| answer.generation);
        put(&newer, 1);
        put(&older, 2);
        assert_eq!((found(&newer), found(&older)), (Some(1), None));
        put(&newest, 3);
        assert_eq!((found(&newest), found(&newer)), (Some(3), None));
    }
}
