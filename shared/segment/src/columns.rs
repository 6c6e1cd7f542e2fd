//! Where the attribute columns of a file lie, for readers that want one of them: the block `attribute-columns`.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, RecordBatch, make_array, new_empty_array};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};
use tarn_model::AttributeType;

/// No type has more buffers. A reader copies each, so that more of them would be more memory than there are bytes.
const BUFFERS_MAX: usize = 2;

/// The block, as JSON. Fields that a reader does not know are ignored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ColumnsLayout {
    pub(crate) columns: Vec<ColumnLayout>,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ColumnLayout {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) attribute_type: AttributeType,
    /// From the beginning of the block `attributes`.
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// CRC-32C of these bytes.
    pub(crate) crc32c: u32,
    /// Offset, from the column's, and length of each of Arrow's buffers, without that of nulls.
    pub(crate) buffers: Vec<(u64, u64)>,
}

impl ColumnsLayout {
    /// Of the attributes that have been decoded in place from `block`, the whole block's bytes.
    pub(crate) fn of(block: &Buffer, attributes: &RecordBatch) -> Result<Self, String> {
        let base = block.as_ptr() as usize;
        let mut columns = Vec::with_capacity(attributes.num_columns());
        for (array, field) in attributes.columns().iter().zip(attributes.schema_ref().fields()) {
            let name = field.name().clone();
            let attribute_type = attribute_type(field.data_type())
                .ok_or_else(|| format!("attribute {name} has the type {}", field.data_type()))?;
            // Buffers without a byte need not lie anywhere.
            let data = if array.is_empty() { Vec::new() } else { array.to_data().buffers().to_vec() };
            let places: Vec<Range<usize>> = data
                .iter()
                .map(|buffer| {
                    let start = if buffer.is_empty() { base } else { buffer.as_ptr() as usize };
                    start.wrapping_sub(base)..start.wrapping_sub(base).wrapping_add(buffer.len())
                })
                .collect();
            let some = || places.iter().filter(|place| !place.is_empty());
            let start = some().map(|place| place.start).min().unwrap_or(0);
            let end = some().map(|place| place.end).max().unwrap_or(start);
            let bytes = block.get(start..end).ok_or_else(|| format!("attribute {name} was not read in place"))?;
            columns.push(ColumnLayout {
                name,
                attribute_type,
                offset: start as u64,
                length: (end - start) as u64,
                crc32c: crc32c::crc32c(bytes),
                buffers: places
                    .iter()
                    .map(|place| (place.start.saturating_sub(start) as u64, place.len() as u64))
                    .collect(),
            });
        }
        Ok(Self { columns })
    }

    /// Says what is wrong with it, given the length of the block of attributes.
    pub(crate) fn check(&self, block_length: u64) -> Result<(), String> {
        for column in &self.columns {
            let inside = |(offset, length): (u64, u64), end| offset.checked_add(length).is_some_and(|at| at <= end);
            let fits = column.buffers.len() <= BUFFERS_MAX
                && inside((column.offset, column.length), block_length)
                && column.buffers.iter().all(|&buffer| inside(buffer, column.length));
            if !fits {
                return Err(format!("{column:?} in a block of {block_length} bytes"));
            }
        }
        Ok(())
    }

    /// The columns' names and types.
    pub(crate) fn schema(&self) -> SchemaRef {
        let field = |column: &ColumnLayout| Field::new(&column.name, data_type(column.attribute_type), false);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<Field>>()))
    }
}

impl ColumnLayout {
    /// The column, from its bytes, for so many rows. Says what is wrong with them.
    pub(crate) fn decode(&self, bytes: &[u8], rows: usize) -> Result<ArrayRef, String> {
        if bytes.len() as u64 != self.length {
            return Err(format!("{} bytes, not {}", bytes.len(), self.length));
        }
        let crc = crc32c::crc32c(bytes);
        if crc != self.crc32c {
            return Err(format!("checksum {crc:08x}, not {:08x}", self.crc32c));
        }
        let data_type = data_type(self.attribute_type);
        if rows == 0 {
            return Ok(new_empty_array(&data_type));
        }
        let mut data = ArrayData::builder(data_type).len(rows);
        for &(offset, length) in &self.buffers {
            let buffer = bytes.get(offset as usize..(offset + length) as usize);
            // Copied, because Arrow wants them aligned.
            let buffer = buffer.ok_or_else(|| format!("a buffer of {length} bytes at {offset}"))?;
            data = data.add_buffer(Buffer::from_slice_ref(buffer));
        }
        // Checks lengths, offsets and text.
        data.build().map(make_array).map_err(|error| error.to_string())
    }
}

/// The model's type whose columns have this one.
pub(crate) fn attribute_type(data_type: &DataType) -> Option<AttributeType> {
    Some(match data_type {
        DataType::Boolean => AttributeType::Bool,
        DataType::Int64 => AttributeType::Int64,
        DataType::Float64 => AttributeType::Float64,
        DataType::Utf8 => AttributeType::String,
        DataType::FixedSizeBinary(16) => AttributeType::Uuid,
        DataType::Timestamp(TimeUnit::Microsecond, _) => AttributeType::DateTime,
        _ => return None,
    })
}

fn data_type(attribute_type: AttributeType) -> DataType {
    match attribute_type {
        AttributeType::Bool => DataType::Boolean,
        AttributeType::Int64 => DataType::Int64,
        AttributeType::Float64 => DataType::Float64,
        AttributeType::String => DataType::Utf8,
        AttributeType::Uuid => DataType::FixedSizeBinary(16),
        AttributeType::DateTime => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(offset: u64, length: u64, buffers: &[(u64, u64)]) -> ColumnsLayout {
        let (name, attribute_type) = ("a".to_owned(), AttributeType::String);
        let column = ColumnLayout { name, attribute_type, offset, length, crc32c: 0, buffers: buffers.to_vec() };
        ColumnsLayout { columns: vec![column] }
    }

    #[test]
    fn columns_and_buffers_that_reach_outside_are_refused() {
        column(40, 60, &[(0, 20), (20, 40)]).check(100).unwrap();
        column(0, 0, &[]).check(0).unwrap();
        for (offset, length, buffer) in [
            (41, 60, (0, 20)),
            (u64::MAX, 1, (0, 1)),
            (1, u64::MAX, (0, 1)),
            (40, 60, (0, 61)),
            (40, 60, (u64::MAX, 1)),
            (40, 60, (1, u64::MAX)),
        ] {
            assert!(column(offset, length, &[buffer]).check(100).is_err(), "{length} at {offset}, {buffer:?}");
        }
    }

    /// Each would be copied.
    #[test]
    fn more_buffers_than_any_column_has_are_refused() {
        assert!(column(0, 100, &[(0, 100); 3]).check(100).is_err());
    }
}
