//! Recall: how much of what an exact search finds an approximate one has found.
//!
//! By distance: a point that was found counts when it is no farther than the farthest of the exact answer. Points at equal distances are
//! as good as one another, and one query and one row have one distance however the row was found (`same-pair-same-bits`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tarn_model::{Attributes, Filter, IndexId, Metric, ReadToken, ValidationError};

use crate::error::SearchError;
use crate::pool::Pool;
use crate::request::{Consistency, SearchRequest};
use crate::sample::lot;
use crate::validate::check_effort;

/// Most queries of one measurement.
pub const RECALL_QUERIES: u32 = 1_000;
/// Most neighbours that one compares.
pub const RECALL_K: u32 = 1_000;
/// Samples of searches that wait or are compared; more are dropped.
const WAITING: usize = 16;
/// Indices that are counted apart.
const INDICES: usize = 1_000;

/// What to measure.
#[derive(Clone, Debug)]
pub struct RecallRequest {
    /// How many of the index's points are searched for; 1 to [`RECALL_QUERIES`].
    pub queries: u32,
    /// Neighbours of each, itself not among them; 1 to [`RECALL_K`].
    pub k: u32,
    /// Which points, by the seed of a sample.
    pub seed: u64,
    /// Points are drawn from these and searched among these.
    pub split_filter: Attributes,
    /// Likewise.
    pub filter: Option<Filter>,
    /// As of a search.
    pub target_recall: Option<f32>,
    /// As of a search.
    pub ef_search: Option<u32>,
    /// As of a search.
    pub nprobe: Option<u32>,
    /// How fresh.
    pub consistency: Consistency,
    /// How long it may take; what is measured by then is the answer.
    pub deadline: Option<Duration>,
}

impl Default for RecallRequest {
    fn default() -> Self {
        Self {
            queries: 100,
            k: 10,
            seed: 0,
            split_filter: Attributes::new(),
            filter: None,
            target_recall: None,
            ef_search: None,
            nprobe: None,
            consistency: Consistency::Strong,
            deadline: None,
        }
    }
}

impl RecallRequest {
    /// # Errors
    /// Every message that applies.
    pub(crate) fn check(&self) -> Result<(), ValidationError> {
        let mut messages = Vec::new();
        if !(1..=RECALL_QUERIES).contains(&self.queries) {
            messages.push(format!("queries must be 1 to {RECALL_QUERIES}"));
        }
        if !(1..=RECALL_K).contains(&self.k) {
            messages.push(format!("k must be 1 to {RECALL_K}"));
        }
        check_effort(self.target_recall, self.ef_search, self.nprobe, &mut messages);
        ValidationError::from_messages(messages)
    }
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct RecallReport {
    /// How many points were searched for; fewer than wanted when there are fewer, or when the deadline struck.
    pub queries: u32,
    /// Whether these are all that were wanted, as far as there are points.
    pub complete: bool,
    /// Neighbours of each.
    pub k: u32,
    /// The mean over the queries; 1 when there was none.
    pub recall: f64,
    /// That of the worst query.
    pub lowest: f64,
    /// What the searches took, as they are made every day.
    pub searching: Duration,
    /// What the exact ones took.
    pub exact: Duration,
    /// The version that was searched.
    pub version: ReadToken,
    /// The generation.
    pub generation: u64,
}

/// The recall of one query, by the distances of what was found and of the exact answer, each nearest first.
pub(crate) fn recall_of(metric: Metric, found: &[f64], exact: &[f64]) -> f64 {
    let Some(&farthest) = exact.last() else { return 1.0 };
    let is_in = |distance: f64| match metric.higher_is_nearer() {
        true => distance >= farthest,
        false => distance <= farthest,
    };
    let right = found.iter().filter(|distance| is_in(**distance)).count().min(exact.len());
    right as f64 / exact.len() as f64
}

/// What a search was restricted by. Recall differs: a filter leaves fewer candidates on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FilterClass {
    /// Nothing.
    None,
    /// A split filter.
    Split,
    /// A filter.
    Filter,
    /// Both.
    SplitAndFilter,
}

