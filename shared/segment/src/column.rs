//! Typed access to the columns of attributes.

use arrow::array::{
    Array, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use tarn_model::{AttributeType, AttributeValue, encode_text, encode_value};
use uuid::Uuid;

/// One attribute of many rows.
#[derive(Clone, Copy, Debug)]
pub enum Column<'a> {
    /// `true` or `false`.
    Bool(&'a BooleanArray),
    /// 64-bit integers.
    Int64(&'a Int64Array),
    /// 64-bit floats.
    Float64(&'a Float64Array),
    /// UTF-8.
    String(&'a StringArray),
    /// 16 bytes each.
    Uuid(&'a FixedSizeBinaryArray),
    /// Microseconds.
    DateTime(&'a TimestampMicrosecondArray),
}

impl<'a> Column<'a> {
    /// The array as a column of this type; `None` when it is of another.
    pub fn new(array: &'a dyn Array, attribute_type: AttributeType) -> Option<Self> {
        let any = array.as_any();
        Some(match attribute_type {
            AttributeType::Bool => Self::Bool(any.downcast_ref()?),
            AttributeType::Int64 => Self::Int64(any.downcast_ref()?),
            AttributeType::Float64 => Self::Float64(any.downcast_ref()?),
            AttributeType::String => Self::String(any.downcast_ref()?),
            AttributeType::Uuid => {
                Self::Uuid(any.downcast_ref::<FixedSizeBinaryArray>().filter(|a| a.value_length() == 16)?)
            }
            AttributeType::DateTime => Self::DateTime(any.downcast_ref()?),
        })
    }

    /// The value of a row, which is not null.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn value(self, row: usize) -> AttributeValue {
        match self {
            Self::Bool(a) => AttributeValue::Bool(a.value(row)),
            Self::Int64(a) => AttributeValue::Int64(a.value(row)),
            Self::Float64(a) => AttributeValue::Float64(a.value(row)),
            Self::String(a) => AttributeValue::String(a.value(row).to_owned()),
            // `new` has checked the length.
            Self::Uuid(a) => AttributeValue::Uuid(Uuid::from_slice(a.value(row)).unwrap_or_default()),
            Self::DateTime(a) => AttributeValue::DateTime(a.value(row)),
        }
    }

    /// Appends the canonical encoding of a row's value; text is not copied on the way.
    pub(crate) fn append(self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::String(a) => encode_text(a.value(row), out),
            column => encode_value(&column.value(row), out),
        }
    }
}
