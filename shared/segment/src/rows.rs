//! Which rows of a segment a search may return.

use std::ops::Range;

use roaring::RoaringBitmap;

/// The rows that a search may return: those in a range, in `matches` if given, and in neither `deleted` nor `superseded`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rows<'a> {
    /// The splits' row ranges. Ends beyond the segment are cut off; overlaps count once.
    pub ranges: &'a [Range<u32>],
    /// The catalog's deletion bitmap.
    pub deleted: Option<&'a RoaringBitmap>,
    /// Rows that the timeline's tail replaces or removes.
    pub superseded: Option<&'a RoaringBitmap>,
    /// Rows that satisfy the filter; `None` without a filter.
    pub matches: Option<&'a RoaringBitmap>,
}
