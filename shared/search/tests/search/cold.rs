//! Searching files where they are: what it costs, that the answers are the same, what may go wrong, and what comes after.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tarn_model::{
    AttributeValue, Attributes, CompareOp, Filter, Index, KeyPrefix, ObjectKey, ReadToken, Retention, Update, Vector,
};
use tarn_search::{
    CacheState, ColdPlan, ColdSettings, Consistency, Engine, EngineSettings, Hydration, LeafRequest, Pin, SearchError,
    SearchRequest, SearchResponse, SegmentPlan, Shape,
};
use tarn_store::{LatencyStore, Store, SystemClock};
use tarn_testkit::{Scenario, Scope};

use crate::gate::{Gate, Interference};
use crate::world::World;

/// More cells than a segment of a test has, and so many rows that the nearest by code hold the nearest.
const EVERYTHING: u32 = 4_000;

/// An index of one cells segment, and perhaps more.
struct Cold {
    world: World,
    index: Arc<Index>,
    gate: Gate,
    serial: i64,
}

impl Cold {
    async fn new(index: &str, points: usize, seed: u64) -> Self {
        Self::over(Store::memory(), index, points, seed).await
    }

    async fn over(store: Store, index: &str, points: usize, seed: u64) -> Self {
        Self::of(store, Scenario::dense_large(), index, points, seed).await
    }

    async fn of(store: Store, scenario: Scenario, index: &str, points: usize, seed: u64) -> Self {
        let gate = Gate::default();
        let mut world = World::over(store.layer(|objects| gate.over(objects)), scenario, seed).await;
        world.cells = true;
        // A clock that jumps would have every slow read asked for again at once.
        world.store = world.store.with_clock(Arc::new(SystemClock));
        let index = world.index(index);
        let mut cold = Self { world, index, gate, serial: 0 };
        cold.upload(points).await;
        cold.publish().await;
        cold
    }

    /// Points that nobody else has.
    async fn upload(&mut self, points: usize) -> ReadToken {
        let updates = (0..points).map(|_| {
            self.serial += 1;
            let mut point = self.world.scenario.point(&mut self.world.rng, self.serial);
            point.attributes.insert("id".into(), AttributeValue::Int64(self.serial));
            if let Vector::Dense(values) = &mut point.vector {
                // Neighbours that are not equally far.
                values.iter_mut().for_each(|x| *x += self.world.rng.random_range(-0.1..0.1));
            }
            Update::Upsert(point)
        });
        let updates = updates.collect();
        self.world.upload(updates).await
    }

    async fn publish(&mut self) {
        let head = self.world.reference.head();
        self.world.publish(&self.index.clone(), head, false).await;
    }

    fn settings(&self) -> EngineSettings {
        EngineSettings {
            cold: ColdSettings { whole_bytes: 0, ..ColdSettings::default() },
            hydration: Hydration::Off,
            ..self.world.settings()
        }
    }

    fn engine(&self) -> Engine {
        self.engine_with(self.settings())
    }

    /// With nothing pinned, nothing in memory, and a cache of its own.
    fn engine_with(&self, settings: EngineSettings) -> Engine {
        let cache_dir = settings.cache_dir.join(self.world.reference.head().to_string());
        Engine::new(self.world.store.clone(), EngineSettings { cache_dir, ..settings }).unwrap()
    }

    /// For one vector at the default recall.
    fn request(&mut self) -> SearchRequest {
        let mut query = self.world.scenario.vector(&mut self.world.rng);
        if let Vector::Dense(values) = &mut query {
            values.iter_mut().for_each(|x| *x += self.world.rng.random_range(-0.1..0.1));
        }
        SearchRequest { explain: true, ..SearchRequest::new(vec![query], 10) }
    }

    /// For one vector, looking at everything by ranges: the answer is exact.
    fn thorough(&mut self) -> SearchRequest {
        SearchRequest { ef_search: Some(EVERYTHING), retrieve_vectors: true, ..self.request() }
    }

