//! A clock on which those who sleep at the same time wake at the same time, in no time at all.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tarn_store::Clock;
use tokio::sync::oneshot;

/// 2026-01-01T00:00:00Z, where every [`SteppedClock`] starts.
const START_MS: i64 = 1_767_225_600_000;
/// How often everybody gets a turn before time goes on: more often than the longest chain of tasks that wake each other.
const TURNS: usize = 64;

/// A clock for measuring how long something would take that waits for far stores, some of the waits at the same time. Time
/// stands still while anybody has something to do, and then jumps to the next moment for which somebody waits; see
/// [`Self::run`]. For one clock, one `run` at a time.
#[derive(Debug, Default)]
pub struct SteppedClock(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    now: Duration,
    sleepers: Vec<(Duration, oneshot::Sender<()>)>,
}

impl SteppedClock {
    /// A clock at its start.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a future to its end and says how much of this clock's time that took. On a current-thread runtime the answer is
    /// exact as long as nobody but futures of this runtime has something to do.
    pub async fn run<F: Future>(&self, future: F) -> (F::Output, Duration) {
        let began = self.monotonic();
        let mut future = pin!(future);
        loop {
            for _ in 0..TURNS {
                let polled = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
                if let Poll::Ready(output) = polled {
                    return (output, self.monotonic().saturating_sub(began));
                }
                tokio::task::yield_now().await;
            }
            // If nobody sleeps, a thread is at work.
            self.step();
        }
    }

    fn sleeper(&self, duration: Duration) -> oneshot::Receiver<()> {
        let (sleeper, woken) = oneshot::channel();
        let mut state = self.0.lock();
        let due = state.now + duration;
        state.sleepers.push((due, sleeper));
        woken
    }

    /// Wakes those who are to wake next.
    fn step(&self) {
        let mut state = self.0.lock();
        state.sleepers.retain(|(_, sleeper)| !sleeper.is_closed());
        let Some(next) = state.sleepers.iter().map(|(due, _)| *due).min() else { return };
        state.now = state.now.max(next);
        let (due, later) = std::mem::take(&mut state.sleepers).into_iter().partition(|(due, _)| *due <= next);
        state.sleepers = later;
        drop(state);
        let due: Vec<(Duration, oneshot::Sender<()>)> = due;
        for (_, sleeper) in due {
            // Whoever gave up does not wake.
            let _ = sleeper.send(());
        }
    }
}

#[async_trait]
impl Clock for SteppedClock {
    fn now_ms(&self) -> i64 {
        START_MS + i64::try_from(self.monotonic().as_millis()).unwrap_or(i64::MAX - START_MS)
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().now
    }

    async fn sleep(&self, duration: Duration) {
        let woken = self.sleeper(duration);
        // The clock may be gone before its sleepers.
        let _ = woken.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_at_the_same_time_take_the_time_of_the_longest() {
        let clock = SteppedClock::new();
        let sleep = |ms| clock.sleep(Duration::from_millis(ms));
        let waits = async {
            futures::join!(sleep(20), sleep(50), async {
                sleep(10).await;
                sleep(30).await;
            });
            sleep(5).await;
        };
        let ((), took) = clock.run(waits).await;
        assert_eq!(took, Duration::from_millis(55));
    }

    #[tokio::test]
    async fn who_gives_up_waiting_does_not_move_the_time() {
        let clock = SteppedClock::new();
        let either = async {
            tokio::select! {
                () = clock.sleep(Duration::from_millis(7)) => {}
                () = clock.sleep(Duration::from_secs(60)) => {}
            }
            clock.sleep(Duration::from_millis(1)).await;
        };
        assert_eq!(clock.run(either).await.1, Duration::from_millis(8));
    }
}
