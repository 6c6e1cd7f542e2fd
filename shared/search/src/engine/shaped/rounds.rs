//! Rounds: each is planned, cut for leaves and merged like any search; only the filter and k differ.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tarn_model::{Filter, Vector, limits};

use crate::engine::Engine;
use crate::engine::ahead::Ahead;
use crate::error::SearchError;
use crate::leaf::{LeafHit, LeafWork};
use crate::ranking::Order;
use crate::receipt::SegmentReceipt;
use crate::request::{GroupFailure, SearchRequest, Timings};
use crate::round::Round;
use crate::shape::{Hit, Line, List, Neighbours, Part};
use crate::snapshot::Snapshot;

/// Hits that are looked at without the pool.
const HITS_INLINE: usize = 4096;
/// Most segments that a receipt tells of.
const RECEIPTS: usize = 1000;

/// One of the indices that are searched.
pub(super) struct Side {
    pub(super) snapshot: Arc<Snapshot>,
    /// All of a round's search but its vectors, its k and what it adds to the filter.
    pub(super) plain: SearchRequest,
    /// Every vector that a list may be of.
    pub(super) vectors: Vec<Vector>,
}

/// What the rounds found out together, beside points.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) allowed: u64,
    pub(super) considered: u64,
    pub(super) timings: Timings,
    pub(super) leaves: LeafWork,
    pub(super) failures: Vec<GroupFailure>,
    pub(super) segments: Vec<SegmentReceipt>,
}

pub(super) struct Rounds<'e> {
    pub(super) engine: &'e Engine,
    pub(super) sides: Vec<Side>,
    /// The positions of the context's vectors, on the first side.
    pub(super) context: Range<usize>,
    pub(super) deadline: Option<Duration>,
    /// Keys of the points that are queries themselves.
    pub(super) left_out: Arc<BTreeSet<Vec<u8>>>,
    pub(super) tally: Tally,
}

impl Rounds<'_> {
    /// The order in which a side's points are answered.
    pub(super) fn order(&self, side: usize) -> Order {
        let Side { snapshot, plain, .. } = &self.sides[side];
        Order { higher: plain.ranked(snapshot.definition.index.algorithm.metric).higher_is_better }
    }

    /// The `depth` best of each line.
    pub(super) async fn lists(
        &mut self,
        lines: &[Line],
        more: Option<&Filter>,
        depth: usize,
    ) -> Result<Vec<List>, SearchError> {
        if let [line] = lines
            && line.is_sum()
        {
            return self.sum(&line.parts, more, depth).await;
        }
        let mut lists: Vec<HashMap<usize, List>> = Vec::with_capacity(self.sides.len());
        for side in 0..self.sides.len() {
            let parts = lines.iter().flat_map(|line| &line.parts).filter(|part| part.side == side);
            let used: BTreeSet<usize> = parts.flat_map(|part| part.vectors(&self.context)).collect();
            let vectors: Vec<Vector> = used.iter().map(|&at| self.sides[side].vectors[at].clone()).collect();
            let found = match vectors.is_empty() {
                true => Vec::new(),
                false => self.nearest(side, vectors, None, more, depth).await?,
            };
            lists.push(used.into_iter().zip(found).collect());
        }
        let orders = (0..self.sides.len()).map(|side| self.order(side)).collect();
        let neighbours = Neighbours { lists, orders, context: self.context.clone(), depth };
        let (lines, work) = (lines.to_vec(), neighbours.work(lines));
        let gone = || SearchError::Internal("nobody waits for the answer".to_owned());
        let fuse = move |stop: &(dyn Fn() -> bool + Sync)| neighbours.fuse(&lines, stop).ok_or_else(gone);
        self.engine.computed(work, fuse).await
    }

    /// The `depth` best by the sum of the parts' scores, of every point.
    async fn sum(&mut self, parts: &[Part], more: Option<&Filter>, depth: usize) -> Result<Vec<List>, SearchError> {
        let used: BTreeSet<usize> = parts.iter().flat_map(|part| part.vectors(&self.context)).collect();
        let places: BTreeMap<usize, u32> = used.iter().copied().zip(0..).collect();
        let place = |part: &Part| part.vectors(&self.context).filter_map(|at| places.get(&at).copied()).collect();
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
        request.round = more.map(|filter| Box::new(Round { filter: Some(filter.clone()), keys: None }));
        if sum.is_some() {
            request.ranking.get_or_insert_default().sum = sum;
        }
        let request = Arc::new(request);
        let metric = snapshot.definition.index.algorithm.metric;
        let ranked = request.ranked(metric);
        let results = self.search(&snapshot, &request).await?;
        let left_out = Arc::clone(&self.left_out);
        let work = results.iter().map(Vec::len).sum();
        let list = move |hits: Vec<LeafHit>| {
            let is_all = hits.len() < asked;
            let hits = hits.into_iter().filter(|hit| !left_out.contains(&hit.key));
            let hit = |point: LeafHit| Hit {
                score: ranked.of_distance(metric, point.found.distance),
                point: Arc::new(point),
            };
            let mut hits: Vec<Hit> = hits.map(hit).collect();
            let is_all = is_all && hits.len() <= depth;
            hits.truncate(depth);
            List { hits, is_all }
        };
        self.engine.computed(work, move |_| Ok(results.into_iter().map(list).collect())).await
    }

    /// One plain search, noted.
    pub(super) async fn search(
        &mut self,
        snapshot: &Arc<Snapshot>,
        request: &Arc<SearchRequest>,
    ) -> Result<Vec<Vec<LeafHit>>, SearchError> {
        let began = self.engine.monotonic();
        let ahead = Ahead::default();
        let (answer, failures) = self.engine.search_snapshot(snapshot, request, began, self.deadline, &ahead).await?;
        let tally = &mut self.tally;
        tally.allowed = tally.allowed.saturating_add(answer.allowed);
        tally.considered = tally.considered.saturating_add(answer.considered);
        tally.timings = tally.timings.then(&answer.timings);
        tally.leaves = tally.leaves.and(answer.leaves);
        tally.failures.extend(failures);
        let room = RECEIPTS.saturating_sub(tally.segments.len());
        tally.segments.extend(answer.segments.into_iter().take(room));
        Ok(answer.results)
    }

    /// Whether a round was cut short: another one would be too.
    pub(super) fn is_cut(&self) -> bool {
        self.tally.considered < self.tally.allowed
    }
}

impl Engine {
    /// Runs what looks at so many hits: on the pool, unless they are few.
    pub(super) async fn computed<T: Send + 'static>(
        &self,
        hits: usize,
        job: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> Result<T, SearchError> + Send + 'static,
    ) -> Result<T, SearchError> {
        if hits <= HITS_INLINE {
            return job(&|| false);
        }
        self.inner.files.pool.run(move |abandoned| job(&|| abandoned.is_set())).await
    }
}
