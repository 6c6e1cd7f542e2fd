//! Searching files where they are: outline, cells and rows of a few ranged reads, nothing whole.
//!
//! The reads of a search need its generation alone. What the timeline's tail replaces is known by key when the rows are
//! there, so a search may read while the tail still arrives. Computing happens on the pool, as always.
//!
//! Owns `cold-answers-are-whole`: a file whose ranges cannot answer, because what was asked for is not promised for it or
//! because fewer rows were found than there are, is fetched; what could not be read by the deadline counts as not considered.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use futures::{StreamExt, TryStreamExt};
use tarn_model::{Corrupt, Vector};
use tarn_segment::{ColdAnswer, ColdBudget, ColdHit, ColdHits, Query, RowPlan, Rows};
use tarn_store::RangeReads;

use super::Engine;
use crate::cold::{ColdFile, ColumnReads};
use crate::definition::Definition;
use crate::error::SearchError;
use crate::execute::{self, NamedFilter};
use crate::expiry::cold_filter;
use crate::generation::{BaseSegment, Generation, segment_error};
use crate::leaf::{LeafAnswer, LeafHit, merge};
use crate::plan::{Origin, Unit};
use crate::receipt::{CacheState, ColdPlan, SegmentPlan, SegmentReceipt};
use crate::request::{Found, SearchRequest, Timings};
use crate::snapshot::Snapshot;

/// Files that are read at once for one search.
const FILES_AT_ONCE: usize = 8;
/// Small files of a search of more than this many are fetched whole: reading ranges of each would cost more requests.
const FILES_MAX: usize = 4;
/// How small such files are on average, in terms of [`crate::ColdSettings::whole_bytes`].
const SMALL_FILES: u64 = 4;

/// A unit, and what was read for it.
pub(super) struct ReadUnit {
    unit: Unit,
    outcome: Outcome,
}

impl ReadUnit {
    /// Shard and segment.
    pub(super) fn place(&self) -> Option<(u32, u32)> {
        place_of(&self.unit)
    }
}

/// Shard and segment of a unit that is a file's.
pub(super) fn place_of(unit: &Unit) -> Option<(u32, u32)> {
    match unit.origin {
        Origin::Base { shard, segment } => Some((shard, segment)),
        Origin::Tail(_) => None,
    }
}

enum Outcome {
    /// The rows that may be among the nearest.
    Rows(Box<ReadRows>),
    /// Ranges cannot answer.
    Whole,
    /// They did not arrive in time.
    Late,
}

struct ReadRows {
    cold: Arc<ColdFile>,
    rows: RowPlan,
    bytes: Vec<Bytes>,
    plan: ColdPlan,
    timings: Timings,
}

/// What all files of a search have in common.
struct Reading {
    definition: Arc<Definition>,
    generation: Arc<Generation>,
    request: Arc<SearchRequest>,
    queries: Arc<Vec<Query>>,
    filter: Option<NamedFilter>,
    budget: ColdBudget,
}

impl Engine {
    /// Whether a search may read ranges of files at all.
    pub(super) fn may_read_ranges(&self, request: &SearchRequest) -> bool {
        let settings = &self.inner.settings.cold;
        let few = (1..=settings.queries_max).contains(&request.queries.len());
        let few = few && request.round.as_ref().is_none_or(|round| round.may_be_cold());
        settings.enabled && few && !request.exact && self.inner.files.store.local_root().is_none()
    }

    /// Whether a file had better stay where it is for now: it can be searched there, and it is neither small nor at hand.
    pub(super) fn stays(&self, base: &BaseSegment) -> bool {
        let (file, files) = (&base.file, &self.inner.files);
        let is_worth_it = file.outline > 0 && file.object.bytes > self.inner.settings.cold.whole_bytes;
        is_worth_it && !file.is_open() && !files.cache.holds(&file.object)
    }

    /// The units of a plan whose files are searched where they are, and the others.
    pub(super) fn divide(
        &self,
        generation: &Generation,
        definition: &Definition,
        request: &SearchRequest,
        units: Vec<Unit>,
    ) -> (Vec<Unit>, Vec<Unit>) {
        let settings = &self.inner.settings.cold;
        let algorithm = &definition.index.algorithm;
        if algorithm.is_exact() || !self.may_read_ranges(request) || !request.ranked(algorithm.metric).by_index {
            return (Vec::new(), units);
        }
        let bytes = |unit: &Unit| base_of(generation, unit).map_or(0, |base| base.file.object.bytes);
        let stays = |unit: &Unit| base_of(generation, unit).is_some_and(|base| self.stays(base));
        let (cold, mut others): (Vec<Unit>, Vec<Unit>) = units.into_iter().partition(stays);
        let total: u64 = cold.iter().map(bytes).sum();
        let small = total <= settings.whole_bytes.saturating_mul(SMALL_FILES * cold.len() as u64);
        if cold.len() > FILES_MAX && small {
            others.extend(cold);
            return (Vec::new(), others);
        }
        (cold, others)
    }

