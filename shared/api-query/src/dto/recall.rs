//! The shapes of what is said about recall.

use serde::{Deserialize, Serialize};
use tarn_api::AttributeDto;
use tarn_search::{ObservedRecall, RecallReport};
use utoipa::ToSchema;

/// What to measure; all of it optional.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RecallQueryDto {
    /// Neighbours of each point, 10 unless given.
    #[schema(nullable = false, minimum = 1, maximum = 1000)]
    pub k: Option<u32>,
    /// How many points are searched for, 100 unless given.
    #[schema(nullable = false, minimum = 1, maximum = 1000)]
    pub queries: Option<u32>,
    /// Which ones: as of a sample. 0 unless given.
    #[schema(nullable = false)]
    pub seed: Option<u64>,
    /// As of a search; points are drawn from these and searched among them.
    #[schema(nullable = false)]
    pub split_filter: Option<Vec<AttributeDto>>,
    /// Likewise.
    #[schema(value_type = Option<Object>)]
    pub filter: Option<serde_json::Value>,
    /// As of a search.
    #[schema(nullable = false, maximum = 1)]
    pub target_recall: Option<f64>,
    /// As of a search.
    #[schema(nullable = false, minimum = 1)]
    pub ef_search: Option<u32>,
    /// As of a search.
    #[schema(nullable = false, minimum = 1)]
    pub nprobe: Option<u32>,
    /// After so many milliseconds what is measured so far is the answer.
    #[schema(nullable = false)]
    pub deadline_ms: Option<f64>,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecallDto {
    /// The mean of the queries' recalls; 1 when there is nothing to find.
    pub recall: f64,
    /// That of the worst query.
    pub lowest: f64,
    /// How many points were searched for; fewer than wanted when there are fewer, or when the deadline struck.
    pub queries: u32,
    /// `false`: the deadline struck before all of them were.
    pub complete: bool,
    /// Neighbours of each.
    pub k: u32,
    /// The searches, as they are made every day, together.
    pub search_milliseconds: f64,
    /// The exact ones.
    pub exact_milliseconds: f64,
}

/// The recall that real searches had, as far as this process has compared them.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObservedRecallDto {
    /// What they were restricted by: `none`, `split`, `filter` or `splitAndFilter`.
    pub filter: String,
    /// The mean.
    pub recall: f64,
    /// Query vectors compared since the process began.
    pub queries: u64,
}

impl From<RecallReport> for RecallDto {
    fn from(report: RecallReport) -> Self {
        Self {
            recall: report.recall,
            lowest: report.lowest,
            queries: report.queries,
            complete: report.complete,
            k: report.k,
            search_milliseconds: report.searching.as_secs_f64() * 1e3,
            exact_milliseconds: report.exact.as_secs_f64() * 1e3,
        }
    }
}

impl From<&ObservedRecall> for ObservedRecallDto {
    fn from(observed: &ObservedRecall) -> Self {
        Self { filter: observed.class.name().to_owned(), recall: observed.recall(), queries: observed.queries }
    }
}
