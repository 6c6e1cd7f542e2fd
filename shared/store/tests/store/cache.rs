//! `cached-bytes-are-verified`; bounded, single-flight, and it survives a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tarn_model::{IndexId, ObjectKey, ObjectRef};
use tarn_store::{CountingStore, LatencyStore, Requests, SegmentCache, Store, StoreError, SystemClock};
use tarn_testkit::{Fault, FaultStore, Operation};

struct Fixture {
    store: Store,
    requests: Requests,
    directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let (counting, requests) = CountingStore::new(Arc::clone(Store::memory().object_store()));
        let store = Store::memory().layer(|_| Arc::new(counting));
        Self { store, requests, directory: tempfile::tempdir().expect("a temporary directory") }
    }

    fn cache(&self, max_bytes: u64) -> SegmentCache {
        SegmentCache::new(self.directory.path(), max_bytes, self.store.clone()).expect("a cache")
    }

    async fn put(&self, number: u128, length: usize) -> (ObjectKey, ObjectRef, Bytes) {
        put(&self.store, number, length).await
    }

    fn gets(&self) -> u64 {
        self.requests.counts().gets
    }
}

fn key(number: u128) -> ObjectKey {
    ObjectKey::Segment { index: IndexId::new("i", "1").expect("an id"), id: ulid::Ulid(number) }
}

