//! Once per file, whatever the events do.

use std::time::Duration;

use tarn_drop::{DropError, DropState, Outcome, Settled, Watcher, list_drops};
use tarn_testkit::{Fault, Operation};

use crate::support::{CHUNK, FORMATS, World, csv, gzip, ndjson, report, sequences, settled, updates};

const KEY: &str = "drop/films/1.0/x.csv";

#[tokio::test]
async fn a_second_event_changes_nothing() {
    let world = World::new().await;
    let first = world.drop_file("x.csv", csv(&updates(0..100))).await;
    let again = settled(world.folder().process(KEY, None, None).await.unwrap());
    assert_eq!(first, again);
    assert_eq!(world.deltas().await, 3);
}

#[tokio::test]
async fn events_at_once_commit_once() {
    let world = World::new().await;
    world.put(KEY, csv(&updates(0..100))).await;
    let folders = [world.folder(), world.folder(), world.folder()];
    let runs = folders.iter().map(|folder| folder.process(KEY, None, None));
    for outcome in futures::future::join_all(runs).await {
        assert_eq!(sequences(&settled(outcome.unwrap())), [1, 2, 3]);
    }
    assert_eq!(world.updates().await, updates(0..100));
}

#[tokio::test]
async fn another_file_under_the_same_name_is_another_file() {
    let world = World::new().await;
    world.drop_file("x.csv", csv(&updates(0..10))).await;
    let second = world.drop_file("x.csv", csv(&updates(10..20))).await;
    assert_eq!(sequences(&second), [2]);
    assert_eq!(world.updates().await, updates(0..20));
}

#[tokio::test]
async fn an_event_of_a_file_that_is_gone_is_done() {
    let world = World::new().await;
    for version in [None, Some("old")] {
        let outcome = world.folder().process(KEY, version, None).await.unwrap();
        assert!(matches!(outcome, Outcome::Ignored { .. }), "{outcome:?}");
    }
    assert_eq!(world.deltas().await, 0);
}

#[tokio::test]
async fn an_event_names_a_version_that_the_store_does_not() {
    let world = World::new().await;
    world.put(KEY, csv(&updates(0..10))).await;
    for version in [Some("old"), None] {
        assert_eq!(sequences(&settled(world.folder().process(KEY, version, None).await.unwrap())), [1]);
    }
    assert_eq!(world.updates().await, updates(0..10));
}

#[tokio::test]
async fn a_file_that_is_done_is_recognised_when_everything_else_is_collected() {
    let world = World::new().await;
    let first = world.drop_file("x.csv", csv(&updates(0..100))).await;
    for collected in ["sources/films/1.0/timeline/", "sources/films/1.0/receipts/"] {
        world.remove(collected).await;
    }
    assert_eq!(settled(world.folder().process(KEY, None, None).await.unwrap()), first);
    assert_eq!(world.deltas().await, 0);
}

#[tokio::test]
async fn a_chunk_that_is_not_recorded_outlives_the_receipts_of_uploads() {
    let world = World::new().await;
    world.put(KEY, csv(&updates(0..100))).await;
    for _ in 0..100 {
        world.faults.script(Operation::Put, "chunks/000001.json", Fault::UnavailableBefore);
    }
    world.folder().process(KEY, None, None).await.unwrap_err();
    world.faults.heal();
    assert_eq!(world.deltas().await, 2);
    world.remove("sources/films/1.0/receipts/").await;
    assert_eq!(sequences(&settled(world.folder().process(KEY, None, None).await.unwrap())), [1, 2, 3]);
    assert_eq!(world.updates().await, updates(0..100));
}

