//! Several builders at once: one wins, the others lose nothing.

use std::time::Duration;

use tarn_compact::Status;
use tarn_model::{KeyPrefix, Metric, VectorKind};
use tarn_store::{latest_checkpoint, latest_manifest};
use tarn_testkit::Operation;

use crate::common::{World, faulty, gc, index};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_builders_one_publishes_and_the_other_says_that_it_lost() {
    let definition = index("flat", Metric::L2, false);
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    let (one, other) = (world.builder(), world.builder());
    let mut published = 0;
    for round in 1..=8_u32 {
        world.upload_range(0..40, "a", round).await;
        let (a, b) = tokio::join!(one.fold(&world.source.id), other.fold(&world.source.id));
        let statuses = [a.expect("folded").status, b.expect("folded").status];
        published += statuses.iter().filter(|status| **status == Status::Published).count();
        assert!(!statuses.iter().all(|status| *status == Status::LostRace), "somebody wins");
        let (a, b) = tokio::join!(one.build(&definition.id), other.build(&definition.id));
        for outcome in [a.expect("built"), b.expect("built")] {
            assert_eq!(outcome.lost_race, outcome.status == Status::LostRace);
            assert_eq!(outcome.rows, 40, "the outcome tells of the newest manifest, whoever published it");
        }
        world.check(&[&definition]).await;
    }
    assert_eq!(published, 8, "each round published one checkpoint");
    let checkpoint = latest_checkpoint(&world.store, &world.source.id, None).await.expect("read").expect("there");
    let manifest = latest_manifest(&world.store, &definition.id, None).await.expect("read").expect("there");
    assert_eq!((checkpoint.generation, manifest.generation), (8, 8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn builders_and_writers_at_once_lose_nothing() {
    let definition = index("graphs", Metric::L2, true);
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    let builders = [world.builder(), world.builder()];
    let running: Vec<_> = builders
        .iter()
        .cloned()
        .map(|builder| {
            tokio::spawn(async move {
                for _ in 0..6 {
                    let summary = builder.run().await.expect("listed");
                    let failures: Vec<_> = summary.failures().map(|(what, e)| format!("{what}: {e}")).collect();
                    assert_eq!(failures, Vec::<String>::new());
                }
            })
        })
        .collect();
    for version in 1..=12 {
        world.upload_range(i64::from(version) * 5..i64::from(version) * 5 + 20, "a", version).await;
    }
    for builder in running {
        builder.await.expect("the builder ends");
    }
    world.run(&builders[0]).await;
    world.check(&[&definition]).await;
}

/// A builder is put to sleep just before it creates its root. Others publish that generation and more, and it is collected.
/// So the put succeeds; the look at the boundary afterwards alone tells.
#[tokio::test]
async fn a_builder_that_slept_takes_its_root_for_lost() {
    let (store, faults) = faulty();
    let definition = index("flat", Metric::L2, false);
    let mut world = World::over(store, VectorKind::Dense).await.with_index(&definition).await;
    world.upload_range(0..10, "a", 1).await;

    let (sleeper, source) = (world.builder(), world.source.id.clone());
    let held = faults.hold(Operation::Put, "/checkpoints/");
    let folding = tokio::spawn(async move { sleeper.fold(&source).await });
    held.arrived().await;
    world.builder().fold(&world.source.id).await.expect("folded");
    let (sleeper, id) = (world.builder(), definition.id.clone());
    let held_build = faults.hold(Operation::Put, "/manifests/");
    let building = tokio::spawn(async move { sleeper.build(&id).await });
    held_build.arrived().await;
    world.run(&world.builder()).await;
    for version in 2..=3 {
        world.upload_range(0..10, "a", version).await;
        world.run(&world.builder()).await;
    }
    world.clock.advance(Duration::from_secs(7200));
    world.builder().collect_garbage(&gc(Duration::from_secs(3600))).await.expect("collected");
    let newest_manifest = latest_manifest(&world.store, &definition.id, None).await.expect("read").expect("there");
    assert_eq!(newest_manifest.generation, 3);
    let checkpoints = KeyPrefix::Checkpoints(world.source.id.clone());
    let manifests = KeyPrefix::Manifests(definition.id.clone());
    for roots in [&checkpoints, &manifests] {
        assert_eq!(world.store.list(roots).await.expect("listed").len(), 1, "generations 1 and 2 are collected");
    }

    held.release();
    let folded = folding.await.expect("ends").expect("folded");
    assert_eq!((folded.status, folded.generation, folded.watermark.sequence(0)), (Status::LostRace, 3, 3));
    held_build.release();
    let built = building.await.expect("ends").expect("built");
    assert_eq!((built.status, built.generation, built.watermark.sequence(0)), (Status::LostRace, 3, 3));
    for roots in [&checkpoints, &manifests] {
        assert_eq!(world.store.list(roots).await.expect("listed").len(), 2, "the put of generation 1 succeeded");
    }
    world.check(&[&definition]).await;
}
