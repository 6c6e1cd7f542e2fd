//! The engine: one per process, cheap to clone.
//!
//! A search is: a snapshot that is fresh enough, a plan, the files that the plan needs, and one job on the pool that
//! computes the answer. With leaves, a search of many files is cut into groups of shards, and each leaf answers for one.
//! Owns `answers-are-whole`: a failure of any part is an error that names it; an answer leaves rows out only at a deadline, and
//! then its coverage says so.

mod ahead;
mod cold;
mod hydrate;
mod pinned;
mod recall;
mod rows;
mod scatter;
mod shaped;

pub use hydrate::EngineStats;

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::{BoxFuture, Either, select, try_join};
use futures::{FutureExt, StreamExt, TryStreamExt};
use parking_lot::{Mutex, RwLock};
use tarn_model::{Attributes, DataSource, Index, IndexId};
use tarn_segment::{Query, Segment};
use tarn_store::{Meter, SegmentCache, Store};

use self::ahead::Ahead;
use self::cold::ReadUnit;
use self::hydrate::{BACKGROUND_FILES, Missed, Stats};
use crate::cold::ColdFiles;
use crate::definition::Definition;
use crate::describe::{self, IndexDescription};
use crate::error::SearchError;
use crate::execute::{self, Asked, NamedFilter, Wanted};
use crate::filter::FilterCache;
use crate::generation::Files;
use crate::group::groups;
use crate::leaf::{LeafAnswer, LeafRequest, LeafSearch, LeafWork, merge};
use crate::open_files::OpenFiles;
use crate::plan::{Origin, Part, Unit, more_for_its_bytes, plan};
use crate::points::{self, PointsPage, PointsRequest};
use crate::pool::{Abandoned, Pool};
use crate::query_cache::QueryCache;
use crate::reader::{Reader, State};
use crate::recall::Monitor;
use crate::receipt::{CacheState, SegmentPlan, SegmentReceipt};
use crate::request::{Consistency, Found, GroupFailure, SearchRequest, SearchResponse, Timings};
use crate::settings::EngineSettings;
use crate::snapshot::Snapshot;
use crate::splits::SplitFilter;
use crate::turns::{Turn, Turns};
use crate::validate::{check_points, check_search};

/// Files fetched and opened at once for one search.
const OPENS_AT_ONCE: usize = 8;

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
    leaves: Option<Arc<dyn LeafSearch>>,
    /// Of each index, the files that its last searches did without.
    missed: Mutex<HashMap<IndexId, Missed>>,
    /// Taken by whoever fetches a file in the background.
    hydrations: tokio::sync::Semaphore,
    stats: Stats,
    queries: QueryCache,
    monitor: Option<Arc<Monitor>>,
}

/// A planned unit with its file, when it has one.
type OpenUnit = (Unit, Option<Arc<Segment>>);

/// What of a plan can be searched.
struct Opened {
    units: Vec<OpenUnit>,
    /// The first so many units were open already.
    at_hand: usize,
    /// Units whose files were not there in time.
    late: Vec<Unit>,
    /// Rows of these, live as far as the catalogs know.
    late_rows: u64,
}

impl Opened {
    /// How each unit comes to be searched, but for how: that is not known yet.
    fn receipts(&self, snapshot: &Snapshot, local: bool) -> Vec<SegmentReceipt> {
        let searched = self.units.iter().enumerate().map(|(place, (unit, _))| {
            let state = match unit.origin {
                Origin::Tail(_) => CacheState::Memory,
                Origin::Base { .. } if local || place < self.at_hand => CacheState::Mapped,
                Origin::Base { .. } => CacheState::Fetched,
            };
            SegmentReceipt::of(snapshot, unit, state)
        });
        searched.chain(self.late.iter().map(|unit| SegmentReceipt::of(snapshot, unit, CacheState::Missed))).collect()
    }
}

