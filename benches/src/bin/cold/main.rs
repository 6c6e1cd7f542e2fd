//! Searches of files that stay where they are, on real data: requests, bytes, round trips, time and recall.
//!
//! `cargo run --release -p tarn-benches --bin cold -- --data DIR`. The store is a directory behind a delay, as slow as object
//! storage: so long to the first byte of each answer, so many bytes a second on each connection. Or any store that exists, such
//! as a bucket (`--store s3://…`), which then has its own delays. It is filled unless it has the index.
//!
//! For each query a new engine with nothing in memory, no cache and no hydration, which answers that query (*first*) and then
//! another one (*next*). What a data set consists of, `src/data.rs` says.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark prints, and measures real time")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use tarn_benches::{Data, Matrix, Result, machine};
use tarn_model::{AttributeValue, CompareOp, Filter, IndexId, Vector};
use tarn_search::{
    ColdPlan, ColdSettings, Engine, EngineSettings, Found, Hydration, SearchRequest, SearchResponse, SegmentPlan,
};
use tarn_store::{CountingStore, LatencyStore, Store, StoreOptions};

/// What a cold search costs, and what it finds.
#[derive(Parser)]
struct Arguments {
    /// Directory of the data set: base.npy, queries.npy, gtd_*.npy, meta.parquet.
    #[arg(long)]
    data: PathBuf,
    /// A directory, or an s3:// URL. Without it, a temporary directory.
    #[arg(long)]
    store: Option<String>,
    /// Milliseconds to the first byte of an answer. Only for directories.
    #[arg(long, default_value_t = 20)]
    latency: u64,
    /// Megabytes a second on each connection. Only for directories.
    #[arg(long, default_value_t = 90)]
    rate: u64,
    /// Queries, each with an engine of its own.
    #[arg(long, default_value_t = 200)]
    queries: usize,
    /// Neighbours.
    #[arg(long, default_value_t = 10)]
    k: u32,
    /// The recall asked for.
    #[arg(long, default_value_t = 0.95)]
    recall: f32,
    /// Only rows with `u` below this, per mille.
    #[arg(long)]
    filter: Option<u32>,
}

