//! Arrow columns of an upload to canonical columns, a whole column at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use tarn_model::{DataSource, ValidationError};

use crate::batch::PointBatch;

/// Which columns of an upload feed what. The default takes names as they are: each attribute from the column of its
/// name, the vector from `_vector` or `vector` (sparse: `_indices`, `_values` or `indices`, `values`), and whether a row
/// is a tombstone from `_deleted` or `deleted`, when there is such a column. `_key` and `_version` are ignored, so
/// that what was exported can be uploaded again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ColumnMapping {
    /// Attribute to column, for attributes whose column has another name.
    pub attributes: BTreeMap<String, String>,
    /// The dense vector's column.
    pub vector: Option<String>,
    /// The column of a sparse vector's coordinate indices.
    pub indices: Option<String>,
    /// The column of a sparse vector's coordinate values.
    pub values: Option<String>,
    /// The boolean column that marks tombstones.
    pub deleted: Option<String>,
    /// Skip columns that feed nothing, rather than refuse them.
    pub ignore_unknown: bool,
}

pub(crate) fn convert(
    source: Arc<DataSource>,
    batch: &RecordBatch,
    mapping: &ColumnMapping,
) -> Result<PointBatch, ValidationError> {
    let _ = (source, batch, mapping);
    todo!()
}
