//! Requests, bytes and round trips of one task, however many run at once.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tarn_model::{KeyPrefix, ObjectRef};
use tarn_store::{CountingStore, LatencyStore, Meter, Requests, SegmentCache, Spent, Store};
use tarn_testkit::SteppedClock;
use ulid::Ulid;

use crate::{delta, source};

/// A store 20 ms away with deltas 1 to `deltas`, each as many bytes long as its number.
async fn far(deltas: u64) -> (Store, Requests, Arc<SteppedClock>) {
    let memory = Store::memory();
    for sequence in 1..=deltas {
        memory.put_unique(&delta(sequence), vec![7; sequence as usize].into()).await.expect("put");
    }
    let clock = Arc::new(SteppedClock::new());
    let far = LatencyStore::new(Arc::clone(memory.object_store()), clock.clone(), Duration::from_millis(20));
    let (counting, requests) = CountingStore::new(Arc::new(far));
    (memory.layer(|_| Arc::new(counting)).with_clock(clock.clone()), requests, clock)
}

/// What a future spends, and the round trips that its time says.
async fn metered<F: Future>(clock: &SteppedClock, future: F) -> (Spent, u32) {
    let meter = Meter::new();
    let (_, took) = clock.run(meter.scope(future)).await;
    (meter.spent(), u32::try_from(took.as_millis()).expect("some trips") / 20)
}

#[tokio::test]
async fn each_of_two_at_once_is_charged_its_own() {
    let (store, requests, clock) = far(9).await;
    let (a, b) = (Meter::new(), Meter::new());
    let read = async |sequences: std::ops::RangeInclusive<u64>| {
        for sequence in sequences {
            store.get(&delta(sequence)).await.expect("read");
        }
    };
    clock.run(async { futures::join!(a.scope(read(1..=3)), b.scope(read(8..=10)), read(4..=4)) }).await;
    let (a, b) = (a.spent(), b.spent());
    assert_eq!((a.requests.gets, a.requests.bytes_read, a.round_trips), (3, 6, 3));
    assert_eq!((b.requests.gets, b.requests.bytes_read, b.round_trips), (3, 17, 3), "one was absent");
    assert_eq!((requests.counts().gets, requests.counts().bytes_read), (7, 27), "with what nobody metered");
    assert_eq!(Meter::current().map(|_| ()), None);
}

#[tokio::test]
async fn round_trips_are_the_longest_chain_of_requests() {
    let (store, _, clock) = far(9).await;
    let get = |sequence| {
        let store = store.clone();
        async move { store.get(&delta(sequence)).await.unwrap() }
    };
    let (spent, trips) = metered(&clock, async { futures::join!(get(1), get(2), get(3)) }).await;
    assert_eq!((spent.requests.gets, spent.round_trips, trips), (3, 1, 1), "at once");
    let chain = async {
        get(1).await;
        futures::join!(get(2), get(3));
        get(4).await
    };
    let (spent, trips) = metered(&clock, chain).await;
    assert_eq!((spent.requests.gets, spent.round_trips, trips), (4, 3, 3), "one after the other");
    let prefix = KeyPrefix::Timeline(source("s"), 0);
    let listed = async {
        store.list_after(&prefix, &delta(3)).await.unwrap();
        store.first(&prefix).await.unwrap();
        get(1).await
    };
    let (spent, trips) = metered(&clock, listed).await;
    assert_eq!((spent.requests.lists, spent.requests.gets, spent.round_trips, trips), (2, 1, 3, 3));
    let nothing = async { store.list(&KeyPrefix::Timeline(source("other"), 0)).await.unwrap() };
    assert_eq!(metered(&clock, nothing).await.0.round_trips, 1, "an empty listing is an answer");
    let planned = Meter::one_trip(async {
        let reads = futures::stream::iter(1..=9).map(|sequence| async move { Ok::<_, ()>(get(sequence).await) });
        reads.buffered(3).try_collect::<Vec<_>>().await
    });
    let (spent, trips) = metered(&clock, async { (planned.await, get(1).await) }).await;
    assert_eq!((spent.requests.gets, spent.round_trips, trips), (10, 2, 4), "in waves, but none waits for an answer");
}

#[tokio::test]
async fn what_is_spawned_is_charged_to_whom_it_follows() {
    let (store, _, clock) = far(3).await;
    let get = |sequence| {
        let store = store.clone();
        async move { store.get(&delta(sequence)).await.unwrap() }
    };
    let spawning = async {
        tokio::spawn(Meter::follow(get(1))).await.unwrap();
        tokio::spawn(get(2)).await.unwrap();
        get(3).await
    };
    let (spent, _) = metered(&clock, spawning).await;
    assert_eq!((spent.requests.gets, spent.requests.bytes_read, spent.round_trips), (2, 4, 2));
}

#[tokio::test]
async fn a_download_that_two_wait_for_is_charged_to_the_first() {
    let (store, requests, clock) = far(3).await;
    let directory = tempfile::tempdir().unwrap();
    let cache = SegmentCache::new(directory.path(), 1 << 20, store).unwrap();
    let object = ObjectRef { id: Ulid(1), bytes: 3, crc32c: crc32c::crc32c(&[7; 3]) };
    let (a, b) = (Meter::new(), Meter::new());
    let key = delta(3);
    let both = async { futures::join!(a.scope(cache.fetch(&key, &object)), b.scope(cache.fetch(&key, &object))) };
    let ((first, second), _) = clock.run(both).await;
    assert_eq!(first.unwrap().path(), second.unwrap().path());
    assert_eq!((a.spent().requests.gets, a.spent().requests.bytes_read), (1, 3));
    assert_eq!((b.spent(), requests.counts().gets), (Spent::default(), 1));
}

#[tokio::test]
async fn what_was_spent_elsewhere_counts_behind_what_was_answered_here() {
    let (store, _, clock) = far(3).await;
    let (leaf, _) = metered(&clock, async { (store.get(&delta(1)).await, store.get(&delta(2)).await) }).await;
    let root = Meter::new();
    let asking = async {
        store.get(&delta(3)).await.unwrap();
        let asked = Meter::mark();
        store.get(&delta(3)).await.unwrap();
        asked.add(&leaf);
        store.get(&delta(3)).await.unwrap();
    };
    clock.run(root.scope(asking)).await;
    let spent = root.spent();
    assert_eq!((spent.requests.gets, spent.requests.bytes_read), (5, 12));
    assert_eq!(spent.round_trips, 4, "one, two of the leaf beside one here, and one");
    let joined = Meter::new();
    joined.scope(async { Meter::mark().wait_for(&leaf) }).await;
    assert_eq!((joined.spent().requests.gets, joined.spent().round_trips), (0, 2));
    let both = leaf.beside(&leaf);
    assert_eq!((both.requests.gets, both.round_trips), (4, 2));
    assert_eq!(leaf.then(&leaf).round_trips, 4);
}
