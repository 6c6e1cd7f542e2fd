//! Searches a cells file that lies in a store, by a few ranged reads: no I/O here, ranges out and bytes in.
//!
//! # The protocol of reads
//! 1. *Outline*. The catalog says how many bytes the end of the file takes that a reader needs first
//!    ([`CatalogSegment::outline`][crate::CatalogSegment::outline]; 0: the file can only be read whole). One read of so
//!    many last bytes, then [`Outline::read`]. Keep it as long as the file matters: it is what "next query" saves.
//! 2. *Columns*, only with a filter: the ranges of [`Outline::column_range`], then [`Outline::columns`] gives a batch
//!    of these columns for all rows; the rows that match go into [`Rows::matches`][crate::Rows::matches].
//! 3. *Cells*. [`Outline::plan_cells`] chooses cells for one or several queries. `None`: what was asked for cannot be
//!    promised this way, fetch the whole file. Else read all of [`CellPlan::ranges`], at the same time, and hand the
//!    bytes to [`CellPlan::scan`] in that order. There may be no ranges: everything was in [`FetchedCells`].
//! 4. *Rows*. Read all of [`RowPlan::ranges`] and hand the bytes to [`RowPlan::hits`], with a closure that says which
//!    points the timeline's tail has replaced, by key. It answers [`ColdHits::Found`], or [`ColdHits::More`]: some
//!    record did not fit its slot. Read [`RecordPlan::ranges`], then [`RecordPlan::hits`].
//!
//! Every step is short and pure computation: microseconds to a millisecond. Plans own what they need and may be sent to
//! another thread. Bytes whose length is not the range's, or that are not what was written, give
//! [`Corrupt`][tarn_model::Corrupt].
//!
//! # What is promised
//! [`Effort::Recall`][crate::Effort::Recall] is met as it was measured at build, on held-out rows, with as many ranges as
//! [`ColdBudget::default`] has. A budget of more saves bytes, one of fewer costs some; neither finds less. What does is a
//! budget of too few bytes, and then [`RowPlan::capped`] says so; and points that the tail has replaced, the more of them
//! are among the nearest. Distances are the bits that [`Segment::search`][crate::Segment::search] gives. An answer that is
//! [`ColdAnswer::short`] has fewer than `k` hits although there may be more: fetch the whole file.
//!
//! Owns `nothing-unverified-is-used`: the outline's blocks by the footer, the footer by the catalog's checksum of the
//! whole file, cells by the directory, slots by their own checksum, records by their slot's.

mod answer;
mod calibration;
mod choose;
mod fetched;
mod outline;
mod plan;
mod runs;

pub use answer::{ColdAnswer, ColdHit, ColdHits, RecordPlan, RowPlan};
pub(crate) use calibration::{Bins, CELL_RANGES, ROW_RANGES, measured_row_bytes};
pub use calibration::{ColdCalibration, ColdShare, ColdStep};
pub(crate) use choose::{Ranked, RowChoice, RunCount, add_worth, choose_cells, holds, scan_cells};
pub use fetched::FetchedCells;
pub use outline::Outline;
pub use plan::{CellPlan, ColdBudget};
