//! A crash after, or during, any request of a build leaves garbage and nothing else; the next run makes it good.

use std::sync::Arc;

use object_store::memory::InMemory;
use tarn_compact::{ApproximateIndex, BuilderSettings};
use tarn_model::{Index, Metric, VectorKind};
use tarn_store::Store;
use tarn_testkit::{Fault, FaultStore, Faults, Operation};

use crate::common::{World, index, settings_for, sharded};

/// A world that has been built once and has changed since.
struct Changed {
    objects: Arc<InMemory>,
    world: World,
    indices: [Index; 2],
    settings: BuilderSettings,
}

impl Changed {
    async fn new(kind: ApproximateIndex) -> Self {
        let settings = settings_for(kind);
        let indices = [index("approximate", Metric::L2, true), sharded(index("shards", Metric::L2, false))];
        let objects = Arc::new(InMemory::new());
        let below = Arc::clone(&objects);
        let mut world = World::over(Store::memory().layer(|_| below), VectorKind::Dense).await;
        for index in &indices {
            world = world.with_index(index).await;
        }
        world.upload_range(0..30, "a", 1).await;
        world.upload_range(0..30, "b", 1).await;
        world.run(&world.builder_with(settings.clone())).await;
        world.upload_range(20..60, "a", 2).await;
        world.upload(&[world.delete(1, "a"), world.upsert(2, "b", 2)]).await;
        Self { objects, world, indices, settings }
    }

    /// A copy of it, in a store that fails on request.
    fn shaky(&self) -> (World, Faults) {
        let (objects, faults) = FaultStore::new(Arc::new(self.objects.fork()));
        (self.world.in_copy(&Store::memory().layer(|_| Arc::new(objects))), faults)
    }

    async fn check(&self, world: &World) {
        world.check(&[&self.indices[0], &self.indices[1]]).await;
    }
}

async fn crash_everywhere(kind: ApproximateIndex, crash: impl Fn(&Faults, u64)) {
    let changed = Changed::new(kind).await;
    let mut crashes = 0;
    for operations in 0.. {
        let (world, faults) = changed.shaky();
        crash(&faults, operations);
        // What a dead process answers nobody hears.
        let _ = world.builder_with(changed.settings.clone()).run().await;
        let crashed = faults.has_crashed();
        faults.heal();
        world.run(&world.builder_with(changed.settings.clone())).await;
        changed.check(&world).await;
        if !crashed {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 20, "a run makes more than {crashes} requests");
}

#[tokio::test]
async fn a_crash_between_any_two_requests_is_made_good_by_the_next_run() {
    crash_everywhere(ApproximateIndex::Cells, Faults::crash_after).await;
}

#[tokio::test]
async fn a_crash_whose_last_request_took_effect_is_made_good_by_the_next_run() {
    crash_everywhere(ApproximateIndex::Cells, Faults::crash_during).await;
}

#[tokio::test]
async fn a_crash_between_any_two_requests_of_a_build_with_graphs_is_made_good_by_the_next_run() {
    crash_everywhere(ApproximateIndex::Graph, Faults::crash_after).await;
}

#[tokio::test]
async fn a_crash_whose_last_request_with_graphs_took_effect_is_made_good_by_the_next_run() {
    crash_everywhere(ApproximateIndex::Graph, Faults::crash_during).await;
}

#[tokio::test]
async fn a_root_whose_response_was_lost_is_found_to_be_ours() {
    let changed = Changed::new(ApproximateIndex::Cells).await;
    let indices = &changed.indices;
    for fault in Fault::ALL {
        let (world, faults) = changed.shaky();
        faults.script(Operation::Put, "checkpoints/", fault);
        faults.script(Operation::Put, "manifests/", fault);
        let builder = world.builder();
        let folded = builder.fold(&world.source.id).await.expect("folded");
        assert_eq!((folded.status, folded.generation), (tarn_compact::Status::Published, 2), "{fault:?}");
        let built = builder.build(&indices[0].id).await.expect("built");
        assert_eq!((built.status, built.generation), (tarn_compact::Status::Published, 2), "{fault:?}");
        builder.build(&indices[1].id).await.expect("built");
        changed.check(&world).await;
    }
}
