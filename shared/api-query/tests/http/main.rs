//! The routes that search, driven through the router of `tarn serve` over a store in memory. Nothing is built: the timeline
//! alone answers, which is what the handlers have to get right. Builds are tested end to end elsewhere.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod console;
mod definitions;
mod layer_one;
mod layer_two;
mod reading;
mod recall;
mod server;
mod shapes;
