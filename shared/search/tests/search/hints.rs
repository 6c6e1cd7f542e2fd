//! The first look at an index, with a hint and without: what it costs, and that no hint changes an answer.

use std::sync::Arc;
use std::time::Duration;

use tarn_model::{AttributeType, Hint, Index, KeyPrefix, ObjectKey, ReadToken};
use tarn_search::{Consistency, Engine, SearchError, SearchRequest};
use tarn_store::{LatencyStore, Meter, Spent, Store, SystemClock};
use tarn_testkit::{Fault, Operation, Scenario};

use crate::world::World;

/// The hint that a builder writes after the newest manifest.
async fn hint(world: &World, index: &Index) -> Hint {
    let newest = world.store.first(&KeyPrefix::Manifests(index.id.clone())).await.unwrap().unwrap();
    let Some(ObjectKey::Manifest { generation, .. }) = newest.key else { panic!("{newest:?}") };
    let key = ObjectKey::Manifest { index: index.id.clone(), generation };
    let bytes = world.store.get(&key).await.unwrap().unwrap();
    let manifest = tarn_model::Manifest::parse(&key.render(), &bytes, &index.id, generation).unwrap();
    let mut catalogs = std::collections::BTreeMap::new();
    for object in manifest.shards.iter().filter_map(|entry| entry.catalog.as_ref()) {
        let key = ObjectKey::Catalog { index: index.id.clone(), id: object.id };
        catalogs.insert(object.id, world.store.get(&key).await.unwrap().unwrap().to_vec());
    }
    let data_source = (*world.scenario.source).clone();
    Hint { manifest, manifest_e_tag: newest.e_tag.unwrap(), data_source, catalogs }
}

async fn put(world: &World, index: &Index, bytes: Vec<u8>) {
    world.store.put_unique(&ObjectKey::Hint(index.id.clone()), bytes.into()).await.unwrap();
}

pub(crate) async fn write_hint(world: &World, index: &Index) {
    put(world, index, hint(world, index).await.encode().unwrap()).await;
}

/// Two generations, the second of them hinted at, and nothing after it.
async fn built(seed: u64) -> (World, Arc<Index>) {
    let mut world = World::new(Scenario::dense(), seed).await;
    let index = world.index("exact-l2");
    for sequence in 1..=2 {
        world.upload_random(60).await;
        world.publish(&index, sequence, false).await;
    }
    write_hint(&world, &index).await;
    (world, index)
}

/// What it takes a new process to know what is current.
async fn first_look(world: &World, index: &Index, consistency: Consistency) -> Spent {
    let meter = Meter::new();
    // Nothing is touched by the tail: what is counted stands in the catalogs.
    meter.scope(async { world.engine().count(&index.id, consistency).await.unwrap() }).await;
    meter.spent()
}

async fn answers(world: &mut World, index: &Index) {
    let request = world.request(200);
    let engine = world.engine();
    world.check(&engine, index, request).await;
}

#[tokio::test]
async fn with_a_hint_a_new_process_knows_what_is_current_after_two_round_trips() {
    let (mut world, index) = built(1).await;
    for consistency in [Consistency::Strong, Consistency::Eventual] {
        let spent = first_look(&world, &index, consistency).await;
        assert_eq!(spent.round_trips, 2, "definition, hint and manifests at once; then the timeline");
        let requests = spent.requests;
        assert_eq!((requests.gets, requests.heads, requests.lists, requests.total()), (2, 1, 2, 5));
    }
    answers(&mut world, &index).await;
    // Asking for the definition first, as a server does to parse the request, costs nothing more.
    let meter = Meter::new();
    let engine = world.engine();
    let asked = async {
        engine.index(&index.id).await.unwrap();
        engine.count(&index.id, Consistency::Strong).await.unwrap();
    };
    meter.scope(asked).await;
    assert_eq!((meter.spent().requests.total(), meter.spent().round_trips), (5, 2));
    // The deltas after the watermark are one trip more.
    world.upload_random(5).await;
    world.upload_random(5).await;
    let (engine, request) = (world.engine(), world.request(200));
    assert_eq!(world.check(&engine, &index, request).await.version, ReadToken::single(4));
    let meter = Meter::new();
    meter.scope(async { world.engine().index(&index.id).await.unwrap() }).await;
    assert_eq!(meter.spent().round_trips, 1);
}

#[tokio::test]
async fn without_a_hint_the_answer_is_the_same_and_nothing_is_listed_twice() {
    let (mut world, index) = built(2).await;
    world.store.delete(&ObjectKey::Hint(index.id.clone())).await.unwrap();
    let spent = first_look(&world, &index, Consistency::Strong).await;
    assert_eq!((spent.requests.lists, spent.round_trips), (2, 5), "definition, source, manifest, catalog, timeline");
    answers(&mut world, &index).await;
}

