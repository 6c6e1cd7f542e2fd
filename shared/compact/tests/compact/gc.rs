//! What garbage collection takes, and what it must leave.

use std::collections::BTreeSet;
use std::time::Duration;

use tarn_compact::{BuilderSettings, CompactError, GcOptions};
use tarn_model::{KeyPrefix, Metric, ObjectKey, VectorKind};
use tarn_store::{
    create_source, delete_index, delete_source, latest_index_boundary, latest_manifest, latest_source_boundary,
};
use tarn_testkit::{Faults, Operation};
use tarn_timeline::MIN_COLLECTION_GRACE;

use crate::common::{World, faulty, gc, index, settings};

const HOUR: Duration = Duration::from_secs(3600);

/// A world with five generations of everything, each an hour after the one before.
async fn aged() -> (World, tarn_model::Index) {
    let definition = index("flat", Metric::L2, false);
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    let builder = world.builder();
    for version in 1..=5 {
        world.upload_range(0..20, "a", version).await;
        world.run(&builder).await;
    }
    (world, definition)
}

async fn paths(world: &World) -> BTreeSet<String> {
    world.objects().await.into_iter().map(|object| object.path).collect()
}

#[tokio::test]
async fn nothing_younger_than_the_grace_period_goes() {
    let (world, _) = aged().await;
    let before = paths(&world).await;
    let report = world.builder().collect_garbage(&gc(HOUR)).await.expect("collected");
    assert_eq!(report.objects, Vec::new());
    assert_eq!(paths(&world).await, before);
}

#[tokio::test]
async fn old_generations_deltas_and_data_go_and_everything_still_answers() {
    let (world, definition) = aged().await;
    world.clock.advance(HOUR * 2);
    let report = world.builder().collect_garbage(&gc(HOUR)).await.expect("collected");
    assert_eq!(report.bytes, report.objects.iter().map(|object| object.bytes).sum::<u64>());
    let left = paths(&world).await;
    assert!(report.objects.iter().all(|object| !left.contains(&object.key)));
    for prefix in [
        KeyPrefix::Checkpoints(world.source.id.clone()),
        KeyPrefix::Manifests(definition.id.clone()),
        KeyPrefix::Catalogs(definition.id.clone()),
    ] {
        assert_eq!(world.store.list(&prefix).await.expect("listed").len(), 1, "{prefix:?}");
    }
    let deltas = world.store.list(&KeyPrefix::Timeline(world.source.id.clone(), 0)).await.expect("listed");
    assert_eq!(deltas, Vec::new());
    let boundary = latest_source_boundary(&world.store, &world.source.id, None).await.expect("read").expect("there");
    assert_eq!((boundary.timeline.sequence(0), boundary.generation), (5, 4));
    let boundary = latest_index_boundary(&world.store, &definition.id, None).await.expect("read").expect("there");
    assert_eq!(boundary.generation, 4);
    world.check(&[&definition]).await;
    assert_eq!(world.verify().await.orphans, 0);
}

#[tokio::test]
async fn the_timeline_goes_on_after_its_deltas_are_collected() {
    let (mut world, definition) = aged().await;
    world.clock.advance(HOUR * 2);
    world.builder().collect_garbage(&gc(HOUR)).await.expect("collected");
    world.upload_range(5..25, "a", 6).await;
    world.run(&world.builder()).await;
    world.check(&[&definition]).await;
    let manifest = latest_manifest(&world.store, &definition.id, None).await.expect("read").expect("there");
    assert_eq!((manifest.generation, manifest.watermark.sequence(0)), (6, 6));
}

#[tokio::test]
async fn a_dry_run_says_the_same_and_deletes_nothing() {
    let (world, _) = aged().await;
    world.clock.advance(HOUR * 2);
    let before = paths(&world).await;
    let mut options = gc(HOUR);
    options.dry_run = true;
    let dry = world.builder().collect_garbage(&options).await.expect("looked");
    assert_eq!(paths(&world).await, before);
    assert!(dry.objects.iter().all(|object| !object.why.is_empty()));
    options.dry_run = false;
    let wet = world.builder().collect_garbage(&options).await.expect("collected");
    assert_eq!(dry.objects, wet.objects);
}

#[tokio::test]
async fn what_a_reader_pinned_within_the_grace_period_stays() {
    let (mut world, definition) = aged().await;
    world.clock.advance(HOUR * 2);
    // A reader pins generation 5; a moment later it is replaced.
    let pinned = latest_manifest(&world.store, &definition.id, None).await.expect("read").expect("there");
    world.upload_range(0..20, "a", 6).await;
    world.run(&world.builder()).await;
    // The memory store dates the new root by the machine's clock; the pinned one was replaced just now.
    let report = world.builder().collect_garbage(&gc(HOUR * 3)).await.expect("collected");
    assert_eq!(report.objects, Vec::new());
    let report = world.builder().collect_garbage(&gc(HOUR)).await.expect("collected");
    assert!(!report.objects.is_empty());
    let key = ObjectKey::Manifest { index: definition.id.clone(), generation: pinned.generation };
    assert!(world.store.size(&key).await.expect("asked").is_none(), "now it was replaced longer ago than that");
}

