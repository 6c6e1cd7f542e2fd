//! Point keys of whole columns: the bytes of [`PointKey::encode`], without a value allocated per row.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use tarn_model::{AttributeType, AttributeValue, PointKey, encode_text, encode_value};
use uuid::Uuid;

/// One permanent attribute's canonical column, without nulls.
#[derive(Debug)]
enum KeyColumn<'a> {
    Bool(&'a BooleanArray),
    Int64(&'a [i64]),
    Float64(&'a [f64]),
    String(&'a StringArray),
    Uuid(&'a FixedSizeBinaryArray),
    DateTime(&'a [i64]),
}

/// Encodes the keys of rows from the columns of the permanent attributes.
#[derive(Debug)]
pub(crate) struct KeyEncoder<'a> {
    columns: Vec<KeyColumn<'a>>,
}

impl<'a> KeyEncoder<'a> {
    /// From the canonical columns of the permanent attributes, in key order. `None` when one is of another type.
    pub(crate) fn new(columns: impl IntoIterator<Item = (AttributeType, &'a ArrayRef)>) -> Option<Self> {
        let column = |(attribute_type, array): (AttributeType, &'a ArrayRef)| {
            Some(match attribute_type {
                AttributeType::Bool => KeyColumn::Bool(array.as_boolean_opt()?),
                AttributeType::Int64 => KeyColumn::Int64(array.as_primitive_opt::<Int64Type>()?.values()),
                AttributeType::Float64 => KeyColumn::Float64(array.as_primitive_opt::<Float64Type>()?.values()),
                AttributeType::String => KeyColumn::String(array.as_string_opt()?),
                AttributeType::Uuid => KeyColumn::Uuid(array.as_fixed_size_binary_opt()?),
                AttributeType::DateTime => {
                    KeyColumn::DateTime(array.as_primitive_opt::<TimestampMicrosecondType>()?.values())
                }
            })
        };
        Some(Self { columns: columns.into_iter().map(column).collect::<Option<_>>()? })
    }

    /// Appends the key of a row.
    pub(crate) fn encode(&self, row: usize, out: &mut Vec<u8>) {
        for column in &self.columns {
            match column {
                KeyColumn::Bool(array) => encode_value(&AttributeValue::Bool(array.value(row)), out),
                KeyColumn::Int64(values) => encode_value(&AttributeValue::Int64(values[row]), out),
                KeyColumn::Float64(values) => encode_value(&AttributeValue::Float64(values[row]), out),
                KeyColumn::String(array) => encode_text(array.value(row), out),
                KeyColumn::Uuid(array) => {
                    let mut bytes = [0; 16];
                    bytes.copy_from_slice(array.value(row));
                    encode_value(&AttributeValue::Uuid(Uuid::from_bytes(bytes)), out);
                }
                KeyColumn::DateTime(values) => encode_value(&AttributeValue::DateTime(values[row]), out),
            }
        }
    }

    /// The keys of rows `0..rows`.
    ///
    /// # Errors
    /// The first row whose key is too long, with the message; or all rows' keys take more than 2 GiB together.
    pub(crate) fn encode_all(&self, rows: usize) -> Result<BinaryArray, (usize, String)> {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0_i32);
        let mut data = Vec::with_capacity(rows * self.columns.len() * 12);
        for row in 0..rows {
            let start = data.len();
            self.encode(row, &mut data);
            PointKey::check_len(data.len() - start).map_err(|e| (row, e.to_string()))?;
            let end = i32::try_from(data.len()).map_err(|_| (row, "the keys take more than 2 GiB".to_owned()))?;
            offsets.push(end);
        }
        Ok(BinaryArray::new(OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(data), None))
    }
}

/// Shares an array.
pub(crate) fn shared(array: impl Array + 'static) -> ArrayRef {
    Arc::new(array)
}