#[tokio::test]
async fn a_stale_hint_is_not_believed() {
    let (mut world, index) = built(3).await;
    world.upload_random(60).await;
    world.publish(&index, 3, false).await;
    let (engine, request) = (world.engine(), world.request(200));
    let response = world.check(&engine, &index, request).await;
    assert_eq!((response.generation, response.version), (3, ReadToken::single(3)));
}

#[tokio::test]
async fn a_hint_of_another_object_under_the_same_key_is_not_believed() {
    let (mut world, index) = built(4).await;
    let old = hint(&world, &index).await;
    let other = Hint { manifest_e_tag: format!("{}0", old.manifest_e_tag), ..old };
    put(&world, &index, other.encode().unwrap()).await;
    assert!(first_look(&world, &index, Consistency::Strong).await.round_trips > 2);
    answers(&mut world, &index).await;
}

#[tokio::test]
async fn no_hint_changes_an_answer_or_keeps_one_from_being_given() {
    let (mut world, index) = built(5).await;
    let sound = hint(&world, &index).await;
    let bytes = sound.encode().unwrap();
    let mut damaged: Vec<Vec<u8>> = [0, 1, bytes.len() / 2, bytes.len() - 1].map(|end| bytes[..end].to_vec()).into();
    damaged.push(b"{}".to_vec());
    damaged.push(vec![b'['; 200_000]);
    damaged.push(vec![b' '; tarn_model::limits::HINT_BYTES + 1]);
    for position in (0..bytes.len()).step_by(bytes.len() / 61 + 1) {
        let mut flipped = bytes.clone();
        flipped[position] ^= 0x15;
        damaged.push(flipped);
    }
    // One that parses and agrees with the listing, and is over another data source.
    let mut elsewhere = sound.clone();
    elsewhere.data_source.id.name.push('x');
    damaged.push(elsewhere.encode().unwrap());
    // Without catalogs, as when they are large.
    let mut bare = sound.clone();
    bare.catalogs.clear();
    damaged.push(bare.encode().unwrap());
    // One whose manifest names what is not there, and one whose manifest has a shard that is not defined.
    let mut hollow = bare.clone();
    hollow.manifest.shards.iter_mut().filter_map(|entry| entry.catalog.as_mut()).for_each(|catalog| catalog.id.0 ^= 1);
    damaged.push(hollow.encode().unwrap());
    let mut strange = bare.clone();
    strange.manifest.shards.iter_mut().for_each(|entry| entry.shard.push('x'));
    damaged.push(strange.encode().unwrap());
    for bytes in damaged {
        put(&world, &index, bytes).await;
        answers(&mut world, &index).await;
    }
}

#[tokio::test]
async fn all_searches_that_a_wrong_hint_has_misled_look_again() {
    let (mut world, index) = built(12).await;
    // Of the newest manifest, and nothing is wrong with it until a file is opened: that has no such column.
    let mut wrong = hint(&world, &index).await;
    wrong.data_source.attribute_types.insert("another".to_owned(), AttributeType::Bool);
    put(&world, &index, wrong.encode().unwrap()).await;
    let engine = world.engine();
    let (_, misled) = engine.index(&index.id).await.unwrap();
    assert!(misled.attribute_types.contains_key("another"), "the hint is believed at first");
    engine.count(&index.id, Consistency::Strong).await.unwrap();
    let request = SearchRequest { consistency: Consistency::Eventual, ..world.request(20) };
    let searches = (0..8).map(|_| world.check(&engine, &index, request.clone()));
    futures::future::join_all(searches).await;
}

#[tokio::test]
async fn who_waits_for_a_first_look_that_fails_shares_the_next() {
    let slow = Store::memory()
        .layer(|objects| Arc::new(LatencyStore::new(objects, Arc::new(SystemClock), Duration::from_millis(5))));
    let world = World::over(slow, Scenario::dense(), 13).await;
    let mut nowhere = world.index("exact-l2").id.clone();
    nowhere.name.push_str("-nowhere");
    let engine = world.engine();
    let ask = || async {
        let asked = engine.index(&nowhere).await;
        assert!(matches!(asked, Err(SearchError::IndexNotFound(_))), "{asked:?}");
    };
    let before = world.requests.counts();
    ask().await;
    let one = world.requests.counts().since(&before).total();
    let before = world.requests.counts();
    futures::future::join_all((0..20).map(|_| ask())).await;
    let cost = world.requests.counts().since(&before).total();
    assert!(cost <= 2 * one, "{cost} requests; one look is {one}");
}

#[tokio::test]
async fn a_hint_or_a_listing_that_cannot_be_had_is_done_without() {
    let (mut world, faults) = World::faulty(Scenario::dense(), 6).await;
    let index = world.index("exact-l2");
    world.upload_random(60).await;
    world.publish(&index, 1, false).await;
    write_hint(&world, &index).await;
    for (operation, path) in [(Operation::Get, "/hint"), (Operation::List, "manifests")] {
        faults.script(operation, path, Fault::Timeout);
        answers(&mut world, &index).await;
    }
}

