//! Segments: scan bandwidth against the machine's, graph and sparse searches, tail segments.
//!
//! `cargo bench -p tarn-benches --bench segment`. Before the timed groups it prints the ratio of scan to memory bandwidth,
//! both measured in this run, alternating, on one buffer larger than any cache.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "benchmarks measure real time"
)]

use std::sync::LazyLock;
use std::time::Instant;

use arrow::array::{BinaryArray, Int64Array, RecordBatch};
use arrow::buffer::OffsetBuffer;
use divan::{Bencher, black_box};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tarn_model::{HnswParams, Metric, SparseVector};
use tarn_segment::{
    Build, Effort, Query, Rows, Segment, SegmentInput, SegmentSettings, SegmentSummary, Vectors, write_segment,
};

fn main() {
    print_bandwidth();
    divan::main();
}

fn input(metric: Metric, dimension: u32, rows: usize, vectors: Vectors) -> SegmentInput {
    let keys = BinaryArray::from_iter_values((0..rows as u64).map(u64::to_be_bytes));
    let numbers = Int64Array::from_iter_values(0..rows as i64);
    let attributes = RecordBatch::try_from_iter([("id", std::sync::Arc::new(numbers) as _)]).unwrap();
    SegmentInput { metric, dimension, keys, attributes, vectors }
}

/// Points around centres, as embeddings are.
fn dense(metric: Metric, dimension: usize, rows: usize) -> SegmentInput {
    let mut rng = StdRng::seed_from_u64(1);
    let centres: Vec<f32> = (0..200 * dimension).map(|_| rng.random_range(-1.0..1.0)).collect();
    let mut values = Vec::with_capacity(rows * dimension);
    for _ in 0..rows {
        let at = rng.random_range(0..200) * dimension;
        values.extend(centres[at..at + dimension].iter().map(|x| x + rng.random_range(-0.5f32..0.5)));
    }
    input(metric, dimension as u32, rows, Vectors::Dense(values.into()))
}

fn search(segment: &Segment, queries: &[Query], effort: Effort) -> usize {
    let all = 0..segment.rows();
    let rows = Rows { ranges: std::slice::from_ref(&all), ..Rows::default() };
    let answers = segment.search_many(queries, 10, &rows, effort, &|| false).unwrap();
    answers.iter().map(|answer| answer.hits.len()).sum()
}

/// Reads memory as fast as this machine does: all threads, eight independent sums each.
fn read_stream(values: &[f32], threads: usize) -> f32 {
    let share = values.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let readers: Vec<_> = values.chunks(share).map(|part| scope.spawn(move || sum(part))).collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    })
}

fn sum(values: &[f32]) -> f32 {
    let mut sums = [0.0f32; 64];
    for block in values.chunks_exact(64) {
        for (sum, x) in sums.iter_mut().zip(block) {
            *sum += x;
        }
    }
    sums.iter().sum()
}

fn print_bandwidth() {
    const DIMENSION: usize = 128;
    const ROWS: usize = 1_000_000;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("machine: {}", tarn_benches::machine());
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
        let segment = Segment::in_memory(dense(metric, DIMENSION, ROWS)).unwrap();
        let Vectors::Dense(values) = segment.vectors() else { return };
        let mut rng = StdRng::seed_from_u64(2);
        let query: Vec<f32> = (0..DIMENSION).map(|_| rng.random_range(-1.0..1.0)).collect();
        let query = [Query::dense(metric, &query).unwrap()];
        let (mut stream, mut scan) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..15 {
            let start = Instant::now();
            black_box(read_stream(&values, threads));
            stream = stream.min(start.elapsed().as_secs_f64());
            let start = Instant::now();
            black_box(search(&segment, &query, Effort::Exact));
            scan = scan.min(start.elapsed().as_secs_f64());
        }
        let bytes = (ROWS * DIMENSION * size_of::<f32>()) as f64;
        println!(
            "flat scan {metric:?}, {ROWS} x {DIMENSION}: {:.1} GB/s of {:.1} GB/s that {threads} threads read: {:.0} %",
            bytes / scan / 1e9,
            bytes / stream / 1e9,
            100.0 * stream / scan,
        );
    }
}

static FLAT: LazyLock<Segment> = LazyLock::new(|| Segment::in_memory(dense(Metric::Cosine, 128, 50_000)).unwrap());

#[divan::bench(args = [1, 8, 32])]
fn flat_50k_x_128_batch_of(bencher: Bencher<'_, '_>, batch: usize) {
    let mut rng = StdRng::seed_from_u64(3);
    let queries: Vec<Query> = (0..batch)
        .map(|_| Query::dense(Metric::Cosine, &[(); 128].map(|()| rng.random_range(-1.0..1.0))).unwrap())
        .collect();
    bencher.counter(batch).bench(|| search(&FLAT, &queries, Effort::Exact));
}

