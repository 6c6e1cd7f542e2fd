//! Filters over whole columns.
//!
//! The reference is [`tarn_model::Filter::matches`], row by row; here one typed loop runs per leaf of the tree and bitmaps
//! are combined. Bitmaps of whole segments are kept, because segments are immutable.

mod cache;
mod evaluate;

pub(crate) use cache::FilterCache;
pub(crate) use evaluate::matching_rows;
