//! Waiting before another try: exponential, with full jitter, bounded.
//!
//! Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// How often and how long to wait. Data; see [`Backoff`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// Upper bound of the first wait.
    pub initial: Duration,
    /// Upper bound of any wait.
    pub max: Duration,
    /// Waits before giving up.
    pub retries: u32,
}

impl Default for BackoffPolicy {
    /// Gives up after about 2 seconds of waiting.
    fn default() -> Self {
        Self { initial: Duration::from_millis(50), max: Duration::from_secs(1), retries: 5 }
    }
}

/// The waits of one operation.
#[derive(Debug)]
pub struct Backoff {
    policy: BackoffPolicy,
    bound: Duration,
    taken: u32,
    rng: SmallRng,
}

impl Backoff {
    /// The waits are a function of policy and seed.
    pub fn new(policy: BackoffPolicy, seed: u64) -> Self {
        Self { policy, bound: policy.initial.min(policy.max), taken: 0, rng: SmallRng::seed_from_u64(seed) }
    }

    /// How long to wait before the next try; `None` when it is time to give up.
    pub fn next_wait(&mut self) -> Option<Duration> {
        if self.taken == self.policy.retries {
            return None;
        }
        self.taken += 1;
        let wait = self.bound.mul_f64(self.rng.random::<f64>());
        self.bound = (self.bound * 2).min(self.policy.max);
        Some(wait)
    }

    /// Waits taken so far.
    pub fn taken(&self) -> u32 {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_bounded_and_end() {
        let policy = BackoffPolicy { initial: Duration::from_millis(10), max: Duration::from_millis(35), retries: 6 };
        let mut backoff = Backoff::new(policy, 7);
        let waits: Vec<_> = std::iter::from_fn(|| backoff.next_wait()).collect();
        assert_eq!(waits.len(), 6);
        for (wait, bound) in waits.iter().zip([10, 20, 35, 35, 35, 35]) {
            assert!(*wait <= Duration::from_millis(bound), "{waits:?}");
        }
        assert_eq!(backoff.next_wait(), None);
    }

    #[test]
    fn different_seeds_wait_differently() {
        let waits = |seed| {
            let mut backoff = Backoff::new(BackoffPolicy::default(), seed);
            std::iter::from_fn(move || backoff.next_wait()).collect::<Vec<_>>()
        };
        assert_ne!(waits(1), waits(2));
        assert_eq!(waits(1), waits(1));
    }
}
