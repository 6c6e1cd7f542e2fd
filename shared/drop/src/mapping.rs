//! Which column of a dropped file feeds what: a JSON file beside it, one for its folder, or the names as they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tarn_model::{DataSource, DataSourceId, DropPath, ObjectKey, VectorKind, limits};
use tarn_rows::RowNames;
use tarn_store::Store;
use tarn_timeline::ColumnMapping;

use crate::detect::FileFormat;
use crate::error::DropError;
use crate::report::DropReport;

/// What a mapping beside a file ends with.
const BESIDE: &str = ".mapping.json";
/// The mapping of a folder and of the folders in it.
const OF_FOLDER: &str = "_mapping.json";
/// What marks tombstones when no mapping says otherwise.
const DELETED: [&str; 3] = ["isDeleted", "_deleted", "deleted"];

/// Which column feeds what. What is left out is found by name: attributes under their own, the vector as `vector` (sparse also
/// `indices` and `values`), tombstones by `isDeleted`. Columns that feed nothing are skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DropMapping {
    /// Attribute to column.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// The vector's column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector: Option<String>,
    /// The column of a sparse vector's indices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub indices: Option<String>,
    /// The column of a sparse vector's values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<String>,
    /// The boolean column that marks tombstones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_deleted: Option<String>,
    /// The file's format, when its name does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
}

impl DropMapping {
    /// For rows of text.
    pub(crate) fn row_names(&self, source: &DataSource) -> RowNames {
        let mut names = RowNames::of(source);
        for (key, column) in &self.attributes {
            names.rename(key, column);
        }
        if let Some(column) = &self.vector {
            names.vector.clone_from(column);
        }
        if let Some(column) = &self.indices {
            names.parts.0.clone_from(column);
        }
        if let Some(column) = &self.values {
            names.parts.1.clone_from(column);
        }
        names.deleted = DELETED.iter().map(|&name| name.to_owned()).collect();
        names.deleted.retain(|mark| names.attributes.iter().all(|(_, _, column)| column != mark));
        if let Some(column) = &self.is_deleted {
            names.mark_deleted_by(column);
        }
        names
    }

    /// For columns of these names.
    pub(crate) fn column_mapping(&self, source: &DataSource, columns: &[&str]) -> ColumnMapping {
        let taken = |name: &str| {
            self.attributes.values().any(|column| column == name)
                || (source.attribute_types.contains_key(name) && !self.attributes.contains_key(name))
        };
        let default = || DELETED.into_iter().find(|name| columns.contains(name) && !taken(name)).map(str::to_owned);
        let dense = source.vector_kind == VectorKind::Dense;
        ColumnMapping {
            attributes: self.attributes.clone(),
            vector: self.vector.clone().filter(|_| dense),
            indices: self.indices.clone().filter(|_| !dense),
            values: self.values.clone().filter(|_| !dense),
            deleted: self.is_deleted.clone().or_else(default),
            ignore_unknown: true,
        }
    }

    fn check(&self, source: &DataSource) -> Result<(), String> {
        match self.attributes.keys().find(|key| !source.attribute_types.contains_key(*key)) {
            None => Ok(()),
            Some(unknown) => {
                let known = source.attribute_types.keys().cloned().collect::<Vec<_>>().join(", ");
                Err(format!("it maps the attribute '{unknown}'; the data source has {known}"))
            }
        }
    }
}

/// Whether a file in the drop folder is a mapping for others.
pub(crate) fn is_mapping(path: &DropPath) -> bool {
    path.file_name() == OF_FOLDER || path.file_name().ends_with(BESIDE)
}

/// The mapping of a file, or why it cannot be used.
pub(crate) async fn load(
    store: &Store,
    source: &DataSource,
    path: &DropPath,
) -> Result<Result<DropMapping, DropReport>, DropError> {
    let mut candidates = Vec::new();
    candidates.extend(path.sibling(&format!("{}{BESIDE}", path.file_name())));
    let mut folder = path.as_str();
    while let Some((above, _)) = folder.rsplit_once('/') {
        candidates.extend(DropPath::parse(&format!("{above}/{OF_FOLDER}")));
        folder = above;
    }
    candidates.extend(DropPath::parse(OF_FOLDER));
    for candidate in candidates {
        if let Some(bytes) = read(store, &source.id, &candidate).await? {
            return Ok(parse(source, &candidate, bytes));
        }
    }
    Ok(Ok(DropMapping::default()))
}

/// The bytes of a mapping, or how many there are when they are too many.
async fn read(
    store: &Store,
    source: &DataSourceId,
    path: &DropPath,
) -> Result<Option<Result<bytes::Bytes, u64>>, DropError> {
    let key = ObjectKey::Dropped { source: source.clone(), path: path.clone() };
    match store.size(&key).await? {
        None => Ok(None),
        Some(bytes) if bytes > limits::DROP_MAPPING_BYTES => Ok(Some(Err(bytes))),
        Some(_) => Ok(store.get(&key).await?.map(Ok)),
    }
}

fn parse(source: &DataSource, path: &DropPath, bytes: Result<bytes::Bytes, u64>) -> Result<DropMapping, DropReport> {
    let refuse = |what: String| {
        DropReport::file(
            format!("The mapping {path} cannot be used: {what}."),
            "Correct the mapping, then drop the file again.",
        )
    };
    let bytes = bytes
        .map_err(|bytes| refuse(format!("it has {bytes} bytes; at most {} are allowed", limits::DROP_MAPPING_BYTES)))?;
    let mapping: DropMapping = serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
    mapping.check(source).map_err(refuse)?;
    Ok(mapping)
}
