//! What became of the files, page by page.

use tarn_drop::{DropState, list_drops};
use tarn_testkit::{Fault, Operation};

use crate::support::{CHUNK, World, csv, updates};

#[tokio::test]
async fn every_file_is_listed_once_with_its_state() {
    let world = World::new().await;
    world.drop_file("good.csv", csv(&updates(0..100))).await;
    world.drop_file("bad.csv", "id,title,vector\nx,a,\"[1,2]\"\n").await;
    world.put("drop/films/1.0/running.csv", csv(&updates(0..90))).await;
    for _ in 0..100 {
        world.faults.script(Operation::Put, "timeline/000/00000000000000000005", Fault::UnavailableBefore);
    }
    world.folder().process("drop/films/1.0/running.csv", None, None).await.unwrap_err();
    world.faults.heal();
    world.put("drop/films/1.0/waiting.csv", "x").await;
    world.put("drop/films/1.0/_mapping.json", "{}").await;
    world.put("drop/other/1.0/x.csv", "x").await;

    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = list_drops(&world.store, &world.source.id, 1, after.as_deref()).await.unwrap().unwrap();
        assert!(page.entries.len() <= 1);
        found.extend(page.entries);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let all = list_drops(&world.store, &world.source.id, 100, None).await.unwrap().unwrap();
    assert_eq!(found, all.entries);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    let states: Vec<_> = found.iter().map(|entry| (entry.path.as_str(), entry.state)).collect();
    assert_eq!(
        states,
        [
            ("bad.csv", DropState::Refused),
            ("good.csv", DropState::Committed),
            ("running.csv", DropState::Running),
            ("waiting.csv", DropState::Pending),
        ]
    );
    assert_eq!(found[0].report.as_ref().unwrap().row, Some(1));
    assert_eq!((found[1].rows, found[1].sequences.as_slice()), (Some(100), &[1, 2, 3][..]));
    assert!(found[1].version.is_some());
    assert_eq!((found[2].rows, found[2].rows_committed), (Some(90), CHUNK as u64));
    assert_eq!(found[2].sequences, [4]);
}

#[tokio::test]
async fn a_cursor_that_is_none_is_told() {
    let world = World::new().await;
    assert!(list_drops(&world.store, &world.source.id, 1, Some("x")).await.unwrap().is_none());
    assert!(list_drops(&world.store, &world.source.id, 1, None).await.unwrap().unwrap().entries.is_empty());
}