#[tokio::test]
async fn the_newest_generations_stay_however_old() {
    let (world, definition) = aged().await;
    world.clock.advance(HOUR * 1000);
    let mut options = gc(HOUR);
    options.retain_generations = 3;
    world.builder().collect_garbage(&options).await.expect("collected");
    let manifests = world.store.list(&KeyPrefix::Manifests(definition.id.clone())).await.expect("listed");
    assert_eq!(manifests.len(), 3);
    let deltas = world.store.list(&KeyPrefix::Timeline(world.source.id.clone(), 0)).await.expect("listed");
    assert_eq!(deltas.len(), 2, "the oldest kept manifest, at 3, needs what came after it");
    world.check(&[&definition]).await;
}

#[tokio::test]
async fn an_index_without_a_manifest_keeps_every_delta() {
    let (world, _) = aged().await;
    let late = index("late", Metric::L2, false);
    let world = world.with_index(&late).await;
    world.clock.advance(HOUR * 2);
    world.builder().collect_garbage(&gc(HOUR)).await.expect("collected");
    let deltas = world.store.list(&KeyPrefix::Timeline(world.source.id.clone(), 0)).await.expect("listed");
    assert_eq!(deltas.len(), 5);
}

#[tokio::test]
async fn objects_that_nobody_published_go_when_they_are_old() {
    let (world, definition) = aged().await;
    let stray = ObjectKey::Segment { index: definition.id.clone(), id: ulid::Ulid::from_parts(1, 1) };
    world.store.put_unique(&stray, bytes::Bytes::from_static(b"never published")).await.expect("put");
    let mut options = gc(HOUR);
    options.retain_generations = 100;
    assert_eq!(world.verify().await.orphans, 1);
    world.builder().collect_garbage(&options).await.expect("collected");
    assert!(world.store.size(&stray).await.expect("asked").is_some(), "a builder may be about to publish it");
    world.clock.advance(HOUR * 2);
    let report = world.builder().collect_garbage(&options).await.expect("collected");
    let gone: Vec<&str> = report.objects.iter().map(|object| object.key.as_str()).collect();
    assert!(gone.contains(&stray.render().as_str()));
    assert_eq!(world.verify().await.orphans, 0);
    world.check(&[&definition]).await;
}

#[tokio::test]
async fn zombies_do_not_publish() {
    let (mut world, definition) = aged().await;
    // Generation 3 of the index is collected; a builder that slept since generation 2 creates it anew.
    world.clock.advance(HOUR * 2);
    world.builder().collect_garbage(&gc(HOUR)).await.expect("collected");
    let newest = latest_manifest(&world.store, &definition.id, None).await.expect("read").expect("there");
    let mut zombie = newest.clone();
    zombie.generation = 3;
    let bytes = serde_json::to_vec(&zombie).expect("json");
    world.store.create(&zombie.key(), bytes.into(), |_| true).await.expect("created");
    // Nobody reads it, and it goes.
    assert_eq!(latest_manifest(&world.store, &definition.id, None).await.expect("read"), Some(newest));
    world.upload_range(0..3, "a", 9).await;
    world.run(&world.builder()).await;
    world.check(&[&definition]).await;
    world.clock.advance(HOUR * 2);
    world.builder().collect_garbage(&gc(HOUR)).await.expect("collected");
    assert!(world.store.size(&zombie.key()).await.expect("asked").is_none());
}

#[tokio::test]
async fn a_deleted_index_and_then_its_data_source_go_wholly() {
    let (world, definition) = aged().await;
    assert!(delete_source(&world.store, &world.source.id).await.expect("deleted"));
    world.clock.advance(HOUR * 2);
    let report = world.builder().collect_garbage(&gc(HOUR)).await.expect("collected");
    assert!(report.notes.iter().any(|note| note.contains("an index is still over it")), "{:?}", report.notes);
    assert!(delete_index(&world.store, &definition.id).await.expect("deleted"));
    let before = paths(&world).await;
    world.builder().collect_garbage(&gc(HOUR * 10)).await.expect("collected");
    assert!(paths(&world).await.len() >= before.len() - 1, "not before the grace period is over");
    world.clock.advance(HOUR * 20);
    world.builder().collect_garbage(&gc(HOUR)).await.expect("collected");
    assert_eq!(paths(&world).await, BTreeSet::new());
    // The name is free again.
    let again = create_source(&world.store, &world.source).await.expect("created");
    assert_eq!(again, tarn_store::Defined::Created);
}