impl Engine {
    /// An engine that does everything itself. Starts the thread pool and opens the local cache. No request to the store.
    ///
    /// # Errors
    /// [`SearchError::Internal`] when threads cannot be started, [`SearchError::Store`] when the cache directory is unusable.
    pub fn new(store: Store, settings: EngineSettings) -> Result<Self, SearchError> {
        Self::start(store, settings, None)
    }

    /// An engine that asks leaves when a search is about more than [`EngineSettings::leaf_bytes`] of files. Everything but
    /// searches it does itself.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn with_leaves(
        store: Store,
        settings: EngineSettings,
        leaves: Arc<dyn LeafSearch>,
    ) -> Result<Self, SearchError> {
        Self::start(store, settings, Some(leaves))
    }

    fn start(store: Store, settings: EngineSettings, leaves: Option<Arc<dyn LeafSearch>>) -> Result<Self, SearchError> {
        let cache = Arc::new(SegmentCache::new(&settings.cache_dir, settings.cache_bytes, store.clone())?);
        let open = Arc::new(OpenFiles::new(settings.cache_bytes));
        let cold = Arc::new(ColdFiles::new(settings.cold.memory_bytes));
        let pool = Pool::new(settings.threads)?;
        let turns = Turns::new(pool.threads(), Arc::clone(store.clock()))?;
        let files = Files { store, cache, open, cold, pool, turns };
        let filters = Arc::new(FilterCache::new(settings.filter_cache_bytes));
        let (readers, missed) = (RwLock::default(), Mutex::default());
        let (hydrations, stats) = (tokio::sync::Semaphore::new(BACKGROUND_FILES), Stats::default());
        let queries = QueryCache::new(settings.query_cache_bytes);
        let monitor = Monitor::new(settings.recall_share)?.map(Arc::new);
        let settings = Arc::new(settings);
        let inner = Inner { files, settings, filters, readers, leaves, missed, hydrations, stats, queries, monitor };
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
        // What its caller has asked of the store before, such as the definition, is the search's too.
        let meter = Meter::current().unwrap_or_default();
        let mut response = meter.scope(self.search_metered(id, request)).await?;
        response.spent = meter.spent();
        Ok(response)
    }

    async fn search_metered(&self, id: &IndexId, mut request: SearchRequest) -> Result<SearchResponse, SearchError> {
        let began = self.monotonic();
        let _searching = self.inner.monitor.as_ref().map(|monitor| monitor.busy.enter());
        if let Some(shape) = request.shape.take() {
            return self.search_shaped(id, request, *shape, began).boxed().await;
        }
        let reader = self.reader(id);
        let definition = self.known(id, reader.definition_for(request.consistency).await)?;
        check_search(&request, &definition)?;
        if definition.source.policy.retention.is_some() {
            // One moment for everything that the search reads, also ahead of the snapshot and in leaves.
            request.alive_at.get_or_insert(self.now_micros());
        }
        let key = &self.inner.queries.key(&request);
        let (request, ahead) = (&Arc::new(request), &Ahead::default());
        let deadline = request.deadline.and_then(|deadline| began.checked_add(deadline));
        let (consistency, min_version) = (request.consistency, request.min_version.as_ref());
        let state = State { generation: request.as_of, consistency, min_version };
        let searching = self.on_state(id, state, |snapshot| {
            let definition = Arc::clone(&definition);
            async move {
                if !Arc::ptr_eq(&snapshot.definition, &definition) {
                    // Deleted and created anew since the check.
                    check_search(request, &snapshot.definition)?;
                }
                let snapshot = request.alive_at.map_or_else(|| Arc::clone(&snapshot), |now| snapshot.at_time(now));
                if let Some(kept) = key.as_ref().and_then(|key| self.inner.queries.find(id, &snapshot, key)) {
                    let timings = Timings { snapshot: self.monotonic().saturating_sub(began), ..Timings::default() };
                    return Ok(SearchResponse { timings, leaves: LeafWork::default(), ..(*kept).clone() });
                }
                let (answer, failures) = self.search_snapshot(&snapshot, request, began, deadline, ahead).await?;
                let response = respond(&snapshot, request, answer, failures);
                if let Some(key) = key {
                    self.inner.queries.put(id, &snapshot, Arc::clone(key), &response);
                }
                self.watch(&snapshot, request, &response);
                Ok(response)
            }
        });
        match select(pin!(searching), pin!(self.read_ahead(&reader, request, deadline, ahead))).await {
            Either::Left((answer, _)) => answer,
            Either::Right((never, _)) => match never {},
        }
    }

    async fn search_snapshot(
        &self,
        snapshot: &Arc<Snapshot>,
        request: &Arc<SearchRequest>,
        began: Duration,
        deadline: Option<Duration>,
        ahead: &Ahead,
    ) -> Result<(LeafAnswer, Vec<GroupFailure>), SearchError> {
        let ahead = ahead.end(snapshot);
        let alive;
        let request = match snapshot.moment().filter(|_| request.alive_at.is_none()) {
            // A round of a search in several: what it reads elsewhere must be as of the snapshot's moment too.
            Some(now) => {
                alive = Arc::new(SearchRequest { alive_at: Some(now), ..(**request).clone() });
                &alive
            }
            None => request,
        };
        let units = self.plan(snapshot, Part::Everything, &request.split_filter).await?;
        if let Some(leaves) = &self.inner.leaves {
            let settings = &self.inner.settings;
            let cut = groups(snapshot, &units, settings.leaf_bytes, settings.leaves_max);
            if cut.0.len() > 1 {
                let pinned = self.monotonic().saturating_sub(began);
                let (mut answer, failures) = self.scatter(&**leaves, snapshot, request, cut, deadline).await?;
                answer.timings.snapshot = pinned;
                return Ok((answer, failures));
            }
        }
        let pinned = self.monotonic().saturating_sub(began);
        let mut answer = match ahead {
            None => self.compute(snapshot, request, units, deadline).await?,
            Some(ahead) => {
                let others = ahead.others(units);
                self.compute_beside(snapshot, request, others, ahead.read().boxed(), deadline).await?
            }
        };
        answer.timings.snapshot = pinned;
        Ok((answer, Vec::new()))
    }

    /// A leaf's part of a search: the files of some shards, in exactly the snapshot that the root has pinned.
    ///
    /// # Errors
    /// See [`LeafSearch::search`].
    pub async fn search_leaf(&self, leaf: LeafRequest) -> Result<LeafAnswer, SearchError> {
        // Its own, also in the root's process: the root adds what the answer says.
        let (meter, began) = (Meter::new(), self.monotonic());
        let mut answer = meter.scope(self.search_leaf_metered(leaf)).await?;
        answer.spent = meter.spent();
        answer.leaves = LeafWork { answers: 1, time: self.monotonic().saturating_sub(began) };
        Ok(answer)
    }

    async fn search_leaf_metered(&self, leaf: LeafRequest) -> Result<LeafAnswer, SearchError> {
        let began = self.monotonic();
        let LeafRequest { index, source, pin, shards, search, remaining } = leaf;
        let deadline = remaining.and_then(|remaining| began.checked_add(remaining));
        let definition = Definition::new(Arc::new(index), Arc::new(source));
        check_search(&search, &definition)?;
        let position = |shard: &String| {
            let unknown = || SearchError::Internal(format!("a root asks for shard '{shard}', which the index has not"));
            definition.shard_position(shard).ok_or_else(unknown)
        };
        let shards = shards.iter().map(position).collect::<Result<BTreeSet<u32>, _>>()?;
        let reader = self.reader(&definition.index.id);
        let snapshot = reader.snapshot_at(definition, &pin, &shards).boxed().await?;
        let snapshot = search.alive_at.map_or_else(|| Arc::clone(&snapshot), |now| snapshot.at_time(now));
        let search = Arc::new(search);
        let units = self.plan(&snapshot, Part::Files(shards), &search.split_filter).await?;
        let pinned = self.monotonic().saturating_sub(began);
        let mut answer = self.compute(&snapshot, &search, units, deadline).await?;
        answer.timings.snapshot = pinned;
        Ok(answer)
    }

    /// Answers from files where they are, as far as that is worth it, and from files that are open or can be in time.
    fn compute<'a>(
        &'a self,
        snapshot: &'a Arc<Snapshot>,
        request: &'a Arc<SearchRequest>,
        units: Vec<Unit>,
        deadline: Option<Duration>,
    ) -> BoxFuture<'a, Result<LeafAnswer, SearchError>> {
        let Snapshot { definition, generation, .. } = &**snapshot;
        let (cold, others) = self.divide(generation, definition, request, units);
        if cold.is_empty() {
            return self.compute_open(snapshot, request, others, deadline).boxed();
        }
        let read = self.read_cold(definition, generation, request, cold, deadline);
        self.compute_beside(snapshot, request, others, read.boxed(), deadline).boxed()
    }

    /// Answers from what `read` brings, and from other units at the same time.
    async fn compute_beside(
        &self,
        snapshot: &Arc<Snapshot>,
        request: &Arc<SearchRequest>,
        others: Vec<Unit>,
        read: BoxFuture<'_, Result<Vec<ReadUnit>, SearchError>>,
        deadline: Option<Duration>,
    ) -> Result<LeafAnswer, SearchError> {
        self.inner.stats.cold_searches.fetch_add(1, Ordering::Relaxed);
        let from_cold = async {
            let read = read.await?;
            let files: BTreeSet<(u32, u32)> = read.iter().filter_map(ReadUnit::place).collect();
            let (answer, whole) = self.answer_cold(snapshot, request, read, deadline).await?;
            Ok((answer, whole, files))
        };
        let from_others = async {
            match others.is_empty() {
                true => Ok(LeafAnswer::default()),
                false => self.compute_open(snapshot, request, others, deadline).await,
            }
        };
        let ((cold, whole, files), others) = try_join(from_cold, from_others).await?;
        let mut answers = vec![cold, others];
        if !whole.is_empty() {
            answers.push(self.compute_open(snapshot, request, whole, deadline).await?);
        }
        let Snapshot { definition, generation, .. } = &**snapshot;
        self.hydrate_later(definition, generation, files);
        let order = request.order(definition.index.algorithm.metric);
        Ok(merge(order, request.k as usize, request.results(), answers))
    }

    /// Opens what can be there in time and computes.
    async fn compute_open(
        &self,
        snapshot: &Arc<Snapshot>,
        request: &Arc<SearchRequest>,
        units: Vec<Unit>,
        deadline: Option<Duration>,
    ) -> Result<LeafAnswer, SearchError> {
        let began = self.monotonic();
        let opened = self.open(snapshot, units, deadline).await?;
        let opening = self.monotonic().saturating_sub(began);
        let (snapshot_, request_, inner) = (Arc::clone(snapshot), Arc::clone(request), Arc::clone(&self.inner));
        let mut answer = match deadline {
            None => {
                let job =
                    move |abandoned: &Abandoned| answer(&inner, &snapshot_, &request_, opened, &|| abandoned.is_set());
                self.inner.files.pool.run(job).await?
            }
            Some(deadline) => {
                // Left by a job that has no turn in time.
                let opened = Arc::new(Mutex::new(Some(opened)));
                let taken = Arc::clone(&opened);
                let job = move |turn: &Turn| match taken.lock().take() {
                    Some(opened) => answer(&inner, &snapshot_, &request_, opened, &|| turn.is_over()),
                    None => Err(SearchError::Internal("a search was begun twice".to_owned())),
                };
                match self.inner.files.turns.run(deadline, job).await? {
                    Some(answer) => answer,
                    None => {
                        let opened = opened.lock().take();
                        let nothing = || SearchError::Internal("a search that was not begun has no plan".to_owned());
                        self.no_turn(snapshot, request, opened.ok_or_else(nothing)?)
                    }
                }
            }
        };
        answer.timings.open = opening;
        Ok(answer)
    }

    /// The answer of a search for which there was no processor before its deadline: all rows are in question, none was considered.
    fn no_turn(&self, snapshot: &Snapshot, request: &SearchRequest, opened: Opened) -> LeafAnswer {
        let local = self.inner.files.store.local_root().is_some();
        let segments = if request.explain { opened.receipts(snapshot, local) } else { Vec::new() };
        let live = opened.units.iter().map(|(unit, _)| match unit.origin {
            Origin::Base { shard, segment } => {
                snapshot.base(shard, segment).map_or(0, |base| base.live_in(&unit.ranges))
            }
            Origin::Tail(_) => unit.ranges.iter().map(|range| u64::from(range.end - range.start)).sum(),
        });
        let results = request.results();
        LeafAnswer {
            results: vec![Vec::new(); results],
            allowed: (live.sum::<u64>() + opened.late_rows) * results as u64,
            segments,
            ..LeafAnswer::default()
        }
    }

    /// Live points of the index, the tail included.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub async fn count(&self, id: &IndexId, consistency: Consistency) -> Result<u64, SearchError> {
        let count = async |snapshot| Ok(self.live_rows(&snapshot).await?.total);
        self.on_snapshot(id, consistency, None, count).await
    }

    /// What the index consists of, now. `splits` bounds how many splits are described.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub async fn describe(&self, id: &IndexId, splits: usize) -> Result<IndexDescription, SearchError> {
        let describe = async |snapshot| {
            let live = self.live_rows(&snapshot).await?;
            let lag_ms = describe::lag_ms(&self.inner.files.store, &snapshot).await?;
            let describe = move |_: &Abandoned| describe::describe(&snapshot, &live, lag_ms, splits);
            let description = self.inner.files.pool.run(describe).await?;
            Ok(IndexDescription { recall: self.observed_recall(id), ..description })
        };
        self.on_snapshot(id, Consistency::Strong, None, describe).await
    }

    /// A page of live points in the order of their keys.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub async fn points(&self, id: &IndexId, request: PointsRequest) -> Result<PointsPage, SearchError> {
        let definition = self.known(id, self.reader(id).definition_for(request.consistency).await)?;
        check_points(&request, &definition)?;
        let page = async |snapshot| {
            let (request, filters) = (request.clone(), Arc::clone(&self.inner.filters));
            let units = self.plan(&snapshot, Part::Everything, &request.split_filter).await?;
            let Opened { units, .. } = self.open(&snapshot, units, None).await?;
            let page = move |abandoned: &Abandoned| points::page(&snapshot, units, request, &filters, abandoned);
            self.inner.files.pool.run(page).await
        };
        let state = State { generation: request.as_of, consistency: request.consistency, min_version: None };
        self.on_state(id, state, page).await
    }

    /// Fetches and opens every file of the index's newest generation.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub async fn warm(&self, id: &IndexId) -> Result<(), SearchError> {
        let warm = async |snapshot| {
            let units = self.plan(&snapshot, Part::Everything, &Attributes::new()).await?;
            self.open(&snapshot, units, None).await.map(drop)
        };
        self.on_snapshot(id, Consistency::Strong, None, warm).await
    }

    /// Lets go of an index: unpins its files and forgets its definition. Searches under way finish.
    pub fn forget(&self, id: &IndexId) {
        self.inner.readers.write().remove(id);
        self.inner.missed.lock().remove(id);
        self.inner.queries.forget(id);
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
    async fn plan(
        &self,
        snapshot: &Arc<Snapshot>,
        part: Part,
        split_filter: &Attributes,
    ) -> Result<Vec<Unit>, SearchError> {
        let filter = SplitFilter::new(split_filter, &snapshot.definition);
        if !filter.scans() {
            return Ok(plan(snapshot, &part, split_filter, &filter));
        }
        let (snapshot, split_filter) = (Arc::clone(snapshot), split_filter.clone());
        self.inner.files.pool.run(move |_| Ok(plan(&snapshot, &part, &split_filter, &filter))).await
    }

    /// Opens the files of a plan's units, as many as are there before the deadline.
    async fn open(
        &self,
        snapshot: &Arc<Snapshot>,
        units: Vec<Unit>,
        deadline: Option<Duration>,
    ) -> Result<Opened, SearchError> {
        let base = |shard, segment| {
            let missing = || SearchError::Internal(format!("no segment {segment} in shard {shard}"));
            snapshot.base(shard, segment).ok_or_else(missing)
        };
        // The usual case: everything is open, nothing to wait for.
        let mut opened = Opened { units: Vec::with_capacity(units.len()), at_hand: 0, late: Vec::new(), late_rows: 0 };
        let mut closed = Vec::new();
        for unit in units {
            match unit.origin {
                Origin::Tail(_) => opened.units.push((unit, None)),
                Origin::Base { shard, segment } => match base(shard, segment)?.opened(&self.inner.files) {
                    Some(segment) => opened.units.push((unit, Some(segment))),
                    None => closed.push((unit, shard, segment)),
                },
            }
        }
        opened.at_hand = opened.units.len();
        if closed.is_empty() {
            return Ok(opened);
        }
        let mut segments: Vec<Option<Arc<Segment>>> = vec![None; closed.len()];
        let mut places: Vec<(usize, u32, u32)> =
            (0..).zip(&closed).map(|(place, (_, shard, segment))| (place, *shard, *segment)).collect();
        if deadline.is_some() {
            // What has arrived by then is in the answer.
            let worth = |&(place, shard, segment): &(usize, u32, u32)| {
                let base = base(shard, segment).ok();
                base.map_or((0, 1), |base| (base.live_in(&closed[place].0.ranges), base.file.object.bytes))
            };
            places.sort_by(|a, b| more_for_its_bytes(worth(a), worth(b)));
        }
        let opening = futures::stream::iter(places).map(|(place, shard, segment)| async move {
            let segment = base(shard, segment)?.open(&self.inner.files, &snapshot.definition).await?;
            Ok::<_, SearchError>((place, segment))
        });
        let all = async {
            let mut opening = pin!(opening.buffer_unordered(OPENS_AT_ONCE));
            while let Some((place, segment)) = opening.try_next().await? {
                segments[place] = Some(segment);
            }
            Ok::<(), SearchError>(())
        };
        if let Some(done) = self.before(deadline, all).await {
            done?;
        }
        let mut files = BTreeSet::new();
        for ((unit, shard, segment), open) in closed.into_iter().zip(segments) {
            match open {
                Some(open) => opened.units.push((unit, Some(open))),
                None => {
                    opened.late_rows += base(shard, segment)?.live_in(&unit.ranges);
                    opened.late.push(unit);
                    files.insert((shard, segment));
                }
            }
        }
        if !files.is_empty() {
            self.note_missed(&snapshot.definition, &snapshot.generation, files);
        }
        Ok(opened)
    }

    /// Counts live rows. Opens only the files whose splits the tail touches: the others' counts are in the catalog.
    async fn live_rows(&self, snapshot: &Arc<Snapshot>) -> Result<describe::LiveRows, SearchError> {
        let touched = snapshot
            .touched()
            .into_iter()
            .map(|(shard, segment)| Unit { origin: Origin::Base { shard, segment }, ranges: Vec::new() });
        let Opened { units, .. } = self.open(snapshot, touched.collect(), None).await?;
        let snapshot = Arc::clone(snapshot);
        self.inner.files.pool.run(move |_| Ok(describe::live_rows(&snapshot, &units))).await
    }

    /// In microseconds since 1970.
    fn now_micros(&self) -> i64 {
        self.inner.files.store.clock().now_ms().saturating_mul(1000)
    }

    fn monotonic(&self) -> Duration {
        self.inner.files.store.clock().monotonic()
    }
}

