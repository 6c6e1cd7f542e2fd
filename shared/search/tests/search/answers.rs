//! What is found: exact search equals the reference, whatever the mixture of segments, deletions and tail.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;
use tarn_model::{AttributeType, AttributeValue, Attributes, CompareOp, Filter, Index, PointKey, Update};
use tarn_search::{Consistency, Engine, EngineSettings, PointsRequest, SearchError, SearchRequest};
use tarn_testkit::{Operation, Scenario, Scope};

use crate::leaves::Leaves;
use crate::world::World;

pub(crate) fn some_filter(world: &mut World) -> Filter {
    let compare = |world: &mut World| {
        let keys: Vec<String> = world.scenario.source.attribute_types.keys().cloned().collect();
        let attribute = keys.choose(&mut world.rng).unwrap().clone();
        let value = world.scenario.value(&mut world.rng, &attribute);
        let mut ops = vec![CompareOp::Eq, CompareOp::Ne];
        if !matches!(value, AttributeValue::Bool(_)) {
            ops.extend([CompareOp::Lt, CompareOp::Lte, CompareOp::Gt, CompareOp::Gte]);
        }
        let op = *ops.choose(&mut world.rng).unwrap();
        Filter::Compare { attribute, op, value }
    };
    match world.rng.random_range(0..6) {
        0 => Filter::And(vec![compare(world), compare(world)]),
        1 => Filter::Or(vec![compare(world), Filter::Not(Box::new(compare(world)))]),
        2 => Filter::In {
            attribute: "colour".into(),
            values: ["red", "green"].map(|v| AttributeValue::String(v.into())).into(),
        },
        3 => Filter::StartsWith { attribute: "colour".into(), prefix: "red".into() },
        4 => Filter::Exists { attribute: "at".into() },
        _ => compare(world),
    }
}

/// Some, all or none of the split attributes.
fn some_split(world: &mut World, index: &Index) -> Attributes {
    let serial = 7;
    let point = world.scenario.point(&mut world.rng, serial);
    let rng = &mut world.rng;
    let fixed = index.split_attributes.iter().filter(|_| rng.random_bool(0.6));
    fixed.map(|key| (key.clone(), point.attributes[key].clone())).collect()
}

async fn equals_the_reference(scenario: Scenario, seed: u64) {
    let mut world = World::new(scenario, seed).await;
    let engine = world.engine();
    all_equal_the_reference(&mut world, &engine).await;
}

/// The same with three leaves, each file a group of its own as far as shards allow.
async fn scattered_equals_the_reference(scenario: Scenario, seed: u64) {
    let mut world = World::new(scenario, seed).await;
    let leaves = Leaves::over((0..3).map(|_| world.engine()).collect());
    let settings = EngineSettings { leaf_bytes: 1, ..world.settings() };
    let root = Engine::with_leaves(world.store.clone(), settings, leaves.clone()).unwrap();
    all_equal_the_reference(&mut world, &root).await;
    assert!(leaves.asked() > 20, "leaves were asked {} times", leaves.asked());
}

