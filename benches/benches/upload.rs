//! What an upload costs one core, by path and by step: 128-d dense points with a few attributes.
//!
//! `columns` is an Arrow upload, `rows` is one whose points are decoded already (JSON parsing is the HTTP layer's). `commit`
//! is the whole way into a memory store; the others are its steps. Throughput is in points.
//! Run: `cargo bench -p tarn-benches --bench upload`.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot run should stop")]
#![allow(clippy::print_stdout, reason = "benchmarks report")]

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use divan::Bencher;
use divan::counter::ItemsCount;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tarn_benches::machine;
use tarn_model::{AttributeType, DataSource, DataSourceId, Update, VectorKind};
use tarn_store::Store;
use tarn_timeline::{
    AppendOptions, BatchInfo, ColumnMapping, DeltaBuilder, GroupCommitter, PointBatch, Timeline, decode_delta,
    encode_delta,
};
use tokio::runtime::Runtime;

const ROWS: usize = 10_000;
const DIMENSION: usize = 128;

fn main() {
    println!("{}", machine());
    divan::main();
}

fn source() -> Arc<DataSource> {
    let types = [
        ("id", AttributeType::Int64),
        ("tenant", AttributeType::String),
        ("title", AttributeType::String),
        ("when", AttributeType::DateTime),
    ];
    Arc::new(DataSource {
        id: DataSourceId::new("bench", "1").unwrap(),
        vector_dimension: DIMENSION as u32,
        vector_kind: VectorKind::Dense,
        attribute_types: types.into_iter().map(|(name, t)| (name.to_owned(), t)).collect(),
        permanent_attributes: ["id", "tenant"].map(str::to_owned).into(),
        sharders: Default::default(),
        policy: Default::default(),
    })
}

fn columns() -> RecordBatch {
    let mut rng = SmallRng::seed_from_u64(7);
    let values = Float32Array::from_iter_values((0..ROWS * DIMENSION).map(|_| rng.random_range(-1.0_f32..1.0)));
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let vectors = FixedSizeListArray::new(item, DIMENSION as i32, Arc::new(values), None);
    let tenants = (0..ROWS).map(|row| format!("tenant-{}", row % 50));
    let titles = (0..ROWS).map(|_| format!("title {:08x}", rng.random::<u32>()));
    let when = TimestampMicrosecondArray::from_iter_values((0..ROWS as i64).map(|row| 1_700_000_000_000_000 + row));
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(0..ROWS as i64)) as _),
        ("tenant", Arc::new(StringArray::from_iter_values(tenants)) as _),
        ("title", Arc::new(StringArray::from_iter_values(titles)) as _),
        ("when", Arc::new(when) as _),
        ("vector", Arc::new(vectors) as _),
    ])
    .unwrap()
}

fn batch() -> PointBatch {
    PointBatch::from_record_batch(source(), &columns(), &ColumnMapping::default()).unwrap()
}

fn updates() -> Vec<Update> {
    let batch = batch();
    (0..batch.rows()).filter_map(|row| batch.update(row)).collect()
}

fn ipc() -> Vec<u8> {
    let columns = columns();
    let mut writer = StreamWriter::try_new(Vec::new(), &columns.schema()).unwrap();
    writer.write(&columns).unwrap();
    writer.into_inner().unwrap()
}

fn build(source: &Arc<DataSource>, updates: &[Update]) -> PointBatch {
    let mut builder = DeltaBuilder::new(Arc::clone(source), updates.len());
    for update in updates {
        builder.push(update).unwrap();
    }
    builder.finish().unwrap()
}

fn one_core() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[divan::bench]
fn validate_columns(bencher: Bencher<'_, '_>) {
    let (source, columns) = (source(), columns());
    bencher
        .counter(ItemsCount::new(ROWS))
        .bench(|| PointBatch::from_record_batch(Arc::clone(&source), &columns, &ColumnMapping::default()).unwrap());
}

#[divan::bench]
fn validate_rows(bencher: Bencher<'_, '_>) {
    let (source, updates) = (source(), updates());
    bencher.counter(ItemsCount::new(ROWS)).bench(|| build(&source, &updates));
}

#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let batch = batch();
    let info = [BatchInfo { id: Default::default(), rows: ROWS as u64 }];
    bencher.counter(ItemsCount::new(ROWS)).bench(|| encode_delta(0, 1, &info, &batch).unwrap());
}

#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let source = source();
    let info = [BatchInfo { id: Default::default(), rows: ROWS as u64 }];
    let bytes = encode_delta(0, 1, &info, &batch()).unwrap();
    bencher.counter(ItemsCount::new(ROWS)).bench(|| decode_delta("delta", &source, 0, 1, &bytes).unwrap());
}

#[divan::bench]
fn commit_columns(bencher: Bencher<'_, '_>) {
    let (source, ipc, runtime) = (source(), ipc(), one_core());
    let timeline = Timeline::open(Store::memory(), Arc::clone(&source));
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        let columns = StreamReader::try_new(Cursor::new(&ipc), None).unwrap().next().unwrap().unwrap();
        let batch = PointBatch::from_record_batch(Arc::clone(&source), &columns, &ColumnMapping::default()).unwrap();
        runtime.block_on(timeline.append(batch, AppendOptions::default())).unwrap()
    });
}

#[divan::bench]
fn commit_rows(bencher: Bencher<'_, '_>) {
    let (source, updates, runtime) = (source(), updates(), one_core());
    let timeline = Timeline::open(Store::memory(), Arc::clone(&source));
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        let batch = build(&source, &updates);
        runtime.block_on(timeline.append(batch, AppendOptions::default())).unwrap()
    });
}

/// With an idempotency key: a digest of the payload and a receipt more.
#[divan::bench]
fn commit_columns_once(bencher: Bencher<'_, '_>) {
    let (batch, runtime) = (batch(), one_core());
    let timeline = Timeline::open(Store::memory(), Arc::clone(batch.source()));
    let mut n = 0;
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        n += 1;
        runtime.block_on(timeline.append(batch.clone(), AppendOptions::idempotent(format!("upload {n}")))).unwrap()
    });
}

/// What group commit adds to a small upload.
#[divan::bench(args = [1, 32])]
fn commit_small_uploads(bencher: Bencher<'_, '_>, concurrent: usize) {
    let (source, runtime) = (source(), one_core());
    let point = build(&source, &updates()[..1]);
    let committer = GroupCommitter::new(Timeline::open(Store::memory(), source));
    bencher.counter(ItemsCount::new(concurrent)).bench_local(|| {
        let uploads = (0..concurrent).map(|_| committer.submit(point.clone(), AppendOptions::default()));
        for outcome in runtime.block_on(futures::future::join_all(uploads)) {
            outcome.unwrap();
        }
    });
}
