//! The definition of a data source.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::attribute::{AttributeType, AttributeValue};
use crate::error::ValidationError;
use crate::ids::DataSourceId;
use crate::limits;
use crate::policy::SourcePolicy;
use crate::vector::{SparseVector, Vector, VectorKind};

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
    /// What it does by itself.
    #[serde(default, skip_serializing_if = "SourcePolicy::is_empty")]
    pub policy: SourcePolicy,
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
    /// The vector of zeros: for what is asked like a search and needs no query.
    pub fn zero_vector(&self) -> Vector {
        match self.vector_kind {
            VectorKind::Dense => Vector::Dense(vec![0.0; self.vector_dimension as usize]),
            // An explicit zero counts as absent in every score, and a sparse vector must have a coordinate.
            VectorKind::Sparse => Vector::Sparse(SparseVector { indices: vec![0], values: vec![0.0] }),
        }
    }

    /// Checks the definition: limits, non-empty permanent attributes, every attribute in use typed.
    ///
    /// # Errors
    /// Every message that applies.
    pub fn validate(&self) -> Result<(), ValidationError> {
        self.id.validate()?;
        let mut messages = Vec::new();
        self.check_dimension(&mut messages);
        self.check_attributes(&mut messages);
        self.check_sharders(&mut messages);
        self.policy.check(self, &mut messages);
        ValidationError::from_messages(messages)
    }

    fn check_dimension(&self, messages: &mut Vec<String>) {
        let most = match self.vector_kind {
            VectorKind::Dense => limits::DENSE_DIMENSION,
            VectorKind::Sparse => limits::SPARSE_DIMENSION,
        };
        if !(1..=most).contains(&self.vector_dimension) {
            messages.push(format!("vectorDimension is {}; it must be 1 to {most}", self.vector_dimension));
        }
    }

    fn check_attributes(&self, messages: &mut Vec<String>) {
        if self.attribute_types.len() > limits::ATTRIBUTES {
            messages.push(format!(
                "{} attributes are defined; at most {} are allowed",
                self.attribute_types.len(),
                limits::ATTRIBUTES
            ));
        }
        messages.extend(self.attribute_types.keys().filter_map(|key| attribute_key_problem(key)));
        if self.permanent_attributes.is_empty() {
            messages.push("permanentAttributes is empty; name the attributes that identify a point".to_owned());
        }
        self.check_typed("permanentAttributes", &self.permanent_attributes, messages);
    }

    fn check_sharders(&self, messages: &mut Vec<String>) {
        for (key, sharder) in &self.sharders {
            if !self.permanent_attributes.contains(key) {
                messages.push(format!("sharder attribute '{key}' is not a permanent attribute"));
            }
            let Some(&attribute_type) = self.attribute_types.get(key) else {
                messages.push(format!("sharder attribute '{key}' has no type"));
                continue;
            };
            match sharder {
                Sharder::Hash { number_of_shards } => {
                    if !(1..=limits::HASH_SHARDS).contains(number_of_shards) {
                        messages.push(format!(
                            "sharder of '{key}' has {number_of_shards} shards; it must have 1 to {}",
                            limits::HASH_SHARDS
                        ));
                    }
                }
                Sharder::Values { possible_values } => {
                    check_values(&format!("sharder of '{key}'"), attribute_type, possible_values, messages);
                }
            }
        }
    }

    /// Adds a message for each attribute that the data source gives no type.
    pub(crate) fn check_typed(&self, what: &str, keys: &BTreeSet<String>, messages: &mut Vec<String>) {
        let untyped = keys.iter().filter(|key| !self.attribute_types.contains_key(*key));
        messages.extend(untyped.map(|key| format!("{what} names '{key}', which the data source gives no type")));
    }
}

/// Adds a message unless `values` is a non-empty, duplicate-free list of acceptable values of the type.
pub(crate) fn check_values(
    what: &str,
    attribute_type: AttributeType,
    values: &[AttributeValue],
    messages: &mut Vec<String>,
) {
    if values.is_empty() {
        messages.push(format!("{what} lists no value"));
    }
    if values.len() > limits::SHARD_VALUES {
        messages.push(format!("{what} lists {} values; at most {} are allowed", values.len(), limits::SHARD_VALUES));
        return;
    }
    let mut seen = BTreeSet::new();
    for value in values {
        if value.attribute_type() != attribute_type {
            messages.push(format!("{what} lists '{value}', which is not of type {attribute_type}"));
        } else if let Some(problem) = value.problem() {
            messages.push(format!("{what} lists a value that cannot occur: {problem}"));
        } else {
            let mut bytes = Vec::new();
            crate::key::encode_value(value, &mut bytes);
            if !seen.insert(bytes) {
                messages.push(format!("{what} lists '{value}' more than once"));
            }
        }
    }
}

