//! Time, injected: the only place that reads the machine's clocks.

use std::fmt::Debug;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

/// The time, as the store and everything above it sees it. Tests put a clock of their own in its place.
///
/// Neither reading orders events between machines; no protocol depends on it. Generations and sequences do that.
#[async_trait]
pub trait Clock: Send + Sync + Debug {
    /// Milliseconds since the Unix epoch. May jump, also backwards.
    fn now_ms(&self) -> i64;

    /// Time since an arbitrary start. Never goes backwards.
    fn monotonic(&self) -> Duration;

    /// Returns after at least `duration` of this clock's time.
    async fn sleep(&self, duration: Duration);
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
#[expect(clippy::disallowed_methods, reason = "the one place where the machine's clocks are read")]
impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let millis = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => millis(since),
            Err(before) => -millis(before.duration()),
        }
    }

    fn monotonic(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
