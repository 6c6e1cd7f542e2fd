//! Whether answers arrive at their deadlines, and what they are worth then:
//! `cargo run --release -p tarn-benches --bin deadline -- --plot docs/recall-against-coverage.svg`.
//!
//! Eight clients search one index at once, on an engine with as many threads as they are to share, each as soon as it has its answer.
//! For every deadline it prints how many answers arrived by the deadline and 5 ms more, the mean coverage, and the recall against
//! the same searches without a deadline; `--plot` draws every answer's recall against its coverage. In process: no HTTP, no network.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark prints, and measures real time")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tarn_benches::{Quantiles, machine};
use tarn_compact::{Builder, BuilderSettings, Silent};
use tarn_model::{
    AttributeType, AttributeValue, Attributes, DataPoint, DataSource, DataSourceId, Index, IndexAlgorithm, IndexId,
    Metric, Update, Vector, VectorKind,
};
use tarn_search::{Consistency, Engine, EngineSettings, SearchRequest};
use tarn_store::{Store, create_index, create_source};
use tarn_timeline::{AppendOptions, PointBatch, Timeline};

const DIMENSION: u32 = 128;
const CENTRES: usize = 200;
const K: u32 = 10;
/// By how much an answer may miss its deadline.
const GRACE: Duration = Duration::from_millis(5);

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
struct Args {
    /// Points in the index
    #[arg(long, default_value_t = 200_000)]
    rows: i64,
    /// Clients that search at once
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Threads that compute
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Searches of each client, for each deadline
    #[arg(long, default_value_t = 200)]
    searches: usize,
    /// Deadlines in milliseconds
    #[arg(long, value_delimiter = ',', default_value = "2,5,10,20,50,100,200")]
    deadlines: Vec<u64>,
    /// Where to draw recall against coverage, as SVG
    #[arg(long)]
    plot: Option<PathBuf>,
}

/// One answer.
struct Outcome {
    took: Duration,
    coverage: f64,
    recall: f64,
}

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    println!("{}", machine());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads).enable_all().build()?;
    runtime.block_on(measure(args))
}

async fn measure(args: Args) -> Result<(), Failure> {
    let mut rng = SmallRng::seed_from_u64(7);
    let directory = tempfile::tempdir()?;
    let store = Store::disk(&directory.path().join("store"))?;
    let id = fill(&store, &mut rng, args.rows).await?;
    let settings = EngineSettings {
        threads: args.threads,
        eventual_max_age: Duration::from_secs(3600),
        cache_dir: directory.path().join("cache"),
        ..EngineSettings::default()
    };
    let engine = Engine::new(store, settings)?;
    engine.warm(&id).await?;
    let mut centres = SmallRng::seed_from_u64(7);
    let centres = centres_of(&mut centres);
    let queries: Vec<Vec<f32>> = (0..64).map(|_| near(&mut rng, &centres)).collect();
    let mut exact = Vec::with_capacity(queries.len());
    for query in &queries {
        let response = engine.search(&id, request(query, None)).await?;
        let farthest = response.results[0].last().map_or(0.0, |found| found.distance);
        exact.push(farthest);
    }
    let (queries, exact) = (Arc::new(queries), Arc::new(exact));
    println!("{} × {DIMENSION}, exact, k = {K}, {} clients, {} threads", args.rows, args.clients, args.threads);
    println!("deadline ms | on time % | took: median, 99 %, most | coverage | recall");
    let mut all = Vec::new();
    let searches = args.searches;
    for &deadline in &args.deadlines {
        let deadline = Duration::from_millis(deadline);
        let clients = (0..args.clients).map(|client| {
            let (engine, id, queries, exact) = (engine.clone(), id.clone(), Arc::clone(&queries), Arc::clone(&exact));
            tokio::spawn(async move {
                let mut outcomes = Vec::with_capacity(searches);
                for at in 0..searches {
                    let query = (client * 7 + at) % queries.len();
                    let began = Instant::now();
                    let response = engine.search(&id, request(&queries[query], Some(deadline))).await?;
                    let took = began.elapsed();
                    let right = response.results[0].iter().filter(|found| found.distance <= exact[query]).count();
                    let recall = right as f64 / f64::from(K);
                    outcomes.push(Outcome { took, coverage: response.coverage, recall });
                }
                Ok::<_, Failure>(outcomes)
            })
        });
        let mut outcomes: Vec<Outcome> = Vec::new();
        for client in clients.collect::<Vec<_>>() {
            outcomes.extend(client.await??);
        }
        let count = outcomes.len() as f64;
        let on_time = outcomes.iter().filter(|outcome| outcome.took <= deadline + GRACE).count() as f64 / count;
        let mean = |value: fn(&Outcome) -> f64| outcomes.iter().map(value).sum::<f64>() / count;
        let (coverage, recall) = (mean(|outcome| outcome.coverage), mean(|outcome| outcome.recall));
        let most = outcomes.iter().map(|outcome| outcome.took).max().unwrap_or_default();
        let took = Quantiles::of(outcomes.iter().map(|outcome| outcome.took).collect());
        println!(
            "{:>11} | {:>9.2} | {took}, {:.1} ms | {coverage:.3} | {recall:.3}",
            deadline.as_millis(),
            on_time * 100.0,
            most.as_secs_f64() * 1e3,
        );
        all.extend(outcomes);
    }
    if let Some(path) = args.plot {
        std::fs::write(&path, plot(&all))?;
        println!("drawn: {}", path.display());
    }
    Ok(())
}

