//! Segment files: flat, graph, cells and sparse, their scorers and their checksums. The only unsafe code of the workspace.
//!
//! A segment is an immutable set of rows: point keys, attributes and vectors, indexed for one metric. [`write_segment`]
//! makes a file of it, [`Segment::open`] maps and verifies one, [`Segment::in_memory`] searches rows that no file has.
//! An [`Outline`] leads to what a search needs of a file that lies in a store, a few ranges of bytes at a time.
//! A [`Catalog`] lists a shard's segments, the dead rows in each, and where each split's rows are.
//!
//! It knows nothing of object stores, timelines or indices, does no async, and reads no clock: a deadline is the `stop`
//! callback of a search.
//!
//! Unsafe code: mapping files, viewing usearch images, and vector intrinsics.
#![allow(unsafe_code)]

mod calibration;
mod catalog;
mod cells;
mod choose;
mod cold;
mod column;
mod columns;
mod cost;
mod dense;
mod error;
mod flat;
mod format;
mod graph;
mod hit;
mod input;
mod ipc;
mod kernels;
mod keys;
mod kind;
mod ladder;
mod links;
mod propose;
mod query;
mod read;
mod record;
mod rows;
mod scan;
mod search;
mod segment;
mod slots;
mod sparse;
mod statistics;
mod topk;
mod write;

pub use calibration::{Calibration, CalibrationPoint, CellsCalibration, CellsPoint, CellsShare, Recall};
pub use catalog::{Catalog, CatalogSegment, SplitRows};
pub use cold::{
    CellPlan, ColdAnswer, ColdBudget, ColdCalibration, ColdHit, ColdHits, ColdShare, ColdStep, FetchedCells, Outline,
    RecordPlan, RowPlan,
};
pub use column::Column;
pub use error::SegmentError;
pub use hit::{Answer, Effort, Hit, Plan, compare_hits};
pub use input::{SegmentInput, Vectors};
pub use kind::{Build, SegmentKind, SegmentSettings};
pub use query::Query;
pub use rows::Rows;
pub use scan::Scan;
pub use segment::Segment;
pub use statistics::{Distances, STATISTICS_BINS, Statistics};
pub use write::{ProgressFn, SegmentSummary, write_segment, write_segment_to};

#[cfg(target_endian = "big")]
compile_error!("segment files are little-endian and are mapped as they are");
