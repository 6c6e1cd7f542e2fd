//! Which rows to read, and what they answer.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tarn_model::{AttributeValue, Corrupt, limits};

use super::choose::holds;
use super::outline::Outline;
use super::runs::covering_runs;
use crate::dense::{DenseQuery, DenseRows};
use crate::format::BlockKind;
use crate::hit::Plan;
use crate::record;
use crate::slots::{Place, Stored};

/// The rows to read. Made by [`CellPlan::scan`][super::CellPlan::scan].
#[derive(Debug)]
pub struct RowPlan {
    outline: Arc<Outline>,
    k: usize,
    allowed: u64,
    ranges_max: usize,
    queries: Vec<Found>,
    runs: Vec<Range<u32>>,
    ranges: Vec<Range<u64>>,
    capped: bool,
}

/// A query with the rows that may be near to it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) query: DenseQuery,
    /// Best first, by approximate score.
    pub(super) candidates: Vec<(f32, u32)>,
    /// How many were scanned.
    pub(super) cells: u32,
}

/// A found row with all that is stored of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ColdHit {
    /// The row in the segment.
    pub row: u32,
    /// In the metric's own direction; the bits that [`Segment::search`][crate::Segment::search] gives.
    pub distance: f64,
    /// The point key.
    pub key: Vec<u8>,
    /// The attributes, in the order of [`Outline::schema`][super::Outline::schema], which has their names and types.
    pub values: Vec<AttributeValue>,
    /// As it was given.
    pub vector: Vec<f32>,
}

/// What one query found.
#[derive(Clone, Debug, PartialEq)]
pub struct ColdAnswer {
    /// At most `k`, nearest first; equal distances by key.
    pub hits: Vec<ColdHit>,
    /// Rows that the search was allowed to return, as far as the plan knew: superseded points count.
    pub allowed: u64,
    /// How many cells were scanned, and rows rescored.
    pub plan: Plan,
    /// Fewer hits than `k` although the cells that were not read may hold more.
    pub short: bool,
}

/// The outcome of [`RowPlan::hits`].
#[derive(Debug)]
pub enum ColdHits {
    /// An answer for each query, in their order.
    Found(Vec<ColdAnswer>),
    /// Some record did not fit its slot: one more read.
    More(RecordPlan),
}

/// Records to read. Made by [`RowPlan::hits`].
#[derive(Debug)]
pub struct RecordPlan {
    rescored: Box<Rescored>,
    places: Vec<Place>,
    runs: Vec<Range<usize>>,
    ranges: Vec<Range<u64>>,
}

impl RowPlan {
    pub(super) fn new(
        outline: Arc<Outline>,
        k: usize,
        allowed: u64,
        ranges_max: usize,
        queries: Vec<Found>,
        runs: Vec<Range<u32>>,
        capped: bool,
    ) -> Self {
        let (start, size) = (outline.rows.start, outline.slots.bytes as u64);
        let range = |run: &Range<u32>| start + u64::from(run.start) * size..start + u64::from(run.end) * size;
        let ranges = runs.iter().map(range).collect();
        Self { outline, k, allowed, ranges_max, queries, runs, ranges, capped }
    }

    /// What to read of the file: disjoint, ascending, not empty. None when no row was found, or when those without which
    /// there are fewer than `k` hits are more bytes than may be read: then answers are short.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// Bytes of all ranges.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// Whether the byte budget has left out cells or rows that the effort asked for: recall may be lower than was measured.
    pub fn capped(&self) -> bool {
        self.capped
    }

    /// Rescores the rows. `bytes`: those of [`Self::ranges`], in that order. `superseded`: whether the point of this key
    /// must not be found here.
    ///
    /// # Errors
    /// [`Corrupt`] when the bytes are not the rows'.
    pub fn hits(self, bytes: &[Bytes], superseded: &dyn Fn(&[u8]) -> bool) -> Result<ColdHits, Corrupt> {
        self.outline.check_lengths(BlockKind::RowSlots, &self.ranges, bytes)?;
        let ranges_max = self.ranges_max;
        let rescored = Rescored::new(self, bytes)?;
        let mut places = rescored.missing(superseded)?;
        if places.is_empty() {
            return rescored.answers(superseded).map(ColdHits::Found);
        }
        places.sort_unstable_by_key(|place| (place.offset, place.length));
        places.dedup();
        let end = |place: Place| place.offset + u64::from(place.length);
        // Otherwise a small file could have its records read many times over.
        if let Some(pair) = places.windows(2).find(|pair| end(pair[0]) > pair[1].offset) {
            let found = format!("{} bytes at {}, and some at {}", pair[0].length, pair[0].offset, pair[1].offset);
            return Err(rescored.outline.corrupt(BlockKind::Records, "records side by side".to_owned(), found));
        }
        let runs = covering_runs(&places, ranges_max.max(1), |a, b| b.offset - end(a));
        let start = rescored.outline.records.start;
        let range = |run: &Range<usize>| start + places[run.start].offset..start + end(places[run.end - 1]);
        let ranges = runs.iter().map(range).collect();
        Ok(ColdHits::More(RecordPlan { rescored: Box::new(rescored), places, runs, ranges }))
    }
}

