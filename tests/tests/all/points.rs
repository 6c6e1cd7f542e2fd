//! Statistics, samples, exports and earlier generations, by way of uploads and builds as users do them; held against the
//! reference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tarn_compact::{Builder, BuilderSettings, GcOptions, Silent};
use tarn_model::{
    AttributeType, AttributeValue, Attributes, CompareOp, DataPoint, DataSource, DataSourceId, Filter, Index,
    IndexAlgorithm, IndexId, Metric, ObjectKey, PointKey, Shard, ShardCondition, Update, Vector, VectorKind,
};
use tarn_search::{
    Engine, EngineSettings, ExportRequest, IndexStatistics, MeasuredFrom, PointsRequest, Sample, SampleRequest,
    SearchError, SearchRequest, StatisticsRequest,
};
use tarn_store::{Store, create_index, create_source};
use tarn_testkit::{Reference, Scope};
use tarn_timeline::{AppendOptions, PointBatch, Timeline, row_attributes, row_vector};

const DIMENSION: usize = 12;
const GROUPS: [&str; 4] = ["a", "b", "c", "d"];

struct World {
    timeline: Timeline,
    reference: Reference,
    builder: Builder,
    engine: Engine,
    index: Index,
    source: Arc<DataSource>,
    rng: SmallRng,
    _directory: tempfile::TempDir,
}

/// Two shards, by the group; split by the group; `rank` is payload.
fn definitions() -> (DataSource, Index) {
    let types = [("id", AttributeType::Int64), ("group", AttributeType::String), ("rank", AttributeType::Int64)];
    let source = DataSource {
        id: DataSourceId::new("points", "1").expect("valid"),
        vector_dimension: DIMENSION as u32,
        vector_kind: VectorKind::Dense,
        attribute_types: types.map(|(name, t)| (name.to_owned(), t)).into(),
        permanent_attributes: ["id", "group"].map(str::to_owned).into(),
        sharders: BTreeMap::new(),
        policy: Default::default(),
    };
    let values = |values: &[&str]| {
        let values = values.iter().map(|value| AttributeValue::String((*value).to_owned())).collect();
        Shard { conditions: BTreeMap::from([("group".to_owned(), ShardCondition::Values(values))]) }
    };
    let index = Index {
        id: IndexId::new("near", "1").expect("valid"),
        data_source: source.id.clone(),
        algorithm: IndexAlgorithm { metric: Metric::L2, hnsw: None },
        id_attributes: ["id".to_owned()].into(),
        split_attributes: ["group".to_owned()].into(),
        shards: BTreeMap::from([("one".to_owned(), values(&["a"])), ("two".to_owned(), values(&["b", "c", "d"]))]),
    };
    (source, index)
}

impl World {
    async fn new() -> Self {
        let (source, index) = definitions();
        let store = Store::memory();
        create_source(&store, &source).await.expect("defined");
        create_index(&store, &index).await.expect("defined");
        let source = Arc::new(source);
        let directory = tempfile::tempdir().expect("a directory");
        let mut settings = BuilderSettings::default();
        settings.threads = 1;
        settings.cells_threshold_rows = 400;
        settings.cache_dir = Some(directory.path().join("builder"));
        let builder = Builder::new(store.clone(), settings, Arc::new(Silent)).expect("a builder");
        let cache_dir = directory.path().join("engine");
        let settings = EngineSettings { cache_dir, threads: 2, ..Default::default() };
        Self {
            timeline: Timeline::open(store.clone(), Arc::clone(&source)),
            reference: Reference::new(Arc::clone(&source)),
            engine: Engine::new(store, settings).expect("an engine"),
            rng: SmallRng::seed_from_u64(11),
            _directory: directory,
            builder,
            index,
            source,
        }
    }

    /// Vectors drift with the id, so that a sample of the first ids is a biased one.
    fn upsert(&mut self, id: i64) -> Update {
        let near = id as f32 / 100.0;
        let vector = (0..DIMENSION).map(|_| near + self.rng.random_range(-1.0..1.0)).collect();
        let mut attributes = named(id);
        attributes.insert("rank".to_owned(), AttributeValue::Int64(id % 10));
        Update::Upsert(DataPoint { attributes, vector: Vector::Dense(vector) })
    }

