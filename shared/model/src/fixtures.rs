//! Definitions and values for this crate's own tests.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use crate::attribute::{AttributeType, AttributeValue};
use crate::ids::{DataSourceId, IndexId};
use crate::index::{Index, IndexAlgorithm, Metric, Shard, ShardCondition};
use crate::source::DataSource;
use crate::vector::VectorKind;

/// A dense data source of dimension 2.
pub(crate) fn source(attributes: &[(&str, AttributeType)], permanent: &[&str]) -> DataSource {
    DataSource {
        id: DataSourceId { name: "source".into(), version: "1.0".into() },
        vector_dimension: 2,
        vector_kind: VectorKind::Dense,
        attribute_types: attributes.iter().map(|&(name, t)| (name.to_owned(), t)).collect(),
        permanent_attributes: permanent.iter().map(|&name| name.to_owned()).collect(),
        sharders: Default::default(),
        policy: Default::default(),
    }
}

/// An exact, unsharded L2 index.
pub(crate) fn index(source: &DataSource, ids: &[&str], splits: &[&str]) -> Index {
    Index {
        id: IndexId { name: "index".into(), version: "1.0".into() },
        data_source: source.id.clone(),
        algorithm: IndexAlgorithm { metric: Metric::L2, hnsw: None },
        id_attributes: ids.iter().map(|&key| key.to_owned()).collect(),
        split_attributes: splits.iter().map(|&key| key.to_owned()).collect(),
        shards: Index::single_shard(),
    }
}

/// Shards from (shard id, attribute, condition).
pub(crate) fn shards<const N: usize>(conditions: [(&str, &str, ShardCondition); N]) -> BTreeMap<String, Shard> {
    let mut shards = BTreeMap::<String, Shard>::new();
    for (id, key, condition) in conditions {
        shards.entry(id.to_owned()).or_default().conditions.insert(key.to_owned(), condition);
    }
    shards
}

/// Values of one type, small ones and edges often.
pub(crate) fn value_of(attribute_type: AttributeType) -> BoxedStrategy<AttributeValue> {
    let integers = prop_oneof![any::<i64>(), -3..3i64, Just(i64::MIN), Just(i64::MAX)];
    match attribute_type {
        AttributeType::Bool => any::<bool>().prop_map(AttributeValue::Bool).boxed(),
        AttributeType::Int64 => integers.prop_map(AttributeValue::Int64).boxed(),
        AttributeType::DateTime => integers.prop_map(AttributeValue::DateTime).boxed(),
        AttributeType::Float64 => {
            let finite = any::<f64>().prop_filter("finite", |value| value.is_finite());
            let edges = prop_oneof![Just(0.0), Just(f64::MIN), Just(f64::MAX), Just(f64::MIN_POSITIVE), -2.0..2.0];
            prop_oneof![finite, edges].prop_map(|value| AttributeValue::Float64(value + 0.0)).boxed()
        }
        AttributeType::String => {
            prop_oneof!["[ab\u{0}\u{1}\u{ff}]{0,4}", any::<String>()].prop_map(AttributeValue::String).boxed()
        }
        AttributeType::Uuid => {
            prop_oneof![any::<u128>(), 0..3u128].prop_map(|v| AttributeValue::Uuid(Uuid::from_u128(v))).boxed()
        }
    }
}

/// Values of any type.
pub(crate) fn any_value() -> impl Strategy<Value = AttributeValue> {
    prop_oneof![
        value_of(AttributeType::Bool),
        value_of(AttributeType::Int64),
        value_of(AttributeType::Float64),
        value_of(AttributeType::String),
        value_of(AttributeType::Uuid),
        value_of(AttributeType::DateTime),
    ]
}
