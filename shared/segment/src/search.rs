//! Chooses how to search a segment, and does it.
//!
//! Which way to take is `choose`'s to say. An exact plan never finds less than a graph or cells.
//!
//! # Never fewer than `k` without a reason
//! When the graph returns fewer than `k` rows although more are allowed (islands behind deleted rows), or the cells that
//! were probed hold fewer allowed ones, the query is answered by a scan.

use std::ops::Range;

use rayon::prelude::*;

use crate::cells::{Allowing, Among, Cells, Exact, Probe};
use crate::choose::{CellsWay, GraphWay, Way, Ways};
use crate::cost::{self, GraphCost};
use crate::dense::{DenseQuery, DenseRows, PREFETCH_ROWS};
use crate::error::SegmentError;
use crate::flat;
use crate::format::Meta;
use crate::graph::Graph;
use crate::hit::{Answer, Effort, Plan};
use crate::links::{Ground, Links};
use crate::query::{self, Query};
use crate::read::DenseIndex;
use crate::rows::{Allowed, Bits, Rows};
use crate::segment::{Body, Segment};
use crate::sparse::{self, Inverted, SparseQuery};
use crate::topk::TopK;

/// Fewer queries of cells are answered one by one.
const SHARED: usize = 3;
/// Coordinates that are rescored between two calls of `stop`, and after it has said so: half a millisecond. The cache misses
/// of a row count as so many.
const STOP_COORDINATES: usize = 512 * 1024;
const ROW_COORDINATES: usize = 64;

/// Answers the queries in order.
pub(crate) fn search(
    segment: &Segment,
    queries: &[Query],
    k: usize,
    rows: &Rows<'_>,
    effort: Effort,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Answer>, SegmentError> {
    for query in queries {
        query.check(segment.meta.metric, segment.meta.dimension)?;
    }
    let allowed = Allowed::resolve(rows, segment.meta.rows);
    if k == 0 || allowed.count == 0 {
        let nothing = Answer { hits: Vec::new(), allowed: allowed.count, considered: allowed.count, plan: Plan::Exact };
        return Ok(vec![nothing; queries.len()]);
    }
    let has_filter = rows.matches.is_some();
    match &segment.body {
        Body::Dense { rows, index } => {
            let queries: Vec<&DenseQuery> = queries.iter().filter_map(dense).collect();
            let search = Dense { segment, rows, allowed: &allowed, k, stop };
            let cells = match index {
                DenseIndex::Cells(cells, _) => Some(cells),
                DenseIndex::Graph(_) | DenseIndex::None => None,
            };
            let filtered = match cells {
                Some(cells) if has_filter && effort != Effort::Exact && cost::may_be_cells(&allowed) => {
                    Some(cells.allowing(allowed.bits(segment.meta.rows)))
                }
                _ => None,
            };
            let share = filtered.as_ref().map_or_else(|| search.share(), |filtered| filtered.share);
            match (ways(segment, index).choose(effort, k, share, &allowed), index) {
                (Way::Graph(ef), DenseIndex::Graph(graph)) => search.by_graph(graph, &queries, ef),
                (Way::Graph(ef), DenseIndex::Cells(cells, Some(links))) => {
                    Ok(search.by_links(cells, links, &queries, ef))
                }
                (Way::Cells(probe), DenseIndex::Cells(cells, _)) => {
                    Ok(search.by_cells(cells, &queries, probe, filtered.as_ref()))
                }
                _ => Ok(search.exact(&queries)),
            }
        }
        Body::Sparse { rows, lengths, inverted } => {
            let inverted = inverted.get_or_init(|| Inverted::build(rows, segment.meta.metric, lengths));
            let source = sparse::Source { metric: segment.meta.metric, rows, lengths, inverted, keys: &segment.keys };
            let one = |query: &SparseQuery| {
                let (top, considered) = sparse::search(source, query, &allowed, k, stop);
                Answer { hits: top.into_hits(false), allowed: allowed.count, considered, plan: Plan::Postings }
            };
            let queries: Vec<&SparseQuery> = queries.iter().filter_map(sparse_query).collect();
            Ok(match queries.as_slice() {
                [query] => vec![one(query)],
                many => many.par_iter().map(|query| one(query)).collect(),
            })
        }
    }
}

fn dense(query: &Query) -> Option<&DenseQuery> {
    match &query.body {
        query::Body::Dense(dense) => Some(dense),
        query::Body::Sparse(_) => None,
    }
}

fn sparse_query(query: &Query) -> Option<&SparseQuery> {
    match &query.body {
        query::Body::Sparse(sparse) => Some(sparse),
        query::Body::Dense(_) => None,
    }
}

/// What leads to near rows of a segment.
fn ways<'a>(segment: &'a Segment, index: &DenseIndex) -> Ways<'a> {
    let Meta { rows, dimension, hnsw, .. } = segment.meta;
    let dimension = dimension as usize;
    let (links, cells) = match index {
        DenseIndex::Cells(cells, links) => (links.as_deref().map(|links| (links, cells)), Some(cells.count())),
        DenseIndex::Graph(_) | DenseIndex::None => (None, None),
    };
    let graph = hnsw.map(|params| {
        let cost = match links {
            Some((links, cells)) => GraphCost::beside_cells(links.mean(), cells.count(), rows, dimension),
            None => GraphCost::alone(params.m),
        };
        GraphWay { params, cost, calibration: segment.calibration.as_ref() }
    });
    let cells = cells.map(|count| CellsWay { count, calibration: segment.cell_calibration.as_ref() });
    Ways { rows, dimension, graph, cells }
}

