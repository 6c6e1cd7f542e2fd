//! What cold plans read, and what they find, on a data set of vectors.
//!
//! `cargo run --release -p tarn-segment --example cold_plans -- DIRECTORY METRIC [FILE]`: the directory has `base.npy`,
//! `queries.npy` (f32, C order) and `gtd_METRIC.npy` (distances of the exact neighbours, ascending). The segment is built in
//! FILE, or taken from there.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement prints, and measures real time"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{BinaryArray, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;
use tarn_model::{Metric, ObjectRef};
use tarn_segment::{
    Build, ColdAnswer, ColdBudget, ColdHits, Effort, FetchedCells, Outline, Query, Rows, Segment, SegmentInput,
    SegmentSettings, Vectors, write_segment,
};

/// An array of f32 with two axes.
fn npy(path: &Path) -> (usize, usize, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    let head = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = String::from_utf8_lossy(&bytes[10..head]).into_owned();
    assert!(text.contains("'<f4'") && text.contains("'fortran_order': False"), "{text}");
    let shape = text.split_once('(').unwrap().1.split_once(')').unwrap().0;
    let shape: Vec<usize> = shape.split(',').filter_map(|part| part.trim().parse().ok()).collect();
    let values = bytes[head..].chunks_exact(4).map(|raw| f32::from_le_bytes(raw.try_into().unwrap())).collect();
    (shape[0], shape[1], values)
}

fn input(metric: Metric, rows: usize, dimension: usize, values: Vec<f32>) -> SegmentInput {
    let mut rng = SmallRng::seed_from_u64(1);
    let keys = BinaryArray::from_iter_values((0..rows as u64).map(u64::to_be_bytes));
    let numbers = Int64Array::from_iter_values((0..rows).map(|_| rng.random_range(0..1000)));
    let words = StringArray::from_iter_values((0..rows).map(|row| format!("word {row}")));
    let attributes =
        RecordBatch::try_from_iter([("u", Arc::new(numbers) as _), ("word", Arc::new(words) as _)]).unwrap();
    SegmentInput { metric, dimension: dimension as u32, keys, attributes, vectors: Vectors::Dense(values.into()) }
}

struct File {
    bytes: Bytes,
    outline: Arc<Outline>,
}

#[derive(Default)]
struct Reads {
    cell_ranges: usize,
    cell_bytes: u64,
    row_ranges: usize,
    row_bytes: u64,
    plan: Duration,
    scan: Duration,
    hits: Duration,
}

impl File {
    fn search(
        &self,
        query: &Query,
        effort: Effort,
        rows: &Rows<'_>,
        fetched: &FetchedCells,
    ) -> Option<(ColdAnswer, Reads)> {
        let read = |range: &std::ops::Range<u64>| self.bytes.slice(range.start as usize..range.end as usize);
        let mut reads = Reads::default();
        let start = Instant::now();
        let budget = if rows.matches.is_some() { ColdBudget::filtered() } else { ColdBudget::default() };
        let queries = std::slice::from_ref(query);
        let cells = self.outline.plan_cells(queries, 10, effort, rows, &budget, fetched).unwrap()?;
        reads.plan = start.elapsed();
        (reads.cell_ranges, reads.cell_bytes) = (cells.ranges().len(), cells.bytes());
        let bytes: Vec<Bytes> = cells.ranges().iter().map(read).collect();
        let start = Instant::now();
        let plan = cells.scan(&bytes, fetched).unwrap();
        reads.scan = start.elapsed();
        (reads.row_ranges, reads.row_bytes) = (plan.ranges().len(), plan.bytes());
        let bytes: Vec<Bytes> = plan.ranges().iter().map(read).collect();
        let start = Instant::now();
        let mut answers = match plan.hits(&bytes, &|_| false).unwrap() {
            ColdHits::Found(answers) => answers,
            ColdHits::More(more) => {
                let bytes: Vec<Bytes> = more.ranges().iter().map(read).collect();
                more.hits(&bytes, &|_| false).unwrap()
            }
        };
        reads.hits = start.elapsed();
        answers.pop().map(|answer| (answer, reads))
    }
}