fn attribute_key_problem(key: &str) -> Option<String> {
    if key.trim().is_empty() {
        return Some("an attribute key is empty or whitespace".to_owned());
    }
    if key.len() > limits::ATTRIBUTE_KEY_BYTES {
        let start: String = key.chars().take(32).collect();
        return Some(format!(
            "attribute key '{start}…' is {} bytes long; at most {} are allowed",
            key.len(),
            limits::ATTRIBUTE_KEY_BYTES
        ));
    }
    key.chars().any(char::is_control).then(|| format!("attribute key {key:?} must not hold control characters"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    fn valid() -> DataSource {
        let mut source = fixtures::source(&[("id", AttributeType::Int64), ("tag", AttributeType::String)], &["id"]);
        source.sharders.insert("id".into(), Sharder::Hash { number_of_shards: 3 });
        source
    }

    fn messages(change: impl FnOnce(&mut DataSource)) -> Vec<String> {
        let mut source = valid();
        change(&mut source);
        source.validate().expect_err("refused").messages
    }

    #[test]
    fn a_good_definition_is_accepted_and_survives_json() {
        let source = valid();
        source.validate().expect("valid");
        let json = serde_json::to_string(&source).expect("serializes");
        assert_eq!(serde_json::from_str::<DataSource>(&json).expect("parses"), source);
    }

    #[test]
    fn permanent_attributes_are_needed_and_typed() {
        assert_eq!(
            messages(|s| {
                s.sharders.clear();
                s.permanent_attributes.clear();
            }),
            ["permanentAttributes is empty; name the attributes that identify a point"]
        );
        assert_eq!(
            messages(|s| s.permanent_attributes.extend(["x".into()])),
            ["permanentAttributes names 'x', which the data source gives no type"]
        );
    }

    #[test]
    fn dimensions_have_bounds() {
        assert_eq!(messages(|s| s.vector_dimension = 0), ["vectorDimension is 0; it must be 1 to 16384"]);
        assert_eq!(messages(|s| s.vector_dimension = 16_385), ["vectorDimension is 16385; it must be 1 to 16384"]);
        let mut sparse = valid();
        sparse.vector_kind = VectorKind::Sparse;
        sparse.vector_dimension = limits::SPARSE_DIMENSION;
        sparse.validate().expect("valid");
    }

    #[test]
    fn attribute_keys_have_bounds() {
        let with = |key: &str| messages(|s| s.attribute_types.extend([(key.into(), AttributeType::Bool)])).join(";");
        assert!(with(" \t").contains("empty or whitespace"));
        assert!(with(&"k".repeat(129)).contains("129 bytes long"));
        assert!(with("a\0b").contains("control characters"));
        let many = messages(|s| {
            s.attribute_types.extend((0..limits::ATTRIBUTES).map(|i| (format!("a{i}"), AttributeType::Bool)));
        });
        assert_eq!(many, ["130 attributes are defined; at most 128 are allowed"]);
    }

    #[test]
    fn sharders_are_on_typed_permanent_attributes_with_values_of_the_type() {
        let with = |key: &str, sharder| messages(|s| s.sharders.extend([(key.into(), sharder)]));
        let hash = |number_of_shards| Sharder::Hash { number_of_shards };
        let values = |possible_values| Sharder::Values { possible_values };
        assert_eq!(with("tag", hash(1)), ["sharder attribute 'tag' is not a permanent attribute"]);
        assert_eq!(
            with("x", hash(1)),
            ["sharder attribute 'x' is not a permanent attribute", "sharder attribute 'x' has no type"]
        );
        assert_eq!(with("id", hash(0)), ["sharder of 'id' has 0 shards; it must have 1 to 65535"]);
        assert_eq!(with("id", values(vec![])), ["sharder of 'id' lists no value"]);
        assert_eq!(
            with("id", values(vec![AttributeValue::Bool(true)])),
            ["sharder of 'id' lists 'True', which is not of type Int64"]
        );
        assert_eq!(
            with("id", values(vec![AttributeValue::Int64(1), AttributeValue::Int64(1)])),
            ["sharder of 'id' lists '1' more than once"]
        );
    }
}
