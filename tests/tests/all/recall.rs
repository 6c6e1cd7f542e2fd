//! The recall of approximate searches, at a size at which cells and graphs are used, by way of uploads and builds as users do
//! them.

use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tarn_compact::{ApproximateIndex, Builder, BuilderSettings, Silent};
use tarn_model::{
    AttributeType, AttributeValue, Attributes, DataPoint, DataSource, DataSourceId, HnswParams, Index, IndexAlgorithm,
    IndexId, Metric, Update, Vector, VectorKind,
};
use tarn_search::{Engine, EngineSettings, SearchRequest};
use tarn_store::{Store, create_index, create_source};
use tarn_testkit::{Neighbour, Reference, Scope};
use tarn_timeline::{AppendOptions, PointBatch, Timeline};

const POINTS: i64 = 6_000;
const DIMENSION: u32 = 24;
const CLUSTERS: usize = 40;
const QUERIES: usize = 60;
const K: u32 = 10;

/// Points in clusters, as embeddings are, with noise in all directions.
struct Points {
    rng: SmallRng,
    centres: Vec<Vec<f32>>,
}

impl Points {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let centres = (0..CLUSTERS).map(|_| (0..DIMENSION).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
        Self { rng, centres }
    }

    fn vector(&mut self) -> Vector {
        let centre = &self.centres[self.rng.random_range(0..CLUSTERS)];
        Vector::Dense(centre.iter().map(|at| at + self.rng.random_range(-0.5..0.5)).collect())
    }

    fn upsert(&mut self, id: i64) -> Update {
        Update::Upsert(DataPoint { attributes: named(id), vector: self.vector() })
    }
}

fn named(id: i64) -> Attributes {
    Attributes::from([("id".to_owned(), AttributeValue::Int64(id))])
}

fn definitions(metric: Metric, hnsw: Option<HnswParams>) -> (Arc<DataSource>, Index) {
    let source = DataSource {
        id: DataSourceId { name: "points".into(), version: "1".into() },
        vector_dimension: DIMENSION,
        vector_kind: VectorKind::Dense,
        attribute_types: [("id".to_owned(), AttributeType::Int64)].into(),
        permanent_attributes: ["id".to_owned()].into(),
        sharders: Default::default(),
        policy: Default::default(),
    };
    let index = Index {
        id: IndexId { name: "neighbours".into(), version: "1".into() },
        data_source: source.id.clone(),
        algorithm: IndexAlgorithm { metric, hnsw },
        id_attributes: ["id".to_owned()].into(),
        split_attributes: Default::default(),
        shards: Index::single_shard(),
    };
    (Arc::new(source), index)
}

/// The mean fraction of the true neighbours that searches find; `change` adjusts each request.
async fn recall(
    engine: &Engine,
    index: &Index,
    reference: &Reference,
    queries: &[Vector],
    change: impl Fn(&mut SearchRequest),
) -> f64 {
    let mut found_of_all = 0;
    for query in queries {
        let mut request = SearchRequest::new(vec![query.clone()], K);
        change(&mut request);
        let response = engine.search(&index.id, request).await.expect("answers");
        assert_eq!(response.results[0].len(), K as usize);
        let ranked: Vec<Neighbour> = reference.ranked(index, reference.head(), &Scope::default(), query);
        let cut = ranked[K as usize - 1].distance;
        let is_near = |distance: f64| match index.algorithm.metric.higher_is_nearer() {
            true => distance >= cut - 1e-4,
            false => distance <= cut + 1e-4,
        };
        found_of_all += response.results[0].iter().filter(|found| is_near(found.distance)).count();
    }
    found_of_all as f64 / (queries.len() * K as usize) as f64
}

/// An engine over what was built, all that was uploaded, and queries.
struct Built<'a> {
    engine: &'a Engine,
    index: &'a Index,
    reference: &'a Reference,
    queries: &'a [Vector],
}

impl Built<'_> {
    async fn recall(&self, change: impl Fn(&mut SearchRequest)) -> f64 {
        recall(self.engine, self.index, self.reference, self.queries, change).await
    }
}

