//! A store with a data source, its reference model, and a builder written by hand: it publishes whatever layers of segments
//! and deletion bitmaps a real one might.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use roaring::RoaringBitmap;
use tarn_model::{
    AttributeType, AttributeValue, DataPoint, DataSource, FORMAT, Index, IndexId, Manifest, ObjectKey, ObjectRef,
    PointKey, ReadToken, ShardEntry, SplitKey, Update, Vector,
};
use tarn_search::{Engine, EngineSettings, SearchRequest, SearchResponse};
use tarn_segment::{
    Build, Catalog, CatalogSegment, Segment, SegmentInput, SegmentKind, SegmentSettings, SplitRows, Vectors,
    write_segment_to,
};
use tarn_store::{CountingStore, Requests, Store, create_index, create_source};
use tarn_testkit::{Answer, FaultStore, Faults, Question, Reference, Scenario, Scope, ShiftedClock, check_exact};
use tarn_timeline::{AppendOptions, PointBatch, Timeline};
use ulid::Ulid;

/// Everything a test needs.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) requests: Requests,
    pub(crate) clock: Arc<ShiftedClock>,
    pub(crate) scenario: Scenario,
    pub(crate) reference: Reference,
    pub(crate) rng: SmallRng,
    /// Whether segments of an approximate index that have at least [`CELLS_ROWS`] rows, of one split, get cells.
    pub(crate) cells: bool,
    timeline: Timeline,
    built: HashMap<IndexId, Built>,
    cache: tempfile::TempDir,
}

/// See [`World::cells`].
const CELLS_ROWS: usize = 500;

/// What has been published of one index.
#[derive(Default)]
struct Built {
    generation: u64,
    watermark: u64,
    /// By shard.
    segments: BTreeMap<String, Vec<BuiltSegment>>,
}

/// A row of a segment to be, with what it is sorted by.
type Row = (SplitKey, PointKey, Arc<DataPoint>);

struct BuiltSegment {
    catalog: CatalogSegment,
    rows: Vec<(PointKey, Arc<DataPoint>)>,
}

impl World {
    /// An empty data source with the scenario's indices, in memory.
    pub(crate) async fn new(scenario: Scenario, seed: u64) -> Self {
        Self::over(Store::memory(), scenario, seed).await
    }

    /// The same, with a handle that holds up or fails its requests.
    pub(crate) async fn faulty(scenario: Scenario, seed: u64) -> (Self, Faults) {
        let mut faults = Faults::default();
        let store = Store::memory().layer(|objects| {
            let (store, handle) = FaultStore::new(objects);
            faults = handle;
            Arc::new(store)
        });
        (Self::over(store, scenario, seed).await, faults)
    }

    /// The same, over any store.
    pub(crate) async fn over(store: Store, scenario: Scenario, seed: u64) -> Self {
        let clock = Arc::new(ShiftedClock::new());
        let mut requests = Requests::default();
        let store = store.with_clock(clock.clone()).layer(|objects| {
            let (counting, handle) = CountingStore::new(objects);
            requests = handle;
            Arc::new(counting)
        });
        create_source(&store, &scenario.source).await.unwrap();
        for index in &scenario.indices {
            create_index(&store, index).await.unwrap();
        }
        Self {
            timeline: Timeline::open(store.clone(), scenario.source.clone()),
            reference: Reference::new(scenario.source.clone()),
            cache: tempfile::tempdir().unwrap(),
            built: HashMap::new(),
            cells: false,
            rng: SmallRng::seed_from_u64(seed),
            store,
            requests,
            clock,
            scenario,
        }
    }

    /// An engine with nothing pinned.
    pub(crate) fn engine(&self) -> Engine {
        Engine::new(self.store.clone(), self.settings()).unwrap()
    }

    pub(crate) fn settings(&self) -> EngineSettings {
        EngineSettings { cache_dir: self.cache.path().to_owned(), threads: 2, ..EngineSettings::default() }
    }

