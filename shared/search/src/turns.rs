//! Processors for searches with deadlines: more searches than processors take turns of a few milliseconds.
//!
//! Each search has a thread of its own, which does all of it; whoever has had a turn while others wait stands aside the next time
//! that it asks whether to stop. So each has its share of the time until its deadline, a short one does not wait for long ones
//! to end, and who is not at turn at its deadline answers at once with what it has. A turn is as long as the most pressing deadline
//! allows: to stand aside costs time, and of searches that have enough of it each should rather come to its end. A search that is
//! alone uses all processors.
//!
//! All stop a little before their deadlines: threads that wake up and answers on their way out wait for processors, too.
//!
//! The [pool](crate::pool) is no place for them: of its threads, one that waits for a part of one job may begin another, and is
//! back only when that is done, however late that is.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::{Either, select};
use parking_lot::{Condvar, Mutex, MutexGuard};
use tarn_store::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::SearchError;
use crate::pool::{Abandoned, Waiting, panic_text};

/// How long a search computes before others have their turn, at least and at most.
const SHORTEST_TURN: Duration = Duration::from_millis(1);
const LONGEST_TURN: Duration = Duration::from_millis(5);
/// How long before its deadline a search stops, at most; and never more than one part in so many of the time that it has.
const RESERVE: Duration = Duration::from_millis(3);
const RESERVE_SHARE: u32 = 3;
/// Searches that take turns, per processor. With more, turns would be too far apart for a share to be worth anything.
const SEARCHES_PER_PROCESSOR: usize = 16;

/// Who computes when. Clones are the same.
#[derive(Clone)]
pub(crate) struct Turns {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    processors: usize,
    /// For the search that is alone; `None` when there is one processor.
    all: Option<rayon::ThreadPool>,
    /// Threads without a search, each a pool of itself: what would be shared out in a pool of several is done by the one.
    idle: Mutex<Vec<rayon::ThreadPool>>,
    places: Arc<Semaphore>,
    line: Mutex<Line>,
    /// As many as are in line. May lag behind it.
    waiting: AtomicUsize,
}

/// Those who wait for a turn.
struct Line {
    /// Processors that nobody uses.
    free: usize,
    /// Those who have not had a turn.
    new: VecDeque<Arc<Place>>,
    /// Those who have had some.
    others: VecDeque<Arc<Place>>,
    /// Whether the last one who was called was new.
    was_new: bool,
}

struct Place {
    deadline: Duration,
    /// Written by who calls, under the lock of the line.
    is_called: AtomicBool,
    call: Condvar,
}

impl Turns {
    /// For so many processors. Starts the threads of [`Self::run`]'s lonely searches; the others when they are needed.
    ///
    /// # Errors
    /// [`SearchError::Internal`] when the system refuses threads.
    pub(crate) fn new(processors: usize, clock: Arc<dyn Clock>) -> Result<Self, SearchError> {
        let processors = processors.max(1);
        let all = if processors > 1 { Some(threads(processors)?) } else { None };
        let line = Line { free: processors, new: VecDeque::new(), others: VecDeque::new(), was_new: false };
        let inner = Inner {
            clock,
            processors,
            all,
            idle: Mutex::default(),
            places: Arc::new(Semaphore::new(processors * SEARCHES_PER_PROCESSOR)),
            line: Mutex::new(line),
            waiting: AtomicUsize::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs `job` and waits for it without blocking a thread. `None`: it had no turn before `deadline`.
    ///
    /// # Errors
    /// What the job returns; [`SearchError::Internal`] when it panics, or the system refuses a thread.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        deadline: Duration,
        job: impl FnOnce(&Turn) -> Result<T, SearchError> + Send + 'static,
    ) -> Result<Option<T>, SearchError> {
        let ended = || SearchError::Internal("the search threads have ended".to_owned());
        let left = deadline.saturating_sub(self.inner.clock.monotonic());
        let deadline = deadline.saturating_sub(RESERVE.min(left / RESERVE_SHARE));
        let Some(place) = self.place(deadline).await? else { return Ok(None) };
        let is_alone = self.inner.places.available_permits() + 1 == self.inner.processors * SEARCHES_PER_PROCESSOR;
        let (answer, waiting) = tokio::sync::oneshot::channel();
        let abandoned = Abandoned::default();
        let _guard = Waiting(abandoned.clone());
        let inner = Arc::clone(&self.inner);
        let work = move |is_alone: bool| {
            let turn = match is_alone {
                true => Some(Turn { inner, deadline, abandoned, in_line: None }),
                false => inner.begin(deadline).map(|in_line| {
                    let in_line = Some(in_line);
                    Turn { inner, deadline, abandoned, in_line }
                }),
            };
            let result = turn.map(|turn| {
                catch_unwind(AssertUnwindSafe(|| job(&turn)))
                    .unwrap_or_else(|panic| Err(SearchError::Internal(panic_text(panic.as_ref()))))
            });
            drop(place);
            // The receiver is gone when the caller is; nobody misses the answer then.
            drop(answer.send(result.transpose()));
        };
        match &self.inner.all {
            Some(all) if is_alone => all.spawn(move || work(true)),
            _ => {
                let inner = Arc::clone(&self.inner);
                let idle = inner.idle.lock().pop();
                let thread = Arc::new(Mutex::new(None));
                let own = Arc::clone(&thread);
                // It puts itself back: whoever waits for the answer may have gone away.
                let back = move || {
                    work(false);
                    inner.idle.lock().extend(own.lock().take());
                };
                let mut thread = thread.lock();
                thread.insert(idle.map_or_else(|| threads(1), Ok)?).spawn(back);
            }
        }
        waiting.await.unwrap_or_else(|_| Err(ended()))
    }

    /// A place among those who take turns; `None`: there was none before the deadline.
    async fn place(&self, deadline: Duration) -> Result<Option<OwnedSemaphorePermit>, SearchError> {
        let places = &self.inner.places;
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Ok(Some(place));
        }
        let left = deadline.saturating_sub(self.inner.clock.monotonic());
        match select(pin!(Arc::clone(places).acquire_owned()), self.inner.clock.sleep(left)).await {
            Either::Left((place, _)) => {
                place.map(Some).map_err(|_| SearchError::Internal("the search threads have ended".to_owned()))
            }
            Either::Right(_) => Ok(None),
        }
    }
}

