//! Scores and shapes by their definitions: what a search that ranks, groups or combines must answer.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use tarn_model::{AttributeValue, Attributes, Filter, Index, Metric, PointKey, Score, Vector};

use crate::reference::{Neighbour, Reference, Scope, distance};

/// What is ranked by, as a search says it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rank {
    /// `None`: the index's own distance.
    pub score: Option<Score>,
    /// `None`: as is usual of the score.
    pub higher_is_better: Option<bool>,
}

impl Rank {
    /// Whether more is better in an index of this metric, unless the search says otherwise.
    fn usual(self, metric: Metric) -> bool {
        match self.score {
            None => metric.higher_is_nearer(),
            Some(Score::VectorDistance | Score::QuickVectorDistance) => false,
            Some(Score::VectorMultiplication | Score::CosineSimilarity | Score::AngularDistance) => true,
        }
    }

    /// In an index of this metric.
    pub fn by(self, metric: Metric) -> RankBy {
        let higher_is_better = self.higher_is_better.unwrap_or_else(|| self.usual(metric));
        RankBy { score: self.score, higher_is_better }
    }

    /// Whether vectors of this metric have the score.
    pub fn fits(self, metric: Metric) -> bool {
        match (self.score, metric) {
            (None, _) | (Some(Score::CosineSimilarity | Score::AngularDistance), Metric::SparseCosine) => true,
            (Some(_), Metric::SparseCosine | Metric::SparseJaccard) => false,
            (Some(_), _) => true,
        }
    }

    /// Whether an approximate index of this metric finds the best by it as fast as its own, and as approximately. Anything else
    /// compares every point.
    pub fn is_of_index(self, metric: Metric) -> bool {
        let served = match self.score {
            None => true,
            Some(Score::VectorDistance) => metric == Metric::L2,
            Some(Score::VectorMultiplication) => metric == Metric::InnerProduct,
            Some(Score::CosineSimilarity | Score::AngularDistance) => {
                matches!(metric, Metric::Cosine | Metric::SparseCosine)
            }
            Some(Score::QuickVectorDistance) => false,
        };
        served && self.higher_is_better.is_none_or(|higher| higher == self.usual(metric))
    }
}

/// What is ranked by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankBy {
    /// `None`: the index's own distance.
    pub score: Option<Score>,
    /// Whether more is better.
    pub higher_is_better: bool,
}

/// How the scores by several vectors become one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fuse {
    /// The best.
    Best,
    /// The sum.
    Sum,
    /// The sum of 1 / (60 + place) over the first so many of each list.
    Reciprocal(usize),
}

/// Groups that are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Groups<'a> {
    /// By this attribute.
    pub by: &'a str,
    /// Most points of each.
    pub limit: usize,
    /// Groups of so many nearest points are considered, at least.
    pub candidates: usize,
    /// How many groups are wanted.
    pub wanted: usize,
    /// The score of a group from its points'.
    pub score: fn(&[f64]) -> f64,
}

/// One of the indices that a search is about.
#[derive(Clone, Debug)]
pub struct Side<'a> {
    /// Over which data source.
    pub reference: &'a Reference,
    /// The index.
    pub index: &'a Index,
    /// Which state.
    pub sequence: u64,
    /// Which points.
    pub scope: Scope,
    /// What is ranked by.
    pub rank: RankBy,
    /// The vectors of each list.
    pub lists: Vec<Vec<Vector>>,
}

/// One list of all lists of all sides, the best first. Sums are of one side alone.
pub fn fused(sides: &[Side<'_>], fuse: Fuse) -> Vec<Neighbour> {
    let all = |side: &Side<'_>, lists: &[Vec<Vector>], fuse| {
        side.reference.ranked_by(side.index, side.sequence, &side.scope, side.rank, (lists, fuse))
    };
    match (sides, fuse) {
        ([one], fuse) => all(one, &one.lists, fuse),
        (sides, Fuse::Reciprocal(depth)) => {
            let mut lists = Vec::new();
            for side in sides {
                lists.extend(side.lists.iter().map(|list| all(side, std::slice::from_ref(list), Fuse::Best)));
            }
            reciprocal(&lists, depth)
        }
        (sides, fuse) => {
            let mut points: Vec<Neighbour> = sides.iter().flat_map(|side| all(side, &side.lists, fuse)).collect();
            if let Some(side) = sides.first() {
                points.sort_by(|a, b| side.rank.compare(a, b));
            }
            let mut seen = BTreeSet::new();
            points.retain(|point| seen.insert(point.key.clone()));
            points
        }
    }
}

impl Scope {
    /// Without some points.
    #[must_use]
    pub fn without(mut self, points: &[Attributes]) -> Self {
        let is = |point: &Attributes| {
            let equal = |(attribute, value): (&String, &AttributeValue)| Filter::In {
                attribute: attribute.clone(),
                values: vec![value.clone()],
            };
            Filter::Not(Box::new(Filter::And(point.iter().map(equal).collect())))
        };
        if !points.is_empty() {
            self.filter = Some(Filter::And(self.filter.into_iter().chain(points.iter().map(is)).collect()));
        }
        self
    }

    /// Of these, only what a filter is true of.
    #[must_use]
    pub fn and(mut self, filter: Option<Filter>) -> Self {
        if let Some(filter) = filter {
            self.filter = Some(Filter::And(self.filter.into_iter().chain([filter]).collect()));
        }
        self
    }
}