    pub(crate) fn index(&self, name: &str) -> Arc<Index> {
        self.scenario.indices.iter().find(|index| index.id.name == name).cloned().unwrap()
    }

    /// Uploads as one delta, and tells the reference.
    pub(crate) async fn upload(&mut self, updates: Vec<Update>) -> ReadToken {
        let batch = PointBatch::from_updates(self.scenario.source.clone(), &updates).unwrap();
        let appended = self.timeline.append(batch, AppendOptions::default()).await.unwrap();
        self.reference.apply(&updates).unwrap();
        assert_eq!(appended.token, ReadToken::single(self.reference.head()));
        appended.token
    }

    /// Uploads random upserts and tombstones.
    pub(crate) async fn upload_random(&mut self, count: usize) -> ReadToken {
        let mut updates = Vec::with_capacity(count);
        for _ in 0..count {
            let update = if rand::Rng::random_ratio(&mut self.rng, 1, 4) {
                self.scenario.tombstone(&mut self.rng)
            } else {
                let serial = rand::Rng::random_range(&mut self.rng, 0..1000);
                Update::Upsert(self.scenario.point(&mut self.rng, serial))
            };
            updates.push(update);
        }
        self.upload(updates).await
    }

    /// Publishes the next generation of an index, with everything up to `watermark`, or to the previous one's if that is
    /// later: rows that are gone are marked deleted in
    /// the segments there are, rows that are new go into one more segment per shard, or one per split if `per_split`.
    pub(crate) async fn publish(&mut self, index: &Index, watermark: u64, per_split: bool) -> Manifest {
        let watermark = watermark.max(self.built.get(&index.id).map_or(0, |built| built.watermark));
        let live: BTreeMap<PointKey, Arc<DataPoint>> = self
            .reference
            .indexed_at(index, watermark, &Scope::default())
            .map(|(key, point)| (key.clone(), point.clone()))
            .collect();
        let built = self.built.entry(index.id.clone()).or_default();
        let mut missing = live.clone();
        for segment in built.segments.values_mut().flatten() {
            for (row, (key, point)) in (0u32..).zip(&segment.rows) {
                let current = live.get(key).is_some_and(|current| Arc::ptr_eq(current, point));
                if current && !segment.catalog.deleted.contains(row) {
                    missing.remove(key);
                } else {
                    segment.catalog.deleted.insert(row);
                }
            }
        }
        let mut groups: BTreeMap<(String, Option<SplitKey>), Vec<Row>> = BTreeMap::new();
        for (key, point) in missing {
            let shard = index.shard_of(&point.attributes).unwrap().to_owned();
            let split = SplitKey::encode(&index.split_attributes, &point.attributes).unwrap();
            groups.entry((shard, per_split.then(|| split.clone()))).or_default().push((split, key, point));
        }
        for ((shard, _), mut rows) in groups {
            rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
            let segment = write(&self.store, &self.scenario.source, index, rows, self.cells).await;
            built.segments.entry(shard).or_default().push(segment);
        }
        built.generation += 1;
        built.watermark = watermark;
        let mut shards = Vec::new();
        for shard in index.shards.keys() {
            let Some(segments) = built.segments.get(shard) else {
                shards.push(ShardEntry {
                    shard: shard.clone(),
                    rows: 0,
                    splits: 0,
                    segments: 0,
                    segment_bytes: 0,
                    catalog: None,
                });
                continue;
            };
            let catalog = Catalog {
                shard: shard.clone(),
                segments: segments.iter().map(|segment| segment.catalog.clone()).collect(),
            };
            let bytes = catalog.encode().unwrap();
            let object = ObjectRef { id: Ulid::new(), bytes: bytes.len() as u64, crc32c: crc32c::crc32c(&bytes) };
            let key = ObjectKey::Catalog { index: index.id.clone(), id: object.id };
            self.store.put_unique(&key, bytes).await.unwrap();
            let in_shard = live.values().filter(|point| index.shard_of(&point.attributes) == Some(shard));
            let splits: std::collections::BTreeSet<_> =
                in_shard.clone().map(|p| SplitKey::encode(&index.split_attributes, &p.attributes).unwrap()).collect();
            shards.push(ShardEntry {
                shard: shard.clone(),
                rows: in_shard.count() as u64,
                splits: splits.len() as u64,
                segments: segments.len() as u64,
                segment_bytes: segments.iter().map(|segment| segment.catalog.object.bytes).sum(),
                catalog: Some(object),
            });
        }
        let manifest = Manifest {
            format: FORMAT,
            index: index.id.clone(),
            generation: built.generation,
            commit_id: Ulid::new(),
            watermark: ReadToken::single(watermark),
            created_ms: 0,
            rows: live.len() as u64,
            shards,
        };
        let key = ObjectKey::Manifest { index: index.id.clone(), generation: built.generation };
        let bytes = serde_json::to_vec(&manifest).unwrap();
        self.store.create(&key, bytes.into(), |_| true).await.unwrap();
        manifest
    }

