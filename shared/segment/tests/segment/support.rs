//! Fixtures, and the naive reference that every search is compared with.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{BinaryArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::buffer::OffsetBuffer;
use bytes::Bytes;
use roaring::RoaringBitmap;
use tarn_model::{Metric, SparseVector, Vector};
use tarn_segment::{Build, Rows, Segment, SegmentInput, SegmentSettings, SegmentSummary, Vectors, write_segment_to};

/// Rows of one fixture, in the plainest form.
#[derive(Clone, Debug)]
pub(crate) struct Fixture {
    pub(crate) metric: Metric,
    pub(crate) dimension: u32,
    pub(crate) rows: Vec<(Vec<u8>, Vector)>,
}

impl Fixture {
    /// Dense rows with keys that ascend.
    pub(crate) fn dense(metric: Metric, rows: Vec<Vec<f32>>) -> Self {
        let dimension = rows.first().map_or(1, Vec::len) as u32;
        let rows = (0u32..).zip(rows).map(|(i, row)| (key(i), Vector::Dense(row))).collect();
        Self { metric, dimension, rows }
    }

    /// Sparse rows with keys that ascend.
    pub(crate) fn sparse(metric: Metric, dimension: u32, rows: Vec<Vec<(u32, f64)>>) -> Self {
        let rows = (0u32..).zip(rows).map(|(i, row)| (key(i), Vector::Sparse(sparse(row)))).collect();
        Self { metric, dimension, rows }
    }

    pub(crate) fn input(&self) -> SegmentInput {
        let keys = BinaryArray::from_iter_values(self.rows.iter().map(|(key, _)| key));
        let n = self.rows.len();
        let attributes = RecordBatch::try_from_iter([
            ("flag", Arc::new(BooleanArray::from_iter((0..n).map(|i| Some(i % 3 == 0)))) as _),
            ("number", Arc::new(Int64Array::from_iter_values(0..n as i64)) as _),
            ("text", Arc::new(StringArray::from_iter_values((0..n).map(|i| format!("value ü {i}")))) as _),
        ])
        .unwrap();
        let vectors = if self.metric.is_sparse() {
            let (mut lengths, mut indices, mut values) = (Vec::new(), Vec::new(), Vec::new());
            for (_, vector) in &self.rows {
                let Vector::Sparse(sparse) = vector else { panic!("dense row") };
                lengths.push(sparse.indices.len());
                indices.extend(&sparse.indices);
                values.extend(&sparse.values);
            }
            Vectors::Sparse {
                offsets: OffsetBuffer::from_lengths(lengths),
                indices: indices.into(),
                values: values.into(),
            }
        } else {
            let values: Vec<f32> = self
                .rows
                .iter()
                .flat_map(|(_, vector)| match vector {
                    Vector::Dense(values) => values.clone(),
                    Vector::Sparse(_) => panic!("sparse row"),
                })
                .collect();
            Vectors::Dense(values.into())
        };
        SegmentInput { metric: self.metric, dimension: self.dimension, keys, attributes, vectors }
    }

    pub(crate) fn file(&self, build: Build) -> (Bytes, SegmentSummary) {
        self.file_with(build, &SegmentSettings::default())
    }

    pub(crate) fn file_with(&self, build: Build, settings: &SegmentSettings) -> (Bytes, SegmentSummary) {
        let mut out = Vec::new();
        let summary = write_segment_to(&self.input(), build, settings, &mut out, &|_, _| {}).unwrap();
        assert_eq!((summary.bytes, summary.crc32c), (out.len() as u64, crc32c::crc32c(&out)));
        (out.into(), summary)
    }

    pub(crate) fn open(&self, build: Build) -> Segment {
        Segment::from_bytes("fixture.seg", self.file(build).0).unwrap()
    }

    pub(crate) fn in_memory(&self) -> Segment {
        Segment::in_memory(self.input()).unwrap()
    }

