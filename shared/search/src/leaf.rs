//! The seam for scale-out: a leaf searches the segment files of some shards, wherever it runs.
//!
//! The root pins a snapshot, cuts its shards into groups and asks one leaf for each; it searches the tail itself, once, and
//! merges. A leaf answers from exactly the root's snapshot, so that `snapshot-never-mixes-generations` holds across processes:
//! that manifest, by its commit id, and the deltas up to that head, never a newer one. It reads the deltas for their keys
//! alone, which say what rows of its files the tail replaces.
//!
//! A leaf has no clock in common with its root: it is told how long it may take. What it has not found by then its answer
//! leaves out and says so. Leaves keep nothing that matters; asking one again is always safe.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tarn_model::{Corrupt, DataSource, Index, ReadToken, ValidationError};
use tarn_store::{Spent, StoreError};
use ulid::Ulid;

use crate::definition::Definition;
use crate::engine::Engine;
use crate::error::SearchError;
use crate::execute::keep_first;
use crate::ranking::Order;
use crate::receipt::SegmentReceipt;
use crate::request::{Found, SearchRequest, Timings};

/// Answers for some shards' segment files.
///
/// Not promised: that the answer comes at all, or before the time is up; whoever asks bounds the wait. That the same leaf
/// answers next time.
#[async_trait]
pub trait LeafSearch: Send + Sync {
    /// Searches the files of the request's shards.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when the snapshot is gone: pin a newer one. One that is [retryable][SearchError::is_retryable]
    /// when the leaf could not be asked. See [`SearchError`] for the rest.
    async fn search(&self, request: LeafRequest) -> Result<LeafAnswer, SearchError>;
}

/// Which snapshot is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pin {
    /// The manifest's number.
    pub generation: u64,
    /// The manifest's commit id. An index that was deleted and created anew counts from 1 again.
    pub commit_id: Ulid,
    /// The last delta.
    pub head: ReadToken,
}

/// What a leaf is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeafRequest {
    /// The index, as the root knows it: a leaf need not read it, and cannot know another of the same name.
    pub index: Index,
    /// The index's data source.
    pub source: DataSource,
    /// The snapshot.
    pub pin: Pin,
    /// Shards of the index, by id.
    pub shards: Vec<String>,
    /// The search. Its consistency, version and deadline are the root's business.
    pub search: SearchRequest,
    /// How long the leaf may take, from when it gets the request; `None` for as long as it needs.
    pub remaining: Option<Duration>,
}

/// What a leaf, or several together, found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeafAnswer {
    /// For each query, at most k: nearest first, equal distances by key.
    pub results: Vec<Vec<LeafHit>>,
    /// Rows that any query might have found, summed over queries.
    pub allowed: u64,
    /// Of these, how many the answer accounts for.
    pub considered: u64,
    /// Where the time went; of several answers, the longest of each.
    pub timings: Timings,
    /// What was asked of the store.
    pub spent: Spent,
    /// How long leaves worked, one time added to the other; and how often they were asked.
    pub leaves: LeafWork,
    /// How each segment was searched, if the search wants to be told.
    pub segments: Vec<SegmentReceipt>,
}

/// What leaves did for an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeafWork {
    /// Requests that leaves answered.
    pub answers: u64,
    /// How long these took, one added to the other.
    pub time: Duration,
}

impl LeafWork {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { answers: self.answers + other.answers, time: self.time.saturating_add(other.time) }
    }
}

/// A found point with its key, which gives points of equal distance an order.
#[derive(Clone, Debug, PartialEq)]
pub struct LeafHit {
    /// The point key's bytes.
    pub key: Vec<u8>,
    /// What is answered.
    pub found: Found,
}

/// Leaves in this process: the files are searched by an engine at hand.
#[derive(Clone)]
pub struct InProcess(pub Engine);

#[async_trait]
impl LeafSearch for InProcess {
    async fn search(&self, request: LeafRequest) -> Result<LeafAnswer, SearchError> {
        self.0.search_leaf(request).await
    }
}

