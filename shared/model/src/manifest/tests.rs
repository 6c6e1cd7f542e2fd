//! Specification of the durable roots: what parses, what is refused, which successors are allowed.

use super::*;

const OBJECT: &str = "the/key.json";

fn object_ref() -> ObjectRef {
    ObjectRef { id: Ulid(7), bytes: 10, crc32c: 1 }
}

fn source() -> DataSourceId {
    DataSourceId { name: "films".into(), version: "1.10".into() }
}

fn index() -> IndexId {
    IndexId { name: "by-plot".into(), version: "1.0".into() }
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        format: FORMAT,
        source: source(),
        generation: 3,
        commit_id: Ulid(1),
        watermark: ReadToken::single(17),
        created_ms: 0,
        rows: 12,
        files: vec![
            CheckpointFile { data: object_ref(), rows: 10, deleted: Some(object_ref()), deleted_rows: 3 },
            CheckpointFile { data: object_ref(), rows: 5, deleted: None, deleted_rows: 0 },
        ],
    }
}

fn manifest() -> Manifest {
    let entry = |shard: &str, rows| ShardEntry {
        shard: shard.into(),
        rows,
        splits: 1,
        segments: 1,
        segment_bytes: 10,
        catalog: Some(object_ref()),
    };
    Manifest {
        format: FORMAT,
        index: index(),
        generation: 3,
        commit_id: Ulid(1),
        watermark: ReadToken::single(17),
        created_ms: 0,
        rows: 12,
        shards: vec![entry("a", 5), entry("b", 7)],
    }
}

fn bytes(root: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(root).expect("serializes")
}

fn part<T: std::fmt::Debug>(result: Result<T, Corrupt>) -> String {
    let corrupt = result.expect_err("refused");
    assert!(!corrupt.object.is_empty() && !corrupt.expected.is_empty() && !corrupt.found.is_empty(), "{corrupt}");
    corrupt.part
}

#[test]
fn roots_parse_back() {
    assert_eq!(Checkpoint::parse(OBJECT, &bytes(&checkpoint()), &source(), 3), Ok(checkpoint()));
    assert_eq!(Manifest::parse(OBJECT, &bytes(&manifest()), &index(), 3), Ok(manifest()));
    let boundary =
        Boundary { format: FORMAT, number: 1, commit_id: Ulid(1), timeline: ReadToken::single(4), generation: 2 };
    assert_eq!(Boundary::parse(OBJECT, &bytes(&boundary), 1), Ok(boundary));
}

#[test]
fn a_root_must_be_what_its_key_says() {
    let good = bytes(&manifest());
    assert_eq!(part(Manifest::parse(OBJECT, &good, &index(), 4)), "number");
    let other = IndexId { name: "other".into(), version: "1.0".into() };
    assert_eq!(part(Manifest::parse(OBJECT, &good, &other, 3)), "owner");
    let future = bytes(&Manifest { format: FORMAT + 1, ..manifest() });
    assert_eq!(part(Manifest::parse(OBJECT, &future, &index(), 3)), "format");
    let good = bytes(&checkpoint());
    assert_eq!(part(Checkpoint::parse(OBJECT, &good, &source(), 4)), "number");
    let other = DataSourceId { name: "films".into(), version: "1.1".into() };
    assert_eq!(part(Checkpoint::parse(OBJECT, &good, &other, 3)), "owner");
}

#[test]
fn truncated_json_is_corrupt_at_every_length() {
    let good = bytes(&manifest());
    for length in 0..good.len() {
        assert_eq!(part(Manifest::parse(OBJECT, &good[..length], &index(), 3)), "json");
    }
}

#[test]
fn rows_add_up_in_every_root() {
    let checkpoint_with = |change: &dyn Fn(&mut Checkpoint)| {
        let mut root = checkpoint();
        change(&mut root);
        part(Checkpoint::parse(OBJECT, &bytes(&root), &source(), 3))
    };
    assert_eq!(checkpoint_with(&|c| c.rows = 13), "rows-add-up");
    assert_eq!(checkpoint_with(&|c| c.files[0].deleted_rows = 11), "rows-add-up");
    assert_eq!(checkpoint_with(&|c| c.files[0].deleted = None), "rows-add-up");
    let manifest_with = |change: &dyn Fn(&mut Manifest)| {
        let mut root = manifest();
        change(&mut root);
        part(Manifest::parse(OBJECT, &bytes(&root), &index(), 3))
    };
    assert_eq!(manifest_with(&|m| m.rows = 13), "rows-add-up");
    assert_eq!(manifest_with(&|m| m.shards[0].catalog = None), "rows-add-up");
    assert_eq!(manifest_with(&|m| m.shards.reverse()), "shards-are-sorted");
}

