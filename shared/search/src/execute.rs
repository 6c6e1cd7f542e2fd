//! Computing an answer: masks, filters, distances, the merge, and what was found. Runs on the pool; does no I/O but page
//! faults in mapped files.
//!
//! Owns `coverage-claims-nothing-skipped`: what was not looked at when it was time to stop is not counted as considered.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicUsize};

use rayon::prelude::{IndexedParallelIterator, IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};
use roaring::RoaringBitmap;
use tarn_model::{AttributeValue, Filter, Index};
use tarn_segment::{Answer, Column, Effort, Plan, Query, Rows, Scan, Segment, SegmentKind};

use crate::error::SearchError;
use crate::filter::{FilterCache, matching_rows};
use crate::generation::{BaseSegment, segment_error};
use crate::leaf::LeafHit;
use crate::plan::{Origin, Unit};
use crate::ranking::Order;
use crate::request::{Found, SearchRequest};
use crate::snapshot::Snapshot;
use crate::tail::Run;

/// Rows that a filter is evaluated over between two calls of `stop`. A multiple of a bitmap container's.
const FILTER_ROWS: u32 = 1 << 16;
/// Cells and rows of a first look, beside `k`.
const LOOK_CELLS: u32 = 64;
/// A single scan of at least this many rows is worth sharing among threads.
const PARALLEL_ROWS: u64 = 32 * 1024;
/// Most queries that share one pass over a segment.
const QUERIES_PER_PASS: usize = 64;
/// Ranges that cover less than this share of a segment are filtered by themselves: the bitmap of the whole segment would
/// cost more than it saves.
const WHOLE_SEGMENT_SHARE: u64 = 4;

/// Rows of an open segment, with everything that decides which of them count.
pub(crate) struct Prepared {
    snapshot: Arc<Snapshot>,
    holder: Holder,
    ranges: Vec<Range<u32>>,
    superseded: Option<Arc<RoaringBitmap>>,
    matches: Option<Arc<RoaringBitmap>>,
    /// It was time to stop before it was known which rows match: none of them is looked at.
    is_skipped: bool,
}

enum Holder {
    /// A file, and its place in the snapshot, whose catalog says which rows are dead.
    File { segment: Arc<Segment>, shard: u32, position: u32 },
    /// A part of the tail.
    Run { run: Arc<Run>, dead: Arc<RoaringBitmap> },
}

/// A filter with its text, under which bitmaps are cached.
#[derive(Clone)]
pub(crate) struct NamedFilter {
    /// What it asks.
    pub(crate) filter: Arc<Filter>,
    /// What it is called in the cache.
    pub(crate) text: Arc<str>,
    /// Whether its bitmaps are of use to later searches.
    pub(crate) lasts: bool,
}

impl NamedFilter {
    /// The text is the debug form, which shows every value in full.
    pub(crate) fn new(filter: Filter) -> Self {
        let text = format!("{filter:?}").into();
        Self { filter: Arc::new(filter), text, lasts: true }
    }

    /// A filter that is about this moment, and no later search will have.
    pub(crate) fn of_now(filter: Filter) -> Self {
        Self { lasts: false, ..Self::new(filter) }
    }
}

/// Which rows a search wants.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Those that satisfy all of these.
    pub(crate) filters: &'a [NamedFilter],
    /// Those of these points.
    pub(crate) keys: Option<&'a [Vec<u8>]>,
}

/// A found row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    /// Position among the units.
    pub(crate) unit: usize,
    /// The row.
    pub(crate) row: u32,
    /// In the order of the search.
    pub(crate) distance: f64,
}

/// What the units answered together.
pub(crate) struct Merged {
    /// For each query, at most k, in order.
    pub(crate) candidates: Vec<Vec<Candidate>>,
    /// Rows that any query might have found, summed over queries.
    pub(crate) allowed: u64,
    /// Of these, how many the answers account for.
    pub(crate) considered: u64,
    /// How each unit was searched: for the first query, as others may have fallen back to comparing every row.
    pub(crate) plans: Vec<Option<Plan>>,
}

