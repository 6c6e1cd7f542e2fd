//! The real time, moved forward at will.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tarn_store::{Clock, SystemClock};

/// A clock that agrees with the stores about when objects were written, until a test moves it forward to make them old.
/// Sleeping moves it forward and takes no time.
#[derive(Debug, Default)]
pub struct ShiftedClock {
    ahead_ns: AtomicU64,
}

impl ShiftedClock {
    /// A clock that shows the real time.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock forward.
    pub fn advance(&self, duration: Duration) {
        self.ahead_ns.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    fn ahead(&self) -> Duration {
        Duration::from_nanos(self.ahead_ns.load(Ordering::SeqCst))
    }
}

#[async_trait]
impl Clock for ShiftedClock {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms().saturating_add(i64::try_from(self.ahead().as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic() + self.ahead()
    }

    async fn sleep(&self, duration: Duration) {
        self.advance(duration);
        tokio::task::yield_now().await;
    }
}
