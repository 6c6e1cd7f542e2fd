//! What crashes leave behind, what listings show, and directories that go away.

use object_store::ObjectStoreExt;

use super::*;

fn open(directory: &FilePath) -> DiskStore {
    DiskStore::open(directory).expect("a store")
}

async fn names(store: &DiskStore) -> Vec<String> {
    let all: Vec<_> = store.list(None).try_collect().await.expect("a listing");
    all.into_iter().map(|meta| meta.location.to_string()).collect()
}

#[tokio::test]
async fn a_half_written_file_is_never_listed_and_the_next_opening_sweeps_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = open(directory.path());
    store.put(&Path::from("a/b"), "whole".into()).await.expect("put");
    let debris = directory.path().join(STAGING).join("0000000000CRASHEDWRITER0000");
    fs::write(&debris, b"hal").expect("debris");
    assert_eq!(names(&store).await, ["a/b"]);
    let top = store.list_with_delimiter(None).await.expect("a listing");
    assert_eq!(top.common_prefixes, [Path::from("a")]);
    let again = open(directory.path());
    assert!(!debris.exists());
    assert_eq!(names(&again).await, ["a/b"]);
}

#[tokio::test]
async fn the_file_of_a_living_writer_is_not_swept() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = open(directory.path());
    let at = Path::from("x");
    let mut staged = store.disk.stage(&at).expect("a staged file");
    staged.file.write_all(b"half").expect("write");
    open(directory.path());
    staged.file.write_all(b" and half").expect("write");
    store.disk.publish(&mut staged, &at, Publish::Create).expect("publish");
    drop(staged);
    assert_eq!(store.get(&at).await.expect("get").bytes().await.expect("bytes"), "half and half");
    assert_eq!(fs::read_dir(directory.path().join(STAGING)).expect("staging").count(), 0);
}

#[tokio::test]
async fn an_upload_that_is_dropped_or_aborted_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = open(directory.path());
    let at = Path::from("x");
    let mut dropped = store.put_multipart(&at).await.expect("start");
    dropped.put_part("part".into()).await.expect("part");
    drop(dropped);
    let mut aborted = store.put_multipart(&at).await.expect("start");
    aborted.put_part("part".into()).await.expect("part");
    aborted.abort().await.expect("abort");
    aborted.complete().await.expect_err("it is over");
    assert_eq!(names(&store).await, Vec::<String>::new());
    assert_eq!(fs::read_dir(directory.path().join(STAGING)).expect("staging").count(), 0);
}

#[tokio::test]
async fn parts_may_arrive_out_of_order() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = open(directory.path());
    let at = Path::from("x");
    let mut upload = store.put_multipart(&at).await.expect("start");
    let (first, second) = (upload.put_part("first ".into()), upload.put_part("second".into()));
    second.await.expect("part");
    first.await.expect("part");
    upload.complete().await.expect("complete");
    assert_eq!(store.get(&at).await.expect("get").bytes().await.expect("bytes"), "first second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_race_have_one_winner() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for round in 0..20 {
        let at = Path::from(format!("deep/{round}/key"));
        let racers = (0..8).map(|racer| {
            // Each its own instance, as processes have.
            let (store, at) = (open(directory.path()), at.clone());
            tokio::spawn(async move {
                let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                store.put_opts(&at, format!("{racer}").into(), create).await
            })
        });
        let outcomes = futures::future::join_all(racers).await;
        let won = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Ok(_)))).count();
        let lost = outcomes.iter().filter(|o| matches!(o, Ok(Err(Error::AlreadyExists { .. })))).count();
        assert_eq!((won, lost), (1, 7), "{outcomes:?}");
    }
}

#[tokio::test]
async fn a_directory_that_was_removed_is_made_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = open(directory.path());
    store.put(&Path::from("a/b/c"), "1".into()).await.expect("put");
    fs::remove_dir_all(directory.path().join("a")).expect("remove");
    fs::remove_dir_all(directory.path().join(STAGING)).expect("remove");
    let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    store.put_opts(&Path::from("a/b/c"), "2".into(), create).await.expect("put again");
    assert_eq!(names(&store).await, ["a/b/c"]);
}

#[tokio::test]
async fn listings_are_sorted_by_key_not_by_directory() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = open(directory.path());
    for name in ["b", "a-x/1", "a/2", "a/10", "A", "é"] {
        store.put(&Path::from(name), "".into()).await.expect("put");
    }
    assert_eq!(names(&store).await, ["%C3%A9", "A", "a-x/1", "a/10", "a/2", "b"]);
}

#[tokio::test]
async fn updates_by_etag_are_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = open(directory.path());
    let update = PutMode::Update(object_store::UpdateVersion { e_tag: Some("1".into()), version: None });
    let refused = store.put_opts(&Path::from("x"), "".into(), update.into()).await;
    assert!(matches!(refused, Err(Error::NotImplemented { .. })), "{refused:?}");
}
