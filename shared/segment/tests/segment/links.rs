//! A graph beside cells in one file: both answer, and the planner has both.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;
use tarn_model::{HnswParams, Metric, ObjectRef};
use tarn_segment::{Build, Effort, Outline, Plan, Query, Segment, SegmentKind, SegmentSettings};

use crate::clustered::clustered;
use crate::support::{Fixture, Mask};
use crate::unseen::Built;

const PARAMS: HnswParams = HnswParams { m: 12, ef_construction: 64, ef_search: 16 };
const METRICS: [Metric; 3] = [Metric::L2, Metric::InnerProduct, Metric::Cosine];
const ROWS: usize = 16_000;
const DIMENSION: usize = 48;

fn settings() -> SegmentSettings {
    SegmentSettings { rows_per_cell: 40, ..SegmentSettings::default() }
}

fn built(metric: Metric) -> Built {
    Built::new(metric, (ROWS, DIMENSION, 96), Build::CellsAndGraph(PARAMS), &settings())
}

fn cosine() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| built(Metric::Cosine))
}

#[test]
fn a_file_with_both_has_the_calibrations_of_both_and_the_outline_of_one() {
    let fixture = Fixture::dense(Metric::Cosine, clustered(ROWS, DIMENSION, 97));
    let (bytes, both) = fixture.file_with(Build::CellsAndGraph(PARAMS), &settings());
    let (_, cells) = fixture.file_with(Build::Cells, &settings());
    assert_eq!((both.kind, both.cell_calibration), (SegmentKind::Cells, cells.cell_calibration));
    assert!(
        both.calibration.as_ref().is_some_and(|graph| (200..=400).contains(&graph.queries) && !graph.points.is_empty())
    );
    // The graph is in the part of the file that cold searches do not read: some JSON in the outline says that it is there.
    assert!(both.outline < cells.outline + 256, "{} and {}", both.outline, cells.outline);
    assert!(both.bytes < cells.bytes + (ROWS * (2 * PARAMS.m as usize + 1) * 4) as u64 + 4096);
    let object = ObjectRef { id: 1.into(), bytes: both.bytes, crc32c: both.crc32c };
    let tail = bytes.slice(bytes.len() - both.outline as usize..);
    Outline::read("both.seg", tail, &object).unwrap();
    let segment = Segment::from_bytes("both.seg", bytes).unwrap();
    assert_eq!((segment.hnsw(), segment.kind()), (Some(PARAMS), SegmentKind::Cells));
    assert_eq!(segment.calibration(), both.calibration.as_ref());
}

#[test]
fn both_find_the_neighbours_and_the_promise_is_kept() {
    for metric in METRICS {
        let built = built(metric);
        let mask = Mask::all(ROWS);
        let (by_graph, plans) = built.recall(10, &mask, Effort::Ef(96));
        assert!(by_graph > 0.97, "{metric:?}: {by_graph}, {:?}", built.segment.calibration());
        assert!(plans.iter().all(|plan| *plan == Plan::Graph { ef: 96 }), "{metric:?}");
        let (by_cells, plans) = built.recall(10, &mask, Effort::Cells { nprobe: 100, rescored: 32 });
        assert!(by_cells > 0.97, "{metric:?}: {by_cells}");
        assert!(plans.iter().all(|plan| matches!(plan, Plan::Cells { .. })), "{metric:?}");
        for asked in [0.8, 0.95] {
            let (recall, _) = built.recall(10, &mask, Effort::Recall(asked));
            assert!(recall > f64::from(asked) - 0.01, "{metric:?}: {recall} for {asked}");
        }
        // Of the graph's own promise, whichever way a search would go.
        let ef = built.segment.calibration().unwrap().effort(0.9, 10).unwrap();
        let (recall, _) = built.recall(10, &mask, Effort::Ef(ef));
        assert!(recall > 0.89, "{metric:?}: {recall} for .9 with {ef}");
    }
}

