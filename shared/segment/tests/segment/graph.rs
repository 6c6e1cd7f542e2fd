//! Graphs: recall, filters, fallbacks.

use std::sync::OnceLock;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;
use tarn_model::{HnswParams, Metric};
use tarn_segment::{Build, Effort, Plan, Query, Segment, SegmentSettings};

use crate::clustered::clustered;
use crate::support::{Fixture, Mask};
use crate::unseen::Built;

const PARAMS: HnswParams = HnswParams { m: 16, ef_construction: 100, ef_search: 16 };
const ROWS: usize = 12_000;
const DIMENSION: usize = 32;

fn built(metric: Metric) -> Built {
    Built::new(metric, (ROWS, DIMENSION, 11), Build::Graph(PARAMS), &SegmentSettings::default())
}

fn cosine() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| built(Metric::Cosine))
}

fn uses_the_graph(plans: &[Plan]) -> bool {
    plans.iter().all(|plan| matches!(plan, Plan::Graph { .. }))
}

#[test]
fn unseen_queries_get_the_recall_they_ask_for() {
    for metric in [Metric::L2, Metric::InnerProduct] {
        let built = built(metric);
        let (recall, _) = built.recall(10, &Mask::all(ROWS), Effort::Recall(0.95));
        assert!(recall >= 0.95, "{metric:?}: {recall}, {:?}", built.segment.calibration());
    }
    let (at_10, plans) = cosine().recall(10, &Mask::all(ROWS), Effort::Recall(0.95));
    assert!(at_10 >= 0.95, "{at_10}, {:?}", cosine().segment.calibration());
    assert!(uses_the_graph(&plans));
    let (at_50, _) = cosine().recall(50, &Mask::all(ROWS), Effort::Recall(0.95));
    assert!(at_50 >= 0.95, "{at_50}");
}

#[test]
fn calibration_ascends_and_an_unreachable_recall_means_an_exact_search() {
    let calibration = cosine().segment.calibration().unwrap();
    assert_eq!(calibration.queries, 200);
    assert!(calibration.points.is_sorted_by(|a, b| a.ef < b.ef && a.at_100.mean <= b.at_100.mean + 0.01));
    let (recall, plans) = cosine().recall(10, &Mask::all(ROWS), Effort::Recall(1.1));
    assert!((recall - 1.0).abs() < 1e-9);
    assert!(plans.iter().all(|plan| *plan == Plan::Exact));
}

#[test]
fn the_index_own_effort_is_a_floor_and_k_is_another() {
    let mask = Mask::all(ROWS);
    let query = Query::dense(Metric::Cosine, &cosine().unseen[0]).unwrap();
    let plan = |k, effort| cosine().segment.search(&query, k, &mask.rows(), effort, &|| false).unwrap().plan;
    assert_eq!(plan(10, Effort::Ef(1)), Plan::Graph { ef: PARAMS.ef_search });
    assert_eq!(plan(30, Effort::Ef(1)), Plan::Graph { ef: 30 });
    assert_eq!(plan(10, Effort::Exact), Plan::Exact);
}

#[test]
fn masks_hold_at_every_selectivity_and_few_rows_are_scanned() {
    for (share, graph) in [(0.9, true), (0.5, false), (0.05, false), (0.001, false)] {
        let mut rng = SmallRng::seed_from_u64(3);
        let matches: RoaringBitmap = (0..ROWS as u32).filter(|_| rng.random_bool(share)).collect();
        let deleted: RoaringBitmap = (0..ROWS as u32).filter(|row| row % 17 == 0).collect();
        let mask = Mask { matches: Some(matches), deleted: Some(deleted), ..Mask::all(ROWS) };
        let k = 10.min((0..ROWS as u32).filter(|&row| mask.allows(row)).count());
        let (recall, plans) = cosine().recall(k, &mask, Effort::Recall(0.95));
        assert!(recall >= 0.95, "{recall} of {share}");
        if graph || share < 0.3 {
            assert_eq!(uses_the_graph(&plans), graph, "{share}");
        }
    }
}

