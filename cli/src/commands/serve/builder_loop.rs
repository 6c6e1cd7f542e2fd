//! The background builder of `tarn serve`.
//!
//! Builds when enough was uploaded, or when the interval has passed and something was uploaded. Other processes may write
//! to the store too, so it also looks without cause, less and less often while nothing is found. A failure is logged and
//! tried again with growing pauses; it never stops the server. The builder has a runtime of its own: folding must not
//! delay answers. Garbage is collected between builds.

use std::sync::Arc;
use std::time::Duration;

use tarn_compact::{Builder, BuilderSettings, GcOptions, Silent};
use tarn_store::{Clock, Store};
use tokio::runtime;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use super::http::{Stop, stopped};
use super::watch_uploads::Uploads;
use crate::error::CliError;

/// Looks without cause are at most this many intervals apart.
const IDLE_INTERVALS: u32 = 12;
/// Longest pause after failures.
const FAILURE_PAUSE_MAX: Duration = Duration::from_secs(300);
/// First pause after a failure.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// When to build, and how.
#[derive(Clone, Debug)]
pub(crate) struct LoopSettings {
    pub(crate) interval: Duration,
    pub(crate) after_deltas: u64,
    pub(crate) gc_interval: Duration,
    pub(crate) builder: BuilderSettings,
}

/// A running loop.
pub(crate) struct BuilderLoop {
    thread: JoinHandle<()>,
}

impl BuilderLoop {
    /// Starts the loop on threads of its own; it ends soon after `stop`, abandoning a build under way, which loses nothing.
    ///
    /// # Errors
    /// The settings make no sense, or threads cannot be started.
    pub(crate) fn start(store: Store, settings: LoopSettings, uploads: Uploads, stop: Stop) -> Result<Self, CliError> {
        let clock = store.clock().clone();
        let threads = settings.builder.threads.max(1);
        let builder = Builder::new(store, settings.builder.clone(), Arc::new(Silent))?;
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("tarn-build")
            .enable_all()
            .build()
            .map_err(|error| CliError::of(&error).while_doing("cannot start the builder's threads"))?;
        let LoopSettings { interval, after_deltas, gc_interval, .. } = settings;
        let pace = Pace { interval, after_deltas, gc_interval };
        let thread = tokio::task::spawn_blocking(move || {
            runtime.block_on(build_until_stopped(&builder, &*clock, pace, &uploads, stop));
            runtime.shutdown_timeout(Duration::from_secs(2));
        });
        Ok(Self { thread })
    }

