//! Reads definitions from JSON.
//!
//! Property names are matched without regard to case. A property that is not known is refused: a misspelled one that is
//! ignored would define something else than was meant, for good.

use std::collections::BTreeMap;

use tarn_model::Retention;
use tarn_model::vektonn::{
    AlgorithmDefinition, AutoCreateDefinition, AutoIndexDefinition, ConditionDefinition, DataSourceDefinition,
    IdDefinition, IndexDefinition, ShardDefinition, SharderDefinition, SubscriptionDefinition,
};

use crate::json::{JsonError, Kind, Reader};

type Read<T> = Result<T, JsonError>;

/// Reads a data source's definition.
pub(super) fn data_source(bytes: &[u8]) -> Read<DataSourceDefinition> {
    let mut reader = Reader::new(bytes)?;
    let (mut dimension, mut sparse, mut types, mut permanent) = (None, false, None, None);
    let mut sharders = BTreeMap::new();
    let (mut kept, mut created) = (None, None);
    reader.object("a data source", |r, name| match canonical(name, &DATA_SOURCE) {
        Some("vectorDimension") => r.optional(|r| r.integer("vectorDimension")).map(|v| dimension = v),
        Some("vectorsAreSparse") => {
            r.optional(|r| r.boolean("vectorsAreSparse")).map(|v| sparse = v.unwrap_or_default())
        }
        Some("attributeValueTypes") => {
            r.optional(|r| map(r, "attributeValueTypes", |r| text(r, "a type"))).map(|v| types = v)
        }
        Some("permanentAttributes") => r.optional(|r| texts(r, "permanentAttributes")).map(|v| permanent = v),
        Some("shardersByAttributeKey") => r
            .optional(|r| map(r, "shardersByAttributeKey", |r| r.optional(sharder)))
            .map(|v| sharders = v.unwrap_or_default()),
        Some("retention") => r.optional(retention).map(|v| kept = v),
        Some("autoCreate") => r.optional(auto_create).map(|v| created = v),
        _ => Err(unknown(r, name, &DATA_SOURCE)),
    })?;
    reader.end()?;
    Ok(DataSourceDefinition {
        vector_dimension: required(&reader, "vectorDimension", dimension)?,
        vectors_are_sparse: sparse,
        attribute_value_types: required(&reader, "attributeValueTypes", types)?,
        permanent_attributes: required(&reader, "permanentAttributes", permanent)?,
        sharders_by_attribute_key: sharders,
        retention: kept,
        auto_create: created,
    })
}

/// Reads an index's definition.
pub(super) fn index(bytes: &[u8]) -> Read<IndexDefinition> {
    let mut reader = Reader::new(bytes)?;
    let (mut source, mut index_algorithm, mut ids, mut splits) = (None, None, None, Vec::new());
    let mut shards = BTreeMap::new();
    reader.object("an index", |r, name| match canonical(name, &INDEX) {
        Some("dataSourceId") => r.optional(name_version).map(|v| source = v),
        Some("indexAlgorithm") => r.optional(algorithm).map(|v| index_algorithm = v),
        Some("idAttributes") => r.optional(|r| texts(r, "idAttributes")).map(|v| ids = v),
        Some("splitAttributes") => r.optional(|r| texts(r, "splitAttributes")).map(|v| splits = v.unwrap_or_default()),
        Some("shardsById") => {
            r.optional(|r| map(r, "shardsById", |r| r.optional(shard))).map(|v| shards = v.unwrap_or_default())
        }
        _ => Err(unknown(r, name, &INDEX)),
    })?;
    reader.end()?;
    Ok(IndexDefinition {
        data_source_id: required(&reader, "dataSourceId", source)?,
        index_algorithm: required(&reader, "indexAlgorithm", index_algorithm)?,
        id_attributes: required(&reader, "idAttributes", ids)?,
        split_attributes: splits,
        shards_by_id: shards,
    })
}

