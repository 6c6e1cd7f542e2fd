//! Exact sparse search.

use proptest::prelude::*;
use tarn_model::{Metric, SparseVector, Vector};
use tarn_segment::{Build, Effort, Plan, Query, Segment};

use crate::support::{Fixture, Mask, sparse};

const METRICS: [Metric; 2] = [Metric::SparseCosine, Metric::SparseJaccard];

/// Sparse answers equal the reference exactly: same rows, distances within 1e-12.
fn check(fixture: &Fixture, segment: &Segment, query: &SparseVector, k: usize, mask: &Mask) {
    let prepared = Query::sparse(fixture.metric, query).unwrap();
    let answer = segment.search(&prepared, k, &mask.rows(), Effort::Exact, &|| false).unwrap();
    let want = fixture.naive(&Vector::Sparse(query.clone()), k, mask);
    let got: Vec<(u32, f64)> = answer.hits.iter().map(|hit| (hit.row, hit.distance)).collect();
    assert_eq!(
        got.iter().map(|(row, _)| *row).collect::<Vec<_>>(),
        want.iter().map(|(row, _)| *row).collect::<Vec<_>>(),
        "got {got:?}\nwant {want:?}"
    );
    for ((_, got), (_, want)) in got.iter().zip(&want) {
        assert!((got - want).abs() <= 1e-12, "{got} for {want}");
    }
    assert_eq!(answer.considered, answer.allowed);
}

prop_compose! {
    fn vectors(indices: u32, longest: usize)(
        coordinates in prop::collection::btree_map(0..indices, -3i8..=3, 0..longest),
    ) -> Vec<(u32, f64)> {
        // Small integers make ties, exact zeros, cancellation and negative cosines.
        coordinates.into_iter().map(|(index, value)| (index * 7919, f64::from(value))).collect()
    }
}