#[test]
fn successors_are_checked_before_they_are_written() {
    let (before, mut after) = (manifest(), manifest());
    after.generation = 4;
    assert_eq!(after.check_successor(Some(&before)), Ok(()));
    assert_eq!(part(after.check_successor(None)), "generation-follows-predecessor");
    after.watermark = ReadToken::single(16);
    assert_eq!(part(after.check_successor(Some(&before))), "watermark-never-regresses");

    let (before, mut after) = (checkpoint(), checkpoint());
    assert_eq!(part(after.check_successor(Some(&before))), "generation-follows-predecessor");
    after.generation = 4;
    assert_eq!(after.check_successor(Some(&before)), Ok(()));
    after.watermark = ReadToken::default();
    let error = after.check_successor(Some(&before)).expect_err("refused");
    assert_eq!(error.part, "watermark-never-regresses");
    assert_eq!(error.object, "sources/films/1.10/checkpoints/18446744073709551611.json");
}

#[test]
fn boundaries_succeed_each_other() {
    let boundary = |number, timeline| Boundary {
        format: FORMAT,
        number,
        commit_id: Ulid(1),
        timeline: ReadToken::single(timeline),
        generation: 2,
    };
    assert_eq!(boundary(1, 4).check_successor(OBJECT, None), Ok(()));
    assert_eq!(boundary(2, 4).check_successor(OBJECT, Some(&boundary(1, 4))), Ok(()));
    assert_eq!(part(boundary(3, 4).check_successor(OBJECT, Some(&boundary(1, 4)))), "generation-follows-predecessor");
    assert_eq!(part(boundary(2, 3).check_successor(OBJECT, Some(&boundary(1, 4)))), "boundary-never-regresses");
}

/// The stored form. A change here is a change of format: raise [`FORMAT`] and keep reading the old one.
#[test]
fn the_stored_form_stays_as_it_is() {
    let golden = r#"{"format":1,"index":{"name":"by-plot","version":"1.0"},"generation":3,"commitId":"00000000000000000000000001","watermark":[17],"createdMs":0,"rows":12,"shards":[{"shard":"a","rows":5,"splits":1,"segments":1,"segmentBytes":10,"catalog":{"id":"00000000000000000000000007","bytes":10,"crc32c":1}},{"shard":"b","rows":7,"splits":1,"segments":1,"segmentBytes":10,"catalog":{"id":"00000000000000000000000007","bytes":10,"crc32c":1}}]}"#;
    assert_eq!(String::from_utf8(bytes(&manifest())).expect("text"), golden);
    let golden = r#"{"format":1,"source":{"name":"films","version":"1.10"},"generation":3,"commitId":"00000000000000000000000001","watermark":[17],"createdMs":0,"rows":12,"files":[{"data":{"id":"00000000000000000000000007","bytes":10,"crc32c":1},"rows":10,"deleted":{"id":"00000000000000000000000007","bytes":10,"crc32c":1},"deletedRows":3},{"data":{"id":"00000000000000000000000007","bytes":10,"crc32c":1},"rows":5,"deletedRows":0}]}"#;
    assert_eq!(String::from_utf8(bytes(&checkpoint())).expect("text"), golden);
}

#[test]
fn sequences_beyond_what_a_row_version_can_hold_are_corrupt() {
    for token in [ReadToken::single(limits::SEQUENCE + 1), ReadToken::single(u64::MAX), ReadToken { lanes: vec![1, 1] }]
    {
        let root = bytes(&Checkpoint { watermark: token.clone(), ..checkpoint() });
        assert_eq!(part(Checkpoint::parse(OBJECT, &root, &source(), 3)), "watermark");
        let root = bytes(&Manifest { watermark: token.clone(), ..manifest() });
        assert_eq!(part(Manifest::parse(OBJECT, &root, &index(), 3)), "watermark");
        let boundary = Boundary { format: FORMAT, number: 1, commit_id: Ulid(1), timeline: token, generation: 2 };
        assert_eq!(part(Boundary::parse(OBJECT, &bytes(&boundary), 1)), "timeline");
    }
    let last = Checkpoint { watermark: ReadToken::single(limits::SEQUENCE), ..checkpoint() };
    assert_eq!(Checkpoint::parse(OBJECT, &bytes(&last), &source(), 3), Ok(last));
}