    /// Reads the rows of these units that may be among the nearest, as far as they arrive before the deadline.
    ///
    /// # Errors
    /// [`SearchError::Corrupt`] names a file that is not what was written; [`SearchError::Store`].
    pub(super) async fn read_cold(
        &self,
        definition: &Arc<Definition>,
        generation: &Arc<Generation>,
        request: &Arc<SearchRequest>,
        units: Vec<Unit>,
        deadline: Option<Duration>,
    ) -> Result<Vec<ReadUnit>, SearchError> {
        if units.is_empty() {
            return Ok(Vec::new());
        }
        let metric = definition.index.algorithm.metric;
        let queries = request.queries.iter().map(|vector| Query::new(metric, vector)).collect::<Result<Vec<_>, _>>();
        let filter = cold_filter(definition, request);
        let reading = &Arc::new(Reading {
            definition: Arc::clone(definition),
            generation: Arc::clone(generation),
            request: Arc::clone(request),
            queries: Arc::new(queries.map_err(|error| SearchError::Internal(error.to_string()))?),
            budget: self.inner.settings.cold.budget(filter.is_some()),
            filter,
        });
        let mut read: Vec<Option<Outcome>> = units.iter().map(|_| None).collect();
        let reads = futures::stream::iter(units.clone().into_iter().enumerate());
        let reads = reads.map(|(place, unit)| async move {
            let outcome = self.read_unit(reading, &unit).await;
            if let (Err(SearchError::Corrupt(_)), Some(base)) = (&outcome, base_of(generation, &unit)) {
                // What is in memory of a file that was found damaged is of no use.
                base.file.forget_cold();
            }
            outcome.map(|outcome| (place, outcome))
        });
        let all = async {
            let mut reads = pin!(reads.buffer_unordered(FILES_AT_ONCE));
            while let Some((place, outcome)) = reads.try_next().await? {
                read[place] = Some(outcome);
            }
            Ok::<(), SearchError>(())
        };
        if let Some(done) = self.before(deadline, all).await {
            done?;
        }
        self.inner.files.cold.settle();
        let read = units.into_iter().zip(read);
        Ok(read.map(|(unit, outcome)| ReadUnit { unit, outcome: outcome.unwrap_or(Outcome::Late) }).collect())
    }

    async fn read_unit(&self, reading: &Arc<Reading>, unit: &Unit) -> Result<Outcome, SearchError> {
        let Reading { definition, generation, .. } = &**reading;
        let files = &self.inner.files;
        let missing = || SearchError::Internal(format!("no segment at {:?}", unit.origin));
        let base = base_of(generation, unit).ok_or_else(missing)?;
        let key = base.file.key(definition);
        let name = key.render();
        let began = self.monotonic();
        let (cold, outline_bytes) = base.file.outline(files, definition, base.rows).await?;
        let (matches, columns) = match &reading.filter {
            None => (None, ColumnReads::default()),
            Some(filter) => match cold.matching(files, definition, base, filter, &self.inner.filters).await? {
                Some((matches, columns)) => (Some(matches), columns),
                None => return Ok(Outcome::Whole),
            },
        };
        let outlined = self.monotonic();
        let planned = {
            let (cold, reading, unit) = (Arc::clone(&cold), Arc::clone(reading), unit.clone());
            move || {
                let base = base_of(&reading.generation, &unit);
                let rows = Rows {
                    ranges: &unit.ranges,
                    deleted: base.map(|base| &base.deleted).filter(|deleted| !deleted.is_empty()),
                    superseded: None,
                    matches: matches.as_deref(),
                };
                let (k, effort) =
                    (reading.request.k as usize, execute::effort(&reading.request, &reading.definition.index));
                cold.outline.plan_cells(&reading.queries, k, effort, &rows, &reading.budget, &cold.cells)
            }
        };
        let planned = files.pool.run(move |_| planned().map_err(|error| segment_error(&name, error))).await?;
        let Some(cells) = planned else { return Ok(Outcome::Whole) };
        let mut plan = ColdPlan {
            outline_bytes,
            column_ranges: columns.ranges as u32,
            column_bytes: columns.bytes,
            cells: cells.cells() as u32,
            cell_ranges: cells.ranges().len() as u32,
            cell_bytes: cells.bytes(),
            ..ColdPlan::default()
        };
        let bytes = files.store.read_ranges(&key, cells.ranges(), &RangeReads::as_planned()).await?;
        let rows = {
            let cold = Arc::clone(&cold);
            files.pool.run(move |_| Ok(cells.scan(&bytes, &cold.cells)?)).await?
        };
        let scanned = self.monotonic();
        plan.row_ranges = rows.ranges().len() as u32;
        plan.row_bytes = rows.bytes();
        plan.capped = rows.capped();
        let bytes = files.store.read_ranges(&key, rows.ranges(), &RangeReads::as_planned()).await?;
        let timings = Timings {
            outline: outlined.saturating_sub(began),
            cells: scanned.saturating_sub(outlined),
            rows: self.monotonic().saturating_sub(scanned),
            ..Timings::default()
        };
        Ok(Outcome::Rows(Box::new(ReadRows { cold, rows, bytes, plan, timings })))
    }