/// How hard a search looks. An exact index is one whatever is asked for.
pub(crate) fn effort(request: &SearchRequest, index: &Index) -> Effort {
    if request.exact || index.algorithm.is_exact() {
        return Effort::Exact;
    }
    let rescored = |nprobe: u32| Effort::rescored(nprobe.max(request.k));
    match (request.ef_search, request.nprobe) {
        (None, None) => Effort::Recall(request.target_recall.unwrap_or(SearchRequest::DEFAULT_RECALL)),
        (Some(ef), None) => Effort::Ef(ef),
        (None, Some(nprobe)) => Effort::Cells { nprobe, rescored: rescored(nprobe) },
        (Some(ef), Some(nprobe)) => Effort::Each { ef, nprobe, rescored: rescored(nprobe) },
    }
}

/// Makes units ready: which rows are dead, replaced, filtered out.
///
/// # Errors
/// A segment's own failure.
pub(crate) fn prepare(
    snapshot: &Arc<Snapshot>,
    units: Vec<(Unit, Option<Arc<Segment>>)>,
    filter: Option<&NamedFilter>,
    cache: &FilterCache,
) -> Result<Vec<Prepared>, SearchError> {
    let wanted = Wanted { filters: filter.map_or(&[], std::slice::from_ref), keys: None };
    prepare_until(snapshot, units, wanted, cache, &|| false)
}

