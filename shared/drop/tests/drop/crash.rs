//! A crash after, or during, any request; then the file is processed again: exactly once.

use tarn_drop::{DropState, Settled, list_drops};
use tarn_testkit::Faults;

use crate::support::{World, csv, gzip, ndjson, parquet, report, sequences, settled, updates};

async fn crash_everywhere(name: &str, file: &[u8], crash: impl Fn(&Faults, u64), check: impl AsyncFn(&World, &str)) {
    let key = format!("drop/films/1.0/{name}");
    let mut crashes = 0;
    for operations in 0.. {
        let world = World::new().await;
        world.put(&key, file).await;
        crash(&world.faults, operations);
        // What a dead process answers nobody hears.
        let _ = world.folder().process(&key, None, None).await;
        let crashed = world.faults.has_crashed();
        world.faults.heal();
        check(&world, &key).await;
        if !crashed {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 15, "{crashes}");
}

async fn committed(world: &World, key: &str) {
    let status = settled(world.folder().process(key, None, None).await.unwrap());
    assert_eq!(sequences(&status), [1, 2, 3]);
    assert_eq!(world.updates().await, updates(0..100));
    assert_eq!(world.keys("drop-status/").await.iter().filter(|key| key.contains("/chunks/")).count(), 3);
}

async fn refused(world: &World, key: &str) {
    // The original may be gone already; then everything else is there.
    let _ = world.folder().process(key, None, None).await.unwrap();
    assert_eq!(world.get(key).await, None);
    assert_eq!(world.deltas().await, 0);
    let page = list_drops(&world.store, &world.source.id, 10, None).await.unwrap().unwrap();
    let [entry] = page.entries.as_slice() else { panic!("{page:?}") };
    assert_eq!(entry.state, DropState::Refused);
    assert_eq!(entry.report.as_ref().unwrap().row, Some(50));
    let kept = world.keys("drop-refused/films/1.0/").await;
    assert_eq!(kept.len(), 2, "{kept:?}");
}

#[tokio::test]
async fn a_crash_after_any_request_loses_and_repeats_nothing() {
    crash_everywhere("x.csv", &csv(&updates(0..100)), Faults::crash_after, committed).await;
}

#[tokio::test]
async fn a_crash_during_any_request_loses_and_repeats_nothing() {
    crash_everywhere("x.parquet", &parquet(&updates(0..100)), Faults::crash_during, committed).await;
    crash_everywhere("x.ndjson.gz", &gzip(&ndjson(&updates(0..100))), Faults::crash_during, committed).await;
}

#[tokio::test]
async fn a_crash_while_a_file_is_refused_neither_loses_nor_keeps_it() {
    let mut file = String::from_utf8(csv(&updates(0..100))).unwrap();
    let at = file.match_indices('\n').nth(49).unwrap().0;
    file.insert_str(at + 1, "fifty,x,\"[1,2]\",false\n");
    crash_everywhere("x.csv", file.as_bytes(), Faults::crash_after, refused).await;
    crash_everywhere("x.csv", file.as_bytes(), Faults::crash_during, refused).await;
}

#[tokio::test]
async fn random_faults_lose_and_repeat_nothing() {
    for seed in 0..12 {
        let world = World::new().await;
        let key = "drop/films/1.0/x.csv";
        world.put(key, csv(&updates(0..100))).await;
        world.faults.random(seed, 0.2);
        for attempt in 0..40 {
            if attempt == 39 {
                world.faults.random(seed, 0.0);
            }
            match world.folder().process(key, None, None).await {
                Ok(outcome) => {
                    assert!(matches!(settled(outcome).settled, Settled::Committed { .. }), "{seed}");
                    break;
                }
                Err(error) => assert!(attempt < 39, "{seed}: {error}"),
            }
        }
        world.faults.heal();
        // Puts that were lost on their way arrive at last.
        world.faults.land_late(&**world.store.object_store()).await;
        assert_eq!(world.updates().await, updates(0..100), "{seed}");
    }
}

#[tokio::test]
async fn the_original_is_deleted_only_once_its_copy_is_there() {
    let world = World::new().await;
    let status = world.drop_file("a/x.csv", "id\n1\n").await;
    assert!(report(&status).message.contains("title"), "{:?}", status.settled);
    let log = world.faults.log();
    let position = |operation, part: &str| {
        log.iter()
            .position(|(kind, path)| *kind == operation && path.contains(part))
            .unwrap_or_else(|| panic!("{part}"))
    };
    let copied = position(tarn_testkit::Operation::Put, "drop-refused/");
    let status =
        log.iter().rposition(|(kind, path)| *kind == tarn_testkit::Operation::Put && path.starts_with("drop-status/"));
    let deleted = position(tarn_testkit::Operation::Delete, "drop/films/1.0/a/x.csv");
    assert!(copied < deleted && status.unwrap() < deleted);
    let deletes = log.iter().filter(|(kind, _)| *kind == tarn_testkit::Operation::Delete);
    assert_eq!(deletes.count(), 1);
}
