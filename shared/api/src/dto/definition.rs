//! Definitions of data sources and indices, in the words of Vektonn's configuration files.
//!
//! What comes in is read into the definitions of `tarn_model::vektonn`, which say what it means; these types are what
//! goes out, and both are written in the OpenAPI document as these types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tarn_model::{
    AttributeValue, AutoCreate, DataSource, Index, IndexAlgorithm, IndexTemplate, Shard, ShardCondition, Sharder,
    VectorKind,
};
use utoipa::ToSchema;

/// A name and a version. Versions are text: `1.10` is not `1.1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NameVersionDto {
    /// The name.
    #[schema(min_length = 1)]
    pub name: String,
    /// The version.
    #[schema(min_length = 1)]
    pub version: String,
}

/// What a data source's points are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataSourceDefinitionDto {
    /// Dense: how many coordinates a vector has. Sparse: coordinate indices are below it.
    #[schema(minimum = 1)]
    pub vector_dimension: u32,
    /// Whether vectors are sparse.
    #[serde(default)]
    pub vectors_are_sparse: bool,
    /// Every attribute of a point, with its type: String, Guid, Bool, Int64, Float64 or DateTime.
    pub attribute_value_types: BTreeMap<String, String>,
    /// The attributes that identify a point; at least one.
    pub permanent_attributes: Vec<String>,
    /// Which values of an attribute the data source accepts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sharders_by_attribute_key: BTreeMap<String, SharderDto>,
    /// Which points go by themselves, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub retention: Option<RetentionDto>,
    /// What an upload creates when it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub auto_create: Option<AutoCreateDto>,
}

/// Which points go, and when; `keepSeconds` or `targetN` or both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionDto {
    /// A DateTime attribute.
    pub attribute: String,
    /// A point expires this long after its date-time, and is not found from then on. 0: the attribute says when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub keep_seconds: Option<u64>,
    /// Each build leaves about this many points, those with the latest date-times.
    #[serde(default, rename = "targetN", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1)]
    pub target_points: Option<u64>,
}

/// What an upload creates when it is not there. Whoever may upload may create it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AutoCreateDto {
    /// An upload to a version of the data source that does not exist creates it, with this definition.
    pub versions: bool,
    /// Indices that an upload creates, in the data source's version.
    #[schema(max_items = 16)]
    pub indices: Vec<AutoIndexDto>,
}

/// An index with a single shard that takes every point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoIndexDto {
    /// Its name.
    #[schema(min_length = 1)]
    pub name: String,
    /// Metric and parameters.
    pub index_algorithm: IndexAlgorithmDto,
    /// The attributes that identify a found point.
    pub id_attributes: Vec<String>,
    /// The attributes whose values partition the points, for split filters.
    #[serde(default)]
    pub split_attributes: Vec<String>,
}

/// Which values are accepted: all of them, hashed to `numberOfShards`, or those of `possibleValues`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SharderDto {
    /// Every value is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1)]
    pub number_of_shards: Option<u32>,
    /// These values alone are accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub possible_values: Option<Vec<String>>,
}

/// What an index holds and how it finds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IndexDefinitionDto {
    /// The data source that it is built from.
    pub data_source_id: NameVersionDto,
    /// Metric and parameters.
    pub index_algorithm: IndexAlgorithmDto,
    /// The attributes that identify a found point.
    pub id_attributes: Vec<String>,
    /// The attributes whose values partition the points, for split filters.
    #[serde(default)]
    pub split_attributes: Vec<String>,
    /// Shards by id; absent or empty: a single shard that takes every point.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shards_by_id: BTreeMap<String, ShardDto>,
}

/// Metric and parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IndexAlgorithmDto {
    /// `FaissIndex.L2`, `FaissIndex.IP`, `Tarn.Cosine`, `SparnnIndex.Cosine` or `SparnnIndex.JaccardBinary`.
    #[serde(rename = "type")]
    pub algorithm_type: String,
    /// None: exact. `Hnsw_M`, `Hnsw_EfConstruction` and `Hnsw_EfSearch`: a graph for large splits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
}

/// Which points a shard takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ShardDto {
    /// Conditions by attribute; all of them hold for a point of the shard.
    pub shards_by_attribute_key: BTreeMap<String, ShardConditionDto>,
    /// Which shards of the data source feed this one; absent: all. Answers have it worked into the conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub data_source_shards_to_consume: Option<Vec<SubscriptionDto>>,
}

