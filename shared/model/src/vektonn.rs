//! Vektonn's configuration files, as they are: definitions that a YAML (or JSON) parser fills in, and what they mean here.
//!
//! Every text stays text: a version `1.10` or a parameter `16` is declared as a string, so that a parser hands over what is
//! written, and `1.10` does not become `1.1`. Unknown properties are ignored, as Vektonn does; but not of `autoCreate`, which it has not.
//!
//! Two additions to what Vektonn can configure: `possibleValues` of a sharder, and `values` or `excludedValues` of a shard's
//! attribute, for sharding by value. Not here: reading files, and the topology of Vektonn's services, which Tarn has not.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};

use crate::attribute::{AttributeType, AttributeValue};
use crate::error::ValidationError;
use crate::ids::{DataSourceId, IndexId};
use crate::index::{Index, IndexAlgorithm, Shard, ShardCondition};
use crate::limits;
use crate::policy::{AutoCreate, IndexTemplate, Retention, SourcePolicy};
use crate::source::{DataSource, Sharder};
use crate::vector::VectorKind;
use crate::wire::WireAttributeValue;

/// `data-sources/{Name}/{Version}.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataSourceDefinition {
    /// Coordinates of a vector.
    pub vector_dimension: u32,
    /// Sparse or dense.
    pub vectors_are_sparse: bool,
    /// Type names by attribute: String, Guid, Bool, Int64, Float64, DateTime, in any case.
    #[serde(deserialize_with = "null_is_empty")]
    pub attribute_value_types: BTreeMap<String, String>,
    /// The attributes that identify a point.
    #[serde(deserialize_with = "null_is_empty")]
    pub permanent_attributes: Vec<String>,
    /// How points are distributed.
    #[serde(deserialize_with = "null_is_empty")]
    pub sharders_by_attribute_key: BTreeMap<String, Option<SharderDefinition>>,
    /// Which points go; Vektonn has nothing like it.
    pub retention: Option<Retention>,
    /// What uploads may create; Vektonn has nothing like it.
    pub auto_create: Option<AutoCreateDefinition>,
}

/// `autoCreate` of a data source.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AutoCreateDefinition {
    /// Whether an upload to another version creates it.
    pub versions: bool,
    /// Indices that the first upload creates.
    #[serde(deserialize_with = "null_is_empty")]
    pub indices: Vec<AutoIndexDefinition>,
}

/// One of the indices of `autoCreate`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AutoIndexDefinition {
    /// Its name.
    pub name: String,
    /// Metric and graph.
    pub index_algorithm: AlgorithmDefinition,
    /// The attributes that identify a point.
    #[serde(deserialize_with = "null_is_empty")]
    pub id_attributes: Vec<String>,
    /// The attributes that a search can be restricted by.
    #[serde(deserialize_with = "null_is_empty")]
    pub split_attributes: Vec<String>,
}

/// One of `shardersByAttributeKey`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SharderDefinition {
    /// Sharding by hash.
    pub number_of_shards: Option<u32>,
    /// Sharding by value.
    #[serde(deserialize_with = "null_is_empty")]
    pub possible_values: Vec<String>,
}

/// `indices/{Name}/{Version}.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IndexDefinition {
    /// What the index is over.
    pub data_source_id: IdDefinition,
    /// Metric and graph.
    pub index_algorithm: AlgorithmDefinition,
    /// The attributes that identify a point.
    #[serde(deserialize_with = "null_is_empty")]
    pub id_attributes: Vec<String>,
    /// The attributes that a search can be restricted by.
    #[serde(deserialize_with = "null_is_empty")]
    pub split_attributes: Vec<String>,
    /// Shards; none means a single one.
    #[serde(deserialize_with = "null_is_empty")]
    pub shards_by_id: BTreeMap<String, Option<ShardDefinition>>,
}

/// A name and a version.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IdDefinition {
    /// The name.
    pub name: String,
    /// The version, as written.
    pub version: String,
}

/// `indexAlgorithm`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AlgorithmDefinition {
    /// As `FaissIndex.L2`.
    #[serde(rename = "type")]
    pub algorithm_type: String,
    /// None, or `Hnsw_M`, `Hnsw_EfConstruction` and `Hnsw_EfSearch`.
    #[serde(deserialize_with = "null_is_empty")]
    pub params: BTreeMap<String, String>,
}