fn threads(count: usize) -> Result<rayon::ThreadPool, SearchError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(count)
        .thread_name(|_| "tarn-deadline".to_owned())
        .build()
        .map_err(|error| SearchError::Internal(format!("cannot start search threads: {error}")))
}

impl Inner {
    /// Waits for the first turn; `None`: the deadline came first.
    fn begin(&self, deadline: Duration) -> Option<InLine> {
        let place = Arc::new(Place { deadline, is_called: AtomicBool::new(false), call: Condvar::new() });
        let mut line = self.line.lock();
        if line.free > 0 {
            line.free -= 1;
        } else {
            line.new.push_back(Arc::clone(&place));
            if !self.wait(&mut line, &place) {
                return None;
            }
        }
        drop(line);
        Some(InLine { place, holds: AtomicBool::new(true), since: AtomicU64::new(nanos(self.clock.monotonic())) })
    }

    /// Waits until it is called. False: the deadline came first, and the place is given up.
    fn wait(&self, line: &mut MutexGuard<'_, Line>, place: &Arc<Place>) -> bool {
        self.waiting.store(line.waiting(), Ordering::Relaxed);
        while !place.is_called.swap(false, Ordering::Relaxed) {
            let left = place.deadline.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                line.new.retain(|other| !Arc::ptr_eq(other, place));
                line.others.retain(|other| !Arc::ptr_eq(other, place));
                self.waiting.store(line.waiting(), Ordering::Relaxed);
                return false;
            }
            place.call.wait_for(line, left);
        }
        true
    }

    /// Gives a processor to whoever is next, or to nobody.
    fn pass_to(&self, next: Option<Arc<Place>>, line: &mut Line) {
        match next {
            Some(next) => {
                next.is_called.store(true, Ordering::Relaxed);
                next.call.notify_one();
            }
            None => line.free += 1,
        }
        self.waiting.store(line.waiting(), Ordering::Relaxed);
    }
}

impl Line {
    fn waiting(&self) -> usize {
        self.new.len() + self.others.len()
    }

    /// How long a turn is that began before those in line came: such that all of them can have one in time.
    fn turn(&self, now: Duration, processors: usize) -> Duration {
        let deadlines = self.new.iter().chain(&self.others).map(|place| place.deadline);
        let left = deadlines.min().map_or(LONGEST_TURN, |deadline| deadline.saturating_sub(now));
        let count = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
        let share = left.saturating_mul(count(processors)) / count(processors + self.waiting());
        share.clamp(SHORTEST_TURN, LONGEST_TURN)
    }

    /// Those who have had no turn first, but others between them: a crowd of short searches does not keep a long one from
    /// going on.
    fn next(&mut self) -> Option<Arc<Place>> {
        let is_new = if self.was_new { self.others.is_empty() } else { !self.new.is_empty() };
        self.was_new = is_new;
        if is_new { self.new.pop_front() } else { self.others.pop_front() }
    }
}

/// A search's right to compute, and its duty to stop.
pub(crate) struct Turn {
    inner: Arc<Inner>,
    deadline: Duration,
    abandoned: Abandoned,
    /// `None`: it was alone when it began, and takes no turns.
    in_line: Option<InLine>,
}

struct InLine {
    place: Arc<Place>,
    /// False once the deadline came while others had their turn.
    holds: AtomicBool,
    /// When the turn began, in nanoseconds.
    since: AtomicU64,
}

impl Turn {
    /// Whether the search has to stop: the deadline has come, or nobody waits for it. Lets others have their turn meanwhile. To be
    /// asked often.
    pub(crate) fn is_over(&self) -> bool {
        let now = self.inner.clock.monotonic();
        if self.abandoned.is_set() || now >= self.deadline {
            return true;
        }
        let Some(InLine { place, holds, since }) = &self.in_line else { return false };
        if !holds.load(Ordering::Relaxed) {
            return true;
        }
        let had = nanos(now).saturating_sub(since.load(Ordering::Relaxed));
        if self.inner.waiting.load(Ordering::Relaxed) == 0 || had < nanos(SHORTEST_TURN) {
            return false;
        }
        let mut line = self.inner.line.lock();
        if line.waiting() == 0 || had < nanos(line.turn(now, self.inner.processors)) {
            return false;
        }
        let next = line.next();
        line.others.push_back(Arc::clone(place));
        self.inner.pass_to(next, &mut line);
        let is_called = self.inner.wait(&mut line, place);
        drop(line);
        holds.store(is_called, Ordering::Relaxed);
        since.store(nanos(self.inner.clock.monotonic()), Ordering::Relaxed);
        !is_called
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.in_line.as_ref().is_some_and(|in_line| in_line.holds.load(Ordering::Relaxed)) {
            let mut line = self.inner.line.lock();
            let next = line.next();
            self.inner.pass_to(next, &mut line);
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
