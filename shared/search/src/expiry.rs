//! Which rows of a segment have expired.
//!
//! Whether a row has is a function of one of its attributes and the time (`tarn_model::Retention`). Expired rows are masked as rows
//! are that the tail replaces: no search, page, count, sample or statistic takes them for live, in files and in the tail alike
//! (`expired-points-are-not-found`). One pass over the attribute's column serves every search until the next row of the segment
//! expires.

use std::sync::Arc;

use parking_lot::Mutex;
use roaring::RoaringBitmap;
use tarn_model::{AttributeType, Filter};
use tarn_segment::{Column, Segment};

use crate::definition::Definition;
use crate::execute::NamedFilter;
use crate::request::SearchRequest;

/// What has expired at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    /// The position of the attribute's column.
    column: usize,
    /// Rows with this date-time, in microseconds, or an earlier one.
    up_to: i64,
    /// The moment.
    pub(crate) now: i64,
}

impl Gone {
    /// What has expired of a data source's points at `now`, in microseconds since 1970. `None`: they do not.
    pub(crate) fn at(definition: &Definition, now: i64) -> Option<Self> {
        let retention = definition.source.policy.retention.as_ref()?;
        let column = definition.source.attribute_types.keys().position(|name| *name == retention.attribute)?;
        Some(Self { column, up_to: retention.gone_up_to(now)?, now })
    }
}

/// What is known of a segment's expired rows. The segment is immutable; what it knows is good for a while.
#[derive(Debug, Default)]
pub(crate) struct Expiry(Mutex<Option<Known>>);

#[derive(Debug)]
struct Known {
    /// The rows are right from here…
    from: i64,
    /// …until before here; `None`: for good.
    until: Option<i64>,
    rows: Arc<RoaringBitmap>,
}

impl Expiry {
    /// The expired rows of the segment that this belongs to.
    pub(crate) fn rows(&self, segment: &Segment, gone: Gone) -> Arc<RoaringBitmap> {
        let mut known = self.0.lock();
        if let Some(known) = &*known
            && known.from <= gone.up_to
            && known.until.is_none_or(|until| gone.up_to < until)
        {
            return Arc::clone(&known.rows);
        }
        let array = segment.attributes().columns().get(gone.column);
        let column = array.and_then(|array| Column::new(array, AttributeType::DateTime));
        let moments: &[i64] = match column {
            Some(Column::DateTime(moments)) => moments.values(),
            _ => &[],
        };
        let mut until = None::<i64>;
        let mut rows = RoaringBitmap::new();
        for (&moment, row) in moments.iter().zip(0u32..) {
            if moment <= gone.up_to {
                rows.insert(row);
            } else if until.is_none_or(|until| moment < until) {
                until = Some(moment);
            }
        }
        let rows = Arc::new(rows);
        *known = Some(Known { from: gone.up_to, until, rows: Arc::clone(&rows) });
        rows
    }
}

/// What a file that is searched where it is must be filtered by: the search's own filter, its round's, and that rows are alive. Its
/// rows are not at hand to be masked.
pub(crate) fn cold_filter(definition: &Definition, request: &SearchRequest) -> Option<NamedFilter> {
    let retention = definition.source.policy.retention.as_ref();
    let alive = request.alive_at.zip(retention).and_then(|(now, retention)| retention.alive_at(now));
    let round = request.round.iter().flat_map(|round| round.filters(&definition.source));
    let passing: Vec<Filter> = round.chain(alive).collect();
    match request.filter.clone() {
        filter if passing.is_empty() => filter.map(NamedFilter::new),
        filter => Some(NamedFilter::of_now(Filter::And(filter.into_iter().chain(passing).collect()))),
    }
}
