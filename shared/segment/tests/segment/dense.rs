//! Exact dense search.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tarn_model::{Metric, Vector};
use tarn_segment::{Build, Effort, Plan, Query, Segment};

use crate::support::{Fixture, Mask, distance};

const METRICS: [Metric; 3] = [Metric::L2, Metric::InnerProduct, Metric::Cosine];

/// Hits must be the nearest up to rounding: distances agree with the reference place by place and with the row itself, and
/// their order is the total order.
fn check(fixture: &Fixture, segment: &Segment, query: &[f32], k: usize, mask: &Mask) {
    let vector = Vector::Dense(query.to_vec());
    let prepared = Query::dense(fixture.metric, query).unwrap();
    let answer = segment.search(&prepared, k, &mask.rows(), Effort::Exact, &|| false).unwrap();
    let want = fixture.naive(&vector, k, mask);
    assert_eq!(answer.hits.len(), want.len());
    assert_eq!((answer.considered, answer.plan), (answer.allowed, Plan::Exact));
    for (hit, (_, nearest)) in answer.hits.iter().zip(&want) {
        assert!(mask.allows(hit.row));
        let own = distance(fixture.metric, &vector, &fixture.rows[hit.row as usize].1);
        let tolerance = 1e-5 * (1.0 + own.abs());
        assert!((hit.distance - own).abs() < tolerance, "row {}: {} for {own}", hit.row, hit.distance);
        assert!((hit.distance - nearest).abs() < tolerance, "{} where {nearest} is nearest", hit.distance);
    }
    let by = |hit: &tarn_segment::Hit| (hit.distance, segment.key(hit.row));
    assert!(answer.hits.is_sorted_by(|a, b| tarn_segment::compare_hits(fixture.metric, by(a), by(b)).is_lt()));
}

fn bitmap(rows: std::collections::BTreeSet<u32>) -> roaring::RoaringBitmap {
    rows.into_iter().collect()
}

