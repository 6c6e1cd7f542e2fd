//! When something is seen: strong and eventual reads, versions, generations, and what each look at the store costs.

use std::sync::Arc;
use std::time::Duration;

use tarn_model::{Boundary, FORMAT, KeyPrefix, ObjectKey, ReadToken, Update};
use tarn_search::{Consistency, Engine, EngineSettings, SearchError};
use tarn_store::LatencyStore;
use tarn_testkit::{Operation, Scenario};

use crate::world::World;

#[tokio::test]
async fn a_warm_strong_search_costs_two_gets_and_an_eventual_one_nothing() {
    let mut world = World::new(Scenario::dense(), 1).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    world.upload_random(50).await;
    world.publish(&index, 1, false).await;
    world.upload_random(5).await;
    let mut request = world.request(5);
    world.check(&engine, &index, request.clone()).await;
    for _ in 0..5 {
        let before = world.requests.counts();
        world.check(&engine, &index, request.clone()).await;
        let cost = world.requests.counts().since(&before);
        assert_eq!((cost.gets, cost.total()), (2, 2), "one for the next generation, one for the next sequence");
    }
    request.consistency = Consistency::Eventual;
    let before = world.requests.counts();
    world.check(&engine, &index, request.clone()).await;
    assert_eq!(world.requests.counts().since(&before).total(), 0);
    // Past its bounded age an eventual answer looks again.
    world.upload_random(5).await;
    assert_eq!(world.check(&engine, &index, request.clone()).await.version.sequence(0), 2);
    world.wait(world.settings().eventual_max_age + Duration::from_millis(1));
    assert_eq!(world.check(&engine, &index, request).await.version.sequence(0), 3);
}

#[tokio::test]
async fn an_eventual_search_costs_nothing_for_as_long_as_its_age_allows() {
    let mut world = World::new(Scenario::dense(), 12).await;
    let index = world.index("exact-l2");
    let hour = Duration::from_secs(3600);
    let engine =
        Engine::new(world.store.clone(), EngineSettings { eventual_max_age: hour, ..world.settings() }).unwrap();
    world.upload_random(50).await;
    let mut request = world.request(5);
    request.consistency = Consistency::Eventual;
    world.check(&engine, &index, request.clone()).await;
    world.wait(hour / 2);
    let before = world.requests.counts();
    world.check(&engine, &index, request).await;
    assert_eq!(world.requests.counts().since(&before).total(), 0);
}

