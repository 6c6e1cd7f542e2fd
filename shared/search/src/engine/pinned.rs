//! Answering from a pinned state, and again when that is not there any more.

use std::sync::Arc;

use futures::future::try_join_all;
use tarn_model::{IndexId, ReadToken};
use tarn_store::StoreError;

use super::Engine;
use crate::error::SearchError;
use crate::reader::{Reader, State};
use crate::request::Consistency;
use crate::snapshot::Snapshot;

/// How often a search begins anew because garbage collection overtook its snapshot.
const ATTEMPTS: usize = 3;

impl Engine {
    /// Answers from a snapshot that is fresh enough; and from a newer one when garbage collection has overtaken it.
    pub(super) async fn on_snapshot<T, F: Future<Output = Result<T, SearchError>>>(
        &self,
        id: &IndexId,
        consistency: Consistency,
        min_version: Option<&ReadToken>,
        answer: impl Fn(Arc<Snapshot>) -> F,
    ) -> Result<T, SearchError> {
        self.on_state(id, State { generation: None, consistency, min_version }, answer).await
    }

    /// As [`Self::on_snapshot`], from a state that may be an earlier one.
    pub(super) async fn on_state<T, F: Future<Output = Result<T, SearchError>>>(
        &self,
        id: &IndexId,
        state: State<'_>,
        answer: impl Fn(Arc<Snapshot>) -> F,
    ) -> Result<T, SearchError> {
        let answer = &answer;
        let of_one = |snapshots: Vec<Arc<Snapshot>>| async move {
            match snapshots.into_iter().next() {
                Some(snapshot) => answer(snapshot).await,
                None => Err(SearchError::Internal("a search of no index".to_owned())),
            }
        };
        self.on_states(&[(id, state)], of_one).await
    }

    /// As [`Self::on_state`], from states of several indices. When something is missing, or is not what it must be, none of them is
    /// believed: what failed may be of any.
    pub(super) async fn on_states<T, F: Future<Output = Result<T, SearchError>>>(
        &self,
        states: &[(&IndexId, State<'_>)],
        answer: impl Fn(Vec<Arc<Snapshot>>) -> F,
    ) -> Result<T, SearchError> {
        let readers: Vec<_> = states.iter().map(|(id, _)| self.reader(id)).collect();
        let mut attempt = 1;
        loop {
            let believing: Vec<bool> = readers.iter().map(|reader| reader.believes()).collect();
            let pinning = states.iter().zip(&readers);
            let pinning =
                pinning.map(|(&(id, state), reader)| async move { self.known(id, reader.state(state).await) });
            let answered = match try_join_all(pinning).await {
                Ok(pinned) => {
                    let now = self.now_micros();
                    answer(pinned.iter().map(|snapshot| snapshot.at_time(now)).collect()).await
                }
                Err(error) => Err(error),
            };
            match answered {
                Err(SearchError::Store(StoreError::Missing { .. })) if attempt < ATTEMPTS => {
                    // An object was collected: a snapshot was older than gc's grace period.
                    readers.iter().for_each(|reader| reader.distrust());
                    attempt += 1;
                }
                Err(ref error @ (SearchError::Corrupt(_) | SearchError::Store(StoreError::Corrupt(_))))
                    if disbelieve(&readers, &believing) =>
                {
                    let indices: Vec<&IndexId> = states.iter().map(|(id, _)| *id).collect();
                    tracing::warn!(?indices, %error, "looking again without the hint");
                }
                answered => return answered,
            }
        }
    }
}

/// Believes none of the hints any more. Says whether any of them may be what is wrong.
fn disbelieve(readers: &[Arc<Reader>], believing: &[bool]) -> bool {
    let told = readers.iter().zip(believing).map(|(reader, &believing)| reader.disbelieve(believing));
    // Each is told: `any` would leave the rest believing.
    told.filter(|may_be_wrong| *may_be_wrong).count() > 0
}
