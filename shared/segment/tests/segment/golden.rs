//! One small file of each kind per format version: what was written once can be read for ever.
//!
//! `cargo test -p tarn-segment write_golden_files -- --ignored` writes those of the current version that do not exist yet. A
//! file that exists is never written again.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;
use tarn_model::{HnswParams, Metric, ObjectRef, SplitKey, Vector};
use tarn_segment::{Build, Catalog, CatalogSegment, Effort, Query, Segment, SegmentKind, SplitRows, Statistics};

use crate::support::{Fixture, Mask, sparse};

const VERSION: u32 = 1;

fn path(name: &str, version: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}-v{version}"))
}

fn dense_rows() -> Vec<Vec<f32>> {
    (0..24u8).map(|i| (0..3).map(|j| f32::from(i * 7 % 11) - f32::from(j * i % 5) * 0.5).collect()).collect()
}

fn sparse_rows() -> Vec<Vec<(u32, f64)>> {
    (0..24u32).map(|i| vec![(i % 4, f64::from(i) - 9.5), (10 + i % 3, 0.0), (i32::MAX as u32 - 1, 2.0)]).collect()
}

fn segments() -> Vec<(&'static str, Fixture, Build, Vector)> {
    let params = HnswParams { m: 4, ef_construction: 16, ef_search: 24 };
    let dense = |metric| Fixture::dense(metric, dense_rows());
    let words = |metric| Fixture::sparse(metric, i32::MAX as u32, sparse_rows());
    let near = || Vector::Dense(vec![1.0, 2.0, -0.5]);
    let query = || Vector::Sparse(sparse(vec![(1, 1.0), (10, 1.0)]));
    vec![
        ("flat.seg", dense(Metric::L2), Build::Flat, near()),
        ("cosine.seg", dense(Metric::Cosine), Build::Flat, near()),
        ("cells.seg", dense(Metric::L2), Build::Cells, near()),
        ("cells-and-graph.seg", dense(Metric::Cosine), Build::CellsAndGraph(params), near()),
        ("graph.seg", dense(Metric::InnerProduct), Build::Graph(params), near()),
        ("sparse.seg", words(Metric::SparseCosine), Build::Sparse, query()),
        ("jaccard.seg", words(Metric::SparseJaccard), Build::Sparse, query()),
    ]
}

fn catalog() -> Catalog {
    let object = ObjectRef { id: 7.into(), bytes: 4096, crc32c: 0xdead_beef };
    let split = |key: &str, rows| SplitRows { key: SplitKey(key.into()), rows };
    let splits = vec![split("a", 0..3), split("b", 3..9)];
    let deleted = RoaringBitmap::from_iter([1, 2, 8]);
    let mut statistics = Statistics::new([0.5, -1.0].into());
    (0..6_u8).for_each(|row| statistics.add_dense(&[f32::from(row), 1.0]));
    let (kind, statistics) = (SegmentKind::Cells, Some(Arc::new(statistics)));
    let segment = CatalogSegment { object, kind, outline: 1024, rows: 9, deleted, splits, statistics };
    Catalog { shard: "0".to_owned(), segments: vec![segment] }
}

fn read(name: &str, version: u32) -> Bytes {
    let path = path(name, version);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
}

#[test]
fn every_version_can_be_read() {
    for version in 1..=VERSION {
        for (name, fixture, _, query) in segments() {
            let segment = Segment::from_bytes(name, read(name, version)).unwrap();
            // Cells put rows into an order of their own.
            let moved = segment.kind() == SegmentKind::Cells;
            assert!(moved || segment.attributes() == &fixture.input().attributes, "{name}");
            let mask = Mask::all(fixture.rows.len());
            let prepared = Query::new(fixture.metric, &query).unwrap();
            let answer = segment.search(&prepared, 24, &mask.rows(), Effort::Recall(0.95), &|| false).unwrap();
            for (hit, (_, distance)) in answer.hits.iter().zip(fixture.naive(&query, 24, &mask)) {
                assert!((hit.distance - distance).abs() < 1e-4, "{name}: {} for {distance}", hit.distance);
            }
            for (row, (key, vector)) in (0u32..).zip(&fixture.rows) {
                let found = segment.find_key(key).unwrap();
                assert!(moved || found == row, "{name}");
                assert_eq!(&segment.vector(found), vector, "{name}");
            }
        }
        assert_eq!(Catalog::decode("catalog", &read("catalog", version)).unwrap(), catalog());
    }
}

#[test]
#[ignore = "writes files into the source tree"]
fn write_golden_files() {
    let mut files: Vec<(&str, Bytes)> =
        segments().into_iter().map(|(name, fixture, build, _)| (name, fixture.file(build).0)).collect();
    files.push(("catalog", catalog().encode().unwrap()));
    for (name, bytes) in files {
        let path = path(name, VERSION);
        if !path.exists() {
            std::fs::write(path, bytes).unwrap();
        }
    }
}
