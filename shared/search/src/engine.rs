//! The engine: one per process, cheap to clone.
//!
//! A search is: a snapshot that is fresh enough, a plan, the files that the plan needs, and one job on the pool that
//! computes the answer. Owns `answers-are-whole`: a failure of any part is an error that names it; an answer leaves rows out
//! only at a deadline, and then its coverage says so.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use parking_lot::RwLock;
use tarn_model::{Attributes, DataSource, Index, IndexId};
use tarn_segment::{Effort, Query, Segment};
use tarn_store::{SegmentCache, Store, StoreError};

use crate::describe::{self, IndexDescription};
use crate::error::SearchError;
use crate::execute::{self, NamedFilter};
use crate::filter::FilterCache;
use crate::generation::Files;
use crate::plan::{Origin, Unit, plan};
use crate::points::{self, PointsPage, PointsRequest};
use crate::pool::Pool;
use crate::reader::Reader;
use crate::request::{Consistency, SearchRequest, SearchResponse, Timings};
use crate::settings::EngineSettings;
use crate::snapshot::Snapshot;
use crate::splits::SplitFilter;
use crate::validate::{check_points, check_search};

/// Files fetched and opened at once for one search.
const OPENS_AT_ONCE: usize = 8;
/// How often a search begins anew because garbage collection overtook its snapshot.
const ATTEMPTS: usize = 3;

/// Answers queries over the indices of one store. Clones share everything.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    files: Files,
    settings: Arc<EngineSettings>,
    filters: Arc<FilterCache>,
    readers: RwLock<HashMap<IndexId, Arc<Reader>>>,
}

/// A planned unit with its file, when it has one.
type OpenUnit = (Unit, Option<Arc<Segment>>);