/// Builds a segment of 100,000 rows of 128 coordinates, says how long that took, and opens it.
fn built(name: &str, build: Build) -> (SegmentSummary, Segment) {
    let input = dense(Metric::Cosine, 128, 100_000);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let settings = SegmentSettings { threads, ..SegmentSettings::default() };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("built.seg");
    let start = Instant::now();
    let summary = write_segment(&input, build, &settings, &path, &|_, _| {}).unwrap();
    println!("{name} of 100000 x 128: built in {:.1} s, {} bytes", start.elapsed().as_secs_f64(), summary.bytes);
    let start = Instant::now();
    let segment = Segment::open(&path, None).unwrap();
    println!("opened and verified in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    (summary, segment)
}

static GRAPH: LazyLock<Segment> = LazyLock::new(|| {
    let (summary, segment) = built("graph", Build::Graph(HnswParams { m: 16, ef_construction: 128, ef_search: 16 }));
    for point in summary.calibration.iter().flat_map(|calibration| &calibration.points) {
        println!("  ef {:5}: recall@10 {:.4}, recall@100 {:.4}", point.ef, point.at_10.mean, point.at_100.mean);
    }
    segment
});

static CELLS: LazyLock<Segment> = LazyLock::new(|| {
    let (summary, segment) = built("cells", Build::Cells);
    for point in summary.cell_calibration.iter().flat_map(|calibration| &calibration.at_10) {
        println!("  nprobe {:5}, rescored {:3}: recall@10 {:.4}", point.nprobe, point.rescored, point.recall.mean);
    }
    segment
});

#[divan::bench(args = [0.9, 0.95, 0.99])]
fn cells_100k_x_128_recall(bencher: Bencher<'_, '_>, recall: f32) {
    let queries = near(&CELLS);
    let mut next = queries.iter().cycle();
    bencher
        .counter(1usize)
        .with_inputs(|| next.next().unwrap())
        .bench_local_values(|query| search(&CELLS, query, Effort::Recall(recall)));
}

/// Queries beside rows of a segment of 100,000 rows of 128 coordinates.
fn near(segment: &Segment) -> Vec<[Query; 1]> {
    let Vectors::Dense(values) = segment.vectors() else { return Vec::new() };
    let mut rng = StdRng::seed_from_u64(4);
    (0..500)
        .map(|_| {
            let at = rng.random_range(0..100_000) * 128;
            let near: Vec<f32> = values[at..at + 128].iter().map(|x| x + rng.random_range(-0.3f32..0.3)).collect();
            [Query::dense(Metric::Cosine, &near).unwrap()]
        })
        .collect()
}

#[divan::bench(args = [0.9, 0.95, 0.99])]
fn graph_100k_x_128_recall(bencher: Bencher<'_, '_>, recall: f32) {
    let queries = near(&GRAPH);
    let mut next = queries.iter().cycle();
    bencher
        .counter(1usize)
        .with_inputs(|| next.next().unwrap())
        .bench_local_values(|query| search(&GRAPH, query, Effort::Recall(recall)));
}

fn words(rng: &mut StdRng, count: usize) -> SparseVector {
    // Frequencies fall as those of words do.
    let mut indices: Vec<u32> = (0..count).map(|_| (rng.random_range(0.0f64..1.0).powi(4) * 50_000.0) as u32).collect();
    indices.sort_unstable();
    indices.dedup();
    let values = indices.iter().map(|_| rng.random_range(0.1..1.0)).collect();
    SparseVector { indices, values }
}

fn sparse(metric: Metric, rows: usize) -> Segment {
    let mut rng = StdRng::seed_from_u64(5);
    let (mut lengths, mut indices, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rows {
        let row = words(&mut rng, 60);
        lengths.push(row.indices.len());
        indices.extend(row.indices);
        values.extend(row.values);
    }
    let offsets = OffsetBuffer::from_lengths(lengths);
    let vectors = Vectors::Sparse { offsets, indices: indices.into(), values: values.into() };
    let segment = Segment::in_memory(input(metric, 50_000, rows, vectors)).unwrap();
    // The first search builds the inverted index.
    search(&segment, &[Query::sparse(metric, &words(&mut rng, 3)).unwrap()], Effort::Exact);
    segment
}

#[divan::bench(args = [Metric::SparseCosine, Metric::SparseJaccard])]
fn sparse_100k_rows_of_60_query_of_12(bencher: Bencher<'_, '_>, metric: Metric) {
    let segment = sparse(metric, 100_000);
    let mut rng = StdRng::seed_from_u64(6);
    let queries: Vec<[Query; 1]> = (0..200).map(|_| [Query::sparse(metric, &words(&mut rng, 12)).unwrap()]).collect();
    let mut next = queries.iter().cycle();
    bencher
        .counter(1usize)
        .with_inputs(|| next.next().unwrap())
        .bench_local_values(|query| search(&segment, query, Effort::Exact));
}

#[divan::bench(args = [1, 1000])]
fn tail_segment_in_memory_of_rows(bencher: Bencher<'_, '_>, rows: usize) {
    let input = dense(Metric::Cosine, 128, rows);
    bencher.bench(|| Segment::in_memory(input.clone()).unwrap());
}