impl RecordPlan {
    /// What to read of the file: ascending, not empty.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// The answers of all queries, in their order. `bytes`: those of [`Self::ranges`], in that order. `superseded`: as
    /// for [`RowPlan::hits`].
    ///
    /// # Errors
    /// [`Corrupt`] when the bytes are not the records'.
    pub fn hits(mut self, bytes: &[Bytes], superseded: &dyn Fn(&[u8]) -> bool) -> Result<Vec<ColdAnswer>, Corrupt> {
        let outline = &self.rescored.outline;
        outline.check_lengths(BlockKind::Records, &self.ranges, bytes)?;
        for (run, bytes) in self.runs.iter().zip(bytes) {
            let first = self.places[run.start].offset;
            for place in &self.places[run.clone()] {
                let at = (place.offset - first) as usize;
                let record = bytes.slice(at..at + place.length as usize);
                let crc = crc32c::crc32c(&record);
                if crc != place.crc32c {
                    let (expected, found) = (format!("checksum {:08x}", place.crc32c), format!("checksum {crc:08x}"));
                    return Err(outline.corrupt(BlockKind::Records, expected, found));
                }
                self.rescored.records.insert((place.offset, place.length), record);
            }
        }
        self.rescored.answers(superseded)
    }
}

/// Rows that have been read and scored.
#[derive(Debug)]
struct Rescored {
    outline: Arc<Outline>,
    k: usize,
    allowed: u64,
    /// The rows' numbers, ascending, and their records.
    rows: Vec<(u32, RecordOf)>,
    vectors: DenseRows,
    queries: Vec<Scored>,
    /// Those read on their own.
    records: HashMap<(u64, u32), Bytes>,
}

#[derive(Debug)]
struct Scored {
    /// Nearest first; of each row its score and its position among the rows. A score is lower when nearer.
    rows: Vec<(f32, usize)>,
    cells: u32,
    complete: bool,
}

#[derive(Clone, Debug)]
enum RecordOf {
    Here(Bytes),
    Elsewhere(Place),
}

