//! What one search, or another task, asks of the store: requests, bytes and round trips, however many run at the same time.
//!
//! A [`Meter`] is carried by the task, not by the store: [`Meter::scope`] runs a future under it, and every request that the
//! future makes through a [`crate::CountingStore`] is noted in it. A task that is spawned has a meter of its own, none,
//! unless it [follows][Meter::follow] the one that it works for.
//!
//! # Round trips
//! A request's depth is one more than the greatest depth of the requests of the same meter that had been answered when it was
//! made, for it may depend on what they said; the round trips are the greatest depth. So requests that are made at the same
//! time are one trip. Requests that do not wait for each other's answers although they are not made at the same time, such as
//! the parts of a file, are held to be one trip with [`Meter::one_trip`]; so is a request that is made a second time because
//! the first is slow.
//!
//! What was made and not answered, because nobody waited any more, counts as a request.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::counting::RequestCounts;

tokio::task_local! {
    static CARRIED: Carried;
}

/// What a task carries.
#[derive(Clone, Debug)]
struct Carried {
    meter: Meter,
    /// The depth of all requests, as long as it is set.
    depth: Option<u32>,
}

/// Notes what the futures that run under it ask of the store. Clones share what is noted. See the module.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    spent: Spent,
    /// The greatest depth of a request that was answered.
    answered: u32,
}

/// What was asked of a store, for one purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct Spent {
    /// Requests by kind, and bytes.
    pub requests: RequestCounts,
    /// Requests among them that were made a second time because the first was slow.
    pub hedged: u64,
    /// Requests that had to wait for each other's answers: the length of the longest chain.
    pub round_trips: u32,
}

impl Meter {
    /// Nothing is noted yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The meter of the running task.
    pub fn current() -> Option<Self> {
        CARRIED.try_with(|carried| carried.meter.clone()).ok()
    }

    /// Runs a future under this meter, and no other.
    pub async fn scope<F: Future>(&self, future: F) -> F::Output {
        CARRIED.scope(Carried { meter: self.clone(), depth: None }, future).await
    }

    /// The future under the meter that is the running task's now, if it has one: for what is spawned to work for the task.
    pub fn follow<F: Future>(future: F) -> impl Future<Output = F::Output> {
        let meter = Self::current();
        async move {
            match meter {
                Some(meter) => meter.scope(future).await,
                None => future.await,
            }
        }
    }

    /// Runs a future whose requests do not depend on each other, whenever they are made.
    pub async fn one_trip<F: Future>(future: F) -> F::Output {
        match CARRIED.try_with(Carried::clone) {
            Ok(Carried { meter, depth: None }) => {
                let depth = Some(meter.0.lock().answered + 1);
                CARRIED.scope(Carried { meter, depth }, future).await
            }
            // Part of a trip, or of nobody's.
            _ => future.await,
        }
    }

    /// What has been noted so far.
    pub fn spent(&self) -> Spent {
        self.0.lock().spent
    }

    /// Where the meter of the running task stands, for what is about to begin elsewhere.
    pub fn mark() -> Mark {
        Mark(Self::current().map(|meter| {
            let answered = meter.0.lock().answered;
            (meter, answered)
        }))
    }

    pub(crate) fn note_hedge() {
        if let Some(meter) = Self::current() {
            meter.0.lock().spent.hedged += 1;
        }
    }
}

/// A moment of a task, and its meter, if it has one: what is spent elsewhere for the task from here on is noted through it.
#[derive(Clone, Debug)]
pub struct Mark(Option<(Meter, u32)>);

impl Mark {
    /// Notes what was spent elsewhere for this task.
    pub fn add(&self, spent: &Spent) {
        if let Some((meter, _)) = &self.0 {
            let mut state = meter.0.lock();
            state.spent.requests.add(&spent.requests);
            state.spent.hedged += spent.hedged;
        }
        self.wait_for(spent);
    }

    /// Notes the round trips of work that was shared with another task, which has noted its requests.
    pub fn wait_for(&self, spent: &Spent) {
        if let Some((meter, answered)) = &self.0 {
            let mut state = meter.0.lock();
            state.answered = state.answered.max(answered + spent.round_trips);
            state.spent.round_trips = state.spent.round_trips.max(state.answered);
        }
    }
}

impl Spent {
    /// Both together, one after the other.
    #[must_use]
    pub fn then(&self, next: &Self) -> Self {
        let mut sum = *self;
        sum.requests.add(&next.requests);
        sum.hedged += next.hedged;
        sum.round_trips += next.round_trips;
        sum
    }

    /// Both together, at the same time.
    #[must_use]
    pub fn beside(&self, other: &Self) -> Self {
        Self { round_trips: self.round_trips.max(other.round_trips), ..self.then(other) }
    }
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Ticket(Option<(Meter, u32)>);

impl Ticket {
    /// A request is made; `count` notes of what kind.
    pub(crate) fn new(count: impl FnOnce(&mut RequestCounts)) -> Self {
        let Ok(Carried { meter, depth }) = CARRIED.try_with(Carried::clone) else { return Self(None) };
        Self::noted(meter, depth, count)
    }

    /// As [`Self::new`], for whoever had this meter when the request was planned.
    pub(crate) fn under(meter: Option<Meter>, count: impl FnOnce(&mut RequestCounts)) -> Self {
        meter.map_or(Self(None), |meter| Self::noted(meter, None, count))
    }

    fn noted(meter: Meter, depth: Option<u32>, count: impl FnOnce(&mut RequestCounts)) -> Self {
        let mut state = meter.0.lock();
        let depth = depth.unwrap_or(state.answered + 1);
        count(&mut state.spent.requests);
        state.spent.round_trips = state.spent.round_trips.max(depth);
        drop(state);
        Self(Some((meter, depth)))
    }

    /// Gives others their turn before the request goes out, so that requests made at the same time are seen to be, also when a
    /// store answers at once.
    pub(crate) async fn made(self) -> Self {
        if self.0.is_some() {
            tokio::task::yield_now().await;
        }
        self
    }

    /// It has been answered; `count` notes with what.
    pub(crate) fn answered(self, count: impl FnOnce(&mut RequestCounts)) {
        if let Some((meter, depth)) = self.0 {
            let mut state = meter.0.lock();
            state.answered = state.answered.max(depth);
            count(&mut state.spent.requests);
        }
    }
}
