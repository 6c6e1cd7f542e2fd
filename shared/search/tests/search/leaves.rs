//! Searches cut into groups of shards: the same answers as from one engine, and what happens when a leaf gives none.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use parking_lot::Mutex;
use tarn_model::{Corrupt, Index};
use tarn_search::{
    Consistency, Engine, EngineSettings, InProcess, LeafAnswer, LeafError, LeafRequest, LeafSearch, SearchError,
    SearchRequest,
};
use tarn_store::{Clock, StoreError};
use tarn_testkit::Scenario;
use tokio::sync::{Semaphore, watch};
use ulid::Ulid;

use crate::world::World;

/// What a leaf does to a request that it gets.
#[derive(Clone)]
enum Fault {
    /// Answers with this error, so often.
    Fails(LeafError, usize),
    /// Never answers.
    Hangs,
    /// Believes that another builder run published the manifest, so often.
    Foreign(usize),
}

/// Leaves in this process, each with an engine of its own, behind the form in which requests and answers travel.
pub(crate) struct Leaves {
    engines: Vec<Engine>,
    asked: AtomicUsize,
    answered: Semaphore,
    /// The shards asked for, by call.
    groups: Mutex<Vec<Vec<String>>>,
    /// Strikes requests for this shard.
    fault: Mutex<Option<(String, Fault)>>,
}

impl Leaves {
    pub(crate) fn over(engines: Vec<Engine>) -> Arc<Self> {
        Arc::new(Self {
            engines,
            asked: AtomicUsize::new(0),
            answered: Semaphore::new(0),
            groups: Mutex::default(),
            fault: Mutex::default(),
        })
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn strike(&self, shard: &str, fault: Fault) {
        *self.fault.lock() = Some((shard.to_owned(), fault));
    }

    /// The fault that strikes this request; one that is used up does not.
    fn fault(&self, shards: &[String]) -> Option<Fault> {
        let mut guard = self.fault.lock();
        let (shard, fault) = guard.as_mut()?;
        if !shards.contains(shard) {
            return None;
        }
        let struck = fault.clone();
        match fault {
            Fault::Hangs => Some(struck),
            Fault::Fails(_, 0) | Fault::Foreign(0) => None,
            Fault::Fails(_, left) | Fault::Foreign(left) => {
                *left -= 1;
                Some(struck)
            }
        }
    }
}

fn travel<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    serde_json::from_slice(&serde_json::to_vec(value).unwrap()).unwrap()
}

#[async_trait]
impl LeafSearch for Leaves {
    async fn search(&self, request: LeafRequest) -> Result<LeafAnswer, SearchError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut request = travel(&request);
        // The same leaf for the same group, which so finds its files open.
        let leaf: usize = request.shards.iter().flat_map(|shard| shard.bytes()).map(usize::from).sum();
        self.groups.lock().push(request.shards.clone());
        match self.fault(&request.shards) {
            Some(Fault::Fails(error, _)) => return Err(travel(&error).into()),
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::Foreign(_)) => request.pin.commit_id = Ulid::from_parts(1, 1),
            None => {}
        }
        let leaf = InProcess(self.engines[leaf % self.engines.len()].clone());
        let answer = leaf.search(request).await.map_err(|error| SearchError::from(travel(&LeafError::from(error))));
        self.answered.add_permits(1);
        answer.map(|answer| travel(&answer))
    }
}

/// A clock that stands still until it is moved; whoever sleeps sleeps until then.
#[derive(Debug)]
struct StillClock {
    ns: AtomicU64,
    moved: watch::Sender<()>,
}

impl StillClock {
    fn new() -> Arc<Self> {
        Arc::new(Self { ns: AtomicU64::new(0), moved: watch::Sender::new(()) })
    }

    fn advance(&self, duration: Duration) {
        self.ns.fetch_add(u64::try_from(duration.as_nanos()).unwrap(), Ordering::SeqCst);
        self.moved.send_replace(());
    }
}

