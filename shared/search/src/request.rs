//! What a search asks and what it answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tarn_model::{AttributeValue, Attributes, Filter, ReadToken, Vector};
use tarn_store::Spent;

use crate::leaf::LeafWork;
use crate::ranking::{Ranked, Ranking};
use crate::receipt::SegmentReceipt;
use crate::round::Round;
use crate::shape::{FoundGroups, Shape};
use crate::wire;

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Consistency {
    /// The answer includes every write that was acknowledged before the request began.
    #[default]
    Strong,
    /// The answer may be as old as [`crate::EngineSettings::eventual_max_age`]; it costs no request when a snapshot that
    /// young is pinned.
    Eventual,
}

/// A search: one or more query vectors against one index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SearchRequest {
    /// Values of some, all or none of the index's split attributes. Only points that have them are searched.
    #[serde(with = "wire::attributes")]
    pub split_filter: Attributes,
    /// At least one vector, each of the data source's kind and dimension.
    #[serde(with = "wire::vectors")]
    pub queries: Vec<Vector>,
    /// How many neighbours each query wants; 1 to [`tarn_model::limits::K`].
    pub k: u32,
    /// Whether found points carry their vectors.
    pub retrieve_vectors: bool,
    /// Only points that satisfy it are found.
    #[serde(with = "wire::filter")]
    pub filter: Option<Filter>,
    /// How fresh the answer must be.
    pub consistency: Consistency,
    /// A version that the answer must include.
    pub min_version: Option<ReadToken>,
    /// Brute force: recall 1.
    pub exact: bool,
    /// The recall that a graph search aims at, above 0 up to 1; `None` is [`SearchRequest::DEFAULT_RECALL`].
    pub target_recall: Option<f32>,
    /// Candidates that a search keeps in a graph; where there are cells and no graph, cells that it looks into. Overrides
    /// `target_recall`.
    pub ef_search: Option<u32>,
    /// Cells that a search looks into; where there is a graph and no cells, candidates that it keeps. Overrides `target_recall`. With
    /// `ef_search` each is for its own kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nprobe: Option<u32>,
    /// How long the search may take once it knows what is current. At the deadline it answers with the best so far and a
    /// coverage below 1; files that are not there yet are left out, and go on arriving for the next search.
    pub deadline: Option<Duration>,
    /// Which attributes found points carry; `None` is all. The wire order holds either way.
    pub attributes: Option<Vec<String>>,
    /// Whether the answer says how it came about.
    #[serde(default)]
    pub explain: bool,
    /// The state that an earlier generation shows, and nothing after it; `None`: the newest state. The root's business.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<u64>,
    /// What to rank by; `None`: the index's own distance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranking: Option<Ranking>,
    /// What becomes of the neighbours of several vectors. The root's business: it asks leaves plain searches, and no leaf
    /// ever sees it.
    #[serde(skip)]
    pub shape: Option<Box<Shape>>,
    /// Points that have expired by then, in microseconds since 1970, are not found. The engine sets it, once for all leaves, if the
    /// data source's points expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alive_at: Option<i64>,
    /// What one round of a shaped search adds. The engine's business: `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<Box<Round>>,
}

impl SearchRequest {
    /// The recall that a search over a graph aims at unless told otherwise.
    pub const DEFAULT_RECALL: f32 = 0.95;

    /// A strong search for the `k` nearest of each query vector, without filters, attributes included, vectors not.
    pub fn new(queries: Vec<Vector>, k: u32) -> Self {
        Self {
            split_filter: Attributes::new(),
            queries,
            k,
            retrieve_vectors: false,
            filter: None,
            consistency: Consistency::Strong,
            min_version: None,
            exact: false,
            target_recall: None,
            ef_search: None,
            nprobe: None,
            deadline: None,
            attributes: None,
            explain: false,
            as_of: None,
            ranking: None,
            shape: None,
            alive_at: None,
            round: None,
        }
    }
}

/// The answer to a [`SearchRequest`].
#[derive(Clone, Debug)]
pub struct SearchResponse {
    /// For each query vector, in order, its neighbours: nearest first, equal distances by point key.
    pub results: Vec<Vec<Found>>,
    /// The fraction of the live rows in question (those of the shards and splits asked for) that every query considered.
    /// Below 1 only when the deadline struck. Of a file that was not there in time, and of a group of shards whose leaf did not
    /// answer, all rows are in question that the catalog calls live, whatever a filter or the tail would say of them.
    pub coverage: f64,
    /// The groups of shards that the answer leaves out altogether. Only a search with a deadline leaves any out.
    pub failures: Vec<GroupFailure>,
    /// The version that the answer shows.
    pub version: ReadToken,
    /// The manifest's generation; 0 when the index has not been built and the timeline alone answered.
    pub generation: u64,
    /// Where the time went.
    pub timings: Timings,
    /// What was asked of the store, by leaves too, as far as it counts: see [`tarn_store::Meter`].
    pub spent: Spent,
    /// What leaves did.
    pub leaves: LeafWork,
    /// How each segment was searched, if the search wants to be told. Of a search in several rounds, round by round, the first
    /// 1000.
    pub segments: Vec<SegmentReceipt>,
    /// What the results are ranked by.
    pub ranked: Ranked,
    /// Of a grouped search: for each result, its groups.
    pub groups: Option<Vec<FoundGroups>>,
    /// The vectors of [`Shape::query_ids`], in their order.
    pub stored: Vec<Vector>,
}

/// Some shards whose leaf gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFailure {
    /// Their ids.
    pub shards: Vec<String>,
    /// Rows left out, live as far as the catalogs know.
    pub rows: u64,
    /// Why.
    pub reason: String,
}

/// A found point.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// In wire order: id − split attributes, split attributes, payload; each group sorted by key.
    pub attributes: Vec<(String, AttributeValue)>,
    /// The vector, when the request wanted it.
    pub vector: Option<Vector>,
    /// In the metric's own unit and direction; or the score, if the search ranks by one.
    pub distance: f64,
}

/// Where the time of one search went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Timings {
    /// Finding out what is current.
    pub snapshot: Duration,
    /// Fetching and opening whole files that were not open.
    #[serde(default)]
    pub open: Duration,
    /// Reading outlines of files that stay where they are, and columns for the filter.
    #[serde(default)]
    pub outline: Duration,
    /// Reading and scanning cells of them.
    #[serde(default)]
    pub cells: Duration,
    /// Reading and comparing rows of them.
    #[serde(default)]
    pub rows: Duration,
    /// Computing distances, filters and the merge.
    pub search: Duration,
    /// Reading attributes and vectors of what was found.
    pub fetch: Duration,
}

impl Timings {
    /// Phase by phase, the longer of the two.
    pub(crate) fn longest(&self, other: &Self) -> Self {
        Self {
            snapshot: self.snapshot.max(other.snapshot),
            open: self.open.max(other.open),
            outline: self.outline.max(other.outline),
            cells: self.cells.max(other.cells),
            rows: self.rows.max(other.rows),
            search: self.search.max(other.search),
            fetch: self.fetch.max(other.fetch),
        }
    }

    /// Phase by phase, both together.
    #[must_use]
    pub fn then(&self, next: &Self) -> Self {
        Self {
            snapshot: self.snapshot.saturating_add(next.snapshot),
            open: self.open.saturating_add(next.open),
            outline: self.outline.saturating_add(next.outline),
            cells: self.cells.saturating_add(next.cells),
            rows: self.rows.saturating_add(next.rows),
            search: self.search.saturating_add(next.search),
            fetch: self.fetch.saturating_add(next.fetch),
        }
    }
}
