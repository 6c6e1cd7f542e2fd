//! Random questions beyond a list of neighbours: rankings, shapes, statistics, samples, deletions.

use rand::Rng;
use rand::seq::IndexedRandom;
use tarn_model::{Attributes, Filter, Score, Vector, VectorKind};

use super::{AsOf, Generator};
use crate::reference::Scope;
use crate::shaped::Rank;

/// More points than these make the naive answers slow: there are fewer questions then.
const MANY_POINTS: usize = 1_000;
/// Attributes with few values, some, and one for each point.
const GROUPS: [&str; 6] = ["colour", "region", "split", "guid", "flag", "serial"];

/// What a search wants of its neighbours beyond a list for each query.
#[derive(Clone, Debug, Default)]
pub struct Shaped {
    /// Stored points that are queries too.
    pub stored: Vec<Stored>,
    /// A point counts by the best of its scores by the query and by these.
    pub context: Vec<Vector>,
    /// By these alone.
    pub prioritize: bool,
    /// One list of all queries.
    pub fused: Option<Fused>,
    /// Groups instead of points.
    pub groups: Option<GroupBy>,
    /// Fewer results than `k`.
    pub result_limit: Option<u32>,
    /// A second index.
    pub beside: Option<Beside>,
}

/// A stored point.
#[derive(Clone, Debug)]
pub enum Stored {
    /// The one at this place among those that are live then, counted in a circle.
    Live(usize),
    /// One that there may not be.
    Named(Attributes),
}

/// How several queries make one list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fused {
    /// The best score.
    Best,
    /// The sum of the scores.
    Sum,
    /// Places.
    Reciprocal,
}

/// Groups of points.
#[derive(Clone, Debug)]
pub struct GroupBy {
    /// By this attribute.
    pub by: String,
    /// Most points of each.
    pub limit: u32,
    /// Their score.
    pub score: Grouped,
    /// Only these.
    pub filter: Option<Filter>,
}

/// The score of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouped {
    /// Of its best point.
    Best,
    /// Of all.
    Sum,
    /// Of all, over the square of their number.
    SumOverSquare,
}

impl Grouped {
    /// From those of the points, in order.
    pub fn of(self, scores: &[f64]) -> f64 {
        let sum: f64 = scores.iter().sum();
        match self {
            Self::Best => scores.first().copied().unwrap_or_default(),
            Self::Sum => sum,
            Self::SumOverSquare => sum / (scores.len() * scores.len()) as f64,
        }
    }
}

/// A second index of the scenario, and what it is asked.
#[derive(Clone, Debug)]
pub struct Beside {
    /// Of the scenario.
    pub index: usize,
    /// The query vectors.
    pub queries: Vec<Vector>,
    /// Which points.
    pub scope: Scope,
    /// What is ranked by.
    pub rank: Option<Rank>,
}

/// A question about statistics.
#[derive(Clone, Debug)]
pub struct Statistic {
    /// Of the scenario.
    pub index: usize,
    /// Which points.
    pub scope: Scope,
    /// Also what no build has taken in.
    pub tail: bool,
    /// From the centre itself.
    pub exact: bool,
    /// Of an earlier generation.
    pub as_of: Option<AsOf>,
}

/// A sample.
#[derive(Clone, Debug)]
pub struct Sampling {
    /// Of the scenario.
    pub index: usize,
    /// How many.
    pub n: u64,
    /// By which seed: one of few, so that they meet again.
    pub seed: u64,
    /// Which points.
    pub scope: Scope,
    /// Of an earlier generation.
    pub as_of: Option<AsOf>,
}

/// Points that a filter is true of, to be deleted.
#[derive(Clone, Debug)]
pub struct Deletion {
    /// Of this index.
    pub index: usize,
    /// Which points.
    pub scope: Scope,
    /// Most of them.
    pub limit: Option<u64>,
    /// Only counted.
    pub dry_run: bool,
    /// Only those that were not written in the last so many deltas.
    pub cut: Option<u64>,
}