/// One of `shardsById`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShardDefinition {
    /// Conditions by attribute.
    #[serde(deserialize_with = "null_is_empty")]
    pub shards_by_attribute_key: BTreeMap<String, Option<ConditionDefinition>>,
    /// Which shards of the data source feed this one; absent: all.
    pub data_source_shards_to_consume: Option<Vec<SubscriptionDefinition>>,
}

/// One of `shardsByAttributeKey`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConditionDefinition {
    /// By hash, together with `shardValues`.
    pub number_of_shards: Option<u32>,
    /// The residues of the hash that belong to the shard.
    #[serde(deserialize_with = "null_is_empty")]
    pub shard_values: Vec<u32>,
    /// By value: these.
    #[serde(deserialize_with = "null_is_empty")]
    pub values: Vec<String>,
    /// By value: all but these.
    #[serde(deserialize_with = "null_is_empty")]
    pub excluded_values: Vec<String>,
}

/// One of `dataSourceShardsToConsume`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionDefinition {
    /// The data source's shard along each attribute; null or absent: any.
    #[serde(deserialize_with = "null_is_empty")]
    pub sharding_coordinates_by_attribute_key: BTreeMap<String, Option<u64>>,
}

/// An empty YAML value is null; it stands for an empty collection.
fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl DataSourceDefinition {
    /// The data source, checked.
    ///
    /// # Errors
    /// An unknown type name, a sharder without a way to shard, or what [`DataSource::validate`] refuses.
    pub fn into_data_source(self, id: DataSourceId) -> Result<DataSource, ValidationError> {
        let mut messages = Vec::new();
        let mut attribute_types = BTreeMap::new();
        for (key, name) in &self.attribute_value_types {
            match attribute_type(name) {
                Some(attribute_type) => drop(attribute_types.insert(key.clone(), attribute_type)),
                None => messages.push(format!(
                    "attribute '{key}' has type '{name}'; the types are: String, Guid, Bool, Int64, Float64, DateTime"
                )),
            }
        }
        let mut sharders = BTreeMap::new();
        for (key, sharder) in self.sharders_by_attribute_key {
            match sharder.unwrap_or_default().into_sharder(&key, attribute_types.get(&key).copied()) {
                Ok(sharder) => drop(sharders.insert(key, sharder)),
                Err(message) => messages.push(message),
            }
        }
        let auto_create = match self.auto_create.map(AutoCreateDefinition::into_auto_create).transpose() {
            Ok(auto_create) => auto_create,
            Err(error) => {
                messages.extend(error.messages);
                None
            }
        };
        ValidationError::from_messages(messages)?;
        let source = DataSource {
            id,
            vector_dimension: self.vector_dimension,
            vector_kind: if self.vectors_are_sparse { VectorKind::Sparse } else { VectorKind::Dense },
            attribute_types,
            permanent_attributes: self.permanent_attributes.into_iter().collect(),
            sharders,
            policy: SourcePolicy { retention: self.retention, auto_create },
        };
        source.validate()?;
        Ok(source)
    }
}

impl AutoCreateDefinition {
    /// What it means; checked with the data source that it belongs to.
    ///
    /// # Errors
    /// An algorithm that there is not.
    pub fn into_auto_create(self) -> Result<AutoCreate, ValidationError> {
        let template = |index: AutoIndexDefinition| {
            let AlgorithmDefinition { algorithm_type, params } = index.index_algorithm;
            Ok(IndexTemplate {
                algorithm: IndexAlgorithm::from_wire(&algorithm_type, &params)?,
                name: index.name,
                id_attributes: index.id_attributes.into_iter().collect(),
                split_attributes: index.split_attributes.into_iter().collect(),
            })
        };
        let indices = self.indices.into_iter().map(template).collect::<Result<_, ValidationError>>()?;
        Ok(AutoCreate { versions: self.versions, indices })
    }
}

