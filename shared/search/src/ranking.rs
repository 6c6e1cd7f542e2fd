//! What the answers of a search are ranked by, and how that is found: through the index, or by comparing every row.
//!
//! An index of a metric orders points by that metric, nearer first. A ranking that orders them so too is *by the index*: leaves,
//! segments and the tail answer distances, and what the caller gets is converted at the end. Any other is *by a scan*: every
//! segment answers scores, and those are what is merged. So all that is ever merged is of one kind, and in one direction.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use tarn_model::{DataSource, Metric, Score};
use tarn_segment::{Scan, SegmentError};

use crate::definition::Definition;
use crate::request::SearchRequest;

/// What a search ranks by instead of the index's own distance. All of it may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ranking {
    /// `None`: the index's own distance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// Whether more of it is better; `None` for what is usual of the score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub higher_is_better: Option<bool>,
    /// One answer to all query vectors: by the sum, over these lists of vectors by position, of the best of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sum: Option<Vec<Vec<u32>>>,
}

impl Ranking {
    /// By a score, or the index's own distance; in the usual direction unless another is given.
    pub fn new(score: Option<Score>, higher_is_better: Option<bool>) -> Self {
        Self { score, higher_is_better, sum: None }
    }

    /// By a score in its usual direction.
    pub fn by(score: Score) -> Self {
        Self { score: Some(score), ..Self::default() }
    }
}

/// What was ranked by, for those who want to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranked {
    /// `None`: the index's own distance.
    pub score: Option<Score>,
    /// Whether more of it is better.
    pub higher_is_better: bool,
    /// Whether the index served it; otherwise every row was compared.
    pub by_index: bool,
}

impl Ranked {
    /// What the caller gets for what segments answer: a score for the distance of an index that serves it.
    pub(crate) fn of_distance(&self, metric: Metric, distance: f64) -> f64 {
        match self.score {
            Some(score) if self.by_index => score.of_distance(metric, distance),
            _ => distance,
        }
    }
}

/// The order of answers: the better score first, then the lower key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// Whether more is better.
    pub(crate) higher: bool,
}

impl Order {
    /// By scores alone.
    pub(crate) fn scores(self, a: f64, b: f64) -> Ordering {
        if self.higher { b.total_cmp(&a) } else { a.total_cmp(&b) }
    }

    /// By scores, then keys.
    pub(crate) fn compare(self, a: (f64, &[u8]), b: (f64, &[u8])) -> Ordering {
        self.scores(a.0, b.0).then_with(|| a.1.cmp(b.1))
    }
}

impl SearchRequest {
    /// What the search ranks by in an index of this metric.
    pub(crate) fn ranked(&self, metric: Metric) -> Ranked {
        let Some(Ranking { score, higher_is_better, sum }) = &self.ranking else {
            return Ranked { score: None, higher_is_better: metric.higher_is_nearer(), by_index: true };
        };
        let usual = score.map_or(metric.higher_is_nearer(), Score::higher_is_better);
        let higher_is_better = higher_is_better.unwrap_or(usual);
        let is_served = score.is_none_or(|score| score.is_served_by(metric));
        Ranked { score: *score, higher_is_better, by_index: sum.is_none() && is_served && higher_is_better == usual }
    }

    /// The order in which segments and leaves answer.
    pub(crate) fn order(&self, metric: Metric) -> Order {
        let ranked = self.ranked(metric);
        // An index that serves a score answers its own distances.
        Order { higher: if ranked.by_index { metric.higher_is_nearer() } else { ranked.higher_is_better } }
    }

    /// How many results there are: one for each query vector, or one for all.
    pub fn results(&self) -> usize {
        if self.sum().is_some() { 1 } else { self.queries.len() }
    }

    fn sum(&self) -> Option<&Vec<Vec<u32>>> {
        self.ranking.as_ref().and_then(|ranking| ranking.sum.as_ref())
    }