/// A [`SearchError`] that travels: what a leaf in another process answers instead of a [`LeafAnswer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LeafError {
    /// An object of the snapshot is gone: its key.
    Missing(String),
    /// A stored object does not say what it must.
    Corrupt {
        /// See [`Corrupt`].
        object: String,
        /// See [`Corrupt`].
        part: String,
        /// See [`Corrupt`].
        expected: String,
        /// See [`Corrupt`].
        found: String,
    },
    /// Asking again may help.
    Unavailable(String),
    /// The request does not fit the index.
    Invalid(Vec<String>),
    /// Anything else.
    Failed(String),
}

impl From<SearchError> for LeafError {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Store(StoreError::Missing { object }) => Self::Missing(object),
            SearchError::Corrupt(corrupt) | SearchError::Store(StoreError::Corrupt(corrupt)) => {
                let Corrupt { object, part, expected, found } = corrupt;
                Self::Corrupt { object, part, expected, found }
            }
            SearchError::Invalid(error) => Self::Invalid(error.messages),
            error if error.is_retryable() => Self::Unavailable(error.to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<LeafError> for SearchError {
    fn from(error: LeafError) -> Self {
        match error {
            LeafError::Missing(object) => Self::Store(StoreError::Missing { object }),
            LeafError::Corrupt { object, part, expected, found } => {
                Self::Corrupt(Corrupt { object, part, expected, found })
            }
            LeafError::Unavailable(message) => Self::unavailable_leaf(message),
            LeafError::Invalid(messages) => Self::Invalid(ValidationError { messages }),
            LeafError::Failed(message) => Self::Internal(message),
        }
    }
}

/// `leaf-answers-fit`: an answer is one to this request, whoever gives it. Another release's may not be.
///
/// # Errors
/// [`SearchError::Internal`] says what is wrong.
pub(crate) fn check_answer(
    answer: &LeafAnswer,
    request: &SearchRequest,
    definition: &Definition,
) -> Result<(), SearchError> {
    let wrong = |what: String| Err(SearchError::Internal(format!("a leaf's answer does not fit its request: {what}")));
    let (results, queries) = (answer.results.len(), request.results());
    if results != queries {
        return wrong(format!("{results} results of {queries} queries"));
    }
    if let Some(hits) = answer.results.iter().find(|hits| hits.len() > request.k as usize) {
        return wrong(format!("{} points, and k is {}", hits.len(), request.k));
    }
    if answer.considered > answer.allowed {
        return wrong(format!("{} rows considered of {}", answer.considered, answer.allowed));
    }
    let mut hits = answer.results.iter().flatten();
    if hits.clone().any(|hit| hit.found.distance.is_nan()) {
        return wrong("a distance that is no number".to_owned());
    }
    // Points of one answer are alike.
    let Some(LeafHit { found, .. }) = hits.next() else { return Ok(()) };
    let names = found.attributes.iter().map(|(name, _)| name);
    let wanted = definition.columns(request.attributes.as_deref()).map(|(name, _)| name);
    if !names.eq(wanted) || found.vector.is_some() != request.retrieve_vectors {
        return wrong("other attributes than were asked for, or a vector too many or too few".to_owned());
    }
    Ok(())
}

/// Puts answers about different rows together.
pub(crate) fn merge(order: Order, k: usize, results: usize, answers: Vec<LeafAnswer>) -> LeafAnswer {
    let mut merged = LeafAnswer { results: vec![Vec::new(); results], ..LeafAnswer::default() };
    for answer in answers {
        merged.allowed = merged.allowed.saturating_add(answer.allowed);
        merged.considered = merged.considered.saturating_add(answer.considered);
        merged.timings = merged.timings.longest(&answer.timings);
        merged.spent = merged.spent.beside(&answer.spent);
        merged.leaves = merged.leaves.and(answer.leaves);
        merged.segments.extend(answer.segments);
        for (all, hits) in merged.results.iter_mut().zip(answer.results) {
            all.extend(hits);
        }
    }
    for hits in &mut merged.results {
        keep_first(hits, k, |a, b| order.compare((a.found.distance, &a.key), (b.found.distance, &b.key)));
    }
    merged
}
