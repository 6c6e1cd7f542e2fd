//! Definitions of data sources and indices, in the words of Vektonn's configuration files.
//!
//! They convert to and from the model's types; converting to the model validates.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tarn_model::{
    AttributeType, AttributeValue, DataSource, DataSourceId, Index, IndexAlgorithm, IndexId, Shard, ShardCondition, Sharder,
    ValidationError, VectorKind,
};
use utoipa::ToSchema;

use super::data::AttributeValueDto;

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
    pub possible_values: Option<Vec<AttributeValueDto>>,
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
    /// Accepted for the sake of Vektonn's files; Tarn's timelines are not sharded.
    #[serde(skip_serializing)]
    #[schema(value_type = Option<Object>)]
    pub data_source_shards_to_consume: Option<serde_json::Value>,
}

/// A condition on one attribute: `numberOfShards` with `shardValues`, or `values`, or `complement`.
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
    pub values: Option<Vec<AttributeValueDto>>,
    /// The value is none of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub complement: Option<Vec<AttributeValueDto>>,
}

impl DataSourceDefinitionDto {
    /// The data source that is meant.
    ///
    /// # Errors
    /// Every message that applies: unknown types, malformed sharders, and what [`DataSource::validate`] finds.
    pub fn to_model(&self, id: DataSourceId) -> Result<DataSource, ValidationError> {
        let mut messages = Vec::new();
        let mut attribute_types = BTreeMap::new();
        for (key, name) in &self.attribute_value_types {
            match attribute_type(name) {
                Some(attribute_type) => drop(attribute_types.insert(key.clone(), attribute_type)),
                None => messages.push(format!(
                    "attributeValueTypes: '{}' of '{key}' is not a type; the types are String, Guid, Bool, Int64, Float64 and \
                     DateTime",
                    excerpt(name)
                )),
            }
        }
        let permanent_attributes = unique("permanentAttributes", &self.permanent_attributes, &mut messages);
        let mut sharders = BTreeMap::new();
        for (key, sharder) in &self.sharders_by_attribute_key {
            match sharder.to_model() {
                Ok(sharder) => drop(sharders.insert(key.clone(), sharder)),
                Err(message) => messages.push(format!("shardersByAttributeKey of '{key}': {message}")),
            }
        }
        let vector_kind = if self.vectors_are_sparse { VectorKind::Sparse } else { VectorKind::Dense };
        let vector_dimension = self.vector_dimension;
        let source = DataSource { id, vector_dimension, vector_kind, attribute_types, permanent_attributes, sharders };
        checked(messages, source.validate())?;
        Ok(source)
    }
}

impl From<&DataSource> for DataSourceDefinitionDto {
    fn from(source: &DataSource) -> Self {
        let types = source.attribute_types.iter().map(|(key, kind)| (key.clone(), kind.to_string())).collect();
        Self {
            vector_dimension: source.vector_dimension,
            vectors_are_sparse: source.vector_kind == VectorKind::Sparse,
            attribute_value_types: types,
            permanent_attributes: source.permanent_attributes.iter().cloned().collect(),
            sharders_by_attribute_key: source.sharders.iter().map(|(key, sharder)| (key.clone(), sharder.into())).collect(),
        }
    }
}

impl SharderDto {
    fn to_model(&self) -> Result<Sharder, String> {
        match (self.number_of_shards, &self.possible_values) {
            (Some(number_of_shards), None) => Ok(Sharder::Hash { number_of_shards }),
            (None, Some(values)) => Ok(Sharder::Values { possible_values: to_values(values)? }),
            _ => Err("give either numberOfShards or possibleValues".to_owned()),
        }
    }
}

impl From<&Sharder> for SharderDto {
    fn from(sharder: &Sharder) -> Self {
        match sharder {
            Sharder::Hash { number_of_shards } => {
                Self { number_of_shards: Some(*number_of_shards), possible_values: None }
            }
            Sharder::Values { possible_values } => {
                Self { number_of_shards: None, possible_values: Some(from_values(possible_values)) }
            }
        }
    }
}

impl IndexDefinitionDto {
    /// The data source that the definition names.
    ///
    /// # Errors
    /// Its name or version is no name.
    pub fn source_id(&self) -> Result<DataSourceId, ValidationError> {
        DataSourceId::new(&self.data_source_id.name, &self.data_source_id.version)
    }