/// The score of two vectors by definition, in f64.
///
/// # Panics
/// The vectors are not both of the metric's kind.
pub fn score(score: Option<Score>, metric: Metric, a: &Vector, b: &Vector) -> f64 {
    let Some(score) = score else { return distance(metric, a, b) };
    let cosine = |metric| 1.0 - distance(metric, a, b);
    match (score, a, b) {
        (Score::VectorDistance, ..) => distance(Metric::L2, a, b).sqrt(),
        (Score::VectorMultiplication, ..) => distance(Metric::InnerProduct, a, b),
        (Score::QuickVectorDistance, Vector::Dense(a), Vector::Dense(b)) => {
            a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs()).sum()
        }
        (Score::CosineSimilarity, Vector::Dense(_), _) => cosine(Metric::Cosine),
        (Score::CosineSimilarity, Vector::Sparse(_), _) => cosine(Metric::SparseCosine),
        (Score::AngularDistance, Vector::Dense(_), _) => Score::angular(cosine(Metric::Cosine)),
        (Score::AngularDistance, Vector::Sparse(_), _) => Score::angular(cosine(Metric::SparseCosine)),
        (Score::QuickVectorDistance, ..) => panic!("{score} compares dense vectors"),
    }
}

impl RankBy {
    /// The better one first, then the lower key.
    pub fn compare(self, a: &Neighbour, b: &Neighbour) -> Ordering {
        let by_score =
            if self.higher_is_better { b.distance.total_cmp(&a.distance) } else { a.distance.total_cmp(&b.distance) };
        by_score.then_with(|| a.key.cmp(&b.key))
    }
}

impl Reference {
    /// Every point in the scope by what several lists of vectors make of it: the best within a list, fused over the lists.
    pub fn ranked_by(
        &self,
        index: &Index,
        sequence: u64,
        scope: &Scope,
        rank: RankBy,
        (lists, fuse): (&[Vec<Vector>], Fuse),
    ) -> Vec<Neighbour> {
        let metric = index.algorithm.metric;
        let better = |a: f64, b: f64| if rank.higher_is_better { a.max(b) } else { a.min(b) };
        let of = |list: &[Vector], point: &Vector| -> f64 {
            let scores = list.iter().map(|vector| score(rank.score, metric, vector, point));
            scores.reduce(better).unwrap_or_default()
        };
        let ranked = |score: &dyn Fn(&Vector) -> f64| {
            let points = self.indexed_at(index, sequence, scope).map(|(key, point)| Neighbour {
                key: key.clone(),
                point: point.clone(),
                distance: score(&point.vector),
            });
            let mut points: Vec<Neighbour> = points.collect();
            points.sort_by(|a, b| rank.compare(a, b));
            points
        };
        match fuse {
            Fuse::Best => ranked(&|point| lists.iter().map(|list| of(list, point)).reduce(better).unwrap_or_default()),
            Fuse::Sum => ranked(&|point| lists.iter().map(|list| of(list, point)).sum()),
            Fuse::Reciprocal(depth) => {
                let lists: Vec<Vec<Neighbour>> = lists.iter().map(|list| ranked(&|point| of(list, point))).collect();
                reciprocal(&lists, depth)
            }
        }
    }
}

/// Points of several rankings by their places among the first `depth` of each.
pub fn reciprocal(lists: &[Vec<Neighbour>], depth: usize) -> Vec<Neighbour> {
    let mut fused: Vec<Neighbour> = Vec::new();
    for list in lists {
        for (place, neighbour) in list.iter().take(depth).enumerate() {
            let score = 1.0 / (61.0 + place as f64);
            match fused.iter_mut().find(|known| known.key == neighbour.key) {
                Some(known) => known.distance += score,
                None => fused.push(Neighbour { distance: score, ..neighbour.clone() }),
            }
        }
    }
    fused.sort_by(|a, b| RankBy { score: None, higher_is_better: true }.compare(a, b));
    fused
}

/// The groups of a ranking, the best first: value, score, and points in order.
pub fn grouped(ranked: &[Neighbour], rank: RankBy, groups: &Groups<'_>) -> Vec<(AttributeValue, f64, Vec<PointKey>)> {
    let value = |attributes: &Attributes| attributes.get(groups.by).cloned();
    let mut considered: Vec<AttributeValue> = Vec::new();
    for (place, neighbour) in ranked.iter().enumerate() {
        if place >= groups.candidates && considered.len() >= groups.wanted {
            break;
        }
        if let Some(value) = value(&neighbour.point.attributes)
            && !considered.contains(&value)
        {
            considered.push(value);
        }
    }
    let mut found: Vec<(AttributeValue, f64, Vec<PointKey>)> = Vec::new();
    for group in considered {
        let members = ranked.iter().filter(|n| value(&n.point.attributes).as_ref() == Some(&group));
        let members: Vec<&Neighbour> = members.take(groups.limit).collect();
        let scores: Vec<f64> = members.iter().map(|neighbour| neighbour.distance).collect();
        found.push((group, (groups.score)(&scores), members.iter().map(|n| n.key.clone()).collect()));
    }
    // Stable: equal groups stay in the order of their nearest points.
    found.sort_by(|a, b| if rank.higher_is_better { b.1.total_cmp(&a.1) } else { a.1.total_cmp(&b.1) });
    found.truncate(groups.wanted);
    found
}
