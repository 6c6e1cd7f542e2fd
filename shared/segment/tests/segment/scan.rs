//! Scans by score against the definitions.

use proptest::prelude::*;
use tarn_model::{Metric, Score, Vector};
use tarn_segment::{Build, Effort, Query, Rows, Scan, Segment};

use crate::support::{Fixture, distance};

/// One query of one vector.
fn one() -> [Vec<Vec<u32>>; 1] {
    [vec![vec![0]]]
}

const NO_STOP: &(dyn Fn() -> bool + Sync) = &|| false;

/// By definition, in f64.
fn score(score: Score, a: &Vector, b: &Vector) -> f64 {
    let (Vector::Dense(x), Vector::Dense(y)) = (a, b) else { panic!("sparse") };
    let pairs = || x.iter().zip(y).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    match score {
        Score::VectorDistance => pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt(),
        Score::QuickVectorDistance => pairs().map(|(a, b)| (a - b).abs()).sum(),
        Score::VectorMultiplication => pairs().map(|(a, b)| a * b).sum(),
        Score::CosineSimilarity => 1.0 - distance(Metric::Cosine, a, b),
        Score::AngularDistance => Score::angular(1.0 - distance(Metric::Cosine, a, b)),
    }
}

fn all(segment: &Segment, scan: &Scan, k: usize) -> Vec<Vec<(u32, f64)>> {
    let everything = 0..segment.rows();
    let rows = Rows { ranges: std::slice::from_ref(&everything), ..Rows::default() };
    let answers = segment.scan(scan, k, &rows, NO_STOP).unwrap();
    answers
        .into_iter()
        .map(|answer| {
            assert_eq!((answer.allowed, answer.considered), (u64::from(segment.rows()), u64::from(segment.rows())));
            answer.hits.into_iter().map(|hit| (hit.row, hit.distance)).collect()
        })
        .collect()
}

/// Compares with every row's score, sorted. Ties may change places, and so may what differs by less than rounding.
fn check(found: &[(u32, f64)], mut want: Vec<(u32, f64)>, k: usize, higher: bool) {
    let of: std::collections::HashMap<u32, f64> = want.iter().copied().collect();
    want.sort_by(|a, b| if higher { b.1.total_cmp(&a.1) } else { a.1.total_cmp(&b.1) });
    assert_eq!(found.len(), k.min(want.len()));
    for (place, (row, score)) in found.iter().enumerate() {
        assert!((score - of[row]).abs() < 1e-3, "row {row}: {score} for {}", of[row]);
        assert!((score - want[place].1).abs() < 1e-3, "place {place}: {score} for {}", want[place].1);
    }
    assert!(found.is_sorted_by(|a, b| if higher { a.1 >= b.1 } else { a.1 <= b.1 }));
}

fn coordinates(dimension: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec((-8i8..=8).prop_map(|x| f32::from(x) / 4.0), dimension)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_scan_ranks_by_the_score_in_either_direction_whatever_the_metric(
        rows in prop::collection::vec(coordinates(9), 1..40),
        queries in prop::collection::vec(coordinates(9), 1..4),
        k in 1usize..50,
        by in 0usize..5,
        metric in 0usize..3,
        higher in any::<bool>(),
    ) {
        let (by, metric) = (Score::ALL[by], [Metric::L2, Metric::InnerProduct, Metric::Cosine][metric]);
        let fixture = Fixture::dense(metric, rows);
        let queries: Vec<Vector> = queries.into_iter().map(Vector::Dense).collect();
        let places = || 0..queries.len() as u32;
        let alone: Vec<Vec<Vec<u32>>> = places().map(|at| vec![vec![at]]).collect();
        let sum: Vec<Vec<Vec<u32>>> = vec![places().map(|at| vec![at]).collect()];
        let best: Vec<Vec<Vec<u32>>> = vec![vec![places().collect()]];
        // Each part has the first vector too.
        let beside: Vec<Vec<Vec<u32>>> = vec![places().map(|at| vec![at, 0]).collect()];
        let better = |a: f64, b: f64| if higher { a.max(b) } else { a.min(b) };
        let scores = |point: &Vector| queries.iter().map(|query| score(by, query, point)).collect::<Vec<f64>>();
        let want = |fold: &dyn Fn(Vec<f64>) -> f64| -> Vec<(u32, f64)> {
            (0u32..).zip(&fixture.rows).map(|(row, (_, point))| (row, fold(scores(point)))).collect()
        };
        for segment in [fixture.in_memory(), fixture.open(Build::Flat)] {
            let scan = |parts: &[Vec<Vec<u32>>]| Scan::new(metric, Some(by), higher, &queries, parts).unwrap();
            for (at, found) in all(&segment, &scan(&alone), k).iter().enumerate() {
                check(found, want(&|scores| scores[at]), k, higher);
            }
            check(&all(&segment, &scan(&sum), k)[0], want(&|scores| scores.iter().sum()), k, higher);
            check(&all(&segment, &scan(&best), k)[0], want(&|scores| scores.into_iter().reduce(better).unwrap()), k, higher);
            let with_first = |scores: Vec<f64>| scores.iter().map(|&score| better(score, scores[0])).sum();
            check(&all(&segment, &scan(&beside), k)[0], want(&with_first), k, higher);
        }
    }
}

