//! A small world: a store, a data source with its indices, and the model that says what must come out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use tarn_compact::{ApproximateIndex, Builder, BuilderSettings, GcOptions, Silent, VerifyReport};
use tarn_model::{
    AttributeType, AttributeValue, Attributes, DataPoint, DataSource, DataSourceId, HnswParams, Index, IndexAlgorithm,
    IndexId, KeyPrefix, Metric, ObjectKey, PointKey, Shard, ShardCondition, SparseVector, Update, Vector, VectorKind,
};
use tarn_segment::{Catalog, CatalogSegment, Segment, SegmentKind};
use tarn_store::{Clock, Listed, Store, SystemClock, create_index, create_source, latest_checkpoint, latest_manifest};
use tarn_testkit::{FaultStore, Faults};
use tarn_timeline::{AppendOptions, LiveOptions, PointBatch, Timeline, live, row_attributes, row_vector};

pub(crate) type Points = BTreeMap<Vec<u8>, (Attributes, Vector)>;

/// The machine's clock, moved forward by hand: what memory stores say of objects stays in the past.
#[derive(Debug, Default)]
pub(crate) struct Ahead(AtomicI64);

impl Ahead {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).expect("fits"), Ordering::SeqCst);
    }

    fn offset(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Clock for Ahead {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms() + self.offset()
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic() + Duration::from_millis(self.offset().unsigned_abs())
    }

    async fn sleep(&self, duration: Duration) {
        self.advance(duration);
        tokio::task::yield_now().await;
    }
}

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) clock: Arc<Ahead>,
    pub(crate) source: Arc<DataSource>,
    pub(crate) points: Points,
}

/// A store in memory, and what makes it fail.
pub(crate) fn faulty() -> (Store, Faults) {
    let mut handle = None;
    let store = Store::memory().layer(|below| {
        let (store, faults) = FaultStore::new(below);
        handle = Some(faults);
        Arc::new(store)
    });
    (store, handle.expect("layered"))
}

pub(crate) const DIMENSION: u32 = 4;

/// `id` and `group` make the key; `text` is payload.
pub(crate) fn source(kind: VectorKind) -> DataSource {
    let types = [("id", AttributeType::Int64), ("group", AttributeType::String), ("text", AttributeType::String)];
    DataSource {
        id: DataSourceId::new("words", "1").expect("valid"),
        vector_dimension: DIMENSION,
        vector_kind: kind,
        attribute_types: types.map(|(name, t)| (name.to_owned(), t)).into(),
        permanent_attributes: ["id", "group"].map(str::to_owned).into(),
        sharders: BTreeMap::new(),
        policy: Default::default(),
    }
}

/// An index split by group.
pub(crate) fn index(name: &str, metric: Metric, hnsw: bool) -> Index {
    let graph = HnswParams { m: 8, ef_construction: 32, ef_search: 32 };
    Index {
        id: IndexId::new(name, "1").expect("valid"),
        data_source: DataSourceId::new("words", "1").expect("valid"),
        algorithm: IndexAlgorithm { metric, hnsw: hnsw.then_some(graph) },
        id_attributes: ["id".to_owned()].into(),
        split_attributes: ["group".to_owned()].into(),
        shards: Index::single_shard(),
    }
}

/// Two shards by the value of `group`: `a`, and `b` or `c`; other groups are not in the index.
pub(crate) fn sharded(mut index: Index) -> Index {
    let values = |values: &[&str]| {
        let values = values.iter().map(|value| AttributeValue::String((*value).to_owned())).collect();
        Shard { conditions: BTreeMap::from([("group".to_owned(), ShardCondition::Values(values))]) }
    };
    index.shards = BTreeMap::from([("first".to_owned(), values(&["a"])), ("second".to_owned(), values(&["b", "c"]))]);
    index
}

pub(crate) fn attributes(id: i64, group: &str, text: &str) -> Attributes {
    Attributes::from([
        ("id".to_owned(), AttributeValue::Int64(id)),
        ("group".to_owned(), AttributeValue::String(group.to_owned())),
        ("text".to_owned(), AttributeValue::String(text.to_owned())),
    ])
}