impl Generator<'_> {
    fn is_large(&self) -> bool {
        self.scenario.usual_points() > MANY_POINTS
    }

    pub(super) fn rank_sometimes(&mut self, shaped: bool) -> Option<Rank> {
        let often = if shaped { 2 } else { 6 };
        self.rng.random_ratio(1, often).then(|| self.rank())
    }

    fn rank(&mut self) -> Rank {
        let scores: &[Option<Score>] = match self.scenario.source.vector_kind {
            VectorKind::Sparse => &[None, Some(Score::CosineSimilarity), Some(Score::AngularDistance)],
            VectorKind::Dense => &[
                None,
                Some(Score::VectorDistance),
                Some(Score::QuickVectorDistance),
                Some(Score::VectorMultiplication),
                Some(Score::CosineSimilarity),
                Some(Score::AngularDistance),
            ],
        };
        let score = scores.choose(&mut self.rng).copied().flatten();
        let higher_is_better = self.rng.random_ratio(1, 2).then(|| self.rng.random());
        Rank { score, higher_is_better }
    }

    pub(super) fn as_of_sometimes(&mut self) -> Option<AsOf> {
        match self.rng.random_range(0..100) {
            0..12 => Some(AsOf::Back(self.rng.random_range(0..6))),
            12 => Some(AsOf::Ahead),
            _ => None,
        }
    }

    pub(super) fn shape_sometimes(&mut self, index: usize) -> Option<Shaped> {
        let seldom = if self.is_large() { 8 } else { 3 };
        self.rng.random_ratio(1, seldom).then(|| self.shape(index))
    }

    fn shape(&mut self, index: usize) -> Shaped {
        let mut shape = Shaped::default();
        if self.rng.random_ratio(1, 4) {
            for _ in 0..self.rng.random_range(1..3) {
                shape.stored.push(match self.rng.random_ratio(1, 12) {
                    true => Stored::Named(self.scenario.permanent(&mut self.rng)),
                    false => Stored::Live(self.rng.random_range(0..10_000)),
                });
            }
        }
        if self.rng.random_ratio(1, 3) {
            let vectors = self.rng.random_range(1..3);
            shape.context = (0..vectors).map(|_| self.scenario.vector(&mut self.rng)).collect();
            shape.prioritize = self.rng.random_ratio(1, 3);
        }
        shape.fused = [None, Some(Fused::Best), Some(Fused::Sum), Some(Fused::Reciprocal)][self.rng.random_range(0..4)];
        shape.result_limit = self.rng.random_ratio(1, 3).then(|| self.rng.random_range(1..8));
        shape.groups = self.rng.random_ratio(1, 2).then(|| self.group_by());
        if self.rng.random_ratio(1, 5) {
            let other = self.other(index);
            shape.beside = Some(self.beside(other));
            if !self.rng.random_ratio(1, 10) {
                // The others are refused.
                shape.context = Vec::new();
                shape.prioritize = false;
                shape.fused = Some([Fused::Reciprocal, Fused::Best][self.rng.random_range(0..2)]);
                if let Some(groups) = &mut shape.groups {
                    (groups.by, groups.filter) = ("region".to_owned(), None);
                }
            }
        }
        shape
    }

    /// Not the first index itself, as a rule.
    fn other(&mut self, index: usize) -> usize {
        (index + self.rng.random_range(0..self.scenario.indices.len())) % self.scenario.indices.len()
    }

    fn beside(&mut self, index: usize) -> Beside {
        let queries = self.rng.random_range(1..3);
        Beside {
            index,
            queries: (0..queries).map(|_| self.scenario.vector(&mut self.rng)).collect(),
            scope: self.scope(index),
            rank: self.rank_sometimes(true),
        }
    }

    fn group_by(&mut self) -> GroupBy {
        let by = GROUPS.choose(&mut self.rng).copied().unwrap_or("colour").to_owned();
        let filter = self.rng.random_ratio(1, 4).then(|| {
            let values = vec![self.scenario.value(&mut self.rng, &by)];
            let among = Filter::In { attribute: by.clone(), values };
            if self.rng.random() { Filter::Not(Box::new(among)) } else { among }
        });
        let score = [Grouped::Best, Grouped::Sum, Grouped::SumOverSquare][self.rng.random_range(0..3)];
        GroupBy { by, limit: self.rng.random_range(1..4), score, filter }
    }

    pub(super) fn scope(&mut self, index: usize) -> Scope {
        Scope { split_filter: self.split_filter(index), filter: self.filter_sometimes() }
    }

    pub(super) fn statistic(&mut self) -> Statistic {
        let index = self.index();
        let whole = self.rng.random_ratio(1, 2);
        Statistic {
            index,
            scope: if whole { Scope::default() } else { self.scope(index) },
            tail: self.rng.random(),
            exact: self.rng.random_ratio(1, 4),
            as_of: self.as_of_sometimes(),
        }
    }

    pub(super) fn sampling(&mut self) -> Sampling {
        let index = self.index();
        let whole = self.rng.random_ratio(1, 2);
        Sampling {
            index,
            n: [1, 7, 50, 10_000][self.rng.random_range(0..4)],
            seed: self.rng.random_range(0..2),
            scope: if whole { Scope::default() } else { self.scope(index) },
            as_of: self.as_of_sometimes(),
        }
    }

    pub(super) fn deletion(&mut self) -> Deletion {
        let index = self.index();
        let filter = Some(self.filter(2));
        let bounded = self.is_large() || self.rng.random_ratio(2, 3);
        Deletion {
            index,
            scope: Scope { split_filter: self.split_filter(index), filter },
            limit: bounded.then(|| self.rng.random_range(1..40)),
            dry_run: self.rng.random_ratio(1, 4),
            cut: self.rng.random_ratio(1, 4).then(|| self.rng.random_range(0..20)),
        }
    }
}