#[tokio::test]
async fn a_hint_that_outlives_its_index_is_not_looked_at() {
    let (world, index) = built(7).await;
    tarn_store::delete_index(&world.store, &index.id).await.unwrap();
    // As a builder does that has not heard of it.
    put(&world, &index, hint(&world, &index).await.encode().unwrap()).await;
    let counted = world.engine().count(&index.id, Consistency::Strong).await;
    assert!(matches!(counted, Err(SearchError::IndexNotFound(_))), "{counted:?}");
}

#[tokio::test]
async fn a_hint_of_an_index_that_was_made_anew_is_not_believed() {
    let (old, index) = built(8).await;
    let stale = hint(&old, &index).await.encode().unwrap();
    // Deleted, collected and created again: the same definitions and numbers, other points.
    let source = old.scenario.source.id.clone();
    for prefix in [KeyPrefix::Timeline(source, 0), KeyPrefix::Manifests(index.id.clone())] {
        for object in old.store.list(&prefix).await.unwrap() {
            old.store.delete(&object.key.unwrap()).await.unwrap();
        }
    }
    let mut new = World::over(old.store.clone(), Scenario::dense(), 9).await;
    for sequence in 1..=2 {
        new.upload_random(40).await;
        // A builder that slept through it all writes the hint of the old index.
        put(&old, &index, stale.clone()).await;
        answers(&mut new, &index).await;
        new.publish(&index, sequence, false).await;
        answers(&mut new, &index).await;
    }
    write_hint(&new, &index).await;
    answers(&mut new, &index).await;
    assert_eq!(first_look(&new, &index, Consistency::Strong).await.round_trips, 2);
}

#[tokio::test]
async fn what_the_first_look_found_is_used_while_it_is_young_and_never_for_the_tail() {
    let (mut world, index) = built(10).await;
    let engine = world.engine();
    engine.index(&index.id).await.unwrap();
    // Acknowledged before the search and after the first look.
    world.upload_random(5).await;
    let request = world.request(200);
    assert_eq!(world.check(&engine, &index, request).await.version, ReadToken::single(3));

    // Older than absence is trusted: two generations came, and what was between them is gone.
    let engine = world.engine();
    engine.index(&index.id).await.unwrap();
    for sequence in 4..=5 {
        world.upload_random(20).await;
        world.publish(&index, sequence, false).await;
    }
    for sequence in 1..=5 {
        let source = world.scenario.source.id.clone();
        world.store.delete(&ObjectKey::Delta { source, lane: 0, sequence }).await.unwrap();
    }
    world.wait(world.settings().trust_absence + Duration::from_millis(1));
    let request = world.request(200);
    let response = world.check(&engine, &index, request).await;
    assert_eq!((response.generation, response.version), (4, ReadToken::single(5)));
}

#[tokio::test]
async fn a_look_is_charged_to_one_who_waits_for_it_when_who_asked_first_gives_up() {
    let slow = Store::memory()
        .layer(|objects| Arc::new(LatencyStore::new(objects, Arc::new(SystemClock), Duration::from_millis(5))));
    let mut world = World::over(slow, Scenario::dense(), 14).await;
    let index = world.index("exact-l2");
    world.upload_random(60).await;
    let (engine, request) = (world.engine(), world.request(20));
    world.check(&engine, &index, request.clone()).await;
    let search = || Box::pin(engine.search(&index.id, request.clone()));
    // One look is under way; the second is asked for by two, of whom the first goes.
    let (mut under_way, mut first, mut second) = (search(), search(), search());
    for searching in [&mut under_way, &mut first, &mut second] {
        assert!(futures::poll!(searching).is_pending());
    }
    drop(first);
    let (under_way, second) = futures::join!(under_way, second);
    assert_eq!(under_way.unwrap().spent.requests.total(), 2);
    assert_eq!(second.unwrap().spent.requests.total(), 2);
}

#[tokio::test]
async fn searches_at_once_are_each_charged_what_they_asked_for() {
    let (mut world, index) = built(11).await;
    let (engine, request) = (world.engine(), world.request(20));
    let before = world.requests.counts();
    let search = |engine: Engine, request: tarn_search::SearchRequest| {
        let id = index.id.clone();
        async move { engine.search(&id, request).await.unwrap().spent }
    };
    let many = (0..8).map(|_| tokio::spawn(search(engine.clone(), request.clone())));
    let mut all = Vec::new();
    for one in many.collect::<Vec<_>>() {
        all.push(one.await.unwrap());
    }
    let total = world.requests.counts().since(&before);
    let sum = |of: fn(&Spent) -> u64| all.iter().map(of).sum::<u64>();
    assert_eq!(sum(|spent| spent.requests.total()), total.total());
    assert_eq!(sum(|spent| spent.requests.bytes_read), total.bytes_read);
    assert!(all.iter().all(|spent| spent.round_trips > 0), "who waited for another's look has waited: {all:?}");
}
