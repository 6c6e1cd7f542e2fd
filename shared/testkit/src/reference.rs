//! The reference model: every version of every point in a `BTreeMap`, and an exact scan.
//!
//! It is the specification of what a search must answer, written so plainly that it is right by reading. It keeps history, so
//! that an answer can be judged at the version that it claims to show. It knows nothing of segments, deltas or stores.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use tarn_model::{
    Attributes, DataPoint, DataSource, Filter, Index, Metric, PointKey, SparseVector, Update, ValidationError, Vector,
};

/// Everything that has ever been in a data source.
#[derive(Clone, Debug)]
pub struct Reference {
    source: Arc<DataSource>,
    head: u64,
    versions: BTreeMap<PointKey, Vec<Version>>,
}

#[derive(Clone, Debug)]
struct Version {
    since: u64,
    point: Option<Arc<DataPoint>>,
}

/// What a search is restricted to.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Values of some split attributes.
    pub split_filter: Attributes,
    /// A filter over any attributes.
    pub filter: Option<Filter>,
}

/// A point and how far it is from a query.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// The point's key, which breaks ties.
    pub key: PointKey,
    /// The point.
    pub point: Arc<DataPoint>,
    /// By [`distance`].
    pub distance: f64,
}

impl Reference {
    /// An empty data source.
    pub fn new(source: Arc<DataSource>) -> Self {
        Self { source, head: 0, versions: BTreeMap::new() }
    }

    /// The data source.
    pub fn source(&self) -> &Arc<DataSource> {
        &self.source
    }

    /// The last sequence that was applied.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Applies the updates of the next sequence, in order; the last update of a key wins.
    ///
    /// # Errors
    /// An update without a proper key.
    pub fn apply(&mut self, updates: &[Update]) -> Result<(), ValidationError> {
        self.head += 1;
        for update in updates {
            let (key, point) = match update {
                Update::Upsert(point) => (PointKey::encode(&self.source, &point.attributes)?, Some(point.clone())),
                Update::Delete(attributes) => (PointKey::encode(&self.source, attributes)?, None),
            };
            self.versions.entry(key).or_default().push(Version { since: self.head, point: point.map(Arc::new) });
        }
        Ok(())
    }

    /// The last sequence, up to `sequence`, that has written a point.
    pub fn written_at(&self, key: &PointKey, sequence: u64) -> Option<u64> {
        let versions = self.versions.get(key)?;
        versions.iter().map(|version| version.since).rfind(|since| *since <= sequence)
    }

    /// The points that are live once a sequence has been applied, by key.
    pub fn live_at(&self, sequence: u64) -> impl Iterator<Item = (&PointKey, &Arc<DataPoint>)> {
        self.versions.iter().filter_map(move |(key, versions)| {
            let current = versions.iter().rev().find(|version| version.since <= sequence)?;
            Some((key, current.point.as_ref()?))
        })
    }

    /// The points that an index holds once a sequence has been applied and that are in the scope, by key.
    pub fn indexed_at<'a>(
        &'a self,
        index: &'a Index,
        sequence: u64,
        scope: &'a Scope,
    ) -> impl Iterator<Item = (&'a PointKey, &'a Arc<DataPoint>)> {
        self.live_at(sequence).filter(move |(_, point)| {
            let in_split = scope.split_filter.iter().all(|(key, value)| point.attributes.get(key) == Some(value));
            in_split
                && index.shard_of(&point.attributes).is_some()
                && scope.filter.as_ref().is_none_or(|filter| filter.matches(&point.attributes))
        })
    }

    /// Every such point, nearest first; equal distances in the order of the keys.
    pub fn ranked(&self, index: &Index, sequence: u64, scope: &Scope, query: &Vector) -> Vec<Neighbour> {
        let metric = index.algorithm.metric;
        let mut ranked: Vec<Neighbour> = self
            .indexed_at(index, sequence, scope)
            .map(|(key, point)| Neighbour {
                key: key.clone(),
                point: Arc::clone(point),
                distance: distance(metric, query, &point.vector),
            })
            .collect();
        ranked.sort_by(|a, b| nearness(metric, a.distance, b.distance).then_with(|| a.key.cmp(&b.key)));
        ranked
    }
}

