//! Vectors, dense and sparse.

use serde::{Deserialize, Serialize};

/// Whether the vectors of a data source are dense or sparse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VectorKind {
    /// `dimension` f32 coordinates.
    Dense,
    /// Pairs of coordinate index and f64 value.
    Sparse,
}

/// One vector. Coordinates are finite.
#[derive(Clone, Debug, PartialEq)]
pub enum Vector {
    /// As many coordinates as the data source's dimension.
    Dense(Vec<f32>),
    /// Coordinates at some indices, zero elsewhere.
    Sparse(SparseVector),
}

/// A sparse vector: `indices` ascending and unique, below the dimension, one value each. An explicit zero is kept, for
/// it is given back as it was; it counts as absent in every score.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SparseVector {
    /// Ascending and unique.
    pub indices: Vec<u32>,
    /// `values[i]` stands at `indices[i]`.
    pub values: Vec<f64>,
}

impl Vector {
    /// Dense or sparse.
    pub fn kind(&self) -> VectorKind {
        match self {
            Self::Dense(_) => VectorKind::Dense,
            Self::Sparse(_) => VectorKind::Sparse,
        }
    }
}

impl SparseVector {
    /// From pairs of index and value in any order; the indices are unique.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (u32, f64)>) -> Self {
        let mut pairs: Vec<(u32, f64)> = pairs.into_iter().collect();
        pairs.sort_unstable_by_key(|&(index, _)| index);
        let (indices, values) = pairs.into_iter().unzip();
        Self { indices, values }
    }
}