    async fn upload(&mut self, updates: Vec<Update>) {
        let batch = PointBatch::from_updates(Arc::clone(&self.source), &updates).expect("valid");
        self.timeline.append(batch, AppendOptions::default()).await.expect("appended");
        self.reference.apply(&updates).expect("applied");
    }

    async fn upload_ids(&mut self, ids: impl IntoIterator<Item = i64>) {
        let updates = ids.into_iter().map(|id| self.upsert(id)).collect();
        self.upload(updates).await;
    }

    async fn build(&self) {
        let summary = self.builder.run().await.expect("runs");
        assert!(summary.failures().next().is_none(), "{summary:?}");
    }

    /// A thousand points, three generations: with points that went, came, and moved.
    async fn built() -> Self {
        let mut world = Self::new().await;
        world.upload_ids(0..900).await;
        world.build().await;
        let gone = (0..900).filter(|id| id % 9 == 0).map(|id| Update::Delete(named(id))).collect();
        world.upload(gone).await;
        world.upload_ids((900..1000).chain(40..80)).await;
        world.build().await;
        world.upload_ids(1000..1100).await;
        world.build().await;
        world
    }

    /// What the reference has of a scope, at a sequence.
    fn live(&self, sequence: u64, scope: &Scope) -> BTreeMap<PointKey, DataPoint> {
        let points = self.reference.indexed_at(&self.index, sequence, scope);
        points.map(|(key, point)| (key.clone(), (**point).clone())).collect()
    }

    async fn statistics(&self, request: StatisticsRequest) -> IndexStatistics {
        self.engine.statistics(&self.index.id, request).await.expect("counted")
    }

    async fn sample(&self, request: SampleRequest) -> Vec<PointKey> {
        let drawn = self.engine.sample(&self.index.id, request).await.expect("drawn");
        drawn.points.into_iter().map(|point| point.key).collect()
    }

    /// Everything that an export streams, by key; each point once.
    async fn export(&self, request: ExportRequest) -> Result<BTreeMap<PointKey, DataPoint>, SearchError> {
        let mut export = self.engine.export(&self.index.id, request).await?;
        let mut points = BTreeMap::new();
        while let Some(batch) = export.batches.try_next().await? {
            assert_eq!(batch.schema(), export.schema);
            for row in 0..batch.num_rows() {
                let attributes = row_attributes(&batch, &self.source, row);
                let vector = row_vector(&batch, &self.source, row).expect("a vector");
                let key = PointKey::encode(&self.source, &attributes).expect("a key");
                assert!(points.insert(key, DataPoint { attributes, vector }).is_none(), "a point twice");
            }
        }
        Ok(points)
    }
}

fn named(id: i64) -> Attributes {
    let group = GROUPS[usize::try_from(id).expect("positive") % GROUPS.len()];
    Attributes::from([
        ("id".to_owned(), AttributeValue::Int64(id)),
        ("group".to_owned(), AttributeValue::String(group.to_owned())),
    ])
}

fn group(name: &str) -> Attributes {
    Attributes::from([("group".to_owned(), AttributeValue::String(name.to_owned()))])
}

fn low_ranks() -> Filter {
    Filter::Compare { attribute: "rank".to_owned(), op: CompareOp::Lt, value: AttributeValue::Int64(4) }
}

fn dense(point: &DataPoint) -> &[f32] {
    match &point.vector {
        Vector::Dense(values) => values,
        Vector::Sparse(_) => panic!("a sparse vector"),
    }
}

fn mean<'a>(points: impl Iterator<Item = &'a DataPoint> + Clone) -> Vec<f64> {
    let rows = points.clone().count() as f64;
    (0..DIMENSION).map(|i| points.clone().map(|point| f64::from(dense(point)[i])).sum::<f64>() / rows).collect()
}

fn distance(point: &DataPoint, from: &[f32]) -> f64 {
    let squares = dense(point).iter().zip(from).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
    squares.sum::<f64>().sqrt()
}

