//! What an index build writes, carries, promotes and packs.

use std::collections::BTreeSet;
use std::time::Duration;

use tarn_compact::{ApproximateIndex, Status};
use tarn_model::{KeyPrefix, Metric, ObjectKey, Update, VectorKind};
use tarn_segment::{CatalogSegment, Segment, SegmentKind};
use tarn_store::latest_manifest;

use crate::common::{KINDS, World, faulty, gc, index, settings, settings_for, sharded};

#[tokio::test]
async fn without_a_checkpoint_there_is_nothing_to_build() {
    let definition = index("flat", Metric::L2, false);
    let world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    let outcome = world.builder().build(&definition.id).await.expect("built");
    assert_eq!((outcome.status, outcome.generation), (Status::UpToDate, 0));
}

#[tokio::test]
async fn an_empty_live_set_makes_an_empty_manifest() {
    let definition = index("flat", Metric::L2, false);
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    world.upload(&[world.delete(1, "a")]).await;
    world.run(&world.builder()).await;
    let manifest = latest_manifest(&world.store, &definition.id, None).await.expect("read").expect("there");
    assert_eq!((manifest.rows, manifest.shards.len()), (0, 1));
    world.check(&[&definition]).await;
}

#[tokio::test]
async fn a_split_beyond_the_threshold_gets_a_segment_of_its_own_and_the_others_share_one() {
    for (approximate, kind) in KINDS {
        let definition = index("approximate", Metric::L2, true);
        let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
        world.upload_range(0..60, "large", 1).await;
        for group in ["b", "c", "d", "e"] {
            world.upload_range(0..10, group, 1).await;
        }
        world.run(&world.builder_with(settings_for(approximate))).await;
        let segments = world.segments(&definition).await;
        let kinds: Vec<_> = segments.iter().map(|(_, s, _)| (s.kind, s.rows, s.splits.len())).collect();
        assert_eq!(kinds.len(), 2);
        assert!(kinds.contains(&(kind, 60, 1)), "{kinds:?}");
        assert!(kinds.contains(&(SegmentKind::Flat, 40, 4)), "{kinds:?}");
        world.check(&[&definition]).await;
    }
}

/// Codes say which rows an exact search need not compare.
#[tokio::test]
async fn a_large_split_of_an_exact_index_gets_cells() {
    for (approximate, _) in KINDS {
        let definition = index("exact", Metric::Cosine, false);
        let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
        world.upload_range(0..60, "large", 1).await;
        world.upload_range(0..10, "b", 1).await;
        world.run(&world.builder_with(settings_for(approximate))).await;
        let segments = world.segments(&definition).await;
        let kinds: Vec<_> = segments.iter().map(|(_, s, _)| (s.kind, s.rows)).collect();
        assert_eq!(kinds.len(), 2);
        assert!(kinds.contains(&(SegmentKind::Cells, 60)) && kinds.contains(&(SegmentKind::Flat, 10)), "{kinds:?}");
        world.upload_range(60..130, "large", 1).await;
        world.run(&world.builder_with(settings_for(approximate))).await;
        world.check(&[&definition]).await;
    }
}

#[tokio::test]
async fn each_kind_has_a_threshold_of_its_own() {
    let definition = index("approximate", Metric::L2, true);
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    world.upload_range(0..60, "a", 1).await;
    world
        .run(&world.builder_with({
            let mut settings = settings();
            settings.cells_threshold_rows = 61;
            settings
        }))
        .await;
    assert_eq!(world.segments(&definition).await[0].1.kind, SegmentKind::Flat);
    world.upload_range(0..1, "a", 2).await;
    world.run(&world.builder_with(settings_for(KINDS[1].0))).await;
    assert_eq!(world.segments(&definition).await[0].1.kind, SegmentKind::Graph);
    world.check(&[&definition]).await;
}