const DATA_SOURCE: [&str; 7] = [
    "vectorDimension",
    "vectorsAreSparse",
    "attributeValueTypes",
    "permanentAttributes",
    "shardersByAttributeKey",
    "retention",
    "autoCreate",
];
const RETENTION: [&str; 3] = ["attribute", "keepSeconds", "targetN"];
const AUTO_CREATE: [&str; 2] = ["versions", "indices"];
const AUTO_INDEX: [&str; 4] = ["name", "indexAlgorithm", "idAttributes", "splitAttributes"];
const SHARDER: [&str; 2] = ["numberOfShards", "possibleValues"];
const INDEX: [&str; 5] = ["dataSourceId", "indexAlgorithm", "idAttributes", "splitAttributes", "shardsById"];
const NAME_VERSION: [&str; 2] = ["name", "version"];
const ALGORITHM: [&str; 2] = ["type", "params"];
const SHARD: [&str; 2] = ["shardsByAttributeKey", "dataSourceShardsToConsume"];
const CONDITION: [&str; 4] = ["numberOfShards", "shardValues", "values", "excludedValues"];

const SUBSCRIPTION: [&str; 1] = ["shardingCoordinatesByAttributeKey"];

fn sharder(reader: &mut Reader<'_>) -> Read<SharderDefinition> {
    let mut dto = SharderDefinition::default();
    reader.object("a sharder", |r, name| match canonical(name, &SHARDER) {
        Some("numberOfShards") => r.optional(|r| r.integer("numberOfShards")).map(|v| dto.number_of_shards = v),
        Some("possibleValues") => {
            r.optional(|r| list(r, "possibleValues", value)).map(|v| dto.possible_values = v.unwrap_or_default())
        }
        _ => Err(unknown(r, name, &SHARDER)),
    })?;
    Ok(dto)
}

fn retention(reader: &mut Reader<'_>) -> Read<Retention> {
    let (mut attribute, mut keep_seconds, mut target_points) = (None, None, None);
    reader.object("retention", |r, name| match canonical(name, &RETENTION) {
        Some("attribute") => r.optional(|r| text(r, "attribute")).map(|v| attribute = v),
        Some("keepSeconds") => r.optional(|r| r.integer("keepSeconds")).map(|v| keep_seconds = v),
        Some("targetN") => r.optional(|r| r.integer("targetN")).map(|v| target_points = v),
        _ => Err(unknown(r, name, &RETENTION)),
    })?;
    Ok(Retention { attribute: required(reader, "attribute", attribute)?, keep_seconds, target_points })
}

/// Reads `autoCreate` by itself.
pub(super) fn auto_create_alone(bytes: &[u8]) -> Read<AutoCreateDefinition> {
    let mut reader = Reader::new(bytes)?;
    let definition = auto_create(&mut reader)?;
    reader.end()?;
    Ok(definition)
}

fn auto_create(reader: &mut Reader<'_>) -> Read<AutoCreateDefinition> {
    let mut dto = AutoCreateDefinition::default();
    reader.object("autoCreate", |r, name| match canonical(name, &AUTO_CREATE) {
        Some("versions") => r.optional(|r| r.boolean("versions")).map(|v| dto.versions = v.unwrap_or_default()),
        Some("indices") => r.optional(|r| list(r, "indices", auto_index)).map(|v| dto.indices = v.unwrap_or_default()),
        _ => Err(unknown(r, name, &AUTO_CREATE)),
    })?;
    Ok(dto)
}

fn auto_index(reader: &mut Reader<'_>) -> Read<AutoIndexDefinition> {
    let (mut own, mut index_algorithm, mut ids, mut splits) = (None, None, None, Vec::new());
    reader.object("an index of autoCreate", |r, name| match canonical(name, &AUTO_INDEX) {
        Some("name") => r.optional(|r| text(r, "name")).map(|v| own = v),
        Some("indexAlgorithm") => r.optional(algorithm).map(|v| index_algorithm = v),
        Some("idAttributes") => r.optional(|r| texts(r, "idAttributes")).map(|v| ids = v),
        Some("splitAttributes") => r.optional(|r| texts(r, "splitAttributes")).map(|v| splits = v.unwrap_or_default()),
        _ => Err(unknown(r, name, &AUTO_INDEX)),
    })?;
    Ok(AutoIndexDefinition {
        name: required(reader, "name", own)?,
        index_algorithm: required(reader, "indexAlgorithm", index_algorithm)?,
        id_attributes: required(reader, "idAttributes", ids)?,
        split_attributes: splits,
    })
}

