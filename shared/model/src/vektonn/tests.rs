//! Specification of the import of Vektonn's definitions.

use serde_json::{Value, json};

use super::*;
use crate::index::{HnswParams, Metric};

fn source_id() -> DataSourceId {
    DataSourceId { name: "Films".into(), version: "1.10".into() }
}

fn index_id() -> IndexId {
    IndexId { name: "Films.ByPlot".into(), version: "1.0".into() }
}

fn source(definition: Value) -> Result<DataSource, ValidationError> {
    serde_json::from_value::<DataSourceDefinition>(definition).expect("parses").into_data_source(source_id())
}

fn sharded_source() -> DataSource {
    source(json!({
        "vectorDimension": 3,
        "attributeValueTypes": {"id": "int64", "kind": "STRING", "on": "Bool", "note": "String"},
        "permanentAttributes": ["id", "kind", "on"],
        "shardersByAttributeKey": {"id": {"numberOfShards": 4}, "on": {"possibleValues": ["True", "false"]}},
    }))
    .expect("valid")
}

fn index(shards: Value) -> Result<Index, ValidationError> {
    let definition = json!({
        "dataSourceId": {"name": "Films", "version": "1.10"},
        "indexAlgorithm": {"type": "FaissIndex.L2", "params": {"Hnsw_M": "8", "Hnsw_EfConstruction": "9", "Hnsw_EfSearch": "10"}},
        "idAttributes": ["id", "on"],
        "splitAttributes": ["kind"],
        "shardsById": shards,
    });
    let definition: IndexDefinition = serde_json::from_value(definition).expect("parses");
    definition.into_index(index_id(), &sharded_source())
}

fn conditions(shard: Value) -> Result<BTreeMap<String, ShardCondition>, String> {
    match index(json!({"s": shard})) {
        Ok(index) => Ok(index.shards["s"].conditions.clone()),
        Err(error) => Err(error.to_string()),
    }
}

fn hash(number_of_shards: u32, residues: &[u32]) -> ShardCondition {
    ShardCondition::Hash { number_of_shards, residues: residues.iter().copied().collect() }
}

#[test]
fn a_data_source_means_what_it_means_in_vektonn() {
    let source = sharded_source();
    assert_eq!(source.id.version, "1.10");
    assert_eq!(source.vector_kind, VectorKind::Dense);
    assert_eq!(source.attribute_types["kind"], AttributeType::String);
    assert_eq!(source.sharders["id"], Sharder::Hash { number_of_shards: 4 });
    let possible_values = vec![AttributeValue::Bool(true), AttributeValue::Bool(false)];
    assert_eq!(source.sharders["on"], Sharder::Values { possible_values });
}

#[test]
fn bad_data_sources_say_what_is_wrong() {
    let error = |definition| source(definition).expect_err("refused").to_string();
    assert_eq!(
        error(json!({"attributeValueTypes": {"id": "Int32"}})),
        "attribute 'id' has type 'Int32'; the types are: String, Guid, Bool, Int64, Float64, DateTime"
    );
    assert_eq!(
        error(json!({"attributeValueTypes": {"id": "Int64"}, "shardersByAttributeKey": {"id": null}})),
        "sharder of 'id' needs either numberOfShards or possibleValues"
    );
    assert_eq!(
        error(
            json!({"attributeValueTypes": {"id": "Int64"}, "shardersByAttributeKey": {"id": {"possibleValues": ["x"]}}})
        ),
        "sharder of 'id' lists 'x', which is not of type Int64"
    );
    assert_eq!(
        error(json!({"vectorDimension": 2, "attributeValueTypes": {"id": "Int64"}, "permanentAttributes": null})),
        "permanentAttributes is empty; name the attributes that identify a point"
    );
}

#[test]
fn an_index_means_what_it_means_in_vektonn() {
    let index = index(json!({"SingleShard": {}})).expect("valid");
    assert_eq!(index.data_source, source_id());
    assert_eq!(index.algorithm.metric, Metric::L2);
    assert_eq!(index.algorithm.hnsw, Some(HnswParams { m: 8, ef_construction: 9, ef_search: 10 }));
    assert_eq!(index.shards, BTreeMap::from([("SingleShard".to_owned(), Shard::default())]));
}

#[test]
fn an_index_without_shards_has_a_single_one() {
    assert_eq!(index(json!(null)).expect("valid").shards, Index::single_shard());
    assert_eq!(index(json!({"s": null})).expect("valid").shards["s"], Shard::default());
}

#[test]
fn shards_can_be_by_hash_by_value_and_by_complement() {
    let of = |condition: Value| conditions(json!({"shardsByAttributeKey": {"id": condition}})).map(|c| c["id"].clone());
    let ints = vec![AttributeValue::Int64(1), AttributeValue::Int64(2)];
    assert_eq!(of(json!({"numberOfShards": 3, "shardValues": [0, 2]})), Ok(hash(3, &[0, 2])));
    assert_eq!(of(json!({"values": ["1", "2"]})), Ok(ShardCondition::Values(ints.clone())));
    assert_eq!(of(json!({"excludedValues": ["1", "2"]})), Ok(ShardCondition::Complement(ints)));
    assert_eq!(
        of(json!(null)),
        Err("shard 's', attribute 'id' needs numberOfShards with shardValues, or values, or excludedValues".to_owned())
    );
    assert_eq!(
        of(json!({"values": ["x"]})),
        Err("shard 's', attribute 'id' lists 'x', which is not of type Int64".to_owned())
    );
}

#[test]
fn consuming_some_data_source_shards_narrows_the_shard() {
    let consume = |coordinates: Value| json!({"dataSourceShardsToConsume": coordinates});
    let by_id = |coordinate: Value| json!({"shardingCoordinatesByAttributeKey": {"id": coordinate}});
    assert_eq!(conditions(consume(json!(null))), Ok(BTreeMap::new()));
    assert_eq!(conditions(consume(json!([{}]))), Ok(BTreeMap::new()));
    assert_eq!(conditions(consume(json!([by_id(json!(null))]))), Ok(BTreeMap::new()));
    let narrowed = BTreeMap::from([("id".to_owned(), hash(4, &[1, 3]))]);
    assert_eq!(conditions(consume(json!([by_id(json!(1)), by_id(json!(3))]))), Ok(narrowed));

    let mut both = consume(json!([by_id(json!(1)), by_id(json!(2))]));
    both["shardsByAttributeKey"] = json!({"id": {"numberOfShards": 6, "shardValues": [1]}});
    // Modulo 12: 1 or 2 modulo 4, and 1 modulo 6.
    assert_eq!(conditions(both), Ok(BTreeMap::from([("id".to_owned(), hash(12, &[1]))])));
}

#[test]
fn subscriptions_that_make_no_sense_here_are_refused() {
    let error =
        |coordinates: Value| conditions(json!({"dataSourceShardsToConsume": coordinates})).expect_err("refused");
    assert!(error(json!([])).contains("would stay empty"));
    let on = |entries: Value| json!({"shardingCoordinatesByAttributeKey": entries});
    assert!(error(json!([on(json!({"kind": 1}))])).contains("does not shard by hash"));
    assert!(error(json!([on(json!({"id": 4}))])).contains("it has only 4"));
    assert!(error(json!([on(json!({"id": 1})), on(json!({"kind": 1}))])).contains("no product of sets"));
}
