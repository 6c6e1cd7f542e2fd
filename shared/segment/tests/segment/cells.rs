//! Cells: what a file of them answers.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;
use tarn_model::Metric;
use tarn_segment::{Answer, Build, Effort, Plan, Query, Segment, SegmentKind, SegmentSettings};

use crate::clustered::clustered;
use crate::support::{Fixture, Mask};
use crate::unseen::Built;

const ROWS: usize = 24_000;
const DIMENSION: usize = 24;

fn settings() -> SegmentSettings {
    SegmentSettings { rows_per_cell: 40, ..SegmentSettings::default() }
}

fn built(metric: Metric) -> Built {
    Built::new(metric, (ROWS, DIMENSION, 91), Build::Cells, &settings())
}

fn cosine() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| built(Metric::Cosine))
}

fn by_cells(plans: &[Plan]) -> usize {
    plans.iter().filter(|plan| matches!(plan, Plan::Cells { .. })).count()
}

#[test]
fn keys_attributes_and_vectors_move_together() {
    let given = Fixture::dense(Metric::L2, clustered(700, 5, 92));
    let settings = SegmentSettings { rows_per_cell: 10, ..SegmentSettings::default() };
    let segment = Segment::from_bytes("cells.seg", given.file_with(Build::Cells, &settings).0).unwrap();
    assert_eq!((segment.kind(), segment.rows()), (SegmentKind::Cells, 700));
    let numbers = segment.attributes().column_by_name("number").unwrap();
    let numbers = numbers.as_any().downcast_ref::<arrow::array::Int64Array>().unwrap();
    let mut moved = 0;
    for (given_row, (key, vector)) in given.rows.iter().enumerate() {
        let row = segment.find_key(key).unwrap();
        assert_eq!(segment.key(row), key);
        assert_eq!(&segment.vector(row), vector);
        assert_eq!(numbers.value(row as usize), given_row as i64);
        moved += usize::from(row as usize != given_row);
    }
    assert!(moved > 600, "{moved}");
}

#[test]
fn the_recall_that_was_asked_for_is_reached_by_cells() {
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
        let built = built(metric);
        let mask = Mask::all(ROWS);
        for asked in [0.8, 0.95] {
            let (recall, plans) = built.recall(10, &mask, Effort::Recall(asked));
            assert!(recall > f64::from(asked) - 0.01, "{metric:?}: {recall} for {asked}");
            assert_eq!(by_cells(&plans), 100, "{metric:?} at {asked}");
        }
    }
}

#[test]
fn all_cells_and_many_rows_find_what_the_exact_scan_finds() {
    let built = cosine();
    let mask = Mask::all(ROWS);
    let effort = Effort::Cells { nprobe: u32::MAX, rescored: 400 };
    for query in &built.unseen[..20] {
        let query = Query::dense(Metric::Cosine, query).unwrap();
        let exact = built.segment.search(&query, 10, &mask.rows(), Effort::Exact, &|| false).unwrap();
        let cells = built.segment.search(&query, 10, &mask.rows(), effort, &|| false).unwrap();
        // To the bit: the kernels are the same.
        assert_eq!(cells.hits, exact.hits);
        assert_eq!(exact.plan, Plan::Exact);
    }
}

#[test]
fn a_filter_costs_no_recall() {
    let built = cosine();
    let mut rng = SmallRng::seed_from_u64(93);
    for share in [0.5, 0.25, 0.02] {
        let matches: RoaringBitmap = (0..ROWS as u32).filter(|_| rng.random_bool(share)).collect();
        let deleted: RoaringBitmap = (0..ROWS as u32).filter(|_| rng.random_bool(0.1)).collect();
        let mask = Mask { matches: Some(matches), deleted: Some(deleted), ..Mask::all(ROWS) };
        let (recall, plans) = built.recall(10, &mask, Effort::Recall(0.95));
        assert!(recall > 0.94, "{recall} at {share}");
        // Few rows are scanned one by one.
        assert_eq!(by_cells(&plans), if share > 0.2 { 100 } else { 0 }, "at {share}");
    }
}

#[test]
fn cells_that_hold_too_few_rows_are_no_reason_for_fewer_hits() {
    let built = cosine();
    let mask = Mask::all(ROWS);
    let query = Query::dense(Metric::Cosine, &built.unseen[0]).unwrap();
    let effort = Effort::Cells { nprobe: 1, rescored: 1000 };
    let answer = built.segment.search(&query, 1000, &mask.rows(), effort, &|| false).unwrap();
    assert_eq!((answer.hits.len(), answer.plan), (1000, Plan::Exact));
}