    /// Waits for the end; call it once the loop was told to stop.
    pub(crate) async fn join(self) {
        if let Err(error) = self.thread.await {
            tracing::error!(%error, "the builder ended with a panic");
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Pace {
    interval: Duration,
    after_deltas: u64,
    gc_interval: Duration,
}

async fn build_until_stopped(builder: &Builder, clock: &dyn Clock, pace: Pace, uploads: &Uploads, mut stop: Stop) {
    // The first look comes at once: what an earlier process left is waiting.
    let mut idle_looks = 0;
    let mut failures = 0_u32;
    let mut collected = clock.monotonic();
    loop {
        let pending = uploads.take();
        let collect = clock.monotonic().saturating_sub(collected) >= pace.gc_interval;
        let outcome = tokio::select! {
            outcome = unless_it_panics(once(builder.clone(), collect)) => outcome,
            () = stopped(&mut stop) => return,
        };
        if collect {
            collected = clock.monotonic();
        }
        match outcome {
            Ok(published) => {
                failures = 0;
                idle_looks = if published || pending > 0 { 0 } else { idle_looks + 1 };
                tokio::select! {
                    () = next_build(clock, pace, idle_looks, uploads) => {}
                    () = stopped(&mut stop) => return,
                }
            }
            Err(()) => {
                failures = failures.saturating_add(1);
                let pause =
                    FAILURE_PAUSE.saturating_mul(1 << failures.min(16).saturating_sub(1)).min(FAILURE_PAUSE_MAX);
                tokio::select! {
                    () = clock.sleep(pause) => {}
                    () = stopped(&mut stop) => return,
                }
            }
        }
    }
}

/// Runs to the end, or until the caller has lost interest. A panic is logged when it happens and is a failure like any other:
/// the server goes on answering, so nobody would notice that nothing is built any more.
async fn unless_it_panics(work: impl Future<Output = Result<bool, ()>> + Send + 'static) -> Result<bool, ()> {
    AbortOnDropHandle::new(tokio::spawn(work)).await.unwrap_or_else(|error| {
        tracing::error!(%error, "the builder panicked; it will be tried again");
        Err(())
    })
}

/// Builds everything once, and collects garbage if it is time: whether anything was published. Failures are logged here.
async fn once(builder: Builder, collect: bool) -> Result<bool, ()> {
    if collect {
        match builder.collect_garbage(&GcOptions::default()).await {
            Ok(report) => tracing::info!(objects = report.objects.len(), bytes = report.bytes, "collected garbage"),
            // What it leaves behind, the next one takes.
            Err(error) => tracing::warn!(%error, "collecting garbage failed; it will be tried again"),
        }
    }
    match builder.run().await {
        Err(error) => {
            tracing::error!(%error, "the builder could not list the store");
            Err(())
        }
        Ok(summary) => {
            let mut failed = false;
            for (what, error) in summary.failures() {
                failed = true;
                tracing::error!(%error, "building {what} failed; it will be tried again");
            }
            if failed { Err(()) } else { Ok(summary.published()) }
        }
    }
}

/// Returns when it is time to build again.
async fn next_build(clock: &dyn Clock, pace: Pace, idle_looks: u32, uploads: &Uploads) {
    let began = clock.monotonic();
    let longest = pace.interval.saturating_mul(1_u32.wrapping_shl(idle_looks.min(8)).min(IDLE_INTERVALS));
    loop {
        let pending = uploads.pending();
        let elapsed = clock.monotonic().saturating_sub(began);
        let limit = if pending > 0 { pace.interval } else { longest };
        if pending >= pace.after_deltas || elapsed >= limit {
            return;
        }
        tokio::select! {
            () = clock.sleep(limit.saturating_sub(elapsed)) => {}
            () = uploads.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;

    /// Sleeping is all it takes for time to pass.
    #[derive(Debug, Default)]
    struct Dream(Mutex<Duration>);

    #[async_trait]
    impl Clock for Dream {
        fn now_ms(&self) -> i64 {
            0
        }

        fn monotonic(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        async fn sleep(&self, duration: Duration) {
            *self.0.lock().unwrap() += duration;
        }
    }

    const PACE: Pace =
        Pace { interval: Duration::from_secs(10), after_deltas: 3, gc_interval: Duration::from_secs(3_600) };

    async fn waited(idle_looks: u32, uploads: &Uploads) -> Duration {
        let clock = Dream::default();
        next_build(&clock, PACE, idle_looks, uploads).await;
        clock.monotonic()
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_like_any_other() {
        assert_eq!(unless_it_panics(async { Ok(true) }).await, Ok(true));
        assert_eq!(unless_it_panics(async { Err(()) }).await, Err(()));
        assert_eq!(unless_it_panics(async { panic!("as a builder might") }).await, Err(()));
    }

    #[tokio::test]
    async fn enough_uploads_build_at_once() {
        let uploads = Uploads::default();
        (0..3).for_each(|_| uploads.add());
        assert_eq!(waited(0, &uploads).await, Duration::ZERO);
    }

    #[tokio::test]
    async fn a_single_upload_waits_for_the_interval() {
        let uploads = Uploads::default();
        uploads.add();
        assert_eq!(waited(5, &uploads).await, Duration::from_secs(10));
    }

    #[tokio::test]
    async fn looks_without_cause_grow_rare() {
        let uploads = Uploads::default();
        let mut seconds = Vec::new();
        for idle_looks in [0, 1, 3, 4, 100] {
            seconds.push(waited(idle_looks, &uploads).await.as_secs());
        }
        assert_eq!(seconds, [10, 20, 80, 120, 120]);
    }
}
