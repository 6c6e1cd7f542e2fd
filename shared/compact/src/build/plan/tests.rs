//! Tables of shards and what is built in them.

use roaring::RoaringBitmap;
use tarn_model::ObjectRef;
use tarn_segment::SplitRows;
use ulid::Ulid;

use super::*;

/// The kinds that hold one split.
const APPROXIMATE: [SegmentKind; 2] = [SegmentKind::Cells, SegmentKind::Graph];

fn split(name: &str) -> SplitKey {
    SplitKey(name.as_bytes().to_vec())
}

/// A segment of these splits with their row counts; a thousand bytes a row.
fn segment(kind: SegmentKind, splits: &[(&str, u32)], dead: &[u32]) -> CatalogSegment {
    let mut at = 0;
    let splits: Vec<SplitRows> = splits
        .iter()
        .map(|(name, rows)| {
            let range = at..at + rows;
            at += rows;
            SplitRows { key: split(name), rows: range }
        })
        .collect();
    CatalogSegment {
        object: ObjectRef { id: Ulid::nil(), bytes: u64::from(at) * 1000, crc32c: 0 },
        kind,
        outline: 0,
        rows: at,
        deleted: dead.iter().copied().collect::<RoaringBitmap>(),
        splits,
        statistics: None,
    }
}

fn policy(own_threshold: Option<u64>) -> PlanPolicy {
    PlanPolicy {
        merge: MergePolicy { fan: 4, dead_percent_max: 40, full: 1 << 40 },
        own_threshold,
        row_bytes: 1000,
        rows_max: 100,
    }
}

fn new_rows(rows: &[(&str, u64)]) -> BTreeMap<SplitKey, u64> {
    rows.iter().map(|(name, rows)| (split(name), *rows)).collect()
}

/// Every live row goes to exactly one place, and so does every split's new rows.
fn check_nothing_is_lost(segments: &[CatalogSegment], new: &BTreeMap<SplitKey, u64>, plan: &ShardPlan) {
    for (number, segment) in segments.iter().enumerate() {
        let mut seen = RoaringBitmap::new();
        for moved in plan.moves.iter().filter(|moved| moved.segment == number) {
            assert!(seen.is_disjoint(&moved.rows), "a row moves once");
            seen |= &moved.rows;
        }
        for (_, deleted) in plan.keep.iter().filter(|(kept, _)| *kept == number) {
            let mut kept = RoaringBitmap::new();
            kept.insert_range(0..segment.rows);
            kept -= deleted;
            assert!(seen.is_disjoint(&kept), "a row moves or stays");
            seen |= kept;
        }
        let mut live = RoaringBitmap::new();
        live.insert_range(0..segment.rows);
        live -= &segment.deleted;
        assert_eq!(seen, live, "segment {number}");
    }
    let wanted: Vec<&SplitKey> = new.iter().filter(|(_, rows)| **rows > 0).map(|(split, _)| split).collect();
    assert!(plan.new_rows.keys().eq(wanted));
    assert!(plan.new_rows.values().all(|bins| !bins.is_empty()));
}

fn plan(segments: &[CatalogSegment], new: &[(&str, u64)], own_threshold: Option<u64>) -> ShardPlan {
    let new = new_rows(new);
    let plan = plan_shard(segments.to_vec(), &new, &policy(own_threshold));
    check_nothing_is_lost(segments, &new, &plan);
    plan
}

fn bins(plan: &ShardPlan) -> Vec<(bool, u64)> {
    plan.bins.iter().map(|bin| (bin.own, bin.rows)).collect()
}

#[test]
fn small_splits_share_a_segment() {
    assert_eq!(bins(&plan(&[], &[("a", 10), ("b", 20), ("c", 30)], Some(50))), [(false, 60)]);
}

#[test]
fn a_segment_takes_no_more_rows_than_it_may() {
    assert_eq!(bins(&plan(&[], &[("a", 60), ("b", 60), ("c", 30)], None)), [(false, 60), (false, 90)]);
    let spread = plan(&[], &[("a", 250)], None);
    assert_eq!(spread.bins.len(), 3);
    assert_eq!(spread.new_rows[&split("a")], [0, 1, 2]);
}