#[tokio::test]
async fn validation_goes_on_where_the_time_was_up() {
    for (name, encode) in FORMATS {
        for (ending, compress) in [("", (|bytes| bytes.to_vec()) as fn(&[u8]) -> Vec<u8>), (".gz", gzip)] {
            let world = World::new().await;
            let key = format!("drop/films/1.0/{name}{ending}");
            world.put(&key, compress(&encode(&updates(0..100)))).await;
            for valid in 1..=3 {
                let outcome = world.folder().process(&key, None, Some(Duration::ZERO)).await.unwrap();
                assert_eq!(outcome, Outcome::Unfinished { rows: 0 }, "{name}{ending}");
                assert_eq!(world.keys("drop-status/").await.len(), valid, "{name}{ending}");
                let page = list_drops(&world.store, &world.source.id, 10, None).await.unwrap().unwrap();
                let states: Vec<_> = page.entries.iter().map(|entry| entry.state).collect();
                assert_eq!(states, [DropState::Pending], "{name}{ending}");
            }
            // A mapping that comes when rows are valid already is too late for them.
            world.put("drop/films/1.0/_mapping.json", "{").await;
            assert_eq!(sequences(&settled(world.folder().process(&key, None, None).await.unwrap())), [1, 2, 3]);
            assert_eq!(world.updates().await, updates(0..100), "{name}{ending}");
        }
    }
}

#[tokio::test]
async fn what_is_valid_is_not_read_again() {
    let world = World::new().await;
    let file = ndjson(&updates(0..1_000));
    let key = "drop/films/1.0/x.ndjson";
    world.put(key, file.clone()).await;
    let reads = |from: u64| {
        let log = world.faults.log().into_iter().skip(usize::try_from(from).unwrap());
        log.filter(|(kind, path)| *kind == Operation::Get && path.ends_with("x.ndjson")).count()
    };
    let mut all = 0;
    for _ in 0..20 {
        let before = world.faults.operations();
        world.folder().process(key, None, Some(Duration::ZERO)).await.unwrap();
        all += reads(before);
    }
    // A run looks at the file, and reads a chunk and the block that it ends in.
    assert!(all < 20 * (2 + 2 * file.len() / 1_000 / 25), "{all}");
    assert!(world.keys("drop-status/").await.iter().any(|key| key.ends_with("surveys/000020.json")));
}

#[tokio::test]
async fn rows_and_lines_are_counted_from_the_start_of_the_file() {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    // The blank line is one, and no row; the header is a line of CSV.
    let lines = |text: String, end: &str, bad: &str| {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.insert(3, "");
        lines.insert(95, bad);
        lines.join(end)
    };
    let rows = updates(0..100);
    for (name, file, row) in [
        ("x.ndjson", lines(text(ndjson(&rows)), "\n", "{}"), 95),
        ("y.ndjson", lines(text(ndjson(&rows)), "\r\n", "{}"), 95),
        ("x.csv", lines(text(csv(&rows)), "\n", "x,a,,"), 94),
        // Ten rows have two lines.
        ("y.csv", lines(text(csv(&rows)).replace("film \"\"1", "film\n \"\"1"), "\r\n", "x,a,,"), 84),
    ] {
        for runs in [0, 2] {
            let world = World::new().await;
            let key = format!("drop/films/1.0/{name}");
            world.put(&key, file.clone()).await;
            for _ in 0..runs {
                world.folder().process(&key, None, Some(Duration::ZERO)).await.unwrap();
            }
            let status = settled(world.folder().process(&key, None, None).await.unwrap());
            let report = report(&status);
            assert_eq!((report.row, report.line), (Some(row), Some(96)), "{name} {runs}: {report:?}");
        }
    }
}

#[tokio::test]
async fn a_run_without_time_goes_on_where_it_ended() {
    for (name, encode) in FORMATS {
        for (ending, compress) in [("", (|bytes| bytes.to_vec()) as fn(&[u8]) -> Vec<u8>), (".gz", gzip)] {
            let world = World::new().await;
            let key = format!("drop/films/1.0/{name}{ending}");
            world.put(&key, compress(&encode(&updates(0..100)))).await;
            let none = world.folder().process(&key, None, Some(Duration::ZERO)).await.unwrap();
            assert_eq!(none, Outcome::Unfinished { rows: 0 }, "{name}{ending}");
            // The second chunk fails, after the first is committed and recorded.
            for _ in 0..100 {
                world.faults.script(Operation::Put, "timeline/000/00000000000000000002", Fault::UnavailableBefore);
            }
            let error = world.folder().process(&key, None, None).await.unwrap_err();
            assert!(matches!(error, DropError::Append(_)), "{error}");
            world.faults.heal();
            let late = world.folder().process(&key, None, Some(Duration::ZERO)).await.unwrap();
            let rows = u64::try_from(CHUNK).unwrap();
            assert_eq!(late, Outcome::Unfinished { rows }, "{name}{ending}");

            let before = world.faults.operations();
            let status =
                settled(world.folder().process(&key, None, Some(world.now() + Duration::from_secs(60))).await.unwrap());
            assert_eq!(sequences(&status), [1, 2, 3], "{name}{ending}");
            assert_eq!(world.updates().await, updates(0..100), "{name}{ending}");
            let log = world.faults.log();
            let receipts = log.iter().skip(usize::try_from(before).unwrap());
            let receipts = receipts.filter(|(kind, path)| *kind == Operation::Put && path.contains("receipts")).count();
            assert_eq!(receipts, 2, "{name}{ending}: what is recorded is not appended again");
        }
    }
}

