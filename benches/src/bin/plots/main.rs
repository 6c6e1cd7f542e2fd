//! What is claimed of deadlines, samples, statistics and recall, measured and drawn.
//!
//! `cargo build --release -p tarn && cargo run --release -p tarn-benches --bin plots -- --data DIR all`. What a data set consists of,
//! `src/data.rs` says. Each part prints its figures and writes charts as SVG below `--plots`, `docs/plots` unless told otherwise.
//! The store that is measured is a directory (`--store`), filled unless it has been.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark prints, and measures real time")]

mod coverage;
mod deadline;
mod recall;
mod sample;
mod statistics;
mod tests_of;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tarn_benches::{Data, Result, fill, index_of, machine};
use tarn_model::{Index, Vector};
use tarn_search::{Consistency, Engine, EngineSettings, SearchRequest};
use tarn_store::Store;

/// Neighbours of a search.
const K: u32 = 10;

/// Measures claims and draws them
#[derive(Parser)]
struct Arguments {
    /// Directory of the data set: base.npy, queries.npy, gtd_*.npy, meta.parquet
    #[arg(long)]
    data: PathBuf,
    /// A directory that is filled, or has been; without it, a temporary one
    #[arg(long)]
    store: Option<PathBuf>,
    /// Where charts go
    #[arg(long, default_value = "docs/plots")]
    plots: PathBuf,
    /// Deadlines in milliseconds
    #[arg(long, value_delimiter = ',', default_value = "5,10,20,50,100")]
    deadlines: Vec<u64>,
    /// Clients that search at once
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Seconds for each deadline
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,
    /// What to measure
    #[arg(required = true)]
    parts: Vec<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Everything
    All,
    /// How late answers are: clients at once, over HTTP and in process
    Deadline,
    /// What a part of an answer is worth
    Coverage,
    /// Whether samples are like the whole
    Sample,
    /// Statistics that builders counted beside those of an exact pass
    Statistics,
    /// Recall as it is estimated beside recall as it is
    Recall,
}

/// What is measured.
struct World {
    data: Data,
    /// What the data set is called.
    name: String,
    store: Store,
    directory: PathBuf,
    plots: PathBuf,
    /// One segment.
    one: Index,
    /// Several.
    several: Index,
    cache: PathBuf,
}

impl World {
    fn engine(&self, threads: usize, recall_share: f64) -> Result<Engine> {
        let settings = EngineSettings {
            threads,
            recall_share,
            eventual_max_age: Duration::from_secs(3600),
            cache_dir: self.cache.clone(),
            ..EngineSettings::default()
        };
        Ok(Engine::new(self.store.clone(), settings)?)
    }

    fn request(&self, query: usize) -> SearchRequest {
        let queries = vec![Vector::Dense(self.data.queries.row(query % self.data.queries.rows()).to_vec())];
        SearchRequest { consistency: Consistency::Eventual, ..SearchRequest::new(queries, K) }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    println!("machine: {}", machine());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let directory = arguments.store.clone().unwrap_or_else(|| temporary.path().join("store"));
    let data = Data::open(&arguments.data)?;
    let parts = arguments.data.iter().rev().map(|part| part.to_string_lossy().into_owned());
    let name = parts.into_iter().find(|part| part != "public").unwrap_or_default();
    let (one, several) = (index_of(&data, "bench", 1)?, index_of(&data, "bench-8", 8)?);
    let store = Store::disk(&directory)?;
    fill(&store, &data, &[one.clone(), several.clone()], temporary.path()).await?;
    println!("{name}: {} × {}, k = {K}", data.base.rows(), data.base.columns);
    let cache = temporary.path().join("cache");
    let plots = arguments.plots.clone();
    let world = World { data, name, store, directory, plots, one, several, cache };
    let wanted = |part: Part| arguments.parts.iter().any(|&asked| asked == part || asked == Part::All);
    if wanted(Part::Deadline) {
        deadline::measure(&world, &arguments).await?;
    }
    if wanted(Part::Coverage) {
        coverage::measure(&world).await?;
    }
    if wanted(Part::Sample) {
        sample::measure(&world).await?;
    }
    if wanted(Part::Statistics) {
        statistics::measure(&world).await?;
    }
    if wanted(Part::Recall) {
        recall::measure(&world).await?;
    }
    Ok(())
}
