//! Shaped searches: rounds of plain searches against one snapshot, until the lists are long enough.
//!
//! Each round is planned, cut for leaves and merged like any search; only the filter and k differ. A list for groups is asked
//! for again, longer and without the groups that are known, while there are too few; then groups are completed. Rounds end
//! early at the deadline, and after so many of them; the answer then says that it is not complete.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tarn_model::{AttributeValue, Attributes, CompareOp, Filter, IndexId, PointKey, ValidationError, Vector, limits};
use tarn_store::Spent;

use super::Engine;
use super::ahead::Ahead;
use crate::definition::Definition;
use crate::error::SearchError;
use crate::leaf::{LeafHit, LeafWork};
use crate::ranking::{Order, Ranked};
use crate::reader::State;
use crate::receipt::SegmentReceipt;
use crate::request::{Found, GroupFailure, SearchRequest, SearchResponse, Timings};
use crate::shape::{
    Beside, Combine, FoundGroups, Gathered, GroupScore, Grouping, List, ROUNDS, Shape, among, and, best, check_beside,
    check_shape, groups_among, not_among, reciprocal,
};
use crate::snapshot::Snapshot;
use crate::validate::zero_vector;

/// Most points that a round finds for all of its vectors together.
const ROUND_POINTS: usize = 1_000_000;

/// One of the indices that are searched.
struct Side {
    snapshot: Arc<Snapshot>,
    /// All of a round's search but its vectors, its k and what it adds to the filter.
    plain: SearchRequest,
    /// Every vector that a list may be of.
    vectors: Vec<Vector>,
}

/// What one result is made of.
struct Line {
    parts: Vec<Part>,
    fuse: Combine,
}

impl Line {
    /// Whether it takes more than one score of every point.
    fn is_sum(&self) -> bool {
        self.fuse == Combine::Sum && self.parts.len() > 1
    }
}

/// The points near some vectors of one side, by the best of their scores.
struct Part {
    side: usize,
    vectors: Vec<usize>,
}

/// What the rounds found out together, beside points.
#[derive(Default)]
struct Tally {
    allowed: u64,
    considered: u64,
    timings: Timings,
    leaves: LeafWork,
    failures: Vec<GroupFailure>,
    segments: Vec<SegmentReceipt>,
}

struct Rounds<'e> {
    engine: &'e Engine,
    sides: Vec<Side>,
    deadline: Option<Duration>,
    /// Keys of the points that are queries themselves.
    left_out: BTreeSet<Vec<u8>>,
    tally: Tally,
}

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
        let (request, shape, definition) = (&request, &shape, &definition);
        let Some(beside) = &shape.beside else {
            let answer = |snapshot: Arc<Snapshot>| async move {
                if !Arc::ptr_eq(&snapshot.definition, definition) {
                    // Deleted and created anew since the check.
                    check_shape(request, shape, &snapshot.definition)?;
                }
                self.shaped(vec![snapshot.at_time(now)], request, shape, (began, deadline), now).await
            };
            return self.on_state(id, state(request), answer).await;
        };
        let reader = self.reader(&beside.index);
        let other = self.known(&beside.index, reader.definition_for(request.consistency).await)?;
        let search = search_beside(request, beside, &other, now);
        check_beside(request, shape, definition, (&search, &other))?;
        let answer = |ours: Arc<Snapshot>| async move {
            let answer = |theirs: Arc<Snapshot>| {
                let ours = Arc::clone(&ours);
                async move {
                    check_shape(request, shape, &ours.definition)?;
                    let search = search_beside(request, beside, &theirs.definition, now);
                    check_beside(request, shape, &ours.definition, (&search, &theirs.definition))?;
                    let snapshots = vec![ours.at_time(now), theirs.at_time(now)];
                    self.shaped(snapshots, request, shape, (began, deadline), now).await
                }
            };
            self.on_snapshot(&beside.index, request.consistency, None, answer).await
        };
        self.on_state(id, state(request), answer).await
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
        let mut rounds = Rounds { engine: self, sides: Vec::new(), deadline, left_out: BTreeSet::new(), tally };
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
        let results = results.into_iter().map(|hits| found(hits, request.attributes.as_deref())).collect();
        let mut ranked = rounds.ranked(0);
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
fn found(hits: Vec<LeafHit>, attributes: Option<&[String]>) -> Vec<Found> {
    let one = |hit: LeafHit| {
        let mut found = hit.found;
        if let Some(wanted) = attributes {
            found.attributes.retain(|(name, _)| wanted.contains(name));
        }
        found
    };
    hits.into_iter().map(one).collect()
}

