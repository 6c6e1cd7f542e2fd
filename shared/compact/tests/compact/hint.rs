//! The hint beside the manifests: written after each of them, mended when it is stale, gone with its index, needed by nobody.

use std::time::Duration;

use tarn_model::{Hint, Index, KeyPrefix, Metric, ObjectKey, VectorKind, limits};
use tarn_store::{Store, create_index, delete_index, latest_manifest};
use tarn_testkit::{Fault, Operation};

use crate::common::{World, faulty, gc, index, sharded};

const HOUR: Duration = Duration::from_secs(3600);

fn key(index: &Index) -> ObjectKey {
    ObjectKey::Hint(index.id.clone())
}

async fn stored(store: &Store, index: &Index) -> Option<Hint> {
    let bytes = store.get(&key(index)).await.expect("read")?;
    Some(Hint::parse(&key(index).render(), &bytes, &index.id).expect("a hint"))
}

/// The hint, which must be one that readers take.
async fn current(world: &World, index: &Index) -> Hint {
    let hint = stored(&world.store, index).await.expect("a hint");
    let listed = world.store.first(&KeyPrefix::Manifests(index.id.clone())).await.expect("listed").expect("a manifest");
    assert!(hint.is_of(&listed.key.expect("ours"), listed.e_tag.as_deref()), "{hint:?}");
    let newest = latest_manifest(&world.store, &index.id, None).await.expect("read").expect("a manifest");
    assert_eq!((&hint.manifest, &hint.data_source), (&newest, &*world.source));
    hint
}

async fn built(world: World, index: &Index) -> World {
    let mut world = world.with_index(index).await;
    world.upload_range(0..60, "a", 1).await;
    world.upload_range(0..60, "b", 1).await;
    world.run(&world.builder()).await;
    world
}

#[tokio::test]
async fn every_manifest_has_a_hint_with_its_catalogs() {
    let definition = sharded(index("shards", Metric::L2, true));
    let mut world = built(World::new(VectorKind::Dense).await, &definition).await;
    for version in 2..4 {
        let hint = current(&world, &definition).await;
        let named: Vec<_> = hint.manifest.shards.iter().filter_map(|entry| entry.catalog.clone()).collect();
        assert_eq!(named.len(), 2);
        for object in named {
            let key = ObjectKey::Catalog { index: definition.id.clone(), id: object.id };
            let bytes = world.store.get(&key).await.expect("read").expect("there");
            assert_eq!(hint.catalog(&object), Some(&bytes[..]));
        }
        world.upload_range(0..30, "a", version).await;
        world.run(&world.builder()).await;
    }
    assert_eq!(current(&world, &definition).await.manifest.generation, 3);
    world.check(&[&definition]).await;
}

#[tokio::test]
async fn catalogs_that_are_too_large_together_are_left_out() {
    let definition = index("splits", Metric::L2, false);
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    let updates: Vec<_> = (0..20_000).map(|id| world.upsert(id, &format!("{:x}", id * 7_919_777_777), 1)).collect();
    world.upload(&updates).await;
    world.run(&world.builder()).await;
    let hint = current(&world, &definition).await;
    let bytes: u64 = hint.manifest.shards.iter().filter_map(|entry| entry.catalog.as_ref()).map(|o| o.bytes).sum();
    assert!(bytes > limits::HINT_CATALOG_BYTES, "{bytes}");
    assert!(hint.catalogs.is_empty());
}

#[tokio::test]
async fn a_build_does_without_a_hint_that_it_cannot_write() {
    let definition = index("flat", Metric::L2, false);
    let (store, faults) = faulty();
    let mut world = World::over(store, VectorKind::Dense).await.with_index(&definition).await;
    world.upload_range(0..60, "a", 1).await;
    faults.script(Operation::Put, "/hint", Fault::UnavailableBefore);
    world.run(&world.builder()).await;
    assert_eq!(stored(&world.store, &definition).await, None);
    world.check(&[&definition]).await;
    // The next run has nothing to build, and finds that it is missing.
    world.run(&world.builder()).await;
    current(&world, &definition).await;
}