/// Statistics are those of these points, whatever they are measured from.
fn check(found: &IndexStatistics, points: &BTreeMap<PointKey, DataPoint>, what: &str) {
    assert_eq!(found.statistics.rows(), points.len() as u64, "{what}");
    let centre = found.statistics.centre().expect("a centre");
    for (found, expected) in centre.iter().zip(mean(points.values())) {
        assert!((found - expected).abs() < 1e-9, "{what}: {found} for {expected}");
    }
    let from: &[f32] = found.statistics.reference();
    let distances: Vec<f64> = points.values().map(|point| distance(point, from)).collect();
    let histogram = found.statistics.distances();
    let max = distances.iter().copied().fold(0.0, f64::max);
    assert!((histogram.max() - max).abs() <= 1e-12 * max, "{what}: {} for {max}", histogram.max());
    assert!(max < 64.0 * histogram.width() && max * 2.0 >= 64.0 * histogram.width(), "{what}");
    // The sum of squares may round otherwise here, so that a distance at a bin's edge is in its neighbour.
    let mut below = 0;
    for (bin, count) in histogram.bins().iter().enumerate() {
        below += count;
        let edge = (bin + 1) as f64 * histogram.width();
        let at_least = distances.iter().filter(|&&distance| distance < edge * (1.0 - 1e-12)).count() as u64;
        let at_most = distances.iter().filter(|&&distance| distance < edge * (1.0 + 1e-12)).count() as u64;
        assert!((at_least..=at_most).contains(&below), "{what}, bin {bin}: {below} for {at_least} to {at_most}");
    }
    let about_centre = points
        .values()
        .map(|point| dense(point).iter().zip(&centre).map(|(&a, b)| (f64::from(a) - b).powi(2)).sum::<f64>());
    let spread = (about_centre.sum::<f64>() / points.len() as f64).sqrt();
    assert!((found.spread().expect("a spread") - spread).abs() < 1e-6 * spread, "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_builders_counted_equals_the_reference_and_reads_no_point() {
    let mut world = World::built().await;
    let head = world.reference.head();
    let all = world.live(head, &Scope::default());
    let whole = world.statistics(StatisticsRequest::default()).await;
    check(&whole, &all, "the whole");
    assert_eq!((whole.from, whole.rows_read, whole.generation), (MeasuredFrom::Reference, 0, 3));

    for (shard, groups) in [("one", &["a"][..]), ("two", &["b", "c", "d"][..])] {
        let request = StatisticsRequest { shard: Some(shard.to_owned()), ..Default::default() };
        let found = world.statistics(request).await;
        let of_shard = all.iter().filter(|(_, point)| {
            groups.iter().any(|group| point.attributes["group"] == AttributeValue::String((*group).to_owned()))
        });
        let of_shard: BTreeMap<PointKey, DataPoint> = of_shard.map(|(k, p)| (k.clone(), p.clone())).collect();
        check(&found, &of_shard, shard);
        assert_eq!(found.rows_read, 0, "{shard}");
        // So that shards can be added up by whoever asks for each.
        assert_eq!(found.statistics.reference(), whole.statistics.reference());
    }

    // What no build has taken in is left out, unless it is asked for; only what it touches is read: group `a`, and so one shard.
    world.upload_ids([4, 2000, 2004]).await;
    world.upload(vec![Update::Delete(named(8))]).await;
    check(&world.statistics(StatisticsRequest::default()).await, &all, "without the tail");
    let with_tail = world.statistics(StatisticsRequest { tail: true, ..Default::default() }).await;
    let now = world.live(world.reference.head(), &Scope::default());
    assert_eq!(now.len(), all.len() + 1);
    check(&with_tail, &now, "with the tail");
    assert!(with_tail.rows_read > 0 && with_tail.rows_read < now.len() as u64, "{}", with_tail.rows_read);
    let shard = StatisticsRequest { tail: true, shard: Some("one".to_owned()), ..Default::default() };
    let scope = Scope { split_filter: group("a"), filter: None };
    check(&world.statistics(shard).await, &world.live(world.reference.head(), &scope), "a shard with the tail");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_of_parts_are_measured_from_their_own_centre() {
    let world = World::built().await;
    let head = world.reference.head();
    for (split_filter, filter) in [
        (group("b"), None),
        (Attributes::new(), Some(low_ranks())),
        (group("c"), Some(low_ranks())),
        (Attributes::new(), None),
    ] {
        let scope = Scope { split_filter: split_filter.clone(), filter: filter.clone() };
        let points = world.live(head, &scope);
        let request = StatisticsRequest { split_filter, filter, exact: true, ..Default::default() };
        let found = world.statistics(request).await;
        check(&found, &points, &format!("{scope:?}"));
        assert_eq!(found.from, MeasuredFrom::Centre);
        assert_eq!(found.rows_read, 2 * points.len() as u64);
        assert!(found.offset().expect("an offset") < 1e-5, "{:?}", found.offset());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_says_how_far_the_points_have_moved_since_a_generation() {
    let world = World::built().await;
    let (before, now) = (world.live(1, &Scope::default()), world.live(world.reference.head(), &Scope::default()));
    let shift: f64 =
        mean(before.values()).iter().zip(mean(now.values())).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let drifted = world.statistics(StatisticsRequest { since: Some(1), ..Default::default() }).await;
    check(&drifted, &now, "now");
    let drift = drifted.drift.expect("compared");
    assert_eq!((drift.since, drift.points, drift.version.sequence(0)), (1, before.len() as u64, 1));
    assert!((drift.shift.expect("a shift") - shift).abs() < 1e-6, "{:?} for {shift}", drift.shift);
    assert!(drift.shift_in_spreads.is_some_and(|spreads| spreads > 0.05), "{drift:?}");
    assert!(drift.moved > 0.01 && drift.moved < 1.0, "{drift:?}");
    let still = world.statistics(StatisticsRequest { since: Some(3), ..Default::default() }).await;
    let drift = still.drift.expect("compared");
    assert_eq!((drift.moved, drift.shift), (0.0, Some(0.0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_repeat_nest_and_reach_the_whole() {
    let mut world = World::built().await;
    let live = world.live(world.reference.head(), &Scope::default());
    let request = |n, seed| SampleRequest { sample: Sample { n, seed }, ..Default::default() };
    let hundred = world.sample(request(100, 7)).await;
    assert_eq!(hundred.len(), 100);
    assert_eq!(hundred.iter().collect::<BTreeSet<_>>().len(), 100);
    assert!(hundred.iter().all(|key| live.contains_key(key)));
    assert_eq!(world.sample(request(100, 7)).await, hundred);
    assert_ne!(world.sample(request(100, 8)).await, hundred);
    assert_eq!(world.sample(request(30, 7)).await, hundred[..30]);
    for n in [live.len() as u64, 9_000] {
        let all: BTreeSet<PointKey> = world.sample(request(n, 7)).await.into_iter().collect();
        assert!(all.iter().eq(live.keys()), "{n}");
    }
    // A stream of as many draws the same ones; and parts have samples of their own.
    let sample = Some(Sample { n: 100, seed: 7 });
    let streamed = world.export(ExportRequest { sample, ..Default::default() }).await.expect("streamed");
    assert!(streamed.keys().eq(hundred.iter().collect::<BTreeSet<_>>()));
    let of_part = SampleRequest { split_filter: group("b"), filter: Some(low_ranks()), ..request(50, 7) };
    let scope = Scope { split_filter: group("b"), filter: Some(low_ranks()) };
    let part = world.live(world.reference.head(), &scope);
    let drawn = world.sample(of_part).await;
    assert_eq!(drawn.len(), 50);
    assert!(drawn.iter().all(|key| part.contains_key(key)));
    // Wherever the points are: in the tail, or built anew.
    world.upload_ids(0..500).await;
    let in_tail = world.sample(request(100, 7)).await;
    world.build().await;
    assert_eq!(world.sample(request(100, 7)).await, in_tail);
}

/// Pearson's statistic of how often each of `cells` was drawn, of so many draws without replacement of `n` among them, in
/// standard deviations from its mean: within 5 of uniform ones.
fn chi_square(counts: &[u64], n: f64, rounds: f64) -> f64 {
    let cells = counts.len() as f64;
    let share = n / cells;
    let expected = rounds * share;
    let sum: f64 = counts.iter().map(|&count| (count as f64 - expected).powi(2)).sum();
    // Of draws without replacement a cell's count varies less, by what is left: 1 − share.
    let statistic = sum / (expected * (1.0 - share)) * (cells - 1.0) / cells;
    let freedom = cells - 1.0;
    (statistic - freedom) / (2.0 * freedom).sqrt()
}

/// The largest difference between two samples' distribution functions, against what equal distributions exceed once in a
/// thousand times (Kolmogorov and Smirnov): above 1 they differ.
fn kolmogorov_smirnov(mut a: Vec<f64>, mut b: Vec<f64>) -> f64 {
    a.sort_by(f64::total_cmp);
    b.sort_by(f64::total_cmp);
    let below = |values: &[f64], at: f64| values.partition_point(|&value| value <= at) as f64 / values.len() as f64;
    let apart = |&at: &f64| (below(&a, at) - below(&b, at)).abs();
    let largest = a.iter().chain(&b).map(apart).fold(0.0, f64::max);
    let (n, m) = (a.len() as f64, b.len() as f64);
    largest / (1.949 * ((n + m) / (n * m)).sqrt())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_point_is_as_likely_as_any_other() {
    const ROUNDS: u64 = 300;
    let world = World::built().await;
    let live = world.live(world.reference.head(), &Scope::default());
    let place: BTreeMap<&PointKey, usize> = live.keys().zip(0..).collect();
    let mut counts = vec![0; live.len()];
    for seed in 0..ROUNDS {
        for key in world.sample(SampleRequest { sample: Sample { n: 80, seed }, ..Default::default() }).await {
            counts[place[&key]] += 1;
        }
    }
    let deviations = chi_square(&counts, 80.0, ROUNDS as f64);
    assert!(deviations.abs() < 5.0, "{deviations}");
    // Otherwise the assertion says nothing: one point in ten more often, by a third.
    let biased: Vec<u64> = counts.iter().enumerate().map(|(i, &c)| if i % 10 == 0 { c * 4 / 3 } else { c }).collect();
    assert!(chi_square(&biased, 80.0, ROUNDS as f64).abs() > 5.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sample_is_distributed_as_the_whole() {
    let world = World::built().await;
    let live = world.live(world.reference.head(), &Scope::default());
    let centre: Vec<f32> = mean(live.values()).into_iter().map(|value| value as f32).collect();
    let distances = |keys: &[PointKey]| keys.iter().map(|key| distance(&live[key], &centre)).collect::<Vec<f64>>();
    let firsts = |keys: &[PointKey]| keys.iter().map(|key| f64::from(dense(&live[key])[0])).collect::<Vec<f64>>();
    let all: Vec<PointKey> = live.keys().cloned().collect();
    for seed in 0..40 {
        let sample = world.sample(SampleRequest { sample: Sample { n: 200, seed }, ..Default::default() }).await;
        let of_distances = kolmogorov_smirnov(distances(&sample), distances(&all));
        let of_coordinates = kolmogorov_smirnov(firsts(&sample), firsts(&all));
        assert!(of_distances < 1.0 && of_coordinates < 1.0, "seed {seed}: {of_distances}, {of_coordinates}");
    }
    // Otherwise the assertion says nothing: the first by key are not distributed as the whole.
    assert!(kolmogorov_smirnov(firsts(&all[..120]), firsts(&all)) > 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_equal_the_reference() {
    let mut world = World::built().await;
    world.upload_ids((500..520).chain(3000..3010)).await;
    let head = world.reference.head();
    for (split_filter, filter) in
        [(Attributes::new(), None), (group("a"), None), (Attributes::new(), Some(low_ranks()))]
    {
        let scope = Scope { split_filter: split_filter.clone(), filter: filter.clone() };
        let request = ExportRequest { split_filter, filter, ..Default::default() };
        assert_eq!(world.export(request).await.expect("whole"), world.live(head, &scope), "{scope:?}");
    }
}

/// The generations of [`World::built`], and the last sequence that each shows.
const GENERATIONS: [(u64, u64); 3] = [(1, 1), (2, 3), (3, 4)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_shows_itself_or_is_gone() {
    let mut world = World::built().await;
    world.upload_ids([7000]).await;
    let id = world.index.id.clone();
    for (generation, sequence) in GENERATIONS {
        let as_of = Some(generation);
        let live = world.live(sequence, &Scope::default());
        let exported = world.export(ExportRequest { as_of, ..Default::default() }).await.expect("whole");
        assert_eq!(exported, live, "generation {generation}");

        let mut paged = Vec::new();
        let mut request = PointsRequest { as_of, limit: 300, ..Default::default() };
        loop {
            let page = world.engine.points(&id, request.clone()).await.expect("a page");
            assert_eq!((page.generation, page.version.sequence(0)), (generation, sequence));
            paged.extend(page.points.into_iter().map(|point| point.key));
            let Some(next) = page.next else { break };
            request.after = Some(next);
        }
        assert!(paged.iter().eq(live.keys()), "generation {generation}");

        let query = Vector::Dense(vec![3.0; DIMENSION]);
        let mut search = SearchRequest::new(vec![query.clone()], 20);
        search.as_of = as_of;
        let response = world.engine.search(&id, search).await.expect("found");
        assert_eq!((response.generation, response.version.sequence(0)), (generation, sequence));
        let ranked = world.reference.ranked(&world.index, sequence, &Scope::default(), &query);
        for (found, expected) in response.results[0].iter().zip(ranked) {
            assert!((found.distance - expected.distance).abs() < 1e-3, "{} for {}", found.distance, expected.distance);
        }
        check(&world.statistics(StatisticsRequest { as_of, ..Default::default() }).await, &live, "as of");
        let drawn = world.sample(SampleRequest { sample: Sample { n: 9_999, seed: 1 }, as_of, ..Default::default() });
        assert!(drawn.await.into_iter().collect::<BTreeSet<_>>().iter().eq(live.keys()));
    }

    let ahead = world.export(ExportRequest { as_of: Some(4), ..Default::default() }).await.expect_err("not there yet");
    assert!(matches!(ahead, SearchError::NoGeneration { wanted: 4, kept: Some((1, 3)), .. }), "{ahead}");
    let mut unseen = SearchRequest::new(vec![Vector::Dense(vec![0.0; DIMENSION])], 1);
    (unseen.as_of, unseen.min_version) = (Some(1), Some(tarn_model::ReadToken::single(3)));
    let unseen = world.engine.search(&id, unseen).await.expect_err("older than that");
    assert!(matches!(unseen, SearchError::NotYet { .. }), "{unseen}");

    let mut options = GcOptions::default();
    (options.grace, options.store_is_idle, options.retain_generations) = (Duration::ZERO, true, 2);
    // At hand when it goes; and somebody who slept writes its manifest again.
    world.export(ExportRequest { as_of: Some(1), ..Default::default() }).await.expect("still there");
    let key = ObjectKey::Manifest { index: id.clone(), generation: 1 };
    let manifest = world.engine.store().get(&key).await.expect("read").expect("there");
    world.builder.collect_garbage(&options).await.expect("collected");
    world.engine.store().put_unique(&key, manifest).await.expect("written");
    let gone = world.export(ExportRequest { as_of: Some(1), ..Default::default() }).await.expect_err("gone");
    assert!(matches!(gone, SearchError::NoGeneration { wanted: 1, kept: Some((2, 3)), .. }), "{gone}");
    assert!(gone.to_string().contains("2 to 3"), "{gone}");
    let kept = world.export(ExportRequest { as_of: Some(2), ..Default::default() }).await.expect("kept");
    assert_eq!(kept, world.live(3, &Scope::default()));
}
