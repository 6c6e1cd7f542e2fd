//! The receipt of a search: the shape, and what becomes of the engine's.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tarn_search::{
    CacheState, ColdPlan, FunctionSize, Ranked, SearchResponse, SegmentPlan, SegmentReceipt, function_dollars,
    request_dollars,
};
use utoipa::ToSchema;

/// How an answer came about and what it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptDto {
    /// How each segment was searched.
    pub segments: Vec<SegmentReceiptDto>,
    /// Requests to the object store. `total` is also the header `Tarn-Requests`.
    pub requests: RequestsDto,
    /// Bytes read from the object store; also the header `Tarn-Bytes`.
    pub bytes: u64,
    /// The longest chain of requests of which each may have had to wait for the one before.
    pub round_trips: u32,
    /// By phase; also the header `Server-Timing`.
    pub milliseconds: MillisecondsDto,
    /// The fraction of the live rows that was considered; also the header `Tarn-Coverage`.
    pub coverage: f64,
    /// The version of the data source that the answer shows; also the header `Tarn-Version`.
    pub version: String,
    /// Which build answered.
    pub generation: u64,
    /// An estimate, by list prices.
    pub dollars: DollarsDto,
    /// What the answer is ranked by, unless it is the index's own distance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub ranking: Option<RankingDto>,
}

/// What an answer is ranked by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RankingDto {
    /// The score's name; absent for the index's own distance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub score: Option<String>,
    /// Whether more of it is better.
    pub higher_is_better: bool,
    /// `index`: the index served it. `scan`: every row was compared.
    pub by: String,
}

impl RankingDto {
    /// `None` for a search that asks for nothing but its index's own distance.
    fn new(ranked: Ranked) -> Option<Self> {
        let Ranked { score, higher_is_better, by_index } = ranked;
        let by = if by_index { "index" } else { "scan" };
        let says_more = score.is_some() || !by_index;
        says_more.then(|| Self {
            score: score.map(|score| score.name().to_owned()),
            higher_is_better,
            by: by.to_owned(),
        })
    }
}

/// How one segment was searched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SegmentReceiptDto {
    /// The shard's id; absent for updates that no build has taken in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub shard: Option<String>,
    /// The object's id; absent for updates that no build has taken in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub segment: Option<String>,
    /// Rows of the splits asked for, dead ones included.
    pub rows: u64,
    /// `mapped`: was at hand. `fetched`: as a whole, for this search. `cold`: ranges of it were read. `memory`: updates that no build
    /// has taken in. `missed`: not there before the deadline.
    pub cache: String,
    /// How.
    pub plan: PlanDto,
}

/// How a segment was searched. Which of the numbers there are depends on `by`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanDto {
    /// `exact`, `graph`, `cells`, `postings`, `cold`, or `none`.
    pub by: String,
    /// Candidates that the graph search kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub ef: Option<u32>,
    /// Cells probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub nprobe: Option<u32>,
    /// Rows compared with full precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub rescored: Option<u32>,
    /// Ranges read: columns for the filter, cells and rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub ranges: Option<u32>,
    /// Bytes read: outline, columns, cells and rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub bytes: Option<u64>,
    /// There, and true, when the bound on bytes left out some of what the wanted recall takes: it may be lower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub capped: Option<bool>,
}

/// Requests by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestsDto {
    /// Objects and ranges of them.
    pub get: u64,
    /// Metadata alone.
    pub head: u64,
    /// Pages of listings.
    pub list: u64,
    /// Writes.
    pub put: u64,
    /// Deletes.
    pub delete: u64,
    /// All of them.
    pub total: u64,
    /// Of these, how many were made a second time because the first was slow.
    pub hedged: u64,
}

/// Where the time went. Phases may overlap.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MillisecondsDto {
    /// Finding out what is current.
    pub snapshot: f64,
    /// Fetching and opening whole files.
    pub open: f64,
    /// Reading outlines of files that stay where they are, and columns for the filter.
    pub outline: f64,
    /// Reading and scanning cells of them.
    pub cells: f64,
    /// Reading and comparing rows of them.
    pub rows: f64,
    /// Distances, filters and the merge.
    pub search: f64,
    /// Attributes and vectors of what was found.
    pub fetch: f64,
    /// From the request to here.
    pub total: f64,
}

/// In US dollars.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DollarsDto {
    /// Of the requests to S3; 0 for a store that is none.
    pub requests: f64,
    /// Of the functions that worked for the answer, their invocations included; 0 outside of Lambda.
    pub compute: f64,
    /// Both.
    pub total: f64,
}

