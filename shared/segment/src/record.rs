//! Records: the point key of a row and all its attributes, as bytes that need no schema to be read.
//!
//! The key's length as u16, the key, and the values in the order of the columns, in the canonical encoding of the model,
//! each of which says its type and where it ends.

use arrow::array::{Array, BinaryArray, RecordBatch};
use tarn_model::{AttributeType, AttributeValue, decode_value};

use crate::column::Column;
use crate::columns::attribute_type;

/// The rows' keys and attributes.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    keys: &'a BinaryArray,
    columns: Vec<Column<'a>>,
}

impl<'a> Records<'a> {
    /// The records of these rows; says what is wrong with rows that can have none.
    pub(crate) fn new(keys: &'a BinaryArray, attributes: &'a RecordBatch) -> Result<Self, String> {
        let longest = (0..keys.len()).map(|row| keys.value_length(row)).max().unwrap_or(0);
        if u16::try_from(longest).is_err() {
            return Err(format!("a key of {longest} bytes"));
        }
        let mut columns = Vec::with_capacity(attributes.num_columns());
        for (array, field) in attributes.columns().iter().zip(attributes.schema_ref().fields()) {
            let column = attribute_type(array.data_type())
                .and_then(|attribute_type| Column::new(array.as_ref(), attribute_type))
                .ok_or_else(|| format!("attribute {} has the type {}", field.name(), field.data_type()))?;
            if let Column::Float64(floats) = column
                && !floats.values().iter().all(|x| x.is_finite())
            {
                return Err(format!("attribute {} has a value that is not finite", field.name()));
            }
            columns.push(column);
        }
        Ok(Self { keys, columns })
    }

    /// Appends the record of a row.
    pub(crate) fn append(&self, row: u32, out: &mut Vec<u8>) {
        let key = self.keys.value(row as usize);
        // `new` has compared the lengths.
        out.extend_from_slice(&(key.len() as u16).to_le_bytes());
        out.extend_from_slice(key);
        for column in &self.columns {
            column.append(row as usize, out);
        }
    }
}

/// The key of a record.
pub(crate) fn key(record: &[u8]) -> Option<&[u8]> {
    let (length, rest) = record.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_le_bytes(*length)))
}

/// The values of a record, which must be of these types, and no more.
pub(crate) fn values(record: &[u8], types: &[AttributeType]) -> Option<Vec<AttributeValue>> {
    let mut rest = record.get(2 + key(record)?.len()..)?;
    let values: Option<Vec<AttributeValue>> = types
        .iter()
        .map(|attribute_type| decode_value(&mut rest).filter(|value| value.attribute_type() == *attribute_type))
        .collect();
    values.filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
    };
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_record_gives_key_and_values_back() {
        let keys = BinaryArray::from_iter_values([b"".as_slice(), b"key", &[0, 255, 0]]);
        let uuid = Uuid::from_u128(7);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("b", Arc::new(BooleanArray::from(vec![true, false, true]))),
            ("f", Arc::new(Float64Array::from(vec![-1.5, 0.0, f64::MAX]))),
            ("i", Arc::new(Int64Array::from(vec![i64::MIN, 0, 1]))),
            ("s", Arc::new(StringArray::from(vec!["", "a\0ü", "text"]))),
            ("t", Arc::new(TimestampMicrosecondArray::from(vec![1, -2, 3]).with_timezone("UTC"))),
            ("u", Arc::new(FixedSizeBinaryArray::try_from_iter([uuid; 3].iter().map(Uuid::as_bytes)).unwrap())),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let records = Records::new(&keys, &batch).unwrap();
        let types = [
            AttributeType::Bool,
            AttributeType::Float64,
            AttributeType::Int64,
            AttributeType::String,
            AttributeType::DateTime,
            AttributeType::Uuid,
        ];
        let mut record = Vec::new();
        records.append(1, &mut record);
        assert_eq!(key(&record), Some(b"key".as_slice()));
        let want = [
            AttributeValue::Bool(false),
            AttributeValue::Float64(0.0),
            AttributeValue::Int64(0),
            AttributeValue::String("a\0ü".to_owned()),
            AttributeValue::DateTime(-2),
            AttributeValue::Uuid(uuid),
        ];
        assert_eq!(values(&record, &types).unwrap(), want);
        for length in 0..record.len() {
            assert_eq!(values(&record[..length], &types), None);
        }
        assert_eq!(values(&[record.as_slice(), &[0]].concat(), &types), None);
        assert_eq!(values(&record, &types[1..]), None);
    }

    #[test]
    fn what_has_no_record_is_refused() {
        let keys = BinaryArray::from_iter_values([b"key"]);
        let floats = RecordBatch::try_from_iter([("f", Arc::new(Float64Array::from(vec![f64::NAN])) as _)]).unwrap();
        assert!(Records::new(&keys, &floats).unwrap_err().contains("not finite"));
        let other = arrow::array::Int32Array::from(vec![1]);
        let other = RecordBatch::try_from_iter([("i", Arc::new(other) as _)]).unwrap();
        assert!(Records::new(&keys, &other).unwrap_err().contains("Int32"));
        let long = BinaryArray::from_iter_values([vec![0; 65_536]]);
        let none = RecordBatch::try_from_iter([("i", Arc::new(Int64Array::from(vec![1])) as _)]).unwrap();
        assert!(Records::new(&long, &none).unwrap_err().contains("65536"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_none(bytes in prop::collection::vec(0u8..7, 0..30)) {
            for types in [&[][..], &[AttributeType::Bool], &[AttributeType::String, AttributeType::Int64]] {
                let _ = values(&bytes, types);
            }
        }
    }
}
