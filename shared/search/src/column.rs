//! What the attribute columns of a segment or a delta must be.
//!
//! Owns `columns-match-their-source`: a column has the name and the type that the data source
//! gives its attribute. Reads only.

use arrow::array::{Array, RecordBatch};
use tarn_model::{Corrupt, DataSource};
use tarn_segment::Column;
use uuid::Uuid;

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