#[tokio::test]
async fn a_plain_file_is_not_read_again_where_it_is_committed() {
    let world = World::new().await;
    let file = ndjson(&updates(0..100));
    let key = "drop/films/1.0/x.ndjson";
    world.put(key, file.clone()).await;
    for _ in 0..100 {
        world.faults.script(Operation::Put, "timeline/000/00000000000000000003", Fault::UnavailableBefore);
    }
    world.folder().process(key, None, None).await.unwrap_err();
    world.faults.heal();
    let before = usize::try_from(world.faults.operations()).unwrap();
    settled(world.folder().process(key, None, None).await.unwrap());
    let log = world.faults.log();
    let reads = log.iter().skip(before).filter(|(kind, path)| *kind == Operation::Get && path.ends_with("x.ndjson"));
    // One look, and the blocks of the last chunk, a fifth of the file.
    assert!(reads.count() < file.len() / 1_000 / 2);
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_tried_again() {
    let world = World::new().await;
    world.put(KEY, csv(&updates(0..100))).await;
    for _ in 0..100 {
        world.faults.script(Operation::Put, "timeline/000/00000000000000000001", Fault::UnavailableBefore);
    }
    world.folder().process(KEY, None, None).await.unwrap_err();
    world.faults.heal();
    world.put(KEY, csv(&updates(50..60))).await;
    let status = settled(world.folder().process(KEY, None, None).await.unwrap());
    assert_eq!(sequences(&status), [1]);
    assert_eq!(world.updates().await, updates(50..60));
}

#[tokio::test]
async fn a_store_that_cannot_be_read_refuses_nothing() {
    let world = World::new().await;
    world.put(KEY, csv(&updates(0..100))).await;
    for fault in [Fault::UnavailableBefore, Fault::Timeout] {
        for path in ["source.json", "_mapping.json", "x.csv"] {
            for _ in 0..100 {
                world.faults.script(Operation::Get, path, fault);
            }
            world.folder().process(KEY, None, None).await.unwrap_err();
            world.faults.heal();
        }
    }
    assert_eq!(world.keys("drop-").await, Vec::<String>::new());
    settled(world.folder().process(KEY, None, None).await.unwrap());
}

#[tokio::test]
async fn a_watcher_waits_until_a_file_is_complete() {
    let world = World::new().await;
    let mut watcher = Watcher::new(world.folder());
    let (half, whole) = (csv(&updates(0..10)), csv(&updates(0..100)));
    world.put("drop/films/1.0/_mapping.json", "{}").await;
    world.put(KEY, half).await;
    assert!(watcher.look().await.unwrap().is_empty());
    world.put(KEY, whole).await;
    assert!(watcher.look().await.unwrap().is_empty());
    let seen = watcher.look().await.unwrap();
    let [file] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!(file.key, KEY);
    assert!(
        matches!(&file.outcome, Ok(Outcome::Settled(status)) if matches!(status.settled, Settled::Committed { .. }))
    );
    let before = world.faults.operations();
    assert!(watcher.look().await.unwrap().is_empty());
    assert_eq!(world.faults.operations(), before + 1, "a look is one listing");
    assert_eq!(world.updates().await, updates(0..100));
    // A process that starts anew finds out that it is done.
    let mut other = Watcher::new(world.folder());
    other.look().await.unwrap();
    other.look().await.unwrap();
    assert_eq!(world.deltas().await, 3);
}