/// One search.
struct Sample {
    requests: u64,
    bytes: u64,
    trips: u32,
    hedged: u64,
    time: Duration,
    recall: f64,
    /// How the file was searched; `None`: it was fetched.
    plan: Option<ColdPlan>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    println!("machine: {}", machine());
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> Result<()> {
    let data = Data::open(&arguments.data)?;
    let truth = data.truth(arguments.filter.map(|u| u.to_string()).as_deref())?;
    let temporary = tempfile::tempdir()?;
    let place = match &arguments.store {
        Some(store) => store.clone(),
        None => temporary.path().join("store").display().to_string(),
    };
    let plain = Store::open(&place, &StoreOptions::default())?;
    let index = tarn_benches::index(&data)?;
    tarn_benches::fill(&plain, &data, std::slice::from_ref(&index), temporary.path()).await?;
    let is_local = plain.local_root().is_some();
    let slow = match is_local {
        true => plain.without_local_files().layer(|objects| {
            let latency = Duration::from_millis(arguments.latency);
            let slow = LatencyStore::new(objects, Arc::clone(plain.clock()), latency);
            Arc::new(slow.with_rate(arguments.rate * 1_000_000))
        }),
        false => plain.clone(),
    };
    let store = slow.layer(|objects| Arc::new(CountingStore::new(objects).0));
    let (rows, dimension) = (data.base.rows(), data.base.columns);
    println!("{rows} × {dimension}, {:?}, k = {}, recall {} asked for", data.metric, arguments.k, arguments.recall);
    match is_local {
        true => println!("{} ms to the first byte, {} MB/s a connection", arguments.latency, arguments.rate),
        false => println!("{place}"),
    }
    let (mut first, mut next) = (Vec::new(), Vec::new());
    let queries = arguments.queries.min(data.queries.rows());
    for query in 0..queries {
        let cache = temporary.path().join("cache").join(query.to_string());
        let settings = EngineSettings {
            cache_dir: cache.clone(),
            hydration: Hydration::Off,
            cold: ColdSettings { whole_bytes: 0, ..ColdSettings::default() },
            ..EngineSettings::default()
        };
        let engine = Engine::new(store.clone(), settings)?;
        first.push(ask(&engine, &index.id, &data, &truth, query, &arguments).await?);
        next.push(ask(&engine, &index.id, &data, &truth, (query + queries / 2) % queries, &arguments).await?);
        std::fs::remove_dir_all(&cache)?;
    }
    report("first", &first);
    report("next", &next);
    Ok(())
}

async fn ask(
    engine: &Engine,
    index: &IndexId,
    data: &Data,
    truth: &Matrix,
    query: usize,
    arguments: &Arguments,
) -> Result<Sample> {
    let filter = arguments.filter.map(|bound| Filter::Compare {
        attribute: "u".to_owned(),
        op: CompareOp::Lt,
        value: AttributeValue::Int64(i64::from(bound)),
    });
    let request = SearchRequest {
        filter,
        target_recall: Some(arguments.recall),
        explain: true,
        ..SearchRequest::new(vec![Vector::Dense(data.queries.row(query).to_vec())], arguments.k)
    };
    let began = Instant::now();
    let response = engine.search(index, request).await?;
    let time = began.elapsed();
    let SearchResponse { results, spent, segments, .. } = response;
    let plan = segments.iter().find_map(|segment| match segment.plan {
        SegmentPlan::Cold(plan) => Some(plan),
        _ => None,
    });
    let row = |found: &Found| match found.attributes.iter().find(|(name, _)| name == "id") {
        Some((_, AttributeValue::Int64(id))) => u32::try_from(*id).unwrap_or(u32::MAX),
        _ => u32::MAX,
    };
    let rows: Vec<u32> = results.first().map_or(&[][..], Vec::as_slice).iter().map(row).collect();
    Ok(Sample {
        requests: spent.requests.total(),
        bytes: spent.requests.bytes_read,
        trips: spent.round_trips,
        hedged: spent.hedged,
        time,
        recall: data.recall(truth, query, &rows, arguments.k as usize),
        plan,
    })
}

fn report(name: &str, samples: &[Sample]) {
    let quantile = |value: &dyn Fn(&Sample) -> f64, q: f64| {
        let mut values: Vec<f64> = samples.iter().map(value).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(((values.len().saturating_sub(1)) as f64 * q) as usize).copied().unwrap_or(0.0)
    };
    let mean = |value: &dyn Fn(&Sample) -> f64| samples.iter().map(value).sum::<f64>() / samples.len().max(1) as f64;
    let cold = samples.iter().filter(|sample| sample.plan.is_some()).count();
    println!("{name}: {} searches, {cold} by ranges", samples.len());
    let line = |what: &str, value: &dyn Fn(&Sample) -> f64| {
        println!(
            "  {what:12} mean {:8.3}  p50 {:8.3}  p95 {:8.3}  max {:8.3}",
            mean(value),
            quantile(value, 0.5),
            quantile(value, 0.95),
            quantile(value, 1.0)
        );
    };
    line("requests", &|sample| sample.requests as f64);
    line("  hedged", &|sample| sample.hedged as f64);
    line("MB", &|sample| sample.bytes as f64 / 1e6);
    let part =
        |sample: &Sample, of: fn(&ColdPlan) -> u64| sample.plan.as_ref().map_or(0.0, |plan| of(plan) as f64 / 1e6);
    line("  outline", &|sample| part(sample, |plan| plan.outline_bytes));
    line("  columns", &|sample| part(sample, |plan| plan.column_bytes));
    line("  cells", &|sample| part(sample, |plan| plan.cell_bytes));
    line("  rows", &|sample| part(sample, |plan| plan.row_bytes));
    line("round trips", &|sample| f64::from(sample.trips));
    line("ms", &|sample| sample.time.as_secs_f64() * 1e3);
    println!("  recall       {:.4}", mean(&|sample| sample.recall));
}
