//! What an answer says of how it came about: plans, where bytes came from, requests, and leaves' among them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tarn_search::{
    CacheState, Engine, EngineSettings, InProcess, SearchRequest, SearchResponse, SegmentPlan, SegmentReceipt,
};
use tarn_testkit::{Operation, Scenario};

use crate::world::World;

/// A search that wants to be told.
fn explained(world: &mut World) -> SearchRequest {
    SearchRequest { explain: true, ..world.request(10) }
}

fn states(response: &SearchResponse) -> Vec<CacheState> {
    response.segments.iter().map(|segment| segment.state).collect()
}

#[tokio::test]
async fn a_receipt_names_each_segment_and_how_it_was_searched() {
    for (scenario, name, by) in [
        (Scenario::dense(), "exact-l2", SegmentPlan::Exact),
        (Scenario::sparse(), "cosine-whole", SegmentPlan::Postings),
    ] {
        let mut world = World::new(scenario, 1).await;
        let Some(index) = world.scenario.indices.iter().find(|index| index.id.name == name).cloned() else {
            panic!("{:?}", world.scenario.indices.iter().map(|index| index.id.to_string()).collect::<Vec<_>>())
        };
        let engine = Engine::new(world.store.clone(), world.settings()).unwrap();
        world.upload_random(60).await;
        world.publish(&index, 1, false).await;
        world.upload_random(9).await;
        let plain = world.request(10);
        assert_eq!(engine.search(&index.id, plain).await.unwrap().segments, Vec::<SegmentReceipt>::new());

        let engine = world.engine();
        let request = explained(&mut world);
        let before = world.requests.counts();
        let first = world.check(&engine, &index, request.clone()).await;
        let cost = world.requests.counts().since(&before);
        assert_eq!((first.spent.requests, first.spent.hedged), (cost, 0));
        let (files, tail): (Vec<_>, Vec<_>) = first.segments.iter().partition(|segment| segment.segment.is_some());
        let mut shards: BTreeSet<&str> = files.iter().filter_map(|segment| segment.shard.as_deref()).collect();
        assert!(files.iter().all(|segment| segment.state == CacheState::Fetched && segment.plan == by), "{files:?}");
        assert!(shards.pop_first().is_some());
        let [tail] = tail.as_slice() else { panic!("{tail:?}") };
        assert_eq!((tail.state, tail.plan, &tail.shard), (CacheState::Memory, by, &None));
        let second = world.check(&engine, &index, request).await;
        assert_eq!((second.spent.requests.total(), second.spent.round_trips), (2, 1));
        let mut expected = vec![CacheState::Mapped; files.len()];
        expected.push(CacheState::Memory);
        assert_eq!(states(&second), expected);
    }
}

#[tokio::test]
async fn a_file_that_missed_the_deadline_is_in_the_receipt() {
    let (mut world, faults) = World::faulty(Scenario::dense(), 2).await;
    let index = world.index("exact-l2");
    world.upload_random(60).await;
    world.publish(&index, 1, false).await;
    let engine = world.engine();
    let held = faults.hold(Operation::Get, "/segments/");
    let request = SearchRequest { deadline: Some(Duration::from_millis(200)), ..explained(&mut world) };
    let response = engine.search(&index.id, request).await.unwrap();
    let missed = response.segments.iter().filter(|segment| segment.state == CacheState::Missed);
    assert!(missed.clone().count() == 1 && missed.clone().all(|segment| segment.plan == SegmentPlan::None));
    assert!(response.coverage < 1.0);
    held.release();
}

#[tokio::test]
async fn what_leaves_spend_is_the_roots() {
    let mut world = World::new(Scenario::dense(), 3).await;
    let index = world.scenario.indices.iter().find(|index| index.shards.len() > 1).cloned().unwrap();
    world.upload_random(200).await;
    world.publish(&index, 1, false).await;
    world.upload_random(9).await;
    let leaf = world.engine();
    let settings = EngineSettings { leaf_bytes: 1, ..world.settings() };
    let root = Engine::with_leaves(world.store.clone(), settings, Arc::new(InProcess(leaf))).unwrap();
    let request = explained(&mut world);
    let before = world.requests.counts();
    let response = world.check(&root, &index, request.clone()).await;
    let cost = world.requests.counts().since(&before);
    assert_eq!(response.spent.requests, cost, "each request once, whoever made it");
    assert!(response.leaves.answers > 1, "{:?}", response.leaves);
    let files: BTreeSet<_> = response.segments.iter().filter_map(|segment| segment.segment).collect();
    assert!(files.len() as u64 >= response.leaves.answers, "{:?}", response.segments);
    assert_eq!(response.segments.iter().filter(|segment| segment.state == CacheState::Memory).count(), 1);
    let again = world.check(&root, &index, request).await;
    assert_eq!((again.spent.requests.total(), again.spent.round_trips), (2, 1), "leaves have it all");
}
