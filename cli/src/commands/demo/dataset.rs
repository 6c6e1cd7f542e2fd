//! The demo's data, part of the binary: Debian packages and queries, with their vectors.

use arrow::array::AsArray;
use arrow::datatypes::Float16Type;
use bytes::Bytes;
use half::f16;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value as Json, json};

use crate::error::CliError;

/// 6,000 packages with 384-d vectors of their descriptions; a Parquet file that the API takes as it is.
pub(super) static PACKAGES: &[u8] = include_bytes!("../../../../data/debian-packages.parquet");
static QUERIES: &[u8] = include_bytes!("../../../../data/queries.parquet");

/// Points in [`PACKAGES`].
pub(super) const POINTS: u64 = 6_000;
/// The path part of the data source.
pub(super) const SOURCE: &str = "debian/1.0";
/// The path part of the index.
pub(super) const INDEX: &str = "packages/1.0";

/// A text and its vector.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) text: String,
    pub(super) vector: Vec<f32>,
}

/// The data source's definition, as the API takes it. A package is identified by its name and its section.
pub(super) fn source_definition() -> Json {
    json!({
        "vectorDimension": 384,
        "vectorsAreSparse": false,
        "attributeValueTypes": {
            "package": "String", "section": "String", "description": "String", "priority": "String",
            "architecture": "String", "maintainer": "String", "installed_kb": "Int64", "has_gui": "Bool",
        },
        "permanentAttributes": ["package", "section"],
    })
}

/// The index's definition: cosine, a graph for large splits, split by section.
pub(super) fn index_definition() -> Json {
    json!({
        "dataSourceId": { "name": "debian", "version": "1.0" },
        "indexAlgorithm": {
            "type": "Tarn.Cosine",
            "params": { "Hnsw_M": "16", "Hnsw_EfConstruction": "128", "Hnsw_EfSearch": "64" },
        },
        "idAttributes": ["package"],
        "splitAttributes": ["section"],
    })
}

/// The queries.
///
/// # Errors
/// The embedded file is not what this code expects: a fault of the build.
pub(super) fn queries() -> Result<Vec<Query>, CliError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from_static(QUERIES))?.build()?;
    let unexpected = || CliError::new("the embedded queries are not in the expected columns");
    let mut queries = Vec::new();
    for batch in reader {
        let batch = batch?;
        let texts = batch.column_by_name("text").ok_or_else(unexpected)?;
        let texts = texts.as_string_opt::<i32>().ok_or_else(unexpected)?;
        let vectors = batch.column_by_name("vector").ok_or_else(unexpected)?;
        let vectors = vectors.as_fixed_size_list_opt().ok_or_else(unexpected)?;
        for row in 0..batch.num_rows() {
            let values = vectors.value(row);
            let values = values.as_primitive_opt::<Float16Type>().ok_or_else(unexpected)?;
            let vector = values.values().iter().map(|value: &f16| value.to_f32()).collect();
            queries.push(Query { text: texts.value(row).to_owned(), vector });
        }
    }
    Ok(queries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_queries_are_readable() {
        let queries = queries().unwrap();
        assert_eq!(queries.len(), 20);
        assert!(queries.iter().all(|query| query.vector.len() == 384 && !query.text.is_empty()));
    }
}
