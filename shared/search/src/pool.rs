//! The threads that compute: distances, filters, masks, merges.
//!
//! Async workers never block on them; a caller that goes away tells its computation to stop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::SearchError;

/// A pool of its own, so that searches compete neither with async workers nor with a builder in the same process.
///
/// A thread that waits for a part of one job may begin another job meanwhile, on the same stack. So the jobs under way are
/// bounded, and with them the depth of the stack; the rest wait their turn.
#[derive(Clone)]
pub(crate) struct Pool {
    threads: Arc<rayon::ThreadPool>,
    turns: Arc<tokio::sync::Semaphore>,
}

/// Jobs under way at once, per thread.
const JOBS_PER_THREAD: usize = 4;

/// Whether whoever asked still waits for the answer.
#[derive(Clone, Default)]
pub(crate) struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    /// True once the caller has gone away.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sets the flag when the waiting future is dropped.
pub(crate) struct Waiting(pub(crate) Abandoned);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl Pool {
    /// Starts the threads; 0 means one per processor.
    ///
    /// # Errors
    /// [`SearchError::Internal`] when the system refuses threads.
    pub(crate) fn new(threads: usize) -> Result<Self, SearchError> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|n| format!("tarn-search-{n}"))
            .build()
            .map_err(|e| SearchError::Internal(format!("cannot start search threads: {e}")))?;
        let turns = Arc::new(tokio::sync::Semaphore::new(threads.current_num_threads() * JOBS_PER_THREAD));
        Ok(Self { threads: Arc::new(threads), turns })
    }

    /// How many threads compute.
    pub(crate) fn threads(&self) -> usize {
        self.threads.current_num_threads()
    }

    /// Runs `job` on the pool and waits for it without blocking a thread.
    ///
    /// # Errors
    /// What the job returns; [`SearchError::Internal`] when it panics.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Abandoned) -> Result<T, SearchError> + Send + 'static,
    ) -> Result<T, SearchError> {
        let ended = || SearchError::Internal("the search threads have ended".to_owned());
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| ended())?;
        let (answer, waiting) = tokio::sync::oneshot::channel();
        let abandoned = Abandoned::default();
        let _guard = Waiting(abandoned.clone());
        self.threads.spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| job(&abandoned)))
                .unwrap_or_else(|panic| Err(SearchError::Internal(panic_text(panic.as_ref()))));
            drop(turn);
            // The receiver is gone when the caller is; nobody misses the answer then.
            drop(answer.send(result));
        });
        waiting.await.unwrap_or_else(|_| Err(ended()))
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a computation panicked: {}", text.unwrap_or("no message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_pool_goes_on() {
        let pool = Pool::new(1).unwrap();
        let failed = pool.run::<()>(|_| panic!("at row {}", 7)).await.unwrap_err();
        assert!(failed.to_string().contains("at row 7"), "{failed}");
        assert_eq!(pool.run(|_| Ok(1)).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_thousand_jobs_that_split_their_work_do_not_nest_without_bound() {
        use rayon::prelude::{IntoParallelIterator, ParallelIterator};
        let pool = Pool::new(2).unwrap();
        let jobs = (0..1000u64).map(|job| {
            let pool = pool.clone();
            tokio::spawn(async move {
                pool.run(move |_| {
                    let deep = [job as u8; 16 * 1024];
                    let parts = (0..64u64).into_par_iter().map(|part| part + u64::from(deep[part as usize]));
                    Ok(parts.sum::<u64>())
                })
                .await
            })
        });
        for (number, job) in jobs.collect::<Vec<_>>().into_iter().enumerate() {
            let expected = 2016 + 64 * u64::from(number as u8);
            assert_eq!(job.await.unwrap().unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_stops_its_computation() {
        let pool = Pool::new(1).unwrap();
        let (started, is_started) = tokio::sync::oneshot::channel();
        let (stopped, is_stopped) = tokio::sync::oneshot::channel();
        let job = move |abandoned: &Abandoned| {
            started.send(()).unwrap();
            while !abandoned.is_set() {
                std::thread::yield_now();
            }
            stopped.send(()).unwrap();
            Ok(())
        };
        let waiting = tokio::spawn(async move { pool.run(job).await });
        is_started.await.unwrap();
        waiting.abort();
        is_stopped.await.unwrap();
    }
}
