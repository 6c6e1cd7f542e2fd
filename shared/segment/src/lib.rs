//! Segment files: flat, graph and sparse, their scorers and their checksums. The only unsafe code.
#![allow(unsafe_code)]

mod calibration;
mod catalog;
mod error;
mod hit;
mod input;
mod kind;
mod query;
mod rows;
mod segment;
mod write;

pub use calibration::{Calibration, CalibrationPoint};
pub use catalog::{Catalog, CatalogSegment, SplitRows};
pub use error::SegmentError;
pub use hit::{Answer, Effort, Hit, Plan, compare_hits};
pub use input::{SegmentInput, Vectors};
pub use kind::{Build, SegmentKind, SegmentSettings};
pub use query::Query;
pub use rows::Rows;
pub use segment::Segment;
pub use write::{ProgressFn, SegmentSummary, write_segment, write_segment_to};