/// As [`prepare`], but for units whose filter has not been evaluated when `stop` says so: [`search`] leaves them out.
///
/// # Errors
/// See [`prepare`].
pub(crate) fn prepare_until(
    snapshot: &Arc<Snapshot>,
    units: Vec<(Unit, Option<Arc<Segment>>)>,
    wanted: Wanted<'_>,
    cache: &FilterCache,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Prepared>, SearchError> {
    let one = |(unit, segment): &(Unit, Option<Arc<Segment>>)| {
        let mut prepared = match (unit.origin, segment) {
            (Origin::Base { shard, segment: position }, Some(segment)) => Prepared {
                snapshot: Arc::clone(snapshot),
                superseded: Some(snapshot.superseded(shard, position, segment)).filter(|rows| !rows.is_empty()),
                holder: Holder::File { segment: Arc::clone(segment), shard, position },
                ranges: unit.ranges.clone(),
                matches: None,
                is_skipped: false,
            },
            (Origin::Tail(position), None) => {
                let part = snapshot.tail.parts().get(position);
                let part = part.ok_or_else(|| SearchError::Internal(format!("the tail has no part {position}")))?;
                Prepared {
                    snapshot: Arc::clone(snapshot),
                    holder: Holder::Run { run: Arc::clone(&part.run), dead: snapshot.dead(part) },
                    ranges: unit.ranges.clone(),
                    superseded: None,
                    matches: None,
                    is_skipped: false,
                }
            }
            _ => return Err(SearchError::Internal("a segment file was planned and not opened".to_owned())),
        };
        if let Some(keys) = wanted.keys {
            let rows = prepared.segment()?.rows_of_keys(keys.iter().map(Vec::as_slice));
            prepared.matches = Some(Arc::new(rows));
        }
        for filter in wanted.filters {
            let Some(rows) = prepared.matching(filter, cache, stop)? else {
                prepared.is_skipped = true;
                break;
            };
            prepared.matches = Some(match prepared.matches.take() {
                Some(others) => Arc::new(&*others & &*rows),
                None => rows,
            });
        }
        Ok(prepared)
    };
    match units.len() == 1 || rayon::current_num_threads() == 1 {
        true => units.iter().map(one).collect(),
        false => units.par_iter().map(one).collect(),
    }
}

fn base(snapshot: &Snapshot, shard: u32, segment: u32) -> Result<&BaseSegment, SearchError> {
    snapshot
        .base(shard, segment)
        .ok_or_else(|| SearchError::Internal(format!("the generation has no segment {segment} in shard {shard}")))
}

impl Prepared {
    /// The segment. A run without rows is never planned.
    pub(crate) fn segment(&self) -> Result<&Segment, SearchError> {
        match &self.holder {
            Holder::File { segment, .. } => Ok(segment),
            Holder::Run { run, .. } => {
                run.segment().ok_or_else(|| SearchError::Internal("a run without rows was planned".to_owned()))
            }
        }
    }

    /// Calls `search` with the rows that count, of `ranges`.
    fn with_rows<T>(&self, ranges: &[Range<u32>], search: impl FnOnce(&Rows<'_>) -> T) -> T {
        let deleted = match &self.holder {
            Holder::File { shard, position, .. } => self.snapshot.base(*shard, *position).map(|base| &base.deleted),
            Holder::Run { dead, .. } => Some(&**dead),
        };
        search(&Rows {
            ranges,
            deleted: deleted.filter(|rows| !rows.is_empty()),
            superseded: self.superseded.as_deref(),
            matches: self.matches.as_deref(),
        })
    }

    /// The rows that count, ascending.
    pub(crate) fn live_rows(&self) -> RoaringBitmap {
        self.live_rows_of(&self.ranges)
    }

    fn live_rows_of(&self, ranges: &[Range<u32>]) -> RoaringBitmap {
        self.with_rows(ranges, |rows| {
            let mut live = RoaringBitmap::new();
            for range in rows.ranges {
                live.insert_range(range.clone());
            }
            for dead in [rows.deleted, rows.superseded].into_iter().flatten() {
                live -= dead;
            }
            if let Some(matches) = rows.matches {
                live &= matches;
            }
            live
        })
    }

    /// `None`: it was time to stop.
    fn matching(
        &self,
        filter: &NamedFilter,
        cache: &FilterCache,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<Arc<RoaringBitmap>>, SearchError> {
        let segment = self.segment()?;
        let source = &self.snapshot.definition.source;
        let asked: u64 = self.ranges.iter().map(|range| u64::from(range.end - range.start)).sum();
        let evaluate = |ranges: &[Range<u32>]| {
            let mut matching = RoaringBitmap::new();
            for range in ranges {
                for start in range.clone().step_by(FILTER_ROWS as usize) {
                    if stop() {
                        return None;
                    }
                    let some = start..range.end.min(start.saturating_add(FILTER_ROWS));
                    matching |=
                        matching_rows(&filter.filter, segment.attributes(), source, std::slice::from_ref(&some));
                }
            }
            Some(Arc::new(matching))
        };
        if !filter.lasts || asked * WHOLE_SEGMENT_SHARE < u64::from(segment.rows()) {
            return Ok(evaluate(&self.ranges));
        }
        let number = match &self.holder {
            Holder::File { shard, position, .. } => base(&self.snapshot, *shard, *position)?.file.number,
            Holder::Run { run, .. } => run.id,
        };
        if let Some(known) = cache.find(number, &filter.text) {
            return Ok(Some(known));
        }
        let everything = 0..segment.rows();
        let Some(matching) = evaluate(std::slice::from_ref(&everything)) else { return Ok(None) };
        cache.keep(number, &filter.text, Arc::clone(&matching));
        Ok(Some(matching))
    }

    fn search(
        &self,
        asked: Asked<'_>,
        queries: Range<usize>,
        k: usize,
        ranges: &[Range<u32>],
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Answer>, SearchError> {
        let segment = self.segment()?;
        if self.is_skipped {
            let skipped =
                Answer { hits: Vec::new(), allowed: self.live_rows_of(ranges).len(), considered: 0, plan: Plan::Exact };
            return Ok(vec![skipped; queries.len()]);
        }
        let answers = self.with_rows(ranges, |rows| match asked {
            // One pass gives the answers to all queries.
            Asked::Scan(scan) => segment.scan(scan, k, rows, stop),
            Asked::Index(all, effort) => match &all[queries] {
                [query] => segment.search(query, k, rows, effort, stop).map(|answer| vec![answer]),
                queries => segment.search_many(queries, k, rows, effort, stop),
            },
        });
        answers.map_err(|error| segment_error(&self.name(), error))
    }

    /// The rows that are probably nearest, in little time and without any claim: only what it found counts as considered.
    fn look(
        &self,
        all: &[Query],
        k: usize,
        pass: &Pass,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Answer>, SearchError> {
        let rescored = u32::try_from(k).unwrap_or(u32::MAX).saturating_add(LOOK_CELLS);
        let effort = Effort::Cells { nprobe: LOOK_CELLS, rescored };
        let mut answers = self.search(Asked::Index(all, effort), pass.queries.clone(), k, &pass.ranges, stop)?;
        answers.iter_mut().for_each(|answer| answer.considered = answer.considered.min(answer.hits.len() as u64));
        Ok(answers)
    }

    /// What an error calls the segment.
    fn name(&self) -> String {
        let definition = &self.snapshot.definition;
        let base = match self.holder {
            Holder::File { shard, position, .. } => self.snapshot.base(shard, position),
            Holder::Run { .. } => None,
        };
        base.map_or_else(|| format!("the tail of {}", definition.index.id), |base| base.file.name(definition))
    }
}

/// How the units are asked.
#[derive(Clone, Copy)]
pub(crate) enum Asked<'a> {
    /// For the nearest, with some effort.
    Index(&'a [Query], Effort),
    /// For the best by a scan.
    Scan(&'a Scan),
}

impl Asked<'_> {
    /// How many answers there are.
    pub(crate) fn results(&self) -> usize {
        match self {
            Self::Index(queries, _) => queries.len(),
            Self::Scan(scan) => scan.queries(),
        }
    }

    /// Whether every allowed row of a segment of this kind is compared.
    fn compares_all(&self, kind: SegmentKind) -> bool {
        match (self, kind) {
            (Self::Scan(_), _) | (_, SegmentKind::Flat) => true,
            (Self::Index(_, effort), SegmentKind::Graph | SegmentKind::Cells) => *effort == Effort::Exact,
            (Self::Index(..), SegmentKind::Sparse) => false,
        }
    }
}

/// One pass over rows of a unit, for some of the queries.
struct Pass {
    unit: usize,
    queries: Range<usize>,
    ranges: Vec<Range<u32>>,
    /// See [`Prepared::look`].
    is_look: bool,
}

/// Searches all units for all queries and keeps the k best of each. By the threads of the current rayon pool.
/// `is_hurried`: `stop` may come, so that it matters what is done before.
///
/// # Errors
/// A segment's own failure: an answer is whole or it is an error.
pub(crate) fn search(
    units: &[Prepared],
    asked: Asked<'_>,
    order: Order,
    k: usize,
    is_hurried: bool,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Merged, SearchError> {
    let threads = rayon::current_num_threads();
    let mut passes = passes(units, asked, threads)?;
    if is_hurried {
        look_first(units, asked, &mut passes)?;
        in_visiting_order(units, asked, &mut passes)?;
    }
    let run = |pass: &Pass| match asked {
        Asked::Index(all, _) if pass.is_look => units[pass.unit].look(all, k, pass, stop),
        _ => units[pass.unit].search(asked, pass.queries.clone(), k, &pass.ranges, stop),
    };
    let answers: Vec<Vec<Answer>> = match (passes.len() == 1 || threads == 1, is_hurried) {
        (true, _) => passes.iter().map(run).collect::<Result<_, _>>()?,
        (false, false) => passes.par_iter().map(run).collect::<Result<_, _>>()?,
        (false, true) => one_after_the_other(&passes, threads, run)?,
    };
    let several = passes.len() > 1;
    let mut merged = Merged {
        candidates: vec![Vec::new(); asked.results()],
        allowed: 0,
        considered: 0,
        plans: vec![None; units.len()],
    };
    for ((unit, query), answer) in without_looks(&passes, answers) {
        merged.plans[unit].get_or_insert(answer.plan);
        merged.allowed += answer.allowed;
        merged.considered += answer.considered;
        let hits = answer.hits.into_iter();
        merged.candidates[query].extend(hits.map(|hit| Candidate { unit, row: hit.row, distance: hit.distance }));
    }
    if several {
        merged.candidates.iter_mut().try_for_each(|candidates| keep_nearest(units, candidates, order, k))?;
    }
    Ok(merged)
}

/// Calls `run` with the items, begun in their order, whoever of the threads is free.
fn one_after_the_other<I: Sync, T: Send>(
    items: &[I],
    threads: usize,
    run: impl Fn(&I) -> Result<T, SearchError> + Sync,
) -> Result<Vec<T>, SearchError> {
    let next = AtomicUsize::new(0);
    let work = |_| {
        let mut done = Vec::new();
        while let at = next.fetch_add(1, atomic::Ordering::Relaxed)
            && let Some(item) = items.get(at)
        {
            done.push((at, run(item)?));
        }
        Ok(done)
    };
    let parts: Vec<Vec<(usize, T)>> =
        (0..threads).into_par_iter().with_max_len(1).map(work).collect::<Result<_, SearchError>>()?;
    let mut done: Vec<(usize, T)> = parts.into_iter().flatten().collect();
    done.sort_unstable_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, item)| item).collect())
}

/// Before several segments with cells are searched exactly, one after the other, adds a first look at the nearest cells of each: in
/// those that are never reached may be the nearest rows of all.
fn look_first(units: &[Prepared], asked: Asked<'_>, passes: &mut Vec<Pass>) -> Result<(), SearchError> {
    let Asked::Index(queries, Effort::Exact) = asked else { return Ok(()) };
    let mut looks = Vec::new();
    for (prepared, unit) in units.iter().zip(0usize..) {
        // Among few rows that match, cells have too little to offer.
        if prepared.segment()?.kind() == SegmentKind::Cells && prepared.matches.is_none() {
            let (queries, ranges) = (0..queries.len(), prepared.ranges.clone());
            looks.push(Pass { unit, queries, ranges, is_look: true });
        }
    }
    if units.len() > 1 {
        passes.append(&mut looks);
    }
    Ok(())
}

/// The answers of units to queries. Where a look was taken, what the search itself has, or the look, if there was no time for more.
fn without_looks(passes: &[Pass], answers: Vec<Vec<Answer>>) -> Vec<((usize, usize), Answer)> {
    let of_pass = |(pass, answers): (&Pass, Vec<Answer>)| -> Vec<(bool, (usize, usize), Answer)> {
        let places = pass.queries.clone().map(|query| (pass.unit, query));
        places.zip(answers).map(|(place, answer)| (pass.is_look, place, answer)).collect()
    };
    let answers: Vec<_> = passes.iter().zip(answers).flat_map(of_pass).collect();
    let mut looked = BTreeSet::new();
    let mut begun = BTreeSet::new();
    for (is_look, place, answer) in &answers {
        match is_look {
            true => looked.insert(*place),
            false => answer.considered > 0 && begun.insert(*place),
        };
    }
    let kept =
        answers.into_iter().filter(|(is_look, place, _)| !looked.contains(place) || *is_look != begun.contains(place));
    kept.map(|(_, place, answer)| (place, answer)).collect()
}

/// Sorts passes so that what is done when the time is up is worth most: the tail first, which is small and new; then what accounts for
/// many rows in little time, which cells, graphs and postings do; then a first look at the rest; then what compares every row,
/// the smallest first.
fn in_visiting_order(units: &[Prepared], asked: Asked<'_>, passes: &mut [Pass]) -> Result<(), SearchError> {
    let places = units.iter().map(|unit| {
        let compares_all = asked.compares_all(unit.segment()?.kind());
        let rows: u64 = unit.ranges.iter().map(|range| u64::from(range.end - range.start)).sum();
        let class = match (&unit.holder, compares_all) {
            (Holder::Run { .. }, _) => 0,
            (Holder::File { .. }, false) => 1,
            (Holder::File { .. }, true) => 3,
        };
        Ok((class, rows))
    });
    let places: Vec<(u8, u64)> = places.collect::<Result<_, SearchError>>()?;
    // Stable: the passes of one unit stay in their order.
    passes.sort_by_key(|pass| {
        let (class, rows) = places[pass.unit];
        (if pass.is_look { 2 } else { class }, rows)
    });
    Ok(())
}

/// Cuts the work so that every thread has some: queries first, then the rows of large scans.
fn passes(units: &[Prepared], asked: Asked<'_>, threads: usize) -> Result<Vec<Pass>, SearchError> {
    let queries = asked.results();
    let per_pass = match asked {
        Asked::Index(..) => queries.div_ceil(threads.max(1)).clamp(1, QUERIES_PER_PASS),
        Asked::Scan(_) => queries.max(1),
    };
    let per_unit = queries.div_ceil(per_pass);
    let mut passes = Vec::with_capacity(units.len() * per_unit);
    for (prepared, unit) in units.iter().zip(0usize..) {
        let rows: u64 = prepared.ranges.iter().map(|range| u64::from(range.end - range.start)).sum();
        let scans = asked.compares_all(prepared.segment()?.kind());
        let pieces = if scans && units.len() * per_unit < threads && rows >= PARALLEL_ROWS { threads } else { 1 };
        for ranges in cut(&prepared.ranges, rows, pieces) {
            passes.extend((0..queries).step_by(per_pass).map(|first| Pass {
                unit,
                queries: first..(first + per_pass).min(queries),
                ranges: ranges.clone(),
                is_look: false,
            }));
        }
    }
    Ok(passes)
}

/// The same rows as `ranges`, in up to `pieces` lists of about equal size.
fn cut(ranges: &[Range<u32>], rows: u64, pieces: usize) -> Vec<Vec<Range<u32>>> {
    if pieces <= 1 {
        return vec![ranges.to_vec()];
    }
    let size = u32::try_from(rows.div_ceil(pieces as u64)).unwrap_or(u32::MAX).max(1);
    let mut lists = vec![Vec::new()];
    let mut room = size;
    for range in ranges {
        let mut start = range.start;
        while start < range.end {
            if room == 0 {
                lists.push(Vec::new());
                room = size;
            }
            let end = range.end.min(start.saturating_add(room));
            if let Some(list) = lists.last_mut() {
                list.push(start..end);
            }
            room -= end - start;
            start = end;
        }
    }
    lists
}

/// Sorts, by key where distances are equal, and drops all but the first k.
fn keep_nearest(
    units: &[Prepared],
    candidates: &mut Vec<Candidate>,
    order: Order,
    k: usize,
) -> Result<(), SearchError> {
    let segments = units.iter().map(Prepared::segment).collect::<Result<Vec<_>, _>>()?;
    let nearer = |a: &Candidate, b: &Candidate| -> Ordering {
        fn key<'s>(segments: &[&'s Segment], candidate: &Candidate) -> &'s [u8] {
            segments[candidate.unit].key(candidate.row)
        }
        order.compare((a.distance, key(&segments, a)), (b.distance, key(&segments, b)))
    };
    keep_first(candidates, k, nearer);
    Ok(())
}