#[tokio::test]
async fn cells_take_the_place_of_graphs_as_segments_merge() {
    let definition = index("approximate", Metric::L2, true);
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    world.upload_range(0..60, "a", 1).await;
    world.run(&world.builder_with(settings_for(KINDS[1].0))).await;
    let cells = world.builder_with(settings_for(KINDS[0].0));
    world.upload_range(60..70, "a", 1).await;
    world.run(&cells).await;
    let kinds = |segments: &[(String, CatalogSegment, Segment)]| -> BTreeSet<String> {
        segments.iter().map(|(_, segment, _)| format!("{:?}", segment.kind)).collect()
    };
    let before = kinds(&world.segments(&definition).await);
    assert_eq!(
        before,
        ["Flat".to_owned(), "Graph".to_owned()].into(),
        "a graph stays while there is no cause to rewrite it"
    );
    world.upload_range(70..140, "a", 1).await;
    world.run(&cells).await;
    assert_eq!(kinds(&world.segments(&definition).await), ["Cells".to_owned()].into());
    world.check(&[&definition]).await;
}

#[tokio::test]
async fn a_graph_comes_and_goes_beside_cells_as_segments_merge() {
    let definition = index("approximate", Metric::L2, true);
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    let mut points = 0;
    // Cells, a graph alone, and both follow one another; whatever is there, is merged into what is wanted now.
    for (approximate, kind) in [KINDS[0], KINDS[2], KINDS[1], KINDS[2], KINDS[0]] {
        let more = points.max(60);
        world.upload_range(points..points + more, "a", 1).await;
        points += more;
        world.run(&world.builder_with(settings_for(approximate))).await;
        let segments = world.segments(&definition).await;
        assert_eq!(segments.iter().map(|(_, s, _)| (s.kind, i64::from(s.rows))).collect::<Vec<_>>(), [(kind, points)]);
        let segment = &segments[0].2;
        let wants_graph = approximate != ApproximateIndex::Cells;
        assert_eq!((segment.hnsw().is_some(), segment.calibration().is_some()), (wants_graph, wants_graph));
        assert_eq!((segments[0].1.outline > 0, segment.cell_calibration().is_some()), {
            let wants_cells = approximate != ApproximateIndex::Graph;
            (wants_cells, wants_cells)
        });
        world.check(&[&definition]).await;
    }
    // Without a cause to rewrite it, a file with both is carried, and what is dead in it is marked.
    world.upload_range(points..points * 2, "a", 1).await;
    world.run(&world.builder_with(settings_for(ApproximateIndex::Both))).await;
    let before = world.segments(&definition).await;
    world.upload_range(0..5, "a", 2).await;
    world.run(&world.builder_with(settings_for(ApproximateIndex::Cells))).await;
    let after = world.segments(&definition).await;
    let carried = after.iter().find(|(_, segment, _)| segment.object == before[0].1.object).expect("carried");
    assert!(carried.2.hnsw().is_some() && carried.1.deleted.len() == 5, "{:?}", carried.1.deleted);
    world.check(&[&definition]).await;
}

#[tokio::test]
async fn a_split_that_grows_over_the_threshold_through_small_flats_leaves_them() {
    for (approximate, kind) in KINDS {
        let definition = index("approximate", Metric::L2, true);
        let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
        let mut settings = settings_for(approximate);
        settings.merge_fan = 100;
        let builder = world.builder_with(settings);
        for part in 0..4 {
            world.upload_range(part * 10..part * 10 + 10, "a", 1).await;
            world.run(&builder).await;
            let segments = world.segments(&definition).await;
            let flats = segments.iter().filter(|(_, s, _)| s.kind == SegmentKind::Flat).count();
            assert_eq!(flats, if part < 3 { usize::try_from(part).expect("small") + 1 } else { 0 });
        }
        let segments = world.segments(&definition).await;
        assert_eq!(segments.len(), 1);
        assert_eq!((segments[0].1.kind, segments[0].1.rows), (kind, 40));
        world.check(&[&definition]).await;
    }
}

#[tokio::test]
async fn a_segment_of_one_split_that_lost_its_rows_dissolves() {
    for (approximate, _) in KINDS {
        let definition = index("approximate", Metric::L2, true);
        let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
        let builder = world.builder_with(settings_for(approximate));
        world.upload_range(0..60, "a", 1).await;
        world.run(&builder).await;
        let deletions: Vec<Update> = (5..60).map(|id| world.delete(id, "a")).collect();
        world.upload(&deletions).await;
        world.run(&builder).await;
        let segments = world.segments(&definition).await;
        assert_eq!(segments.iter().map(|(_, s, _)| (s.kind, s.rows)).collect::<Vec<_>>(), [(SegmentKind::Flat, 5)]);
        world.check(&[&definition]).await;
    }
}