#[tokio::test]
async fn what_is_no_hint_is_mended_by_the_next_run() {
    let definition = index("flat", Metric::L2, false);
    let mut world = built(World::new(VectorKind::Dense).await, &definition).await;
    let stale = world.store.get(&key(&definition)).await.expect("read").expect("there");
    world.upload_range(0..5, "a", 2).await;
    world.run(&world.builder()).await;
    for bytes in [stale, "no hint".into(), vec![0xff; 2 << 20].into()] {
        world.store.overwrite(&key(&definition), bytes).await.expect("put");
        world.run(&world.builder()).await;
        assert_eq!(current(&world, &definition).await.manifest.generation, 2);
    }
}

#[tokio::test]
async fn garbage_collection_mends_a_hint_whose_manifest_was_copied() {
    let definition = index("flat", Metric::L2, false);
    let world = built(World::new(VectorKind::Dense).await, &definition).await;
    // The same bytes, another ETag: as in a bucket that was copied.
    let manifest = current(&world, &definition).await.manifest.key();
    let bytes = world.store.get(&manifest).await.expect("read").expect("there");
    world.store.overwrite(&manifest, bytes).await.expect("put");
    let before = world.store.get(&key(&definition)).await.expect("read");
    let mut options = gc(HOUR);
    options.dry_run = true;
    world.builder().collect_garbage(&options).await.expect("looked");
    assert_eq!(world.store.get(&key(&definition)).await.expect("read"), before, "a dry run writes nothing");
    let report = world.builder().collect_garbage(&gc(HOUR)).await.expect("collected");
    assert_eq!(report.objects, Vec::new());
    current(&world, &definition).await;
    world.check(&[&definition]).await;
}

#[tokio::test]
async fn garbage_is_collected_though_a_hint_cannot_be_mended() {
    let definition = index("flat", Metric::L2, false);
    let (store, faults) = faulty();
    let world = built(World::over(store, VectorKind::Dense).await, &definition).await;
    world.store.delete(&key(&definition)).await.expect("deleted");
    for (operation, path) in [(Operation::Get, "source.json"), (Operation::Put, "/hint")] {
        faults.script(operation, path, Fault::UnavailableBefore);
        world.builder().collect_garbage(&gc(HOUR)).await.expect("collected");
        assert_eq!(stored(&world.store, &definition).await, None, "{path}");
    }
    world.builder().collect_garbage(&gc(HOUR)).await.expect("collected");
    current(&world, &definition).await;
}

#[tokio::test]
async fn a_hint_goes_with_its_index_and_before_its_definition() {
    let definition = index("flat", Metric::L2, false);
    let world = built(World::new(VectorKind::Dense).await, &definition).await;
    assert!(delete_index(&world.store, &definition.id).await.expect("deleted"));
    world.run(&world.builder()).await;
    world.clock.advance(HOUR * 2);
    let report = world.builder().collect_garbage(&gc(HOUR)).await.expect("collected");
    let place = |key: ObjectKey| report.objects.iter().position(|garbage| garbage.key == key.render());
    let (hint, index) = (place(key(&definition)), place(ObjectKey::Index(definition.id.clone())));
    assert!(hint.is_some() && hint < index, "{:?}", report.objects);
    assert_eq!(world.store.list(&KeyPrefix::Index(definition.id.clone())).await.expect("listed"), Vec::new());
}

#[tokio::test]
async fn a_hint_that_a_deleted_index_left_is_of_no_other() {
    let definition = index("flat", Metric::L2, false);
    let world = built(World::new(VectorKind::Dense).await, &definition).await;
    let left = world.store.get(&key(&definition)).await.expect("read").expect("there");
    assert!(delete_index(&world.store, &definition.id).await.expect("deleted"));
    world.clock.advance(HOUR * 2);
    world.builder().collect_garbage(&gc(HOUR)).await.expect("collected");
    // A builder that slept writes the hint of what is gone; the name is taken again.
    world.store.overwrite(&key(&definition), left).await.expect("put");
    create_index(&world.store, &definition).await.expect("created");
    world.builder().build(&definition.id).await.expect("built");
    assert_eq!(current(&world, &definition).await.manifest.generation, 1);
    world.check(&[&definition]).await;
}
