//! The shape of an answer: what becomes of the neighbours of several vectors, how they are grouped, how many are given.
//!
//! A shaped search is some plain searches of one snapshot, whose lists are put together here. A list that is not long enough is
//! asked for again, longer; so leaves, segments and the tail know nothing of shapes, and `snapshot-never-mixes-generations`
//! holds for the whole. Owns `lists-fuse-exactly` and `groups-are-of-the-nearest`. No I/O: the rounds are `engine/shaped.rs`.

mod check;
mod fuse;
mod groups;
mod lines;

pub(crate) use check::{ROUNDS, and, check_beside, check_shape};
pub(crate) use fuse::{Hit, List, best, reciprocal};
pub(crate) use groups::{Gathered, among, groups_among, not_among};
pub(crate) use lines::{Line, Neighbours, Part};

use tarn_model::{AttributeValue, Attributes, Filter, IndexId, Vector};

use crate::ranking::Ranking;

/// What a search wants of its neighbours beyond a list for each query vector.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shape {
    /// Permanent attributes of stored points: their vectors are queries too, after the others. The points themselves are not
    /// answered.
    pub query_ids: Vec<Attributes>,
    /// A point's score is the best of its scores by the query and by these.
    pub context: Vec<Vector>,
    /// The score by the context alone counts.
    pub prioritize: bool,
    /// One result for all query vectors.
    pub combine: Option<Combine>,
    /// Groups of points instead of points.
    pub grouping: Option<Grouping>,
    /// How many points, or groups, a result has at most; `None` is k. What they are chosen from is the k nearest.
    pub result_limit: Option<u32>,
    /// Another index that is searched too.
    pub beside: Option<Beside>,
}

impl Shape {
    /// How many vectors it has, beside the search's own queries.
    pub fn vectors(&self) -> usize {
        let beside = self.beside.as_ref().map_or(0, |beside| beside.queries.len());
        self.query_ids.len() + self.context.len() + beside
    }

    /// Most points that are answered, or looked for, for each vector: k, or as many as its groups may have.
    pub fn points_of_each(&self, k: u32) -> u64 {
        let of_groups = self
            .grouping
            .as_ref()
            .map_or(0, |grouping| u64::from(self.result_limit.unwrap_or(k)) * u64::from(grouping.limit));
        of_groups.max(k.into())
    }
}

/// How several query vectors make one result. Each point is in it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// By the best score.
    Best,
    /// By the sum of the scores by all query vectors.
    Sum,
    /// By the sum of 1 / (60 + place) over the lists of the k nearest (Cormack, Clarke and Büttcher, 2009).
    ReciprocalRank,
}

/// Groups of the points that have the same value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct Grouping {
    /// The attribute.
    pub by: String,
    /// Most points of a group, at least 1.
    pub limit: u32,
    /// What groups are ranked by.
    pub score: GroupScore,
    /// Only groups whose value satisfies it; it names no other attribute.
    pub filter: Option<Filter>,
}

/// The score of a group, from those of its points that are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupScore {
    /// The best.
    #[default]
    Best,
    /// Their sum.
    Sum,
    /// Their sum over the square of their number.
    SumOverSquare,
}

/// An index that is searched beside, and its query vectors. The points of both are the same where their keys are.
#[derive(Clone, Debug, PartialEq)]
pub struct Beside {
    /// The index.
    pub index: IndexId,
    /// At least one, of the kind and dimension of its data source.
    pub queries: Vec<Vector>,
    /// As in the search itself.
    pub split_filter: Attributes,
    /// As in the search itself.
    pub filter: Option<Filter>,
    /// As in the search itself.
    pub ranking: Option<Ranking>,
}

/// The groups of one result.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundGroups {
    /// The best one first. The points of the result are theirs, group after group.
    pub groups: Vec<FoundGroup>,
    /// False when there may be more groups, or more points in one, than were looked for.
    pub complete: bool,
}

/// One group of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundGroup {
    /// What its points have in common.
    pub value: AttributeValue,
    /// By [`Grouping::score`].
    pub score: f64,
    /// How many points of the result are its own.
    pub points: usize,
}