#[tokio::test]
async fn unchanged_segments_and_shards_are_carried_by_name() {
    let definition = sharded(index("shards", Metric::L2, false));
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    let mut settings = settings();
    settings.merge_fan = 4;
    let builder = world.builder_with(settings);
    world.upload_range(0..50, "a", 1).await;
    world.upload_range(0..50, "b", 1).await;
    world.run(&builder).await;
    let before = latest_manifest(&world.store, &definition.id, None).await.expect("read").expect("there");
    world.upload(&[world.upsert(1, "b", 2)]).await;
    builder.fold(&world.source.id).await.expect("folded");
    let outcome = builder.build(&definition.id).await.expect("built");
    let after = latest_manifest(&world.store, &definition.id, None).await.expect("read").expect("there");
    assert_eq!((outcome.segments_written, outcome.segments_carried), (1, 2));
    assert_eq!(after.shards[0], before.shards[0], "nothing of the first shard changed");
    assert_ne!(after.shards[1].catalog, before.shards[1].catalog);
    world.check(&[&definition]).await;
}

#[tokio::test]
async fn an_upload_that_no_shard_takes_advances_the_watermark_alone() {
    let definition = sharded(index("shards", Metric::L2, false));
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    let builder = world.builder();
    world.upload_range(0..5, "a", 1).await;
    world.run(&builder).await;
    let before = latest_manifest(&world.store, &definition.id, None).await.expect("read").expect("there");
    world.upload_range(0..5, "elsewhere", 1).await;
    world.run(&builder).await;
    let after = latest_manifest(&world.store, &definition.id, None).await.expect("read").expect("there");
    assert_eq!((after.generation, after.watermark.sequence(0)), (2, 2));
    assert_eq!(after.shards, before.shards);
    world.check(&[&definition]).await;
}

#[tokio::test]
async fn when_the_deltas_are_collected_the_index_is_built_from_the_checkpoint() {
    let early = index("early", Metric::L2, false);
    let mut world = World::new(VectorKind::Dense).await.with_index(&early).await;
    let builder = world.builder();
    world.upload_range(0..20, "a", 1).await;
    world.upload_range(10..40, "b", 1).await;
    world.run(&builder).await;
    world.clock.advance(Duration::from_secs(7200));
    builder.collect_garbage(&gc(Duration::from_secs(3600))).await.expect("collected");
    let deltas = world.store.list(&KeyPrefix::Timeline(world.source.id.clone(), 0)).await.expect("listed");
    assert_eq!(deltas, Vec::new());
    let late = index("late", Metric::L2, true);
    let world = world.with_index(&late).await;
    world.run(&builder).await;
    world.check(&[&early, &late]).await;
}

#[tokio::test]
async fn a_split_larger_than_a_segment_may_be_is_spread_over_several() {
    for (approximate, kind) in KINDS {
        let definition = index("approximate", Metric::L2, true);
        let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
        world.upload_range(0..400, "a", 1).await;
        let mut settings = settings_for(approximate);
        settings.segment_bytes_max = 16 << 10;
        let builder = world.builder_with(settings);
        world.run(&builder).await;
        let segments = world.segments(&definition).await;
        assert!(segments.len() > 1, "{} segments", segments.len());
        assert!(segments.iter().all(|(_, segment, _)| segment.kind == kind));
        world.upload_range(100..150, "a", 2).await;
        world.run(&builder).await;
        world.check(&[&definition]).await;
    }
}

#[tokio::test]
async fn rows_that_do_not_fit_into_memory_are_spilled_and_all_arrive() {
    let definition = index("flat", Metric::L2, false);
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    world.upload_range(0..9_000, "a", 1).await;
    world.upload_range(0..9_000, "b", 1).await;
    let mut settings = settings();
    settings.memory_limit_bytes = 256 << 10;
    settings.segment_bytes_max = 256 << 10;
    world.run(&world.builder_with(settings)).await;
    world.check(&[&definition]).await;
}

