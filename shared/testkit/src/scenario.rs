//! A data source with indices over it, and random points for it: what the random operations are about.
//!
//! Small on purpose: few keys, so that updates meet; vectors on a coarse grid, so that distances tie and most of them are exact
//! in single precision. One scenario alone is large: a search uses a graph only where that is cheaper than a scan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::Rng;
use rand::rngs::SmallRng;
use tarn_model::{
    AttributeType, AttributeValue, Attributes, DataPoint, DataSource, DataSourceId, HnswParams, Index, IndexAlgorithm,
    IndexId, Metric, Retention, Shard, ShardCondition, SparseVector, Update, Vector, VectorKind,
};
use uuid::Uuid;

/// Coordinates of a dense vector.
const DENSE_DIMENSION: u32 = 8;
/// Coordinates of a sparse vector, most of which are absent.
const SPARSE_DIMENSION: u32 = 40;
/// Keys that are usual; a few points stray from them.
const KEYS: i64 = 400;
/// Keys of the large scenario: nearly all of them are live, and a graph of so many rows is cheaper than a scan.
const MANY_KEYS: i64 = 9_000;
/// How often the coordinates are repeated in the large scenario. It makes scans dear and leaves the order of distances alone.
const REPEATS: u32 = 16;
/// Splits; the first one holds most points.
const SPLITS: [&str; 5] = ["s0", "s1", "s2", "s3", "s4"];
/// Regions.
const REGIONS: i64 = 4;
/// Values of the attribute `colour`.
const COLOURS: [&str; 5] = ["red", "reddish", "green", "", "blau ü"];

/// A data source and its indices.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The data source.
    pub source: Arc<DataSource>,
    /// Over it.
    pub indices: Vec<Arc<Index>>,
    /// Usual keys.
    keys: i64,
    /// Whether points are to expire while steps are performed.
    pub(crate) perishes: bool,
}

impl Scenario {
    /// Dense vectors; exact and graph indices of all three dense metrics.
    pub fn dense() -> Self {
        let source = source(VectorKind::Dense, DENSE_DIMENSION);
        let hash = |residues: &[u32]| condition("region", hash(3, residues));
        let red = || vec![AttributeValue::String("s0".into()), AttributeValue::String("s1".into())];
        let by_split = BTreeMap::from([
            ("rest".to_owned(), condition("split", ShardCondition::Complement(red()))),
            ("usual".to_owned(), condition("split", ShardCondition::Values(red()))),
        ]);
        let some = BTreeMap::from([("only".to_owned(), condition("split", ShardCondition::Values(red())))]);
        let by_region = BTreeMap::from([("0".to_owned(), hash(&[0, 1])), ("1".to_owned(), hash(&[2]))]);
        let one = Index::single_shard;
        let indices = vec![
            index(&source, "exact-l2", Metric::L2, false, &["split"], one()),
            index(&source, "exact-ip", Metric::InnerProduct, false, &["region", "split"], by_region),
            index(&source, "exact-cosine", Metric::Cosine, false, &[], by_split),
            index(&source, "graph-l2", Metric::L2, true, &["split"], one()),
            index(&source, "graph-ip", Metric::InnerProduct, true, &[], one()),
            index(&source, "graph-cosine-some", Metric::Cosine, true, &["region"], some),
        ];
        Self { source, indices, keys: KEYS, perishes: false }
    }

    /// Dense vectors, so many and so long that searches use graphs; two graph indices and an exact one. Meant to begin with
    /// [`Self::everything`].
    pub fn dense_large() -> Self {
        let source = source(VectorKind::Dense, DENSE_DIMENSION * REPEATS);
        let one = Index::single_shard;
        let indices = vec![
            sparsely_linked(index(&source, "graph-l2", Metric::L2, true, &[], one())),
            sparsely_linked(index(&source, "graph-cosine", Metric::Cosine, true, &[], one())),
            index(&source, "exact-l2", Metric::L2, false, &["split"], one()),
        ];
        Self { source, indices, keys: MANY_KEYS, perishes: false }
    }

