//! Scores at the edges of f64, and the join that computes them.

use super::*;

#[test]
fn a_power_of_two_lifts_tiny_vectors_only() {
    assert!(scale(&[0.0, 0.0]) == 1.0 && scale(&[1e-100]) == 1.0 && scale(&[1e100, 1e-300]) == 1.0);
    for tiny in [9e-101, 1e-200, f64::MIN_POSITIVE, 5e-324] {
        let lifted = tiny * scale(&[tiny, -tiny / 2.0]);
        assert!(lifted > 1e-30 && lifted < 4.0, "{tiny} became {lifted}");
    }
}

#[test]
fn every_kind_of_join_finds_the_same_pairs() {
    let query: Vec<(u32, f64)> = (0..200).map(|i| (i * 3, f64::from(i))).collect();
    let indices: Vec<u32> = (0..200).map(|i| i * 5).collect();
    let values: Vec<f64> = indices.iter().map(|&i| f64::from(i)).collect();
    // From balanced to lopsided on either side.
    for (terms, coordinates) in [(200, 200), (3, 200), (200, 3), (0, 5), (5, 0), (200, 12), (12, 200)] {
        let (terms, indices) = (&query[200 - terms..], &indices[..coordinates]);
        let mut got = Vec::new();
        join(terms, indices, &values[..coordinates], |weight, value| got.push((weight, value)));
        let want: Vec<(f64, f64)> = terms
            .iter()
            .filter(|(index, _)| indices.contains(index))
            .map(|&(index, weight)| (weight, f64::from(index)))
            .collect();
        assert_eq!(got, want);
    }
}