#[tokio::test]
async fn builders_that_run_while_garbage_is_collected_lose_nothing() {
    let (mut world, definition) = aged().await;
    world.clock.advance(HOUR * 2);
    let (builder, collector) = (world.builder(), world.builder_with(settings()));
    for version in 6..12 {
        world.upload_range(0..20, "a", version).await;
        let options = gc(HOUR);
        let (built, collected) = tokio::join!(builder.run(), collector.collect_garbage(&options));
        let failures: Vec<String> =
            built.expect("listed").failures().map(|(what, error)| format!("{what}: {error}")).collect();
        assert_eq!(failures, Vec::<String>::new());
        collected.expect("collected");
    }
    world.check(&[&definition]).await;
}

#[tokio::test]
async fn retaining_nothing_is_refused() {
    let (world, _) = aged().await;
    let mut options = gc(HOUR);
    options.retain_generations = 0;
    assert!(world.builder().collect_garbage(&options).await.is_err());
}

#[tokio::test]
async fn a_grace_period_that_others_may_outlive_is_refused() {
    let (world, _) = aged().await;
    world.clock.advance(HOUR * 2);
    let shortest = settings().shortest_grace();
    assert!(shortest > MIN_COLLECTION_GRACE && shortest > settings().longest_build);
    let mut options = gc(shortest - Duration::from_secs(1));
    let before = paths(&world).await;
    let error = world.builder().collect_garbage(&options).await.expect_err("refused");
    assert!(matches!(error, CompactError::GraceTooShort { .. }), "{error}");
    assert!(error.to_string().contains(&format!("{} s are needed", shortest.as_secs())), "{error}");
    assert_eq!(paths(&world).await, before);

    options.dry_run = true;
    assert!(!world.builder().collect_garbage(&options).await.expect("looked").objects.is_empty());
    options.dry_run = false;
    options.store_is_idle = true;
    assert!(!world.builder().collect_garbage(&options).await.expect("collected").objects.is_empty());
    let (world, _) = aged().await;
    world.clock.advance(HOUR * 2);
    world.builder().collect_garbage(&gc(shortest)).await.expect("long enough");
}

#[test]
fn the_defaults_are_safe_together() {
    assert!(GcOptions::default().grace >= BuilderSettings::default().shortest_grace());
    assert!(!GcOptions::default().store_is_idle);
}

/// A world as [`aged`] makes it, two hours later, over a store whose requests can be held up.
async fn aged_with_faults() -> (World, tarn_model::Index, Faults) {
    let (store, faults) = faulty();
    let definition = index("flat", Metric::L2, false);
    let mut world = World::over(store, VectorKind::Dense).await.with_index(&definition).await;
    for version in 1..=3 {
        world.upload_range(0..20, "a", version).await;
        world.run(&world.builder()).await;
    }
    world.clock.advance(HOUR * 2);
    (world, definition, faults)
}

#[tokio::test]
async fn a_slow_collector_does_not_take_what_is_made_anew_under_a_name() {
    let (mut world, definition, faults) = aged_with_faults().await;
    assert!(delete_index(&world.store, &definition.id).await.expect("deleted"));
    assert!(delete_source(&world.store, &world.source.id).await.expect("deleted"));
    world.clock.advance(HOUR * 2);
    // It has listed everything and is about to delete the first object.
    let held = faults.hold(Operation::Delete, "index.json");
    let slow = world.builder();
    let slow = tokio::spawn(async move { slow.collect_garbage(&gc(HOUR)).await });
    held.arrived().await;
    // Another one is faster, and the name is taken again.
    world.builder().collect_garbage(&gc(HOUR)).await.expect("collected");
    assert_eq!(paths(&world).await, BTreeSet::new());
    world.points.clear();
    create_source(&world.store, &world.source).await.expect("created");
    world.upload_range(0..7, "a", 9).await;
    let before = paths(&world).await;
    held.release();
    let report = slow.await.expect("ends").expect("collected");
    assert_eq!(paths(&world).await, before, "{:?}", report.objects);
    assert!(report.notes.iter().any(|note| note.contains("another garbage collection")), "{:?}", report.notes);
    world.builder().fold(&world.source.id).await.expect("folded");
    world.check(&[]).await;
}

#[tokio::test]
async fn collectors_do_not_linger() {
    let (world, definition, faults) = aged_with_faults().await;
    let held = faults.hold(Operation::Delete, "");
    let slow = world.builder();
    let slow = tokio::spawn(async move { slow.collect_garbage(&gc(HOUR)).await });
    held.arrived().await;
    let before = paths(&world).await.len();
    world.clock.advance(HOUR);
    held.release();
    let error = slow.await.expect("ends").expect_err("stopped");
    assert!(matches!(error, CompactError::CollectorTooSlow { .. }), "{error}");
    // Roots and deltas go one by one.
    assert_eq!(paths(&world).await.len(), before - 1);
    world.builder().collect_garbage(&gc(HOUR)).await.expect("collected");
    world.check(&[&definition]).await;
}