/// What is known of a search beside the engine's answer.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// Whether requests to the store cost money.
    pub on_s3: bool,
    /// The function that this is, if it is one.
    pub function: Option<FunctionSize>,
    /// Since the request came.
    pub took: Duration,
}

impl ReceiptDto {
    /// Of an answer.
    pub fn new(response: &SearchResponse, circumstances: Circumstances) -> Self {
        let Circumstances { on_s3, function, took } = circumstances;
        let counts = &response.spent.requests;
        let requests = if on_s3 { request_dollars(counts) } else { 0.0 };
        let leaves = response.leaves;
        let time = took.saturating_add(leaves.time);
        let compute = function.map_or(0.0, |function| function_dollars(function, 1 + leaves.answers, time));
        Self {
            segments: response.segments.iter().map(SegmentReceiptDto::from).collect(),
            requests: RequestsDto {
                get: counts.gets,
                head: counts.heads,
                list: counts.lists,
                put: counts.puts,
                delete: counts.deletes,
                total: counts.total(),
                hedged: response.spent.hedged,
            },
            bytes: counts.bytes_read,
            round_trips: response.spent.round_trips,
            milliseconds: MillisecondsDto::new(response, took),
            coverage: response.coverage,
            version: response.version.to_string(),
            generation: response.generation,
            dollars: DollarsDto { requests, compute, total: requests + compute },
            ranking: RankingDto::new(response.ranked),
        }
    }
}

impl MillisecondsDto {
    /// Of an answer that took so long.
    pub(crate) fn new(response: &SearchResponse, took: Duration) -> Self {
        // To the microsecond.
        let ms = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
        let timings = &response.timings;
        Self {
            snapshot: ms(timings.snapshot),
            open: ms(timings.open),
            outline: ms(timings.outline),
            cells: ms(timings.cells),
            rows: ms(timings.rows),
            search: ms(timings.search),
            fetch: ms(timings.fetch),
            total: ms(took),
        }
    }

    /// Name and milliseconds of each phase that there was, in order.
    pub fn phases(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let Self { snapshot, open, outline, cells, rows, search, fetch, total } = *self;
        let always = ["snapshot", "search", "fetch", "total"];
        let all = [
            ("snapshot", snapshot),
            ("open", open),
            ("outline", outline),
            ("cells", cells),
            ("rows", rows),
            ("search", search),
            ("fetch", fetch),
            ("total", total),
        ];
        all.into_iter().filter(move |(name, ms)| *ms > 0.0 || always.contains(name))
    }
}

impl From<&SegmentReceipt> for SegmentReceiptDto {
    fn from(receipt: &SegmentReceipt) -> Self {
        let cache = match receipt.state {
            CacheState::Mapped => "mapped",
            CacheState::Fetched => "fetched",
            CacheState::Cold => "cold",
            CacheState::Memory => "memory",
            CacheState::Missed => "missed",
        };
        Self {
            shard: receipt.shard.clone(),
            segment: receipt.segment.map(|id| id.to_string()),
            rows: receipt.rows,
            cache: cache.to_owned(),
            plan: PlanDto::from(receipt.plan),
        }
    }
}

impl From<SegmentPlan> for PlanDto {
    fn from(plan: SegmentPlan) -> Self {
        let by = |by: &str| Self { by: by.to_owned(), ..Self::default() };
        match plan {
            SegmentPlan::None => by("none"),
            SegmentPlan::Exact => by("exact"),
            SegmentPlan::Postings => by("postings"),
            SegmentPlan::Graph { ef } => Self { ef: Some(ef), ..by("graph") },
            SegmentPlan::Cells { nprobe, rescored } => {
                Self { nprobe: Some(nprobe), rescored: Some(rescored), ..by("cells") }
            }
            SegmentPlan::Cold(ColdPlan {
                outline_bytes,
                column_ranges,
                column_bytes,
                cells,
                cell_ranges,
                cell_bytes,
                rescored,
                row_ranges,
                row_bytes,
                capped,
            }) => Self {
                nprobe: Some(cells),
                rescored: Some(rescored),
                ranges: Some(column_ranges + cell_ranges + row_ranges),
                bytes: Some(outline_bytes + column_bytes + cell_bytes + row_bytes),
                capped: capped.then_some(true),
                ..by("cold")
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_that_it_was_capped_if_it_was() {
        let plan = |capped| {
            let plan = SegmentPlan::Cold(ColdPlan { capped, ..ColdPlan::default() });
            serde_json::to_value(PlanDto::from(plan)).unwrap()
        };
        assert_eq!(plan(true)["capped"], true);
        assert!(plan(false).get("capped").is_none());
    }
}