impl Engine {
    /// Starts the thread pool and opens the local cache. No request to the store.
    ///
    /// # Errors
    /// [`SearchError::Internal`] when threads cannot be started, [`SearchError::Store`] when the cache directory is unusable.
    pub fn new(store: Store, settings: EngineSettings) -> Result<Self, SearchError> {
        let cache = Arc::new(SegmentCache::new(&settings.cache_dir, settings.cache_bytes, store.clone())?);
        let files = Files { store, cache, pool: Pool::new(settings.threads)? };
        let filters = Arc::new(FilterCache::new(settings.filter_cache_bytes));
        let inner = Inner { files, settings: Arc::new(settings), filters, readers: RwLock::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The store that is searched.
    pub fn store(&self) -> &Store {
        &self.inner.files.store
    }

    /// The definition of an index and of its data source, at most [`EngineSettings::definition_max_age`] old.
    ///
    /// # Errors
    /// [`SearchError::IndexNotFound`].
    pub async fn index(&self, id: &IndexId) -> Result<(Arc<Index>, Arc<DataSource>), SearchError> {
        let reader = self.reader(id);
        let definition = self.known(id, reader.definition().await)?;
        Ok((Arc::clone(&definition.index), Arc::clone(&definition.source)))
    }

    /// Finds the nearest points.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub async fn search(&self, id: &IndexId, request: SearchRequest) -> Result<SearchResponse, SearchError> {
        let began = self.monotonic();
        let reader = self.reader(id);
        let definition = self.known(id, reader.definition_for(request.consistency).await)?;
        check_search(&request, &definition)?;
        let request = Arc::new(request);
        let mut attempt = 1;
        loop {
            let look = reader.snapshot(request.consistency, request.min_version.as_ref());
            let snapshot = self.known(id, look.await)?;
            if !Arc::ptr_eq(&snapshot.definition, &definition) {
                // Deleted and created anew since the check.
                check_search(&request, &snapshot.definition)?;
            }
            match self.search_snapshot(&snapshot, &request, began).await {
                Err(SearchError::Store(StoreError::Missing { .. })) if attempt < ATTEMPTS => {
                    // A file was collected: the snapshot was older than gc's grace period.
                    reader.distrust();
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    async fn search_snapshot(
        &self,
        snapshot: &Arc<Snapshot>,
        request: &Arc<SearchRequest>,
        began: Duration,
    ) -> Result<SearchResponse, SearchError> {
        let units = self.plan(snapshot, &request.split_filter).await?;
        let units = self.open(snapshot, units).await?;
        let ready = self.monotonic();
        let job = {
            let (snapshot, request) = (Arc::clone(snapshot), Arc::clone(request));
            let (inner, deadline) =
                (Arc::clone(&self.inner), request.deadline.and_then(|deadline| began.checked_add(deadline)));
            move |abandoned: &crate::pool::Abandoned| {
                let clock = inner.files.store.clock();
                let stop = || abandoned.is_set() || deadline.is_some_and(|deadline| clock.monotonic() >= deadline);
                answer(&inner, &snapshot, &request, units, &stop)
            }
        };
        let mut response = self.inner.files.pool.run(job).await?;
        response.timings.snapshot = ready.saturating_sub(began);
        Ok(response)
    }

    /// Live points of the index, the tail included.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub async fn count(&self, id: &IndexId, consistency: Consistency) -> Result<u64, SearchError> {
        let snapshot = self.snapshot(id, consistency).await?;
        Ok(self.live_rows(&snapshot).await?.total)
    }

    /// What the index consists of, now. `splits` bounds how many splits are described.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub async fn describe(&self, id: &IndexId, splits: usize) -> Result<IndexDescription, SearchError> {
        let snapshot = self.snapshot(id, Consistency::Strong).await?;
        let live = self.live_rows(&snapshot).await?;
        let lag_ms = describe::lag_ms(&self.inner.files.store, &snapshot).await?;
        self.inner.files.pool.run(move |_| describe::describe(&snapshot, &live, lag_ms, splits)).await
    }

    /// A page of live points in the order of their keys.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub async fn points(&self, id: &IndexId, request: PointsRequest) -> Result<PointsPage, SearchError> {
        let definition = self.known(id, self.reader(id).definition_for(request.consistency).await)?;
        check_points(&request, &definition)?;
        let snapshot = self.snapshot(id, request.consistency).await?;
        let units = self.plan(&snapshot, &request.split_filter).await?;
        let units = self.open(&snapshot, units).await?;
        let filters = Arc::clone(&self.inner.filters);
        self.inner.files.pool.run(move |abandoned| points::page(&snapshot, units, request, &filters, abandoned)).await
    }

    /// Fetches and opens every file of the index's newest generation.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub async fn warm(&self, id: &IndexId) -> Result<(), SearchError> {
        let snapshot = self.snapshot(id, Consistency::Strong).await?;
        let units = self.plan(&snapshot, &Attributes::new()).await?;
        self.open(&snapshot, units).await?;
        Ok(())
    }

    /// Lets go of an index: unpins its files and forgets its definition. Searches under way finish.
    pub fn forget(&self, id: &IndexId) {
        self.inner.readers.write().remove(id);
    }

    async fn snapshot(&self, id: &IndexId, consistency: Consistency) -> Result<Arc<Snapshot>, SearchError> {
        let snapshot = self.reader(id).snapshot(consistency, None).await;
        self.known(id, snapshot)
    }

    fn reader(&self, id: &IndexId) -> Arc<Reader> {
        if let Some(reader) = self.inner.readers.read().get(id) {
            return Arc::clone(reader);
        }
        let new = || Reader::new(id.clone(), self.inner.files.clone(), Arc::clone(&self.inner.settings));
        Arc::clone(self.inner.readers.write().entry(id.clone()).or_insert_with(|| Arc::new(new())))
    }

    /// Drops the reader of an index that does not exist, so that asking for random names does not fill the memory.
    fn known<T>(&self, id: &IndexId, result: Result<T, SearchError>) -> Result<T, SearchError> {
        if let Err(SearchError::IndexNotFound(_) | SearchError::SourceNotFound(_)) = &result {
            self.forget(id);
        }
        result
    }

    /// Plans a search. A plan that has to look at every split is made on the pool.
    async fn plan(&self, snapshot: &Arc<Snapshot>, split_filter: &Attributes) -> Result<Vec<Unit>, SearchError> {
        let filter = SplitFilter::new(split_filter, &snapshot.definition);
        if !filter.scans() {
            return Ok(plan(snapshot, split_filter, &filter));
        }
        let (snapshot, split_filter) = (Arc::clone(snapshot), split_filter.clone());
        self.inner.files.pool.run(move |_| Ok(plan(&snapshot, &split_filter, &filter))).await
    }

    /// Opens the files of a plan's units.
    async fn open(&self, snapshot: &Arc<Snapshot>, units: Vec<Unit>) -> Result<Vec<OpenUnit>, SearchError> {
        // The usual case: everything is open, nothing to wait for.
        let mut open = Vec::with_capacity(units.len());
        let mut closed = Vec::new();
        for unit in units {
            match unit.origin {
                Origin::Tail(_) => open.push((unit, None)),
                Origin::Base { shard, segment } => match snapshot.base(shard, segment).and_then(|base| base.opened()) {
                    Some(segment) => open.push((unit, Some(segment))),
                    None => closed.push((unit, shard, segment)),
                },
            }
        }
        if closed.is_empty() {
            return Ok(open);
        }
        let opening = futures::stream::iter(closed).map(|(unit, shard, segment)| async move {
            let base = snapshot.base(shard, segment);
            let base = base.ok_or_else(|| SearchError::Internal(format!("no segment {segment} in shard {shard}")))?;
            let segment = base.open(&self.inner.files, &snapshot.definition).await?;
            Ok::<OpenUnit, SearchError>((unit, Some(segment)))
        });
        let opened: Vec<OpenUnit> = opening.buffer_unordered(OPENS_AT_ONCE).try_collect().await?;
        open.extend(opened);
        Ok(open)
    }

    /// Counts live rows. Opens only the files whose splits the tail touches: the others' counts are in the catalog.
    async fn live_rows(&self, snapshot: &Arc<Snapshot>) -> Result<describe::LiveRows, SearchError> {
        let touched = snapshot
            .touched()
            .into_iter()
            .map(|(shard, segment)| Unit { origin: Origin::Base { shard, segment }, ranges: Vec::new() });
        let open = self.open(snapshot, touched.collect()).await?;
        let snapshot = Arc::clone(snapshot);
        self.inner.files.pool.run(move |_| Ok(describe::live_rows(&snapshot, &open))).await
    }

    fn monotonic(&self) -> Duration {
        self.inner.files.store.clock().monotonic()
    }
}

/// The part of a search that computes.
fn answer(
    inner: &Inner,
    snapshot: &Arc<Snapshot>,
    request: &SearchRequest,
    units: Vec<OpenUnit>,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<SearchResponse, SearchError> {
    let clock = inner.files.store.clock();
    let began = clock.monotonic();
    let definition = &snapshot.definition;
    let metric = definition.index.algorithm.metric;
    let queries = request.queries.iter().map(|vector| Query::new(metric, vector)).collect::<Result<Vec<_>, _>>();
    let queries = queries.map_err(|error| SearchError::Internal(error.to_string()))?;
    let filter = request.filter.clone().map(NamedFilter::new);
    let units = execute::prepare(snapshot, units, filter.as_ref(), &inner.filters)?;
    let effort = match (request.exact, request.ef_search) {
        (true, _) => Effort::Exact,
        (false, Some(ef)) => Effort::Ef(ef),
        (false, None) => Effort::Recall(request.target_recall.unwrap_or(SearchRequest::DEFAULT_RECALL)),
    };
    let threads = inner.files.pool.threads();
    let merged = execute::search(&units, &queries, request.k as usize, effort, threads, stop)?;
    let searched = clock.monotonic();
    let columns: Vec<(String, usize)> = match &request.attributes {
        None => definition.wire_order.clone(),
        Some(names) => definition.wire_order.iter().filter(|(name, _)| names.contains(name)).cloned().collect(),
    };
    let found = |candidates: &Vec<_>| execute::fetch(snapshot, &units, candidates, &columns, request.retrieve_vectors);
    let results = merged.candidates.iter().map(found).collect::<Result<Vec<_>, _>>()?;
    let fetched = clock.monotonic();
    Ok(SearchResponse {
        results,
        coverage: if merged.allowed == 0 { 1.0 } else { merged.considered as f64 / merged.allowed as f64 },
        version: snapshot.version(),
        generation: snapshot.generation.number(),
        timings: Timings {
            snapshot: Duration::ZERO,
            search: searched.saturating_sub(began),
            fetch: fetched.saturating_sub(searched),
        },
    })
}