/// A search of dense rows.
struct Dense<'a> {
    segment: &'a Segment,
    rows: &'a DenseRows,
    allowed: &'a Allowed,
    k: usize,
    stop: &'a (dyn Fn() -> bool + Sync),
}

impl<'a> Dense<'a> {
    fn exact(&self, queries: &[&DenseQuery]) -> Vec<Answer> {
        let (metric, dimension) = (self.segment.meta.metric, self.rows.dimension);
        if let Body::Dense { index: DenseIndex::Cells(cells, _), .. } = &self.segment.body
            && cost::codes_are_cheaper(self.allowed, self.segment.meta.rows, dimension, self.k)
        {
            return self.exact_by_codes(cells, queries);
        }
        let (tops, considered) =
            flat::scan(self.rows, metric, queries, self.allowed, self.k, &self.segment.keys, self.stop);
        tops.into_iter().map(|top| self.answer(top, considered, Plan::Exact)).collect()
    }

    fn exact_by_codes(&self, cells: &Cells, queries: &[&DenseQuery]) -> Vec<Answer> {
        let bits = self.bits();
        let exact = Exact { cells, rows: self.rows, keys: &self.segment.keys, bits: bits.as_ref(), k: self.k };
        each(queries, |query| {
            let found = exact.search(query, self.stop);
            self.answer(found.top, found.considered, Plan::Exact)
        })
    }

    fn by_graph(&self, graph: &Graph, queries: &[&DenseQuery], ef: u32) -> Result<Vec<Answer>, SegmentError> {
        let bits = self.bits();
        each(queries, |query| self.one_by_graph(graph, query, ef, bits.as_ref())).into_iter().collect()
    }

    fn one_by_graph(
        &self,
        graph: &Graph,
        query: &DenseQuery,
        ef: u32,
        bits: Option<&Bits>,
    ) -> Result<Answer, SegmentError> {
        let mut top = TopK::new(self.k, &self.segment.keys);
        if (self.stop)() {
            return Ok(self.answer(top, 0, Plan::Graph { ef }));
        }
        let candidates = graph.candidates(query, ef as usize, bits)?;
        if (candidates.len() as u64) < self.allowed.count.min(self.k as u64) {
            return self.exact(&[query]).pop().ok_or_else(|| SegmentError::Input("no query".to_owned()));
        }
        self.rows.offer_each(self.segment.meta.metric, query, &candidates, &mut top);
        Ok(self.answer(top, self.allowed.count, Plan::Graph { ef }))
    }

    fn by_links(&self, cells: &Cells, links: &Links, queries: &[&DenseQuery], ef: u32) -> Vec<Answer> {
        let bits = self.bits();
        each(queries, |query| self.one_by_links(cells, links, query, ef, bits.as_ref()))
    }

    fn one_by_links(&self, cells: &Cells, links: &Links, query: &DenseQuery, ef: u32, bits: Option<&Bits>) -> Answer {
        let ground = Ground { rows: self.rows, metric: self.segment.meta.metric, order: None };
        // Wherever it is near, allowed or not: the walk goes on from there.
        let walked = links.search((cells, cells.among(None)), ground, query, ef as usize, bits, self.stop);
        let few = (walked.near.len() as u64) < self.allowed.count.min(self.k as u64);
        if few
            && walked.stopped_after.is_none()
            && let Some(answer) = self.exact(&[query]).pop()
        {
            return answer;
        }
        let mut top = TopK::new(self.k, &self.segment.keys);
        for (score, row) in walked.near {
            top.offer(f64::from(score), row);
        }
        self.answer(top, walked.stopped_after.unwrap_or(self.allowed.count), Plan::Graph { ef })
    }

    fn bits(&self) -> Option<Bits> {
        self.allowed.bits_unless_all(self.segment.meta.rows)
    }

    /// The share of all rows that is allowed.
    fn share(&self) -> f64 {
        self.allowed.count as f64 / f64::from(self.segment.meta.rows.max(1))
    }