async fn all_equal_the_reference(world: &mut World, engine: &Engine) {
    for round in 0..12 {
        for index in world.scenario.indices.clone() {
            for _ in 0..3 {
                let k = [1, 5, 20, 1000][world.rng.random_range(0..4)];
                let mut request = world.request(k);
                request.split_filter = some_split(world, &index);
                request.filter = world.rng.random_bool(0.5).then(|| some_filter(world));
                let response = world.check(engine, &index, request).await;
                assert_eq!(response.version.sequence(0), world.reference.head(), "strong");
            }
            let expected = world.reference.indexed_at(&index, u64::MAX, &Scope::default()).count();
            assert_eq!(engine.count(&index.id, Consistency::Strong).await.unwrap(), expected as u64, "{}", index.id);
            if world.rng.random_ratio(1, 3) {
                let lag = world.rng.random_range(0..4);
                let watermark = world.reference.head().saturating_sub(lag);
                world.publish(&index, watermark, round % 2 == 0).await;
            }
        }
        for _ in 0..world.rng.random_range(0..6) {
            let size = [1, 3, 40][world.rng.random_range(0..3)];
            world.upload_random(size).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exact_dense_search_equals_the_reference() {
    for seed in 0..4 {
        equals_the_reference(Scenario::dense(), seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn search_through_leaves_equals_the_reference() {
    for seed in 0..2 {
        scattered_equals_the_reference(Scenario::dense(), 200 + seed).await;
        scattered_equals_the_reference(Scenario::sparse(), 300 + seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sparse_search_equals_the_reference() {
    for seed in 0..4 {
        equals_the_reference(Scenario::sparse(), 100 + seed).await;
    }
}

#[tokio::test]
async fn an_index_that_was_never_built_answers_from_the_timeline() {
    let mut world = World::new(Scenario::dense(), 1).await;
    let (engine, index) = (world.engine(), world.index("graph-l2"));
    let request = world.request(5);
    let response = world.check(&engine, &index, request.clone()).await;
    assert_eq!((response.generation, response.version.sequence(0)), (0, 0));
    for _ in 0..20 {
        world.upload_random(7).await;
    }
    let response = world.check(&engine, &index, request).await;
    assert_eq!((response.generation, response.version.sequence(0)), (0, 20));
}

#[tokio::test]
async fn tombstones_only_mask() {
    let mut world = World::new(Scenario::dense(), 2).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    let points: Vec<_> = (0..50).map(|serial| world.scenario.point(&mut world.rng, serial)).collect();
    world.upload(points.iter().cloned().map(Update::Upsert).collect()).await;
    world.publish(&index, 1, true).await;
    world.upload(points.iter().map(|point| Update::Delete(point.attributes.clone())).collect()).await;
    let request = world.request(100);
    let response = world.check(&engine, &index, request.clone()).await;
    assert!(response.results.iter().all(Vec::is_empty));
    assert_eq!(engine.count(&index.id, Consistency::Strong).await.unwrap(), 0);
    world.upload(points.into_iter().map(Update::Upsert).collect()).await;
    let response = world.check(&engine, &index, request).await;
    assert!(!response.results[0].is_empty());
}

#[tokio::test]
async fn found_points_carry_the_attributes_asked_for_in_wire_order() {
    let mut world = World::new(Scenario::dense(), 3).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    world.upload_random(50).await;
    let mut request = world.request(3);
    request.attributes = Some(vec!["serial".into(), "region".into(), "split".into()]);
    request.retrieve_vectors = false;
    let response = engine.search(&index.id, request).await.unwrap();
    let found = &response.results[0][0];
    assert_eq!(found.attributes.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["region", "split", "serial"]);
    assert_eq!(found.vector, None);
}

#[tokio::test]
async fn attributes_whose_names_look_like_our_own_columns_are_found_by_their_names() {
    let mut scenario = Scenario::dense();
    let mut source = (*scenario.source).clone();
    for name in ["_key", "_vector", "__deleted"] {
        source.attribute_types.insert(name.into(), AttributeType::Int64);
    }
    scenario.source = Arc::new(source);
    let mut world = World::new(scenario, 10).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    for number in 0..20 {
        let mut point = world.scenario.point(&mut world.rng, number);
        for (name, value) in [("_key", number), ("_vector", -number), ("__deleted", number % 3)] {
            point.attributes.insert(name.into(), AttributeValue::Int64(value));
        }
        let token = world.upload(vec![Update::Upsert(point)]).await;
        if number == 9 {
            world.publish(&index, token.sequence(0), false).await;
        }
    }
    let mut request = world.request(100);
    world.check(&engine, &index, request.clone()).await;
    request.filter =
        Some(Filter::Compare { attribute: "_vector".into(), op: CompareOp::Lt, value: AttributeValue::Int64(-5) });
    world.check(&engine, &index, request).await;
}

#[tokio::test]
async fn requests_that_do_not_fit_are_refused_with_all_their_messages() {
    let mut world = World::new(Scenario::dense(), 4).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    let refused = async |change: &dyn Fn(&mut SearchRequest)| {
        let mut request = SearchRequest::new(vec![tarn_model::Vector::Dense(vec![0.0; 8])], 1);
        change(&mut request);
        match engine.search(&index.id, request).await {
            Err(SearchError::Invalid(error)) => error.messages,
            other => panic!("{other:?}"),
        }
    };
    let none = |r: &mut SearchRequest| (r.k, r.queries) = (0, vec![]);
    assert_eq!(refused(&none).await, ["K must be positive", "At least one query vector is required"]);
    let colour = |r: &mut SearchRequest| drop(r.split_filter.insert("colour".into(), AttributeValue::Bool(true)));
    assert_eq!(refused(&colour).await, ["SplitFilter attribute keys must be in SplitAttributes: {split}"]);
    let unknown = |r: &mut SearchRequest| r.attributes = Some(vec!["nope".into()]);
    assert_eq!(refused(&unknown).await, ["attributes names 'nope', which the data source does not have"]);
    let typed = |r: &mut SearchRequest| {
        r.filter =
            Some(Filter::Compare { attribute: "flag".into(), op: CompareOp::Lt, value: AttributeValue::Bool(true) });
    };
    assert_eq!(refused(&typed).await, ["filter: 'flag' is a bool and has no order"]);
    let recall = |r: &mut SearchRequest| (r.target_recall, r.ef_search) = (Some(f32::NAN), Some(0));
    assert_eq!(refused(&recall).await.len(), 2);
    let short = |r: &mut SearchRequest| r.queries = vec![tarn_model::Vector::Dense(vec![0.0; 7])];
    assert_eq!(refused(&short).await, ["Vector coordinates must have dimension: 8"]);
    world.upload_random(1).await;
    let nobody = tarn_model::IndexId { name: "nobody".into(), version: "1".into() };
    let request = world.request(1);
    assert!(matches!(engine.search(&nobody, request).await, Err(SearchError::IndexNotFound(id)) if id == nobody));
}

#[tokio::test]
async fn a_deadline_that_has_passed_leaves_rows_out_and_says_so() {
    let mut world = World::new(Scenario::dense(), 5).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    world.upload_random(200).await;
    world.publish(&index, 1, false).await;
    let mut request = world.request(5);
    request.deadline = Some(Duration::ZERO);
    let response = engine.search(&index.id, request).await.unwrap();
    assert!(response.coverage < 1.0, "{}", response.coverage);
}

#[tokio::test]
async fn a_file_that_is_not_there_at_the_deadline_is_left_out_and_the_answer_says_so() {
    let (mut world, faults) = World::faulty(Scenario::dense(), 11).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    world.upload_random(100).await;
    world.publish(&index, 1, false).await;
    let tail: Vec<_> = (1000..1003).map(|serial| world.scenario.point(&mut world.rng, serial)).collect();
    world.upload(tail.into_iter().map(Update::Upsert).collect()).await;
    let held = faults.hold(Operation::Get, "/segments/");
    let mut request = world.request(5);
    request.deadline = Some(Duration::from_secs(600));
    // The test's clock does not wait: it is ten minutes later at once.
    let response = engine.search(&index.id, request.clone()).await.unwrap();
    assert!(response.coverage < 1.0, "{}", response.coverage);
    held.arrived().await;
    held.release();
    request.deadline = None;
    world.check(&engine, &index, request).await;
}

#[tokio::test]
async fn pages_hold_every_live_point_once_in_key_order() {
    for (scenario, index) in [(Scenario::dense(), "exact-ip"), (Scenario::sparse(), "jaccard")] {
        pages_equal_the_reference(World::new(scenario, 6).await, index).await;
    }
}

async fn pages_equal_the_reference(mut world: World, index: &str) {
    let (engine, index) = (world.engine(), world.index(index));
    for _ in 0..5 {
        world.upload_random(60).await;
    }
    world.publish(&index, 3, false).await;
    let mut keys: Vec<PointKey> = Vec::new();
    let mut after = None;
    loop {
        let request =
            PointsRequest { after: after.take(), limit: 7, retrieve_vectors: true, ..PointsRequest::default() };
        let page = engine.points(&index.id, request).await.unwrap();
        for point in &page.points {
            let expected = world.reference.live_at(u64::MAX).find(|(key, _)| **key == point.key).unwrap().1;
            assert_eq!(point.vector.as_ref(), Some(&expected.vector));
            assert_eq!(point.attributes.iter().cloned().collect::<Attributes>(), expected.attributes);
        }
        keys.extend(page.points.into_iter().map(|point| point.key));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let everything = Scope::default();
    let expected = world.reference.indexed_at(&index, u64::MAX, &everything);
    assert_eq!(keys, expected.map(|(key, _)| key.clone()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_description_counts_the_live_points_of_every_shard_and_split() {
    let mut world = World::new(Scenario::dense(), 7).await;
    let engine = world.engine();
    for _ in 0..6 {
        world.upload_random(60).await;
    }
    for index in world.scenario.indices.clone() {
        world.publish(&index, 4, false).await;
        let description = engine.describe(&index.id, 1000).await.unwrap();
        assert_eq!((description.generation, description.lag_deltas), (1, 2));
        assert_eq!((description.watermark.sequence(0), description.head.sequence(0)), (4, 6));
        let expected = world.reference.indexed_at(&index, u64::MAX, &Scope::default()).count() as u64;
        assert_eq!(description.points, expected);
        assert_eq!(description.shards.iter().map(|shard| shard.points).sum::<u64>(), expected);
        assert_eq!(description.splits.iter().map(|split| split.points).sum::<u64>(), expected);
        for split in &description.splits {
            let scope = Scope { split_filter: split.attributes.clone(), filter: None };
            let points = world.reference.indexed_at(&index, u64::MAX, &scope);
            let here = points.filter(|(_, p)| index.shard_of(&p.attributes) == Some(&split.shard));
            assert_eq!(split.points, here.count() as u64, "{split:?} of {}", index.id);
        }
        let first = engine.describe(&index.id, 1).await.unwrap();
        assert_eq!((first.splits.len(), first.splits_total), (1, description.splits.len() as u64));
    }
}

#[tokio::test]
async fn graphs_find_nearly_everything_with_updates_deletes_and_filters() {
    let mut world = World::new(Scenario::dense(), 8).await;
    let (engine, index) = (world.engine(), world.index("graph-l2"));
    for _ in 0..10 {
        world.upload_random(100).await;
    }
    world.publish(&index, 8, false).await;
    let (mut found, mut wanted) = (0, 0);
    for _ in 0..50 {
        let mut request = world.request(10);
        request.exact = false;
        let response = engine.search(&index.id, request.clone()).await.unwrap();
        for (query, answers) in request.queries.iter().zip(&response.results) {
            let ranked = world.reference.ranked(&index, u64::MAX, &Scope::default(), query);
            let cut = ranked[9].distance + 1e-5;
            found += answers.iter().filter(|answer| answer.distance <= cut).count();
            wanted += 10;
        }
    }
    assert!(found * 100 >= wanted * 95, "recall {found}/{wanted}");
}

#[tokio::test]
async fn clones_share_everything() {
    let mut world = World::new(Scenario::dense(), 9).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    world.upload_random(20).await;
    world.publish(&index, 1, false).await;
    let request = world.request(1);
    world.check(&engine, &index, request.clone()).await;
    let before = world.requests.counts();
    world.check(&engine.clone(), &Arc::clone(&index), request).await;
    assert_eq!(world.requests.counts().since(&before).gets, 2, "a clone is as warm as the original");
}
