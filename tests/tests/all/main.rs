//! Everything that is tested across crates, in one binary: one module for each concern.

mod concurrency;
mod hybrid;
mod model;
mod points;
mod recall;
mod requests;
mod s3;
