//! `checkpoint-equals-fold`: whatever is uploaded, folded and merged, the checkpoint is what a `BTreeMap` says.

use proptest::prelude::*;
use tarn_compact::Status;
use tarn_model::{Metric, Update, VectorKind};
use tarn_store::latest_checkpoint;

use crate::common::{World, index, settings, sharded};

#[derive(Clone, Debug)]
enum Step {
    /// Upserts and, where the flag says so, deletions of (id, group).
    Upload(Vec<(i64, u8, bool)>),
    Fold,
    Build,
    Collect,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let update = (0..60_i64, 0..4_u8, proptest::bool::weighted(0.25));
    prop_oneof![
        5 => proptest::collection::vec(update, 1..80).prop_map(Step::Upload),
        3 => Just(Step::Fold),
        3 => Just(Step::Build),
        1 => Just(Step::Collect),
        1 => Just(Step::Restart),
    ]
}

/// Room for all deltas, for about one at a time, and for none.
fn spool() -> impl Strategy<Value = u64> {
    prop_oneof![Just(1 << 20), Just(6_000), Just(0)]
}

const GROUPS: [&str; 4] = ["a", "b", "c", "elsewhere"];

async fn play(kind: VectorKind, spool_bytes_max: u64, steps: Vec<Step>) {
    let metric = if kind == VectorKind::Dense { Metric::L2 } else { Metric::SparseCosine };
    let (by_group, in_shards) = (index("flat", metric, false), sharded(index("shards", metric, false)));
    let graphs = index("graphs", metric, kind == VectorKind::Dense);
    let mut world = World::new(kind).await.with_index(&by_group).await.with_index(&in_shards).await;
    world = world.with_index(&graphs).await;
    let mut settings = settings();
    settings.spool_bytes_max = spool_bytes_max;
    let mut builder = world.builder_with(settings.clone());
    let mut version = 0;
    let mut folded = world.points.clone();
    for step in steps {
        match step {
            Step::Upload(updates) => {
                version += 1;
                let update = |&(id, group, delete): &(i64, u8, bool)| {
                    let group = GROUPS[usize::from(group)];
                    if delete { world.delete(id, group) } else { world.upsert(id, group, version) }
                };
                let updates: Vec<Update> = updates.iter().map(update).collect();
                world.upload(&updates).await;
            }
            Step::Fold => {
                builder.fold(&world.source.id).await.expect("folded");
                folded = world.points.clone();
                assert_eq!(world.checkpoint_points().await, folded);
            }
            Step::Build => {
                for index in [&by_group, &in_shards, &graphs] {
                    builder.build(&index.id).await.expect("built");
                }
            }
            Step::Collect => {
                world.clock.advance(std::time::Duration::from_secs(7200));
                builder
                    .collect_garbage(&crate::common::gc(std::time::Duration::from_secs(3600)))
                    .await
                    .expect("collected");
            }
            Step::Restart => builder = world.builder_with(settings.clone()),
        }
        assert_eq!(world.checkpoint_points().await, folded);
    }
    world.run(&builder).await;
    world.check(&[&by_group, &in_shards, &graphs]).await;
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn checkpoint_equals_fold_and_index_equals_checkpoint_dense(
        steps in proptest::collection::vec(step(), 1..24),
        spool in spool(),
    ) {
        runtime().block_on(play(VectorKind::Dense, spool, steps));
    }

    #[test]
    fn checkpoint_equals_fold_and_index_equals_checkpoint_sparse(
        steps in proptest::collection::vec(step(), 1..24),
        spool in spool(),
    ) {
        runtime().block_on(play(VectorKind::Sparse, spool, steps));
    }
}

#[tokio::test]
async fn the_last_write_of_a_key_wins_and_a_tombstone_removes() {
    let mut world = World::new(VectorKind::Dense).await;
    let (first, second) = (world.upsert(1, "a", 1), world.upsert(1, "a", 2));
    world.upload(&[first.clone(), second.clone(), world.upsert(2, "a", 1), world.delete(2, "a")]).await;
    world.upload(&[world.delete(3, "a"), world.upsert(3, "a", 1), world.upsert(4, "a", 1)]).await;
    world.upload(&[world.delete(4, "a"), world.delete(5, "never")]).await;
    let outcome = world.builder().fold(&world.source.id).await.expect("folded");
    assert_eq!((outcome.status, outcome.rows, outcome.deltas), (Status::Published, 2, 3));
    world.check(&[]).await;
}

#[tokio::test]
async fn nothing_new_writes_nothing() {
    let mut world = World::new(VectorKind::Dense).await;
    assert_eq!(world.builder().fold(&world.source.id).await.expect("folded").status, Status::UpToDate);
    world.upload_range(0..3, "a", 1).await;
    world.builder().fold(&world.source.id).await.expect("folded");
    let before = world.objects().await;
    let again = world.builder().fold(&world.source.id).await.expect("folded");
    assert_eq!((again.status, again.generation, again.rows), (Status::UpToDate, 1, 3));
    assert_eq!(world.objects().await, before);
}