#[async_trait]
impl Clock for StillClock {
    fn now_ms(&self) -> i64 {
        i64::try_from(self.monotonic().as_millis()).unwrap()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.ns.load(Ordering::SeqCst))
    }

    async fn sleep(&self, duration: Duration) {
        let mut moved = self.moved.subscribe();
        let end = self.monotonic() + duration;
        while self.monotonic() < end {
            moved.changed().await.unwrap();
        }
    }
}

/// Finds nothing, and keeps what it was asked.
#[derive(Default)]
struct Record(Mutex<Vec<LeafRequest>>);

#[async_trait]
impl LeafSearch for Record {
    async fn search(&self, request: LeafRequest) -> Result<LeafAnswer, SearchError> {
        let results = vec![Vec::new(); request.search.queries.len()];
        self.0.lock().push(request);
        Ok(LeafAnswer { results, ..LeafAnswer::default() })
    }
}

/// A world with a built index of several shards, and a tail.
struct Scattered {
    world: World,
    index: Arc<Index>,
    leaves: Arc<Leaves>,
    /// Shards with files.
    shards: Vec<String>,
    /// Live rows, by shard.
    rows: Vec<u64>,
}

impl Scattered {
    async fn new(seed: u64) -> Self {
        let mut world = World::new(Scenario::dense(), seed).await;
        let index = world.scenario.indices.iter().filter(|index| index.algorithm.hnsw.is_none());
        let index = Arc::clone(index.max_by_key(|index| index.shards.len()).unwrap());
        for _ in 0..4 {
            world.upload_random(80).await;
        }
        let manifest = world.publish(&index, 3, false).await;
        let built: Vec<_> = manifest.shards.into_iter().filter(|shard| shard.rows > 0).collect();
        assert!(built.len() > 1, "an index of several shards is needed");
        let leaves = Leaves::over((0..3).map(|_| world.engine()).collect());
        Self {
            index,
            leaves,
            shards: built.iter().map(|shard| shard.shard.clone()).collect(),
            rows: built.iter().map(|shard| shard.rows).collect(),
            world,
        }
    }

    fn root(&self) -> Engine {
        self.root_with(EngineSettings { leaf_bytes: 1, ..self.world.settings() })
    }

    fn root_with(&self, settings: EngineSettings) -> Engine {
        Engine::with_leaves(self.world.store.clone(), settings, self.leaves.clone()).unwrap()
    }

    /// What a root asks when each shard has a leaf.
    async fn requests(&mut self) -> Vec<LeafRequest> {
        let record = Arc::new(Record::default());
        let settings = EngineSettings { leaf_bytes: 1, ..self.world.settings() };
        let root = Engine::with_leaves(self.world.store.clone(), settings, record.clone()).unwrap();
        let request = self.world.request(5);
        root.search(&self.index.id, request).await.unwrap();
        std::mem::take(&mut *record.0.lock())
    }

    async fn fails(&mut self, root: &Engine) -> SearchError {
        let request = self.world.request(5);
        root.search(&self.index.id, request).await.unwrap_err()
    }
}

#[tokio::test]
async fn every_shard_is_searched_by_one_leaf_and_the_tail_by_none() {
    let mut scattered = Scattered::new(20).await;
    let root = scattered.root();
    let request = scattered.world.request(1000);
    scattered.world.check(&root, &scattered.index, request).await;
    let mut groups = scattered.leaves.groups.lock().concat();
    groups.sort();
    assert_eq!(groups, scattered.shards);
}

#[tokio::test]
async fn what_fits_one_leaf_is_searched_by_the_engine_itself() {
    let mut scattered = Scattered::new(21).await;
    let request = scattered.world.request(10);
    let large = scattered.root_with(scattered.world.settings());
    scattered.world.check(&large, &scattered.index, request.clone()).await;
    assert_eq!(scattered.leaves.asked(), 0);
    let two = scattered.root_with(EngineSettings { leaf_bytes: 1, leaves_max: 2, ..scattered.world.settings() });
    scattered.world.check(&two, &scattered.index, request).await;
    assert_eq!(scattered.leaves.asked(), 2);
}

