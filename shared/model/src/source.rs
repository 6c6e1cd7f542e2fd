//! The definition of a data source.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::attribute::{AttributeType, AttributeValue};
use crate::error::ValidationError;
use crate::ids::DataSourceId;
use crate::vector::VectorKind;

/// A named, versioned timeline of updates: what its vectors and attributes are. Immutable after creation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataSource {
    /// Name and version.
    pub id: DataSourceId,
    /// Dense: the number of coordinates. Sparse: indices are below it.
    pub vector_dimension: u32,
    /// Dense or sparse.
    pub vector_kind: VectorKind,
    /// Every attribute that a point has, with its type.
    pub attribute_types: BTreeMap<String, AttributeType>,
    /// The attributes that identify a point; a subset of `attribute_types`, not empty.
    pub permanent_attributes: BTreeSet<String>,
    /// Which values of an attribute the data source accepts. Vektonn's sharders.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sharders: BTreeMap<String, Sharder>,
}

/// How Vektonn's data sources distribute points by one attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Sharder {
    /// `farmhash64(bytes) mod number_of_shards`; accepts every value.
    #[serde(rename_all = "camelCase")]
    Hash {
        /// At least 1.
        number_of_shards: u32,
    },
    /// One shard per listed value; any other value is refused at upload.
    #[serde(rename_all = "camelCase")]
    Values {
        /// The accepted values, unique.
        possible_values: Vec<AttributeValue>,
    },
}

impl DataSource {
    /// Checks the definition: limits, non-empty permanent attributes, every attribute in use typed.
    ///
    /// # Errors
    /// Every message that applies.
    pub fn validate(&self) -> Result<(), ValidationError> {
        todo!()
    }
}
