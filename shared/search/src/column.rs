//! Typed access to the attribute columns of a segment or a delta.
//!
//! Owns `columns-match-their-source`: a column has the name and the type that the data source
//! gives its attribute. Reads only.

use arrow::array::{
    Array, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use tarn_model::{AttributeType, AttributeValue, Corrupt, DataSource};
use uuid::Uuid;

/// One attribute of many rows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Column<'a> {
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
    pub(crate) fn new(array: &'a dyn Array, attribute_type: AttributeType) -> Option<Self> {
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

    /// The value of a row. The row exists and is not null.
    pub(crate) fn value(self, row: usize) -> AttributeValue {
        match self {
            Self::Bool(a) => AttributeValue::Bool(a.value(row)),
            Self::Int64(a) => AttributeValue::Int64(a.value(row)),
            Self::Float64(a) => AttributeValue::Float64(a.value(row)),
            Self::String(a) => AttributeValue::String(a.value(row).to_owned()),
            Self::Uuid(a) => AttributeValue::Uuid(uuid(a.value(row))),
            Self::DateTime(a) => AttributeValue::DateTime(a.value(row)),
        }
    }
}

/// The value's 16 bytes as a UUID. `Column::new` has checked the length.
pub(crate) fn uuid(bytes: &[u8]) -> Uuid {
    Uuid::from_slice(bytes).unwrap_or_default()
}

/// `columns-match-their-source`: the attribute columns of a segment, in attribute-name order, have the data source's
/// names and types, and no nulls. `object` names the segment in the error.
///
/// # Errors
/// [`Corrupt`] names the first attribute that differs.
pub(crate) fn check_columns(object: &str, attributes: &RecordBatch, source: &DataSource) -> Result<(), Corrupt> {
    let corrupt = |expected: String, found: String| Corrupt {
        object: object.to_owned(),
        part: "columns-match-their-source".to_owned(),
        expected,
        found,
    };
    if attributes.num_columns() != source.attribute_types.len() {
        return Err(corrupt(
            format!("{} attribute columns", source.attribute_types.len()),
            format!("{}", attributes.num_columns()),
        ));
    }
    let schema = attributes.schema();
    for ((name, &attribute_type), (array, field)) in
        source.attribute_types.iter().zip(attributes.columns().iter().zip(schema.fields()))
    {
        let column = tarn_timeline::attribute_column(name);
        if *field.name() != column {
            return Err(corrupt(format!("column '{column}'"), format!("column '{}'", field.name())));
        }
        if Column::new(array, attribute_type).is_none() {
            return Err(corrupt(format!("'{name}' as {attribute_type}"), format!("{}", array.data_type())));
        }
        if array.null_count() > 0 {
            return Err(corrupt(format!("'{name}' without nulls"), format!("{} nulls", array.null_count())));
        }
    }
    Ok(())
}
