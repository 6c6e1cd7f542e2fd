//! Measuring recall: on demand, with points of the index for queries; and of a share of the real searches, beside them.

use std::sync::Arc;
use std::time::Duration;

use tarn_model::IndexId;

use super::ahead::Ahead;
use super::{Engine, Opened, answer};
use crate::error::SearchError;
use crate::plan::{Origin, Part};
use crate::recall::{FilterClass, ObservedRecall, RecallReport, RecallRequest, recall_of};
use crate::request::{SearchRequest, SearchResponse};
use crate::sample::{Sample, SampleRequest};
use crate::snapshot::Snapshot;

impl Engine {
    /// Compares searches as they are made every day with exact ones, over points of the index: each is searched for, and is not
    /// counted among its own neighbours.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub async fn recall(&self, id: &IndexId, request: RecallRequest) -> Result<RecallReport, SearchError> {
        request.check()?;
        let end = request.deadline.map(|deadline| self.monotonic().saturating_add(deadline));
        let sampled = SampleRequest {
            sample: Sample { n: request.queries.into(), seed: request.seed },
            split_filter: request.split_filter.clone(),
            filter: request.filter.clone(),
            retrieve_vectors: true,
            consistency: request.consistency,
            as_of: None,
        };
        let sampled = self.sample(id, sampled).await?;
        let (request, points) = (&request, &sampled.points);
        let measure = async |snapshot: Arc<Snapshot>| {
            let definition = &snapshot.definition;
            let metric = definition.index.algorithm.metric;
            let mut recalls = Vec::with_capacity(points.len());
            let (mut searching, mut exactly) = (Duration::ZERO, Duration::ZERO);
            let mut complete = true;
            for point in points {
                let Some(vector) = point.vector.clone() else { continue };
                let search = SearchRequest {
                    split_filter: request.split_filter.clone(),
                    filter: request.filter.clone(),
                    target_recall: request.target_recall,
                    ef_search: request.ef_search,
                    nprobe: request.nprobe,
                    attributes: Some(Vec::new()),
                    ..SearchRequest::new(vec![vector], request.k + 1)
                };
                let exact = SearchRequest { exact: true, ..search.clone() };
                let began = self.monotonic();
                let found = self.neighbours(&snapshot, search, &point.key.0, request.k, end).await?;
                let searched = self.monotonic();
                let exact = self.neighbours(&snapshot, exact, &point.key.0, request.k, end).await?;
                // One that the deadline has cut short says nothing about recall.
                let (Some(found), Some(exact)) = (found, exact) else {
                    complete = false;
                    break;
                };
                searching += searched.saturating_sub(began);
                exactly += self.monotonic().saturating_sub(searched);
                recalls.push(recall_of(metric, &found, &exact));
            }
            let queries = u32::try_from(recalls.len()).unwrap_or(u32::MAX);
            let recall = if recalls.is_empty() { 1.0 } else { recalls.iter().sum::<f64>() / recalls.len() as f64 };
            Ok(RecallReport {
                queries,
                complete,
                k: request.k,
                recall,
                lowest: recalls.iter().copied().fold(1.0, f64::min),
                searching,
                exact: exactly,
                version: snapshot.version(),
                generation: snapshot.generation.number(),
            })
        };
        self.on_snapshot(id, request.consistency, None, measure).await
    }

    /// The distances of what is found, nearest first, but for the point itself. `None`: not all rows could be considered in time.
    async fn neighbours(
        &self,
        snapshot: &Arc<Snapshot>,
        request: SearchRequest,
        own: &[u8],
        k: u32,
        end: Option<Duration>,
    ) -> Result<Option<Vec<f64>>, SearchError> {
        let (began, request) = (self.monotonic(), Arc::new(request));
        if end.is_some_and(|end| began >= end) {
            return Ok(None);
        }
        let (answer, failures) = self.search_snapshot(snapshot, &request, began, end, &Ahead::default()).await?;
        if answer.considered < answer.allowed || !failures.is_empty() {
            return Ok(None);
        }
        let hits = answer.results.into_iter().flatten().filter(|hit| hit.key != own);
        Ok(Some(hits.take(k as usize).map(|hit| hit.found.distance).collect()))
    }

    /// What the monitor has seen of an index.
    pub fn observed_recall(&self, id: &IndexId) -> Vec<ObservedRecall> {
        let mut observed = self.all_observed_recall();
        observed.retain(|observed| observed.index == *id);
        observed
    }

    /// Until the searches that were to be compared have been: for processes that are frozen between requests.
    pub async fn compared(&self) {
        if let Some(monitor) = &self.inner.monitor {
            monitor.settled().await;
        }
    }

    /// What the monitor has seen, of every index.
    pub fn all_observed_recall(&self) -> Vec<ObservedRecall> {
        self.inner.monitor.as_ref().map(|monitor| monitor.observed()).unwrap_or_default()
    }

    /// Has a search compared with an exact one, if it is one of the share to be. Returns at once.
    pub(super) fn watch(&self, snapshot: &Arc<Snapshot>, request: &Arc<SearchRequest>, response: &SearchResponse) {
        let Some(monitor) = &self.inner.monitor else { return };
        let exact = request.exact || snapshot.definition.index.algorithm.is_exact();
        let other = request.shape.is_some() || request.ranking.is_some();
        let whole = response.coverage >= 1.0 && response.failures.is_empty();
        if exact || other || !whole || !monitor.takes() {
            return;
        }
        let Some(place) = monitor.place() else { return };
        let found = response.results.iter().map(|found| found.iter().map(|found| found.distance).collect());
        let found: Vec<Vec<f64>> = found.collect();
        let (engine, snapshot, request) = (self.clone(), Arc::clone(snapshot), Arc::clone(request));
        tokio::spawn(async move {
            let compared = engine.compare(&snapshot, &request, &found).await;
            // Given back when what was found is noted.
            let _place = place;
            let Some(monitor) = &engine.inner.monitor else { return };
            match compared {
                Ok(Some(recalls)) => {
                    let (index, class) = (&snapshot.definition.index.id, FilterClass::of(&request));
                    monitor.note(index, class, &recalls);
                    let (queries, sum) = (recalls.len(), recalls.iter().sum::<f64>());
                    // For processes whose metrics nobody reads.
                    tracing::info!(target: "tarn_recall", %index, filter = class.name(), queries, sum, "recall");
                }
                Ok(None) => monitor.drop_one(),
                Err(error) => {
                    monitor.drop_one();
                    tracing::warn!(index = %snapshot.definition.index.id, %error, "a search cannot be compared");
                }
            }
        });
    }

    /// The recalls of a search's query vectors. `None`: a file is not at hand, and is not fetched for this.
    async fn compare(
        &self,
        snapshot: &Arc<Snapshot>,
        request: &Arc<SearchRequest>,
        found: &[Vec<f64>],
    ) -> Result<Option<Vec<f64>>, SearchError> {
        let Some(monitor) = self.inner.monitor.as_ref().map(Arc::clone) else { return Ok(None) };
        let planned = self.plan(snapshot, Part::Everything, &request.split_filter).await?;
        let mut units = Vec::with_capacity(planned.len());
        for unit in planned {
            let segment = match unit.origin {
                Origin::Tail(_) => None,
                Origin::Base { shard, segment } => {
                    let open = snapshot.base(shard, segment).and_then(|base| base.opened(&self.inner.files));
                    let Some(open) = open else { return Ok(None) };
                    Some(open)
                }
            };
            units.push((unit, segment));
        }
        let exact = SearchRequest {
            exact: true,
            retrieve_vectors: false,
            attributes: Some(Vec::new()),
            deadline: None,
            explain: false,
            ..(**request).clone()
        };
        let (inner, snapshot_, busy) = (Arc::clone(&self.inner), Arc::clone(snapshot), Arc::clone(&monitor.busy));
        let job = move |_: &crate::pool::Abandoned| {
            let opened = Opened { at_hand: units.len(), units, late: Vec::new(), late_rows: 0 };
            // Asked again and again while rows are compared: the thread lets every search go first.
            let stop = || {
                busy.wait();
                false
            };
            stop();
            answer(&inner, &snapshot_, &exact, opened, &stop)
        };
        let exact = monitor.pool.run(job).await?;
        let metric = snapshot.definition.index.algorithm.metric;
        let distances = exact.results.iter().map(|hits| hits.iter().map(|hit| hit.found.distance).collect());
        let distances: Vec<Vec<f64>> = distances.collect();
        Ok(Some(found.iter().zip(&distances).map(|(found, exact)| recall_of(metric, found, exact)).collect()))
    }
}
