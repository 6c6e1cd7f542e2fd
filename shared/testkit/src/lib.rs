//! For tests only: a clock that tests drive, a store that fails on request, the conformance suite of stores, and a real
//! S3 server on loopback. Production crates never depend on this one, except as a dev-dependency.

mod clock;
pub mod conformance;
mod fault;
mod weed;

pub use clock::ManualClock;
pub use fault::{Fault, FaultStore, Faults, Operation};
pub use weed::Weed;
