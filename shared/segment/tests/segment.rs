//! Segments through their public interface, against naive references.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, may panic")]

#[path = "segment/cells.rs"]
mod cells;
#[path = "segment/clustered.rs"]
mod clustered;
#[path = "segment/cold.rs"]
mod cold;
#[path = "segment/corruption.rs"]
mod corruption;
#[path = "segment/dense.rs"]
mod dense;
#[path = "segment/golden.rs"]
mod golden;
#[path = "segment/graph.rs"]
mod graph;
#[path = "segment/keys.rs"]
mod keys;
#[path = "segment/links.rs"]
mod links;
#[path = "segment/scan.rs"]
mod scan;
#[path = "segment/sparse.rs"]
mod sparse;
#[path = "segment/support.rs"]
mod support;
#[path = "segment/unseen.rs"]
mod unseen;