fn request(query: &[f32], deadline: Option<Duration>) -> SearchRequest {
    let queries = vec![Vector::Dense(query.to_vec())];
    SearchRequest { deadline, exact: true, consistency: Consistency::Eventual, ..SearchRequest::new(queries, K) }
}

fn centres_of(rng: &mut SmallRng) -> Vec<Vec<f32>> {
    (0..CENTRES).map(|_| (0..DIMENSION).map(|_| rng.random_range(-1.0_f32..1.0)).collect()).collect()
}

fn near(rng: &mut SmallRng, centres: &[Vec<f32>]) -> Vec<f32> {
    let centre = &centres[rng.random_range(0..centres.len())];
    centre.iter().map(|x| x + rng.random_range(-0.6_f32..0.6)).collect()
}

/// A data source, an index, and a build of it.
async fn fill(store: &Store, rng: &mut SmallRng, rows: i64) -> Result<IndexId, Failure> {
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
    create_source(store, &source).await?;
    create_index(store, &index).await?;
    let centres = centres_of(rng);
    let timeline = Timeline::open(store.clone(), Arc::clone(&source));
    let ids: Vec<i64> = (0..rows).collect();
    for ids in ids.chunks(10_000) {
        let updates: Vec<Update> = ids
            .iter()
            .map(|id| {
                Update::Upsert(DataPoint {
                    attributes: Attributes::from([("id".to_owned(), AttributeValue::Int64(*id))]),
                    vector: Vector::Dense(near(rng, &centres)),
                })
            })
            .collect();
        let batch = PointBatch::from_updates(Arc::clone(&source), &updates)?;
        timeline.append(batch, AppendOptions::default()).await?;
    }
    let builder = Builder::new(store.clone(), BuilderSettings::default(), Arc::new(Silent))?;
    builder.fold(&source.id).await?;
    builder.build(&index.id).await?;
    Ok(index.id)
}

/// Every answer as a point: coverage to the right, recall upwards; and the line of an order by chance.
fn plot(outcomes: &[Outcome]) -> String {
    const SIZE: f64 = 400.0;
    const EDGE: f64 = 40.0;
    let (x, y) = (|coverage: f64| EDGE + coverage * SIZE, |recall: f64| EDGE + (1.0 - recall) * SIZE);
    let all = SIZE + 2.0 * EDGE;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {all} {all}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{all}\" height=\"{all}\" fill=\"white\"/>\n\
         <rect x=\"{EDGE}\" y=\"{EDGE}\" width=\"{SIZE}\" height=\"{SIZE}\" fill=\"none\" stroke=\"black\"/>\n\
         <line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"grey\" stroke-dasharray=\"4\"/>",
        x(0.0),
        y(0.0),
        x(1.0),
        y(1.0),
    );
    for Outcome { coverage, recall, .. } in outcomes {
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2\" fill=\"steelblue\" fill-opacity=\"0.2\"/>",
            x(*coverage),
            y(*recall)
        );
    }
    for tick in [0.0, 0.5, 1.0] {
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>", x(tick), y(0.0) + 16.0);
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{tick}</text>", EDGE - 6.0, y(tick) + 4.0);
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">coverage</text>\n\
         <text x=\"14\" y=\"{}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {})\">recall@{K}</text>\n</svg>",
        all / 2.0,
        all - 6.0,
        all / 2.0,
        all / 2.0,
    );
    svg
}
