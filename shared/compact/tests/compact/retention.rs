//! Points whose time is up leave the objects with the next builds.

use std::sync::Arc;
use std::time::Duration;

use tarn_model::{AttributeType, AttributeValue, DataPoint, Metric, PointKey, Retention, Update, VectorKind};
use tarn_store::{Clock, Store, create_source, latest_checkpoint, latest_manifest};
use tarn_testkit::{Fault, Operation};

use crate::common::{Ahead, Points, World, attributes, faulty, index, settings, source, vector};

async fn world(retention: Retention) -> World {
    over(Store::memory(), retention).await
}

async fn over(store: Store, retention: Retention) -> World {
    let clock = Arc::new(Ahead::default());
    let store = store.with_clock(clock.clone() as Arc<dyn Clock>);
    let mut source = source(VectorKind::Dense);
    source.attribute_types.insert("until".to_owned(), AttributeType::DateTime);
    source.policy.retention = Some(retention);
    source.validate().expect("valid");
    create_source(&store, &source).await.expect("created");
    World { store, clock, source: Arc::new(source), points: Points::new() }
}

/// A point that expires so many seconds from now.
fn upsert(world: &World, id: i64, seconds: i64) -> Update {
    let mut attributes = attributes(id, "a", "text");
    let until = (world.clock.now_ms() + seconds * 1000) * 1000;
    attributes.insert("until".to_owned(), AttributeValue::DateTime(until));
    Update::Upsert(DataPoint { attributes, vector: vector(VectorKind::Dense, id, 1) })
}

fn forget(world: &mut World, id: i64) {
    let key = PointKey::encode(&world.source, &attributes(id, "a", "")).expect("a key");
    world.points.remove(&key.0).expect("was there");
}

/// Thirty points of which ten have expired.
async fn partly_expired(store: Store, definition: &tarn_model::Index) -> World {
    let retention = Retention { attribute: "until".into(), keep_seconds: Some(0), target_points: None };
    let mut world = over(store, retention).await.with_index(definition).await;
    let updates: Vec<Update> = (0..30).map(|id| upsert(&world, id, if id < 10 { -60 } else { 864_000 })).collect();
    world.upload(&updates).await;
    world
}

async fn rows(world: &World, definition: &tarn_model::Index) -> (u64, u64) {
    let checkpoint = latest_checkpoint(&world.store, &world.source.id, None).await.expect("read").expect("there");
    let manifest = latest_manifest(&world.store, &definition.id, None).await.expect("read").expect("there");
    (checkpoint.rows, manifest.rows)
}

#[tokio::test]
async fn expired_points_leave_checkpoint_and_index_with_the_next_builds() {
    let definition = index("flat", Metric::L2, false);
    let retention = Retention { attribute: "until".into(), keep_seconds: Some(0), target_points: None };
    let mut world = world(retention).await.with_index(&definition).await;
    let updates: Vec<Update> = (0..30).map(|id| upsert(&world, id, 600 + id * 60)).collect();
    world.upload(&updates).await;
    let builder = world.builder();
    world.run(&builder).await;
    assert_eq!(rows(&world, &definition).await, (30, 30));
    world.clock.advance(Duration::from_secs(600 + 9 * 60 + 30));
    for id in 0..10 {
        forget(&mut world, id);
    }
    world.run(&builder).await;
    assert_eq!(rows(&world, &definition).await, (20, 20));
    world.check(&[&definition]).await;
    // One that knows nothing of what was before does the same.
    world.clock.advance(Duration::from_secs(5 * 60));
    for id in 10..15 {
        forget(&mut world, id);
    }
    world.run(&world.builder()).await;
    assert_eq!(rows(&world, &definition).await, (15, 15));
    world.check(&[&definition]).await;
    // Nothing to do is done at no cost to the timeline.
    let before = tarn_timeline::Timeline::open(world.store.clone(), Arc::clone(&world.source));
    let head = before.head().await.expect("read");
    world.run(&builder).await;
    assert_eq!(before.head().await.expect("read"), head);
}

#[tokio::test]
async fn builds_keep_about_as_many_points_as_they_are_told() {
    let definition = index("flat", Metric::L2, false);
    let retention = Retention { attribute: "until".into(), keep_seconds: None, target_points: Some(12) };
    let mut world = world(retention).await.with_index(&definition).await;
    for first in [0, 20] {
        let updates: Vec<Update> = (first..first + 20).map(|id| upsert(&world, id, id)).collect();
        world.upload(&updates).await;
        world.run(&world.builder()).await;
        assert_eq!(rows(&world, &definition).await, (12, 12));
    }
    for id in 0..28 {
        forget(&mut world, id);
    }
    world.check(&[&definition]).await;
}

#[tokio::test]
async fn a_builder_that_cannot_append_folds_all_the_same() {
    let (store, faults) = faulty();
    let definition = index("flat", Metric::L2, false);
    let world = partly_expired(store, &definition).await;
    for _ in 0..200 {
        faults.script(Operation::Put, "/timeline/", Fault::UnavailableBefore);
    }
    world.run(&world.builder()).await;
    assert_eq!(rows(&world, &definition).await, (30, 30));
    faults.heal();
    world.run(&world.builder()).await;
    assert_eq!(rows(&world, &definition).await, (20, 20));
}

#[tokio::test]
async fn a_builder_that_is_not_to_delete_neither_writes_nor_looks() {
    let (store, faults) = faulty();
    let definition = index("flat", Metric::L2, false);
    let retention = Retention { attribute: "until".into(), keep_seconds: Some(0), target_points: Some(5) };
    let mut world = over(store, retention).await.with_index(&definition).await;
    let updates: Vec<Update> = (0..30).map(|id| upsert(&world, id, -60)).collect();
    world.upload(&updates).await;
    let mut without = settings();
    without.retention = false;
    let builder = world.builder_with(without);
    world.run(&builder).await;
    assert_eq!(rows(&world, &definition).await, (30, 30));
    let before = faults.operations();
    world.run(&builder).await;
    let log = faults.log().split_off(usize::try_from(before).expect("fits"));
    assert!(
        !log.iter().any(|(operation, path)| *operation == Operation::Get && path.contains("/timeline/")),
        "{log:?}"
    );
    assert_eq!(rows(&world, &definition).await, (30, 30));
}

#[tokio::test]
async fn a_builder_that_may_not_append_looks_again_after_a_while() {
    let (store, faults) = faulty();
    let definition = index("flat", Metric::L2, false);
    let world = partly_expired(store, &definition).await;
    (0..2).for_each(|_| faults.script(Operation::Put, "/timeline/", Fault::Denied));
    let builder = world.builder();
    let puts = || faults.log().iter().filter(|(op, path)| *op == Operation::Put && path.contains("/timeline/")).count();
    let before = puts();
    world.run(&builder).await;
    world.run(&builder).await;
    assert_eq!(puts() - before, 1, "it has tried once");
    assert_eq!(rows(&world, &definition).await, (30, 30));
    world.clock.advance(Duration::from_secs(3601));
    world.run(&builder).await;
    assert_eq!(puts() - before, 2);
    faults.heal();
    world.clock.advance(Duration::from_secs(3601));
    world.run(&builder).await;
    assert_eq!(rows(&world, &definition).await, (20, 20));
}