    /// Every allowed row by the definition of the metric, nearest first.
    pub(crate) fn naive(&self, query: &Vector, k: usize, mask: &Mask) -> Vec<(u32, f64)> {
        let mut all: Vec<(u32, f64)> = (0u32..)
            .zip(&self.rows)
            .filter(|(row, _)| mask.allows(*row))
            .map(|(row, (_, vector))| (row, distance(self.metric, query, vector)))
            .collect();
        all.sort_by(|a, b| {
            let (key_a, key_b) = (&self.rows[a.0 as usize].0, &self.rows[b.0 as usize].0);
            tarn_segment::compare_hits(self.metric, (a.1, key_a), (b.1, key_b))
        });
        all.truncate(k);
        all
    }
}

/// Which rows a search may return, owned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mask {
    pub(crate) ranges: Vec<Range<u32>>,
    pub(crate) deleted: Option<RoaringBitmap>,
    pub(crate) superseded: Option<RoaringBitmap>,
    pub(crate) matches: Option<RoaringBitmap>,
}

impl Mask {
    pub(crate) fn all(rows: usize) -> Self {
        Self { ranges: std::iter::once(0..rows as u32).collect(), ..Self::default() }
    }

    pub(crate) fn rows(&self) -> Rows<'_> {
        Rows {
            ranges: &self.ranges,
            deleted: self.deleted.as_ref(),
            superseded: self.superseded.as_ref(),
            matches: self.matches.as_ref(),
        }
    }

    pub(crate) fn allows(&self, row: u32) -> bool {
        self.ranges.iter().any(|range| range.contains(&row))
            && !self.deleted.as_ref().is_some_and(|mask| mask.contains(row))
            && !self.superseded.as_ref().is_some_and(|mask| mask.contains(row))
            && self.matches.as_ref().is_none_or(|mask| mask.contains(row))
    }
}

pub(crate) fn key(i: u32) -> Vec<u8> {
    format!("key-{i:06}").into_bytes()
}

pub(crate) fn sparse(coordinates: Vec<(u32, f64)>) -> SparseVector {
    let (indices, values) = coordinates.into_iter().unzip();
    SparseVector { indices, values }
}

/// The metrics as the model defines them, in f64.
pub(crate) fn distance(metric: Metric, a: &Vector, b: &Vector) -> f64 {
    match (a, b) {
        (Vector::Dense(a), Vector::Dense(b)) => {
            let pairs = || a.iter().zip(b).map(|(&a, &b)| (f64::from(a), f64::from(b)));
            let dot: f64 = pairs().map(|(a, b)| a * b).sum();
            match metric {
                Metric::L2 => pairs().map(|(a, b)| (a - b) * (a - b)).sum(),
                Metric::InnerProduct => dot,
                _ => {
                    let norms: (f64, f64) = (pairs().map(|(a, _)| a * a).sum(), pairs().map(|(_, b)| b * b).sum());
                    if norms.0 == 0.0 || norms.1 == 0.0 {
                        1.0
                    } else {
                        (1.0 - dot / (norms.0.sqrt() * norms.1.sqrt())).clamp(0.0, 2.0)
                    }
                }
            }
        }
        (Vector::Sparse(a), Vector::Sparse(b)) => sparse_distance(metric, a, b),
        _ => panic!("a dense and a sparse vector"),
    }
}

fn sparse_distance(metric: Metric, a: &SparseVector, b: &SparseVector) -> f64 {
    let nonzero = |v: &SparseVector| -> Vec<(u32, f64)> {
        v.indices.iter().copied().zip(v.values.iter().copied()).filter(|(_, value)| *value != 0.0).collect()
    };
    let (a, b) = (nonzero(a), nonzero(b));
    let common: Vec<(f64, f64)> =
        a.iter().filter_map(|(i, x)| b.iter().find(|(j, _)| i == j).map(|(_, y)| (*x, *y))).collect();
    if metric == Metric::SparseJaccard {
        let union = a.len() + b.len() - common.len();
        return if union == 0 { 1.0 } else { 1.0 - common.len() as f64 / union as f64 };
    }
    let norm = |v: &[(u32, f64)]| v.iter().map(|(_, x)| x * x).sum::<f64>().sqrt();
    if a.is_empty() || b.is_empty() {
        return 1.0;
    }
    let dot: f64 = common.iter().map(|(x, y)| x * y).sum();
    (1.0 - dot / (norm(&a) * norm(&b))).clamp(0.0, 2.0)
}
