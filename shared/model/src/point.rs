//! Updates of a data source: upserts and tombstones.

use crate::attribute::Attributes;
use crate::vector::Vector;

/// An upsert: a vector and a value for every attribute of the data source.
#[derive(Clone, Debug, PartialEq)]
pub struct DataPoint {
    /// Every attribute that the data source defines, and no other.
    pub attributes: Attributes,
    /// The vector, of the data source's kind and dimension.
    pub vector: Vector,
}

/// One row of an upload.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// Adds the point, or replaces the one with the same permanent attributes.
    Upsert(DataPoint),
    /// A tombstone: removes the point with these permanent attributes. It may name the others too; they do not matter.
    Delete(Attributes),
}
