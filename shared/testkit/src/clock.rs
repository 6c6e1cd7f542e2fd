//! A clock that stands still until a test moves it, or until somebody sleeps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tarn_store::Clock;

/// 2026-01-01T00:00:00Z, where every [`ManualClock`] starts.
const START_MS: i64 = 1_767_225_600_000;

/// A clock for tests. A sleep moves it forward and returns at once, so that waits cost no time and timeouts are exact.
#[derive(Debug, Default)]
pub struct ManualClock {
    elapsed_ns: AtomicU64,
}

impl ManualClock {
    /// A clock at its start.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock forward.
    pub fn advance(&self, duration: Duration) {
        self.elapsed_ns.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed_ns.load(Ordering::SeqCst))
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        START_MS + i64::try_from(self.elapsed().as_millis()).unwrap_or(i64::MAX - START_MS)
    }

    fn monotonic(&self) -> Duration {
        self.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        self.advance(duration);
        // Whoever is waited for gets a turn.
        tokio::task::yield_now().await;
    }
}