    /// As [`Self::publish`], everything into new files.
    pub(crate) async fn rebuild(&mut self, index: &Index) -> Manifest {
        let head = self.reference.head();
        self.built.entry(index.id.clone()).or_default().segments.clear();
        self.publish(index, head, false).await
    }

    /// Searches exactly and holds the answer against the reference at the version that the answer shows.
    pub(crate) async fn check(&self, engine: &Engine, index: &Index, request: SearchRequest) -> SearchResponse {
        let scope = Scope { split_filter: request.split_filter.clone(), filter: request.filter.clone() };
        self.check_within(engine, index, request, scope).await
    }

    /// As [`Self::check`], when what is found is more narrow than what the request says.
    pub(crate) async fn check_within(
        &self,
        engine: &Engine,
        index: &Index,
        request: SearchRequest,
        scope: Scope,
    ) -> SearchResponse {
        let response = engine.search(&index.id, request.clone()).await.unwrap();
        let version = response.version.sequence(0);
        assert_eq!(response.coverage, 1.0);
        assert_eq!(response.results.len(), request.queries.len());
        let question = Question {
            index,
            source: &self.scenario.source,
            k: request.k as usize,
            attributes: request.attributes.as_deref(),
            vectors: request.retrieve_vectors,
        };
        for (query, found) in request.queries.iter().zip(&response.results) {
            let ranked = self.reference.ranked(index, version, &scope, query);
            let answers: Vec<Answer> = found
                .iter()
                .map(|found| Answer {
                    attributes: found.attributes.clone(),
                    vector: found.vector.clone(),
                    distance: found.distance,
                })
                .collect();
            if let Err(problem) = check_exact(&question, &ranked, &answers) {
                panic!("{} at version {version}, {scope:?}: {problem}", index.id);
            }
        }
        response
    }

    /// An exact search for some random vectors, vectors wanted.
    pub(crate) fn request(&mut self, k: u32) -> SearchRequest {
        let queries = (0..3).map(|_| self.scenario.vector(&mut self.rng)).collect();
        SearchRequest { exact: true, retrieve_vectors: true, ..SearchRequest::new(queries, k) }
    }

    /// Moves the clock.
    pub(crate) fn wait(&self, duration: Duration) {
        self.clock.advance(duration);
    }
}

