//! Truncated and changed files.

use std::collections::BTreeSet;
use std::io::Write;
use std::ops::Range;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tarn_model::{HnswParams, Metric, ObjectRef};
use tarn_segment::{Build, Segment, SegmentError};

use crate::support::Fixture;

fn files() -> Vec<(&'static str, Bytes)> {
    let mut rng = SmallRng::seed_from_u64(21);
    let rows: Vec<Vec<f32>> = (0..40).map(|_| (0..5).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
    let sparse: Vec<Vec<(u32, f64)>> =
        (0..30u32).map(|i| vec![(i % 5, 1.0), (7 + i % 3, f64::from(i) - 15.0)]).collect();
    let params = HnswParams { m: 4, ef_construction: 16, ef_search: 8 };
    vec![
        ("flat", Fixture::dense(Metric::L2, rows.clone()).file(Build::Flat).0),
        ("cosine", Fixture::dense(Metric::Cosine, rows.clone()).file(Build::Flat).0),
        ("cells", Fixture::dense(Metric::L2, rows.clone()).file(Build::Cells).0),
        ("cells by cosine", Fixture::dense(Metric::Cosine, rows.clone()).file(Build::Cells).0),
        ("cells and a graph", Fixture::dense(Metric::L2, rows.clone()).file(Build::CellsAndGraph(params)).0),
        ("graph", Fixture::dense(Metric::Cosine, rows).file(Build::Graph(params)).0),
        ("sparse", Fixture::sparse(Metric::SparseCosine, 10, sparse.clone()).file(Build::Sparse).0),
        ("jaccard", Fixture::sparse(Metric::SparseJaccard, 10, sparse).file(Build::Sparse).0),
    ]
}

/// The blocks of a file, as docs/formats/segment.md gives them: where they are, and their kinds.
fn blocks(bytes: &[u8]) -> Vec<(Range<usize>, u32)> {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let kind = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let trailer = bytes.len() - 64;
    let (footer, length) = (number(trailer), number(trailer + 8));
    let entries = (footer + 8..footer + length).step_by(32);
    entries.map(|at| (number(at + 8)..number(at + 8) + number(at + 16), kind(at))).collect()
}

const NAMES: [(u32, &str); 29] = [
    (1, "meta"),
    (2, "key-offsets"),
    (3, "key-bytes"),
    (4, "key-hashes"),
    (5, "key-hash-rows"),
    (6, "attributes"),
    (16, "dense-vectors"),
    (17, "inverse-norms"),
    (18, "graph"),
    (19, "calibration"),
    (20, "cells"),
    (21, "cell-centroids"),
    (22, "cell-codes"),
    (23, "cell-calibration"),
    (24, "row-slots"),
    (25, "records"),
    (26, "attribute-columns"),
    (27, "link-starts"),
    (28, "links"),
    (32, "sparse-offsets"),
    (33, "sparse-indices"),
    (34, "sparse-values"),
    (35, "sparse-lengths"),
    (36, "terms"),
    (37, "term-starts"),
    (38, "term-highest"),
    (39, "term-lowest"),
    (40, "posting-rows"),
    (41, "posting-impacts"),
];

fn corrupt(name: &str, bytes: Bytes, what: &str) -> tarn_model::Corrupt {
    match Segment::from_bytes(name, bytes) {
        Err(SegmentError::Corrupt(corrupt)) => {
            assert_eq!(corrupt.object, name);
            assert!(!corrupt.part.is_empty() && corrupt.expected != corrupt.found, "{corrupt}");
            corrupt
        }
        Err(other) => panic!("{what} of {name}: {other}"),
        Ok(_) => panic!("{what} of {name} went unseen"),
    }
}

#[test]
fn a_file_cut_anywhere_is_corrupt() {
    for (name, bytes) in files() {
        for length in 0..bytes.len() {
            corrupt(name, bytes.slice(..length), "a cut");
            corrupt(name, bytes.slice(length + 1..), "a missing beginning");
        }
    }
}

#[test]
fn every_flipped_bit_is_seen() {
    let mut seen = BTreeSet::new();
    for (name, bytes) in files() {
        let blocks = blocks(&bytes);
        for at in 0..bytes.len() {
            let block = blocks.iter().find(|(place, _)| place.contains(&at)).map(|(_, kind)| *kind);
            seen.extend(block);
            let part = block.map(|kind| format!("block {}", NAMES.iter().find(|(other, _)| *other == kind).unwrap().1));
            for bit in [0, 3, 7] {
                let mut changed = bytes.to_vec();
                changed[at] ^= 1 << bit;
                let corrupt = corrupt(name, changed.into(), "a flipped bit");
                assert!(part.as_ref().is_none_or(|part| corrupt.part == *part), "byte {at} of {name}: {corrupt}");
            }
        }
    }
    // All kinds but `records`, which is empty unless one does not fit.
    assert_eq!(seen.len(), NAMES.len() - 1, "{seen:?}");
}

#[test]
fn appended_and_repeated_bytes_are_seen() {
    for (name, bytes) in files() {
        corrupt(name, [bytes.as_ref(), b"x"].concat().into(), "an appended byte");
        corrupt(name, [bytes.as_ref(), bytes.as_ref()].concat().into(), "a repetition");
        corrupt(name, vec![0; bytes.len()].into(), "a file of zeros");
    }
}

#[test]
fn the_error_names_file_block_expected_and_found() {
    let (_, bytes) = files().swap_remove(0);
    let mut changed = bytes.to_vec();
    changed[64] ^= 1;
    let error = corrupt("some/file.seg", changed.into(), "a flipped bit");
    assert_eq!(error.part, "block meta");
    assert!(error.to_string().starts_with("some/file.seg is corrupt at block meta: expected checksum "), "{error}");
}

#[test]
fn another_format_version_is_refused_by_name() {
    let (_, bytes) = files().swap_remove(0);
    let mut changed = bytes.to_vec();
    let at = bytes.len() - 64 + 20;
    changed[at] = 2;
    let error = corrupt("new.seg", changed.into(), "a version");
    assert_eq!((error.expected.as_str(), error.found.as_str()), ("format version 1", "2"));
}

#[test]
fn a_file_must_be_the_one_that_the_catalog_names() {
    let fixture = Fixture::dense(Metric::L2, vec![vec![1.0, 2.0]; 3]);
    let (bytes, summary) = fixture.file(Build::Flat);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    let right = ObjectRef { id: 1.into(), bytes: summary.bytes, crc32c: summary.crc32c };
    assert_eq!(Segment::open(file.path(), Some(&right)).unwrap().rows(), 3);
    assert_eq!(Segment::open(file.path(), None).unwrap().rows(), 3);
    for wrong in [ObjectRef { bytes: right.bytes + 1, ..right.clone() }, ObjectRef { crc32c: !right.crc32c, ..right }] {
        assert!(matches!(Segment::open(file.path(), Some(&wrong)), Err(SegmentError::Corrupt(_))));
    }
    let empty = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(Segment::open(empty.path(), None), Err(SegmentError::Corrupt(_))));
    assert!(matches!(Segment::open(&empty.path().with_extension("gone"), None), Err(SegmentError::Io { .. })));
}

#[test]
fn bytes_at_any_alignment_can_be_opened() {
    let (name, bytes) = files().swap_remove(5);
    for shift in 1..9 {
        let mut shifted = vec![0; shift];
        shifted.extend_from_slice(&bytes);
        Segment::from_bytes(name, Bytes::from(shifted).slice(shift..)).unwrap();
    }
}