prop_compose! {
    fn masks(rows: u32)(
        ranges in prop::collection::vec((0..rows, 0..rows), 1..4),
        deleted in prop::option::of(prop::collection::btree_set(0..rows, 0..20)),
        superseded in prop::option::of(prop::collection::btree_set(0..rows, 0..20)),
        matches in prop::option::of(prop::collection::btree_set(0..rows, 0..60)),
    ) -> Mask {
        Mask {
            ranges: ranges.into_iter().map(|(start, length)| start..start + length).collect(),
            deleted: deleted.map(bitmap),
            superseded: superseded.map(bitmap),
            matches: matches.map(bitmap),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_flat_search_finds_what_the_definition_finds(
        metric in prop::sample::select(METRICS.to_vec()),
        dimension in 1usize..40,
        seed in any::<u64>(),
        k in 0usize..30,
        mask in masks(80),
        coarse in any::<bool>(),
    ) {
        let mut rng = SmallRng::seed_from_u64(seed);
        // Coarse coordinates make ties and zero vectors.
        let mut row = |_| -> Vec<f32> {
            (0..dimension)
                .map(|_| if coarse { f32::from(rng.random_range(-1i8..=1)) } else { rng.random_range(-1.0..1.0) })
                .collect()
        };
        let query = row(0);
        let fixture = Fixture::dense(metric, (0..80).map(&mut row).collect());
        check(&fixture, &fixture.in_memory(), &query, k, &mask);
        check(&fixture, &fixture.open(Build::Flat), &query, k, &mask);
    }
}

#[test]
fn ties_break_by_key_where_rows_are_not_in_key_order() {
    let mut fixture = Fixture::dense(Metric::L2, vec![vec![1.0, 0.0]; 300]);
    fixture.rows.reverse();
    let segment = fixture.in_memory();
    let query = Query::dense(Metric::L2, &[0.0, 0.0]).unwrap();
    let answer = segment.search(&query, 3, &Mask::all(300).rows(), Effort::Exact, &|| false).unwrap();
    assert_eq!(answer.hits.iter().map(|hit| hit.row).collect::<Vec<_>>(), [299, 298, 297]);
}

#[test]
fn a_batch_answers_as_each_query_alone_to_the_bit() {
    let mut rng = SmallRng::seed_from_u64(5);
    // Large enough for several blocks and threads.
    let rows: Vec<Vec<f32>> = (0..30_000).map(|_| (0..48).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
    for metric in METRICS {
        let fixture = Fixture::dense(metric, rows.clone());
        let segment = fixture.in_memory();
        let queries: Vec<Query> = (0..5).map(|i| Query::dense(metric, &rows[i * 7]).unwrap()).collect();
        let mask = Mask::all(rows.len());
        let batch = segment.search_many(&queries, 10, &mask.rows(), Effort::Exact, &|| false).unwrap();
        for (query, answer) in queries.iter().zip(batch) {
            assert_eq!(segment.search(query, 10, &mask.rows(), Effort::Exact, &|| false).unwrap(), answer);
            assert_eq!(answer.allowed, 30_000);
        }
        check(&fixture, &segment, &rows[1], 10, &mask);
    }
}

#[test]
fn cosine_holds_for_vectors_of_any_length() {
    let rows = vec![vec![3e-38, 4e-38], vec![1e-45, 0.0], vec![1e16, 1e16], vec![0.0, 0.0], vec![-1e-30, 0.0]];
    let fixture = Fixture::dense(Metric::Cosine, rows);
    let segment = fixture.in_memory();
    for query in [vec![1.0, 0.0], vec![1e-40, 1e-40], vec![-1e16, 3.0], vec![0.0, 0.0]] {
        check(&fixture, &segment, &query, 5, &Mask::all(5));
    }
}

#[test]
fn a_stopped_search_says_how_much_it_considered() {
    let fixture = Fixture::dense(Metric::L2, (0..20_000).map(|i| vec![i as f32, 1.0]).collect());
    let segment = fixture.in_memory();
    let query = Query::dense(Metric::L2, &[0.0, 0.0]).unwrap();
    let asked = AtomicUsize::new(0);
    let stop = || asked.fetch_add(1, Ordering::Relaxed) >= 2;
    let answer = segment.search(&query, 3, &Mask::all(20_000).rows(), Effort::Exact, &stop).unwrap();
    assert_eq!(answer.hits.iter().map(|hit| hit.row).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(answer.considered > 0 && answer.considered < answer.allowed, "{answer:?}");
}

#[test]
fn queries_that_do_not_fit_are_refused() {
    let segment = Fixture::dense(Metric::L2, vec![vec![1.0, 2.0]]).in_memory();
    let mask = Mask::all(1);
    let search = |query: &Query| segment.search(query, 1, &mask.rows(), Effort::Exact, &|| false);
    let message = search(&Query::dense(Metric::L2, &[1.0]).unwrap()).unwrap_err().to_string();
    assert_eq!(message, "segment input: a query of dimension 1 in a segment of 2");
    assert!(search(&Query::dense(Metric::Cosine, &[1.0, 2.0]).unwrap()).is_err());
    for bad in [f32::NAN, f32::INFINITY, 2e16] {
        assert!(Query::dense(Metric::L2, &[bad]).is_err());
    }
    assert!(Query::dense(Metric::SparseCosine, &[1.0]).is_err());
}

#[test]
fn a_segment_gives_its_rows_back() {
    let fixture = Fixture::dense(Metric::Cosine, (0..50).map(|i| vec![i as f32, 0.5, -1.0]).collect());
    for segment in [fixture.in_memory(), fixture.open(Build::Flat)] {
        assert_eq!(segment.rows(), 50);
        assert_eq!(segment.attributes(), &fixture.input().attributes);
        for (row, (key, vector)) in (0u32..).zip(&fixture.rows) {
            assert_eq!(segment.key(row), key);
            assert_eq!(&segment.vector(row), vector);
        }
    }
}

#[test]
fn an_empty_segment_answers_with_nothing() {
    let fixture = Fixture { metric: Metric::L2, dimension: 2, rows: Vec::new() };
    for segment in [fixture.in_memory(), fixture.open(Build::Flat)] {
        let query = Query::dense(Metric::L2, &[0.0, 0.0]).unwrap();
        let answer = segment.search(&query, 3, &Mask::all(10).rows(), Effort::Exact, &|| false).unwrap();
        assert!(answer.hits.is_empty());
        assert_eq!((answer.allowed, answer.considered), (0, 0));
    }
}
