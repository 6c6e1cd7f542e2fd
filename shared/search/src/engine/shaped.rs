//! Shaped searches: rounds of plain searches against one snapshot of each index, until the lists are long enough. What is of any
//! size, hits and their attributes, is looked at on the pool.

mod groups;
mod rounds;
mod stored;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tarn_model::{IndexId, Vector};
use tarn_store::Spent;

use self::rounds::{Rounds, Side, Tally};
use super::Engine;
use crate::definition::Definition;
use crate::error::SearchError;
use crate::leaf::LeafHit;
use crate::reader::State;
use crate::request::{Found, SearchRequest, SearchResponse, Timings};
use crate::shape::{Beside, Combine, Hit, Line, List, Part, Shape, and, check_beside, check_shape};
use crate::snapshot::Snapshot;

impl Engine {
    /// Answers a search that has a shape.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub(super) async fn search_shaped(
        &self,
        id: &IndexId,
        mut request: SearchRequest,
        shape: Shape,
        began: Duration,
    ) -> Result<SearchResponse, SearchError> {
        let definition = self.known(id, self.reader(id).definition_for(request.consistency).await)?;
        check_shape(&request, &shape, &definition)?;
        let deadline = request.deadline.and_then(|deadline| began.checked_add(deadline));
        // One moment for all rounds, of both indices.
        let now = self.now_micros();
        request.alive_at = expiring(&definition, now);
        let (request, shape) = (&request, &shape);
        let mut states = vec![(id, state(request))];
        if let Some(beside) = &shape.beside {
            let reader = self.reader(&beside.index);
            let other = self.known(&beside.index, reader.definition_for(request.consistency).await)?;
            let search = search_beside(request, beside, &other, now);
            check_beside(request, shape, &definition, (&search, &other))?;
            states.push((&beside.index, State { consistency: request.consistency, ..State::default() }));
        }
        let answer = |snapshots: Vec<Arc<Snapshot>>| async move {
            // An index may have been deleted and created anew since.
            if let [first, ..] = snapshots.as_slice() {
                check_shape(request, shape, &first.definition)?;
            }
            if let ([first, second], Some(beside)) = (snapshots.as_slice(), &shape.beside) {
                let search = search_beside(request, beside, &second.definition, now);
                check_beside(request, shape, &first.definition, (&search, &second.definition))?;
            }
            let snapshots: Vec<_> = snapshots.iter().map(|snapshot| snapshot.at_time(now)).collect();
            self.shaped(snapshots, request, shape, (began, deadline), now).await
        };
        self.on_states(&states, answer).await
    }

    async fn shaped(
        &self,
        snapshots: Vec<Arc<Snapshot>>,
        request: &SearchRequest,
        shape: &Shape,
        (began, deadline): (Duration, Option<Duration>),
        now: i64,
    ) -> Result<SearchResponse, SearchError> {
        let timings = Timings { snapshot: self.monotonic().saturating_sub(began), ..Timings::default() };
        let tally = Tally { timings, ..Tally::default() };
        let (sides, context, left_out) = (Vec::new(), 0..0, Arc::new(BTreeSet::new()));
        let mut rounds = Rounds { engine: self, sides, context, deadline, left_out, tally };
        let Some(first) = snapshots.first() else {
            return Err(SearchError::Internal("a search of no index".to_owned()));
        };
        let stored = rounds.stored(first, request, &shape.query_ids).await?;
        let queries: Vec<Vector> = request.queries.iter().chain(&stored).cloned().collect();
        let lines = rounds.set_up(&snapshots, request, shape, queries, now);
        let wanted = shape.result_limit.unwrap_or(request.k) as usize;
        let (mut results, mut groups) = (Vec::with_capacity(lines.len()), None);
        match &shape.grouping {
            None => {
                for List { mut hits, .. } in rounds.lists(&lines, None, request.k as usize).await? {
                    hits.truncate(wanted.min(request.k as usize));
                    results.push(hits);
                }
            }
            Some(grouping) => {
                let found_groups = groups.insert(Vec::with_capacity(lines.len()));
                for line in &lines {
                    let (hits, found) = rounds.grouped(line, grouping, request.k as usize, wanted).await?;
                    results.push(hits);
                    found_groups.push(found);
                }
            }
        }
        let (attributes, hits) = (request.attributes.clone(), results.iter().map(Vec::len).sum());
        let answered = move |_: &(dyn Fn() -> bool + Sync)| {
            Ok(results.into_iter().map(|hits| found(hits, attributes.as_deref())).collect())
        };
        let results = self.computed(hits, answered).await?;
        let mut ranked = request.ranked(first.definition.index.algorithm.metric);
        ranked.by_index &= !lines.iter().any(Line::is_sum);
        let Tally { allowed, considered, timings, leaves, failures, segments } = rounds.tally;
        Ok(SearchResponse {
            results,
            coverage: if allowed == 0 { 1.0 } else { considered as f64 / allowed as f64 },
            failures,
            version: first.version(),
            generation: first.generation.number(),
            timings,
            // The search notes it as a whole.
            spent: Spent::default(),
            leaves,
            segments,
            ranked,
            groups,
            stored,
        })
    }
}

