//! For tests only: fixtures, the reference model, clocks that tests drive, a store that fails on request, the conformance
//! suite of stores, and a real S3 server on loopback. Production crates never depend on this one, except as a
//! dev-dependency.
//!
//! The model test in `tests/` draws [`Step`]s for a [`Scenario`], performs them on the real crates, and judges every
//! answer by the [`Reference`].

mod clock;
pub mod conformance;
mod fault;
mod judge;
mod reference;
mod scenario;
mod shaped;
mod shifted;
mod shrink;
mod step;
mod stepped;
mod weed;

pub use clock::ManualClock;
pub use fault::{Fault, FaultStore, Faults, Held, Operation};
pub use judge::{
    Answer, Judged, Question, TOLERANCE, Wanted, check_exact, check_found, check_groups, check_identical, check_line,
    recall,
};
pub use reference::{Neighbour, Reference, Scope, distance, nearness};
pub use scenario::Scenario;
pub use shaped::{Fuse, Groups, Rank, RankBy, Side, fused, grouped, reciprocal, score};
pub use shifted::{ShiftedClock, ShiftedStore};
pub use shrink::shrink;
pub use step::{
    AsOf, AtLeast, Beside, Deletion, Faulty, Fused, Generator, GroupBy, Grouped, HintFault, Sampling, Search, Shaped,
    Statistic, Step, Stored, Upload,
};
pub use stepped::SteppedClock;
pub use weed::Weed;