#[test]
fn the_metrics_own_distance_by_a_scan_is_that_of_a_search_and_may_be_turned_round() {
    let rows: Vec<Vec<f32>> = (0..3000).map(|i| vec![(i % 61) as f32, (i % 7) as f32, 1.0]).collect();
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
        let (fixture, query) = (Fixture::dense(metric, rows.clone()), Vector::Dense(vec![3.0, 2.0, -1.0]));
        let (segment, higher) = (fixture.open(Build::Flat), metric.higher_is_nearer());
        let everything = 0..segment.rows();
        let allowed = Rows { ranges: std::slice::from_ref(&everything), ..Rows::default() };
        let searched =
            segment.search(&Query::new(metric, &query).unwrap(), 10, &allowed, Effort::Exact, NO_STOP).unwrap();
        let scan = Scan::new(metric, None, higher, std::slice::from_ref(&query), &one()).unwrap();
        for (found, hit) in all(&segment, &scan, 10)[0].iter().zip(&searched.hits) {
            assert!((found.1 - hit.distance).abs() < 1e-5, "{metric:?}: {found:?} for {hit:?}");
        }
        let farthest = Scan::new(metric, None, !higher, std::slice::from_ref(&query), &one()).unwrap();
        let want =
            (0u32..).zip(&fixture.rows).map(|(row, (_, point))| (row, distance(metric, &query, point))).collect();
        check(&all(&segment, &farthest, 10)[0], want, 10, !higher);
    }
}

#[test]
fn sparse_rows_are_scanned_by_what_their_metric_serves() {
    let rows = (0..200u32).map(|i| vec![(i % 11, 1.0), (11 + i % 5, f64::from(i))]).collect();
    let fixture = Fixture::sparse(Metric::SparseCosine, 20, rows);
    let query = fixture.rows[17].1.clone();
    let scan =
        Scan::new(Metric::SparseCosine, Some(Score::CosineSimilarity), false, std::slice::from_ref(&query), &one())
            .unwrap();
    let want = (0u32..).zip(&fixture.rows).map(|(row, (_, p))| (row, 1.0 - distance(fixture.metric, &query, p)));
    check(&all(&fixture.in_memory(), &scan, 7)[0], want.collect(), 7, false);
    let refused =
        Scan::new(Metric::SparseJaccard, Some(Score::CosineSimilarity), true, std::slice::from_ref(&query), &one());
    assert!(
        refused.unwrap_err().to_string().contains("CosineSimilarity does not compare vectors of SparnnIndex.Jaccard")
    );
    let dense = Vector::Dense(vec![1.0]);
    assert!(Scan::new(Metric::SparseCosine, None, true, &[dense], &one()).is_err());
    let sparse =
        |parts: &[Vec<Vec<u32>>]| Scan::new(Metric::SparseCosine, None, true, std::slice::from_ref(&query), parts);
    assert!(
        sparse(&[Vec::new()]).is_err() && sparse(&[vec![Vec::new()]]).is_err() && sparse(&[vec![vec![1]]]).is_err()
    );
}

#[test]
fn tiny_and_zero_rows_have_a_cosine() {
    let rows = vec![vec![0.0, 0.0], vec![1e-30, 0.0], vec![0.0, 1e-30], vec![3.0, 4.0]];
    let segment = Fixture::dense(Metric::L2, rows).in_memory();
    let query = Vector::Dense(vec![1.0, 0.0]);
    let scan =
        Scan::new(Metric::L2, Some(Score::CosineSimilarity), true, std::slice::from_ref(&query), &one()).unwrap();
    let found = &all(&segment, &scan, 4)[0];
    assert_eq!(found.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 3, 0, 2]);
    assert!((found[0].1 - 1.0).abs() < 1e-6 && (found[1].1 - 0.6).abs() < 1e-6, "{found:?}");
    assert_eq!((found[2].1, found[3].1), (0.0, 0.0));
}

#[test]
fn many_vectors_are_compared_with_few_rows_between_two_looks_at_the_clock() {
    let segment = Fixture::dense(Metric::L2, (0..5000).map(|i| vec![i as f32; 64]).collect()).in_memory();
    let everything = 0..5000;
    let rows = Rows { ranges: std::slice::from_ref(&everything), ..Rows::default() };
    let most_considered = |queries: u32, context: u32| {
        let vectors: Vec<Vector> = (0..queries + context).map(|i| Vector::Dense(vec![i as f32; 64])).collect();
        let part = |at| std::iter::once(at).chain(queries..queries + context).collect();
        let parts = [(0..queries).map(part).collect::<Vec<Vec<u32>>>()];
        let scan = Scan::new(Metric::L2, None, false, &vectors, &parts).unwrap();
        let calls = std::sync::atomic::AtomicU32::new(0);
        let stop = || calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 1;
        segment.scan(&scan, 3, &rows, &stop).unwrap().remove(0).considered
    };
    assert_eq!(most_considered(1, 0), 1024);
    // 1000 vectors, not 250 500: what the parts have in common is compared and put together once.
    let considered = most_considered(500, 500);
    assert!((10..=40).contains(&considered), "{considered}");
}

#[test]
fn a_scan_that_is_stopped_says_what_it_has_considered() {
    let segment = Fixture::dense(Metric::L2, (0..5000).map(|i| vec![i as f32]).collect()).in_memory();
    let query = Vector::Dense(vec![0.0]);
    let scan =
        Scan::new(Metric::L2, Some(Score::QuickVectorDistance), false, std::slice::from_ref(&query), &one()).unwrap();
    let everything = 0..5000;
    let rows = Rows { ranges: std::slice::from_ref(&everything), ..Rows::default() };
    let calls = std::sync::atomic::AtomicU32::new(0);
    let stop = || calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 2;
    let answer = segment.scan(&scan, 3, &rows, &stop).unwrap().remove(0);
    assert!(answer.considered > 0 && answer.considered < answer.allowed, "{answer:?}");
    assert_eq!(answer.hits.len(), 3);
}