/// The state of the first index that is asked for.
fn state(request: &SearchRequest) -> State<'_> {
    let SearchRequest { as_of, consistency, min_version, .. } = request;
    State { generation: *as_of, consistency: *consistency, min_version: min_version.as_ref() }
}

/// The moment, if points of the data source expire.
fn expiring(definition: &Definition, now: i64) -> Option<i64> {
    definition.source.policy.retention.is_some().then_some(now)
}

/// The search of the index beside: all but what is its own is the first one's.
fn search_beside(request: &SearchRequest, beside: &Beside, definition: &Definition, now: i64) -> SearchRequest {
    let known = |name: &&String| definition.source.attribute_types.contains_key(*name);
    SearchRequest {
        split_filter: beside.split_filter.clone(),
        queries: beside.queries.clone(),
        filter: beside.filter.clone(),
        ranking: beside.ranking.clone(),
        attributes: request.attributes.as_ref().map(|names| names.iter().filter(known).cloned().collect()),
        min_version: None,
        as_of: None,
        alive_at: expiring(definition, now),
        ..request.clone()
    }
}

/// What is answered: without the attribute of groups, when it was read for them alone.
fn found(hits: Vec<Hit>, attributes: Option<&[String]>) -> Vec<Found> {
    let one = |Hit { score, point }: Hit| {
        let LeafHit { mut found, .. } = Arc::unwrap_or_clone(point);
        found.distance = score;
        if let Some(wanted) = attributes {
            found.attributes.retain(|(name, _)| wanted.contains(name));
        }
        found
    };
    hits.into_iter().map(one).collect()
}

impl Rounds<'_> {
    /// The sides, and what each result is made of.
    fn set_up(
        &mut self,
        snapshots: &[Arc<Snapshot>],
        request: &SearchRequest,
        shape: &Shape,
        queries: Vec<Vector>,
        now: i64,
    ) -> Vec<Line> {
        for (side, snapshot) in snapshots.iter().enumerate() {
            let (mut plain, vectors) = match (side, &shape.beside) {
                (1.., Some(beside)) => {
                    (search_beside(request, beside, &snapshot.definition, now), beside.queries.clone())
                }
                _ => (request.clone(), queries.iter().chain(&shape.context).cloned().collect()),
            };
            plain.queries.clear();
            plain.shape = None;
            if let Some(grouping) = &shape.grouping {
                plain.filter = and([plain.filter, grouping.filter.clone()]);
                if let Some(names) = &mut plain.attributes
                    && !names.contains(&grouping.by)
                {
                    names.push(grouping.by.clone());
                }
            }
            self.sides.push(Side { snapshot: Arc::clone(snapshot), plain, vectors });
        }
        self.context = queries.len()..queries.len() + shape.context.len();
        let with_context = !shape.context.is_empty();
        let part = |query: usize| Part { side: 0, own: (!shape.prioritize).then_some(query), with_context };
        let parts: Vec<Part> = (0..queries.len()).map(part).collect();
        let Some(fuse) = shape.combine else {
            return parts.into_iter().map(|part| Line { parts: vec![part], fuse: Combine::Best }).collect();
        };
        let others = self.sides.get(1).map_or(0, |side| side.vectors.len());
        let others = (0..others).map(|query| Part { side: 1, own: Some(query), with_context: false });
        vec![Line { parts: parts.into_iter().chain(others).collect(), fuse }]
    }
}