    /// Answers from what was read, as the tail leaves it; and gives the units that have to be fetched whole.
    ///
    /// # Errors
    /// As [`Self::read_cold`].
    pub(super) async fn answer_cold(
        &self,
        snapshot: &Arc<Snapshot>,
        request: &Arc<SearchRequest>,
        read: Vec<ReadUnit>,
        deadline: Option<Duration>,
    ) -> Result<(LeafAnswer, Vec<Unit>), SearchError> {
        let queries = request.queries.len();
        let answering = futures::stream::iter(read).map(|ReadUnit { unit, outcome }| async move {
            let answered = match outcome {
                Outcome::Whole => return Ok(Err(unit)),
                Outcome::Late => None,
                Outcome::Rows(rows) => {
                    self.before(deadline, self.answer_unit(snapshot, request, &unit, *rows)).await.transpose()?
                }
            };
            match answered {
                Some(Some(answer)) => Ok(Ok(answer)),
                Some(None) => Ok(Err(unit)),
                None => late(snapshot, request, &unit).map(Ok),
            }
        });
        let answered: Vec<Result<LeafAnswer, Unit>> = answering.buffered(FILES_AT_ONCE).try_collect().await?;
        let (mut answers, mut whole) = (Vec::with_capacity(answered.len()), Vec::new());
        for answered in answered {
            match answered {
                Ok(answer) => answers.push(answer),
                Err(unit) => whole.push(unit),
            }
        }
        let order = request.order(snapshot.definition.index.algorithm.metric);
        Ok((merge(order, request.k as usize, queries, answers), whole))
    }

    /// `None`: the file has to be fetched whole.
    async fn answer_unit(
        &self,
        snapshot: &Arc<Snapshot>,
        request: &Arc<SearchRequest>,
        unit: &Unit,
        read: ReadRows,
    ) -> Result<Option<LeafAnswer>, SearchError> {
        let files = &self.inner.files;
        let ReadRows { cold, rows, bytes, mut plan, mut timings } = read;
        let began = self.monotonic();
        let compared = {
            let snapshot = Arc::clone(snapshot);
            files.pool.run(move |_| masked(&snapshot, |superseded| rows.hits(&bytes, superseded))).await
        };
        let answers = match self.sound(snapshot, unit, compared)? {
            ColdHits::Found(answers) => answers,
            ColdHits::More(records) => {
                plan.row_ranges += records.ranges().len() as u32;
                plan.row_bytes += records.ranges().iter().map(|range| range.end - range.start).sum::<u64>();
                let key = base(snapshot, unit)?.file.key(&snapshot.definition);
                let bytes = files.store.read_ranges(&key, records.ranges(), &RangeReads::as_planned()).await?;
                let snapshot_ = Arc::clone(snapshot);
                let compared =
                    files.pool.run(move |_| masked(&snapshot_, |superseded| records.hits(&bytes, superseded))).await;
                self.sound(snapshot, unit, compared)?
            }
        };
        drop(cold);
        if answers.len() != request.queries.len() {
            let (found, queries) = (answers.len(), request.queries.len());
            return Err(SearchError::Internal(format!("{found} answers to {queries} queries")));
        }
        if answers.iter().any(|answer| answer.short) {
            return Ok(None);
        }
        timings.rows = timings.rows.saturating_add(self.monotonic().saturating_sub(began));
        for answer in &answers {
            if let tarn_segment::Plan::Cells { rescored, .. } = answer.plan {
                plan.rescored += rescored;
            }
        }
        let receipt = || {
            let of = SegmentReceipt::of(snapshot, unit, CacheState::Cold);
            SegmentReceipt { plan: SegmentPlan::Cold(plan), ..of }
        };
        let segments = if request.explain { vec![receipt()] } else { Vec::new() };
        let allowed = answers.iter().map(|answer| answer.allowed).sum();
        let results = answers.into_iter().map(|answer| hits(snapshot, request, answer)).collect::<Result<_, _>>()?;
        Ok(Some(LeafAnswer { results, allowed, considered: allowed, timings, segments, ..LeafAnswer::default() }))
    }

