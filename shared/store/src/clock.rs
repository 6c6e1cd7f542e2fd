//! Time, injected: the only place that reads the machine's clocks.

use std::fmt::Debug;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

/// The time, as the store and everything above it sees it. Tests put a clock of their own in its place.
///
/// Neither reading orders events between machines; no protocol depends on it. Generations and sequences do that.
#[async_trait]
pub trait Clock: Send + Sync + Debug {
    /// Milliseconds since the Unix epoch. May jump, also backwards.
    fn now_ms(&self) -> i64;

    /// Time since an arbitrary start. Never goes backwards, and counts the time in which the machine was suspended: how old
    /// knowledge is decides what may be believed, and others go on while we sleep.
    fn monotonic(&self) -> Duration;

    /// Returns after at least `duration` of this clock's time.
    async fn sleep(&self, duration: Duration);
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// A lead that the wall clock gains between two readings, from which on it is taken for a suspension. Below, it is the wall
/// clock being set right little by little.
const SUSPENDED_MS: i64 = 1_000;

/// The time that a machine has slept, which its steady clock leaves out (Linux and macOS stop it, as do frozen functions)
/// and its wall clock shows. A wall clock that somebody sets forward looks the same; then knowledge is taken for older than
/// it is, which is the safe side.
#[derive(Debug)]
struct Suspensions {
    /// How far the wall clock was ahead of the steady one at the last reading.
    lead_ms: AtomicI64,
    total_ms: AtomicU64,
}

impl Suspensions {
    fn new(lead_ms: i64) -> Self {
        Self { lead_ms: AtomicI64::new(lead_ms), total_ms: AtomicU64::new(0) }
    }

    /// The total, given the lead of now.
    fn total(&self, lead_ms: i64) -> Duration {
        let gained = |before: i64| lead_ms.saturating_sub(before);
        if gained(self.lead_ms.load(Ordering::Relaxed)).saturating_abs() >= SUSPENDED_MS {
            // Of readings at the same time one swaps first, and the others gain nothing more.
            let gained = gained(self.lead_ms.swap(lead_ms, Ordering::AcqRel));
            if let Some(slept) = u64::try_from(gained).ok().filter(|_| gained >= SUSPENDED_MS) {
                self.total_ms.fetch_add(slept, Ordering::AcqRel);
            }
        }
        Duration::from_millis(self.total_ms.load(Ordering::Acquire))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[async_trait]
#[expect(clippy::disallowed_methods, reason = "the one place where the machine's clocks are read")]
impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => millis(since),
            Err(before) => -millis(before.duration()),
        }
    }

    fn monotonic(&self) -> Duration {
        static START: OnceLock<(Instant, Suspensions)> = OnceLock::new();
        let (start, suspensions) = START.get_or_init(|| (Instant::now(), Suspensions::new(self.now_ms())));
        let awake = start.elapsed();
        awake + suspensions.total(self.now_ms().saturating_sub(millis(awake)))
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_suspension_counts_once() {
        let suspensions = Suspensions::new(5_000);
        let total = |lead_ms| suspensions.total(lead_ms).as_millis();
        assert_eq!(total(5_000), 0);
        assert_eq!(total(5_900), 0, "a wall clock that is being set right");
        assert_eq!(total(5_000 + 3_600_000), 3_600_000, "an hour of sleep");
        assert_eq!(total(5_000 + 3_600_000), 3_600_000);
        assert_eq!(total(0), 3_600_000, "the wall clock is set back: time does not go backwards");
        assert_eq!(total(60_000), 3_660_000, "and a sleep after that counts all the same");
    }

    #[test]
    fn the_steady_clock_never_goes_backwards() {
        let readings: Vec<_> = (0..10_000).map(|_| SystemClock.monotonic()).collect();
        assert!(readings.is_sorted());
    }
}