/// Sorts and drops all but the first k.
pub(crate) fn keep_first<T>(items: &mut Vec<T>, k: usize, order: impl Fn(&T, &T) -> Ordering) {
    if items.len() > k {
        items.select_nth_unstable_by(k, &order);
        items.truncate(k);
    }
    items.sort_unstable_by(&order);
}

/// Reads what was found. `columns`: the attributes wanted, in wire order, each with its position in a segment.
///
/// # Errors
/// [`SearchError::Internal`] when a column is not what was checked when the segment was opened.
pub(crate) fn fetch(
    snapshot: &Snapshot,
    units: &[Prepared],
    candidates: &[Candidate],
    columns: &[(String, usize)],
    vectors: bool,
) -> Result<Vec<LeafHit>, SearchError> {
    let hits = candidates.iter().map(|candidate| {
        let segment = units[candidate.unit].segment()?;
        let found = Found {
            attributes: row_attributes(snapshot, segment, candidate.row, columns)?,
            vector: vectors.then(|| segment.vector(candidate.row)),
            distance: candidate.distance,
        };
        Ok(LeafHit { key: segment.key(candidate.row).to_vec(), found })
    });
    hits.collect()
}

/// The attributes of one row.
///
/// # Errors
/// See [`fetch`].
pub(crate) fn row_attributes(
    snapshot: &Snapshot,
    segment: &Segment,
    row: u32,
    columns: &[(String, usize)],
) -> Result<Vec<(String, AttributeValue)>, SearchError> {
    let source = &snapshot.definition.source;
    let attributes = columns.iter().map(|(name, position)| {
        let array = segment.attributes().columns().get(*position);
        let column = array.zip(source.attribute_types.get(name)).and_then(|(array, t)| Column::new(array, *t));
        let column = column.ok_or_else(|| SearchError::Internal(format!("column '{name}' has changed its type")))?;
        Ok((name.clone(), column.value(row as usize)))
    });
    attributes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_counts_for_the_queries_that_nothing_else_was_done_for() {
        let pass = |is_look| Pass { unit: 3, queries: 5..7, ranges: Vec::new(), is_look };
        let answer = |considered| Answer { hits: Vec::new(), allowed: 9, considered, plan: Plan::Exact };
        // There was time for the first of two queries.
        let answers = vec![vec![answer(2), answer(4)], vec![answer(9), answer(0)]];
        let kept = without_looks(&[pass(true), pass(false)], answers);
        let kept: Vec<_> = kept.into_iter().map(|(place, answer)| (place, answer.considered)).collect();
        assert_eq!(kept, [((3, 6), 4), ((3, 5), 9)]);
    }
}