    /// Forgets what is in memory of a file that was found damaged.
    fn sound<T>(&self, snapshot: &Snapshot, unit: &Unit, result: Result<T, SearchError>) -> Result<T, SearchError> {
        if let (Err(SearchError::Corrupt(_)), Some(base)) = (&result, base_of(&snapshot.generation, unit)) {
            base.file.forget_cold();
        }
        result
    }

    /// What the future gives, unless the deadline passes first.
    pub(super) async fn before<T>(&self, deadline: Option<Duration>, future: impl Future<Output = T>) -> Option<T> {
        let Some(deadline) = deadline else { return Some(future.await) };
        let left = deadline.saturating_sub(self.monotonic());
        match select(pin!(future), self.inner.files.store.clock().sleep(left)).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }
}

fn base_of<'g>(generation: &'g Generation, unit: &Unit) -> Option<&'g BaseSegment> {
    let (shard, segment) = place_of(unit)?;
    generation.segment(shard, segment)
}

fn base<'s>(snapshot: &'s Snapshot, unit: &Unit) -> Result<&'s BaseSegment, SearchError> {
    let missing = || SearchError::Internal(format!("no segment at {:?}", unit.origin));
    base_of(&snapshot.generation, unit).ok_or_else(missing)
}

/// Calls `compare` with a question that it asks of point keys: whether the tail has replaced or removed the point.
fn masked<T>(
    snapshot: &Snapshot,
    compare: impl FnOnce(&dyn Fn(&[u8]) -> bool) -> Result<T, Corrupt>,
) -> Result<T, SearchError> {
    let bad_key = Cell::new(false);
    let superseded = |key: &[u8]| match snapshot.definition.place(key) {
        Ok(Some(place)) => snapshot.tail.supersedes(&place, key),
        Ok(None) => false,
        Err(_) => {
            bad_key.set(true);
            false
        }
    };
    let compared = compare(&superseded)?;
    match bad_key.get() {
        // The bytes were verified: whoever wrote them wrote no key.
        true => Err(SearchError::Internal("a segment has bytes for a point key that are none".to_owned())),
        false => Ok(compared),
    }
}

/// A unit that was not read in time: all its rows are in question, none was considered.
fn late(snapshot: &Snapshot, request: &SearchRequest, unit: &Unit) -> Result<LeafAnswer, SearchError> {
    let queries = request.queries.len();
    let segments = match request.explain {
        true => vec![SegmentReceipt::of(snapshot, unit, CacheState::Missed)],
        false => Vec::new(),
    };
    Ok(LeafAnswer {
        results: vec![Vec::new(); queries],
        allowed: base(snapshot, unit)?.live_in(&unit.ranges) * queries as u64,
        segments,
        ..LeafAnswer::default()
    })
}

/// What was found, as answers have it.
fn hits(snapshot: &Snapshot, request: &SearchRequest, answer: ColdAnswer) -> Result<Vec<LeafHit>, SearchError> {
    let columns: Vec<_> = snapshot.definition.columns(request.attributes.as_deref()).collect();
    let hit = |hit: ColdHit| {
        let ColdHit { distance, key, values, vector, .. } = hit;
        let attributes = columns.iter().map(|(name, position)| {
            let value = values.get(*position).filter(|value| {
                snapshot.definition.source.attribute_types.get(name).is_some_and(|t| value.attribute_type() == *t)
            });
            let missing = || SearchError::Internal(format!("a record without a value of '{name}'"));
            Ok((name.clone(), value.cloned().ok_or_else(missing)?))
        });
        let attributes = attributes.collect::<Result<Vec<_>, SearchError>>()?;
        let vector = request.retrieve_vectors.then_some(Vector::Dense(vector));
        Ok(LeafHit { key, found: Found { attributes, vector, distance } })
    };
    answer.hits.into_iter().map(hit).collect()
}