    async fn search(&self, engine: &Engine, request: &SearchRequest) -> SearchResponse {
        engine.search(&self.index.id, request.clone()).await.unwrap()
    }

    /// The share of the true neighbours that were found.
    fn recall(&self, request: &SearchRequest, response: &SearchResponse) -> f64 {
        let scope = Scope { split_filter: request.split_filter.clone(), filter: request.filter.clone() };
        let ranked = self.world.reference.ranked(&self.index, u64::MAX, &scope, &request.queries[0]);
        let k = ranked.len().min(request.k as usize);
        let found = &response.results[0];
        assert_eq!(found.len(), k, "as many as there are");
        let farthest = ranked[k - 1].distance;
        let near = found.iter().filter(|found| match self.index.algorithm.metric.higher_is_nearer() {
            true => found.distance >= farthest - 1e-4,
            false => found.distance <= farthest + 1e-4,
        });
        near.count() as f64 / k as f64
    }

    fn below(&self, share: f64) -> Filter {
        let bound = AttributeValue::Int64((self.serial as f64 * share) as i64);
        Filter::Compare { attribute: "serial".into(), op: CompareOp::Lte, value: bound }
    }

    async fn segments(&self) -> Vec<ObjectKey> {
        let listed = self.world.store.list(&KeyPrefix::Segments(self.index.id.clone())).await.unwrap();
        listed.into_iter().map(|listed| listed.key.unwrap()).collect()
    }
}

/// How the cold segments of an answer were searched.
fn plans(response: &SearchResponse) -> Vec<ColdPlan> {
    let plans = response.segments.iter().filter_map(|segment| match segment.plan {
        SegmentPlan::Cold(plan) => Some(plan),
        _ => None,
    });
    plans.collect()
}

