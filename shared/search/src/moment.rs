//! When something was looked at, and how long ago that is.

use std::time::Duration;

use tarn_store::Clock;

/// A moment by both clocks. A function that is frozen between requests may find its monotonic clock stopped meanwhile, and
/// a wall clock may jump back: the longer of the two ages is the one that errs to the safe side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    monotonic: Duration,
    wall_ms: i64,
}

impl Moment {
    /// Now.
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        Self { monotonic: clock.monotonic(), wall_ms: clock.now_ms() }
    }

    /// Time from an earlier moment to this one, at least.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let wall = u64::try_from(self.wall_ms.saturating_sub(earlier.wall_ms)).unwrap_or(0);
        self.monotonic.saturating_sub(earlier.monotonic).max(Duration::from_millis(wall))
    }
}