#[tokio::test]
async fn strong_reads_see_acknowledged_writes() {
    let mut world = World::new(Scenario::dense(), 2).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    for round in 0..60 {
        let token = world.upload_random(3).await;
        if round % 7 == 3 {
            world.publish(&index, token.sequence(0) - 1, false).await;
        }
        let request = world.request(1000);
        assert_eq!(world.check(&engine, &index, request).await.version, token);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_searches_at_once_share_looks_and_none_is_stale() {
    let mut world = World::new(Scenario::dense(), 3).await;
    let index = world.index("exact-l2");
    world.upload_random(50).await;
    world.publish(&index, 1, false).await;
    // Looks take long enough for searches to arrive during one. The shifted clock would skip the wait; the real one waits.
    let slow = world.store.layer(|objects| {
        Arc::new(LatencyStore::new(objects, Arc::new(tarn_store::SystemClock), Duration::from_millis(10)))
    });
    let engine = Engine::new(slow, world.settings()).unwrap();
    let request = world.request(3);
    engine.search(&index.id, request.clone()).await.unwrap();
    for _ in 0..5 {
        let mut searches = Vec::new();
        let before = world.requests.counts();
        for wave in 0..10 {
            let token =
                if wave % 3 == 0 { world.upload_random(1).await } else { ReadToken::single(world.reference.head()) };
            for _ in 0..10 {
                let (engine, id, request) = (engine.clone(), index.id.clone(), request.clone());
                let acknowledged = token.clone();
                searches.push(tokio::spawn(async move {
                    let seen = engine.search(&id, request).await.unwrap().version;
                    assert!(seen.includes(&acknowledged), "saw {seen}, {acknowledged} was acknowledged before");
                }));
            }
            tokio::task::yield_now().await;
        }
        for search in searches {
            search.await.unwrap();
        }
        let gets = world.requests.counts().since(&before).gets;
        assert!(gets < 100, "{gets} requests for 100 searches");
    }
}

#[tokio::test]
async fn min_version_is_included_or_the_answer_says_how_far_it_is() {
    let mut world = World::new(Scenario::dense(), 4).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    world.upload_random(5).await;
    let mut request = world.request(1);
    request.consistency = Consistency::Eventual;
    world.check(&engine, &index, request.clone()).await;
    let token = world.upload_random(5).await;
    request.min_version = Some(token.clone());
    assert_eq!(world.check(&engine, &index, request.clone()).await.version, token, "eventual looks again if it must");
    request.min_version = Some(ReadToken::single(9));
    match engine.search(&index.id, request).await {
        Err(SearchError::NotYet { have, want }) => assert_eq!((have, want), (token, ReadToken::single(9))),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_reader_goes_from_generation_to_generation_and_keeps_its_files() {
    let mut world = World::new(Scenario::dense(), 5).await;
    let (engine, index) = (world.engine(), world.index("exact-ip"));
    for generation in 1..8 {
        let token = world.upload_random(30).await;
        world.upload_random(2).await;
        world.publish(&index, token.sequence(0), generation % 2 == 0).await;
        let request = world.request(50);
        let response = world.check(&engine, &index, request).await;
        assert_eq!(response.generation, generation);
    }
    // Three generations at once.
    for _ in 0..3 {
        let token = world.upload_random(5).await;
        world.publish(&index, token.sequence(0), false).await;
    }
    let request = world.request(50);
    assert_eq!(world.check(&engine, &index, request).await.generation, 10);
}

#[tokio::test]
async fn an_eventual_reader_answers_from_its_generation_after_a_newer_one_is_published_and_the_old_files_are_gone() {
    let mut world = World::new(Scenario::dense(), 6).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    world.upload_random(50).await;
    world.publish(&index, 1, false).await;
    let mut request = world.request(10);
    request.consistency = Consistency::Eventual;
    world.check(&engine, &index, request.clone()).await;
    let segments = world.store.list(&KeyPrefix::Segments(index.id.clone())).await.unwrap();
    world.upload_random(50).await;
    world.publish(&index, 2, false).await;
    for segment in segments {
        world.store.delete(&segment.key.unwrap()).await.unwrap();
    }
    let response = world.check(&engine, &index, request).await;
    assert_eq!((response.generation, response.version.sequence(0)), (1, 1));
}

#[tokio::test]
async fn absence_is_trusted_while_young() {
    let mut world = World::new(Scenario::dense(), 7).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    world.upload_random(20).await;
    world.publish(&index, 1, false).await;
    let request = world.request(100);
    world.check(&engine, &index, request.clone()).await;
    // While the reader sleeps, two generations come and the first of them is collected with its deltas.
    for _ in 0..2 {
        let token = world.upload_random(20).await;
        world.publish(&index, token.sequence(0), false).await;
    }
    world.store.delete(&ObjectKey::Manifest { index: index.id.clone(), generation: 2 }).await.unwrap();
    for sequence in 1..=3 {
        let source = world.scenario.source.id.clone();
        world.store.delete(&ObjectKey::Delta { source, lane: 0, sequence }).await.unwrap();
    }
    world.wait(world.settings().trust_absence + Duration::from_millis(1));
    let response = world.check(&engine, &index, request).await;
    assert_eq!((response.generation, response.version.sequence(0)), (3, 3));
}

#[tokio::test]
async fn a_cold_reader_lists_once_each_and_reads_every_delta_once() {
    let mut world = World::new(Scenario::dense(), 8).await;
    let index = world.index("exact-l2");
    for _ in 0..30 {
        world.upload_random(2).await;
    }
    world.publish(&index, 10, false).await;
    let request = world.request(100);
    let before = world.requests.counts();
    world.check(&world.engine(), &index, request).await;
    let cost = world.requests.counts().since(&before);
    assert_eq!(cost.lists, 2);
    assert!(cost.gets <= 20 + 8, "{} gets", cost.gets);
}

#[tokio::test]
async fn an_index_whose_timeline_was_collected_says_that_it_wants_building() {
    let mut world = World::new(Scenario::dense(), 9).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    world.upload_random(5).await;
    collect(&world, 1).await;
    let request = world.request(1);
    assert!(matches!(engine.search(&index.id, request).await, Err(SearchError::NotBuilt(id)) if id == index.id));
}

#[tokio::test]
async fn a_timeline_that_is_collected_while_it_is_read_is_not_taken_for_a_whole_one() {
    let (mut world, faults) = World::faulty(Scenario::dense(), 13).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    world.upload_random(5).await;
    world.upload_random(5).await;
    let request = world.request(1);
    let held = faults.hold(Operation::List, "timeline");
    let id = index.id.clone();
    let search = tokio::spawn(async move { engine.search(&id, request).await });
    held.arrived().await;
    collect(&world, 2).await;
    held.release();
    let answer = search.await.unwrap();
    assert!(matches!(&answer, Err(SearchError::NotBuilt(id)) if *id == index.id), "{answer:?}");
}

#[tokio::test]
async fn a_delta_that_a_listing_overlooks_is_read_all_the_same() {
    let (mut world, faults) = World::faulty(Scenario::dense(), 14).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    for _ in 0..3 {
        world.upload_random(5).await;
    }
    // Absent while the timeline is listed, there when it is read.
    let second = ObjectKey::Delta { source: world.scenario.source.id.clone(), lane: 0, sequence: 2 };
    let bytes = world.store.get(&second).await.unwrap().unwrap();
    world.store.delete(&second).await.unwrap();
    let held = faults.hold(Operation::Get, second.render().rsplit('/').next().unwrap());
    let request = world.request(100);
    let check = world.check(&engine, &index, request);
    let appears = async {
        held.arrived().await;
        world.store.put_unique(&second, bytes).await.unwrap();
        held.release();
    };
    let (response, ()) = tokio::join!(check, appears);
    assert_eq!(response.version.sequence(0), 3);
}

#[tokio::test]
async fn an_index_that_was_created_anew_is_not_taken_for_the_old_one() {
    for built in [true, false] {
        let mut old = World::new(Scenario::dense(), 15).await;
        let (engine, index) = (old.engine(), old.index("exact-l2"));
        old.upload_random(30).await;
        old.upload_random(30).await;
        if built {
            old.publish(&index, 1, false).await;
        }
        let request = old.request(20);
        old.check(&engine, &index, request).await;

        // Deleted, collected and created again while nobody searched: the same definitions and numbers, other points.
        let source = old.scenario.source.id.clone();
        for prefix in [KeyPrefix::Timeline(source, 0), KeyPrefix::Manifests(index.id.clone())] {
            for object in old.store.list(&prefix).await.unwrap() {
                old.store.delete(&object.key.unwrap()).await.unwrap();
            }
        }
        let mut new = World::over(old.store.clone(), Scenario::dense(), 16).await;
        new.upload_random(40).await;
        if built {
            new.publish(&index, 1, false).await;
        }
        old.wait(old.settings().trust_absence + Duration::from_millis(1));
        let request = new.request(20);
        let response = new.check(&engine, &index, request).await;
        assert_eq!(response.version.sequence(0), 1);
    }
}

/// Does to the timeline what garbage collection does: a boundary first, then the deltas up to it go.
async fn collect(world: &World, upto: u64) {
    let source = world.scenario.source.id.clone();
    let boundary = Boundary {
        format: FORMAT,
        number: 1,
        commit_id: ulid::Ulid::new(),
        timeline: ReadToken::single(upto),
        generation: 0,
    };
    let key = ObjectKey::SourceBoundary { source: source.clone(), number: 1 };
    world.store.create(&key, serde_json::to_vec(&boundary).unwrap().into(), |_| true).await.unwrap();
    for sequence in 1..=upto {
        world.store.delete(&ObjectKey::Delta { source: source.clone(), lane: 0, sequence }).await.unwrap();
    }
}

#[tokio::test]
async fn a_deleted_index_is_gone_within_the_age_of_its_definition() {
    let mut world = World::new(Scenario::dense(), 10).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    world.upload_random(5).await;
    let request = world.request(1);
    world.check(&engine, &index, request.clone()).await;
    tarn_store::delete_index(&world.store, &index.id).await.unwrap();
    world.wait(EngineSettings::default().definition_max_age + Duration::from_millis(1));
    assert!(matches!(engine.search(&index.id, request).await, Err(SearchError::IndexNotFound(_))));
}

#[tokio::test]
async fn the_disk_store_answers_as_the_memory_store_does() {
    let directory = tempfile::tempdir().unwrap();
    let store = tarn_store::Store::disk(directory.path()).unwrap();
    let mut world = World::over(store, Scenario::sparse(), 11).await;
    let engine = world.engine();
    for index in world.scenario.indices.clone() {
        world.upload_random(40).await;
        let head = world.reference.head();
        world.publish(&index, head, false).await;
        let one = world.scenario.point(&mut world.rng, 1);
        world.upload(vec![Update::Upsert(one)]).await;
        let request = world.request(30);
        world.check(&engine, &index, request).await;
    }
}