impl FilterClass {
    /// Of a search.
    pub(crate) fn of(request: &SearchRequest) -> Self {
        match (request.split_filter.is_empty(), request.filter.is_some()) {
            (true, false) => Self::None,
            (false, false) => Self::Split,
            (true, true) => Self::Filter,
            (false, true) => Self::SplitAndFilter,
        }
    }

    /// Its name in metrics and descriptions.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Split => "split",
            Self::Filter => "filter",
            Self::SplitAndFilter => "splitAndFilter",
        }
    }
}

/// The recall that real searches of an index had, as far as they were compared.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedRecall {
    /// The index.
    pub index: IndexId,
    /// What the searches were restricted by.
    pub class: FilterClass,
    /// Query vectors compared, since the process began.
    pub queries: u64,
    /// Their recalls, one added to the other.
    pub sum: f64,
}

impl ObservedRecall {
    /// The mean.
    pub fn recall(&self) -> f64 {
        if self.queries == 0 { 1.0 } else { self.sum / self.queries as f64 }
    }
}

/// Compares a share of the real searches with exact ones, on a thread of its own, which works only while no search is under way.
pub(crate) struct Monitor {
    share: f64,
    /// Of one thread.
    pub(crate) pool: Pool,
    searches: AtomicU64,
    waiting: AtomicUsize,
    nothing_waits: tokio::sync::Notify,
    pub(crate) busy: Arc<Busy>,
    observed: Mutex<BTreeMap<(IndexId, FilterClass), (u64, f64)>>,
    dropped: AtomicU64,
}

impl Monitor {
    /// `None` when there is nothing to do.
    ///
    /// # Errors
    /// [`SearchError::Internal`] when a thread cannot be started.
    pub(crate) fn new(share: f64) -> Result<Option<Self>, SearchError> {
        if share.is_nan() || share <= 0.0 {
            return Ok(None);
        }
        Ok(Some(Self {
            share,
            pool: Pool::new(1)?,
            searches: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            nothing_waits: tokio::sync::Notify::new(),
            busy: Arc::default(),
            observed: Mutex::default(),
            dropped: AtomicU64::new(0),
        }))
    }

    /// Whether this search is one of the share. Spread as if by chance, so that no rhythm of the searches is preferred.
    pub(crate) fn takes(&self) -> bool {
        let number = self.searches.fetch_add(1, Ordering::Relaxed);
        let drawn = lot(&number.to_be_bytes(), 0);
        self.share >= 1.0 || (drawn as f64) < self.share * (u64::MAX as f64)
    }

    /// A place among those that wait; `None` when all are taken.
    pub(crate) fn place(self: &Arc<Self>) -> Option<Place> {
        let one_more = |waiting| (waiting < WAITING).then_some(waiting + 1);
        match self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more) {
            Ok(_) => Some(Place(Arc::clone(self))),
            Err(_) => {
                self.drop_one();
                None
            }
        }
    }

    /// Until no search of the share waits or is being compared.
    pub(crate) async fn settled(&self) {
        loop {
            let mut told = std::pin::pin!(self.nothing_waits.notified());
            // From here on it is told, also of what happens before it waits.
            told.as_mut().enable();
            if self.waiting.load(Ordering::Acquire) == 0 {
                return;
            }
            told.await;
        }
    }

    /// Notes that a search of the share was not compared.
    pub(crate) fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes the recalls of one search's query vectors.
    pub(crate) fn note(&self, id: &IndexId, class: FilterClass, recalls: &[f64]) {
        let mut observed = self.observed.lock();
        let key = (id.clone(), class);
        if observed.len() >= INDICES && !observed.contains_key(&key) {
            return;
        }
        let (queries, sum) = observed.entry(key).or_default();
        *queries += recalls.len() as u64;
        *sum += recalls.iter().sum::<f64>();
    }

    /// What was compared so far.
    pub(crate) fn observed(&self) -> Vec<ObservedRecall> {
        let observed = self.observed.lock();
        let all = observed.iter().map(|((index, class), (queries, sum))| ObservedRecall {
            index: index.clone(),
            class: *class,
            queries: *queries,
            sum: *sum,
        });
        all.collect()
    }

    /// Searches of the share that were not compared: too many waited, or their files were not at hand.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// A place in the monitor's queue, given back on drop.
pub(crate) struct Place(Arc<Monitor>);

