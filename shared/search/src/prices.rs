//! What an answer costs, estimated from list prices.
//!
//! # The table
//! Amazon's list prices of us-east-1 as of November 2026, S3 Standard and Lambda, first tier, before any free tier or discount.
//! Other regions charge up to half as much again.
//!
//! | | US dollars |
//! |---|---|
//! | S3, 1,000 GET or HEAD | 0.0004 |
//! | S3, 1,000 PUT, COPY, POST or LIST | 0.005 |
//! | S3, DELETE | free |
//! | Lambda, GB-second, x86-64 | 0.0000166667 |
//! | Lambda, GB-second, Arm | 0.0000133334 |
//! | Lambda, 1,000,000 invocations | 0.20 |
//!
//! Not in it: storage, transfer (free within a region), logs, the API gateway. A failed or hedged request costs as much as another.

use std::time::Duration;

use tarn_store::RequestCounts;

const GET: f64 = 0.0004 / 1e3;
const PUT: f64 = 0.005 / 1e3;
const GB_SECOND_X86: f64 = 0.000_016_666_7;
const GB_SECOND_ARM: f64 = 0.000_013_333_4;
const INVOCATION: f64 = 0.20 / 1e6;

/// The size of a Lambda function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionSize {
    /// Its memory.
    pub memory_mb: u32,
    /// Whether it runs on Arm processors.
    pub arm: bool,
}

/// What so many requests to S3 cost, in US dollars.
pub fn request_dollars(requests: &RequestCounts) -> f64 {
    let reads = requests.gets + requests.heads;
    let writes = requests.puts + requests.lists;
    reads as f64 * GET + writes as f64 * PUT
}

/// What so many invocations of a function that take so long together cost, in US dollars.
pub fn function_dollars(function: FunctionSize, invocations: u64, time: Duration) -> f64 {
    let gb_second = if function.arm { GB_SECOND_ARM } else { GB_SECOND_X86 };
    let gigabytes = f64::from(function.memory_mb) / 1024.0;
    invocations as f64 * INVOCATION + gigabytes * time.as_secs_f64() * gb_second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_those_of_the_table() {
        let close = |found: f64, expected: f64| (found - expected).abs() < expected * 1e-9;
        let mut requests = RequestCounts::default();
        (requests.gets, requests.heads, requests.lists, requests.deletes) = (600, 400, 1000, 7);
        assert!(close(request_dollars(&requests), 0.0004 + 0.005));
        let function = FunctionSize { memory_mb: 2048, arm: false };
        assert!(close(function_dollars(function, 1_000_000, Duration::from_secs(3)), 0.20 + 6.0 * 0.000_016_666_7));
        let arm = FunctionSize { arm: true, ..function };
        assert!(close(function_dollars(arm, 0, Duration::from_secs(3)), 6.0 * 0.000_013_333_4));
    }
}
