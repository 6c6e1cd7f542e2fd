//! Data sources, updates and stores for the tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tarn_model::{
    AttributeType, AttributeValue, Attributes, DataPoint, DataSource, DataSourceId, SparseVector, Update, Vector,
    VectorKind, datetime,
};
use tarn_timeline::PointBatch;
use ulid::Ulid;
use uuid::Uuid;

pub(crate) const TYPES: [AttributeType; 6] = [
    AttributeType::Bool,
    AttributeType::Int64,
    AttributeType::Float64,
    AttributeType::String,
    AttributeType::Uuid,
    AttributeType::DateTime,
];

pub(crate) fn source(
    kind: VectorKind,
    dimension: u32,
    attributes: &[(&str, AttributeType)],
    permanent: &[&str],
) -> Arc<DataSource> {
    let source = DataSource {
        id: DataSourceId::new("Films & more", "1.10").expect("valid"),
        vector_dimension: dimension,
        vector_kind: kind,
        attribute_types: attributes.iter().map(|&(name, t)| (name.to_owned(), t)).collect(),
        permanent_attributes: permanent.iter().map(|&name| name.to_owned()).collect(),
        sharders: BTreeMap::new(),
        policy: Default::default(),
    };
    source.validate().expect("valid source");
    Arc::new(source)
}

/// Dense, dimension 4, an attribute of each type; `id` identifies.
pub(crate) fn dense_source() -> Arc<DataSource> {
    every_type(VectorKind::Dense, 4)
}

/// Sparse, dimension 1000, an attribute of each type; `id` identifies.
pub(crate) fn sparse_source() -> Arc<DataSource> {
    every_type(VectorKind::Sparse, 1000)
}

fn every_type(kind: VectorKind, dimension: u32) -> Arc<DataSource> {
    let attributes = [
        ("_odd", AttributeType::Bool),
        ("id", AttributeType::Int64),
        ("price", AttributeType::Float64),
        ("ref", AttributeType::Uuid),
        ("title", AttributeType::String),
        ("when", AttributeType::DateTime),
    ];
    source(kind, dimension, &attributes, &["id"])
}

pub(crate) fn upsert(source: &DataSource, id: i64, x: f32) -> Update {
    let value = |(name, attribute_type): (&String, &AttributeType)| {
        let value = match attribute_type {
            AttributeType::Bool => AttributeValue::Bool(id % 2 != 0),
            AttributeType::Int64 => AttributeValue::Int64(id),
            AttributeType::Float64 => AttributeValue::Float64(f64::from(x) * 1.5),
            AttributeType::String => AttributeValue::String(format!("Film №{id}")),
            AttributeType::Uuid => AttributeValue::Uuid(Uuid::from_u128(id.cast_unsigned().into())),
            AttributeType::DateTime => AttributeValue::DateTime(1_700_000_000_000_000 + id),
        };
        (name.clone(), value)
    };
    let vector = match source.vector_kind {
        VectorKind::Dense => Vector::Dense((0..source.vector_dimension).map(|i| x + i as f32).collect()),
        VectorKind::Sparse => {
            Vector::Sparse(SparseVector { indices: vec![0, 7, 900], values: vec![f64::from(x), 0.0, -2.5] })
        }
    };
    Update::Upsert(DataPoint { attributes: source.attribute_types.iter().map(value).collect(), vector })
}

/// A tombstone of the point that `upsert` writes under the same id.
pub(crate) fn delete(id: i64) -> Update {
    Update::Delete(Attributes::from([("id".to_owned(), AttributeValue::Int64(id))]))
}

pub(crate) fn batch(source: &Arc<DataSource>, updates: &[Update]) -> PointBatch {
    PointBatch::from_updates(Arc::clone(source), updates).expect("valid updates")
}

/// One upsert per id.
pub(crate) fn points(source: &Arc<DataSource>, ids: impl IntoIterator<Item = i64>) -> PointBatch {
    let updates: Vec<Update> = ids.into_iter().map(|id| upsert(source, id, id as f32)).collect();
    batch(source, &updates)
}