/// The order of two distances, the nearer one first.
pub fn nearness(metric: Metric, a: f64, b: f64) -> Ordering {
    if metric.higher_is_nearer() { b.total_cmp(&a) } else { a.total_cmp(&b) }
}

/// The distance by definition, in f64.
///
/// # Panics
/// The vectors are not both of the metric's kind.
pub fn distance(metric: Metric, a: &Vector, b: &Vector) -> f64 {
    match (metric, a, b) {
        (Metric::L2, Vector::Dense(a), Vector::Dense(b)) => sum(a, b, |a, b| (a - b) * (a - b)),
        (Metric::InnerProduct, Vector::Dense(a), Vector::Dense(b)) => sum(a, b, |a, b| a * b),
        (Metric::Cosine, Vector::Dense(a), Vector::Dense(b)) => {
            cosine_distance(sum(a, b, |a, b| a * b), sum(a, a, |a, b| a * b), sum(b, b, |a, b| a * b))
        }
        (Metric::SparseCosine, Vector::Sparse(a), Vector::Sparse(b)) => {
            cosine_distance(sparse_product(a, b), sparse_product(a, a), sparse_product(b, b))
        }
        (Metric::SparseJaccard, Vector::Sparse(a), Vector::Sparse(b)) => {
            let (a, b) = (non_zero(a), non_zero(b));
            let both = a.keys().filter(|index| b.contains_key(index)).count();
            let any = a.len() + b.len() - both;
            if any == 0 { 1.0 } else { 1.0 - ratio(both, any) }
        }
        _ => panic!("the vectors are not of the kind that {metric:?} compares"),
    }
}

fn sum(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    // A sum of negative zeros is one; there is only one zero distance.
    a.iter().zip(b).map(|(&a, &b)| term(f64::from(a), f64::from(b))).sum::<f64>() + 0.0
}

fn cosine_distance(product: f64, a: f64, b: f64) -> f64 {
    if a == 0.0 || b == 0.0 { 1.0 } else { 1.0 - product / (a.sqrt() * b.sqrt()) }
}

fn non_zero(vector: &SparseVector) -> BTreeMap<u32, f64> {
    vector.indices.iter().copied().zip(vector.values.iter().copied()).filter(|(_, value)| *value != 0.0).collect()
}

fn sparse_product(a: &SparseVector, b: &SparseVector) -> f64 {
    let b = non_zero(b);
    non_zero(a).iter().filter_map(|(index, value)| Some(value * b.get(index)?)).sum()
}

fn ratio(part: usize, whole: usize) -> f64 {
    // Both are numbers of coordinates, far below 2^53.
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse(pairs: &[(u32, f64)]) -> Vector {
        Vector::Sparse(SparseVector::from_pairs(pairs.iter().copied()))
    }

    #[test]
    fn distances_are_those_of_the_definitions() {
        let (a, b) = (Vector::Dense(vec![1.0, 2.0]), Vector::Dense(vec![3.0, -1.0]));
        assert_eq!(distance(Metric::L2, &a, &b), 13.0);
        assert_eq!(distance(Metric::InnerProduct, &a, &b), 1.0);
        assert!((distance(Metric::Cosine, &a, &Vector::Dense(vec![-2.0, -4.0])) - 2.0).abs() < 1e-12);
        assert_eq!(distance(Metric::Cosine, &a, &Vector::Dense(vec![0.0, 0.0])), 1.0);
        let (a, b) = (sparse(&[(1, 1.0), (2, 0.0), (9, -3.0)]), sparse(&[(2, 5.0), (9, 2.0)]));
        assert_eq!(distance(Metric::SparseJaccard, &a, &b), 1.0 - 1.0 / 3.0);
        assert_eq!(distance(Metric::SparseJaccard, &sparse(&[(2, 0.0)]), &sparse(&[(3, 0.0)])), 1.0);
        let expected = 1.0 + 6.0 / (10.0_f64.sqrt() * 29.0_f64.sqrt());
        assert_eq!(distance(Metric::SparseCosine, &a, &b), expected);
    }
}