fn percentile(values: &mut [u64], part: usize) -> u64 {
    values.sort_unstable();
    values[(values.len() - 1) * part / 100]
}

/// `truth`: the distance of the tenth neighbour of each query.
fn measure(
    name: &str,
    file: &File,
    queries: &[Query],
    truth: &[f64],
    rows: &Rows<'_>,
    effort: Effort,
    fetched: &FetchedCells,
) {
    let (mut found, mut short, mut all) = (0, 0, Vec::new());
    for (query, farthest) in queries.iter().zip(truth) {
        let Some((answer, reads)) = file.search(query, effort, rows, fetched) else {
            println!("{name}: needs the whole file");
            return;
        };
        let near = |distance: f64| distance <= farthest + 1e-5 * farthest.abs().max(1.0);
        found += answer.hits.iter().filter(|hit| near(hit.distance)).count();
        short += usize::from(answer.short);
        all.push(reads);
    }
    let n = all.len() as f64;
    let mean = |of: fn(&Reads) -> f64| all.iter().map(of).sum::<f64>() / n;
    let mut bytes: Vec<u64> = all.iter().map(|reads| reads.cell_bytes + reads.row_bytes).collect();
    println!(
        "{name}: recall {:.4}, {:.1} + {:.1} ranges, {:.0} + {:.0} KB (p95 {}, max {}), plan {:.0} scan {:.0} hits {:.0} us, {short} short",
        found as f64 / (10.0 * n),
        mean(|reads| reads.cell_ranges as f64),
        mean(|reads| reads.row_ranges as f64),
        mean(|reads| reads.cell_bytes as f64) / 1e3,
        mean(|reads| reads.row_bytes as f64) / 1e3,
        percentile(&mut bytes, 95) / 1000,
        percentile(&mut bytes, 100) / 1000,
        mean(|reads| reads.plan.as_secs_f64()) * 1e6,
        mean(|reads| reads.scan.as_secs_f64()) * 1e6,
        mean(|reads| reads.hits.as_secs_f64()) * 1e6,
    );
}

