//! A crash after, or during, any request of a build leaves garbage and nothing else; the next run makes it good.

use tarn_compact::{ApproximateIndex, BuilderSettings};
use tarn_model::{Index, Metric, VectorKind};
use tarn_testkit::{Fault, Faults, Operation};

use crate::common::{KINDS, World, faulty, index, settings_for, sharded};

struct Shaky {
    world: World,
    faults: Faults,
    indices: [Index; 2],
    settings: BuilderSettings,
}

/// A world that has been built once and has changed since.
async fn shaky(kind: ApproximateIndex) -> Shaky {
    let settings = settings_for(kind);
    let indices = [index("approximate", Metric::L2, true), sharded(index("shards", Metric::L2, false))];
    let (store, faults) = faulty();
    let mut world = World::over(store, VectorKind::Dense).await.with_index(&indices[0]).await;
    world = world.with_index(&indices[1]).await;
    world.upload_range(0..30, "a", 1).await;
    world.upload_range(0..30, "b", 1).await;
    world.run(&world.builder_with(settings.clone())).await;
    world.upload_range(20..60, "a", 2).await;
    world.upload(&[world.delete(1, "a"), world.upsert(2, "b", 2)]).await;
    Shaky { world, faults, indices, settings }
}

async fn crash_everywhere(kind: ApproximateIndex, crash: impl Fn(&Faults, u64)) {
    let mut crashes = 0;
    for operations in 0.. {
        let Shaky { world, faults, indices, settings } = shaky(kind).await;
        crash(&faults, operations);
        // What a dead process answers nobody hears.
        let _ = world.builder_with(settings.clone()).run().await;
        let crashed = faults.has_crashed();
        faults.heal();
        world.run(&world.builder_with(settings)).await;
        world.check(&[&indices[0], &indices[1]]).await;
        if !crashed {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 20, "a run makes more than {crashes} requests");
}

#[tokio::test]
async fn a_crash_between_any_two_requests_is_made_good_by_the_next_run() {
    for (kind, _) in KINDS {
        crash_everywhere(kind, Faults::crash_after).await;
    }
}

#[tokio::test]
async fn a_crash_whose_last_request_took_effect_is_made_good_by_the_next_run() {
    for (kind, _) in KINDS {
        crash_everywhere(kind, Faults::crash_during).await;
    }
}

#[tokio::test]
async fn a_root_whose_response_was_lost_is_found_to_be_ours() {
    for fault in Fault::ALL {
        let Shaky { world, faults, indices, .. } = shaky(ApproximateIndex::Cells).await;
        faults.script(Operation::Put, "checkpoints/", fault);
        faults.script(Operation::Put, "manifests/", fault);
        let builder = world.builder();
        let folded = builder.fold(&world.source.id).await.expect("folded");
        assert_eq!((folded.status, folded.generation), (tarn_compact::Status::Published, 2), "{fault:?}");
        let built = builder.build(&indices[0].id).await.expect("built");
        assert_eq!((built.status, built.generation), (tarn_compact::Status::Published, 2), "{fault:?}");
        builder.build(&indices[1].id).await.expect("built");
        world.check(&[&indices[0], &indices[1]]).await;
    }
}