impl Rounds<'_> {
    /// The vectors of stored points. From now on the points are left out of every list.
    async fn stored(
        &mut self,
        snapshot: &Arc<Snapshot>,
        request: &SearchRequest,
        ids: &[Attributes],
    ) -> Result<Vec<Vector>, SearchError> {
        let Definition { index, source, .. } = &*snapshot.definition;
        let mut vectors = Vec::with_capacity(ids.len());
        for (at, id) in ids.iter().enumerate() {
            let equal = |(name, value): (&String, &AttributeValue)| Filter::Compare {
                attribute: name.clone(),
                op: CompareOp::Eq,
                value: value.clone(),
            };
            // Whatever the search's filters say: the point is a question here, not an answer.
            let permanent = id.iter().filter(|(name, _)| source.permanent_attributes.contains(*name));
            let split = id.iter().filter(|(name, _)| index.split_attributes.contains(*name));
            let lookup = Arc::new(SearchRequest {
                split_filter: split.map(|(name, value)| (name.clone(), value.clone())).collect(),
                filter: Some(Filter::And(permanent.map(equal).collect())),
                attributes: Some(Vec::new()),
                retrieve_vectors: true,
                exact: true,
                explain: request.explain,
                alive_at: request.alive_at,
                ..SearchRequest::new(vec![zero_vector(source)], 1)
            });
            // Not even a deadline keeps it from being found: there is no telling "not there" from "not yet".
            let found = self.search(snapshot, &lookup, None).await?.pop().and_then(|mut hits| hits.pop());
            let Some(LeafHit { key, found }) = found else {
                let message = format!("queryIds[{at}]: the index has no such point");
                return Err(SearchError::Invalid(ValidationError::one(message)));
            };
            if Some(&key) != PointKey::encode(source, id).ok().map(|key| key.0).as_ref() {
                return Err(SearchError::Internal(format!("queryIds[{at}] found another point")));
            }
            vectors.extend(found.vector);
            self.left_out.insert(key);
        }
        Ok(vectors)
    }

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
        let context = queries.len()..queries.len() + shape.context.len();
        let part = |query: usize| {
            let query = (!shape.prioritize).then_some(query);
            Part { side: 0, vectors: query.into_iter().chain(context.clone()).collect() }
        };
        let parts: Vec<Part> = (0..queries.len()).map(part).collect();
        let Some(fuse) = shape.combine else {
            return parts.into_iter().map(|part| Line { parts: vec![part], fuse: Combine::Best }).collect();
        };
        let others = self.sides.get(1).map_or(0, |side| side.vectors.len());
        let others = (0..others).map(|query| Part { side: 1, vectors: vec![query] });
        vec![Line { parts: parts.into_iter().chain(others).collect(), fuse }]
    }

    fn ranked(&self, side: usize) -> Ranked {
        let Side { snapshot, plain, .. } = &self.sides[side];
        plain.ranked(snapshot.definition.index.algorithm.metric)
    }

    /// The order of a result.
    fn order(&self, line: &Line) -> Order {
        match line.fuse {
            Combine::ReciprocalRank => Order { higher: true },
            Combine::Best | Combine::Sum => Order { higher: self.ranked(0).higher_is_better },
        }
    }

    /// The `depth` best of each line.
    async fn lists(&mut self, lines: &[Line], more: Option<&Filter>, depth: usize) -> Result<Vec<List>, SearchError> {
        if let [line] = lines
            && line.is_sum()
        {
            return self.sum(&line.parts, more, depth).await;
        }
        let mut lists: Vec<HashMap<usize, List>> = Vec::with_capacity(self.sides.len());
        for side in 0..self.sides.len() {
            let parts = lines.iter().flat_map(|line| &line.parts).filter(|part| part.side == side);
            let used: BTreeSet<usize> = parts.flat_map(|part| part.vectors.iter().copied()).collect();
            let vectors: Vec<Vector> = used.iter().map(|&at| self.sides[side].vectors[at].clone()).collect();
            let found = match vectors.is_empty() {
                true => Vec::new(),
                false => self.nearest(side, vectors, None, more, depth).await?,
            };
            lists.push(used.into_iter().zip(found).collect());
        }
        let one = |line: &Line| {
            let order = self.order(line);
            let part = |part: &Part| {
                let order = Order { higher: self.ranked(part.side).higher_is_better };
                let of = part.vectors.iter().filter_map(|at| lists[part.side].get(at).cloned());
                best(of.collect(), order, depth)
            };
            let parts = line.parts.iter().map(part).collect();
            match line.fuse {
                Combine::ReciprocalRank => reciprocal(parts),
                Combine::Best | Combine::Sum => best(parts, order, depth),
            }
        };
        Ok(lines.iter().map(one).collect())
    }

    /// The `depth` best by the sum of the parts' scores, of every point.
    async fn sum(&mut self, parts: &[Part], more: Option<&Filter>, depth: usize) -> Result<Vec<List>, SearchError> {
        let used: BTreeSet<usize> = parts.iter().flat_map(|part| part.vectors.iter().copied()).collect();
        let places: BTreeMap<usize, u32> = used.iter().copied().zip(0..).collect();
        let place = |part: &Part| part.vectors.iter().filter_map(|at| places.get(at).copied()).collect();
        let sum = parts.iter().map(place).collect();
        let vectors = used.iter().map(|&at| self.sides[0].vectors[at].clone()).collect();
        self.nearest(0, vectors, Some(sum), more, depth).await
    }

    /// The `depth` best by each of these vectors, or by the sum over lists of them.
    async fn nearest(
        &mut self,
        side: usize,
        vectors: Vec<Vector>,
        sum: Option<Vec<Vec<u32>>>,
        more: Option<&Filter>,
        depth: usize,
    ) -> Result<Vec<List>, SearchError> {
        let Side { snapshot, plain, .. } = &self.sides[side];
        let (snapshot, mut request) = (Arc::clone(snapshot), plain.clone());
        let asked = (depth + self.left_out.len()).min(limits::K as usize);
        request.queries = vectors;
        request.k = asked as u32;
        request.filter = and([request.filter, more.cloned()]);
        if sum.is_some() {
            request.ranking.get_or_insert_default().sum = sum;
        }
        let request = Arc::new(request);
        let metric = snapshot.definition.index.algorithm.metric;
        let ranked = request.ranked(metric);
        let results = self.search(&snapshot, &request, self.deadline).await?;
        let list = |mut hits: Vec<LeafHit>| {
            let is_all = hits.len() < asked;
            hits.retain(|hit| !self.left_out.contains(&hit.key));
            let is_all = is_all && hits.len() <= depth;
            hits.truncate(depth);
            hits.iter_mut().for_each(|hit| hit.found.distance = ranked.of_distance(metric, hit.found.distance));
            List { hits, is_all }
        };
        Ok(results.into_iter().map(list).collect())
    }

    /// One plain search, noted.
    async fn search(
        &mut self,
        snapshot: &Arc<Snapshot>,
        request: &Arc<SearchRequest>,
        deadline: Option<Duration>,
    ) -> Result<Vec<Vec<LeafHit>>, SearchError> {
        let began = self.engine.monotonic();
        let ahead = Ahead::default();
        let (answer, failures) = self.engine.search_snapshot(snapshot, request, began, deadline, &ahead).await?;
        let tally = &mut self.tally;
        tally.allowed = tally.allowed.saturating_add(answer.allowed);
        tally.considered = tally.considered.saturating_add(answer.considered);
        tally.timings = tally.timings.then(&answer.timings);
        tally.leaves = tally.leaves.and(answer.leaves);
        tally.failures.extend(failures);
        tally.segments.extend(answer.segments);
        Ok(answer.results)
    }

    /// Whether a round was cut short: another one would be too.
    fn is_cut(&self) -> bool {
        self.tally.considered < self.tally.allowed
    }

    /// The groups of one line, and their points.
    async fn grouped(
        &mut self,
        line: &Line,
        grouping: &Grouping,
        k: usize,
        wanted: usize,
    ) -> Result<(Vec<LeafHit>, FoundGroups), SearchError> {
        let (line, order) = (std::slice::from_ref(line), self.order(line));
        let vectors: usize = line.iter().flat_map(|line| &line.parts).map(|part| part.vectors.len()).sum();
        let deepest = (limits::K as usize - self.left_out.len()).min(ROUND_POINTS / vectors.max(1)).max(k);
        // Places are of the whole list: one without some of the points has others.
        let deepens = line.iter().all(|line| line.fuse != Combine::ReciprocalRank);
        let mut gathered = Gathered::default();
        let first = self.one(line, None, k).await?;
        let mut is_all = first.is_all;
        let near = groups_among(&first.hits[..k.min(first.hits.len())], &grouping.by);
        gathered.append(first, grouping);
        let candidates = near.max(wanted);
        let (mut depth, mut rounds) = (k, 1);
        while deepens && !is_all && gathered.len() < wanted && !self.is_cut() && rounds < ROUNDS {
            depth = depth.saturating_mul(2).min(deepest);
            rounds += 1;
            let others = not_among(&grouping.by, gathered.values());
            let list = self.one(line, Some(&others), depth).await?;
            is_all = list.is_all;
            gathered.append(list, grouping);
        }
        let mut complete = is_all || gathered.len() >= wanted;
        gathered.keep(match grouping.score {
            // No other group can be among the best.
            GroupScore::Best => wanted,
            _ => candidates,
        });
        let at_once = (deepest / grouping.limit.max(1) as usize).max(1);
        let mut rounds = 0;
        loop {
            let partial = gathered.partial(at_once);
            if partial.is_empty() {
                break;
            }
            if !deepens || self.is_cut() || rounds >= ROUNDS {
                complete = false;
                break;
            }
            rounds += 1;
            // Longer every time, for one group may have nearly all of the nearest.
            let depth = (partial.len() * grouping.limit as usize).saturating_mul(1 << rounds.min(16)).min(deepest);
            let those = among(&grouping.by, partial.clone());
            let list = self.one(line, Some(&those), depth).await?;
            // So many points cannot all be of groups that have fewer than the limit, unless the search missed some.
            if !gathered.replace(&partial, list, grouping) {
                complete = false;
                break;
            }
        }
        let (hits, groups) = gathered.ranked(grouping.score, order, wanted);
        Ok((hits, FoundGroups { groups, complete: complete && !self.is_cut() }))
    }

    async fn one(&mut self, line: &[Line], more: Option<&Filter>, depth: usize) -> Result<List, SearchError> {
        Ok(self.lists(line, more, depth).await?.pop().unwrap_or_default())
    }
}