#[tokio::test]
async fn a_hundred_thousand_tiny_splits_make_few_objects_and_a_small_manifest() {
    let definition = index("flat", Metric::L2, false);
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    for part in 0..2_i64 {
        let updates: Vec<Update> =
            (part * 50_000..(part + 1) * 50_000).map(|id| world.upsert(id, &format!("split {id}"), 1)).collect();
        world.upload(&updates).await;
    }
    let builder = world.builder();
    world.run(&builder).await;
    world.upload(&[world.upsert(7, "split 7", 2), world.upsert(0, "one more", 1)]).await;
    world.run(&builder).await;
    let manifest = latest_manifest(&world.store, &definition.id, None).await.expect("read").expect("there");
    assert_eq!((manifest.rows, manifest.shards[0].splits), (100_001, 100_001));
    assert!(manifest.shards[0].segments <= 3, "{} segments", manifest.shards[0].segments);
    let objects = world.store.list(&KeyPrefix::Index(definition.id.clone())).await.expect("listed");
    assert!(objects.len() <= 12, "{} objects", objects.len());
    let key = ObjectKey::Manifest { index: definition.id.clone(), generation: manifest.generation };
    let bytes = world.store.size(&key).await.expect("asked").expect("there");
    assert!(bytes < 64 << 10, "the manifest has {bytes} bytes");
    assert_eq!(world.index_points(&definition).await, world.points);
}

#[tokio::test]
async fn a_build_that_took_too_long_publishes_nothing() {
    let definition = index("flat", Metric::L2, false);
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    world.upload_range(0..5, "a", 1).await;
    let mut settings = settings();
    settings.longest_build = Duration::ZERO;
    let error = world.builder_with(settings).fold(&world.source.id).await.expect_err("refused");
    assert!(error.to_string().contains("nothing was published"), "{error}");
    let roots = world.store.list(&KeyPrefix::Checkpoints(world.source.id.clone())).await.expect("listed");
    assert_eq!(roots, Vec::new());
}

#[tokio::test]
async fn one_failure_does_not_stop_the_others() {
    let definition = index("flat", Metric::L2, false);
    let mut orphan = index("orphan", Metric::L2, false);
    orphan.data_source.name = "nowhere".to_owned();
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    tarn_store::create_index(&world.store, &orphan).await.expect("created");
    world.upload_range(0..5, "a", 1).await;
    let summary = world.builder().run().await.expect("listed");
    let failures: Vec<String> = summary.failures().map(|(what, _)| what).collect();
    assert_eq!(failures, [orphan.id.to_string()]);
    assert!(summary.published());
    assert_eq!(world.index_points(&definition).await, world.points);
}

/// An index that takes longer than a process may live keeps no other from being built for good.
#[tokio::test]
async fn every_run_begins_somewhere_else() {
    let (store, faults) = faulty();
    let mut world = World::over(store, VectorKind::Dense).await;
    for name in ["a", "b", "c"] {
        world = world.with_index(&index(name, Metric::L2, false)).await;
    }
    let mut first = BTreeSet::new();
    for _ in 0..64 {
        let before = faults.log().len();
        world.run(&world.builder()).await;
        let log = faults.log();
        let manifests = log[before..].iter().find(|(_, path)| path.contains("/manifests"));
        first.insert(manifests.expect("a manifest was looked for").1.clone());
    }
    assert_eq!(first.len(), 3, "{first:?}");
}

/// Rows that die are taken back from what was counted; when the farthest does, all are counted again.
#[tokio::test]
async fn statistics_of_carried_segments_are_those_of_a_fresh_count() {
    let definition = index("flat", Metric::L2, false);
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    world.upload_range(0..60, "a", 1).await;
    let builder = world.builder();
    world.run(&builder).await;
    for gone in [20..23, 30..31, 58..60, 0..1] {
        let updates: Vec<_> = gone.map(|id| world.delete(id, "a")).collect();
        world.upload(&updates).await;
        world.run(&builder).await;
        let mut dead = 0;
        for (_, segment, open) in world.segments(&definition).await {
            let known = segment.statistics.expect("counted");
            let live = (0..segment.rows).filter(|row| !segment.deleted.contains(*row));
            let fresh = open.statistics(live, known.reference()).expect("counts");
            assert!(known.agrees(&fresh), "{known:?} {fresh:?}");
            let (known, fresh) = (known.distances(), fresh.distances());
            assert_eq!((known.rows(), known.max(), known.bins()), (fresh.rows(), fresh.max(), fresh.bins()));
            dead += segment.deleted.len();
        }
        assert!(dead > 0, "the segment is carried over");
    }
    world.check(&[&definition]).await;
}
