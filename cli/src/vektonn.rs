//! Vektonn's YAML files: text to the model's definitions, which know what they mean.
//!
//! The parser keeps scalars as text where text is declared, so an unquoted version `1.10` is not a number.

use serde::de::DeserializeOwned;
use tarn_model::vektonn::{DataSourceDefinition, IndexDefinition};
use tarn_model::{DataSource, DataSourceId, Index, IndexId};

use crate::error::CliError;

fn parse<T: DeserializeOwned>(yaml: &str) -> Result<T, CliError> {
    serde_saphyr::from_str(yaml).map_err(|error| CliError::new(error.to_string()))
}

/// A data source from its file, checked.
///
/// # Errors
/// The YAML does not parse, or the definition breaks a rule.
pub(crate) fn data_source(id: DataSourceId, yaml: &str) -> Result<DataSource, CliError> {
    Ok(parse::<DataSourceDefinition>(yaml)?.into_data_source(id)?)
}

/// The data source that an index file names.
///
/// # Errors
/// The YAML does not parse, or names none.
pub(crate) fn index_source(yaml: &str) -> Result<DataSourceId, CliError> {
    Ok(parse::<IndexDefinition>(yaml)?.data_source()?)
}

/// An index from its file, checked against its data source.
///
/// # Errors
/// The YAML does not parse, or the definition breaks a rule.
pub(crate) fn index(id: IndexId, yaml: &str, source: &DataSource) -> Result<Index, CliError> {
    Ok(parse::<IndexDefinition>(yaml)?.into_index(id, source)?)
}

#[cfg(test)]
mod tests {
    use tarn_model::{AttributeType, HnswParams, ShardCondition, Sharder};

    use super::*;

    const SOURCE: &str = "
vectorDimension: 32
vectorsAreSparse: false
attributeValueTypes:
  Id: int64
  ShardId: GUID
  Split: Bool
  Payload: DateTime
permanentAttributes: ['Id', ShardId, Split]
shardersByAttributeKey:
  ShardId:
    numberOfShards: 3
somethingElse: {that: is, ignored: true}
";

    fn source() -> DataSource {
        data_source(DataSourceId::new("Test.Source", "1.10").unwrap(), SOURCE).unwrap()
    }

    fn index_of(yaml: &str) -> Result<Index, CliError> {
        index(IndexId::new("Test.Index", "0.1").unwrap(), yaml, &source())
    }

    #[test]
    fn a_data_source_is_read_with_types_in_any_case() {
        let source = source();
        assert_eq!(source.vector_dimension, 32);
        assert_eq!(source.attribute_types["ShardId"], AttributeType::Uuid);
        assert_eq!(source.sharders["ShardId"], Sharder::Hash { number_of_shards: 3 });
    }

    #[test]
    fn an_unquoted_version_and_unquoted_parameters_stay_text() {
        let index = index_of(
            "
dataSourceId:
  name: Test.Source
  version: 1.10
indexAlgorithm:
  type: FaissIndex.L2
  params:
    Hnsw_M: 16
    Hnsw_EfConstruction: '500'
    Hnsw_EfSearch: 200
idAttributes:
- Id
splitAttributes: [Split]
shardsById:
  ShardA:
    shardsByAttributeKey:
      ShardId:
        numberOfShards: 6
        shardValues: [0, 2, 4]
  ShardB:
    shardsByAttributeKey:
      ShardId:
        numberOfShards: 6
        shardValues:
        - 1
        - 3
        - 5
",
        )
        .unwrap();
        assert_eq!(index.data_source.version, "1.10");
        assert_eq!(index.algorithm.hnsw, Some(HnswParams { m: 16, ef_construction: 500, ef_search: 200 }));
        assert_eq!(
            index.shards["ShardB"].conditions["ShardId"],
            ShardCondition::Hash { number_of_shards: 6, residues: [1, 3, 5].into() }
        );
    }

    #[test]
    fn one_shard_may_be_written_as_nothing() {
        for shards in ["", "shardsById:\n", "shardsById:\n  SingleShard:\n", "shardsById:\n  SingleShard: {}\n"] {
            let yaml = format!(
                "dataSourceId: {{name: Test.Source, version: 1.10}}\nindexAlgorithm: {{type: FaissIndex.IP, params: {{}}}}\nidAttributes: [Id]\nsplitAttributes: []\n{shards}"
            );
            let index = index_of(&yaml).unwrap_or_else(|error| panic!("{shards}: {error}"));
            assert_eq!(index.shards.len(), 1, "{shards}");
            assert!(index.shards.values().all(|shard| shard.conditions.is_empty()));
        }
    }

    #[test]
    fn a_broken_file_names_line_and_column() {
        let error = data_source(DataSourceId::new("a", "1").unwrap(), "vectorDimension: many\n").unwrap_err();
        assert!(error.to_string().contains("line 1"), "{error}");
    }

    #[test]
    fn rules_of_definitions_are_checked() {
        let yaml = "dataSourceId: {name: Test.Source, version: 1.10}\nindexAlgorithm: {type: SparnnIndex.Cosine}\nidAttributes: [Id]\n";
        assert!(index_of(yaml).is_err(), "sparse algorithm over dense vectors");
        let yaml = "dataSourceId: {name: Test.Source, version: 1.10}\nindexAlgorithm: {type: FaissIndex.L2}\nidAttributes: [Payload]\n";
        assert!(index_of(yaml).is_err(), "id attribute that is not permanent");
    }
}