/// A vector that depends on what was written, so that a stale one shows.
pub(crate) fn vector(kind: VectorKind, id: i64, version: u32) -> Vector {
    let (a, b) = (id as f32, version as f32);
    match kind {
        VectorKind::Dense => Vector::Dense(vec![a, b, (a * 0.7).sin(), (a * b).cos()]),
        VectorKind::Sparse => {
            let indices = if version.is_multiple_of(2) { vec![0, 2] } else { vec![1, 2, 3] };
            let values = indices.iter().map(|&i| f64::from(i + version) + 0.5).collect();
            Vector::Sparse(SparseVector { indices, values })
        }
    }
}

impl World {
    pub(crate) async fn new(kind: VectorKind) -> Self {
        Self::over(Store::memory(), kind).await
    }

    pub(crate) async fn over(store: Store, kind: VectorKind) -> Self {
        let clock = Arc::new(Ahead::default());
        let store = store.with_clock(clock.clone() as Arc<dyn Clock>);
        let source = Arc::new(source(kind));
        create_source(&store, &source).await.expect("created");
        Self { store, clock, source, points: Points::new() }
    }

    /// The same in a copy of the store.
    pub(crate) fn in_copy(&self, copy: &Store) -> Self {
        let Self { clock, source, points, .. } = self;
        let store = copy.with_clock(clock.clone() as Arc<dyn Clock>);
        Self { store, clock: Arc::clone(clock), source: Arc::clone(source), points: points.clone() }
    }

    pub(crate) async fn with_index(self, index: &Index) -> Self {
        index.validate(&self.source).expect("a valid index");
        create_index(&self.store, index).await.expect("created");
        self
    }

    pub(crate) fn upsert(&self, id: i64, group: &str, version: u32) -> Update {
        let attributes = attributes(id, group, &format!("{id} in {group} at {version}"));
        Update::Upsert(DataPoint { attributes, vector: vector(self.source.vector_kind, id, version) })
    }

    pub(crate) fn delete(&self, id: i64, group: &str) -> Update {
        Update::Delete(attributes(id, group, ""))
    }

    /// Appends one delta; the model follows.
    pub(crate) async fn upload(&mut self, updates: &[Update]) {
        let batch = PointBatch::from_updates(Arc::clone(&self.source), updates).expect("valid updates");
        let timeline = Timeline::open(self.store.clone(), Arc::clone(&self.source));
        timeline.append(batch, AppendOptions::default()).await.expect("appended");
        for update in updates {
            match update {
                Update::Upsert(point) => {
                    let key = PointKey::encode(&self.source, &point.attributes).expect("a key");
                    self.points.insert(key.0, (point.attributes.clone(), point.vector.clone()));
                }
                Update::Delete(attributes) => {
                    self.points.remove(&PointKey::encode(&self.source, attributes).expect("a key").0);
                }
            }
        }
    }

    /// Uploads ids of a group as one delta.
    pub(crate) async fn upload_range(&mut self, ids: std::ops::Range<i64>, group: &str, version: u32) {
        let updates: Vec<Update> = ids.map(|id| self.upsert(id, group, version)).collect();
        self.upload(&updates).await;
    }

    pub(crate) fn builder(&self) -> Builder {
        self.builder_with(settings())
    }

    pub(crate) fn builder_with(&self, settings: BuilderSettings) -> Builder {
        Builder::new(self.store.clone(), settings, Arc::new(Silent)).expect("a builder")
    }

    /// Folds and builds everything; nothing may fail.
    pub(crate) async fn run(&self, builder: &Builder) {
        let summary = builder.run().await.expect("listed");
        let failures: Vec<_> = summary.failures().map(|(what, error)| format!("{what}: {error}")).collect();
        assert_eq!(failures, Vec::<String>::new());
    }

    /// The newest checkpoint's rows.
    #[expect(clippy::field_reassign_with_default, reason = "the options are non-exhaustive")]
    pub(crate) async fn checkpoint_points(&self) -> Points {
        let Some(checkpoint) = latest_checkpoint(&self.store, &self.source.id, None).await.expect("read") else {
            return Points::new();
        };
        let mut options = LiveOptions::default();
        options.at = Some(checkpoint.watermark.clone());
        let mut live = live(&self.store, Arc::clone(&self.source), options).await.expect("opened");
        let mut points = Points::new();
        while let Some(batch) = live.batches.next().await {
            let batch = batch.expect("read");
            for row in 0..batch.num_rows() {
                let attributes = row_attributes(&batch, &self.source, row);
                let vector = row_vector(&batch, &self.source, row).expect("a vector");
                let key = PointKey::encode(&self.source, &attributes).expect("a key");
                assert!(points.insert(key.0, (attributes, vector)).is_none(), "live-in-one-place");
            }
        }
        assert_eq!(points.len() as u64, checkpoint.rows, "rows-add-up");
        points
    }