fn name_version(reader: &mut Reader<'_>) -> Read<IdDefinition> {
    let (mut found, mut version) = (None, None);
    reader.object("dataSourceId", |r, name| match canonical(name, &NAME_VERSION) {
        Some("name") => r.optional(|r| text(r, "name")).map(|v| found = v),
        // Versions are text: a bare 1.10 is refused, for it would become 1.1.
        Some("version") => r.optional(|r| text(r, "version")).map(|v| version = v),
        _ => Err(unknown(r, name, &NAME_VERSION)),
    })?;
    let name = required(reader, "name", found)?;
    Ok(IdDefinition { name, version: required(reader, "version", version)? })
}

fn algorithm(reader: &mut Reader<'_>) -> Read<AlgorithmDefinition> {
    let (mut algorithm_type, mut params) = (None, BTreeMap::new());
    reader.object("indexAlgorithm", |r, name| match canonical(name, &ALGORITHM) {
        Some("type") => r.optional(|r| text(r, "type")).map(|v| algorithm_type = v),
        Some("params") => r.optional(|r| map(r, "params", value)).map(|v| params = v.unwrap_or_default()),
        _ => Err(unknown(r, name, &ALGORITHM)),
    })?;
    Ok(AlgorithmDefinition { algorithm_type: required(reader, "type", algorithm_type)?, params })
}

/// Values are strings in Vektonn's files; bare numbers and booleans are taken as written.
fn value(reader: &mut Reader<'_>) -> Read<String> {
    match reader.peek()? {
        Kind::Number => reader.number("a value").map(|number| number.into_owned()),
        Kind::Bool => reader.boolean("a value").map(|value| value.to_string()),
        _ => text(reader, "a value"),
    }
}

fn subscription(reader: &mut Reader<'_>) -> Read<SubscriptionDefinition> {
    let mut dto = SubscriptionDefinition::default();
    let coordinate = |r: &mut Reader<'_>| r.optional(|r| r.integer("a shard's number"));
    reader.object("a subscription", |r, name| match canonical(name, &SUBSCRIPTION) {
        Some(what) => r
            .optional(|r| map(r, what, coordinate))
            .map(|v| dto.sharding_coordinates_by_attribute_key = v.unwrap_or_default()),
        None => Err(unknown(r, name, &SUBSCRIPTION)),
    })?;
    Ok(dto)
}

fn shard(reader: &mut Reader<'_>) -> Read<ShardDefinition> {
    let mut dto = ShardDefinition::default();
    reader.object("a shard", |r, name| match canonical(name, &SHARD) {
        Some("shardsByAttributeKey") => r
            .optional(|r| map(r, "shardsByAttributeKey", |r| r.optional(condition)))
            .map(|v| dto.shards_by_attribute_key = v.unwrap_or_default()),
        Some("dataSourceShardsToConsume") => r
            .optional(|r| list(r, "dataSourceShardsToConsume", subscription))
            .map(|v| dto.data_source_shards_to_consume = v),
        _ => Err(unknown(r, name, &SHARD)),
    })?;
    Ok(dto)
}

fn condition(reader: &mut Reader<'_>) -> Read<ConditionDefinition> {
    let mut dto = ConditionDefinition::default();
    reader.object("a condition", |r, name| match canonical(name, &CONDITION) {
        Some("numberOfShards") => r.optional(|r| r.integer("numberOfShards")).map(|v| dto.number_of_shards = v),
        Some("shardValues") => {
            let residues = |r: &mut Reader<'_>| list(r, "shardValues", |r| r.integer("a shard value"));
            r.optional(residues).map(|v| dto.shard_values = v.unwrap_or_default())
        }
        Some("values") => r.optional(|r| list(r, "values", value)).map(|v| dto.values = v.unwrap_or_default()),
        Some("excludedValues") => {
            r.optional(|r| list(r, "excludedValues", value)).map(|v| dto.excluded_values = v.unwrap_or_default())
        }
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

fn text(reader: &mut Reader<'_>, what: &str) -> Read<String> {
    reader.string(what).map(|text| text.into_owned())
}

fn texts(reader: &mut Reader<'_>, what: &str) -> Read<Vec<String>> {
    list(reader, what, |reader| text(reader, what))
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
