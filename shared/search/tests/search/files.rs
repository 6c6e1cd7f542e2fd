//! More files than the cache holds.

use std::path::Path;
use std::sync::Arc;

use tarn_search::{Engine, EngineSettings};
use tarn_testkit::Scenario;

use crate::world::World;

/// A world whose indices have been built, and the bytes of each one's files.
async fn built(seed: u64) -> (World, Vec<u64>) {
    let mut world = World::new(Scenario::dense(), seed).await;
    world.upload_random(200).await;
    let mut sizes = Vec::new();
    for index in world.scenario.indices.clone() {
        let manifest = world.publish(&index, 1, false).await;
        sizes.push(manifest.shards.iter().map(|shard| shard.segment_bytes).sum());
    }
    (world, sizes)
}

fn engine(world: &World, cache_bytes: u64) -> Engine {
    Engine::new(world.store.clone(), EngineSettings { cache_bytes, ..world.settings() }).unwrap()
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| if entry.path().is_dir() { bytes_in(&entry.path()) } else { entry.metadata().unwrap().len() })
        .sum()
}

#[tokio::test]
async fn idle_files_give_way() {
    let (mut world, sizes) = built(40).await;
    let most = sizes.iter().copied().max().unwrap();
    assert!(sizes.iter().sum::<u64>() > most, "more than the cache will hold");
    let engine = engine(&world, most);
    for _ in 0..2 {
        for index in world.scenario.indices.clone() {
            let request = world.request(10);
            world.check(&engine, &index, request).await;
            let bytes = bytes_in(&world.settings().cache_dir);
            assert!(bytes <= most, "{bytes} bytes where {most} may be, after {}", index.id);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn files_in_use_stay_open_in_a_cache_that_holds_none() {
    let (mut world, _) = built(41).await;
    let engine = engine(&world, 1);
    for _ in 0..5 {
        let requests: Vec<_> =
            world.scenario.indices.clone().into_iter().map(|index| (index, world.request(10))).collect();
        let world = &world;
        let searches = requests.into_iter().map(|(index, request)| {
            let engine = engine.clone();
            async move { world.check(&engine, &Arc::clone(&index), request).await }
        });
        futures::future::join_all(searches).await;
    }
}
