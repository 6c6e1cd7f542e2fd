//! The engine against the reference model, over manifests built by hand and tails appended for real.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "search/answers.rs"]
mod answers;
#[path = "search/cold.rs"]
mod cold;
#[path = "search/corruption.rs"]
mod corruption;
#[path = "search/deadlines.rs"]
mod deadlines;
#[path = "search/files.rs"]
mod files;
#[path = "search/freshness.rs"]
mod freshness;
#[path = "search/gate.rs"]
mod gate;
#[path = "search/hints.rs"]
mod hints;
#[path = "search/leaves.rs"]
mod leaves;
#[path = "search/query_cache.rs"]
mod query_cache;
#[path = "search/recall.rs"]
mod recall;
#[path = "search/receipts.rs"]
mod receipts;
#[path = "search/retention.rs"]
mod retention;
#[path = "search/selectivity.rs"]
mod selectivity;
#[path = "search/shapes.rs"]
mod shapes;
#[path = "search/upsert.rs"]
mod upsert;
#[path = "search/world.rs"]
mod world;
