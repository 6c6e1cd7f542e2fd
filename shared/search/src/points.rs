//! Reading points by key: pages of an index in key order.
//!
//! A page costs one pass over the live rows in question: segments need not be in key order. It is for looking around; the
//! export of everything is `tarn_timeline`'s.

use std::collections::BinaryHeap;
use std::sync::Arc;

use tarn_model::{AttributeValue, Attributes, Filter, PointKey, ReadToken, Vector};
use tarn_segment::Segment;

use crate::error::SearchError;
use crate::execute::{self, NamedFilter};
use crate::filter::FilterCache;
use crate::plan::Unit;
use crate::pool::Abandoned;
use crate::request::Consistency;
use crate::snapshot::Snapshot;

/// A page of an index's live points, in the order of their keys.
#[derive(Clone, Debug, Default)]
pub struct PointsRequest {
    /// Values of some, all or none of the index's split attributes.
    pub split_filter: Attributes,
    /// Only points that satisfy it.
    pub filter: Option<Filter>,
    /// Begin after this key; `None` begins at the first.
    pub after: Option<PointKey>,
    /// Most points in the page; 1 to [`tarn_model::limits::K`].
    pub limit: u32,
    /// Whether the points carry their vectors.
    pub retrieve_vectors: bool,
    /// How fresh.
    pub consistency: Consistency,
    /// The state that an earlier generation shows.
    pub as_of: Option<u64>,
}

/// Points, and where the next page begins.
#[derive(Clone, Debug)]
pub struct PointsPage {
    /// In key order.
    pub points: Vec<Point>,
    /// Pass it as [`PointsRequest::after`]; `None` when this page is the last.
    pub next: Option<PointKey>,
    /// The version that the page shows.
    pub version: ReadToken,
    /// The generation that it rests on; 0 before the first build.
    pub generation: u64,
}

/// A live point.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The canonical bytes of its permanent attributes.
    pub key: PointKey,
    /// In wire order.
    pub attributes: Vec<(String, AttributeValue)>,
    /// The vector, when the request wanted it.
    pub vector: Option<Vector>,
}

impl Point {
    /// Reads one.
    ///
    /// # Errors
    /// See [`execute::row_attributes`].
    pub(crate) fn read(snapshot: &Snapshot, segment: &Segment, row: u32, vector: bool) -> Result<Self, SearchError> {
        Ok(Self {
            key: PointKey(segment.key(row).to_vec()),
            attributes: execute::row_attributes(snapshot, segment, row, &snapshot.definition.wire_order)?,
            vector: vector.then(|| segment.vector(row)),
        })
    }
}

/// The rows of one page, by key. Stops early, with whatever it has, when the caller has gone away.
///
/// # Errors
/// A segment's own failure.
pub(crate) fn page(
    snapshot: &Arc<Snapshot>,
    units: Vec<(Unit, Option<Arc<Segment>>)>,
    request: PointsRequest,
    filters: &FilterCache,
    abandoned: &Abandoned,
) -> Result<PointsPage, SearchError> {
    let filter = request.filter.map(NamedFilter::new);
    let units = execute::prepare(snapshot, units, filter.as_ref(), filters)?;
    let limit = request.limit as usize;
    // One more than the page, to know whether there is another.
    let mut smallest: BinaryHeap<(&[u8], usize, u32)> = BinaryHeap::with_capacity(limit + 2);
    for (unit, position) in units.iter().zip(0usize..) {
        if abandoned.is_set() {
            break;
        }
        let segment = unit.segment()?;
        for row in unit.live_rows() {
            let key = segment.key(row);
            if request.after.as_ref().is_some_and(|after| key <= after.0.as_slice()) {
                continue;
            }
            if smallest.len() > limit && smallest.peek().is_some_and(|largest| key >= largest.0) {
                continue;
            }
            smallest.push((key, position, row));
            if smallest.len() > limit + 1 {
                smallest.pop();
            }
        }
    }
    let mut rows = smallest.into_sorted_vec();
    let more = rows.len() > limit;
    rows.truncate(limit);
    let points = rows
        .into_iter()
        .map(|(_, unit, row)| Point::read(snapshot, units[unit].segment()?, row, request.retrieve_vectors));
    let points = points.collect::<Result<Vec<Point>, SearchError>>()?;
    let next = if more { points.last().map(|point| point.key.clone()) } else { None };
    Ok(PointsPage { points, next, version: snapshot.version(), generation: snapshot.generation.number() })
}