#[tokio::test]
async fn a_leaf_held_past_the_deadline_costs_coverage_and_nothing_else() {
    let mut scattered = Scattered::new(22).await;
    let clock = StillClock::new();
    let settings = EngineSettings { leaf_bytes: 1, ..scattered.world.settings() };
    let store = scattered.world.store.with_clock(clock.clone());
    let root = Engine::with_leaves(store, settings, scattered.leaves.clone()).unwrap();
    let mut request = scattered.world.request(5);
    // The leaves' own clock does not wait: they must have their files before there is a deadline.
    root.search(&scattered.index.id, request.clone()).await.unwrap();
    let all = u32::try_from(scattered.shards.len()).unwrap();
    scattered.leaves.answered.acquire_many(all).await.unwrap().forget();
    scattered.leaves.strike(&scattered.shards[0], Fault::Hangs);
    request.deadline = Some(Duration::from_secs(600));
    let searching = {
        let (root, id) = (root.clone(), scattered.index.id.clone());
        tokio::spawn(async move { root.search(&id, request).await })
    };
    scattered.leaves.answered.acquire_many(all - 1).await.unwrap().forget();
    assert!(!searching.is_finished(), "there is time left");
    clock.advance(Duration::from_secs(601));
    let response = searching.await.unwrap().unwrap();
    let [failure] = response.failures.as_slice() else { panic!("{:?}", response.failures) };
    assert_eq!((&failure.shards, failure.rows), (&vec![scattered.shards[0].clone()], scattered.rows[0]));
    assert!(response.coverage < 1.0 && response.coverage > 0.0, "{}", response.coverage);
    assert!(response.results.iter().all(|found| found.len() == 5), "the others are there");
}

#[tokio::test]
async fn a_leaf_is_told_less_than_the_time_that_is_left() {
    let mut scattered = Scattered::new(23).await;
    let record = Arc::new(Record::default());
    let settings = EngineSettings { leaf_bytes: 1, ..scattered.world.settings() };
    let store = scattered.world.store.with_clock(StillClock::new());
    let root = Engine::with_leaves(store, settings, record.clone()).unwrap();
    for (deadline, expected) in [(None, None), (Some(1000), Some(950)), (Some(100), Some(75))] {
        record.0.lock().clear();
        let mut request = scattered.world.request(5);
        request.deadline = deadline.map(Duration::from_millis);
        root.search(&scattered.index.id, request).await.unwrap();
        let remaining: BTreeSet<_> = record.0.lock().iter().map(|request| request.remaining).collect();
        assert_eq!(remaining, BTreeSet::from([expected.map(Duration::from_millis)]));
    }
}

#[tokio::test]
async fn a_leaf_that_fails_once_is_asked_again() {
    let mut scattered = Scattered::new(24).await;
    let root = scattered.root();
    scattered.leaves.strike(&scattered.shards[1], Fault::Fails(LeafError::Unavailable("throttled".into()), 1));
    let request = scattered.world.request(10);
    scattered.world.check(&root, &scattered.index, request).await;
    assert_eq!(scattered.leaves.asked(), scattered.shards.len() + 1);
}

#[tokio::test]
async fn a_lost_leaf_is_an_error_without_a_deadline_and_coverage_with_one() {
    let mut scattered = Scattered::new(25).await;
    let root = scattered.root();
    let lost = Fault::Fails(LeafError::Unavailable("throttled".into()), usize::MAX);
    scattered.leaves.strike(&scattered.shards[1], lost);
    let error = scattered.fails(&root).await;
    assert!(error.is_retryable() && error.to_string().contains("throttled"), "{error}");

    // Moved little by little, so that the pause before the second attempt ends and the deadline stays far away.
    let clock = StillClock::new();
    let settings = EngineSettings { leaf_bytes: 1, ..scattered.world.settings() };
    let store = scattered.world.store.with_clock(clock.clone());
    let patient = Engine::with_leaves(store, settings, scattered.leaves.clone()).unwrap();
    let mut request = scattered.world.request(5);
    request.deadline = Some(Duration::from_secs(600));
    let mut searching = {
        let id = scattered.index.id.clone();
        tokio::spawn(async move { patient.search(&id, request).await })
    };
    let response = loop {
        tokio::select! {
            response = &mut searching => break response.unwrap().unwrap(),
            () = tokio::time::sleep(Duration::from_millis(1)) => clock.advance(Duration::from_millis(10)),
        }
    };
    assert!(response.coverage < 1.0, "{}", response.coverage);
    assert!(response.failures.iter().any(|failure| failure.shards == [scattered.shards[1].clone()]));
}