pub(crate) fn updates(batch: &PointBatch) -> Vec<Update> {
    (0..batch.rows()).filter_map(|row| batch.update(row)).collect()
}

pub(crate) fn id(n: u128) -> Ulid {
    Ulid::from(n)
}

/// Any data source with a few attributes.
pub(crate) fn any_source() -> impl Strategy<Value = Arc<DataSource>> {
    let attributes =
        proptest::collection::btree_map("_{0,2}[a-z]{1,3}", proptest::sample::select(TYPES.as_slice()), 1..6);
    let kind = prop_oneof![Just(VectorKind::Dense), Just(VectorKind::Sparse)];
    (attributes, kind, 1_u32..9, any::<u64>()).prop_map(|(attributes, kind, dimension, pick)| {
        let permanent = attributes.keys().enumerate().filter(|(at, _)| *at == 0 || pick >> at & 1 == 1);
        let permanent = permanent.map(|(_, name)| name.clone()).collect();
        Arc::new(DataSource {
            id: DataSourceId::new("s", "1").expect("valid"),
            vector_dimension: dimension,
            vector_kind: kind,
            attribute_types: attributes,
            permanent_attributes: permanent,
            sharders: BTreeMap::new(),
            policy: Default::default(),
        })
    })
}

fn any_value(attribute_type: AttributeType) -> BoxedStrategy<AttributeValue> {
    match attribute_type {
        AttributeType::Bool => any::<bool>().prop_map(AttributeValue::Bool).boxed(),
        AttributeType::Int64 => prop_oneof![any::<i64>(), 0..3i64].prop_map(AttributeValue::Int64).boxed(),
        AttributeType::Float64 => {
            let finite = any::<f64>().prop_filter("finite", |value| value.is_finite());
            finite.prop_map(|value| AttributeValue::Float64(value + 0.0)).boxed()
        }
        AttributeType::String => prop_oneof!["[ab\u{0}]{0,2}", ".{0,9}"].prop_map(AttributeValue::String).boxed(),
        AttributeType::Uuid => any::<u128>().prop_map(|n| AttributeValue::Uuid(Uuid::from_u128(n))).boxed(),
        AttributeType::DateTime => (datetime::MIN..=datetime::MAX).prop_map(AttributeValue::DateTime).boxed(),
    }
}

/// A valid update of a data source. Tombstones carry their permanent attributes alone, as they come back.
pub(crate) fn any_update(source: Arc<DataSource>) -> impl Strategy<Value = Update> {
    let attributes: Vec<_> =
        source.attribute_types.iter().map(|(name, &t)| (Just(name.clone()), any_value(t))).collect();
    let dimension = source.vector_dimension;
    let vector = match source.vector_kind {
        VectorKind::Dense => {
            proptest::collection::vec(-1e6_f32..1e6, dimension as usize).prop_map(Vector::Dense).boxed()
        }
        VectorKind::Sparse => proptest::collection::btree_map(0..dimension, -1e6_f64..1e6, 1..=dimension as usize)
            .prop_map(|pairs| {
                let (indices, values) = pairs.into_iter().unzip();
                Vector::Sparse(SparseVector { indices, values })
            })
            .boxed(),
    };
    (attributes, vector, proptest::bool::weighted(0.3)).prop_map(move |(attributes, vector, deleted)| {
        let mut attributes: Attributes = attributes.into_iter().collect();
        if deleted {
            attributes.retain(|name, _| source.permanent_attributes.contains(name));
            return Update::Delete(attributes);
        }
        Update::Upsert(DataPoint { attributes, vector })
    })
}

/// A data source and updates of it.
pub(crate) fn any_updates(most: usize) -> impl Strategy<Value = (Arc<DataSource>, Vec<Update>)> {
    any_source().prop_flat_map(move |source| {
        let updates = proptest::collection::vec(any_update(Arc::clone(&source)), 0..=most);
        (Just(source), updates)
    })
}