/// The data source's shard along each attribute; null or absent: any.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionDto {
    /// The shard's number by attribute.
    pub sharding_coordinates_by_attribute_key: BTreeMap<String, Option<u64>>,
}

/// A condition on one attribute: `numberOfShards` with `shardValues`, or `values`, or `excludedValues`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ShardConditionDto {
    /// The hash of the value is taken modulo this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1)]
    pub number_of_shards: Option<u32>,
    /// The hash modulo `numberOfShards` is one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub shard_values: Option<Vec<u32>>,
    /// The value is one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub values: Option<Vec<String>>,
    /// The value is none of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub excluded_values: Option<Vec<String>>,
}

impl From<&DataSource> for DataSourceDefinitionDto {
    fn from(source: &DataSource) -> Self {
        let types = source.attribute_types.iter().map(|(key, kind)| (key.clone(), kind.to_string())).collect();
        Self {
            vector_dimension: source.vector_dimension,
            vectors_are_sparse: source.vector_kind == VectorKind::Sparse,
            attribute_value_types: types,
            permanent_attributes: source.permanent_attributes.iter().cloned().collect(),
            sharders_by_attribute_key: source
                .sharders
                .iter()
                .map(|(key, sharder)| (key.clone(), sharder.into()))
                .collect(),
            retention: source.policy.retention.as_ref().map(|retention| RetentionDto {
                attribute: retention.attribute.clone(),
                keep_seconds: retention.keep_seconds,
                target_points: retention.target_points,
            }),
            auto_create: source.policy.auto_create.as_ref().map(Into::into),
        }
    }
}

impl From<&AutoCreate> for AutoCreateDto {
    fn from(auto_create: &AutoCreate) -> Self {
        let index = |template: &IndexTemplate| AutoIndexDto {
            name: template.name.clone(),
            index_algorithm: (&template.algorithm).into(),
            id_attributes: template.id_attributes.iter().cloned().collect(),
            split_attributes: template.split_attributes.iter().cloned().collect(),
        };
        Self { versions: auto_create.versions, indices: auto_create.indices.iter().map(index).collect() }
    }
}

impl From<&IndexAlgorithm> for IndexAlgorithmDto {
    fn from(algorithm: &IndexAlgorithm) -> Self {
        Self { algorithm_type: algorithm.metric.algorithm_type().to_owned(), params: algorithm.wire_params() }
    }
}

impl From<&Sharder> for SharderDto {
    fn from(sharder: &Sharder) -> Self {
        match sharder {
            Sharder::Hash { number_of_shards } => {
                Self { number_of_shards: Some(*number_of_shards), possible_values: None }
            }
            Sharder::Values { possible_values } => {
                Self { number_of_shards: None, possible_values: Some(texts(possible_values)) }
            }
        }
    }
}

impl From<&Index> for IndexDefinitionDto {
    fn from(index: &Index) -> Self {
        let shard = |(id, shard): (&String, &Shard)| {
            let conditions = shard.conditions.iter().map(|(key, condition)| (key.clone(), condition.into())).collect();
            (id.clone(), ShardDto { shards_by_attribute_key: conditions, data_source_shards_to_consume: None })
        };
        Self {
            data_source_id: NameVersionDto {
                name: index.data_source.name.clone(),
                version: index.data_source.version.clone(),
            },
            index_algorithm: (&index.algorithm).into(),
            id_attributes: index.id_attributes.iter().cloned().collect(),
            split_attributes: index.split_attributes.iter().cloned().collect(),
            shards_by_id: index.shards.iter().map(shard).collect(),
        }
    }
}

impl From<&ShardCondition> for ShardConditionDto {
    fn from(condition: &ShardCondition) -> Self {
        match condition {
            ShardCondition::Hash { number_of_shards, residues } => Self {
                number_of_shards: Some(*number_of_shards),
                shard_values: Some(residues.iter().copied().collect()),
                ..Self::default()
            },
            ShardCondition::Values(values) => Self { values: Some(texts(values)), ..Self::default() },
            ShardCondition::Complement(values) => Self { excluded_values: Some(texts(values)), ..Self::default() },
        }
    }
}

/// Values as the definitions of `tarn_model::vektonn` read them.
fn texts(values: &[AttributeValue]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}
