//! The tail: complete when strong, cheap when warm, bounded, and honest about collected history.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tarn_model::{ObjectKey, ReadToken};
use tarn_store::{CountingStore, LatencyStore, Requests, Store, SystemClock};
use tarn_testkit::ManualClock;
use tarn_timeline::{Freshness, Tail, TailReader, Timeline, TimelineError};

use crate::common::{dense_source, points};

const ROOM: usize = 1 << 20;

fn counted(store: Store) -> (Store, Requests) {
    let mut requests = None;
    let store = store.layer(|inner| {
        let (store, handle) = CountingStore::new(inner);
        requests = Some(handle);
        Arc::new(store)
    });
    (store, requests.expect("layered"))
}

fn sequences(tail: &Tail) -> Vec<u64> {
    tail.deltas.iter().map(|delta| delta.sequence).collect()
}

async fn append(timeline: &Timeline, n: i64) {
    timeline.append(points(timeline.source(), n..n + 1), Default::default()).await.expect("appends");
}

#[tokio::test]
async fn strong_tail_is_complete_and_warm_costs_one_get() {
    let source = dense_source();
    let store = Store::memory();
    let writer = Timeline::open(store.clone(), Arc::clone(&source));
    let (counted, requests) = counted(store);
    let reader = TailReader::new(Timeline::open(counted, source), ROOM);
    let zero = ReadToken::default();
    assert_eq!(sequences(&reader.advance(&zero, Freshness::Strong).await.expect("reads")), [] as [u64; 0]);
    for n in 1..=3 {
        append(&writer, n).await;
        let tail = reader.advance(&zero, Freshness::Strong).await.expect("reads");
        assert_eq!(sequences(&tail), (1..=n as u64).collect::<Vec<_>>());
        assert_eq!(tail.head, ReadToken::single(n as u64));
        let before = requests.counts();
        reader.advance(&ReadToken::single(1), Freshness::Strong).await.expect("reads");
        let spent = requests.counts().since(&before);
        assert_eq!((spent.gets, spent.total()), (1, 1), "{spent:?}");
    }
    // Far behind: all of it comes in one call.
    for n in 4..=60 {
        append(&writer, n).await;
    }
    assert_eq!(reader.advance(&ReadToken::single(58), Freshness::Strong).await.expect("reads").deltas.len(), 2);
}

#[tokio::test]
async fn an_eventual_tail_within_its_age_costs_nothing() {
    let source = dense_source();
    let clock = Arc::new(ManualClock::new());
    let (store, requests) = counted(Store::memory().with_clock(Arc::clone(&clock) as _));
    let writer = Timeline::open(store.clone(), Arc::clone(&source));
    append(&writer, 1).await;
    let reader = TailReader::new(Timeline::open(store, source), ROOM);
    let zero = ReadToken::default();
    let eventual = Freshness::Within(Duration::from_secs(10));
    assert_eq!(sequences(&reader.advance(&zero, eventual).await.expect("reads")), [1]);
    append(&writer, 2).await;
    clock.advance(Duration::from_secs(10));
    let before = requests.counts();
    assert_eq!(sequences(&reader.advance(&zero, eventual).await.expect("reads")), [1]);
    assert_eq!(requests.counts().since(&before).total(), 0);
    clock.advance(Duration::from_secs(1));
    assert_eq!(sequences(&reader.advance(&zero, eventual).await.expect("reads")), [1, 2]);
}

#[tokio::test]
async fn concurrent_strong_reads_share_probes() {
    let source = dense_source();
    let slow = |inner| Arc::new(LatencyStore::new(inner, Arc::new(SystemClock), Duration::from_millis(20))) as _;
    let (store, requests) = counted(Store::memory().layer(slow));
    let reader = TailReader::new(Timeline::open(store, source), ROOM);
    let zero = ReadToken::default();
    reader.advance(&zero, Freshness::Strong).await.expect("reads");
    let before = requests.counts();
    let reads = join_all((0..50).map(|_| reader.advance(&zero, Freshness::Strong))).await;
    assert!(reads.iter().all(Result::is_ok));
    let spent = requests.counts().since(&before);
    assert!(spent.total() <= 2, "{spent:?}");
}

#[tokio::test]
async fn what_is_forgotten_is_not_held_and_can_be_read_again() {
    let source = dense_source();
    let store = Store::memory();
    let writer = Timeline::open(store.clone(), Arc::clone(&source));
    for n in 1..=5 {
        append(&writer, n).await;
    }
    let reader = TailReader::new(Timeline::open(store, source), ROOM);
    reader.advance(&ReadToken::default(), Freshness::Strong).await.expect("reads");
    let held = reader.held_bytes();
    reader.forget(&ReadToken::single(3));
    assert!(reader.held_bytes() < held);
    let tail = reader.advance(&ReadToken::single(3), Freshness::Strong).await.expect("reads");
    assert_eq!(sequences(&tail), [4, 5]);
    let tail = reader.advance(&ReadToken::single(1), Freshness::Strong).await.expect("an older index asks");
    assert_eq!(sequences(&tail), [2, 3, 4, 5]);
    reader.forget(&ReadToken::single(99));
    assert_eq!(reader.held_bytes(), 0);
}

#[tokio::test]
async fn a_tail_beyond_its_bound_is_refused() {
    let source = dense_source();
    let store = Store::memory();
    let writer = Timeline::open(store.clone(), Arc::clone(&source));
    for n in 0..3 {
        writer.append(points(&source, n * 500..(n + 1) * 500), Default::default()).await.expect("appends");
    }
    let reader = TailReader::new(Timeline::open(store, source), 64 * 1024);
    let error = reader.advance(&ReadToken::default(), Freshness::Strong).await.expect_err("too large");
    assert!(matches!(error, TimelineError::TailTooLarge { .. }), "{error}");
    assert!(error.to_string().contains("tarn build"), "{error}");
    reader.advance(&ReadToken::single(2), Freshness::Strong).await.expect("a shorter tail fits");
}

#[tokio::test]
async fn a_reader_that_slept_does_not_take_collected_history_for_none() {
    let source = dense_source();
    let clock = Arc::new(ManualClock::new());
    let store = Store::memory().with_clock(Arc::clone(&clock) as _);
    let writer = Timeline::open(store.clone(), Arc::clone(&source));
    append(&writer, 1).await;
    let reader = TailReader::new(Timeline::open(store.clone(), Arc::clone(&source)), ROOM);
    reader.advance(&ReadToken::default(), Freshness::Strong).await.expect("reads");
    append(&writer, 2).await;

    // Both deltas are folded and collected while the reader sleeps.
    let boundary = br#"{"format":1,"number":1,"commitId":"00000000000000000000000001","timeline":[2],"generation":0}"#;
    let object = ObjectKey::SourceBoundary { source: source.id.clone(), number: 1 };
    store.create(&object, boundary.as_slice().into(), |_| true).await.expect("written");
    for sequence in [1, 2] {
        store.delete(&ObjectKey::Delta { source: source.id.clone(), lane: 0, sequence }).await.expect("deleted");
    }
    clock.advance(Duration::from_secs(3600));
    let error = reader.advance(&ReadToken::default(), Freshness::Strong).await.expect_err("collected");
    assert!(matches!(error, TimelineError::Collected { .. }), "{error}");
    let tail = reader.advance(&ReadToken::single(2), Freshness::Strong).await.expect("from the checkpoint on");
    assert_eq!((sequences(&tail), tail.head), (vec![], ReadToken::single(2)));
}
