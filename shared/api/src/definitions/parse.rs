//! Reads definitions from JSON.
//!
//! Property names are matched without regard to case. A property that is not known is refused: a misspelled one that is
//! ignored would define something else than was meant, for good.

use std::collections::BTreeMap;

use crate::dto::{
    AttributeValueDto, DataSourceDefinitionDto, IndexAlgorithmDto, IndexDefinitionDto, NameVersionDto, ShardConditionDto,
    ShardDto, SharderDto,
};
use crate::json::{JsonError, Kind, Reader, read_value};

type Read<T> = Result<T, JsonError>;

/// Reads a data source's definition.
pub(super) fn data_source(bytes: &[u8]) -> Read<DataSourceDefinitionDto> {
    let mut reader = Reader::new(bytes)?;
    let (mut dimension, mut sparse, mut types, mut permanent) = (None, false, None, None);
    let mut sharders = BTreeMap::new();
    reader.object("a data source", |r, name| match canonical(name, &DATA_SOURCE) {
        Some("vectorDimension") => optional(r, |r| r.integer("vectorDimension")).map(|v| dimension = v),
        Some("vectorsAreSparse") => {
            optional(r, |r| r.boolean("vectorsAreSparse")).map(|v| sparse = v.unwrap_or_default())
        }
        Some("attributeValueTypes") => {
            optional(r, |r| map(r, "attributeValueTypes", |r| text(r, "a type"))).map(|v| types = v)
        }
        Some("permanentAttributes") => optional(r, |r| texts(r, "permanentAttributes")).map(|v| permanent = v),
        Some("shardersByAttributeKey") => {
            optional(r, |r| map(r, "shardersByAttributeKey", sharder)).map(|v| sharders = v.unwrap_or_default())
        }
        _ => Err(unknown(r, name, &DATA_SOURCE)),
    })?;
    reader.end()?;
    Ok(DataSourceDefinitionDto {
        vector_dimension: required(&reader, "vectorDimension", dimension)?,
        vectors_are_sparse: sparse,
        attribute_value_types: required(&reader, "attributeValueTypes", types)?,
        permanent_attributes: required(&reader, "permanentAttributes", permanent)?,
        sharders_by_attribute_key: sharders,
    })
}

/// Reads an index's definition.
pub(super) fn index(bytes: &[u8]) -> Read<IndexDefinitionDto> {
    let mut reader = Reader::new(bytes)?;
    let (mut source, mut index_algorithm, mut ids, mut splits) = (None, None, None, Vec::new());
    let mut shards = BTreeMap::new();
    reader.object("an index", |r, name| match canonical(name, &INDEX) {
        Some("dataSourceId") => optional(r, name_version).map(|v| source = v),
        Some("indexAlgorithm") => optional(r, algorithm).map(|v| index_algorithm = v),
        Some("idAttributes") => optional(r, |r| texts(r, "idAttributes")).map(|v| ids = v),
        Some("splitAttributes") => {
            optional(r, |r| texts(r, "splitAttributes")).map(|v| splits = v.unwrap_or_default())
        }
        Some("shardsById") => optional(r, |r| map(r, "shardsById", shard)).map(|v| shards = v.unwrap_or_default()),
        _ => Err(unknown(r, name, &INDEX)),
    })?;
    reader.end()?;
    Ok(IndexDefinitionDto {
        data_source_id: required(&reader, "dataSourceId", source)?,
        index_algorithm: required(&reader, "indexAlgorithm", index_algorithm)?,
        id_attributes: required(&reader, "idAttributes", ids)?,
        split_attributes: splits,
        shards_by_id: shards,
    })
}

const DATA_SOURCE: [&str; 5] =
    ["vectorDimension", "vectorsAreSparse", "attributeValueTypes", "permanentAttributes", "shardersByAttributeKey"];
const SHARDER: [&str; 2] = ["numberOfShards", "possibleValues"];
const INDEX: [&str; 5] = ["dataSourceId", "indexAlgorithm", "idAttributes", "splitAttributes", "shardsById"];
const NAME_VERSION: [&str; 2] = ["name", "version"];
const ALGORITHM: [&str; 2] = ["type", "params"];
const SHARD: [&str; 2] = ["shardsByAttributeKey", "dataSourceShardsToConsume"];
const CONDITION: [&str; 4] = ["numberOfShards", "shardValues", "values", "complement"];

fn sharder(reader: &mut Reader<'_>) -> Read<SharderDto> {
    let mut dto = SharderDto::default();
    reader.object("a sharder", |r, name| match canonical(name, &SHARDER) {
        Some("numberOfShards") => optional(r, |r| r.integer("numberOfShards")).map(|v| dto.number_of_shards = v),
        Some("possibleValues") => optional(r, |r| values(r, "possibleValues")).map(|v| dto.possible_values = v),
        _ => Err(unknown(r, name, &SHARDER)),
    })?;
    Ok(dto)
}

