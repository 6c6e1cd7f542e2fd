//! What the engine adds to a search of a segment: looking, planning, crossing to the pool and back, merging, fetching.
//!
//! Compares a search of rows in memory with the same search through the engine, over a memory store whose requests cost next to
//! nothing. Run: `cargo bench -p tarn-benches --bench search_overhead`.

#![allow(clippy::disallowed_methods, reason = "benchmarks measure real time")]
#![allow(clippy::print_stdout, reason = "benchmarks report")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tarn_benches::{Quantiles, machine};
use tarn_model::{
    AttributeType, AttributeValue, Attributes, DataPoint, DataSource, DataSourceId, Index, IndexAlgorithm, IndexId,
    Metric, PointKey, Update, Vector, VectorKind,
};
use tarn_search::{Consistency, Engine, EngineSettings, SearchRequest};
use tarn_segment::{Effort, Query, Rows, Segment, SegmentInput, Vectors};
use tarn_store::{Store, create_index, create_source};
use tarn_timeline::{AppendOptions, PointBatch, Timeline};

const DIMENSION: u32 = 128;
const RUNS: usize = 3_000;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    println!("{}", machine());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for rows in [1_000, 10_000] {
        runtime.block_on(compare(rows))?;
    }
    Ok(())
}

async fn compare(rows: i64) -> Result<(), Failure> {
    let mut rng = SmallRng::seed_from_u64(1);
    let source = Arc::new(DataSource {
        id: DataSourceId::new("bench", "1")?,
        vector_dimension: DIMENSION,
        vector_kind: VectorKind::Dense,
        attribute_types: BTreeMap::from([("id".to_owned(), AttributeType::Int64)]),
        permanent_attributes: BTreeSet::from(["id".to_owned()]),
        sharders: BTreeMap::new(),
        policy: Default::default(),
    });
    let index = Index {
        id: IndexId::new("bench", "1")?,
        data_source: source.id.clone(),
        algorithm: IndexAlgorithm { metric: Metric::L2, hnsw: None },
        id_attributes: BTreeSet::from(["id".to_owned()]),
        split_attributes: BTreeSet::new(),
        shards: Index::single_shard(),
    };
    let mut vector = || (0..DIMENSION).map(|_| rng.random_range(-1.0_f32..1.0)).collect::<Vec<f32>>();
    let points: Vec<DataPoint> = (0..rows)
        .map(|id| DataPoint {
            attributes: Attributes::from([("id".to_owned(), AttributeValue::Int64(id))]),
            vector: Vector::Dense(vector()),
        })
        .collect();
    let queries: Vec<Vec<f32>> = (0..RUNS).map(|_| vector()).collect();

    let keys = points.iter().map(|point| PointKey::encode(&source, &point.attributes).map(|key| key.0));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let values = points.iter().flat_map(|point| match &point.vector {
        Vector::Dense(values) => values.as_slice(),
        Vector::Sparse(_) => &[],
    });
    let segment = Segment::in_memory(SegmentInput {
        metric: Metric::L2,
        dimension: DIMENSION,
        keys: BinaryArray::from_iter_values(keys.collect::<Result<Vec<_>, _>>()?),
        attributes: RecordBatch::try_from_iter([("id", ids)])?,
        vectors: Vectors::Dense(values.copied().collect::<Vec<f32>>().into()),
    })?;
    let everything = 0..segment.rows();
    let mut bare = Vec::with_capacity(RUNS);
    for query in &queries {
        let began = Instant::now();
        let query = Query::dense(Metric::L2, query)?;
        let all = Rows { ranges: std::slice::from_ref(&everything), ..Rows::default() };
        std::hint::black_box(segment.search(&query, 10, &all, Effort::Exact, &|| false)?);
        bare.push(began.elapsed());
    }

    let store = Store::memory();
    create_source(&store, &source).await?;
    create_index(&store, &index).await?;
    let updates: Vec<Update> = points.into_iter().map(Update::Upsert).collect();
    let batch = PointBatch::from_updates(Arc::clone(&source), &updates)?;
    Timeline::open(store.clone(), source).append(batch, AppendOptions::default()).await?;
    let settings = EngineSettings { eventual_max_age: Duration::from_secs(3600), ..EngineSettings::default() };
    let engine = Engine::new(store, settings)?;
    println!("{rows} × {DIMENSION}, exact, k = 10");
    let bare = Quantiles::of(bare);
    println!("  segment alone:    {bare}");
    for (name, consistency) in
        [("engine, eventual:", Consistency::Eventual), ("engine, strong:  ", Consistency::Strong)]
    {
        let mut times = Vec::with_capacity(RUNS);
        for query in &queries {
            let request = SearchRequest {
                consistency,
                exact: true,
                ..SearchRequest::new(vec![Vector::Dense(query.clone())], 10)
            };
            let (engine, id) = (engine.clone(), index.id.clone());
            let began = Instant::now();
            // As a server does it: the search is a task on a worker.
            let response = tokio::spawn(async move { engine.search(&id, request).await }).await??;
            times.push(began.elapsed());
            std::hint::black_box(response);
        }
        let times = Quantiles::of(times);
        println!("  {name} {times}; adds {:.0} µs at p50", (times.p50.as_secs_f64() - bare.p50.as_secs_f64()) * 1e6);
    }
    Ok(())
}