#[test]
fn what_a_walk_finds_has_the_distances_of_the_scan_to_the_bit() {
    for metric in METRICS {
        let built = built(metric);
        let mask = Mask::all(ROWS);
        for query in built.unseen.iter().take(20) {
            let query = Query::dense(metric, query).unwrap();
            let search = |k, effort| built.segment.search(&query, k, &mask.rows(), effort, &|| false).unwrap();
            let exact = search(ROWS, Effort::Exact);
            let walked = search(10, Effort::Ef(96));
            assert!(matches!(walked.plan, Plan::Graph { .. }));
            for hit in walked.hits {
                let same = exact.hits.iter().find(|other| other.row == hit.row).unwrap();
                assert_eq!(same.distance.to_bits(), hit.distance.to_bits());
            }
        }
    }
}

#[test]
fn masks_hold_on_a_walk_and_rows_that_are_not_allowed_lead_on() {
    let built = cosine();
    for share in [0.9, 0.5] {
        let mut rng = SmallRng::seed_from_u64(98);
        let matches: RoaringBitmap = (0..ROWS as u32).filter(|_| rng.random_bool(share)).collect();
        let deleted: RoaringBitmap = (0..ROWS as u32).filter(|row| row % 17 == 0).collect();
        let mask = Mask { matches: Some(matches), deleted: Some(deleted), ..Mask::all(ROWS) };
        let (recall, plans) = built.recall(10, &mask, Effort::Ef(48));
        assert!(recall >= 0.95, "{recall} of {share}");
        assert!(plans.iter().all(|plan| matches!(plan, Plan::Graph { .. })), "{share}: {:?}", plans[0]);
    }
    // The planner may ask either, or scan.
    for share in [0.5, 0.05, 0.001] {
        let mut rng = SmallRng::seed_from_u64(99);
        let matches: RoaringBitmap = (0..ROWS as u32).filter(|_| rng.random_bool(share)).collect();
        let mask = Mask { matches: Some(matches), ..Mask::all(ROWS) };
        let (recall, _) = built.recall(5, &mask, Effort::Recall(0.95));
        assert!(recall >= 0.94, "{recall} of {share}");
    }
}

#[test]
fn a_batch_walks_as_each_query_alone() {
    let built = cosine();
    let mask = Mask::all(ROWS);
    let queries: Vec<Query> = built.unseen.iter().map(|query| Query::dense(Metric::Cosine, query).unwrap()).collect();
    let alone: Vec<_> = queries
        .iter()
        .map(|query| built.segment.search(query, 10, &mask.rows(), Effort::Ef(64), &|| false).unwrap())
        .collect();
    assert_eq!(built.segment.search_many(&queries, 10, &mask.rows(), Effort::Ef(64), &|| false).unwrap(), alone);
}

#[test]
fn a_stopped_walk_says_how_much_it_considered() {
    let built = cosine();
    let mask = Mask::all(ROWS);
    let query = Query::dense(Metric::Cosine, &built.unseen[0]).unwrap();
    // The cells that say where to begin ask, too.
    let asked = AtomicUsize::new(0);
    let stop = || asked.fetch_add(1, Ordering::Relaxed) >= 2;
    let answer = built.segment.search(&query, 10, &mask.rows(), Effort::Ef(96), &stop).unwrap();
    assert!(answer.considered > 0 && answer.considered < answer.allowed, "{answer:?}");
    assert!(matches!(answer.plan, Plan::Graph { .. }));
    let answer = built.segment.search(&query, 10, &mask.rows(), Effort::Ef(96), &|| true).unwrap();
    // And no scan is begun because there are fewer than `k`.
    assert_eq!((answer.considered, answer.hits.len(), answer.plan), (0, 0, Plan::Graph { ef: 96 }));
}

#[test]
fn where_a_walk_cannot_leave_an_island_everything_is_scored() {
    const ISLAND: usize = 300;
    let mut rows = clustered(6000, 64, 103);
    rows.extend(vec![vec![90.0; 64]; ISLAND]);
    let segment = Fixture::dense(Metric::L2, rows).open(Build::CellsAndGraph(PARAMS));
    let island: RoaringBitmap = (0..segment.rows()).filter(|row| segment.key(*row) >= &b"key-006000"[..]).collect();
    assert_eq!(island.len(), ISLAND as u64);
    let mask = Mask { deleted: Some(island), ..Mask::all(6000 + ISLAND) };
    let query = Query::dense(Metric::L2, &[90.0; 64]).unwrap();
    assert!(segment.propose(&query, &mask.rows(), Effort::Ef(20)).unwrap().len() < 20);
    let search = |effort| segment.search(&query, 20, &mask.rows(), effort, &|| false).unwrap();
    assert_eq!(search(Effort::Ef(20)), search(Effort::Exact));
    let everything = Mask::all(6000 + ISLAND);
    let answer = segment.search(&query, 20, &everything.rows(), Effort::Ef(20), &|| false).unwrap();
    assert_eq!(answer.plan, Plan::Graph { ef: 20 });
}