impl Drop for Place {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.nothing_waits.notify_waiters();
        }
    }
}

/// How many searches are under way.
#[derive(Default)]
pub(crate) struct Busy {
    searches: Mutex<usize>,
    idle: Condvar,
}

impl Busy {
    /// One more, until the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Searching {
        *self.searches.lock() += 1;
        Searching(Arc::clone(self))
    }

    /// Blocks the thread while any search is under way.
    pub(crate) fn wait(&self) {
        let mut searches = self.searches.lock();
        while *searches > 0 {
            self.idle.wait(&mut searches);
        }
    }
}

/// A search under way.
pub(crate) struct Searching(Arc<Busy>);

impl Drop for Searching {
    fn drop(&mut self) {
        let mut searches = self.0.searches.lock();
        *searches -= 1;
        if *searches == 0 {
            self.0.idle.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recall_counts_what_is_as_near_as_the_exact_answer() {
        let of = |found: &[f64], exact: &[f64]| recall_of(Metric::L2, found, exact);
        assert_eq!(of(&[1.0, 2.0], &[1.0, 2.0]), 1.0);
        assert_eq!(of(&[1.0, 3.0], &[1.0, 2.0]), 0.5);
        assert_eq!(of(&[2.0, 2.0], &[2.0, 2.0]), 1.0, "other points at the same distance");
        assert_eq!(of(&[1.0], &[1.0, 2.0]), 0.5, "too few");
        assert_eq!(of(&[], &[]), 1.0, "nothing to find");
        let of = |found: &[f64], exact: &[f64]| recall_of(Metric::InnerProduct, found, exact);
        assert_eq!(of(&[9.0, 7.0], &[9.0, 8.0]), 0.5, "the other direction");
    }

    #[test]
    fn a_measurement_is_asked_for_as_a_search_is() {
        let good = RecallRequest::default();
        good.check().unwrap();
        let wrong =
            |target_recall, ef_search, nprobe| RecallRequest { target_recall, ef_search, nprobe, ..good.clone() };
        for (wrong, said) in [
            (wrong(Some(7.0), None, None), "targetRecall"),
            (wrong(Some(0.0), None, None), "targetRecall"),
            (wrong(Some(f32::NAN), None, None), "targetRecall"),
            (wrong(None, Some(0), None), "efSearch"),
            (wrong(None, None, Some(0)), "nprobe"),
            (RecallRequest { queries: 0, ..good.clone() }, "queries"),
            (RecallRequest { k: RECALL_K + 1, ..good.clone() }, "k must be"),
        ] {
            let refused = wrong.check().unwrap_err();
            assert!(refused.messages[0].starts_with(said), "{refused}");
        }
    }

    #[test]
    fn the_share_is_about_what_was_asked_for() {
        let monitor = Monitor::new(0.1).unwrap().unwrap();
        let taken = (0..10_000).filter(|_| monitor.takes()).count();
        assert!((900..1_100).contains(&taken), "{taken}");
        let all = Monitor::new(1.0).unwrap().unwrap();
        assert!((0..1_000).all(|_| all.takes()));
        assert!(Monitor::new(0.0).unwrap().is_none());
    }

    #[test]
    fn the_queue_is_bounded() {
        let monitor = Arc::new(Monitor::new(1.0).unwrap().unwrap());
        let mut places: Vec<_> = (0..WAITING).map(|_| monitor.place().expect("room")).collect();
        assert!(monitor.place().is_none());
        assert_eq!(monitor.dropped(), 1);
        places.pop();
        assert!(monitor.place().is_some());
    }

    #[test]
    fn comparing_waits_while_a_search_is_under_way() {
        let busy = Arc::new(Busy::default());
        let searching = busy.enter();
        let waiting = Arc::clone(&busy);
        let (sender, steps) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            sender.send("begins").unwrap();
            waiting.wait();
            sender.send("goes on").unwrap();
        });
        assert_eq!(steps.recv(), Ok("begins"));
        assert!(steps.recv_timeout(std::time::Duration::from_millis(50)).is_err(), "a search is under way");
        drop(searching);
        assert_eq!(steps.recv(), Ok("goes on"));
        thread.join().unwrap();
        busy.wait();
    }
}
