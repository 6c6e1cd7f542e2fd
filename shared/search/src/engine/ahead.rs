//! Reading ahead: ranges of files are read while the timeline's tail is still being looked for.
//!
//! Which files a search reads, and which ranges of them, follows from the generation. A look at the store knows the generation
//! before it knows the tail, and usually finds the one that was pinned. So a search reads for that one at once, and drops what
//! it has when its snapshot turns out to be of another. What is not read by then is not read any more.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::{Either, select};
use parking_lot::Mutex;

use super::Engine;
use super::cold::{ReadUnit, place_of};
use crate::error::SearchError;
use crate::generation::Generation;
use crate::plan::{Part, Unit, plan};
use crate::reader::Reader;
use crate::request::SearchRequest;
use crate::snapshot::Snapshot;
use crate::splits::SplitFilter;
use crate::validate::check_search;

type Read = Result<Vec<ReadUnit>, SearchError>;

/// What is read ahead for one search.
#[derive(Default)]
pub(super) struct Ahead(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    NotBegun,
    Begun(Begun),
    /// The search has a snapshot: there is nothing to read ahead of any more.
    Over,
}

/// A reading under way.
pub(super) struct Begun {
    generation: Arc<Generation>,
    files: BTreeSet<(u32, u32)>,
    read: oneshot::Receiver<Read>,
}

impl Ahead {
    /// Ends reading ahead; gives what is of use for this snapshot.
    pub(super) fn end(&self, snapshot: &Snapshot) -> Option<Begun> {
        match std::mem::replace(&mut *self.0.lock(), State::Over) {
            State::Begun(begun) if Arc::ptr_eq(&begun.generation, &snapshot.generation) => Some(begun),
            _ => None,
        }
    }

    /// Whether it is of no use to begin, or done.
    fn is_settled(&self) -> bool {
        !matches!(*self.0.lock(), State::NotBegun)
    }

    fn begin(&self, begun: Begun) -> bool {
        let mut state = self.0.lock();
        let first = matches!(*state, State::NotBegun);
        if first {
            *state = State::Begun(begun);
        }
        first
    }
}

impl Begun {
    /// The units that are not read for.
    pub(super) fn others(&self, units: Vec<Unit>) -> Vec<Unit> {
        units.into_iter().filter(|unit| place_of(unit).is_none_or(|place| !self.files.contains(&place))).collect()
    }

    /// What is read, once it is.
    pub(super) async fn read(self) -> Read {
        let ended = |_| Err(SearchError::Internal("reading ahead ended early".to_owned()));
        self.read.await.unwrap_or_else(ended)
    }
}

impl Engine {
    /// Reads ahead for a search. Never ends: whoever has the answer drops it.
    pub(super) async fn read_ahead(
        &self,
        reader: &Reader,
        request: &Arc<SearchRequest>,
        deadline: Option<Duration>,
        ahead: &Ahead,
    ) -> Infallible {
        // What is likely is the newest generation.
        if self.inner.leaves.is_some() || request.as_of.is_some() || !self.may_read_ranges(request) {
            return pending().await;
        }
        let (definition, generation) = reader.likely().await;
        // A search that is warm, or of an exact index, finds out here, before it plans a second time, that there is nothing to read.
        let mut segments = generation.shards.iter().flatten().flat_map(|shard| &shard.segments);
        let is_exact = definition.index.algorithm.is_exact();
        if is_exact || !segments.any(|base| self.stays(base)) || ahead.is_settled() {
            return pending().await;
        }
        let filter = SplitFilter::new(&request.split_filter, &definition);
        // The search itself says what is wrong with the request; and it plans on the pool what takes long to plan.
        if check_search(request, &definition).is_err() || filter.scans() {
            return pending().await;
        }
        let base = Snapshot::without_tail(Arc::clone(&definition), Arc::clone(&generation));
        let units = plan(&base, &Part::Everything, &request.split_filter, &filter);
        let (cold, _) = self.divide(&generation, &definition, request, units);
        let (mut sender, read) = oneshot::channel();
        let files: BTreeSet<(u32, u32)> = cold.iter().filter_map(place_of).collect();
        let begun = Begun { generation: Arc::clone(&generation), files, read };
        if !cold.is_empty() && ahead.begin(begun) {
            let reading = self.read_cold(&definition, &generation, request, cold, deadline);
            let read = match select(pin!(reading), sender.cancellation()).await {
                Either::Left((read, _)) => Some(read),
                // The snapshot is of another generation.
                Either::Right(_) => None,
            };
            if let Some(read) = read {
                // Nobody receives it when the search is over.
                drop(sender.send(read));
            }
        }
        pending().await
    }
}