prop_compose! {
    fn masks(rows: u32)(
        ranges in prop::collection::vec((0..rows, 0..rows), 1..4),
        deleted in prop::option::of(prop::collection::btree_set(0..rows, 0..20)),
        matches in prop::option::of(prop::collection::btree_set(0..rows, 0..60)),
    ) -> Mask {
        Mask {
            ranges: ranges.into_iter().map(|(start, length)| start..start + length).collect(),
            deleted: deleted.map(|rows| rows.into_iter().collect()),
            matches: matches.map(|rows| rows.into_iter().collect()),
            superseded: None,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_sparse_search_equals_the_definition(
        metric in prop::sample::select(METRICS.to_vec()),
        rows in prop::collection::vec(vectors(25, 12), 1..90),
        query in vectors(25, 14),
        k in 0usize..100,
        mask in masks(90),
        shuffle in any::<bool>(),
    ) {
        let mut fixture = Fixture::sparse(metric, 25 * 7919, rows);
        if shuffle {
            fixture.rows.sort_by_key(|(key, _)| (key[key.len() - 1] % 3, key.clone()));
        }
        let query = sparse(query);
        check(&fixture, &fixture.in_memory(), &query, k, &mask);
        check(&fixture, &fixture.open(Build::Sparse), &query, k, &mask);
    }

    #[test]
    fn many_windows_and_pruning_change_nothing(
        metric in prop::sample::select(METRICS.to_vec()),
        seed in any::<u64>(),
        k in 1usize..40,
    ) {
        use rand::{Rng, SeedableRng};
        let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
        let mut vector = |longest: usize| -> Vec<(u32, f64)> {
            let length = rng.random_range(0..longest);
            // Low indices are frequent, so that lists differ in length as words do.
            let mut indices: Vec<u32> = (0..length).map(|_| rng.random_range(1..60u32).pow(2) / 40).collect();
            indices.sort_unstable();
            indices.dedup();
            indices.into_iter().map(|index| (index, rng.random_range(-0.2..1.0))).collect()
        };
        let fixture = Fixture::sparse(metric, i32::MAX as u32, (0..9000).map(|_| vector(12)).collect());
        let query = sparse(vector(20));
        let segment = fixture.in_memory();
        check(&fixture, &segment, &query, k, &Mask::all(9000));
        check(&fixture, &segment, &query, k, &Mask { ranges: vec![100..2300, 4095..4097, 8000..9000], ..Mask::default() });
    }
}

#[test]
fn rows_without_overlap_stand_between_positive_and_negative_cosines() {
    let rows = vec![
        vec![(1, -1.0)],
        vec![(5, 1.0)],
        vec![(1, 1.0), (2, 1.0)],
        vec![],
        vec![(1, 1.0), (9, 0.0)],
        vec![(2, 1.0), (1, 0.0)].into_iter().rev().collect(),
    ];
    let fixture = Fixture::sparse(Metric::SparseCosine, 10, rows);
    let query = Query::sparse(Metric::SparseCosine, &sparse(vec![(1, 2.0)])).unwrap();
    let answer = fixture.in_memory().search(&query, 6, &Mask::all(6).rows(), Effort::Exact, &|| false).unwrap();
    let got: Vec<(u32, f64)> = answer.hits.iter().map(|hit| (hit.row, hit.distance)).collect();
    let half = 1.0 - 1.0 / 2.0f64.sqrt();
    assert_eq!(got.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [4, 2, 1, 3, 5, 0]);
    assert!((got[1].1 - half).abs() < 1e-15);
    assert_eq!([got[0].1, got[2].1, got[3].1, got[4].1, got[5].1], [0.0, 1.0, 1.0, 1.0, 2.0]);
    assert_eq!(answer.plan, Plan::Postings);
}

#[test]
fn an_empty_query_is_as_far_from_everything() {
    for metric in METRICS {
        let fixture = Fixture::sparse(metric, 10, vec![vec![(1, 1.0)], vec![], vec![(2, -1.0)]]);
        for query in [vec![], vec![(4, 0.0)]] {
            check(&fixture, &fixture.in_memory(), &sparse(query), 2, &Mask::all(3));
        }
    }
}

#[test]
fn cosine_holds_for_coordinates_whose_squares_vanish_or_are_huge() {
    let rows = vec![vec![(0, 3e-200), (1, 4e-200)], vec![(0, 4e99), (1, -3e99)], vec![(0, 1e-320)], vec![(1, 5e-324)]];
    let fixture = Fixture::sparse(Metric::SparseCosine, 2, rows);
    let segment = fixture.in_memory();
    for factor in [1.0, 1e-200, 1e99] {
        let query = Query::sparse(Metric::SparseCosine, &sparse(vec![(0, factor)])).unwrap();
        let answer = segment.search(&query, 4, &Mask::all(4).rows(), Effort::Exact, &|| false).unwrap();
        let got: Vec<(u32, f64)> = answer.hits.iter().map(|hit| (hit.row, hit.distance)).collect();
        assert_eq!(got.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [2, 1, 0, 3]);
        for (got, want) in got.iter().map(|(_, distance)| distance).zip([0.0, 0.2, 0.4, 1.0]) {
            assert!((got - want).abs() < 1e-12, "{got} for {want}");
        }
    }
}

#[test]
fn the_largest_dimension_costs_nothing() {
    let last = i32::MAX as u32 - 1;
    let fixture = Fixture::sparse(Metric::SparseJaccard, i32::MAX as u32, vec![vec![(last, 1.0)], vec![(0, 1.0)]]);
    let (bytes, _) = fixture.file(Build::Sparse);
    assert!(bytes.len() < 8192, "{}", bytes.len());
    check(&fixture, &fixture.open(Build::Sparse), &sparse(vec![(last, 5.0)]), 2, &Mask::all(2));
}

#[test]
fn vectors_come_back_with_their_explicit_zeros() {
    let fixture = Fixture::sparse(Metric::SparseCosine, 10, vec![vec![(1, 0.0), (3, -2.5)], vec![]]);
    let segment = fixture.open(Build::Sparse);
    assert_eq!(segment.vector(0), Vector::Sparse(sparse(vec![(1, 0.0), (3, -2.5)])));
    assert_eq!(segment.vector(1), Vector::Sparse(SparseVector::default()));
}