#[tokio::test]
async fn a_corrupt_file_is_an_error_whatever_the_deadline() {
    let mut scattered = Scattered::new(26).await;
    let root = scattered.root();
    let text = || "x".to_owned();
    let corrupt = LeafError::Corrupt { object: text(), part: text(), expected: text(), found: text() };
    scattered.leaves.strike(&scattered.shards[0], Fault::Fails(corrupt, usize::MAX));
    let mut request = scattered.world.request(5);
    for deadline in [None, Some(Duration::from_secs(3600))] {
        request.deadline = deadline;
        let error = root.search(&scattered.index.id, request.clone()).await.unwrap_err();
        assert!(matches!(&error, SearchError::Corrupt(Corrupt { object, .. }) if object == "x"), "{error}");
    }
}

#[tokio::test]
async fn a_manifest_of_another_commit_is_missing_and_the_root_pins_anew() {
    let mut scattered = Scattered::new(27).await;
    let root = scattered.root();
    scattered.leaves.strike(&scattered.shards[0], Fault::Foreign(1));
    let request = scattered.world.request(10);
    scattered.world.check(&root, &scattered.index, request).await;
    assert!(scattered.leaves.asked() > scattered.shards.len(), "all groups were asked anew");
    scattered.leaves.strike(&scattered.shards[0], Fault::Foreign(usize::MAX));
    let error = scattered.fails(&root).await;
    assert!(matches!(error, SearchError::Store(StoreError::Missing { .. })), "{error}");
}

#[tokio::test]
async fn a_leaf_that_has_seen_more_answers_from_the_older_snapshot() {
    let mut scattered = Scattered::new(28).await;
    let hour = Duration::from_secs(3600);
    let behind =
        scattered.root_with(EngineSettings { leaf_bytes: 1, eventual_max_age: hour, ..scattered.world.settings() });
    let ahead = scattered.root();
    let eventual = |world: &mut World| SearchRequest { consistency: Consistency::Eventual, ..world.request(1000) };
    let request = eventual(&mut scattered.world);
    let before = scattered.world.check(&behind, &scattered.index, request).await;
    for round in 0..3 {
        scattered.world.upload_random(40).await;
        let request = scattered.world.request(1000);
        scattered.world.check(&ahead, &scattered.index, request).await;
        let request = eventual(&mut scattered.world);
        let response = scattered.world.check(&behind, &scattered.index, request).await;
        assert_eq!((response.version, response.generation), (before.version.clone(), before.generation));
        if round == 1 {
            let head = scattered.world.reference.head();
            scattered.world.publish(&scattered.index.clone(), head, false).await;
        }
    }
}

#[tokio::test]
async fn a_leaf_reads_the_catalogs_of_its_own_shards_alone() {
    let mut scattered = Scattered::new(29).await;
    let leaf = scattered.world.engine();
    let requests = scattered.requests().await;
    let mut gets = Vec::new();
    for request in requests.iter().chain(&requests) {
        let before = scattered.world.requests.counts();
        let answer = leaf.search_leaf(request.clone()).await.unwrap();
        assert!(answer.considered > 0);
        gets.push(scattered.world.requests.counts().since(&before).gets);
    }
    let (cold, warm) = gets.split_at(requests.len());
    // The first reads the manifest and the tail's one delta as well; each reads its catalog and its file.
    assert_eq!(cold[0], 4);
    assert!(cold[1..].iter().all(|&gets| gets == 2), "{cold:?}");
    assert!(warm.iter().all(|&gets| gets == 0), "{warm:?}");
}

