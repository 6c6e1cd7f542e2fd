//! Points whose time is up, held against the reference model with a filter in the place of retention.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use tarn_model::{AttributeValue, Attributes, Filter, Index, Retention, Update};
use tarn_search::{
    Consistency, Engine, EngineSettings, ExportRequest, GroupScore, Grouping, InProcess, PointsRequest, RecallRequest,
    Sample, SampleRequest, SearchRequest, Shape, StatisticsRequest,
};
use tarn_store::Clock;
use tarn_testkit::{Scenario, Scope};

use crate::world::World;

/// Some points expire in the middle of each.
const STEP: Duration = Duration::from_secs(10);
const STEPS: i64 = 6;

fn retention() -> Retention {
    Retention { attribute: "at".into(), keep_seconds: Some(0), target_points: None }
}

async fn perishable(mut scenario: Scenario, seed: u64) -> World {
    Arc::make_mut(&mut scenario.source).policy.retention = Some(retention());
    World::new(scenario, seed).await
}

fn now(world: &World) -> i64 {
    world.clock.now_ms() * 1000
}

/// Points that expire in one of the steps after `start`, and tombstones.
async fn upload(world: &mut World, start: i64, count: i64) {
    let step = i64::try_from(STEP.as_micros()).unwrap();
    let updates = (0..count).map(|serial| {
        if serial % 7 == 6 {
            return world.scenario.tombstone(&mut world.rng);
        }
        let mut point = world.scenario.point(&mut world.rng, serial);
        let until = start + serial % STEPS * step + step / 2;
        point.attributes.insert("at".into(), AttributeValue::DateTime(until));
        Update::Upsert(point)
    });
    let updates = updates.collect();
    world.upload(updates).await;
}

/// What the search is about, without the points that have expired.
fn alive(world: &World, request: &SearchRequest) -> Scope {
    let alive = retention().alive_at(now(world)).unwrap();
    let filter = Filter::And(request.filter.iter().cloned().chain([alive]).collect());
    Scope { split_filter: request.split_filter.clone(), filter: Some(filter) }
}

async fn check(world: &mut World, engine: &Engine, name: &str) -> u64 {
    let index = world.index(name);
    let mut request = world.request(20);
    let scope = alive(world, &request);
    world.check_within(engine, &index, request.clone(), scope.clone()).await;
    let expected = world.reference.indexed_at(&index, u64::MAX, &scope).count() as u64;
    assert_eq!(engine.count(&index.id, Consistency::Strong).await.unwrap(), expected);
    let description = engine.describe(&index.id, 100).await.unwrap();
    assert_eq!(description.points, expected);
    assert_eq!(description.splits.iter().map(|split| split.points).sum::<u64>(), expected);
    let page = PointsRequest { limit: 10_000, ..PointsRequest::default() };
    assert_eq!(engine.points(&index.id, page).await.unwrap().points.len() as u64, expected);
    check_what_reads_points(world, engine, &index, expected).await;
    let red = AttributeValue::String("red".into());
    request.filter = Some(Filter::In { attribute: "colour".into(), values: vec![red] });
    let scope = alive(world, &request);
    world.check_within(engine, &index, request, scope).await;
    expected
}

/// Statistics, samples, exports, groups, stored points and recall know as many points as there are.
async fn check_what_reads_points(world: &mut World, engine: &Engine, index: &Index, expected: u64) {
    let measured = StatisticsRequest { tail: true, exact: true, ..StatisticsRequest::default() };
    let statistics = engine.statistics(&index.id, measured).await.unwrap().statistics;
    assert_eq!(statistics.rows(), expected);
    let draw = SampleRequest { sample: Sample { n: 10_000, seed: 1 }, ..SampleRequest::default() };
    assert_eq!(engine.sample(&index.id, draw).await.unwrap().points.len() as u64, expected);
    let mut export = engine.export(&index.id, ExportRequest::default()).await.unwrap();
    let mut exported = 0;
    while let Some(batch) = export.batches.try_next().await.unwrap() {
        exported += batch.num_rows() as u64;
    }
    assert_eq!(exported, expected);

    let by = |by: &str| Some(Grouping { by: by.into(), limit: 10_000, score: GroupScore::Best, filter: None });
    let shape = Shape { grouping: by("split"), result_limit: Some(1), ..Shape::default() };
    let mut grouped = SearchRequest { exact: true, ..world.request(10_000) };
    (grouped.queries, grouped.shape) = (vec![grouped.queries[0].clone()], Some(Box::new(shape)));
    grouped.split_filter.clear();
    let answer = engine.search(&index.id, grouped).await.unwrap();
    let of_group = answer.groups.unwrap()[0].groups.first().map_or(0, |group| group.points as u64);
    let alive = Scope { split_filter: Attributes::new(), filter: retention().alive_at(now(world)) };
    let of_split = |split: &AttributeValue| {
        let points = world.reference.indexed_at(index, u64::MAX, &alive);
        points.filter(|(_, point)| point.attributes.get("split") == Some(split)).count() as u64
    };
    let first = answer.results[0].first().and_then(|found| found.attributes.iter().find(|(name, _)| name == "split"));
    assert_eq!(of_group, first.map_or(0, |(_, split)| of_split(split)));

    let points: Vec<(Attributes, bool)> = {
        let everything = Scope::default();
        let permanent = &world.scenario.source.permanent_attributes;
        let points = world.reference.indexed_at(index, u64::MAX, &everything);
        let is_alive = |point: &tarn_model::DataPoint| match point.attributes["at"] {
            AttributeValue::DateTime(at) => at > now(world),
            _ => false,
        };
        let id = |point: &tarn_model::DataPoint| {
            let mut id = point.attributes.clone();
            id.retain(|name, _| permanent.contains(name));
            id
        };
        points.map(|(_, point)| (id(point), is_alive(point))).collect()
    };
    for wanted in [true, false] {
        let ids: Vec<Attributes> =
            points.iter().filter(|(_, alive)| *alive == wanted).take(3).map(|(id, _)| id.clone()).collect();
        if !ids.is_empty() {
            let count = ids.len();
            let shape = Shape { query_ids: ids, ..Shape::default() };
            let mut request = SearchRequest::new(Vec::new(), 3);
            request.shape = Some(Box::new(shape));
            match engine.search(&index.id, request).await {
                Ok(answer) => assert!(wanted && answer.stored.len() == count),
                Err(error) => assert!(!wanted && error.to_string().contains("no such point"), "{error}"),
            }
        }
    }
    let recall = RecallRequest { queries: 3, k: 2, ..RecallRequest::default() };
    let report = engine.recall(&index.id, recall).await.unwrap();
    assert!(u64::from(report.queries) <= expected, "{report:?}");
}