#[tokio::test]
async fn a_fold_rewrites_what_changed_and_not_what_exists() {
    let mut world = World::new(VectorKind::Dense).await;
    let mut settings = settings();
    settings.merge_fan = 4;
    let builder = world.builder_with(settings);
    world.upload_range(0..2000, "a", 1).await;
    builder.fold(&world.source.id).await.expect("folded");
    let before = latest_checkpoint(&world.store, &world.source.id, None).await.expect("read").expect("there");
    world.upload(&[world.upsert(7, "a", 2), world.delete(8, "a")]).await;
    let outcome = builder.fold(&world.source.id).await.expect("folded");
    let after = latest_checkpoint(&world.store, &world.source.id, None).await.expect("read").expect("there");
    assert_eq!((outcome.files_written, outcome.files_carried), (1, 1));
    assert_eq!(after.files[0].data, before.files[0].data, "the large file is carried by name");
    assert_eq!(after.files[0].deleted_rows, 2);
    assert_eq!(after.files[1].rows, 1);
    world.check(&[]).await;
}

#[tokio::test]
async fn a_long_timeline_is_folded_in_steps_that_each_publish() {
    for (spool_bytes_max, fold_deltas_max, checkpoints) in [(1 << 20, 100, 1), (1 << 20, 2, 3), (0, 100, 5)] {
        let flat = index("flat", Metric::L2, false);
        let mut world = World::new(VectorKind::Dense).await.with_index(&flat).await;
        let mut settings = settings();
        (settings.spool_bytes_max, settings.fold_deltas_max) = (spool_bytes_max, fold_deltas_max);
        let builder = world.builder_with(settings);
        for version in 1..=5 {
            world.upload_range(0..20 * i64::from(version), "a", version).await;
        }
        let outcome = builder.fold(&world.source.id).await.expect("folded");
        let found = (outcome.status, outcome.generation, outcome.deltas, outcome.watermark.sequence(0));
        assert_eq!(found, (Status::Published, checkpoints, 5, 5));
        builder.build(&flat.id).await.expect("built");
        for version in 6..=8 {
            world.upload_range(0..50, "a", version).await;
        }
        world.run(&builder).await;
        world.check(&[&flat]).await;
    }
}

#[tokio::test]
async fn steps_before_one_that_fails_stay() {
    let mut world = World::new(VectorKind::Dense).await;
    for version in 1..=3 {
        world.upload_range(0..5, "a", version).await;
    }
    let key = tarn_model::ObjectKey::Delta { source: world.source.id.clone(), lane: 0, sequence: 3 };
    world.store.delete(&key).await.expect("deleted");
    world.store.put_unique(&key, "damaged".into()).await.expect("put");
    let mut settings = settings();
    settings.fold_deltas_max = 1;
    let error = world.builder_with(settings).fold(&world.source.id).await.expect_err("refused");
    assert!(error.to_string().contains(&key.render()), "{error}");
    let checkpoint = latest_checkpoint(&world.store, &world.source.id, None).await.expect("read").expect("there");
    assert_eq!((checkpoint.generation, checkpoint.watermark.sequence(0)), (2, 2));
}

#[tokio::test]
async fn a_file_of_mostly_dead_rows_is_rewritten() {
    let mut world = World::new(VectorKind::Dense).await;
    let mut settings = settings();
    settings.merge_fan = 4;
    let builder = world.builder_with(settings);
    world.upload_range(0..100, "a", 1).await;
    builder.fold(&world.source.id).await.expect("folded");
    let deletions: Vec<Update> = (0..99).map(|id| world.delete(id, "a")).collect();
    world.upload(&deletions).await;
    let outcome = builder.fold(&world.source.id).await.expect("folded");
    assert_eq!((outcome.rows, outcome.files_written, outcome.files_carried), (1, 1, 0));
    world.upload(&[world.delete(99, "a")]).await;
    let outcome = builder.fold(&world.source.id).await.expect("folded");
    assert_eq!((outcome.rows, outcome.files_written, outcome.files_carried), (0, 0, 0));
    world.check(&[]).await;
}

#[tokio::test]
async fn a_small_memory_limit_spills_and_changes_nothing() {
    let mut world = World::new(VectorKind::Dense).await;
    let group = "a group whose name makes the keys a good deal longer than they need to be";
    for version in 1..=4 {
        world.upload_range(0..40_000, group, version).await;
    }
    let mut small = settings();
    small.memory_limit_bytes = 1 << 20;
    let outcome = world.builder_with(small).fold(&world.source.id).await.expect("folded under a small limit");
    assert_eq!(outcome.rows, 40_000);
    assert!(outcome.spilled_bytes > 1 << 20, "only {} bytes were spilled", outcome.spilled_bytes);
    assert_eq!(world.checkpoint_points().await, world.points);
}

#[tokio::test]
async fn what_fits_into_memory_is_not_spilled() {
    let mut world = World::new(VectorKind::Dense).await;
    world.upload_range(0..1_000, "a", 1).await;
    let outcome = world.builder().fold(&world.source.id).await.expect("folded");
    assert_eq!((outcome.rows, outcome.spilled_bytes), (1_000, 0));
}

#[tokio::test]
async fn a_delta_that_is_damaged_stops_the_fold_and_is_named() {
    let mut world = World::new(VectorKind::Dense).await;
    world.upload_range(0..50, "a", 1).await;
    let key = tarn_model::ObjectKey::Delta { source: world.source.id.clone(), lane: 0, sequence: 1 };
    let mut bytes = world.store.get(&key).await.expect("read").expect("there").to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    world.store.delete(&key).await.expect("deleted");
    world.store.put_unique(&key, bytes.into()).await.expect("put");
    let error = world.builder().fold(&world.source.id).await.expect_err("refused");
    assert!(error.to_string().contains(&key.render()), "{error}");
    assert!(latest_checkpoint(&world.store, &world.source.id, None).await.expect("read").is_none());
}