#[tokio::test]
async fn a_leaf_never_asks_leaves() {
    let mut scattered = Scattered::new(33).await;
    let mut request = scattered.requests().await.remove(0);
    request.shards.clone_from(&scattered.shards);
    // As a root it would share such a search out.
    let answer = scattered.root().search_leaf(request).await.unwrap();
    assert!(answer.considered > 0);
    assert_eq!(scattered.leaves.asked(), 0);
}

/// What a test makes of a right answer.
type Bend = fn(&mut LeafAnswer);

/// A leaf that gives a bent answer.
struct Bends(Engine, Bend);

#[async_trait]
impl LeafSearch for Bends {
    async fn search(&self, request: LeafRequest) -> Result<LeafAnswer, SearchError> {
        let mut answer = self.0.search_leaf(request).await?;
        self.1(&mut answer);
        Ok(travel(&answer))
    }
}

#[tokio::test]
async fn leaf_answers_fit() {
    let mut scattered = Scattered::new(31).await;
    let bends: [(Bend, &str); 7] = [
        (|answer| answer.results.push(Vec::new()), "results of"),
        (
            |answer| {
                let first = answer.results[0][0].clone();
                answer.results[0].resize(6, first);
            },
            "6 points, and k is 5",
        ),
        (|answer| answer.considered = answer.allowed + 1, "rows considered"),
        (|answer| answer.results[0][0].found.distance = f64::NAN, "no number"),
        (|answer| answer.results.iter_mut().flatten().for_each(|hit| hit.found.attributes.clear()), "attributes"),
        (|answer| answer.results.iter_mut().flatten().for_each(|hit| hit.found.vector = None), "vector"),
        (|answer| answer.allowed = u64::MAX, ""),
    ];
    for (bend, expected) in bends {
        let leaf = Arc::new(Bends(scattered.world.engine(), bend));
        let settings = EngineSettings { leaf_bytes: 1, ..scattered.world.settings() };
        let root = Engine::with_leaves(scattered.world.store.clone(), settings, leaf).unwrap();
        let request = SearchRequest { retrieve_vectors: true, ..scattered.world.request(5) };
        match root.search(&scattered.index.id, request).await {
            Err(error) => assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}"),
            Ok(response) => {
                assert!(expected.is_empty() && response.coverage < 1.0, "{expected}: {}", response.coverage)
            }
        }
    }
}

#[tokio::test]
async fn hydration_fetches_what_a_deadline_left_out() {
    let (mut world, faults) = World::faulty(Scenario::dense(), 30).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    world.upload_random(100).await;
    world.publish(&index, 1, false).await;
    let held = faults.hold(tarn_testkit::Operation::Get, "/segments/");
    let mut request = world.request(5);
    // The test's clock does not wait.
    request.deadline = Some(Duration::from_secs(600));
    let response = engine.search(&index.id, request.clone()).await.unwrap();
    assert!(response.coverage < 1.0, "{}", response.coverage);
    held.arrived().await;
    held.release();
    engine.hydrate().await.unwrap();
    // A request for a file would wait for ever.
    let _held = faults.hold(tarn_testkit::Operation::Get, "/segments/");
    engine.hydrate().await.unwrap();
    request.deadline = None;
    world.check(&engine, &index, request).await;
}

#[tokio::test]
async fn hydration_fetches_no_more_than_the_cache_holds() {
    let (mut world, faults) = World::faulty(Scenario::dense(), 32).await;
    let index = world.index("exact-l2");
    world.upload_random(100).await;
    world.publish(&index, 1, false).await;
    let held = faults.hold(tarn_testkit::Operation::Get, "/segments/");
    let engine = Engine::new(world.store.clone(), EngineSettings { cache_bytes: 1, ..world.settings() }).unwrap();
    let request = SearchRequest { deadline: Some(Duration::from_secs(600)), ..world.request(5) };
    assert!(engine.search(&index.id, request).await.unwrap().coverage < 1.0);
    held.arrived().await;
    assert!(matches!(engine.hydrate().now_or_never(), Some(Ok(()))), "it waits for a file that does not fit");
}
