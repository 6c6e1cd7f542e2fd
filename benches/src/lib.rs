//! What the benchmarks share: the machine's name, quantiles, charts, batches that are made up, data sets that are not, a server and
//! a client of it. Not part of the product.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "benchmarks measure real time and print")]

mod batches;
mod data;
mod fill;
mod http;
mod report;
mod server;
mod svg;

pub use batches::arrow_batch;
pub use data::{Data, Matrix};
pub use fill::{fill, index, index_of};
pub use http::{Answer, Connection};
pub use report::{Quantiles, machine};
pub use server::Server;
pub use svg::{Chart, Corner, Series, Style, distribution};

/// What a benchmark gives, or why it cannot go on.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
