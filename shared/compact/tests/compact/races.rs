//! Several builders at once: one wins, the others lose nothing.

use tarn_compact::Status;
use tarn_model::{Metric, VectorKind};
use tarn_store::{latest_checkpoint, latest_manifest};

use crate::common::{World, index};

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