impl Rescored {
    fn new(plan: RowPlan, bytes: &[Bytes]) -> Result<Self, Corrupt> {
        let RowPlan { outline, k, allowed, queries, runs, .. } = plan;
        let slots = outline.slots;
        let mut wanted: Vec<u32> =
            queries.iter().flat_map(|found| found.candidates.iter().map(|&(_, row)| row)).collect();
        wanted.retain(|&row| holds(&runs, row));
        wanted.sort_unstable();
        wanted.dedup();
        let mut rows = Vec::with_capacity(wanted.len());
        let mut values: Vec<f32> = Vec::with_capacity(wanted.len() * slots.dimension);
        let mut run = 0;
        for row in wanted {
            while runs[run].end <= row {
                run += 1;
            }
            let at = (row - runs[run].start) as usize * slots.bytes;
            let slot = bytes[run].slice(at..at + slots.bytes);
            let wrong = |found: String| outline.corrupt(BlockKind::RowSlots, format!("the slot of row {row}"), found);
            let (vector, stored) = slots.read(row, &slot).map_err(wrong)?;
            let record = match stored {
                Stored::Here(record) => RecordOf::Here(slot.slice_ref(record)),
                Stored::Elsewhere(place) => {
                    let room = outline.records.end - outline.records.start;
                    if place.length == 0
                        || place.offset.checked_add(u64::from(place.length)).is_none_or(|end| end > room)
                    {
                        return Err(wrong(format!("a record of {} bytes at {}", place.length, place.offset)));
                    }
                    RecordOf::Elsewhere(place)
                }
            };
            values.extend(vector.chunks_exact(4).map(|raw| f32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]])));
            if values[rows.len() * slots.dimension..].iter().any(|x| x.is_nan() || x.abs() > limits::DENSE_COORDINATE) {
                return Err(wrong("a coordinate that no vector has".to_owned()));
            }
            rows.push((row, record));
        }
        let metric = outline.meta.metric;
        let vectors = DenseRows::new(metric, slots.dimension, values.into());
        let score = |found: &Found| {
            let mut scored: Vec<(f32, usize)> = Vec::with_capacity(found.candidates.len());
            for &(_, row) in &found.candidates {
                if let Ok(at) = rows.binary_search_by_key(&row, |(row, _)| *row) {
                    let mut score = [0.0];
                    vectors.score_rows(metric, &found.query, at as u32, &mut score);
                    scored.push((score[0], at));
                }
            }
            scored.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let complete = scored.len() as u64 == allowed;
            Scored { rows: scored, cells: found.cells, complete }
        };
        let queries = queries.iter().map(score).collect();
        Ok(Self { outline, k, allowed, rows, vectors, queries, records: HashMap::new() })
    }

    /// Records that decide or belong to an answer and have not been read: of the rows no farther than the `k`-th that is
    /// known to be found.
    fn missing(&self, superseded: &dyn Fn(&[u8]) -> bool) -> Result<Vec<Place>, Corrupt> {
        let mut places = Vec::new();
        for query in &self.queries {
            let mut known = 0;
            let mut last = f32::INFINITY;
            for &(score, at) in &query.rows {
                if known >= self.k && score > last {
                    break;
                }
                match self.record(at) {
                    Ok(record) => {
                        if !superseded(self.key(at, record)?) {
                            known += 1;
                            if known == self.k {
                                last = score;
                            }
                        }
                    }
                    Err(place) => places.push(place),
                }
            }
        }
        Ok(places)
    }

    /// The record of a row, or where it is if it has not been read.
    fn record(&self, at: usize) -> Result<&Bytes, Place> {
        match &self.rows[at].1 {
            RecordOf::Here(record) => Ok(record),
            RecordOf::Elsewhere(place) => self.records.get(&(place.offset, place.length)).ok_or(*place),
        }
    }

    fn key<'a>(&self, at: usize, record: &'a Bytes) -> Result<&'a [u8], Corrupt> {
        record::key(record).ok_or_else(|| self.no_record(at))
    }

    fn no_record(&self, at: usize) -> Corrupt {
        let expected = "a key and a value of each attribute".to_owned();
        self.outline.corrupt(BlockKind::RowSlots, expected, format!("something else for row {}", self.rows[at].0))
    }

    fn answers(&self, superseded: &dyn Fn(&[u8]) -> bool) -> Result<Vec<ColdAnswer>, Corrupt> {
        self.queries.iter().map(|query| self.answer(query, superseded)).collect()
    }

    fn answer(&self, query: &Scored, superseded: &dyn Fn(&[u8]) -> bool) -> Result<ColdAnswer, Corrupt> {
        let mut found: Vec<(f32, usize, &[u8])> = Vec::with_capacity(self.k.min(query.rows.len()) + 1);
        for &(score, at) in &query.rows {
            if found.len() >= self.k && found.get(self.k.wrapping_sub(1)).is_none_or(|last| score > last.0) {
                break;
            }
            // What is not there is farther away than `missing` has looked.
            let Ok(record) = self.record(at) else { continue };
            let key = self.key(at, record)?;
            if !superseded(key) {
                found.push((score, at, key));
            }
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.2.cmp(b.2)).then(a.1.cmp(&b.1)));
        found.truncate(self.k);
        let mut hits = Vec::with_capacity(found.len());
        for (score, at, key) in found {
            let values = self.record(at).ok().and_then(|record| record::values(record, &self.outline.types));
            hits.push(ColdHit {
                row: self.rows[at].0,
                distance: self.distance(score),
                key: key.to_vec(),
                values: values.ok_or_else(|| self.no_record(at))?,
                vector: self.vectors.row(at as u32).to_vec(),
            });
        }
        let short = hits.len() < self.k && !query.complete;
        let rescored = query.rows.len() as u32;
        Ok(ColdAnswer { hits, allowed: self.allowed, plan: Plan::Cells { nprobe: query.cells, rescored }, short })
    }

    fn distance(&self, score: f32) -> f64 {
        let score = f64::from(score);
        // Adding zero turns -0.0 into 0.0.
        if self.outline.meta.metric.higher_is_nearer() { -score + 0.0 } else { score }
    }
}
