//! What the benchmarks share: the machine's name, quantiles, batches that are made up, data sets that are not. Not part of the
//! product.

#![allow(clippy::disallowed_methods, reason = "benchmarks measure real time")]

mod batches;
mod data;
mod report;

pub use batches::arrow_batch;
pub use data::{Data, Matrix};
pub use report::{Quantiles, machine};