/// An exact scan over slots against one over vectors side by side, in turn.
fn print_scans(cells: &Segment, queries: &[Query]) {
    let Vectors::Dense(values) = cells.vectors() else { return };
    let (rows, dimension) = (cells.rows() as usize, cells.dimension() as usize);
    let flat = Segment::in_memory(input(cells.metric(), rows, dimension, values.to_vec())).unwrap();
    let all = 0..cells.rows();
    let mut least = [Duration::MAX; 4];
    for _ in 0..15 {
        for (at, (segment, queries)) in
            [(cells, &queries[..1]), (&flat, &queries[..1]), (cells, queries), (&flat, queries)].into_iter().enumerate()
        {
            let start = Instant::now();
            let rows = Rows { ranges: std::slice::from_ref(&all), ..Rows::default() };
            segment.search_many(queries, 10, &rows, Effort::Exact, &|| false).unwrap();
            least[at] = least[at].min(start.elapsed());
        }
    }
    let ratio = |at: usize| least[at].as_secs_f64() / least[at + 1].as_secs_f64();
    println!(
        "exact scan of slots: {:?}, {:.2} times flat; {} queries {:.2} times",
        least[0],
        ratio(0),
        queries.len(),
        ratio(2)
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, directory, metric, rest @ ..] = arguments.as_slice() else { return println!("DIRECTORY METRIC [FILE]") };
    let (directory, of) = (Path::new(directory), metric.as_str());
    let metric = if of == "l2" { Metric::L2 } else { Metric::Cosine };
    let temporary = tempfile::tempdir().unwrap();
    let path = rest.first().map_or_else(|| temporary.path().join("cells.seg"), Into::into);
    if !path.exists() {
        let (rows, dimension, values) = npy(&directory.join("base.npy"));
        let input = input(metric, rows, dimension, values);
        let start = Instant::now();
        let summary = write_segment(&input, Build::Cells, &SegmentSettings::default(), &path, &|_, _| {}).unwrap();
        println!(
            "built {rows} x {dimension} in {:.1} s: {} bytes, {} of outline",
            start.elapsed().as_secs_f64(),
            summary.bytes,
            summary.outline
        );
        std::fs::write(path.with_extension("outline"), summary.outline.to_string()).unwrap();
    }
    let bytes = Bytes::from(std::fs::read(&path).unwrap());
    let length: usize = std::fs::read_to_string(path.with_extension("outline")).unwrap().parse().unwrap();
    let object = ObjectRef { id: 1.into(), bytes: bytes.len() as u64, crc32c: crc32c::crc32c(&bytes) };
    let start = Instant::now();
    let outline = Outline::read("cells.seg", bytes.slice(bytes.len() - length..), &object).unwrap();
    println!(
        "outline of {length} bytes read in {:.0} us, {} cells",
        start.elapsed().as_secs_f64() * 1e6,
        outline.cells()
    );
    for measured in &outline.calibration().cold {
        println!("chances of candidates: {:?}", measured.candidates);
        for share in &measured.shares {
            let steps: Vec<(f64, f32, f32)> =
                share.steps.iter().map(|step| (step.lambda, step.recall.mean, step.recall.floor)).collect();
            println!("of {}: {steps:?}", share.allowed);
        }
        println!("calibration: {} bytes of JSON", serde_json::to_string(measured).unwrap().len());
    }
    let file = File { bytes, outline: Arc::new(outline) };
    let (count, dimension, values) = npy(&directory.join("queries.npy"));
    let queries: Vec<Query> =
        values.chunks_exact(dimension).map(|values| Query::dense(metric, values).unwrap()).collect();
    let (_, columns, distances) = npy(&directory.join(format!("gtd_{of}.npy")));
    let truth: Vec<f64> = distances.chunks_exact(columns).map(|row| f64::from(row[9])).collect();
    assert_eq!(truth.len(), count);

    let all = 0..file.outline.rows();
    let rows = Rows { ranges: std::slice::from_ref(&all), ..Rows::default() };
    for recall in [0.8, 0.9, 0.95, 0.97, 0.98] {
        let name = format!("recall {recall}, cold");
        measure(&name, &file, &queries, &truth, &rows, Effort::Recall(recall), &FetchedCells::new(0));
    }
    let fetched = FetchedCells::new(64 << 20);
    measure("recall 0.95, one after another", &file, &queries, &truth, &rows, Effort::Recall(0.95), &fetched);
    println!("{} bytes of cells were kept", fetched.bytes());

    let segment = Segment::open(&path, None).unwrap();
    print_scans(&segment, &queries[..8.min(count)]);
    let numbers = segment.attributes().column(0).as_any().downcast_ref::<Int64Array>().unwrap();
    for permille in [500, 100, 10, 1] {
        let matches: RoaringBitmap =
            (0u32..).zip(numbers.values()).filter(|(_, u)| **u < permille).map(|(row, _)| row).collect();
        let rows = Rows { matches: Some(&matches), ..rows };
        let queries = &queries[..queries.len().min(300)];
        let answers = segment.search_many(queries, 10, &rows, Effort::Exact, &|| false).unwrap();
        let truth: Vec<f64> = answers.iter().map(|answer| answer.hits[9].distance).collect();
        for recall in [0.9, 0.95] {
            let name = format!("{} of 1000, recall {recall}", permille);
            measure(&name, &file, queries, &truth, &rows, Effort::Recall(recall), &FetchedCells::new(0));
        }
    }
}
