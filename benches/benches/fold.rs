//! Folds one million 128-dimensional updates from 200 deltas into a checkpoint, folds one more delta, builds an index;
//! prints times and the peak of resident memory of each step.
//!
//! `cargo bench -p tarn-benches --bench fold [-- MEMORY_MIB [DIRECTORY]]`: the builder's memory limit (default 512), and
//! where to put the store (default: a temporary directory on disk).

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "benchmarks measure real time and print")]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tarn_benches::machine;
use tarn_compact::{Builder, BuilderSettings, Silent};
use tarn_model::{
    AttributeType, AttributeValue, Attributes, DataPoint, DataSource, DataSourceId, Index, IndexAlgorithm, IndexId,
    Metric, Update, Vector, VectorKind,
};
use tarn_store::{Store, create_index, create_source};
use tarn_timeline::{AppendOptions, PointBatch, Timeline};

const DELTAS: usize = 200;
const ROWS: usize = 5_000;
const DIMENSION: usize = 128;
/// Half of the updates overwrite or delete an earlier one.
const KEYS: i64 = 640_000;
const TOMBSTONES: f64 = 0.1;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    // `cargo bench` passes a flag of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let memory_mib: u64 = arguments.first().map_or(Ok(512), |text| text.parse())?;
    let temporary = match arguments.get(1) {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let store = Store::disk(&temporary.path().join("store"))?;
    println!("{}; memory limit {memory_mib} MiB", machine());

    let source = Arc::new(source()?);
    create_source(&store, &source).await?;
    let index = index(&source)?;
    create_index(&store, &index).await?;
    let mut rng = StdRng::seed_from_u64(1);
    let timeline = Timeline::open(store.clone(), Arc::clone(&source));
    let begun = Instant::now();
    for _ in 0..DELTAS {
        append(&timeline, &mut rng, ROWS).await?;
    }
    println!("upload: {DELTAS} deltas of {ROWS} rows in {:.1} s", begun.elapsed().as_secs_f64());

    let mut settings = BuilderSettings::default();
    settings.memory_limit_bytes = memory_mib << 20;
    settings.temp_dir = Some(temporary.path().join("scratch"));
    let builder = Builder::new(store.clone(), settings, Arc::new(Silent))?;
    measure("fold of everything", async {
        let done = builder.fold(&source.id).await?;
        Ok(format!("{} deltas to {} rows in {} files", done.deltas, done.rows, done.files_written))
    })
    .await?;
    measure("first build, flat", async {
        let done = builder.build(&index.id).await?;
        Ok(format!("{} rows in {} segments", done.rows, done.segments_written))
    })
    .await?;
    append(&timeline, &mut rng, ROWS).await?;
    measure("fold of one more delta", async {
        let done = builder.fold(&source.id).await?;
        Ok(format!("{} rows, {} files written, {} carried", done.rows, done.files_written, done.files_carried))
    })
    .await?;
    measure("build of one more delta", async {
        let done = builder.build(&index.id).await?;
        Ok(format!("{} rows, {} written, {} carried", done.rows, done.segments_written, done.segments_carried))
    })
    .await?;
    Ok(())
}

fn source() -> Result<DataSource, Box<dyn Error + Send + Sync>> {
    Ok(DataSource {
        id: DataSourceId::new("bench", "1")?,
        vector_dimension: DIMENSION as u32,
        vector_kind: VectorKind::Dense,
        attribute_types: BTreeMap::from([("id".to_owned(), AttributeType::Int64)]),
        permanent_attributes: ["id".to_owned()].into(),
        sharders: BTreeMap::new(),
        policy: Default::default(),
    })
}

fn index(source: &DataSource) -> Result<Index, Box<dyn Error + Send + Sync>> {
    Ok(Index {
        id: IndexId::new("bench", "1")?,
        data_source: source.id.clone(),
        algorithm: IndexAlgorithm { metric: Metric::L2, hnsw: None },
        id_attributes: ["id".to_owned()].into(),
        split_attributes: [].into(),
        shards: Index::single_shard(),
    })
}

async fn append(timeline: &Timeline, rng: &mut StdRng, rows: usize) -> Result<(), Box<dyn Error + Send + Sync>> {
    let updates: Vec<Update> = (0..rows)
        .map(|_| {
            let attributes = Attributes::from([("id".to_owned(), AttributeValue::Int64(rng.random_range(0..KEYS)))]);
            if rng.random_bool(TOMBSTONES) {
                return Update::Delete(attributes);
            }
            let vector = Vector::Dense((0..DIMENSION).map(|_| rng.random_range(-1.0..1.0)).collect());
            Update::Upsert(DataPoint { attributes, vector })
        })
        .collect();
    let batch = PointBatch::from_updates(Arc::clone(timeline.source()), &updates)?;
    timeline.append(batch, AppendOptions::default()).await?;
    Ok(())
}

async fn measure(
    what: &str,
    step: impl Future<Output = Result<String, Box<dyn Error + Send + Sync>>>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    // Resets the kernel's record of the peak.
    std::fs::write("/proc/self/clear_refs", "5")?;
    let before = status_mib("VmRSS:")?;
    let begun = Instant::now();
    let result = step.await?;
    let seconds = begun.elapsed().as_secs_f64();
    println!("{what}: {result}; {seconds:.2} s, peak RSS {} MiB ({before} MiB before)", status_mib("VmHWM:")?);
    Ok(())
}

fn status_mib(field: &str) -> Result<u64, Box<dyn Error + Send + Sync>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).ok_or("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? / 1024)
}