    /// `filtered`: where the allowed rows are, if that was worth finding out.
    fn by_cells(
        &self,
        cells: &Cells,
        queries: &[&DenseQuery],
        probe: Probe,
        filtered: Option<&Allowing>,
    ) -> Vec<Answer> {
        let bits = if filtered.is_none() { self.bits() } else { None };
        let among = filtered.map_or_else(|| cells.among(bits.as_ref()), Allowing::among);
        match queries {
            [query] => vec![self.one_by_cells(cells, query, probe, among)],
            many => {
                let size = many.len().div_ceil(rayon::current_num_threads()).min(cells.together(probe));
                let parts = many.par_chunks(size.max(1));
                let answers: Vec<Vec<Answer>> =
                    parts.map(|queries| self.some_by_cells(cells, queries, probe, among)).collect();
                answers.into_iter().flatten().collect()
            }
        }
    }

    fn one_by_cells(&self, cells: &Cells, query: &DenseQuery, probe: Probe, among: Among<'_>) -> Answer {
        cells.propose(query, probe, among, self.stop, |rows, stopped_after| {
            let mut pace = Pace::new(self.rows.dimension, stopped_after.is_some());
            self.rescored(query, rows, stopped_after, probe, &mut pace, 1)
        })
    }

    /// Few enough to share what they read.
    fn some_by_cells(&self, cells: &Cells, queries: &[&DenseQuery], probe: Probe, among: Among<'_>) -> Vec<Answer> {
        if queries.len() < SHARED {
            return queries.iter().map(|query| self.one_by_cells(cells, query, probe, among)).collect();
        }
        cells.propose_many(queries, probe, among, self.stop, |proposed| {
            let is_stopped = (0..queries.len()).any(|at| proposed.stopped_after(at).is_some());
            let mut pace = Pace::new(self.rows.dimension, is_stopped);
            let one = |(at, query): (usize, &&DenseQuery)| {
                // The next query's first rows come while this one's are scored.
                if at + 1 < queries.len() {
                    let next = proposed.rows(at + 1).iter().take(PREFETCH_ROWS);
                    next.for_each(|&row| self.rows.prefetch(row));
                }
                let left = queries.len() - at;
                self.rescored(query, proposed.rows(at), proposed.stopped_after(at), probe, &mut pace, left)
            };
            queries.iter().enumerate().map(one).collect()
        })
    }

    /// The answer from the rows that cells propose, best first. `left`: queries to be rescored at this pace, this one included.
    fn rescored(
        &self,
        query: &DenseQuery,
        rows: &[u32],
        stopped_after: Option<u64>,
        probe: Probe,
        pace: &mut Pace,
        left: usize,
    ) -> Answer {
        let few = (rows.len() as u64) < self.allowed.count.min(self.k as u64);
        if few
            && !pace.is_stopped
            && let Some(answer) = self.exact(&[query]).pop()
        {
            return answer;
        }
        let mut top = TopK::new(self.k, &self.segment.keys);
        let metric = self.segment.meta.metric;
        let done = pace.go(rows.len(), left, self.stop, |some| {
            self.rows.offer_each(metric, query, &rows[some], &mut top);
        });
        let considered = match stopped_after {
            Some(scanned) if done == rows.len() => scanned,
            None if done == rows.len() && !few => self.allowed.count,
            // What was left out may have been nearer than what is in the answer.
            _ => done as u64,
        };
        let Probe { nprobe, rescored } = probe;
        self.answer(top, considered, Plan::Cells { nprobe, rescored })
    }

    fn answer(&self, top: TopK<'_>, considered: u64, plan: Plan) -> Answer {
        let hits = top.into_hits(self.segment.meta.metric.higher_is_nearer());
        Answer { hits, allowed: self.allowed.count, considered, plan }
    }
}

/// Answers queries on as many threads as there are, one on this one.
fn each<T: Send>(queries: &[&DenseQuery], one: impl Fn(&DenseQuery) -> T + Sync) -> Vec<T> {
    match queries {
        [query] => vec![one(query)],
        many => many.par_iter().map(|query| one(query)).collect(),
    }
}

/// How many rows are rescored before `stop` is asked, and how many more once it has said so: those are divided among the
/// queries that are left, so that each has some hits.
struct Pace {
    /// Rows between two calls.
    step: usize,
    /// Rows until the next call; once stopped, all that remain.
    ahead: usize,
    is_stopped: bool,
}

impl Pace {
    /// `is_stopped`: whether `stop` has said so already.
    fn new(dimension: usize, is_stopped: bool) -> Self {
        let step = (STOP_COORDINATES / (dimension + ROW_COORDINATES)).max(1);
        Self { step, ahead: step, is_stopped }
    }

    /// Goes through `rows` of the first of `left` queries, range by range. How many it came through.
    fn go(
        &mut self,
        rows: usize,
        left: usize,
        stop: &dyn Fn() -> bool,
        mut rescore: impl FnMut(Range<usize>),
    ) -> usize {
        let mut done = 0;
        while done < rows {
            if self.ahead == 0 && !self.is_stopped {
                self.is_stopped = stop();
                self.ahead = self.step;
            }
            let share = if self.is_stopped { self.ahead / left } else { self.ahead };
            let next = share.min(rows - done);
            rescore(done..done + next);
            done += next;
            self.ahead -= next;
            if self.is_stopped {
                break;
            }
        }
        done
    }
}