    /// The segments of the newest manifest, open, with what the catalogs say of them.
    pub(crate) async fn segments(&self, index: &Index) -> Vec<(String, CatalogSegment, Segment)> {
        let Some(manifest) = latest_manifest(&self.store, &index.id, None).await.expect("read") else {
            return Vec::new();
        };
        let mut segments = Vec::new();
        for entry in &manifest.shards {
            let Some(object) = &entry.catalog else { continue };
            let key = ObjectKey::Catalog { index: index.id.clone(), id: object.id };
            let bytes = self.store.get(&key).await.expect("read").expect("there");
            let catalog = Catalog::decode(&key.render(), &bytes).expect("a catalog");
            for segment in catalog.segments {
                let key = ObjectKey::Segment { index: index.id.clone(), id: segment.object.id };
                let bytes = self.store.get(&key).await.expect("read").expect("there");
                let open = Segment::from_bytes(&key.render(), bytes).expect("a segment");
                segments.push((entry.shard.clone(), segment, open));
            }
        }
        segments
    }

    /// The newest manifest's rows.
    pub(crate) async fn index_points(&self, index: &Index) -> Points {
        let mut points = Points::new();
        for (_, segment, open) in self.segments(index).await {
            for row in (0..segment.rows).filter(|row| !segment.deleted.contains(*row)) {
                let attributes = row_attributes(open.attributes(), &self.source, row as usize);
                let found = points.insert(open.key(row).to_vec(), (attributes, open.vector(row)));
                assert!(found.is_none(), "a point is live in one segment");
            }
        }
        points
    }

    /// Checkpoint, indices and a full verification agree with the model.
    pub(crate) async fn check(&self, indices: &[&Index]) {
        assert_eq!(self.checkpoint_points().await, self.points, "checkpoint-equals-fold");
        for index in indices {
            let taken = |attributes: &Attributes| index.shard_of(attributes).is_some();
            let expected: Points =
                self.points.iter().filter(|(_, (a, _))| taken(a)).map(|(k, v)| (k.clone(), v.clone())).collect();
            assert_eq!(self.index_points(index).await, expected, "index-equals-checkpoint");
        }
        let report = self.verify().await;
        assert_eq!(report.problems, Vec::new());
    }

    /// By a builder of its own, so that nothing is remembered as verified.
    pub(crate) async fn verify(&self) -> VerifyReport {
        self.builder().verify().await.expect("verified")
    }

    pub(crate) async fn objects(&self) -> Vec<Listed> {
        self.store.list(&KeyPrefix::All).await.expect("listed")
    }
}

/// Small files and few rows, so that everything that depends on size happens.
pub(crate) fn settings() -> BuilderSettings {
    let mut settings = BuilderSettings::default();
    settings.cells_threshold_rows = 40;
    settings.graph_threshold_rows = 40;
    settings.merge_fan = 2;
    settings.threads = 1;
    settings.memory_limit_bytes = 32 << 20;
    settings.longest_build = Duration::from_secs(600);
    settings
}

/// What large splits may get, and the segments that they then have.
pub(crate) const KINDS: [(ApproximateIndex, SegmentKind); 3] = [
    (ApproximateIndex::Cells, SegmentKind::Cells),
    (ApproximateIndex::Graph, SegmentKind::Graph),
    (ApproximateIndex::Both, SegmentKind::Cells),
];

pub(crate) fn settings_for(kind: ApproximateIndex) -> BuilderSettings {
    let mut settings = settings();
    settings.approximate_index = kind;
    settings
}

pub(crate) fn gc(grace: Duration) -> GcOptions {
    let mut options = GcOptions::default();
    options.grace = grace;
    options.retain_generations = 1;
    options
}