async fn write(store: &Store, source: &DataSource, index: &Index, mut rows: Vec<Row>, cells: bool) -> BuiltSegment {
    let mut splits: Vec<SplitRows> = Vec::new();
    for (row, (split, ..)) in (0u32..).zip(&rows) {
        match splits.last_mut() {
            Some(last) if last.key == *split => last.rows.end = row + 1,
            _ => splits.push(SplitRows { key: split.clone(), rows: row..row + 1 }),
        }
    }
    let points: Vec<&DataPoint> = rows.iter().map(|row| &*row.2).collect();
    let input = SegmentInput {
        metric: index.algorithm.metric,
        dimension: source.vector_dimension,
        keys: BinaryArray::from_iter_values(rows.iter().map(|row| &row.1.0)),
        attributes: attributes(source, &points),
        vectors: vectors(&points),
    };
    let (build, kind) = match (index.algorithm.metric.is_sparse(), index.algorithm.hnsw) {
        (true, _) => (Build::Sparse, SegmentKind::Sparse),
        (false, Some(_)) if cells && splits.len() == 1 && rows.len() >= CELLS_ROWS => {
            (Build::Cells, SegmentKind::Cells)
        }
        (false, Some(params)) => (Build::Graph(params), SegmentKind::Graph),
        (false, None) => (Build::Flat, SegmentKind::Flat),
    };
    let mut bytes = Vec::new();
    let settings = SegmentSettings { rows_per_cell: 40, ..SegmentSettings::default() };
    let summary = write_segment_to(&input, build, &settings, &mut bytes, &|_, _| {}).unwrap();
    if kind == SegmentKind::Cells {
        // They are numbered anew.
        let written = Segment::from_bytes("written", bytes.clone().into()).unwrap();
        rows.sort_by_key(|row| written.find_key(&row.1.0));
    }
    let object = ObjectRef { id: Ulid::new(), bytes: summary.bytes, crc32c: summary.crc32c };
    let key = ObjectKey::Segment { index: index.id.clone(), id: object.id };
    store.put_unique(&key, bytes.into()).await.unwrap();
    let (outline, rows_in_all) = (summary.outline, summary.rows);
    let deleted = RoaringBitmap::new();
    let catalog = CatalogSegment { object, kind, outline, rows: rows_in_all, deleted, splits, statistics: None };
    BuiltSegment { catalog, rows: rows.into_iter().map(|(_, key, point)| (key, point)).collect() }
}

fn attributes(source: &DataSource, points: &[&DataPoint]) -> RecordBatch {
    macro_rules! collect {
        ($kind:ident, $name:expr) => {
            points.iter().map(|point| match &point.attributes[$name] {
                AttributeValue::$kind(value) => value.clone(),
                other => panic!("{other}"),
            })
        };
    }
    let columns = source.attribute_types.iter().map(|(name, attribute_type)| {
        let array: ArrayRef = match attribute_type {
            AttributeType::Bool => Arc::new(BooleanArray::from_iter(collect!(Bool, name).map(Some))),
            AttributeType::Int64 => Arc::new(Int64Array::from_iter_values(collect!(Int64, name))),
            AttributeType::Float64 => Arc::new(Float64Array::from_iter_values(collect!(Float64, name))),
            AttributeType::String => Arc::new(StringArray::from_iter_values(collect!(String, name))),
            AttributeType::Uuid => Arc::new(
                FixedSizeBinaryArray::try_from_iter(collect!(Uuid, name).map(|uuid| *uuid.as_bytes())).unwrap(),
            ),
            AttributeType::DateTime => {
                Arc::new(TimestampMicrosecondArray::from_iter_values(collect!(DateTime, name)).with_timezone("UTC"))
            }
        };
        (tarn_timeline::attribute_column(name), array, false)
    });
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn vectors(points: &[&DataPoint]) -> Vectors {
    if let Vector::Dense(_) = points[0].vector {
        let values: Vec<f32> = points
            .iter()
            .flat_map(|point| match &point.vector {
                Vector::Dense(values) => values.clone(),
                Vector::Sparse(_) => panic!("a sparse vector"),
            })
            .collect();
        return Vectors::Dense(values.into());
    }
    let (mut lengths, mut indices, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for point in points {
        let Vector::Sparse(vector) = &point.vector else { panic!("a dense vector") };
        lengths.push(vector.indices.len());
        indices.extend_from_slice(&vector.indices);
        values.extend_from_slice(&vector.values);
    }
    Vectors::Sparse { offsets: OffsetBuffer::from_lengths(lengths), indices: indices.into(), values: values.into() }
}
