//! The definition of an index.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::attribute::AttributeValue;
use crate::error::ValidationError;
use crate::ids::{DataSourceId, IndexId};
use crate::source::DataSource;

/// A definition over one data source. Immutable; the content is a function of the live set at a watermark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Name and version.
    pub id: IndexId,
    /// The data source it is built from.
    pub data_source: DataSourceId,
    /// Metric, and exact or HNSW.
    pub algorithm: IndexAlgorithm,
    /// The attributes that identify a point; non-empty after the split attributes are taken away.
    pub id_attributes: BTreeSet<String>,
    /// The attributes whose values partition a shard into splits; a subset of the permanent attributes.
    #[serde(default)]
    pub split_attributes: BTreeSet<String>,
    /// Shards by id. Never empty: an index without sharding has one shard `"0"` without conditions. Conditions of
    /// different shards must not overlap; a point that satisfies none is not in the index.
    pub shards: BTreeMap<String, Shard>,
}

/// The conditions that a point of a shard satisfies, by attribute; all of them must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shard {
    /// Keys are permanent attributes.
    #[serde(default)]
    pub conditions: BTreeMap<String, ShardCondition>,
}

/// A condition on one attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ShardCondition {
    /// `farmhash64(bytes) mod number_of_shards` is one of `residues`.
    #[serde(rename_all = "camelCase")]
    Hash {
        /// At least 1.
        number_of_shards: u32,
        /// Each below `number_of_shards`.
        residues: BTreeSet<u32>,
    },
    /// The value is one of these.
    Values(Vec<AttributeValue>),
    /// The value is none of these.
    Complement(Vec<AttributeValue>),
}

/// What an index measures, and how it finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexAlgorithm {
    /// The distance.
    pub metric: Metric,
    /// `None`: exact. `Some`: splits above the builder's threshold get an HNSW graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hnsw: Option<HnswParams>,
}

/// The distances, with the algorithm type that names each on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Metric {
    /// `FaissIndex.L2`: squared Euclidean, ascending.
    L2,
    /// `FaissIndex.IP`: inner product, descending.
    InnerProduct,
    /// `Tarn.Cosine`: 1 − cos in [0, 2], ascending; 1 when either vector is zero.
    Cosine,
    /// `SparnnIndex.Cosine`: as [`Metric::Cosine`], over sparse vectors, in f64.
    SparseCosine,
    /// `SparnnIndex.JaccardBinary`: 1 − |A∩B| / |A∪B| over the non-zero indices, ascending; 1 when both are empty.
    SparseJaccard,
}

/// Parameters of the graph (Malkov and Yashunin, 2016).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HnswParams {
    /// Links per node and level; level 0 has twice as many. 2 to [`crate::limits::HNSW_M`].
    pub m: u32,
    /// Candidates kept while building. 1 to [`crate::limits::HNSW_EF`].
    pub ef_construction: u32,
    /// Candidates kept while searching, at least; the planner raises it to reach the recall asked for.
    pub ef_search: u32,
}

impl Metric {
    /// The metric's algorithm type on the wire, as `FaissIndex.L2`.
    pub fn algorithm_type(self) -> &'static str {
        match self {
            Self::L2 => "FaissIndex.L2",
            Self::InnerProduct => "FaissIndex.IP",
            Self::Cosine => "Tarn.Cosine",
            Self::SparseCosine => "SparnnIndex.Cosine",
            Self::SparseJaccard => "SparnnIndex.JaccardBinary",
        }
    }

    /// Whether it compares sparse vectors.
    pub fn is_sparse(self) -> bool {
        matches!(self, Self::SparseCosine | Self::SparseJaccard)
    }

    /// Whether a larger value is nearer. True for the inner product alone.
    pub fn higher_is_nearer(self) -> bool {
        matches!(self, Self::InnerProduct)
    }
}

impl IndexAlgorithm {
    /// From the wire: a type such as `FaissIndex.L2` and parameters: none, or all three of `Hnsw_M`,
    /// `Hnsw_EfConstruction`, `Hnsw_EfSearch`. Names are matched without regard to case.
    ///
    /// # Errors
    /// An unknown type or parameter, a parameter missing, not a number or out of range, a graph for a sparse metric.
    pub fn from_wire(algorithm_type: &str, params: &BTreeMap<String, String>) -> Result<Self, ValidationError> {
        let _ = (algorithm_type, params);
        todo!()
    }

    /// The parameters as [`Self::from_wire`] takes them.
    pub fn wire_params(&self) -> BTreeMap<String, String> {
        todo!()
    }
}

impl Index {
    /// Checks the definition by itself and against its data source: shard, split and id attributes ⊆ permanent, every
    /// used attribute typed, (id − split) ≠ ∅, sparse flag agrees with the algorithm, shards disjoint, limits.
    ///
    /// # Errors
    /// Every message that applies.
    pub fn validate(&self, source: &DataSource) -> Result<(), ValidationError> {
        let _ = source;
        todo!()
    }

    /// The shard of a point, from its permanent attributes; `None` when no shard takes it. See `sharding`.
    pub fn shard_of(&self, permanent: &crate::attribute::Attributes) -> Option<&str> {
        let _ = permanent;
        todo!()
    }

    /// The attributes of a found point, in wire order: id − split, then split, then payload, each group sorted by key.
    pub fn attribute_order(&self, source: &DataSource) -> Vec<String> {
        let _ = source;
        todo!()
    }
}