    /// The scan that answers the search, if the index does not.
    ///
    /// # Errors
    /// The vectors do not fit the metric. `check` has made sure that they do.
    pub(crate) fn scan(&self, metric: Metric) -> Result<Option<Scan>, SegmentError> {
        let ranked = self.ranked(metric);
        if ranked.by_index {
            return Ok(None);
        }
        let queries = match self.sum() {
            Some(parts) => vec![parts.clone()],
            None => (0..self.queries.len() as u32).map(|at| vec![vec![at]]).collect(),
        };
        Scan::new(metric, ranked.score, ranked.higher_is_better, &self.queries, &queries).map(Some)
    }
}

/// Whether the index's vectors have such a score.
pub(crate) fn check(request: &SearchRequest, definition: &Definition, messages: &mut Vec<String>) {
    let metric = definition.index.algorithm.metric;
    let Some(ranking) = &request.ranking else { return };
    if let Some(score) = ranking.score
        && metric.is_sparse()
        && !score.is_served_by(metric)
    {
        messages.push(format!(
            "score {score} compares dense vectors; an index with {} has {}",
            metric.algorithm_type(),
            served(metric)
        ));
    }
    if let Some(parts) = &ranking.sum {
        let is_vector = |at: &u32| (*at as usize) < request.queries.len();
        if parts.is_empty() || parts.iter().any(|part| part.is_empty() || !part.iter().all(is_vector)) {
            messages.push("a sum names a query vector that is not there, or none".to_owned());
        }
    }
}

/// The scores that an index of this metric serves, as text.
fn served(metric: Metric) -> String {
    let names: Vec<&str> = Score::ALL.into_iter().filter(|score| score.is_served_by(metric)).map(Score::name).collect();
    if names.is_empty() { "its own distance alone".to_owned() } else { names.join(" and ") }
}

/// Whether two data sources know points by the same permanent attributes, so that equal keys are the same point.
pub(crate) fn same_keys(a: &DataSource, b: &DataSource) -> bool {
    let typed = |source: &DataSource| -> Vec<_> {
        let names = source.permanent_attributes.iter();
        names.map(|name| (name.clone(), source.attribute_types.get(name).copied())).collect()
    };
    typed(a) == typed(b)
}

#[cfg(test)]
mod tests {
    use tarn_model::Vector;

    use super::*;

    fn request(ranking: Option<Ranking>) -> SearchRequest {
        SearchRequest { ranking, ..SearchRequest::new(vec![Vector::Dense(vec![1.0])], 1) }
    }

    #[test]
    fn an_index_serves_its_own_scores_in_their_own_direction_alone() {
        let by_index = |metric, score, higher_is_better| {
            let ranking = Ranking { score, higher_is_better, sum: None };
            request(Some(ranking)).ranked(metric).by_index
        };
        for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
            assert!(request(None).ranked(metric).by_index);
            assert!(by_index(metric, None, Some(metric.higher_is_nearer())));
            assert!(!by_index(metric, None, Some(!metric.higher_is_nearer())), "the farthest");
            assert!(!by_index(metric, Some(Score::QuickVectorDistance), None));
        }
        assert!(by_index(Metric::L2, Some(Score::VectorDistance), None));
        assert!(!by_index(Metric::L2, Some(Score::VectorDistance), Some(true)));
        assert!(!by_index(Metric::L2, Some(Score::CosineSimilarity), None));
        assert!(by_index(Metric::Cosine, Some(Score::AngularDistance), Some(true)));
        assert!(!by_index(Metric::Cosine, Some(Score::AngularDistance), Some(false)));
        assert!(!request(Some(Ranking { sum: Some(vec![vec![0]]), ..Ranking::default() })).ranked(Metric::L2).by_index);
    }

    #[test]
    fn what_is_merged_has_the_direction_of_what_segments_answer() {
        // Cosine distances ascend, though the score that is made of them descends.
        let cosine = request(Some(Ranking::by(Score::CosineSimilarity)));
        assert_eq!(cosine.order(Metric::Cosine), Order { higher: false });
        assert_eq!(cosine.order(Metric::L2), Order { higher: true });
        let (near, far) = ((1.0, &b"b"[..]), (2.0, &b"a"[..]));
        assert!(Order { higher: false }.compare(near, far).is_lt());
        assert!(Order { higher: true }.compare(near, far).is_gt());
        assert!(Order { higher: true }.compare(far, (2.0, b"b")).is_lt(), "equal scores by key");
    }
}
