//! One suite, every store.

use tarn_store::{Store, StoreError, StoreOptions};
use tarn_testkit::conformance;

use crate::{delta, faulty};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_conforms() {
    conformance::run(&Store::memory(), "m").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn disk_conforms() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    conformance::run(&Store::disk(directory.path()).expect("a store"), "d").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_conforms_while_it_fails() {
    for seed in 0..4 {
        let (store, faults) = faulty(&Store::memory());
        faults.random(seed, 0.2);
        conformance::run(&store, &format!("f{seed}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn disk_conforms_while_it_fails() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, faults) = faulty(&Store::disk(directory.path()).expect("a store"));
    faults.random(99, 0.2);
    conformance::run(&store, "df").await;
}

#[test]
fn urls_that_cannot_be_opened_say_what_to_write() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("file");
    std::fs::write(&file, b"not a directory").expect("a file");
    let file = file.display().to_string();
    let cases = [
        ("gs://bucket/x", "unknown scheme 'gs'"),
        ("s3://", "names no bucket"),
        ("file://relative/path", "file:///path/to/directory"),
        ("", "must not be empty"),
        (file.as_str(), "cannot create the store's directory"),
    ];
    for (url, expected) in cases {
        match Store::open(url, &StoreOptions::default()) {
            Err(StoreError::Config { message }) => assert!(message.contains(expected), "{url}: {message}"),
            other => panic!("{url}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_directory_is_opened_by_path_and_by_url() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("with space").join("deep");
    let by_path = Store::open(&path.display().to_string(), &StoreOptions::default()).expect("a store");
    by_path.put_unique(&delta(1), "x".into()).await.expect("put");
    let url = url::Url::from_file_path(&path).expect("a file URL");
    let by_url = Store::open(url.as_str(), &StoreOptions::default()).expect("the same store");
    assert_eq!(by_url.get(&delta(1)).await.expect("get").as_deref(), Some(b"x".as_slice()));
    let file = by_url.local_file(&delta(1)).expect("a local file");
    assert_eq!(std::fs::read(file).expect("the object's file"), b"x");
}

#[test]
fn printing_options_shows_no_secret() {
    let mut options = StoreOptions::default();
    options.environment = [("AWS_SECRET_ACCESS_KEY".to_owned(), "hunter2".to_owned())].into_iter().collect();
    let printed = format!("{options:?}");
    assert!(printed.contains("AWS_SECRET_ACCESS_KEY") && !printed.contains("hunter2"), "{printed}");
}