    /// Sparse vectors; both sparse metrics.
    pub fn sparse() -> Self {
        let source = source(VectorKind::Sparse, SPARSE_DIMENSION);
        let by_id = |residues: &[u32]| condition("id", hash(2, residues));
        let shards = BTreeMap::from([("0".to_owned(), by_id(&[0])), ("1".to_owned(), by_id(&[1]))]);
        let one = Index::single_shard;
        let indices = vec![
            index(&source, "cosine", Metric::SparseCosine, false, &["split"], one()),
            index(&source, "jaccard", Metric::SparseJaccard, false, &["region"], shards.clone()),
            index(&source, "cosine-whole", Metric::SparseCosine, false, &[], shards),
            index(&source, "jaccard-whole", Metric::SparseJaccard, false, &[], one()),
        ];
        Self { source, indices, keys: KEYS, perishes: false }
    }

    /// The same with points that expire at their attribute `at`, which counts from when the world begins; and with a soft cap.
    #[must_use]
    pub fn perishing(mut self, cap: u64) -> Self {
        let retention = Retention { attribute: "at".to_owned(), keep_seconds: Some(0), target_points: Some(cap) };
        Arc::make_mut(&mut self.source).policy.retention = Some(retention);
        self.perishes = true;
        self
    }

    /// The world begins now, in seconds since 1970.
    #[must_use]
    pub fn beginning(mut self, now: u64) -> Self {
        if let Some(retention) = &mut Arc::make_mut(&mut self.source).policy.retention {
            retention.keep_seconds = Some(now);
        }
        self
    }

    /// How many points there are, as a rule.
    pub fn usual_points(&self) -> usize {
        usize::try_from(self.keys).unwrap_or(usize::MAX)
    }

    /// One point for every usual key, in order; their serials are negative, so that no drawn point is like one of them.
    pub fn everything(&self, rng: &mut SmallRng) -> Vec<Update> {
        let point = |id| {
            let mut point = self.point(rng, -1 - id);
            point.attributes.extend(Self::usual(id));
            Update::Upsert(point)
        };
        (0..self.keys).map(point).collect()
    }

