//! Eight writers, two builders and readers at once, each with a client of its own, over one lane of one timeline.
//!
//! Every batch of writer `w` adds the point `(w, b)`, removes `(w, b - 2)` and moves the point `(w, LATEST)` to serial `b`,
//! so any snapshot of a consistent store holds, for each writer, exactly its last two points and the one that names them.
//! A lost batch, a batch applied in part or twice, a tombstone that did not hold, or a mix of two generations shows.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tarn_compact::{Builder, BuilderSettings, RunItem, Silent};
use tarn_model::{
    AttributeType, AttributeValue, Attributes, DataPoint, DataSource, DataSourceId, Index, IndexAlgorithm, IndexId,
    KeyPrefix, Metric, ObjectKey, ReadToken, Update, Vector, VectorKind,
};
use tarn_search::{Engine, EngineSettings, SearchRequest};
use tarn_store::{Clock, Store, SystemClock, create_index, create_source};
use tarn_testkit::Weed;
use tarn_timeline::{AppendOptions, PointBatch, Timeline};

const WRITERS: i64 = 8;
const BATCHES: i64 = 200;
const BUILDERS: usize = 2;
const READERS: usize = 3;
/// A writer searches for what it has just written every so many batches.
const CHECK_EVERY: i64 = 20;
/// Every so many batches a writer sends one twice, with an idempotency key.
const REPEAT_EVERY: i64 = 25;
/// The point of a writer that names its last batch.
const LATEST: i64 = -1;

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn in_memory() {
    let store = Store::memory();
    run(&|| store.clone()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn on_disk() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    run(&|| Store::disk(directory.path()).expect("a store")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn on_s3() {
    let server = Weed::start();
    run(&|| server.store("shared")).await;
}

/// What each writer knows to be durable: its last acknowledged batch.
type Acknowledged = [AtomicI64; WRITERS as usize];

async fn run(client: &(dyn Fn() -> Store + Sync)) {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let (source, index) = definitions();
    let store = client();
    create_source(&store, &source).await.expect("a data source");
    create_index(&store, &index).await.expect("an index");

    let acknowledged: Arc<Acknowledged> = Arc::new(std::array::from_fn(|_| AtomicI64::new(-1)));
    let writing = Arc::new(AtomicUsize::new(WRITERS as usize));
    let directory = |kind: &str, number: usize| temporary.path().join(format!("{kind}-{number}"));

    let writers = (0..WRITERS).map(|writer| {
        let timeline = Timeline::open(client(), Arc::clone(&source));
        let engine = engine(client(), &directory("writer", writer as usize));
        let (index, acknowledged, writing) = (index.id.clone(), Arc::clone(&acknowledged), Arc::clone(&writing));
        tokio::spawn(async move {
            // However it ends, the others must not wait for it.
            let _done = Done(writing);
            write(writer, &timeline, &engine, &index, &acknowledged).await
        })
    });
    let builders = (0..BUILDERS).map(|number| {
        let (store, builder) = (client(), builder(client(), &directory("builder", number)));
        let writing = Arc::clone(&writing);
        tokio::spawn(async move {
            while writing.load(Ordering::SeqCst) > 0 {
                build(&builder).await;
                store.clock().sleep(Duration::from_millis(20)).await;
            }
        })
    });
    let readers = (0..READERS).map(|number| {
        let engine = engine(client(), &directory("reader", number));
        let (index, acknowledged, writing) = (index.id.clone(), Arc::clone(&acknowledged), Arc::clone(&writing));
        tokio::spawn(async move {
            let mut seen = ReadToken::default();
            let mut answers = 0;
            while writing.load(Ordering::SeqCst) > 0 {
                seen = read(&engine, &index, &acknowledged, &seen).await;
                answers += 1;
            }
            answers
        })
    });
    // Started now, all of them.
    let (writers, builders, readers): (Vec<_>, Vec<_>, Vec<_>) =
        (writers.collect(), builders.collect(), readers.collect());
    let written = try_join_all(writers).await.expect("the writers");
    try_join_all(builders).await.expect("the builders");
    let answers: u64 = try_join_all(readers).await.expect("the readers").iter().sum();
    assert!(answers > 0, "the readers have read something");

    check_timeline(&Timeline::open(client(), Arc::clone(&source)), &written).await;
    check_end(client, &source, &index, &acknowledged, temporary.path()).await;
}

/// Counts a writer as finished when dropped.
struct Done(Arc<AtomicUsize>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn definitions() -> (Arc<DataSource>, Index) {
    let keys = ["writer", "n"];
    let source = DataSource {
        id: DataSourceId::new("points", "1").expect("an id"),
        vector_dimension: 2,
        vector_kind: VectorKind::Dense,
        attribute_types: ["writer", "n", "serial"].map(|key| (key.to_owned(), AttributeType::Int64)).into(),
        permanent_attributes: keys.map(str::to_owned).into(),
        sharders: BTreeMap::new(),
        policy: Default::default(),
    };
    let index = Index {
        id: IndexId::new("all", "1").expect("an id"),
        data_source: source.id.clone(),
        algorithm: IndexAlgorithm { metric: Metric::L2, hnsw: None },
        id_attributes: BTreeSet::from(["n".to_owned()]),
        split_attributes: BTreeSet::from(["writer".to_owned()]),
        shards: Index::single_shard(),
    };
    index.validate(&source).expect("a valid index");
    (Arc::new(source), index)
}

fn engine(store: Store, directory: &Path) -> Engine {
    let settings = EngineSettings { cache_dir: directory.to_path_buf(), threads: 1, ..EngineSettings::default() };
    Engine::new(store, settings).expect("an engine")
}

fn builder(store: Store, directory: &Path) -> Builder {
    let mut settings = BuilderSettings::default();
    settings.cache_dir = Some(directory.join("cache"));
    settings.temp_dir = Some(directory.to_path_buf());
    settings.threads = 1;
    std::fs::create_dir_all(directory).expect("the builder's directory");
    Builder::new(store, settings, Arc::new(Silent)).expect("a builder")
}

fn key(writer: i64, n: i64) -> Attributes {
    [("writer", writer), ("n", n)].map(|(key, value)| (key.to_owned(), AttributeValue::Int64(value))).into()
}

fn upsert(writer: i64, n: i64, serial: i64) -> Update {
    let mut attributes = key(writer, n);
    attributes.insert("serial".to_owned(), AttributeValue::Int64(serial));
    Update::Upsert(DataPoint { attributes, vector: Vector::Dense(vec![writer as f32, serial as f32]) })
}

fn updates(writer: i64, batch: i64) -> Vec<Update> {
    let mut updates = vec![upsert(writer, batch, batch), upsert(writer, LATEST, batch)];
    if batch >= 2 {
        updates.push(Update::Delete(key(writer, batch - 2)));
    }
    updates
}

/// The tokens of one writer's batches.
async fn write(
    writer: i64,
    timeline: &Timeline,
    engine: &Engine,
    index: &IndexId,
    acknowledged: &Acknowledged,
) -> Vec<ReadToken> {
    let mut tokens: Vec<ReadToken> = Vec::new();
    for batch in 0..BATCHES {
        let repeat = batch % REPEAT_EVERY == 0;
        let options = || match repeat {
            true => AppendOptions::idempotent(format!("{writer}/{batch}")),
            false => AppendOptions::default(),
        };
        let points = PointBatch::from_updates(Arc::clone(timeline.source()), &updates(writer, batch)).expect("valid");
        let token = append(timeline, &points, options).await;
        if repeat {
            let again = append(timeline, &points, options).await;
            assert_eq!(again, token, "repeated with its key, it is the same append");
        }
        assert!(tokens.last().is_none_or(|last| token.includes(last) && token != *last), "tokens are monotonic");
        acknowledged[writer as usize].store(batch, Ordering::SeqCst);
        if batch % CHECK_EVERY == 0 {
            let mut request = request();
            request.min_version = Some(token.clone());
            let found = search(engine, index, request).await.1;
            assert_eq!(found[&writer].get(&LATEST), Some(&batch), "a token is honoured by the next read");
        }
        tokens.push(token);
    }
    tokens
}

/// Appends; where the others win for too long, tries again, as clients do.
async fn append(timeline: &Timeline, points: &PointBatch, options: impl Fn() -> AppendOptions) -> ReadToken {
    loop {
        match timeline.append(points.clone(), options()).await {
            Ok(appended) => return appended.token,
            Err(tarn_timeline::AppendError::Contended { .. }) => {}
            Err(error) => panic!("an append failed: {error}"),
        }
    }
}

async fn build(builder: &Builder) {
    for item in builder.run().await.expect("a run").items {
        match item {
            RunItem::Fold(id, outcome) => drop(outcome.unwrap_or_else(|error| panic!("folding {id}: {error}"))),
            RunItem::Build(id, outcome) => drop(outcome.unwrap_or_else(|error| panic!("building {id}: {error}"))),
            other => panic!("an unknown step: {other:?}"),
        }
    }
}

fn request() -> SearchRequest {
    let mut request = SearchRequest::new(vec![Vector::Dense(vec![0.0, 0.0])], 1_000);
    request.exact = true;
    request
}

/// The serials found, by writer and point.
type Serials = BTreeMap<i64, BTreeMap<i64, i64>>;

async fn search(engine: &Engine, index: &IndexId, request: SearchRequest) -> (ReadToken, Serials) {
    let response = engine.search(index, request).await.expect("a search");
    assert!((response.coverage - 1.0).abs() < f64::EPSILON, "nothing is left out");
    let mut serials = Serials::new();
    for found in &response.results[0] {
        let value = |key: &str| match found.attributes.iter().find(|(name, _)| name == key) {
            Some((_, AttributeValue::Int64(value))) => *value,
            other => panic!("attribute {key} is {other:?}"),
        };
        let before = serials.entry(value("writer")).or_default().insert(value("n"), value("serial"));
        assert_eq!(before, None, "no point is found twice");
    }
    (response.version, serials)
}

/// One strong read: whole batches, nothing older than what was acknowledged before it began, never back in time.
async fn read(engine: &Engine, index: &IndexId, acknowledged: &Acknowledged, seen: &ReadToken) -> ReadToken {
    let before: Vec<i64> = acknowledged.iter().map(|batch| batch.load(Ordering::SeqCst)).collect();
    let (version, serials) = search(engine, index, request()).await;
    assert!(version.includes(seen), "read at {version} after {seen}");
    for (writer, before) in (0..).zip(before) {
        let points = serials.get(&writer).cloned().unwrap_or_default();
        let latest = points.get(&LATEST).copied().unwrap_or(-1);
        assert!(latest >= before, "writer {writer}: batch {before} was acknowledged, the newest found is {latest}");
        assert_eq!(points, expected(latest), "writer {writer} after batch {latest}");
    }
    version
}

/// The points of a writer after a batch, with their serials.
fn expected(batch: i64) -> BTreeMap<i64, i64> {
    let mut points: BTreeMap<i64, i64> = (batch - 1..=batch).filter(|&n| n >= 0).map(|n| (n, n)).collect();
    if batch >= 0 {
        points.insert(LATEST, batch);
    }
    points
}

/// No gap, no loss, no duplicate: the timeline from its beginning, beside what the writers were told.
async fn check_timeline(timeline: &Timeline, written: &[Vec<ReadToken>]) {
    let deltas = timeline.read_after(&ReadToken::default()).await.expect("the timeline");
    let sequences: Vec<u64> = deltas.iter().map(|delta| delta.sequence).collect();
    assert_eq!(sequences, (1..=deltas.len() as u64).collect::<Vec<_>>(), "no gap");
    let batches: Vec<_> = deltas.iter().flat_map(|delta| delta.batches.iter().map(|batch| batch.id)).collect();
    assert_eq!(batches.len() as i64, WRITERS * BATCHES, "as many batches as were sent");
    assert_eq!(batches.iter().collect::<HashSet<_>>().len(), batches.len(), "no batch twice");
    let told: HashSet<u64> = written.iter().flatten().map(|token| token.sequence(0)).collect();
    assert_eq!(told.len() as i64, WRITERS * BATCHES, "without group commit every batch has its own sequence");
    let source = timeline.source();
    for (writer, tokens) in (0..).zip(written) {
        for (batch, token) in (0..).zip(tokens) {
            let delta = &deltas[usize::try_from(token.sequence(0)).expect("a sequence") - 1];
            let sent = PointBatch::from_updates(Arc::clone(source), &updates(writer, batch)).expect("valid");
            let keys =
                |count: usize, key: &dyn Fn(usize) -> (Vec<u8>, bool)| (0..count).map(key).collect::<BTreeSet<_>>();
            assert_eq!(
                keys(delta.rows(), &|row| (delta.key(row).to_vec(), delta.is_deleted(row))),
                keys(sent.rows(), &|row| (sent.key(row).to_vec(), sent.is_deleted(row))),
                "writer {writer}, batch {batch} is at the sequence that its token names"
            );
        }
    }
}

/// After a last build: the index is the live set, every generation is there once, and everything verifies.
async fn check_end(
    client: &(dyn Fn() -> Store + Sync),
    source: &DataSource,
    index: &Index,
    acknowledged: &Acknowledged,
    temporary: &Path,
) {
    let store = client();
    let builder = builder(client(), &temporary.join("last"));
    build(&builder).await;
    let engines = join_all((0..2).map(|number| {
        let engine = engine(client(), &temporary.join(format!("end-{number}")));
        async move { read(&engine, &index.id, acknowledged, &ReadToken::default()).await }
    }))
    .await;
    assert_eq!(engines[0], ReadToken::single((WRITERS * BATCHES) as u64));
    let generation = |key: Option<ObjectKey>| match key {
        Some(ObjectKey::Checkpoint { generation, .. } | ObjectKey::Manifest { generation, .. }) => generation,
        other => panic!("a foreign object: {other:?}"),
    };
    for prefix in [KeyPrefix::Checkpoints(source.id.clone()), KeyPrefix::Manifests(index.id.clone())] {
        let listed = store.list(&prefix).await.expect("a listing");
        let generations: Vec<_> = listed.into_iter().map(|listed| generation(listed.key)).rev().collect();
        assert!(!generations.is_empty());
        assert_eq!(generations, (1..=generations.len() as u64).collect::<Vec<_>>(), "no generation is missing");
    }
    let report = builder.verify().await.expect("a verification");
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    eprintln!("verified {} objects, {} rows, at {} ms", report.objects, report.rows, SystemClock.now_ms());
}