impl SharderDefinition {
    fn into_sharder(self, key: &str, attribute_type: Option<AttributeType>) -> Result<Sharder, String> {
        match (self.number_of_shards, self.possible_values.is_empty()) {
            (Some(number_of_shards), true) => Ok(Sharder::Hash { number_of_shards }),
            (None, false) => {
                let possible_values =
                    parse_values(&format!("sharder of '{key}'"), attribute_type, &self.possible_values)?;
                Ok(Sharder::Values { possible_values })
            }
            _ => Err(format!("sharder of '{key}' needs either numberOfShards or possibleValues")),
        }
    }
}

impl IndexDefinition {
    /// Which data source the index is over.
    ///
    /// # Errors
    /// No name or version, or what [`DataSourceId::new`] refuses.
    pub fn data_source(&self) -> Result<DataSourceId, ValidationError> {
        DataSourceId::new(self.data_source_id.name.clone(), self.data_source_id.version.clone())
    }

    /// The index, checked against its data source.
    ///
    /// # Errors
    /// A shard that cannot be expressed, or what [`IndexAlgorithm::from_wire`] and [`Index::validate`] refuse.
    pub fn into_index(self, id: IndexId, source: &DataSource) -> Result<Index, ValidationError> {
        let data_source = self.data_source()?;
        let algorithm = IndexAlgorithm::from_wire(&self.index_algorithm.algorithm_type, &self.index_algorithm.params)?;
        let mut messages = Vec::new();
        let mut shards = BTreeMap::new();
        for (shard_id, definition) in self.shards_by_id {
            match definition.unwrap_or_default().into_shard(&shard_id, source) {
                Ok(shard) => drop(shards.insert(shard_id, shard)),
                Err(message) => messages.push(message),
            }
        }
        ValidationError::from_messages(messages)?;
        let index = Index {
            id,
            data_source,
            algorithm,
            id_attributes: self.id_attributes.into_iter().collect(),
            split_attributes: self.split_attributes.into_iter().collect(),
            shards: if shards.is_empty() { Index::single_shard() } else { shards },
        };
        index.validate(source)?;
        Ok(index)
    }
}

impl ShardDefinition {
    fn into_shard(self, shard_id: &str, source: &DataSource) -> Result<Shard, String> {
        let mut conditions = BTreeMap::new();
        for (key, definition) in self.shards_by_attribute_key {
            let what = format!("shard '{shard_id}', attribute '{key}'");
            let attribute_type = source.attribute_types.get(&key).copied();
            let condition = definition.unwrap_or_default().into_condition(&what, attribute_type)?;
            conditions.insert(key, condition);
        }
        if let Some(subscriptions) = &self.data_source_shards_to_consume {
            for (key, coordinates) in consumed(shard_id, subscriptions)? {
                let narrowed = narrow(shard_id, &key, conditions.get(&key), coordinates, source)?;
                conditions.insert(key, narrowed);
            }
        }
        Ok(Shard { conditions })
    }
}

impl ConditionDefinition {
    fn into_condition(self, what: &str, attribute_type: Option<AttributeType>) -> Result<ShardCondition, String> {
        match (self.number_of_shards, self.values.is_empty(), self.excluded_values.is_empty()) {
            (Some(number_of_shards), true, true) => {
                Ok(ShardCondition::Hash { number_of_shards, residues: self.shard_values.into_iter().collect() })
            }
            (None, false, true) => Ok(ShardCondition::Values(parse_values(what, attribute_type, &self.values)?)),
            (None, true, false) => {
                Ok(ShardCondition::Complement(parse_values(what, attribute_type, &self.excluded_values)?))
            }
            _ => Err(format!("{what} needs numberOfShards with shardValues, or values, or excludedValues")),
        }
    }
}