fn plan(response: &SearchResponse) -> ColdPlan {
    let plans = plans(response);
    assert_eq!(plans.len(), 1, "{:?}", response.segments);
    plans[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_search_reads_a_few_ranges_and_the_next_one_fewer() {
    // What is asked at the same time must still be under way when the rest of it is asked.
    let slow = Store::memory()
        .layer(|objects| Arc::new(LatencyStore::new(objects, Arc::new(SystemClock), Duration::from_millis(10))));
    let mut cold = Cold::over(slow, "graph-l2", 20_000, 1).await;
    crate::hints::write_hint(&cold.world, &cold.index).await;
    let bytes = cold.world.store.size(&cold.segments().await[0]).await.unwrap().unwrap();
    let (mut recalls, mut requests, mut trips) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..20 {
        let (engine, request) = (cold.engine(), cold.request());
        let response = cold.search(&engine, &request).await;
        assert_eq!((response.coverage, engine.stats().cold_searches), (1.0, 1));
        let read = cold.gate.reads();
        assert!(read.len() <= 19, "one outline, nine ranges of cells, nine of rows: {read:?}");
        assert!(read.iter().map(|range| range.end - range.start).sum::<u64>() < bytes / 2);
        let plan = plan(&response);
        assert!(plan.outline_bytes > 0 && plan.cells > 0 && plan.rescored >= 10, "{plan:?}");
        assert_eq!(read.len() as u32, 1 + plan.cell_ranges + plan.row_ranges, "{plan:?}");
        assert!((1..=9).contains(&plan.cell_ranges) && (1..=9).contains(&plan.row_ranges), "{plan:?}");
        assert_eq!(response.segments[0].state, CacheState::Cold);
        recalls.push(cold.recall(&request, &response));
        requests.push(response.spent.requests.total());
        // The same again: no outline, and of the cells only what is worth more now that others cost nothing.
        let again = cold.search(&engine, &request).await;
        let next = self::plan(&again);
        assert_eq!(next.outline_bytes, 0);
        assert!(next.cell_bytes * 2 < plan.cell_bytes, "{next:?} after {plan:?}");
        assert_eq!(cold.gate.reads().len() as u32, next.cell_ranges + next.row_ranges);
        let spent = again.spent;
        assert_eq!(
            spent.requests.total(),
            u64::from(2 + next.cell_ranges + next.row_ranges),
            "two of them look for news"
        );
        trips.push(spent.round_trips);
    }
    // Of the searches for which the machine had time at once.
    trips.sort_unstable();
    assert!(trips[trips.len() / 2] <= 2, "cells beside the look, then rows: {trips:?}");
    let mean = recalls.iter().sum::<f64>() / recalls.len() as f64;
    assert!(mean >= 0.93, "{mean}: {recalls:?}");
    assert!(requests.iter().all(|&requests| requests <= 24), "{requests:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_at_everything_by_ranges_is_exact() {
    for (name, seed) in [("graph-l2", 2), ("graph-cosine", 3)] {
        let mut cold = Cold::new(name, 2_000, seed).await;
        let engine = cold.engine();
        for round in 0..8 {
            let mut request = cold.thorough();
            request.k = [1, 10, 40][round % 3];
            request.retrieve_vectors = round % 2 == 0;
            request.attributes =
                (round % 4 == 1).then(|| ["id", "region", "serial", "split"].map(str::to_owned).to_vec());
            if round % 4 == 2 {
                let more = cold.thorough().queries;
                request.queries.extend(more);
            }
            let index = Arc::clone(&cold.index);
            let response = cold.world.check(&engine, &index, request).await;
            assert_eq!(plans(&response).len(), 1, "{:?}", response.segments);
        }
        assert_eq!(engine.stats().cold_searches, 8);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_read_their_columns_once() {
    let mut cold = Cold::new("graph-l2", 2_000, 4).await;
    let (engine, index) = (cold.engine(), Arc::clone(&cold.index));
    for (round, share) in [0.5, 0.1, 0.5, 0.01].into_iter().enumerate() {
        let mut request = cold.thorough();
        request.filter = Some(cold.below(share));
        let response = cold.world.check(&engine, &index, request).await;
        let plan = plan(&response);
        assert_eq!((plan.column_ranges, plan.column_bytes > 0), (u32::from(round == 0), round == 0), "{plan:?}");
    }
    let colour = |colour: &str| Filter::Compare {
        attribute: "colour".into(),
        op: CompareOp::Eq,
        value: AttributeValue::String(colour.into()),
    };
    let both = Filter::And(vec![cold.below(0.5), Filter::Not(Box::new(colour("red")))]);
    let mut request = cold.thorough();
    request.filter = Some(both);
    let plan = plan(&cold.world.check(&engine, &index, request).await);
    assert_eq!(plan.column_ranges, 1, "the colours, not the serials again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recall_is_kept_under_filters_or_the_file_is_fetched() {
    let mut cold = Cold::new("graph-l2", 6_000, 5).await;
    for share in [0.5, 0.1, 0.01, 0.0005] {
        let mut recalls = Vec::new();
        for _ in 0..10 {
            let request = SearchRequest { filter: Some(cold.below(share)), ..cold.request() };
            let response = cold.search(&cold.engine(), &request).await;
            recalls.push(cold.recall(&request, &response));
        }
        let mean = recalls.iter().sum::<f64>() / recalls.len() as f64;
        assert!(mean >= 0.9, "{mean} at {share}: {recalls:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletions_and_newer_segments_count() {
    let mut cold = Cold::new("graph-l2", 2_000, 6).await;
    cold.world.upload_random(600).await;
    let gone: Vec<Update> = (0..200).map(|_| tombstone(&mut cold)).collect();
    cold.world.upload(gone).await;
    cold.upload(800).await;
    cold.publish().await;
    let (engine, index) = (cold.engine(), Arc::clone(&cold.index));
    for _ in 0..5 {
        let request = cold.thorough();
        let response = cold.world.check(&engine, &index, request).await;
        assert!(!plans(&response).is_empty(), "{:?}", response.segments);
    }
}

/// Of a point that was uploaded.
fn tombstone(cold: &mut Cold) -> Update {
    let id = cold.world.rng.random_range(1..=cold.serial);
    let live = cold.world.reference.live_at(u64::MAX);
    let found = live.map(|(_, point)| &point.attributes).find(|a| a["id"] == AttributeValue::Int64(id));
    let permanent = found.map(|attributes| {
        let keep = |key: &String| ["id", "region", "split"].contains(&key.as_str());
        attributes.iter().filter(|(key, _)| keep(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
    });
    Update::Delete(permanent.unwrap_or_else(|| {
        Attributes::from([
            ("id".to_owned(), AttributeValue::Int64(-1)),
            ("region".to_owned(), AttributeValue::Int64(0)),
            ("split".to_owned(), AttributeValue::String(String::new())),
        ])
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strong_reads_see_acknowledged_writes_beside_a_file_that_stays_where_it_is() {
    let mut cold = Cold::new("graph-l2", 2_000, 7).await;
    let (engine, index) = (cold.engine(), Arc::clone(&cold.index));
    for _ in 0..6 {
        let request = cold.thorough();
        let found = cold.search(&engine, &request).await.results.remove(0);
        // The nearest moves away, the second is deleted, and a new one is nearer than any.
        let permanent = |place: usize| -> Attributes {
            let attributes = found[place].attributes.iter();
            attributes.filter(|(key, _)| ["id", "region", "split"].contains(&key.as_str())).cloned().collect()
        };
        let mut moved = cold.world.scenario.point(&mut cold.world.rng, -1);
        moved.attributes.extend(permanent(0));
        moved.vector = Vector::Dense(vec![1e4; 128]);
        let mut new = cold.world.scenario.point(&mut cold.world.rng, -2);
        cold.serial += 1;
        new.attributes.insert("id".into(), AttributeValue::Int64(cold.serial));
        new.vector = request.queries[0].clone();
        let updates = vec![Update::Upsert(moved), Update::Delete(permanent(1)), Update::Upsert(new)];
        let token = cold.world.upload(updates).await;
        let response = cold.world.check(&engine, &index, request).await;
        assert!(response.version.includes(&token));
        assert_eq!(response.results[0][0].distance, 0.0);
        assert!(response.segments.iter().any(|s| s.state == CacheState::Memory) || response.segments.len() == 1);
        assert_eq!(plans(&response).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_the_tail_leaves_too_short_comes_from_the_whole_file() {
    let mut cold = Cold::new("graph-l2", 2_000, 8).await;
    let (engine, index) = (cold.engine(), Arc::clone(&cold.index));
    let request = SearchRequest { retrieve_vectors: true, k: 100, ..cold.request() };
    let nearest =
        cold.search(&engine, &SearchRequest { k: 400, exact: true, ..request.clone() }).await.results.remove(0);
    let gone = nearest.iter().map(|found| {
        let permanent = found.attributes.iter().filter(|(key, _)| ["id", "region", "split"].contains(&key.as_str()));
        Update::Delete(permanent.cloned().collect())
    });
    let gone = gone.collect();
    cold.world.upload(gone).await;
    let engine = cold.engine();
    let response = cold.search(&engine, &request).await;
    assert_eq!(response.results[0].len(), 100);
    assert_eq!(response.coverage, 1.0);
    assert!(cold.recall(&request, &response) > 0.9);
    let exact = SearchRequest { exact: true, ..request };
    cold.world.check(&engine, &index, exact).await;
}

/// The ranges that a search reads, by phase.
async fn phases(cold: &Cold, request: &SearchRequest) -> [(&'static str, Range<u64>); 4] {
    cold.gate.reads();
    let response = cold.search(&cold.engine(), request).await;
    let (reads, plan) = (cold.gate.reads(), plan(&response));
    let cells = 2..2 + plan.cell_ranges as usize;
    assert_eq!(plan.column_ranges, 1, "{plan:?}");
    assert_eq!(reads.len(), cells.end + plan.row_ranges as usize);
    [
        ("outline", reads[0].clone()),
        ("column", reads[1].clone()),
        ("cells", reads[cells.start].clone()),
        ("rows", reads[cells.end].clone()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_in_any_phase_costs_coverage_and_nothing_else() {
    let mut cold = Cold::new("graph-l2", 2_000, 9).await;
    cold.upload(5).await;
    let request = SearchRequest { filter: Some(cold.below(1.0)), ..cold.request() };
    for (phase, range) in phases(&cold, &request).await {
        let engine = cold.engine();
        cold.gate.interfere(range, Interference::Hang);
        let deadline = Some(Duration::from_millis(400));
        let response = cold.search(&engine, &SearchRequest { deadline, ..request.clone() }).await;
        assert!(response.coverage > 0.0 && response.coverage < 0.1, "{phase}: {}", response.coverage);
        assert!(response.segments.iter().any(|s| s.state == CacheState::Missed), "{phase}: {:?}", response.segments);
        assert!(!response.results[0].is_empty(), "{phase}: the tail is in memory");
        cold.gate.open();
        let response = cold.search(&engine, &request).await;
        assert_eq!((response.coverage, plans(&response).len()), (1.0, 1), "{phase}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_any_phase_is_an_error_that_names_the_object() {
    let mut cold = Cold::new("graph-l2", 2_000, 10).await;
    let name = cold.segments().await[0].render();
    let request = SearchRequest { filter: Some(cold.below(1.0)), ..cold.request() };
    for (phase, range) in phases(&cold, &request).await {
        let engine = cold.engine();
        cold.gate.interfere(range, Interference::Flip);
        let error = engine.search(&cold.index.id, request.clone()).await.expect_err(phase);
        assert!(matches!(&error, SearchError::Corrupt(_)), "{phase}: {error:?}");
        assert!(error.to_string().contains(&name), "{phase}: {error}");
        // It was on the way; nothing of it was kept.
        cold.gate.open();
        let response = cold.search(&engine, &request).await;
        assert_eq!((response.coverage, plans(&response).len()), (1.0, 1), "{phase}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_collected_is_looked_for_in_a_newer_generation() {
    let mut cold = Cold::new("graph-l2", 2_000, 11).await;
    let (engine, index) = (cold.engine(), Arc::clone(&cold.index));
    let mut request = cold.thorough();
    request.consistency = Consistency::Eventual;
    assert_eq!(cold.search(&engine, &request).await.generation, 1);
    let old = cold.segments().await;
    cold.world.rebuild(&index).await;
    for key in &old {
        cold.world.store.delete(key).await.unwrap();
    }
    // An eventual search begins with the generation that it knows.
    let response = cold.world.check(&engine, &index, request.clone()).await;
    assert_eq!((response.generation, plans(&response).len()), (2, 1));
    // A strong one reads ahead for the generation that it knows, and drops what it has.
    let engine = cold.engine();
    cold.search(&engine, &request).await;
    let old = cold.segments().await;
    cold.world.rebuild(&index).await;
    for key in old.iter().take(1) {
        cold.world.store.delete(key).await.unwrap();
    }
    request.consistency = Consistency::Strong;
    let response = cold.world.check(&engine, &index, request).await;
    assert_eq!((response.generation, plans(&response).len()), (3, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_ahead_for_a_generation_that_is_not_the_newest_is_called_off() {
    let mut cold = Cold::new("graph-l2", 2_000, 18).await;
    let index = Arc::clone(&cold.index);
    let none = ColdSettings { memory_bytes: 0, ..cold.settings().cold };
    let engine = cold.engine_with(EngineSettings { cold: none, ..cold.settings() });
    let request = cold.request();
    cold.search(&engine, &request).await;
    cold.world.rebuild(&index).await;
    cold.gate.reads();
    cold.gate.interfere(0..u64::MAX, Interference::Hang);
    // A look that came to its end before anything was read ahead would call off nothing.
    cold.gate.hold_others();
    let searching = tokio::spawn(async move { engine.search(&index.id, request).await });
    // The outline of the file that was known, then that of the new one, for which alone the search waits.
    let mut asked = 0;
    while asked < 2 || cold.gate.hanging() > 1 {
        assert!(!searching.is_finished(), "it waits for an outline that does not come");
        tokio::task::yield_now().await;
        asked += cold.gate.reads().len();
    }
    assert_eq!((asked, cold.gate.hanging()), (2, 1));
    searching.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hydration_maps_the_file_that_a_search_has_read_ranges_of() {
    let mut cold = Cold::new("graph-l2", 2_000, 12).await;
    let request = cold.request();
    let bytes = cold.world.store.size(&cold.segments().await[0]).await.unwrap().unwrap();
    let whole = |reads: Vec<Range<u64>>| reads.into_iter().filter(|range| *range == (0..bytes)).count();
    // In the background.
    let engine = cold.engine_with(EngineSettings { hydration: Hydration::Background, ..cold.settings() });
    let first = cold.search(&engine, &request).await;
    assert_eq!(first.segments[0].state, CacheState::Cold);
    while engine.stats().hydrated_files == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(engine.stats().hydrated_bytes, bytes);
    assert_eq!(whole(cold.gate.reads()), 1);
    let mapped = cold.search(&engine, &request).await;
    assert!(plans(&mapped).is_empty() && cold.gate.reads().is_empty(), "{:?}", mapped.segments);
    drop(engine);
    // When it is asked for; the cache's directory is another process's now.
    let manual = EngineSettings {
        hydration: Hydration::Manual,
        cache_dir: cold.settings().cache_dir.join("manual"),
        ..cold.settings()
    };
    let engine = cold.engine_with(manual);
    cold.search(&engine, &request).await;
    assert_eq!(whole(cold.gate.reads()), 0);
    engine.hydrate().await.unwrap();
    assert_eq!((whole(cold.gate.reads()), engine.stats().hydrated_files), (1, 1));
    cold.search(&engine, &request).await;
    assert_eq!(cold.gate.reads(), []);
    // Not at all, and not where there is no room.
    for settings in [
        EngineSettings { hydration: Hydration::Off, ..cold.settings() },
        EngineSettings { hydration: Hydration::Manual, cache_bytes: bytes - 1, ..cold.settings() },
    ] {
        let cache_dir = cold.settings().cache_dir.join("none");
        let engine = cold.engine_with(EngineSettings { cache_dir, ..settings });
        for _ in 0..2 {
            cold.search(&engine, &request).await;
            engine.hydrate().await.unwrap();
        }
        assert_eq!((whole(cold.gate.reads()), engine.stats().hydrated_files, engine.stats().cold_searches), (0, 0, 2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn searches_at_once_share_what_they_read() {
    let mut cold = Cold::new("graph-l2", 2_000, 13).await;
    let (engine, index) = (cold.engine(), Arc::clone(&cold.index));
    let requests: Vec<_> =
        (0..24).map(|_| SearchRequest { filter: Some(cold.below(0.9)), ..cold.thorough() }).collect();
    let (world, gate) = (&cold.world, &cold.gate);
    futures::future::join_all(requests.into_iter().map(|request| world.check(&engine, &index, request))).await;
    let reads = gate.reads();
    let end = reads.iter().map(|range| range.end).max().unwrap();
    assert_eq!(reads.iter().filter(|range| range.end == end).count(), 1, "one outline");
    assert_eq!(engine.stats().cold_searches, 24);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_the_whole_file_fetches_it() {
    let mut cold = Cold::new("graph-l2", 2_000, 14).await;
    let request = cold.request();
    let many = SearchRequest { queries: vec![request.queries[0].clone(); 5], ..request.clone() };
    let exact = SearchRequest { exact: true, ..request.clone() };
    let certain = SearchRequest { target_recall: Some(1.0), ..request.clone() };
    for (round, asked) in [many, exact, certain].into_iter().enumerate() {
        let cache_dir = cold.settings().cache_dir.join(round.to_string());
        let engine = cold.engine_with(EngineSettings { cache_dir, ..cold.settings() });
        assert!(plans(&cold.search(&engine, &asked).await).is_empty(), "{round}");
        // From then on it is open, whatever is asked.
        assert!(plans(&cold.search(&engine, &request).await).is_empty(), "{round}");
    }
    let off = ColdSettings { enabled: false, ..cold.settings().cold };
    let small = ColdSettings { whole_bytes: u64::MAX, ..cold.settings().cold };
    for settings in [off, small] {
        let cache_dir = cold.settings().cache_dir.join(format!("{}", settings.enabled));
        let engine = cold.engine_with(EngineSettings { cold: settings, cache_dir, ..cold.settings() });
        assert!(plans(&cold.search(&engine, &request).await).is_empty());
        assert_eq!(engine.stats().cold_searches, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_for_files_that_stay_where_they_are_is_bounded() {
    let mut cold = Cold::new("graph-l2", 2_000, 15).await;
    let none = ColdSettings { memory_bytes: 0, ..cold.settings().cold };
    let engine = cold.engine_with(EngineSettings { cold: none, ..cold.settings() });
    let (index, request) = (Arc::clone(&cold.index), cold.thorough());
    for _ in 0..2 {
        let response = cold.world.check(&engine, &index, request.clone()).await;
        assert!(plan(&response).outline_bytes > 0, "nothing was kept");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_that_are_more_than_that_memory_are_not_read_without_their_file() {
    let mut cold = Cold::new("graph-l2", 2_000, 19).await;
    let (index, request) =
        (Arc::clone(&cold.index), SearchRequest { filter: Some(cold.below(0.5)), ..cold.thorough() });
    for (memory_bytes, ranges) in [(4 << 10, 0), (4 << 20, 1)] {
        let little = ColdSettings { memory_bytes, ..cold.settings().cold };
        let cache_dir = cold.settings().cache_dir.join(memory_bytes.to_string());
        let engine = cold.engine_with(EngineSettings { cold: little, cache_dir, ..cold.settings() });
        let response = cold.world.check(&engine, &index, request.clone()).await;
        assert_eq!(plans(&response).len(), ranges, "{memory_bytes}: {:?}", response.segments);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_read_ranges_too() {
    let mut cold = Cold::new("graph-l2", 2_000, 16).await;
    let (index, manifest) = (Arc::clone(&cold.index), cold.world.rebuild(&cold.index.clone()).await);
    cold.upload(20).await;
    let (leaf, whole) = (
        cold.engine(),
        cold.engine_with(EngineSettings { cache_dir: cold.settings().cache_dir.join("whole"), ..cold.settings() }),
    );
    for _ in 0..3 {
        let search = cold.thorough();
        let head = ReadToken::single(cold.world.reference.head());
        let pin = Pin { generation: manifest.generation, commit_id: manifest.commit_id, head };
        let request = LeafRequest {
            index: (*index).clone(),
            source: (*cold.world.scenario.source).clone(),
            pin,
            shards: index.shards.keys().cloned().collect(),
            search: search.clone(),
            remaining: None,
        };
        let answer = leaf.search_leaf(request.clone()).await.unwrap();
        let exact = SearchRequest { exact: true, ..search };
        let expected = whole.search_leaf(LeafRequest { search: exact, ..request }).await.unwrap();
        assert_eq!(answer.results, expected.results);
        assert_eq!(answer.considered, answer.allowed);
    }
    assert_eq!((leaf.stats().cold_searches, whole.stats().cold_searches), (3, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_do_not_fit_their_slots_are_read_too() {
    let gate = Gate::default();
    let store = Store::memory().layer(|objects| gate.over(objects));
    let mut world = World::over(store, Scenario::dense_large(), 17).await;
    world.cells = true;
    world.store = world.store.with_clock(Arc::new(SystemClock));
    let index = world.index("graph-cosine");
    let updates = (0..1_500).map(|serial| {
        let mut point = world.scenario.point(&mut world.rng, serial);
        point.attributes.insert("id".into(), AttributeValue::Int64(serial));
        // More than one in a hundred is long, and every tenth of the nearest.
        let length = if serial % 10 == 0 { 3_000 } else { 5 };
        point.attributes.insert("colour".into(), AttributeValue::String("x".repeat(length)));
        Update::Upsert(point)
    });
    let updates = updates.collect();
    world.upload(updates).await;
    world.publish(&index, 1, false).await;
    let mut cold = Cold { world, index, gate, serial: 1_500 };
    let (engine, index) = (cold.engine(), Arc::clone(&cold.index));
    for _ in 0..6 {
        let request = cold.thorough();
        let response = cold.world.check(&engine, &index, request).await;
        assert_eq!(plans(&response).len(), 1);
    }
}

#[tokio::test]
async fn expired_points_are_not_found_in_files_that_stay_where_they_are() {
    let mut scenario = Scenario::dense_large();
    // Points of yesterday and before, as the scenario counts, have expired; those of tomorrow have not.
    let keep = tarn_store::Clock::now_ms(&SystemClock).unsigned_abs() / 1000;
    let retention = Retention { attribute: "at".into(), keep_seconds: Some(keep), target_points: None };
    Arc::make_mut(&mut scenario.source).policy.retention = Some(retention);
    let mut cold = Cold::of(Store::memory(), scenario, "graph-l2", 2_000, 71).await;
    cold.upload(40).await;
    let engine = cold.engine();
    let alive =
        Filter::Compare { attribute: "at".into(), op: CompareOp::Gt, value: AttributeValue::DateTime(3_600_000_000) };
    for _ in 0..5 {
        let request = cold.thorough();
        let response = cold.search(&engine, &request).await;
        let within = SearchRequest { filter: Some(alive.clone()), ..request };
        assert_eq!(cold.recall(&within, &response), 1.0);
    }
    assert_eq!(engine.stats().cold_searches, 5);
}

#[tokio::test]
async fn stored_points_are_looked_up_by_ranges_and_many_in_whole_files() {
    let mut cold = Cold::new("graph-l2", 2_000, 31).await;
    let engine = cold.engine();
    let everything = Scope::default();
    let points: Vec<(Attributes, Vector)> = {
        let permanent = &cold.world.scenario.source.permanent_attributes;
        let points = cold.world.reference.indexed_at(&cold.index, u64::MAX, &everything).take(40);
        let id = |attributes: &Attributes| {
            let permanent = attributes.iter().filter(|(name, _)| permanent.contains(*name));
            permanent.map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        points.map(|(_, point)| (id(&point.attributes), point.vector.clone())).collect()
    };
    let states = |response: &SearchResponse| response.segments.iter().map(|s| s.state).collect::<Vec<_>>();
    for (count, is_cold) in [(3, true), (40, false)] {
        let (query_ids, vectors): (Vec<_>, Vec<_>) = points[..count].iter().cloned().unzip();
        let mut request = SearchRequest { queries: Vec::new(), ..cold.request() };
        request.shape = Some(Box::new(Shape { query_ids, ..Shape::default() }));
        let response = cold.search(&engine, &request).await;
        assert_eq!(response.stored, vectors);
        assert_eq!(states(&response)[0] == CacheState::Cold, is_cold);
        assert_eq!(response.coverage, 1.0);
    }
}