    /// A random point; `serial` makes it unlike all others.
    pub fn point(&self, rng: &mut SmallRng, serial: i64) -> DataPoint {
        let mut attributes = self.permanent(rng);
        let colour = COLOURS[rng.random_range(0..COLOURS.len())];
        attributes.extend(
            [
                ("colour", AttributeValue::String(colour.to_owned())),
                ("price", AttributeValue::Float64(f64::from(rng.random_range(-8..8)) / 4.0)),
                ("flag", AttributeValue::Bool(rng.random())),
                ("at", AttributeValue::DateTime(rng.random_range(-3..3) * 86_400_000_000)),
                ("guid", AttributeValue::Uuid(Uuid::from_u128(rng.random_range(0..6)))),
                ("serial", AttributeValue::Int64(serial)),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        DataPoint { attributes, vector: self.vector(rng) }
    }

    /// A random tombstone.
    pub fn tombstone(&self, rng: &mut SmallRng) -> Update {
        Update::Delete(self.permanent(rng))
    }

    /// A random vector; now and then zero.
    pub fn vector(&self, rng: &mut SmallRng) -> Vector {
        let zero = rng.random_ratio(1, 40);
        let mut coordinate = |limit: i16| if zero { 0.0 } else { f32::from(rng.random_range(-limit..=limit)) / 4.0 };
        match self.source.vector_kind {
            VectorKind::Dense => {
                let few: Vec<f32> = (0..DENSE_DIMENSION).map(|_| coordinate(8)).collect();
                Vector::Dense(few.into_iter().cycle().take(self.source.vector_dimension as usize).collect())
            }
            VectorKind::Sparse => {
                let values: Vec<f64> = (0..8).map(|_| f64::from(coordinate(3))).collect();
                let count = rng.random_range(1..=values.len());
                let indices: BTreeSet<u32> = (0..count).map(|_| rng.random_range(0..SPARSE_DIMENSION)).collect();
                Vector::Sparse(SparseVector::from_pairs(indices.into_iter().zip(values)))
            }
        }
    }

    /// A value that an attribute often has.
    pub fn value(&self, rng: &mut SmallRng, key: &str) -> AttributeValue {
        // Serials of live points are many; a small one splits them unevenly, which is as good as any.
        let point = self.point(rng, 200);
        point.attributes.get(key).cloned().unwrap_or(AttributeValue::Int64(0))
    }

    /// Attributes that may identify a point.
    pub(crate) fn permanent(&self, rng: &mut SmallRng) -> Attributes {
        let id = rng.random_range(0..self.keys);
        let stray = rng.random_ratio(1, 20);
        if stray {
            return key(id, rng.random_range(0..SPLITS.len()), rng.random_range(0..REGIONS));
        }
        Self::usual(id)
    }

    /// The permanent attributes that an id usually has.
    fn usual(id: i64) -> Attributes {
        let split = if id % 10 < 6 { 0 } else { usize::try_from(id % 5).unwrap_or(0) };
        key(id, split, id % REGIONS)
    }
}

fn key(id: i64, split: usize, region: i64) -> Attributes {
    let values = [
        ("id", AttributeValue::Int64(id)),
        ("split", AttributeValue::String(SPLITS[split].to_owned())),
        ("region", AttributeValue::Int64(region)),
    ];
    values.map(|(key, value)| (key.to_owned(), value)).into()
}

fn source(vector_kind: VectorKind, vector_dimension: u32) -> Arc<DataSource> {
    let types = [
        ("id", AttributeType::Int64),
        ("split", AttributeType::String),
        ("region", AttributeType::Int64),
        ("colour", AttributeType::String),
        ("price", AttributeType::Float64),
        ("flag", AttributeType::Bool),
        ("at", AttributeType::DateTime),
        ("guid", AttributeType::Uuid),
        ("serial", AttributeType::Int64),
    ];
    Arc::new(DataSource {
        id: DataSourceId { name: "Points ü/1".into(), version: "1.10".into() },
        vector_dimension,
        vector_kind,
        attribute_types: types.map(|(key, attribute_type)| (key.to_owned(), attribute_type)).into(),
        permanent_attributes: ["id", "split", "region"].map(str::to_owned).into(),
        sharders: BTreeMap::new(),
        policy: Default::default(),
    })
}

fn index(
    source: &DataSource,
    name: &str,
    metric: Metric,
    graph: bool,
    splits: &[&str],
    shards: BTreeMap<String, Shard>,
) -> Arc<Index> {
    let hnsw = graph.then_some(HnswParams { m: 16, ef_construction: 100, ef_search: 16 });
    Arc::new(Index {
        id: IndexId { name: name.to_owned(), version: "1".into() },
        data_source: source.id.clone(),
        algorithm: IndexAlgorithm { metric, hnsw },
        id_attributes: ["id", "region"].map(str::to_owned).into(),
        split_attributes: splits.iter().map(|&key| key.to_owned()).collect(),
        shards,
    })
}

/// With so few links that a graph misses some neighbours: the planner has to choose the effort, and an answer that misses
/// one shows that a graph was asked.
fn sparsely_linked(index: Arc<Index>) -> Arc<Index> {
    let mut index = Arc::unwrap_or_clone(index);
    index.algorithm.hnsw = Some(HnswParams { m: 4, ef_construction: 20, ef_search: 4 });
    Arc::new(index)
}

fn hash(number_of_shards: u32, residues: &[u32]) -> ShardCondition {
    ShardCondition::Hash { number_of_shards, residues: residues.iter().copied().collect() }
}

fn condition(key: &str, condition: ShardCondition) -> Shard {
    Shard { conditions: BTreeMap::from([(key.to_owned(), condition)]) }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn scenarios_are_valid_and_their_points_fit() {
        let mut rng = SmallRng::seed_from_u64(1);
        for scenario in [Scenario::dense(), Scenario::dense_large(), Scenario::sparse()] {
            scenario.source.validate().expect("a valid data source");
            for index in &scenario.indices {
                index.validate(&scenario.source).expect("a valid index");
            }
            for serial in 0..500 {
                let update = Update::Upsert(scenario.point(&mut rng, serial));
                tarn_model::check_update(&scenario.source, &update).expect("a valid point");
                tarn_model::check_update(&scenario.source, &scenario.tombstone(&mut rng)).expect("a valid tombstone");
            }
            for update in scenario.everything(&mut rng) {
                tarn_model::check_update(&scenario.source, &update).expect("a valid point");
            }
        }
    }
}