#[test]
fn candidates_carry_the_distances_of_the_scan_to_the_bit() {
    let mask = Mask::all(ROWS);
    for query in cosine().unseen.iter().take(20) {
        let query = Query::dense(Metric::Cosine, query).unwrap();
        let search = |effort| cosine().segment.search(&query, 10, &mask.rows(), effort, &|| false).unwrap();
        let exact = search(Effort::Exact);
        for hit in search(Effort::Ef(300)).hits {
            let same = exact.hits.iter().find(|other| other.row == hit.row);
            assert!(same.is_none_or(|other| other.distance.to_bits() == hit.distance.to_bits()));
        }
    }
}

#[test]
fn a_batch_and_many_threads_answer_as_one_query_does() {
    let mask = Mask::all(ROWS);
    let queries: Vec<Query> =
        cosine().unseen.iter().map(|query| Query::dense(Metric::Cosine, query).unwrap()).collect();
    let rows = mask.rows();
    let batch = cosine().segment.search_many(&queries, 10, &rows, Effort::Ef(64), &|| false).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for (query, want) in queries.iter().zip(&batch) {
                    let got = cosine().segment.search(query, 10, &rows, Effort::Ef(64), &|| false).unwrap();
                    assert_eq!(&got, want);
                }
            });
        }
    });
}

#[test]
fn small_builds_are_deterministic() {
    let fixture = Fixture::dense(Metric::L2, clustered(700, 8, 1));
    let first = fixture.file(Build::Graph(PARAMS)).0;
    // Not assert_eq: nobody wants to read the bytes.
    assert!(first == fixture.file(Build::Graph(PARAMS)).0, "two builds of the same rows differ");
}

#[test]
fn a_build_by_several_threads_finds_as_much() {
    let mut built = built(Metric::L2);
    let settings = SegmentSettings { threads: 2, parallel_rows: 1000, ..SegmentSettings::default() };
    let (bytes, _) = built.fixture.file_with(Build::Graph(PARAMS), &settings);
    built.segment = Segment::from_bytes("parallel.seg", bytes).unwrap();
    let (recall, _) = built.recall(10, &Mask::all(ROWS), Effort::Recall(0.95));
    assert!(recall >= 0.95, "{recall}");
}

#[test]
fn identical_rows_still_give_k_rows_in_key_order() {
    let fixture = Fixture::dense(Metric::Cosine, vec![vec![1.0; 64]; 6000]);
    let segment = fixture.open(Build::Graph(PARAMS));
    let query = Query::dense(Metric::Cosine, &[1.0; 64]).unwrap();
    let rows = Mask::all(6000);
    let answer = segment.search(&query, 20, &rows.rows(), Effort::Recall(0.95), &|| false).unwrap();
    assert_eq!(answer.hits.len(), 20);
    assert!(answer.hits.is_sorted_by(|a, b| segment.key(a.row) < segment.key(b.row)));
}

#[test]
fn tiny_graphs_and_zero_vectors_are_no_special_case() {
    for rows in [0, 1, 2, 20, 100] {
        let mut vectors = clustered(rows, 4, 2);
        if let Some(first) = vectors.first_mut() {
            first.fill(0.0);
        }
        let mut fixture = Fixture::dense(Metric::Cosine, vectors);
        fixture.dimension = 4;
        let segment = fixture.open(Build::Graph(PARAMS));
        let query = Query::dense(Metric::Cosine, &[0.3, 0.1, -0.2, 0.9]).unwrap();
        let mask = Mask::all(rows);
        let answer = segment.search(&query, 5, &mask.rows(), Effort::Recall(0.95), &|| false).unwrap();
        assert_eq!(answer.hits.len(), rows.min(5));
    }
}
