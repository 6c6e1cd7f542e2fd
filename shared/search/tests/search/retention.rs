//! Points whose time is up, held against the reference model with a filter in the place of retention.

use std::sync::Arc;
use std::time::Duration;

use tarn_model::{AttributeValue, Filter, Retention, Update};
use tarn_search::{Consistency, Engine, EngineSettings, InProcess, PointsRequest, SearchRequest};
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
    let red = AttributeValue::String("red".into());
    request.filter = Some(Filter::In { attribute: "colour".into(), values: vec![red] });
    let scope = alive(world, &request);
    world.check_within(engine, &index, request, scope).await;
    expected
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
