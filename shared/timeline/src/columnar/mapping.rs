//! Which column of an upload feeds what.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{ArrayRef, RecordBatch};
use tarn_model::{DataSource, ValidationError, VectorKind};

use crate::schema::{
    DELETED_COLUMN, INDICES_COLUMN, KEY_COLUMN, VALUES_COLUMN, VECTOR_COLUMN, VERSION_COLUMN, attribute_column,
};

const OURS: [&str; 6] = [KEY_COLUMN, VERSION_COLUMN, DELETED_COLUMN, VECTOR_COLUMN, INDICES_COLUMN, VALUES_COLUMN];

/// Which columns of an upload feed what. The default takes names as they are: each attribute from the column of its
/// name, the vector from `_vector` or `vector` (sparse: `_indices`, `_values` or `indices`, `values`), and whether a row
/// is a tombstone from `_deleted` or `deleted`, when there is such a column. `_key` and `_version` are ignored, so
/// that what was exported can be uploaded again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

/// A column of an upload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column<'a> {
    pub(super) name: &'a str,
    pub(super) array: &'a ArrayRef,
}

/// The columns of an upload by what they feed.
#[derive(Debug)]
pub(super) struct Columns<'a> {
    pub(super) rows: usize,
    /// In the order of the data source's attributes.
    pub(super) attributes: Vec<Option<Column<'a>>>,
    pub(super) vector: Option<Column<'a>>,
    pub(super) indices: Option<Column<'a>>,
    pub(super) values: Option<Column<'a>>,
    pub(super) deleted: Option<Column<'a>>,
}

impl<'a> Columns<'a> {
    /// Resolves the mapping. Attributes come first: a column `vector` is the vector only if no attribute takes it.
    pub(super) fn resolve(
        source: &DataSource,
        batch: &'a RecordBatch,
        mapping: &ColumnMapping,
    ) -> Result<Self, ValidationError> {
        let mut all = BTreeMap::new();
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            // The name must outlive this function: it is borrowed from the batch's schema, not from the local `Arc`.
            if all.insert(field.name().as_str(), array).is_some() {
                return Err(ValidationError::one(format!("there are two columns '{}'", field.name())));
            }
        }
        if let Some(unknown) = mapping.attributes.keys().find(|name| !source.attribute_types.contains_key(*name)) {
            return Err(ValidationError::one(format!("InputDataPoint attribute key is unknown: '{unknown}'")));
        }
        let mut finder = Finder { all, used: BTreeSet::new() };
        let mut attributes = Vec::with_capacity(source.attribute_types.len());
        for name in source.attribute_types.keys() {
            attributes.push(match mapping.attributes.get(name) {
                Some(column) => Some(finder.named(column)?),
                None if OURS.contains(&name.as_str()) => finder.find(&attribute_column(name)),
                None => finder.find(&attribute_column(name)).or_else(|| finder.find(name)),
            });
        }
        let dense = source.vector_kind == VectorKind::Dense;
        let vector = if dense { finder.ours(mapping.vector.as_deref(), VECTOR_COLUMN, "vector")? } else { None };
        let (mut indices, mut values) = (None, None);
        if !dense {
            indices = finder.ours(mapping.indices.as_deref(), INDICES_COLUMN, "indices")?;
            values = finder.ours(mapping.values.as_deref(), VALUES_COLUMN, "values")?;
        }
        let deleted = finder.ours(mapping.deleted.as_deref(), DELETED_COLUMN, "deleted")?;
        finder.used.extend([KEY_COLUMN, VERSION_COLUMN]);
        if !mapping.ignore_unknown {
            finder.refuse_unknown()?;
        }
        Ok(Self { rows: batch.num_rows(), attributes, vector, indices, values, deleted })
    }
}

struct Finder<'a> {
    all: BTreeMap<&'a str, &'a ArrayRef>,
    used: BTreeSet<&'a str>,
}

impl<'a> Finder<'a> {
    fn find(&mut self, name: &str) -> Option<Column<'a>> {
        let (&name, &array) = self.all.get_key_value(name)?;
        self.used.insert(name);
        Some(Column { name, array })
    }

    fn named(&mut self, name: &str) -> Result<Column<'a>, ValidationError> {
        self.find(name)
            .ok_or_else(|| ValidationError::one(format!("there is no column '{name}', which the mapping names")))
    }

    fn ours(&mut self, mapped: Option<&str>, ours: &str, alias: &str) -> Result<Option<Column<'a>>, ValidationError> {
        if let Some(column) = mapped {
            return self.named(column).map(Some);
        }
        if let Some(column) = self.find(ours) {
            return Ok(Some(column));
        }
        Ok(if self.used.contains(alias) { None } else { self.find(alias) })
    }

    fn refuse_unknown(&self) -> Result<(), ValidationError> {
        let unknown: Vec<&str> = self.all.keys().copied().filter(|name| !self.used.contains(name)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(ValidationError::one(format!(
            "All attributes defined for data source (and no other ones) must be specified: columns that the data source \
             does not know: '{}'; leave them out or have unknown columns ignored",
            unknown.join("', '")
        )))
    }
}
