//! Statistics of an index: how many points, their centre, how far they lie from it, and how that has moved between builds.
//!
//! The builder counts the rows of every segment about one reference and writes what it counted into the catalogs; so
//! what a whole index is like costs no look at a vector. For a part of it (splits, a filter) and for what no build has taken in
//! the rows are read: twice when distances are to be measured from the centre itself, which is not known before. See ADR 017.
//!
//! A segment's statistics are of the rows that its catalog calls live; where a filter, a split or the tail picks other rows,
//! those are counted, never guessed.

use std::sync::Arc;

use rayon::prelude::ParallelIterator;
use rayon::slice::ParallelSlice;
use tarn_model::{Attributes, Filter, ReadToken};
use tarn_segment::{SegmentError, Statistics};

use crate::error::SearchError;
use crate::execute::Prepared;
use crate::request::Consistency;

/// Rows that one thread counts before another may take over; sums are added in this order, whoever computes them.
const ROWS_AT_ONCE: usize = 16 * 1024;

/// What to count.
#[derive(Clone, Debug, Default)]
pub struct StatisticsRequest {
    /// Values of some, all or none of the index's split attributes.
    pub split_filter: Attributes,
    /// Only points that satisfy it.
    pub filter: Option<Filter>,
    /// Only this shard's points.
    pub shard: Option<String>,
    /// Also what no build has taken in yet. Without it the state is that of the newest build.
    pub tail: bool,
    /// Measure distances from the centre itself: reads every vector, twice. Always so for splits and filters.
    pub exact: bool,
    /// The state that an earlier generation shows.
    pub as_of: Option<u64>,
    /// An earlier generation to compare with.
    pub since: Option<u64>,
    /// How fresh.
    pub consistency: Consistency,
}

impl StatisticsRequest {
    /// Whether points are read for it, even where none expires: what the builder has counted does not do.
    pub fn reads_points(&self) -> bool {
        let a_part = self.filter.is_some() || !self.split_filter.is_empty();
        a_part || self.exact || self.tail || self.since.is_some()
    }
}

/// What distances are measured from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeasuredFrom {
    /// The centre, rounded to f32.
    Centre,
    /// The reference that the builder chose for the index.
    Reference,
    /// The origin: sparse vectors have no centre here.
    Origin,
}

/// What was counted.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexStatistics {
    /// Counts, sums and distances.
    pub statistics: Statistics,
    /// What the distances are measured from.
    pub from: MeasuredFrom,
    /// Rows whose vectors were read for this answer; the others the builder had counted.
    pub rows_read: u64,
    /// The version that the answer shows.
    pub version: ReadToken,
    /// The generation that it rests on; 0 before the first build.
    pub generation: u64,
    /// Against the earlier generation, if the request names one.
    pub drift: Option<Drift>,
}

/// How the points differ from those of an earlier generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    /// The earlier generation.
    pub since: u64,
    /// The version that it showed.
    pub version: ReadToken,
    /// Points that it had.
    pub points: u64,
    /// How far the centre moved; `None` when either has no points, and for sparse vectors.
    pub shift: Option<f64>,
    /// The same in spreads of the earlier points; `None` also when they were all alike.
    pub shift_in_spreads: Option<f64>,
    /// The share of points whose distances would have to change for one histogram to be the other, 0 to 1; both measured from
    /// the earlier reference.
    pub moved: f64,
}

impl IndexStatistics {
    /// How far what distances are measured from is from the centre; `None` without points, and for sparse vectors.
    pub fn offset(&self) -> Option<f64> {
        offset(&self.statistics)
    }

    /// The root of the mean squared distance to the centre, whatever distances are measured from; for sparse vectors, to the
    /// origin. `None` without points.
    pub fn spread(&self) -> Option<f64> {
        spread(&self.statistics)
    }
}

fn offset(statistics: &Statistics) -> Option<f64> {
    let centre = statistics.centre()?;
    let squares = centre.iter().zip(statistics.reference().iter()).map(|(a, &b)| (a - f64::from(b)).powi(2));
    Some(squares.sum::<f64>().sqrt())
}

/// By the theorem of parallel axes: the mean squared distance to a point is that to the centre and the square of the way there.
fn spread(statistics: &Statistics) -> Option<f64> {
    let rows = statistics.rows();
    let mean = (rows > 0).then(|| statistics.distances().squares() / rows as f64)?;
    let offset = offset(statistics).unwrap_or(0.0);
    Some((mean - offset * offset).max(0.0).sqrt())
}

/// Compares two states, both measured from one reference.
pub(crate) fn drift(earlier: &IndexStatistics, now: &Statistics) -> Drift {
    let before = &earlier.statistics;
    let shift = before.centre().zip(now.centre()).map(|(before, now)| {
        let squares = before.iter().zip(&now).map(|(before, now)| (now - before).powi(2));
        squares.sum::<f64>().sqrt()
    });
    let spread = spread(before).filter(|spread| *spread > 0.0);
    Drift {
        since: earlier.generation,
        version: earlier.version.clone(),
        points: before.rows(),
        shift,
        shift_in_spreads: shift.zip(spread).map(|(shift, spread)| shift / spread),
        moved: before.distances().moved(now.distances()),
    }
}

/// Counts the rows that count of one unit. Runs on the pool.
pub(crate) fn count(prepared: &Prepared, reference: &Arc<[f32]>) -> Result<Statistics, SearchError> {
    let segment = prepared.segment()?;
    let rows: Vec<u32> = prepared.live_rows().iter().collect();
    let counted: Result<Vec<Statistics>, SegmentError> =
        rows.par_chunks(ROWS_AT_ONCE).map(|rows| segment.statistics(rows.iter().copied(), reference)).collect();
    let counted = counted.map_err(|error| SearchError::Internal(error.to_string()))?;
    let mut all = Statistics::new(Arc::clone(reference));
    for part in &counted {
        merge(&mut all, part)?;
    }
    Ok(all)
}

/// Counts `part` in.
pub(crate) fn merge(all: &mut Statistics, part: &Statistics) -> Result<(), SearchError> {
    match all.merge(part) {
        true => Ok(()),
        false => Err(SearchError::Internal("statistics about different references were merged".to_owned())),
    }
}