/// Checks two builds.
async fn of_each_build(
    kind: ApproximateIndex,
    (source, index): (Arc<DataSource>, Index),
    check: impl AsyncFn(Built<'_>),
) {
    let mut points = Points::new(7);
    let store = Store::memory();
    create_source(&store, &source).await.expect("defined");
    create_index(&store, &index).await.expect("defined");
    let timeline = Timeline::open(store.clone(), Arc::clone(&source));
    let mut reference = Reference::new(Arc::clone(&source));
    let directory = tempfile::tempdir().expect("a directory");
    let mut settings = BuilderSettings::default();
    settings.approximate_index = kind;
    settings.cells_threshold_rows = 1_000;
    settings.graph_threshold_rows = 1_000;
    settings.threads = 1;
    settings.cache_dir = Some(directory.path().join("builder"));
    let builder = Builder::new(store.clone(), settings, Arc::new(Silent)).expect("a builder");
    let cache_dir = directory.path().join("engine");
    let engine = Engine::new(store, EngineSettings { cache_dir, threads: 1, ..Default::default() }).expect("an engine");

    // First everything; then every fifth point goes and every seventh moves, so that segments have holes and company.
    let first: Vec<Update> = (0..POINTS).map(|id| points.upsert(id)).collect();
    let second: Vec<Update> = (0..POINTS)
        .filter_map(|id| match (id % 5, id % 7) {
            (0, _) => Some(Update::Delete(named(id))),
            (_, 0) => Some(points.upsert(id)),
            _ => None,
        })
        .collect();
    let queries: Vec<Vector> = (0..QUERIES).map(|_| points.vector()).collect();
    for updates in [first, second] {
        let batch = PointBatch::from_updates(Arc::clone(&source), &updates).expect("valid");
        timeline.append(batch, AppendOptions::default()).await.expect("appended");
        reference.apply(&updates).expect("applied");
        let summary = builder.run().await.expect("runs");
        assert!(summary.failures().next().is_none(), "{summary:?}");
        check(Built { engine: &engine, index: &index, reference: &reference, queries: &queries }).await;
    }
}

async fn the_neighbours_are_found(kind: ApproximateIndex, metric: Metric) {
    let graph = HnswParams { m: 16, ef_construction: 100, ef_search: 10 };
    of_each_build(kind, definitions(metric, Some(graph)), async |built| {
        let by_default = built.recall(|_| {}).await;
        let exactly = built.recall(|request| request.exact = true).await;
        let hasty = built.recall(|request| request.ef_search = Some(1)).await;
        eprintln!("{kind:?}, {metric:?}: recall@10 by default {by_default:.3}, with the least effort {hasty:.3}");
        assert!(by_default >= 0.95, "{kind:?}, {metric:?}: {by_default}");
        assert!(exactly >= 1.0, "{kind:?}, {metric:?}: {exactly}");
        // Otherwise everything was scanned, and the first assertion says nothing.
        assert!(hasty < exactly, "{kind:?}, {metric:?}: the least effort finds {hasty}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exact_index_finds_all_whatever_is_asked_for() {
    of_each_build(ApproximateIndex::Cells, definitions(Metric::L2, None), async |built| {
        assert!(built.recall(|request| request.target_recall = Some(0.5)).await >= 1.0);
        assert!(built.recall(|request| request.ef_search = Some(1)).await >= 1.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cells_by_l2_find_the_neighbours() {
    the_neighbours_are_found(ApproximateIndex::Cells, Metric::L2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cells_by_inner_product_find_the_neighbours() {
    the_neighbours_are_found(ApproximateIndex::Cells, Metric::InnerProduct).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cells_by_cosine_find_the_neighbours() {
    the_neighbours_are_found(ApproximateIndex::Cells, Metric::Cosine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphs_by_l2_find_the_neighbours() {
    the_neighbours_are_found(ApproximateIndex::Graph, Metric::L2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphs_by_inner_product_find_the_neighbours() {
    the_neighbours_are_found(ApproximateIndex::Graph, Metric::InnerProduct).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphs_by_cosine_find_the_neighbours() {
    the_neighbours_are_found(ApproximateIndex::Graph, Metric::Cosine).await;
}
