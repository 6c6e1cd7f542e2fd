//! The HTTP routes that search: search, info, probe, and what describes an index or pages through it.
//!
//! They decode, call the engine once, and encode. Handlers exist once: [`query_router`] is what the search function runs,
//! [`serve_router`] joins it with the routes of ingest and management, as `tarn serve` wants it.

mod describe;
mod dto;
mod error;
mod openapi;
mod points;
mod router;
mod search;
mod state;

pub use dto::{
    Circumstances, DollarsDto, FoundDataPointDto, IndexDescriptionDto, IndexInfoDto, MillisecondsDto, PlanDto,
    PointDto, PointsDto, ReceiptDto, RequestsDto, SearchQueryDto, SearchResultDto, SegmentDescriptionDto,
    SegmentReceiptDto, ShardDescriptionDto, SplitDescriptionDto,
};
pub use openapi::openapi;
pub use router::{query_router, serve_router};
pub use state::QueryState;
