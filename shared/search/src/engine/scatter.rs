//! Asking leaves: one for each group of shards, all at once, while this engine searches the tail.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select, try_join, try_join_all};
use tarn_store::{Clock, Meter};

use super::Engine;
use crate::error::SearchError;
use crate::group::Group;
use crate::leaf::{LeafAnswer, LeafRequest, LeafSearch, Pin, check_answer, merge};
use crate::plan::Unit;
use crate::request::{GroupFailure, SearchRequest};
use crate::snapshot::Snapshot;

/// How often a leaf is asked that could not be asked, or could not read.
const ATTEMPTS: usize = 2;
/// The pause before it is asked again.
const PAUSE: Duration = Duration::from_millis(50);
/// What of the time that remains a leaf does not get: its answer has a way to go. At most [`MARGIN`].
const MARGIN_SHARE: u32 = 4;
const MARGIN: Duration = Duration::from_millis(50);

/// What became of one group.
enum Outcome {
    Answered(Box<LeafAnswer>),
    /// Nothing that can be used; why.
    LeftOut(String),
}

impl Engine {
    /// Answers a search from what leaves find in the groups' files and from the rest of the plan.
    ///
    /// # Errors
    /// Of a leaf: what is not [retryable][SearchError::is_retryable] always; the rest when there is no deadline.
    pub(super) async fn scatter(
        &self,
        leaves: &dyn LeafSearch,
        snapshot: &Arc<Snapshot>,
        request: &Arc<SearchRequest>,
        (groups, rest): (Vec<Group>, Vec<Unit>),
        deadline: Option<Duration>,
    ) -> Result<(LeafAnswer, Vec<GroupFailure>), SearchError> {
        let pin = snapshot.generation.commit_id().map(|commit_id| Pin {
            generation: snapshot.generation.number(),
            commit_id,
            head: snapshot.version(),
        });
        let pin = &pin.ok_or_else(|| SearchError::Internal("files without a manifest".to_owned()))?;
        let began = self.monotonic();
        let asking = Meter::mark();
        let asked = groups.iter().map(|group| self.ask(leaves, snapshot, request, pin, group, deadline));
        let (outcomes, rest) = try_join(try_join_all(asked), self.compute(snapshot, request, rest, deadline)).await?;
        let (results, order) = (request.results(), request.order(snapshot.definition.index.algorithm.metric));
        let (mut answers, mut failures, mut lost) = (vec![rest], Vec::new(), 0);
        for (group, outcome) in groups.iter().zip(outcomes) {
            match outcome {
                Outcome::Answered(answer) => answers.push(*answer),
                Outcome::LeftOut(reason) => {
                    lost += group.rows * results as u64;
                    failures.push(GroupFailure { shards: ids(snapshot, group), rows: group.rows, reason });
                }
            }
        }
        let k = request.k as usize;
        let merging = move |_: &_| Ok(merge(order, k, results, answers));
        let mut merged = self.inner.files.pool.run(merging).await?;
        asking.add(&merged.spent);
        merged.allowed = merged.allowed.saturating_add(lost);
        // The leaves' own waits for files are among it.
        merged.timings.search = self.monotonic().saturating_sub(began).saturating_sub(merged.timings.fetch);
        Ok((merged, failures))
    }

    async fn ask(
        &self,
        leaves: &dyn LeafSearch,
        snapshot: &Snapshot,
        request: &SearchRequest,
        pin: &Pin,
        group: &Group,
        deadline: Option<Duration>,
    ) -> Result<Outcome, SearchError> {
        let clock = &**self.inner.files.store.clock();
        let left = || deadline.map(|deadline| deadline.saturating_sub(clock.monotonic()));
        let late = || Ok(Outcome::LeftOut("no answer before the deadline".to_owned()));
        let mut attempt = 1;
        loop {
            let remaining = left().map(|left| left - MARGIN.min(left / MARGIN_SHARE));
            let asked = LeafRequest {
                index: (*snapshot.definition.index).clone(),
                source: (*snapshot.definition.source).clone(),
                pin: pin.clone(),
                shards: ids(snapshot, group),
                search: request.clone(),
                remaining,
            };
            let Some(answer) = before(leaves.search(asked), clock, left()).await else { return late() };
            match answer {
                Ok(answer) => {
                    check_answer(&answer, request, &snapshot.definition)?;
                    return Ok(Outcome::Answered(Box::new(answer)));
                }
                Err(error) if error.is_retryable() && attempt < ATTEMPTS => {
                    attempt += 1;
                    if before(clock.sleep(PAUSE), clock, left()).await.is_none() {
                        return late();
                    }
                }
                Err(error) if error.is_retryable() && deadline.is_some() => {
                    return Ok(Outcome::LeftOut(error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn ids(snapshot: &Snapshot, group: &Group) -> Vec<String> {
    let ids = &snapshot.definition.shards;
    group.shards.iter().filter_map(|&shard| ids.get(shard as usize).cloned()).collect()
}

/// What the future gives, unless `left` passes first.
async fn before<T>(future: impl Future<Output = T>, clock: &dyn Clock, left: Option<Duration>) -> Option<T> {
    let Some(left) = left else { return Some(future.await) };
    match select(pin!(future), clock.sleep(left)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}
