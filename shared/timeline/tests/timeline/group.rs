//! Group commit: how many puts, who gets which token, and what happens to the others.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tarn_model::{DataSource, ReadToken};
use tarn_store::{CountingStore, LatencyStore, Requests, Store, SystemClock};
use tarn_testkit::{FaultStore, ManualClock, Operation};
use tarn_timeline::{AppendError, AppendOptions, GroupCommitter, GroupSettings, Timeline};

use crate::common::{dense_source, points};

/// A store that answers as slowly as S3, with its requests counted.
fn far() -> (Store, Requests) {
    let mut requests = None;
    let store = Store::memory()
        .layer(|inner| Arc::new(LatencyStore::new(inner, Arc::new(SystemClock), Duration::from_millis(20))))
        .layer(|inner| {
            let (store, handle) = CountingStore::new(inner);
            requests = Some(handle);
            Arc::new(store)
        });
    (store, requests.expect("layered"))
}

async fn warm(store: &Store, source: &Arc<DataSource>) -> GroupCommitter {
    let committer = GroupCommitter::new(Timeline::open(store.clone(), Arc::clone(source)));
    committer.submit(points(source, 1000..1001), Default::default()).await.expect("appends");
    committer
}

#[tokio::test]
async fn an_uncontended_upload_is_one_put() {
    let source = dense_source();
    let (store, requests) = far();
    let committer = warm(&store, &source).await;
    for n in 0..3 {
        let before = requests.counts();
        let appended = committer.submit(points(&source, n..n + 1), Default::default()).await.expect("appends");
        assert_eq!(appended.token, ReadToken::single(2 + n as u64));
        let spent = requests.counts().since(&before);
        assert_eq!((spent.puts, spent.total()), (1, 1), "{spent:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_uploads_share_puts_and_stay_whole() {
    let source = dense_source();
    let (store, requests) = far();
    let committer = warm(&store, &source).await;
    let before = requests.counts();
    let uploads = (0..32).map(|n| {
        let (committer, source) = (committer.clone(), Arc::clone(&source));
        tokio::spawn(async move {
            let options =
                if n % 4 == 0 { AppendOptions::idempotent(format!("k{n}")) } else { AppendOptions::default() };
            let receipts = u64::from(options.idempotency_key.is_some());
            let appended = committer.submit(points(&source, [n * 2, n * 2 + 1]), options).await.expect("appends");
            (n, appended, receipts)
        })
    });
    let outcomes: Vec<_> = join_all(uploads).await.into_iter().map(|task| task.expect("ends")).collect();
    let receipts: u64 = outcomes.iter().map(|(_, _, receipts)| receipts).sum();
    let spent = requests.counts().since(&before);
    assert!(spent.puts - receipts <= 8, "{spent:?}");

    let timeline = Timeline::open(store, Arc::clone(&source));
    for (n, appended, _) in outcomes {
        let delta = timeline.read(appended.token.sequence(0)).await.expect("reads").expect("is there");
        let mine = points(&source, [n * 2, n * 2 + 1]);
        let at =
            (0..delta.rows()).find(|&row| delta.key(row) == mine.key(0)).expect("the token's delta has the upload");
        assert_eq!(delta.key(at + 1), mine.key(1), "rows stay together, in order");
        assert_eq!(delta.batches.iter().map(|batch| batch.rows).sum::<u64>(), delta.rows() as u64);
        assert!(delta.batches.iter().all(|batch| batch.rows == 2));
    }
    assert_eq!(committer.queued_bytes(), 0);
}

#[tokio::test]
async fn a_failed_put_fails_its_whole_group_and_nobody_else() {
    let source = dense_source();
    let mut handle = None;
    let store = Store::memory().with_clock(Arc::new(ManualClock::new())).layer(|inner| {
        let (store, faults) = FaultStore::new(inner);
        handle = Some(faults);
        Arc::new(store)
    });
    let faults = handle.expect("layered");
    let committer = warm(&store, &source).await;
    faults.crash_after(0);
    let outcomes =
        join_all((0..4).map(|n| committer.submit(points(&source, n..n + 1), AppendOptions::default()))).await;
    for outcome in outcomes {
        let error = outcome.expect_err("the store is down");
        assert!(matches!(error, AppendError::Ambiguous { .. }), "{error}");
    }
    faults.revive();
    let appended = committer.submit(points(&source, 9..10), Default::default()).await.expect("appends");
    assert_eq!(appended.token, ReadToken::single(2));
    assert_eq!(committer.queued_bytes(), 0);
}

/// `key-commits-once`, when a client repeats an upload that still waits for its turn.
#[tokio::test]
async fn an_upload_repeated_while_it_waits_is_written_once() {
    let source = dense_source();
    let (faulty, faults) = FaultStore::new(Arc::clone(Store::memory().object_store()));
    let store = Store::memory().layer(|_| Arc::new(faulty));
    let committer = warm(&store, &source).await;
    let held = faults.hold(Operation::Put, "timeline");
    let submit = |n: i64, options: AppendOptions| {
        let (committer, batch) = (committer.clone(), points(&source, n..n + 1));
        tokio::spawn(async move { committer.submit(batch, options).await.expect("appends") })
    };
    let ahead = submit(0, AppendOptions::default());
    held.arrived().await;
    let attempts = [submit(1, AppendOptions::idempotent("k")), submit(1, AppendOptions::idempotent("k"))];
    // Nothing in their way takes time; so they come to wait behind the put that is held up.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    held.release();
    assert_eq!(ahead.await.expect("ends").token, ReadToken::single(2));
    let outcomes: Vec<_> = join_all(attempts).await.into_iter().map(|attempt| attempt.expect("ends")).collect();
    assert!(outcomes.iter().all(|outcome| outcome.token == ReadToken::single(3)), "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| outcome.replayed).count(), 1, "{outcomes:?}");
    let delta = committer.timeline().read(3).await.expect("reads").expect("is there");
    assert_eq!((delta.batches.len(), delta.rows()), (1, 1));
}

#[tokio::test]
async fn bytes_in_flight_are_bounded() {
    let source = dense_source();
    let (store, _) = far();
    let size = points(&source, 400..500).estimated_bytes();
    let settings = GroupSettings { queue_bytes: size * 2, ..Default::default() };
    let committer = GroupCommitter::with_settings(Timeline::open(store, Arc::clone(&source)), settings);
    let upload = |n: i64| committer.submit(points(&source, n * 100..(n + 1) * 100), AppendOptions::default());
    let outcomes = join_all((0..5).map(upload)).await;
    let refused: Vec<&AppendError> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert_eq!(refused.len(), 3);
    assert!(refused.iter().all(|error| matches!(error, AppendError::Overloaded { .. }) && error.is_retryable()));
    upload(9).await.expect("there is room again");

    let huge = committer.submit(points(&source, 0..500), AppendOptions::default()).await;
    huge.expect("an upload beyond the bound goes alone");
}

#[tokio::test]
async fn an_upload_outlives_its_client() {
    let source = dense_source();
    let (store, _) = far();
    let committer = warm(&store, &source).await;
    let client = tokio::spawn({
        let (committer, source) = (committer.clone(), Arc::clone(&source));
        async move { committer.submit(points(&source, 0..1), AppendOptions::default()).await }
    });
    while committer.queued_bytes() == 0 {
        tokio::task::yield_now().await;
    }
    client.abort();
    let next = committer.submit(points(&source, 1..2), AppendOptions::default()).await.expect("appends");
    assert!(next.token.sequence(0) >= 2);
    let timeline = Timeline::open(store, source);
    let rows: usize = timeline.read_after(&ReadToken::default()).await.expect("reads").iter().map(|d| d.rows()).sum();
    assert_eq!(rows, 3);
}
