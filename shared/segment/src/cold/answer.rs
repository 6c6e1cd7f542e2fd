//! Which rows to read, and what they answer.

use std::ops::Range;

use bytes::Bytes;
use tarn_model::{AttributeValue, Corrupt};

use crate::hit::Plan;

/// The rows to read. Made by [`CellPlan::scan`][super::CellPlan::scan].
#[derive(Debug)]
pub struct RowPlan {
    ranges: Vec<Range<u64>>,
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
    ranges: Vec<Range<u64>>,
}

impl RowPlan {
    /// What to read of the file: disjoint, ascending, not empty. None when no row was found.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// Bytes of all ranges.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// Rescores the rows. `bytes`: those of [`Self::ranges`], in that order. `superseded`: whether the point of this key
    /// must not be found here.
    ///
    /// # Errors
    /// [`Corrupt`] when the bytes are not the rows'.
    pub fn hits(self, bytes: &[Bytes], superseded: &dyn Fn(&[u8]) -> bool) -> Result<ColdHits, Corrupt> {
        let _ = (bytes, superseded);
        Err(Corrupt { object: String::new(), part: String::new(), expected: String::new(), found: String::new() })
    }
}

impl RecordPlan {
    /// What to read of the file: disjoint, ascending, not empty.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// The answers of all queries, in their order. `bytes`: those of [`Self::ranges`], in that order. `superseded`: as
    /// for [`RowPlan::hits`].
    ///
    /// # Errors
    /// [`Corrupt`] when the bytes are not the records'.
    pub fn hits(self, bytes: &[Bytes], superseded: &dyn Fn(&[u8]) -> bool) -> Result<Vec<ColdAnswer>, Corrupt> {
        let _ = (bytes, superseded);
        Err(Corrupt { object: String::new(), part: String::new(), expected: String::new(), found: String::new() })
    }
}
