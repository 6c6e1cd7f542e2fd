//! Fixtures, the reference model, fault injection and a manual clock for tests.
//!
//! The model test in `tests/` draws [`Step`]s for a [`Scenario`], performs them on the real crates, and judges every
//! answer by the [`Reference`].

mod judge;
mod reference;
mod scenario;
mod shifted;
mod shrink;
mod step;

pub use judge::{Answer, Question, TOLERANCE, check_exact, check_found, check_identical, recall};
pub use reference::{Neighbour, Reference, Scope, distance, nearness};
pub use scenario::Scenario;
pub use shifted::ShiftedClock;
pub use shrink::shrink;
pub use step::{AtLeast, Faulty, Generator, Search, Step, Upload};