    /// The index that is meant. Its agreement with its data source is for [`Index::validate`] to check.
    ///
    /// # Errors
    /// Every message that applies: an unknown algorithm, malformed shards.
    pub fn to_model(&self, id: IndexId) -> Result<Index, ValidationError> {
        let mut messages = Vec::new();
        let data_source = self.source_id()?;
        let algorithm = IndexAlgorithm::from_wire(&self.index_algorithm.algorithm_type, &self.index_algorithm.params);
        let algorithm = algorithm.map_err(|error| messages.extend(error.messages)).ok();
        let id_attributes = unique("idAttributes", &self.id_attributes, &mut messages);
        let split_attributes = unique("splitAttributes", &self.split_attributes, &mut messages);
        let mut shards = BTreeMap::new();
        for (shard_id, shard) in &self.shards_by_id {
            let mut conditions = BTreeMap::new();
            for (key, condition) in &shard.shards_by_attribute_key {
                match condition.to_model() {
                    Ok(condition) => drop(conditions.insert(key.clone(), condition)),
                    Err(message) => messages.push(format!("shardsById, shard '{shard_id}', attribute '{key}': {message}")),
                }
            }
            shards.insert(shard_id.clone(), Shard { conditions });
        }
        if shards.is_empty() {
            shards.insert("0".to_owned(), Shard::default());
        }
        match algorithm {
            Some(algorithm) if messages.is_empty() => {
                Ok(Index { id, data_source, algorithm, id_attributes, split_attributes, shards })
            }
            _ => Err(ValidationError { messages }),
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
            index_algorithm: IndexAlgorithmDto {
                algorithm_type: index.algorithm.metric.algorithm_type().to_owned(),
                params: index.algorithm.wire_params(),
            },
            id_attributes: index.id_attributes.iter().cloned().collect(),
            split_attributes: index.split_attributes.iter().cloned().collect(),
            shards_by_id: index.shards.iter().map(shard).collect(),
        }
    }
}

impl ShardConditionDto {
    fn to_model(&self) -> Result<ShardCondition, String> {
        match (self.number_of_shards, &self.shard_values, &self.values, &self.complement) {
            (Some(number_of_shards), Some(residues), None, None) => {
                let residues: BTreeSet<u32> = residues.iter().copied().collect();
                Ok(ShardCondition::Hash { number_of_shards, residues })
            }
            (None, None, Some(values), None) => Ok(ShardCondition::Values(to_values(values)?)),
            (None, None, None, Some(values)) => Ok(ShardCondition::Complement(to_values(values)?)),
            _ => Err("give numberOfShards with shardValues, or values, or complement".to_owned()),
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
            ShardCondition::Values(values) => Self { values: Some(from_values(values)), ..Self::default() },
            ShardCondition::Complement(values) => Self { complement: Some(from_values(values)), ..Self::default() },
        }
    }
}

fn attribute_type(name: &str) -> Option<AttributeType> {
    let types = [
        ("string", AttributeType::String),
        ("guid", AttributeType::Uuid),
        ("bool", AttributeType::Bool),
        ("int64", AttributeType::Int64),
        ("float64", AttributeType::Float64),
        ("datetime", AttributeType::DateTime),
    ];
    types.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, kind)| kind)
}

fn unique(what: &str, keys: &[String], messages: &mut Vec<String>) -> BTreeSet<String> {
    let mut set = BTreeSet::new();
    for key in keys {
        if !set.insert(key.clone()) {
            messages.push(format!("{what}: '{}' is named twice", excerpt(key)));
        }
    }
    set
}

fn checked(mut messages: Vec<String>, validated: Result<(), ValidationError>) -> Result<(), ValidationError> {
    messages.extend(validated.err().into_iter().flat_map(|error| error.messages));
    if messages.is_empty() { Ok(()) } else { Err(ValidationError { messages }) }
}

fn to_values(values: &[AttributeValueDto]) -> Result<Vec<AttributeValue>, String> {
    let value = |dto: &AttributeValueDto| dto.value().ok_or("each value must have exactly one valid property".to_owned());
    values.iter().map(value).collect()
}

fn from_values(values: &[AttributeValue]) -> Vec<AttributeValueDto> {
    values.iter().map(AttributeValueDto::from).collect()
}

fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}