fn respond(
    snapshot: &Snapshot,
    request: &SearchRequest,
    answer: LeafAnswer,
    failures: Vec<GroupFailure>,
) -> SearchResponse {
    let LeafAnswer { results, allowed, considered, timings, spent, leaves, segments } = answer;
    let metric = snapshot.definition.index.algorithm.metric;
    let ranked = request.ranked(metric);
    let mut results: Vec<Vec<Found>> =
        results.into_iter().map(|hits| hits.into_iter().map(|hit| hit.found).collect()).collect();
    if ranked.score.is_some() {
        results.iter_mut().flatten().for_each(|found| found.distance = ranked.of_distance(metric, found.distance));
    }
    SearchResponse {
        results,
        coverage: if allowed == 0 { 1.0 } else { considered as f64 / allowed as f64 },
        failures,
        version: snapshot.version(),
        generation: snapshot.generation.number(),
        timings,
        spent,
        leaves,
        segments,
        ranked,
        groups: None,
        stored: Vec::new(),
    }
}

/// The part of a search that computes.
fn answer(
    inner: &Inner,
    snapshot: &Arc<Snapshot>,
    request: &SearchRequest,
    opened: Opened,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<LeafAnswer, SearchError> {
    let clock = inner.files.store.clock();
    let local = inner.files.store.local_root().is_some();
    let mut segments = if request.explain { opened.receipts(snapshot, local) } else { Vec::new() };
    let Opened { units, late_rows, .. } = opened;
    let began = clock.monotonic();
    let definition = &snapshot.definition;
    let metric = definition.index.algorithm.metric;
    let misfit = |error: tarn_segment::SegmentError| SearchError::Internal(error.to_string());
    let scan = request.scan(metric).map_err(misfit)?;
    let queries = match scan {
        Some(_) => Ok(Vec::new()),
        None => request.queries.iter().map(|vector| Query::new(metric, vector)).collect::<Result<Vec<_>, _>>(),
    };
    let queries = queries.map_err(misfit)?;
    let asked = match &scan {
        Some(scan) => Asked::Scan(scan),
        None => Asked::Index(&queries, execute::effort(request, &definition.index)),
    };
    let round = request.round.as_deref();
    let passing = round.and_then(|round| round.filter.clone()).map(NamedFilter::of_now);
    let filters: Vec<NamedFilter> = request.filter.clone().map(NamedFilter::new).into_iter().chain(passing).collect();
    let wanted = Wanted { filters: &filters, keys: round.and_then(|round| round.keys.as_deref()) };
    let units = execute::prepare_until(snapshot, units, wanted, &inner.filters, stop)?;
    let (k, is_hurried) = (request.k as usize, request.deadline.is_some());
    let merged = execute::search(&units, asked, request.order(metric), k, is_hurried, stop)?;
    let allowed = merged.allowed + late_rows * asked.results() as u64;
    for (segment, plan) in segments.iter_mut().zip(&merged.plans) {
        segment.plan = plan.map_or(SegmentPlan::None, SegmentPlan::from);
    }
    let searched = clock.monotonic();
    let columns: Vec<(String, usize)> = definition.columns(request.attributes.as_deref()).cloned().collect();
    let found = |candidates: &Vec<_>| execute::fetch(snapshot, &units, candidates, &columns, request.retrieve_vectors);
    let results = merged.candidates.iter().map(found).collect::<Result<Vec<_>, _>>()?;
    let fetched = clock.monotonic();
    let timings = Timings {
        search: searched.saturating_sub(began),
        fetch: fetched.saturating_sub(searched),
        ..Timings::default()
    };
    Ok(LeafAnswer { results, allowed, considered: merged.considered, timings, segments, ..LeafAnswer::default() })
}
