//! The HTTP routes that search: search, info, probe, and what describes an index or pages through it.
//!
//! They decode, call the engine once, and encode. Handlers exist once: [`query_router`] is what the search function runs,
//! [`serve_router`] joins it with the routes of ingest and management, as `tarn serve` wants it.

mod describe;
mod dto;
mod error;
mod openapi;
mod parameters;
mod points;
mod recall;
mod router;
mod sample;
mod search;
mod state;
mod statistics;

pub use dto::{
    BesideDto, Circumstances, DistancesDto, DollarsDto, DriftDto, FoundDataPointDto, GroupDto, IndexDescriptionDto,
    IndexInfoDto, MillisecondsDto, ObservedRecallDto, PlanDto, PointDto, PointsDto, RankingDto, RecallDto,
    RecallQueryDto, ReceiptDto, RequestsDto, SampleDto, SampleQueryDto, SearchQueryDto, SearchResultDto,
    SegmentDescriptionDto, SegmentReceiptDto, ShardDescriptionDto, SplitDescriptionDto, StatisticsDto,
};
pub use openapi::openapi;
pub use router::{query_router, serve_router};
pub use state::QueryState;
