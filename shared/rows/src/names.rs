//! Which property or column of a row feeds what.

use tarn_model::{AttributeType, DataSource};

/// Which property or column of a row feeds what. Attributes come first: a column `vector` is the vector only if no attribute
/// has taken it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowNames {
    /// For every attribute of the data source, in order: its key, its type and its property or column.
    pub attributes: Vec<(String, AttributeType, String)>,
    /// The vector: an array of coordinates, or the HTTP API's vector object. In CSV also columns `{vector}_0`, `{vector}_1`, ….
    pub vector: String,
    /// A sparse vector in two parts: arrays of indices and of values. Used when there is no column `vector`.
    pub parts: (String, String),
    /// The tombstone mark: the first of these that is there.
    pub deleted: Vec<String>,
    /// Whether a header must have one of `deleted`. A property may be absent from a row all the same.
    pub deleted_required: bool,
}

impl RowNames {
    /// Every attribute under its own name, the vector as `vector`, or in the parts `indices` and `values`, the tombstone mark
    /// as `isDeleted`.
    pub fn of(source: &DataSource) -> Self {
        let attributes = source.attribute_types.iter().map(|(key, &kind)| (key.clone(), kind, key.clone())).collect();
        let mut names = Self {
            attributes,
            vector: "vector".to_owned(),
            parts: ("indices".to_owned(), "values".to_owned()),
            deleted: vec!["isDeleted".to_owned()],
            deleted_required: false,
        };
        names.deleted.retain(|name| !source.attribute_types.contains_key(name));
        names
    }

    /// Renames the column of an attribute; false when there is no such attribute.
    pub fn rename(&mut self, key: &str, column: &str) -> bool {
        let attribute = self.attributes.iter_mut().find(|(name, _, _)| name == key);
        attribute.map(|(_, _, name)| column.clone_into(name)).is_some()
    }

    /// Names the one column that marks tombstones; a header must have it.
    pub fn mark_deleted_by(&mut self, column: &str) {
        self.deleted = vec![column.to_owned()];
        self.deleted_required = true;
    }

    pub(crate) fn attribute(&self, column: &str) -> Option<(usize, AttributeType)> {
        let found = self.attributes.iter().position(|(_, _, name)| name == column)?;
        Some((found, self.attributes[found].1))
    }
}