#[test]
fn a_large_split_gets_a_segment_of_its_own() {
    assert_eq!(bins(&plan(&[], &[("a", 60), ("b", 20), ("c", 30)], Some(50))), [(true, 60), (false, 50)]);
    assert_eq!(bins(&plan(&[], &[("a", 60)], None)), [(false, 60)], "not in an exact index");
}

#[test]
fn a_split_that_grew_through_flats_is_promoted_and_leaves_them() {
    let flats =
        [segment(SegmentKind::Flat, &[("a", 30), ("b", 30)], &[]), segment(SegmentKind::Flat, &[("a", 15)], &[])];
    let plan = plan(&flats, &[("a", 10)], Some(50));
    assert_eq!(bins(&plan), [(true, 55), (false, 30)]);
    assert_eq!(plan.keep, Vec::new(), "one is empty, of the other half is dead: it is rewritten");
}

#[test]
fn new_rows_of_a_split_with_a_segment_of_its_own_wait_in_a_flat_one() {
    for kind in APPROXIMATE {
        let alone = [segment(kind, &[("a", 60)], &[3])];
        let plan = plan(&alone, &[("a", 10)], Some(50));
        assert_eq!(bins(&plan), [(false, 10)]);
        assert_eq!(plan.keep.len(), 1);
    }
}

#[test]
fn four_of_a_size_become_one_whatever_they_are() {
    for kinds in
        [[SegmentKind::Graph; 3], [SegmentKind::Cells; 3], [SegmentKind::Graph, SegmentKind::Cells, SegmentKind::Cells]]
    {
        let alone = kinds.map(|kind| segment(kind, &[("a", 20)], &[]));
        assert_eq!(plan(&alone, &[("a", 5)], Some(20)).keep.len(), 3);
        assert_eq!(bins(&plan(&alone, &[("a", 20)], Some(20))), [(true, 80)]);
    }
}

#[test]
fn a_segment_of_one_split_is_not_packed_with_others() {
    let flats = (0..3).map(|_| segment(SegmentKind::Flat, &[("b", 15)], &[]));
    let all: Vec<CatalogSegment> = flats.chain(APPROXIMATE.map(|kind| segment(kind, &[("a", 15)], &[]))).collect();
    let plan = plan(&all, &[("c", 15)], Some(50));
    assert_eq!(bins(&plan), [(false, 60)]);
    assert_eq!(plan.keep.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn a_segment_of_one_split_that_has_lost_most_rows_dissolves() {
    let dead: Vec<u32> = (0..40).collect();
    for kind in APPROXIMATE {
        let plan = plan(&[segment(kind, &[("a", 60)], &dead)], &[], Some(50));
        assert_eq!(bins(&plan), [(false, 20)]);
        assert_eq!(plan.keep, Vec::new());
    }
}

#[test]
fn a_segment_of_dead_rows_alone_goes() {
    let plan = plan(&[segment(SegmentKind::Flat, &[("a", 2)], &[0, 1])], &[], None);
    assert_eq!((plan.bins.len(), plan.keep.len()), (0, 0));
}

#[test]
fn packed_segments_merge_by_size() {
    let flats: Vec<CatalogSegment> = (0..3).map(|_| segment(SegmentKind::Flat, &[("a", 5), ("b", 5)], &[])).collect();
    let waits = plan(&flats, &[], Some(50));
    assert_eq!((waits.bins.len(), waits.keep.len()), (0, 3));
    assert_eq!(bins(&plan(&flats, &[("c", 9)], Some(50))), [(false, 39)]);
}

#[test]
fn several_bins_share_a_split_by_key() {
    let bins = [4, 7, 9];
    let mut taken = std::collections::BTreeSet::new();
    for key in 0..100_u32 {
        taken.extend(bin_of(&bins, &key.to_be_bytes()));
    }
    assert!(taken.iter().eq(&bins));
    assert_eq!(bin_of(&[], b"key"), None);
}