#[test]
fn a_batch_answers_as_each_query_alone() {
    let built = cosine();
    let mut rng = SmallRng::seed_from_u64(95);
    let half: RoaringBitmap = (0..ROWS as u32).filter(|_| rng.random_bool(0.5)).collect();
    let some: RoaringBitmap = (0..ROWS as u32).filter(|_| rng.random_bool(0.1)).collect();
    let masks = [
        Mask::all(ROWS),
        Mask { matches: Some(half), ..Mask::all(ROWS) },
        Mask { deleted: Some(some), ..Mask::all(ROWS) },
    ];
    let queries: Vec<Query> = built.unseen.iter().map(|query| Query::dense(Metric::Cosine, query).unwrap()).collect();
    for mask in masks {
        for (effort, k) in [
            (Effort::Recall(0.9), 10),
            (Effort::Recall(0.9), 100),
            // Some of the cells hold fewer than are asked for: these queries are answered by a scan.
            (Effort::Cells { nprobe: 4, rescored: 100 }, 60),
        ] {
            let alone: Vec<Answer> = queries
                .iter()
                .map(|query| built.segment.search(query, k, &mask.rows(), effort, &|| false).unwrap())
                .collect();
            assert!(alone.iter().any(|answer| matches!(answer.plan, Plan::Cells { .. })), "{effort:?}");
            for (count, threads) in [(2, 1), (5, 1), (100, 1), (100, 3)] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let queries = &queries[..count];
                let batch = pool.install(|| built.segment.search_many(queries, k, &mask.rows(), effort, &|| false));
                assert_eq!(batch.unwrap(), alone[..count], "{count} queries, {threads} threads, {effort:?}");
            }
        }
    }
}

#[test]
fn a_stopped_search_says_how_much_it_considered() {
    let built = cosine();
    let mask = Mask::all(ROWS);
    let query = Query::dense(Metric::Cosine, &built.unseen[0]).unwrap();
    let asked = AtomicUsize::new(0);
    let stop = || asked.fetch_add(1, Ordering::Relaxed) >= 1;
    let effort = Effort::Cells { nprobe: 500, rescored: 24 };
    let answer = built.segment.search(&query, 10, &mask.rows(), effort, &stop).unwrap();
    assert!(answer.considered > 0 && answer.considered < answer.allowed, "{answer:?}");
    let answer = built.segment.search(&query, 10, &mask.rows(), effort, &|| true).unwrap();
    assert_eq!((answer.considered, answer.hits.len()), (0, 0));
}

#[test]
fn a_batch_that_is_stopped_while_it_is_rescored_has_the_best_by_code_of_each_query() {
    let built = cosine();
    let mask = Mask::all(ROWS);
    // As many as are searched together, and as many rows as a search rescores rather than scan everything.
    let (count, many) = (46, 1400);
    let queries: Vec<Query> =
        built.unseen[..count].iter().map(|query| Query::dense(Metric::Cosine, query).unwrap()).collect();
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let search = |rescored: u32, calls: usize| {
        let asked = AtomicUsize::new(0);
        let stop = || asked.fetch_add(1, Ordering::Relaxed) >= calls;
        let effort = Effort::Cells { nprobe: 100, rescored };
        let answers = one.install(|| built.segment.search_many(&queries, 10, &mask.rows(), effort, &stop)).unwrap();
        assert!(answers.iter().all(|answer| answer.plan == Plan::Cells { nprobe: 100, rescored }));
        (answers, asked.into_inner())
    };
    let (_, scanning) = search(16, usize::MAX);
    let (whole, asked) = search(many, usize::MAX);
    assert!(asked > scanning, "{asked} calls of stop, {scanning} of them before anything is rescored");
    let (stopped, _) = search(many, scanning);
    let (done, cut): (Vec<_>, Vec<_>) = stopped.iter().partition(|answer| answer.considered == answer.allowed);
    assert!(!done.is_empty() && !cut.is_empty(), "{} and {}", done.len(), cut.len());
    for (stopped, whole) in stopped.iter().zip(&whole) {
        if stopped.considered == stopped.allowed {
            assert_eq!(stopped, whole);
        } else {
            assert!(stopped.considered < u64::from(many) && stopped.hits.len() == 10, "{stopped:?}");
        }
    }
}

#[test]
fn few_rows_have_cells_too() {
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
        for rows in [0, 1, 2, 30] {
            let fixture = Fixture::dense(metric, clustered(rows, 3, 94));
            let segment = fixture.open(Build::Cells);
            assert_eq!(segment.rows() as usize, rows);
            let dimension = segment.dimension() as usize;
            let query = Query::dense(metric, &vec![0.5; dimension]).unwrap();
            let answer = segment.search(&query, 5, &Mask::all(rows).rows(), Effort::Recall(0.9), &|| false).unwrap();
            assert_eq!(answer.hits.len(), rows.min(5));
        }
    }
}
