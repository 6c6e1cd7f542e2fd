//! What the benchmarks share: the machine's name, quantiles, generated batches. Not part of the product.

#![allow(clippy::disallowed_methods, reason = "benchmarks measure real time")]

mod batches;
mod report;

pub use batches::arrow_batch;
pub use report::{Quantiles, machine};
