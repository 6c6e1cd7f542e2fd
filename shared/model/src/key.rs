//! Point keys and split keys: canonical bytes of some attributes.
//!
//! The encoding is order-preserving and self-delimiting: attributes in key order, each a type tag byte and then
//! Bool `00`/`01`; Int64 and DateTime 8 bytes big-endian with the sign bit flipped; Float64 the IEEE bits big-endian,
//! all flipped when negative, else the sign bit flipped (`-0.0` as `0.0`); Uuid 16 bytes; String its UTF-8 with `00` as
//! `00 FF`, then `00 00`. So bytes compare as the values do, and ties between equal distances break by point key.
//!
//! Owns `equal-keys-equal-points`.

use crate::attribute::{AttributeType, AttributeValue, Attributes};
use crate::error::ValidationError;
use crate::source::DataSource;

/// Canonical bytes of a point's permanent attributes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PointKey(pub Vec<u8>);

/// Canonical bytes of a point's split attributes, for one index. Empty when the index has none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SplitKey(pub Vec<u8>);

impl PointKey {
    /// Encodes the permanent attributes among `attributes`; others are ignored.
    ///
    /// # Errors
    /// A permanent attribute is missing or the key is longer than [`crate::limits::POINT_KEY_BYTES`].
    pub fn encode(source: &DataSource, attributes: &Attributes) -> Result<Self, ValidationError> {
        let _ = (source, attributes);
        todo!()
    }

    /// The permanent attributes back. `None` when the bytes are no key of this data source.
    pub fn decode(source: &DataSource, bytes: &[u8]) -> Option<Attributes> {
        let _ = (source, bytes);
        todo!()
    }
}

impl SplitKey {
    /// Encodes the values of `split_attributes` found in `attributes`, in key order.
    /// `None` when one is missing.
    pub fn encode<'a>(split_attributes: impl IntoIterator<Item = &'a String>, attributes: &Attributes) -> Option<Self> {
        let _ = (split_attributes.into_iter().count(), attributes);
        todo!()
    }

    /// The split attributes back, given their names in key order and types.
    pub fn decode<'a>(
        split_attributes: impl IntoIterator<Item = (&'a String, AttributeType)>,
        bytes: &[u8],
    ) -> Option<Attributes> {
        let _ = (split_attributes.into_iter().count(), bytes);
        todo!()
    }
}

/// A stable 64-bit hash of key bytes (XXH3), stored in segment files.
pub fn key_hash(bytes: &[u8]) -> u64 {
    let _ = bytes;
    todo!()
}

/// Appends one value to canonical bytes.
pub fn encode_value(value: &AttributeValue, out: &mut Vec<u8>) {
    let _ = (value, out);
    todo!()
}
