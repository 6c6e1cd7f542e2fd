//! Search: snapshots of an index, plans, leaf search and the merge.
//!
//! An [`Engine`] answers queries over the indices of one store. Each answer is computed against one snapshot: one
//! manifest and the timeline's tail after its watermark (`snapshot-never-mixes-generations`). Writes nothing to the store.
//! Links neither DataFusion nor an HTTP server; object-store waits are async, computing happens on a pool of its own.

mod cold;
mod column;
mod definition;
mod describe;
mod engine;
mod error;
mod execute;
mod expiry;
mod export;
mod filter;
mod generation;
mod group;
mod leaf;
mod moment;
mod open_files;
mod plan;
mod points;
mod pool;
mod prices;
mod query_cache;
mod ranking;
mod reader;
mod recall;
mod receipt;
mod request;
mod round;
mod sample;
mod settings;
mod shape;
mod snapshot;
mod splits;
mod statistics;
mod tail;
mod turns;
mod validate;
mod wire;

pub use describe::{IndexDescription, SegmentDescription, ShardDescription, SplitDescription};
pub use engine::{Engine, EngineStats};
pub use error::SearchError;
pub use export::{Export, ExportRequest};
pub use leaf::{InProcess, LeafAnswer, LeafError, LeafHit, LeafRequest, LeafSearch, LeafWork, Pin};
pub use points::{Point, PointsPage, PointsRequest};
pub use prices::{FunctionSize, function_dollars, request_dollars};
pub use ranking::{Ranked, Ranking};
pub use recall::{FilterClass, ObservedRecall, RECALL_K, RECALL_QUERIES, RecallReport, RecallRequest};
pub use receipt::{CacheState, ColdPlan, SegmentPlan, SegmentReceipt};
pub use request::{Consistency, Found, GroupFailure, SearchRequest, SearchResponse, Timings};
pub use round::Round;
pub use sample::{Sample, SampleRequest, SampledPoints};
pub use settings::{ColdSettings, EngineSettings, Hydration};
pub use shape::{Beside, Combine, FoundGroup, FoundGroups, GroupScore, Grouping, Shape};
pub use statistics::{Drift, IndexStatistics, MeasuredFrom, StatisticsRequest};