#[test]
fn many_rows_that_are_the_same_are_no_island() {
    const COPIES: usize = 40;
    let places = clustered(200, 16, 104);
    let rows = places.iter().flat_map(|row| vec![row.clone(); COPIES]).collect();
    let params = HnswParams { ef_construction: 200, ..PARAMS };
    let segment = Fixture::dense(Metric::L2, rows).open(Build::CellsAndGraph(params));
    let mask = Mask::all(200 * COPIES);
    for place in places.iter().step_by(10) {
        let query = Query::dense(Metric::L2, place).unwrap();
        // Entries are copies of one row, and so are the nearest candidates of each.
        let walked = segment.propose(&query, &mask.rows(), Effort::Ef(100)).unwrap();
        assert_eq!(walked.len(), 100);
    }
}

#[test]
fn builds_are_deterministic_whatever_the_threads() {
    let fixture = Fixture::dense(Metric::L2, clustered(4000, 8, 100));
    let build = |threads: usize| -> Bytes {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| fixture.file_with(Build::CellsAndGraph(PARAMS), &settings()).0)
    };
    // Not assert_eq: nobody wants to read the bytes.
    assert!(build(1) == build(3), "two builds of the same rows differ");
}

#[test]
fn identical_rows_still_give_k_rows_in_key_order() {
    let fixture = Fixture::dense(Metric::Cosine, vec![vec![1.0; 64]; 6000]);
    let segment = fixture.open(Build::CellsAndGraph(PARAMS));
    let query = Query::dense(Metric::Cosine, &[1.0; 64]).unwrap();
    for effort in [Effort::Recall(0.95), Effort::Ef(20)] {
        let answer = segment.search(&query, 20, &Mask::all(6000).rows(), effort, &|| false).unwrap();
        assert_eq!(answer.hits.len(), 20);
        assert!(answer.hits.is_sorted_by(|a, b| segment.key(a.row) < segment.key(b.row)));
    }
}

#[test]
fn few_rows_and_zero_vectors_are_no_special_case() {
    for metric in METRICS {
        for rows in [0, 1, 2, 20, 100] {
            let mut vectors = clustered(rows, 4, 101);
            if let Some(first) = vectors.first_mut() {
                first.fill(0.0);
            }
            let mut fixture = Fixture::dense(metric, vectors);
            fixture.dimension = 4;
            let segment = fixture.open(Build::CellsAndGraph(PARAMS));
            let query = Query::dense(metric, &[0.3, 0.1, -0.2, 0.9]).unwrap();
            let mask = Mask::all(rows);
            let answer = segment.search(&query, 5, &mask.rows(), Effort::Recall(0.95), &|| false).unwrap();
            assert_eq!(answer.hits.len(), rows.min(5));
            // The walk itself, which nobody would take for so few.
            let walked = segment.propose(&query, &mask.rows(), Effort::Ef(100)).unwrap();
            assert_eq!(walked.len(), rows, "{metric:?}");
        }
    }
}

#[test]
fn parameters_out_of_range_are_refused() {
    let fixture = Fixture::dense(Metric::L2, clustered(50, 4, 102));
    for params in
        [HnswParams { m: 1, ..PARAMS }, HnswParams { m: 129, ..PARAMS }, HnswParams { ef_construction: 0, ..PARAMS }]
    {
        let mut out = Vec::new();
        let build = Build::CellsAndGraph(params);
        let written = tarn_segment::write_segment_to(&fixture.input(), build, &settings(), &mut out, &|_, _| {});
        assert!(written.is_err(), "{params:?}");
    }
}
