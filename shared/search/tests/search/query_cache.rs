//! Kept answers: given again only while nothing has changed.

use std::sync::Arc;

use tarn_model::{KeyPrefix, Retention};
use tarn_search::{Engine, EngineSettings, SearchRequest, SearchResponse};
use tarn_testkit::Scenario;

use crate::world::World;

fn engine(world: &World, bytes: usize) -> Engine {
    let settings = EngineSettings { query_cache_bytes: bytes, ..world.settings() };
    Engine::new(world.store.clone(), settings).unwrap()
}

fn hits(engine: &Engine) -> u64 {
    engine.stats().query_cache_hits
}

async fn twice(engine: &Engine, world: &World, request: &SearchRequest) -> [SearchResponse; 2] {
    let index = world.index("exact-l2");
    [engine.search(&index.id, request.clone()).await.unwrap(), engine.search(&index.id, request.clone()).await.unwrap()]
}

#[tokio::test]
async fn cached_answers_are_current() {
    let mut world = World::new(Scenario::dense(), 41).await;
    let (engine, index) = (engine(&world, 1 << 20), world.index("exact-l2"));
    world.upload_random(120).await;
    let request = world.request(7);
    let mut expected = 0;
    for round in 0..6 {
        // Checked against the reference: an answer of the round before would not do.
        let first = world.check(&engine, &index, request.clone()).await;
        assert_eq!(hits(&engine), expected, "round {round}: something has changed");
        let again = world.check(&engine, &index, request.clone()).await;
        expected += 1;
        assert_eq!(hits(&engine), expected, "round {round}: nothing has changed");
        assert_eq!((again.results, again.version), (first.results, first.version));
        match round % 2 {
            0 => drop(world.upload_random(40).await),
            _ => {
                let head = world.reference.head();
                drop(world.publish(&index, head, false).await);
            }
        }
    }
}

#[tokio::test]
async fn what_differs_in_anything_is_another_search() {
    let mut world = World::new(Scenario::dense(), 42).await;
    let engine = engine(&world, 1 << 20);
    world.upload_random(120).await;
    let request = world.request(7);
    let mut other = request.clone();
    other.queries.reverse();
    let others = [
        SearchRequest { k: 8, ..request.clone() },
        SearchRequest { retrieve_vectors: false, ..request.clone() },
        SearchRequest { attributes: Some(["id", "split", "region"].map(Into::into).into()), ..request.clone() },
        other,
    ];
    let index = world.index("exact-l2");
    engine.search(&index.id, request.clone()).await.unwrap();
    for other in others {
        world.check(&engine, &index, other).await;
        assert_eq!(hits(&engine), 0);
    }
    world.check(&engine, &index, request).await;
    assert_eq!(hits(&engine), 1);
}

#[tokio::test]
async fn what_does_not_last_is_not_kept() {
    let mut world = World::new(Scenario::dense(), 43).await;
    world.upload_random(120).await;
    let request = world.request(7);
    let nothing = engine(&world, 0);
    twice(&nothing, &world, &request).await;
    assert_eq!(hits(&nothing), 0, "no memory for it");
    let little = engine(&world, 100);
    twice(&little, &world, &request).await;
    assert_eq!(hits(&little), 0, "too little memory for it");
    let engine = engine(&world, 1 << 20);
    let late = SearchRequest { deadline: Some(std::time::Duration::ZERO), ..request.clone() };
    let [first, second] = twice(&engine, &world, &late).await;
    assert!(first.coverage < 1.0 && second.coverage < 1.0);
    assert_eq!(hits(&engine), 0, "cut short by a deadline");
    let explained = SearchRequest { explain: true, ..request };
    twice(&engine, &world, &explained).await;
    assert_eq!(hits(&engine), 0, "to be explained");
}

#[tokio::test]
async fn answers_of_points_that_expire_are_not_kept() {
    let mut scenario = Scenario::dense();
    let retention = Retention { attribute: "at".into(), keep_seconds: Some(0), target_points: None };
    Arc::make_mut(&mut scenario.source).policy.retention = Some(retention);
    let mut world = World::new(scenario, 44).await;
    let engine = engine(&world, 1 << 20);
    world.upload_random(120).await;
    let request = world.request(7);
    twice(&engine, &world, &request).await;
    assert_eq!((hits(&engine), engine.stats().query_cache_misses), (0, 0));
}

#[tokio::test]
async fn memory_for_answers_is_bounded() {
    let mut world = World::new(Scenario::dense(), 45).await;
    let engine = engine(&world, 24 << 10);
    world.upload_random(120).await;
    let index = world.index("exact-l2");
    let requests: Vec<SearchRequest> = (0..40).map(|_| world.request(3)).collect();
    for request in &requests {
        engine.search(&index.id, request.clone()).await.unwrap();
    }
    engine.search(&index.id, requests[39].clone()).await.unwrap();
    assert_eq!(hits(&engine), 1, "the last is there");
    engine.search(&index.id, requests[0].clone()).await.unwrap();
    assert_eq!(hits(&engine), 1, "the first has given way");
}

#[tokio::test]
async fn answers_of_an_index_are_not_those_of_another_by_its_name() {
    let mut old = World::new(Scenario::dense(), 46).await;
    let (engine, index) = (engine(&old, 1 << 20), old.index("exact-l2"));
    old.upload_random(30).await;
    old.publish(&index, 1, false).await;
    let request = old.request(20);
    twice(&engine, &old, &request).await;
    assert_eq!(hits(&engine), 1);

    // Deleted, collected and created again while nobody searched: the same definitions and numbers, other points.
    let source = old.scenario.source.id.clone();
    for prefix in [KeyPrefix::Timeline(source, 0), KeyPrefix::Manifests(index.id.clone())] {
        for object in old.store.list(&prefix).await.unwrap() {
            old.store.delete(&object.key.unwrap()).await.unwrap();
        }
    }
    let mut new = World::over(old.store.clone(), Scenario::dense(), 47).await;
    new.upload_random(40).await;
    new.publish(&index, 1, false).await;
    old.wait(old.settings().trust_absence + std::time::Duration::from_millis(1));
    new.check(&engine, &index, request).await;
    assert_eq!(hits(&engine), 1);
}
