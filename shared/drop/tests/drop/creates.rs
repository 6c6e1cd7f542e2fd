//! What a dropped file creates because a definition says so, and what it does not.

use tarn_drop::Outcome;
use tarn_model::{AutoCreate, DataSource, DataSourceId, Index, IndexAlgorithm, IndexTemplate, Metric, SourcePolicy};
use tarn_store::{create_index, create_source, list_indices, load_source};

use crate::support::{CHUNK, World, csv, films, ndjson, report, sequences, settled, updates};

fn id(version: &str) -> DataSourceId {
    DataSourceId::new("made", version).unwrap()
}

/// A data source whose uploads create versions of it, with an index each.
fn creating() -> DataSource {
    let near = IndexTemplate {
        name: "near".to_owned(),
        algorithm: IndexAlgorithm { metric: Metric::L2, hnsw: None },
        id_attributes: ["id".to_owned()].into(),
        split_attributes: Default::default(),
    };
    let auto_create = Some(AutoCreate { versions: true, indices: vec![near] });
    DataSource { id: id("1"), policy: SourcePolicy { retention: None, auto_create }, ..films() }
}

async fn world() -> World {
    let world = World::new().await;
    create_source(&world.store, &creating()).await.unwrap();
    world
}

async fn dropped(world: &World, key: &str, bytes: Vec<u8>) -> tarn_drop::DropStatus {
    world.put(key, bytes).await;
    settled(world.folder().process(key, None, None).await.unwrap())
}

#[tokio::test]
async fn a_good_file_creates_a_version_and_its_indices_and_a_bad_one_nothing() {
    let world = world().await;
    let bad = dropped(&world, "drop/made/2/x.csv", b"id,title,vector\nx,a,\"[1,2]\"\n".to_vec()).await;
    assert!(report(&bad).message.contains("'x' is not"), "{bad:?}");
    dropped(&world, "drop/made/2/without-rows.csv", b"id,title,vector\n".to_vec()).await;
    assert_eq!(load_source(&world.store, &id("2")).await.unwrap(), None);
    assert!(list_indices(&world.store).await.unwrap().is_empty());

    let good = dropped(&world, "drop/made/2/z.csv", csv(&updates(0..100))).await;
    assert_eq!(sequences(&good).len(), 100_usize.div_ceil(CHUNK));
    let made = load_source(&world.store, &id("2")).await.unwrap().unwrap();
    assert_eq!(*made, DataSource { id: id("2"), ..creating() });
    let indices = list_indices(&world.store).await.unwrap();
    assert_eq!(indices.iter().map(|index| (&*index.id.name, &*index.id.version)).collect::<Vec<_>>(), [("near", "2")]);
}

#[tokio::test]
async fn a_file_goes_on_with_the_version_that_it_is_to_create() {
    let world = world().await;
    let key = "drop/made/2/x.ndjson";
    world.put(key, ndjson(&updates(0..100))).await;
    // Planned, and not yet begun: the time is up.
    let now = Some(world.now());
    let mut unfinished = 0;
    let status = loop {
        match world.folder().process(key, None, (unfinished < 2).then_some(now).flatten()).await.unwrap() {
            Outcome::Unfinished { .. } => unfinished += 1,
            other => break settled(other),
        }
    };
    assert!(unfinished > 0);
    assert_eq!(sequences(&status).len(), 100_usize.div_ceil(CHUNK));
    assert!(load_source(&world.store, &id("2")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_file_whose_index_has_a_name_that_is_taken_is_refused() {
    let world = world().await;
    let source = creating();
    let template = &source.policy.auto_create.as_ref().unwrap().indices[0];
    let theirs = Index { data_source: world.source.id.clone(), ..template.index(&id("1")).unwrap() };
    create_index(&world.store, &theirs).await.unwrap();
    let refused = dropped(&world, "drop/made/1/x.csv", csv(&updates(0..10))).await;
    assert!(report(&refused).message.contains("Name = near, Version = 1"), "{refused:?}");
    assert!(world.keys("sources/made/1/timeline/").await.is_empty());
    assert_eq!(world.get("drop/made/1/x.csv").await, None, "it is moved away");
}

/// Some chunks are committed, the version is deleted and collected, and then somebody sends the file's event again.
#[tokio::test]
async fn a_file_of_which_a_part_is_committed_does_not_bring_a_deleted_version_back() {
    let (mut begun_without_record, mut half) = (0, 0);
    for requests in 0.. {
        let world = world().await;
        let key = "drop/made/2/x.csv";
        world.put(key, csv(&updates(0..100))).await;
        world.faults.crash_after(requests);
        // What a dead process answers nobody hears.
        let _ = world.folder().process(key, None, None).await;
        let crashed = world.faults.has_crashed();
        world.faults.heal();
        if !crashed {
            break;
        }
        let known = world.keys("drop-status/made/2/").await;
        let of_kind = |kind: &str| known.iter().filter(|key| key.contains(kind)).count();
        let (receipts, chunks) = (of_kind("/receipts/"), of_kind("/chunks/"));
        if known.iter().any(|key| key.matches('/').count() == 3) {
            continue;
        }
        for gone in ["sources/made/2/", "indices/"] {
            world.remove(gone).await;
        }
        let status = settled(world.folder().process(key, None, None).await.unwrap());
        let there = load_source(&world.store, &id("2")).await.unwrap().is_some();
        if receipts == 0 {
            assert_eq!((sequences(&status).len(), there), (3, true), "{requests}");
            continue;
        }
        assert!(report(&status).message.contains("does not exist"), "{requests}: {status:?}");
        assert!(!there && world.keys("sources/made/2/").await.is_empty(), "{requests}");
        begun_without_record += usize::from(chunks == 0);
        half += usize::from((1..3).contains(&chunks));
    }
    assert!(begun_without_record > 0 && half > 0, "{begun_without_record} {half}");
}
