//! The points that seeds are made of: few, of every type.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use tarn_model::{AttributeType, DataSource, DataSourceId, Index, IndexAlgorithm, IndexId, Metric, VectorKind};
#[cfg(feature = "deltas")]
use tarn_model::{AttributeValue, DataPoint, SparseVector, Update, Vector};
use tarn_segment::{SegmentInput, Vectors};
#[cfg(feature = "deltas")]
use uuid::Uuid;

/// Sparse seeds have indices below this.
pub(crate) const SPARSE_DIMENSION: u32 = 50;

/// Rows for a segment: some zeros, some alike, keys of several lengths.
pub(crate) fn input(metric: Metric, rows: u32, dimension: u32) -> SegmentInput {
    let keys = BinaryArray::from_iter_values((0..rows).map(|row| format!("k{}", row * 37).into_bytes()));
    let n = 0..i64::from(rows);
    let columns: [(&str, ArrayRef); 6] = [
        ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(n.clone()).with_timezone("UTC"))),
        ("flag", Arc::new(BooleanArray::from_iter(n.clone().map(|i| Some(i % 3 == 0))))),
        ("guid", Arc::new(fixed(rows))),
        ("number", Arc::new(Int64Array::from_iter_values(n.clone()))),
        ("price", Arc::new(Float64Array::from_iter_values(n.clone().map(|i| i as f64 / 4.0)))),
        ("text", Arc::new(StringArray::from_iter_values(n.map(|i| "ü".repeat(i as usize % 4))))),
    ];
    let attributes = RecordBatch::try_from_iter(columns).unwrap_or_else(|error| panic!("{error}"));
    let vectors = if metric.is_sparse() {
        let coordinates: Vec<Vec<(u32, f64)>> = (0..rows).map(sparse).collect();
        Vectors::Sparse {
            offsets: OffsetBuffer::from_lengths(coordinates.iter().map(Vec::len)),
            indices: coordinates.iter().flatten().map(|(index, _)| *index).collect(),
            values: coordinates.iter().flatten().map(|(_, value)| *value).collect(),
        }
    } else {
        Vectors::Dense((0..rows).flat_map(|row| dense(row, dimension)).collect())
    };
    let dimension = if metric.is_sparse() { SPARSE_DIMENSION } else { dimension };
    SegmentInput { metric, dimension, keys, attributes, vectors }
}

fn fixed(rows: u32) -> FixedSizeBinaryArray {
    let values: Vec<u8> = (0..rows).flat_map(|row| u128::from(row).to_be_bytes()).collect();
    FixedSizeBinaryArray::new(16, values.into(), None)
}

pub(crate) fn dense(row: u32, dimension: u32) -> Vec<f32> {
    let scale = [0.0, 1.0, 1.0, 1e-20, 1e10][row as usize % 5];
    (0..dimension).map(|i| (((row / 2 * 7 + i * 5) % 13) as f32 - 6.0) * scale).collect()
}

fn sparse(row: u32) -> Vec<(u32, f64)> {
    (0..row % 4).map(|i| (i * 11 + row % 7, f64::from(row) - 9.0 + f64::from(i) * 1e-110)).collect()
}

pub(crate) fn source(kind: VectorKind) -> Arc<DataSource> {
    let types = [
        ("id", AttributeType::Int64),
        ("at", AttributeType::DateTime),
        ("flag", AttributeType::Bool),
        ("guid", AttributeType::Uuid),
        ("price", AttributeType::Float64),
        ("text", AttributeType::String),
    ];
    Arc::new(DataSource {
        id: DataSourceId { name: "Points ü/1".into(), version: "1.0".into() },
        vector_dimension: if kind == VectorKind::Dense { 4 } else { SPARSE_DIMENSION },
        vector_kind: kind,
        attribute_types: types.map(|(name, attribute_type)| (name.to_owned(), attribute_type)).into(),
        permanent_attributes: ["id".to_owned(), "text".to_owned()].into(),
        sharders: BTreeMap::new(),
        policy: Default::default(),
    })
}

pub(crate) fn index(source: &DataSource) -> Index {
    Index {
        id: IndexId { name: "Index ü".into(), version: "2".into() },
        data_source: source.id.clone(),
        algorithm: IndexAlgorithm { metric: Metric::L2, hnsw: None },
        id_attributes: ["id".to_owned()].into(),
        split_attributes: ["text".to_owned()].into(),
        shards: Index::single_shard(),
    }
}

#[cfg(feature = "deltas")]
pub(crate) fn updates(source: &DataSource, count: u32) -> Vec<Update> {
    (0..count)
        .map(|row| {
            let permanent = [
                ("id", AttributeValue::Int64(i64::from(row))),
                ("text", AttributeValue::String("ü".repeat(row as usize % 3))),
            ];
            let permanent = permanent.map(|(name, value)| (name.to_owned(), value));
            if row % 4 == 3 {
                return Update::Delete(permanent.into());
            }
            let others = [
                ("at", AttributeValue::DateTime(i64::from(row) * 1_000_000)),
                ("flag", AttributeValue::Bool(row % 2 == 0)),
                ("guid", AttributeValue::Uuid(Uuid::from_u128(row.into()))),
                ("price", AttributeValue::Float64(f64::from(row) / 4.0)),
            ];
            let vector = match source.vector_kind {
                VectorKind::Dense => Vector::Dense(dense(row, source.vector_dimension)),
                VectorKind::Sparse => Vector::Sparse(SparseVector::from_pairs(sparse(row | 1))),
            };
            let attributes = permanent.into_iter().chain(others.map(|(name, value)| (name.to_owned(), value)));
            Update::Upsert(DataPoint { attributes: attributes.collect(), vector })
        })
        .collect()
}