async fn expired_points_are_not_found_in(scenario: Scenario, name: &str) {
    let mut world = perishable(scenario, 31).await;
    let index = world.index(name);
    let plain = world.engine();
    let settings = EngineSettings { leaf_bytes: 1, ..world.settings() };
    let leaf = Arc::new(InProcess(world.engine()));
    let rooted = Engine::with_leaves(world.store.clone(), settings, leaf).unwrap();
    let start = now(&world);
    upload(&mut world, start, 150).await;
    let head = world.reference.head();
    world.publish(&index, head, false).await;
    upload(&mut world, start, 60).await;
    let mut before = u64::MAX;
    for step in 0..=STEPS {
        for engine in [&plain, &rooted] {
            let left = check(&mut world, engine, name).await;
            assert!(left < before || left == 0, "{left} points are left in step {step}");
            if std::ptr::eq(engine, &rooted) {
                before = left;
            }
        }
        world.wait(STEP);
    }
    assert_eq!(before, 0, "all have expired");
}

#[tokio::test]
async fn expired_points_are_not_found() {
    expired_points_are_not_found_in(Scenario::dense(), "exact-l2").await;
    expired_points_are_not_found_in(Scenario::dense(), "exact-ip").await;
    expired_points_are_not_found_in(Scenario::dense(), "graph-l2").await;
    expired_points_are_not_found_in(Scenario::sparse(), "jaccard").await;
}

#[tokio::test]
async fn an_upload_that_comes_expired_is_never_found() {
    let mut world = perishable(Scenario::dense(), 32).await;
    let engine = world.engine();
    let start = now(&world) - 3_600_000_000;
    upload(&mut world, start, 40).await;
    assert_eq!(check(&mut world, &engine, "exact-l2").await, 0);
}

#[tokio::test]
async fn a_cap_alone_lets_nothing_expire() {
    let mut scenario = Scenario::dense();
    let cap = Retention { keep_seconds: None, target_points: Some(1), ..retention() };
    Arc::make_mut(&mut scenario.source).policy.retention = Some(cap);
    let mut world = World::new(scenario, 33).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    world.upload_random(80).await;
    let request = world.request(50);
    world.check(&engine, &index, request).await;
}

#[tokio::test]
async fn drift_is_from_what_was_alive_then() {
    let mut world = perishable(Scenario::dense(), 34).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    let start = now(&world);
    upload(&mut world, start, 60).await;
    let head = world.reference.head();
    world.publish(&index, head, false).await;
    let built = world.reference.indexed_at(&index, head, &Scope::default()).count() as u64;
    world.wait(STEP * 2);
    upload(&mut world, start, 10).await;
    let head = world.reference.head();
    world.publish(&index, head, false).await;
    let request = StatisticsRequest { since: Some(1), ..StatisticsRequest::default() };
    let statistics = engine.statistics(&index.id, request.clone()).await.unwrap();
    let drift = statistics.drift.unwrap();
    assert_eq!(drift.points, built, "as many as there were");
    assert!(drift.shift.is_some());
    // Even when none of them is left.
    world.wait(STEP * 100);
    let statistics = engine.statistics(&index.id, request).await.unwrap();
    assert_eq!((statistics.statistics.rows(), statistics.drift.unwrap().points), (0, built));
}