async fn put(store: &Store, number: u128, length: usize) -> (ObjectKey, ObjectRef, Bytes) {
    let bytes: Bytes = (0..length).map(|i| (i as u128 * (number + 7) % 251) as u8).collect::<Vec<_>>().into();
    let object = ObjectRef { id: ulid::Ulid(number), bytes: length as u64, crc32c: crc32c::crc32c(&bytes) };
    store.put_unique(&key(number), bytes.clone()).await.expect("put");
    (key(number), object, bytes)
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("a local file")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_many_ask_it_is_downloaded_once() {
    let fixture = Fixture::new();
    let (key, object, bytes) = fixture.put(1, 1_000).await;
    let slow = fixture
        .store
        .layer(|inner| Arc::new(LatencyStore::new(inner, Arc::new(SystemClock), Duration::from_millis(30))));
    let cache = SegmentCache::new(fixture.directory.path(), 1 << 20, slow).expect("a cache");
    let files = join_all((0..32).map(|_| cache.fetch(&key, &object))).await;
    for file in files {
        assert_eq!(read(file.expect("fetch").path()), bytes);
    }
    assert_eq!((fixture.gets(), cache.stats().downloads), (1, 1));
    cache.fetch(&key, &object).await.expect("a hit");
    assert_eq!((fixture.gets(), cache.stats().hits), (1, 1));
}

#[tokio::test]
async fn a_download_goes_on_when_those_who_asked_have_given_up() {
    let fixture = Fixture::new();
    let (key, object, bytes) = fixture.put(1, 1_000).await;
    let slow = fixture
        .store
        .layer(|inner| Arc::new(LatencyStore::new(inner, Arc::new(SystemClock), Duration::from_millis(50))));
    let cache = SegmentCache::new(fixture.directory.path(), 1 << 20, slow).expect("a cache");
    tokio::time::timeout(Duration::from_millis(1), cache.fetch(&key, &object)).await.expect_err("gives up");
    let file = cache.fetch(&key, &object).await.expect("fetch");
    assert_eq!(read(file.path()), bytes);
    assert_eq!(fixture.gets(), 1);
}

#[tokio::test]
async fn the_least_recently_used_goes_first_and_what_is_held_stays() {
    let fixture = Fixture::new();
    let cache = fixture.cache(3_000);
    let mut objects = Vec::new();
    for number in 1..=5 {
        objects.push(fixture.put(number, 1_000).await);
    }
    let fetch = async |i: usize| cache.fetch(&objects[i].0, &objects[i].1).await.expect("fetch");
    let held = fetch(0).await;
    let (second, third) = (fetch(1).await.path().to_path_buf(), fetch(2).await.path().to_path_buf());
    fetch(1).await;
    let fourth = fetch(3).await.path().to_path_buf();
    assert!(held.path().exists(), "held");
    assert!(second.exists(), "used after the third");
    assert!(!third.exists(), "used longest ago of what nobody holds");
    assert!(fourth.exists());
    let stats = cache.stats();
    assert_eq!((stats.files, stats.bytes, stats.evictions), (3, 3_000, 1));
    fetch(4).await;
    assert!(held.path().exists() && !second.exists(), "still held; now the second was oldest");
}

#[tokio::test]
async fn it_exceeds_its_bound_rather_than_fail_and_comes_back() {
    let fixture = Fixture::new();
    let cache = fixture.cache(2_000);
    let mut held = Vec::new();
    for number in 1..=4 {
        let (key, object, bytes) = fixture.put(number, 1_000).await;
        let file = cache.fetch(&key, &object).await.expect("fetch");
        held.push((file, bytes));
    }
    for (file, bytes) in &held {
        assert_eq!(read(file.path()), *bytes);
    }
    assert_eq!(cache.stats().bytes, 4_000);
    drop(held);
    let (key, object, _) = fixture.put(5, 500).await;
    cache.fetch(&key, &object).await.expect("fetch");
    assert!(cache.stats().bytes <= 2_000, "{:?}", cache.stats());
    let on_disk: u64 = walk(fixture.directory.path()).iter().map(|path| read(path).len() as u64).sum();
    assert_eq!(on_disk, cache.stats().bytes, "what is counted is what is there");
}

fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

#[tokio::test]
async fn what_was_there_before_a_restart_is_used_once_it_is_verified() {
    let fixture = Fixture::new();
    let mut objects = Vec::new();
    let mut paths = Vec::new();
    let cache = fixture.cache(1 << 20);
    for number in 1..=4 {
        let (key, object, bytes) = fixture.put(number, 10_000).await;
        paths.push(cache.fetch(&key, &object).await.expect("fetch").path().to_path_buf());
        objects.push((key, object, bytes));
    }
    drop(cache);
    // Good, flipped, cut, and gone; and a download that never ended.
    let mut flipped = read(&paths[1]);
    flipped[5_000] ^= 1;
    std::fs::write(&paths[1], flipped).expect("write");
    std::fs::write(&paths[2], &objects[2].2[..9_999]).expect("write");
    std::fs::remove_file(&paths[3]).expect("remove");
    let part = paths[0].with_extension("part");
    std::fs::write(&part, b"half").expect("write");

    let before = fixture.gets();
    let cache = fixture.cache(1 << 20);
    assert!(!part.exists(), "a part is removed");
    for (key, object, bytes) in &objects {
        let file = cache.fetch(key, object).await.expect("fetch");
        assert_eq!(read(file.path()), *bytes);
    }
    assert_eq!(fixture.gets() - before, 3, "the good one is not downloaded again");
}

#[tokio::test]
async fn a_smaller_bound_holds_from_the_start() {
    let fixture = Fixture::new();
    let cache = fixture.cache(1 << 20);
    for number in 1..=4 {
        let (key, object, _) = fixture.put(number, 1_000).await;
        cache.fetch(&key, &object).await.expect("fetch");
    }
    drop(cache);
    let cache = fixture.cache(2_500);
    assert_eq!((cache.stats().files, cache.stats().bytes), (2, 2_000));
}

#[tokio::test]
async fn bytes_that_are_not_what_the_manifest_says_never_get_a_name() {
    let fixture = Fixture::new();
    let cache = fixture.cache(1 << 20);
    let (key, object, _) = fixture.put(1, 1_000).await;
    let wrong_crc = ObjectRef { crc32c: object.crc32c ^ 1, ..object.clone() };
    let too_long = ObjectRef { bytes: 1_001, ..object.clone() };
    let too_short = ObjectRef { bytes: 999, ..object.clone() };
    let empty = ObjectRef { bytes: 0, ..object.clone() };
    let huge = ObjectRef { bytes: 1 << 40, ..object.clone() };
    for (expectation, part) in
        [(wrong_crc, "crc32c"), (too_long, "length"), (too_short, "length"), (empty, "length"), (huge, "length")]
    {
        match cache.fetch(&key, &expectation).await {
            Err(StoreError::Corrupt(corrupt)) => {
                assert_eq!((corrupt.object, corrupt.part.as_str()), (key.render(), part));
                assert_ne!(corrupt.expected, corrupt.found);
            }
            other => panic!("{expectation:?}: {other:?}"),
        }
    }
    let left: Vec<_> = walk(fixture.directory.path()).into_iter().filter(|path| path.extension().is_none()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(cache.stats().bytes, 0);
}

#[tokio::test]
async fn a_missing_object_is_missing() {
    let fixture = Fixture::new();
    let object = ObjectRef { id: ulid::Ulid(1), bytes: 10, crc32c: 0 };
    let missing = fixture.cache(1 << 20).fetch(&key(1), &object).await;
    assert!(matches!(missing, Err(StoreError::Missing { .. })), "{missing:?}");
}

#[tokio::test]
async fn a_failed_download_is_tried_again_by_the_next_who_asks() {
    let fixture = Fixture::new();
    let (key, object, bytes) = fixture.put(1, 1_000).await;
    let (faulty, faults) = FaultStore::new(Arc::clone(fixture.store.object_store()));
    let store = fixture.store.layer(|_| Arc::new(faulty));
    let cache = SegmentCache::new(fixture.directory.path(), 1 << 20, store).expect("a cache");
    faults.script(Operation::Get, "segments", Fault::Timeout);
    faults.script(Operation::Get, "segments", Fault::Timeout);
    cache.fetch(&key, &object).await.expect_err("the store fails");
    faults.heal();
    assert_eq!(read(cache.fetch(&key, &object).await.expect("fetch").path()), bytes);
}

#[tokio::test]
async fn a_large_object_comes_in_parallel_ranges() {
    let fixture = Fixture::new();
    let (key, object, bytes) = fixture.put(1, 20 << 20).await;
    let cache = fixture.cache(1 << 30);
    assert!(read(cache.fetch(&key, &object).await.expect("fetch").path()) == bytes);
    assert_eq!(fixture.gets(), 3, "of 8 MiB each at most");
}

#[tokio::test]
async fn an_empty_object_is_an_empty_file() {
    let fixture = Fixture::new();
    let (key, object, _) = fixture.put(1, 0).await;
    assert_eq!(read(fixture.cache(10).fetch(&key, &object).await.expect("fetch").path()), b"");
}

#[tokio::test]
async fn a_discarded_file_is_downloaded_again() {
    let fixture = Fixture::new();
    let (key, object, bytes) = fixture.put(1, 1_000).await;
    let cache = fixture.cache(1 << 20);
    let file = cache.fetch(&key, &object).await.expect("fetch");
    std::fs::write(file.path(), b"rotten").expect("write");
    cache.discard(&object);
    assert_eq!(read(cache.fetch(&key, &object).await.expect("fetch").path()), bytes);
    assert_eq!(fixture.gets(), 2);
}

#[tokio::test]
async fn two_processes_do_not_share_files() {
    let fixture = Fixture::new();
    let (key, object, bytes) = fixture.put(1, 1_000).await;
    // Two caches lock against each other as two processes do.
    let (one, other) = (fixture.cache(1_500), fixture.cache(1_500));
    let held = one.fetch(&key, &object).await.expect("fetch");
    let (other_key, other_object, _) = fixture.put(2, 1_000).await;
    other.fetch(&other_key, &other_object).await.expect("fetch");
    other.fetch(&key, &object).await.expect("fetch");
    assert_eq!(read(held.path()), bytes, "the other's eviction is its own affair");
}

#[tokio::test]
async fn a_local_store_gives_out_its_own_files() {
    let (objects, cached) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let store = Store::disk(objects.path()).expect("a store");
    let (key, object, bytes) = put(&store, 1, 1_000).await;
    let cache = SegmentCache::new(cached.path(), 10, store.clone()).expect("a cache");
    let file = cache.fetch(&key, &object).await.expect("fetch");
    assert_eq!(Some(file.path().to_path_buf()), store.local_file(&key));
    assert_eq!(read(file.path()), bytes);
    assert_eq!(cache.stats().bytes, 0, "nothing is copied");

    let longer = ObjectRef { bytes: 1_001, ..object.clone() };
    let corrupt = cache.fetch(&key, &longer).await;
    assert!(matches!(corrupt, Err(StoreError::Corrupt(_))), "{corrupt:?}");
    store.delete(&key).await.expect("delete");
    let missing = cache.fetch(&key, &object).await;
    assert!(matches!(missing, Err(StoreError::Missing { .. })), "{missing:?}");
}