fn name_version(reader: &mut Reader<'_>) -> Read<NameVersionDto> {
    let (mut found, mut version) = (None, None);
    reader.object("dataSourceId", |r, name| match canonical(name, &NAME_VERSION) {
        Some("name") => optional(r, |r| text(r, "name")).map(|v| found = v),
        // Versions are text: a bare 1.10 is refused, for it would become 1.1.
        Some("version") => optional(r, |r| text(r, "version")).map(|v| version = v),
        _ => Err(unknown(r, name, &NAME_VERSION)),
    })?;
    let name = required(reader, "name", found)?;
    Ok(NameVersionDto { name, version: required(reader, "version", version)? })
}

fn algorithm(reader: &mut Reader<'_>) -> Read<IndexAlgorithmDto> {
    let (mut algorithm_type, mut params) = (None, BTreeMap::new());
    reader.object("indexAlgorithm", |r, name| match canonical(name, &ALGORITHM) {
        Some("type") => optional(r, |r| text(r, "type")).map(|v| algorithm_type = v),
        Some("params") => {
            optional(r, |r| map(r, "params", parameter)).map(|v| params = v.unwrap_or_default())
        }
        _ => Err(unknown(r, name, &ALGORITHM)),
    })?;
    Ok(IndexAlgorithmDto { algorithm_type: required(reader, "type", algorithm_type)?, params })
}

/// Parameters are strings; a bare number is taken for one.
fn parameter(reader: &mut Reader<'_>) -> Read<String> {
    match reader.peek()? {
        Kind::Number => reader.number("a parameter").map(|number| number.into_owned()),
        _ => text(reader, "a parameter"),
    }
}

fn shard(reader: &mut Reader<'_>) -> Read<ShardDto> {
    let mut dto = ShardDto::default();
    reader.object("a shard", |r, name| match canonical(name, &SHARD) {
        Some("shardsByAttributeKey") => optional(r, |r| map(r, "shardsByAttributeKey", condition))
            .map(|v| dto.shards_by_attribute_key = v.unwrap_or_default()),
        Some("dataSourceShardsToConsume") => r.skip(),
        _ => Err(unknown(r, name, &SHARD)),
    })?;
    Ok(dto)
}

fn condition(reader: &mut Reader<'_>) -> Read<ShardConditionDto> {
    let mut dto = ShardConditionDto::default();
    reader.object("a condition", |r, name| match canonical(name, &CONDITION) {
        Some("numberOfShards") => optional(r, |r| r.integer("numberOfShards")).map(|v| dto.number_of_shards = v),
        Some("shardValues") => {
            let residues = |r: &mut Reader<'_>| list(r, "shardValues", |r| r.integer("a shard value"));
            optional(r, residues).map(|v| dto.shard_values = v)
        }
        Some("values") => optional(r, |r| values(r, "values")).map(|v| dto.values = v),
        Some("complement") => optional(r, |r| values(r, "complement")).map(|v| dto.complement = v),
        _ => Err(unknown(r, name, &CONDITION)),
    })?;
    Ok(dto)
}

fn canonical(name: &str, known: &[&'static str]) -> Option<&'static str> {
    known.iter().find(|known| known.eq_ignore_ascii_case(name)).copied()
}

fn unknown(reader: &Reader<'_>, name: &str, known: &[&str]) -> JsonError {
    let name: String = name.chars().take(80).collect();
    reader.error(format!("'{name}' is not a property here; the properties are {}", known.join(", ")))
}

fn required<T>(reader: &Reader<'_>, name: &str, value: Option<T>) -> Read<T> {
    value.ok_or_else(|| reader.error(format!("'{name}' is missing")))
}

fn optional<T>(reader: &mut Reader<'_>, read: impl FnOnce(&mut Reader<'_>) -> Read<T>) -> Read<Option<T>> {
    if reader.null()? { Ok(None) } else { read(reader).map(Some) }
}

fn text(reader: &mut Reader<'_>, what: &str) -> Read<String> {
    reader.string(what).map(|text| text.into_owned())
}

fn texts(reader: &mut Reader<'_>, what: &str) -> Read<Vec<String>> {
    list(reader, what, |reader| text(reader, what))
}

fn values(reader: &mut Reader<'_>, what: &str) -> Read<Vec<AttributeValueDto>> {
    list(reader, what, |reader| {
        let start = reader.position();
        match read_value(reader)?.set().as_slice() {
            [value] => Ok(AttributeValueDto::from(value)),
            _ => Err(reader.error_at(start, "a value must have exactly one property")),
        }
    })
}

fn list<T>(reader: &mut Reader<'_>, what: &str, mut read: impl FnMut(&mut Reader<'_>) -> Read<T>) -> Read<Vec<T>> {
    let mut list = Vec::new();
    reader.array(what, |reader| read(reader).map(|element| list.push(element)))?;
    Ok(list)
}

fn map<T>(
    reader: &mut Reader<'_>,
    what: &str,
    mut read: impl FnMut(&mut Reader<'_>) -> Read<T>,
) -> Read<BTreeMap<String, T>> {
    let mut map = BTreeMap::new();
    reader.object(what, |reader, key| read(reader).map(|value| drop(map.insert(key.to_owned(), value))))?;
    Ok(map)
}