/// The coordinates that a shard consumes along each attribute that it is restricted on. Only a product of such sets can be
/// expressed as conditions; anything else is refused.
fn consumed(
    shard_id: &str,
    subscriptions: &[SubscriptionDefinition],
) -> Result<BTreeMap<String, BTreeSet<u64>>, String> {
    if subscriptions.is_empty() {
        return Err(format!("shard '{shard_id}' consumes no shard of the data source, so that it would stay empty"));
    }
    let rows: BTreeSet<BTreeMap<&String, u64>> = subscriptions
        .iter()
        .map(|subscription| {
            let coordinates = subscription.sharding_coordinates_by_attribute_key.iter();
            coordinates.filter_map(|(key, coordinate)| Some((key, (*coordinate)?))).collect()
        })
        .collect();
    if rows.iter().any(BTreeMap::is_empty) {
        // One of them takes everything.
        return Ok(BTreeMap::new());
    }
    let mut sets = BTreeMap::<String, BTreeSet<u64>>::new();
    for (key, coordinate) in rows.iter().flatten() {
        sets.entry((*key).clone()).or_default().insert(*coordinate);
    }
    let product = sets.values().try_fold(1_usize, |product, set| product.checked_mul(set.len()));
    if product != Some(rows.len()) || rows.iter().any(|row| row.len() != sets.len()) {
        return Err(format!(
            "shard '{shard_id}' consumes a combination of data source shards that is no product of sets by attribute"
        ));
    }
    Ok(sets)
}

/// A shard's condition on one attribute and its subscription to hash shards of the data source, as one condition.
fn narrow(
    shard_id: &str,
    key: &str,
    condition: Option<&ShardCondition>,
    coordinates: BTreeSet<u64>,
    source: &DataSource,
) -> Result<ShardCondition, String> {
    let what = format!("shard '{shard_id}' consumes data source shards by attribute '{key}'");
    let Some(&Sharder::Hash { number_of_shards }) = source.sharders.get(key) else {
        return Err(format!("{what}, which the data source does not shard by hash"));
    };
    let residues = coordinates.into_iter().map(|coordinate| u32::try_from(coordinate).ok());
    let residues: BTreeSet<u32> = residues
        .map(|residue| residue.filter(|&residue| residue < number_of_shards))
        .collect::<Option<_>>()
        .ok_or_else(|| format!("{what}, but it has only {number_of_shards}"))?;
    match condition {
        None => Ok(ShardCondition::Hash { number_of_shards, residues }),
        Some(ShardCondition::Hash { number_of_shards: n, residues: own }) => {
            let modulus = lcm(number_of_shards, *n).filter(|&modulus| modulus <= limits::HASH_SHARDS);
            let modulus = modulus.ok_or_else(|| {
                format!("{what} modulo {number_of_shards} and is restricted modulo {n}; together they are too fine")
            })?;
            let both = |residue: &u32| residues.contains(&(residue % number_of_shards)) && own.contains(&(residue % n));
            Ok(ShardCondition::Hash { number_of_shards: modulus, residues: (0..modulus).filter(both).collect() })
        }
        Some(ShardCondition::Values(values)) => {
            let hash = ShardCondition::Hash { number_of_shards, residues };
            Ok(ShardCondition::Values(values.iter().filter(|value| hash.contains(value)).cloned().collect()))
        }
        Some(ShardCondition::Complement(_)) => Err(format!("{what} and excludes values of it; use one of the two")),
    }
}

fn lcm(a: u32, b: u32) -> Option<u32> {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a.checked_div(x)?.checked_mul(b)
}

/// The type that a name such as `Int64` means, in any case.
pub fn attribute_type(name: &str) -> Option<AttributeType> {
    let types = [
        AttributeType::Bool,
        AttributeType::Int64,
        AttributeType::Float64,
        AttributeType::String,
        AttributeType::Uuid,
        AttributeType::DateTime,
    ];
    types.into_iter().find(|attribute_type| attribute_type.to_string().eq_ignore_ascii_case(name))
}

fn parse_values(
    what: &str,
    attribute_type: Option<AttributeType>,
    texts: &[String],
) -> Result<Vec<AttributeValue>, String> {
    let attribute_type = attribute_type.ok_or_else(|| format!("{what} is on an attribute without a type"))?;
    let parse = |text: &String| {
        let json = match (attribute_type, text.to_ascii_lowercase().as_str()) {
            (AttributeType::Bool, "true") => serde_json::Value::Bool(true),
            (AttributeType::Bool, "false") => serde_json::Value::Bool(false),
            _ => serde_json::Value::String(text.clone()),
        };
        let value = WireAttributeValue::from_plain(&json, attribute_type).and_then(|value| value.typed(attribute_type));
        value.ok_or_else(|| format!("{what} lists '{text}', which is not of type {attribute_type}"))
    };
    texts.iter().map(parse).collect()
}

#[cfg(test)]
mod tests;
