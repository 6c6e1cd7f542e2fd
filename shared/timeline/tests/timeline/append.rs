//! Appending: races, lost responses, receipts, zombies, deletion.

use std::collections::BTreeSet;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use tarn_model::{Boundary, DataSource, FORMAT, ObjectKey, ReadToken, Update};
use tarn_store::{CountingStore, Store, create_source, delete_source};
use tarn_testkit::{Fault, FaultStore, Faults, ManualClock, Operation};
use tarn_timeline::{AppendError, AppendOptions, Appended, PointBatch, Timeline, TimelineError};
use ulid::Ulid;

use crate::common::{batch, delete, dense_source, points, updates, upsert};

fn appended(sequence: u64) -> Appended {
    Appended { token: ReadToken::single(sequence), replayed: false }
}

fn key(key: &str) -> AppendOptions {
    AppendOptions::idempotent(key)
}

/// A store whose requests can be made to fail, and whose waits take no time.
pub(crate) fn faulty() -> (Store, Faults) {
    let mut handle = None;
    let store = Store::memory().with_clock(Arc::new(ManualClock::new())).layer(|inner| {
        let (store, faults) = FaultStore::new(inner);
        handle = Some(faults);
        Arc::new(store)
    });
    (store, handle.expect("layered"))
}

async fn all_updates(timeline: &Timeline) -> Vec<Update> {
    let deltas = timeline.read_after(&ReadToken::default()).await.expect("readable");
    let whole = |delta: &tarn_timeline::Delta| {
        PointBatch::from_record_batch(Arc::clone(timeline.source()), &delta.data, &Default::default())
            .expect("canonical")
    };
    deltas.iter().flat_map(|delta| updates(&whole(delta))).collect()
}

#[tokio::test]
async fn appends_follow_each_other_and_come_back() {
    let source = dense_source();
    let timeline = Timeline::open(Store::memory(), Arc::clone(&source));
    assert_eq!(timeline.head().await.expect("reads"), ReadToken::single(0));
    let first = [upsert(&source, 1, 1.0), delete(2)];
    let second = [upsert(&source, 3, 3.0)];
    assert_eq!(timeline.append(batch(&source, &first), Default::default()).await.expect("appends"), appended(1));
    assert_eq!(timeline.append(batch(&source, &second), Default::default()).await.expect("appends"), appended(2));
    assert_eq!(timeline.head().await.expect("reads"), ReadToken::single(2));
    assert_eq!(all_updates(&timeline).await, [first.as_slice(), &second].concat());
    assert!(timeline.read(3).await.expect("reads").is_none());
    assert_eq!(timeline.read_after(&ReadToken::single(1)).await.expect("reads").len(), 1);
    assert_eq!(timeline.read_after(&ReadToken::single(2)).await.expect("reads").len(), 0);
}

#[tokio::test]
async fn a_token_beyond_the_end_does_not_move_the_head() {
    let source = dense_source();
    let timeline = Timeline::open(Store::memory(), Arc::clone(&source));
    timeline.append(points(&source, 0..1), Default::default()).await.expect("appends");
    assert_eq!(timeline.read_after(&ReadToken::single(1000)).await.expect("reads").len(), 0);
    assert_eq!(timeline.append(points(&source, 1..2), Default::default()).await.expect("appends"), appended(2));
}

#[tokio::test]
async fn an_empty_batch_writes_nothing() {
    let source = dense_source();
    let timeline = Timeline::open(Store::memory(), Arc::clone(&source));
    timeline.append(points(&source, 0..1), Default::default()).await.expect("appends");
    let empty = PointBatch::empty(Arc::clone(&source));
    assert_eq!(timeline.append(empty, Default::default()).await.expect("appends"), appended(1));
    assert!(timeline.read(2).await.expect("reads").is_none());
}

#[tokio::test]
async fn once_warm_an_append_is_one_put() {
    let source = dense_source();
    let mut requests = None;
    let store = Store::memory().layer(|inner| {
        let (store, handle) = CountingStore::new(inner);
        requests = Some(handle);
        Arc::new(store)
    });
    let requests = requests.expect("layered");
    let timeline = Timeline::open(store, Arc::clone(&source));
    timeline.append(points(&source, 0..1), Default::default()).await.expect("appends");
    let before = requests.counts();
    timeline.append(points(&source, 1..2), Default::default()).await.expect("appends");
    let spent = requests.counts().since(&before);
    assert_eq!((spent.puts, spent.total()), (1, 1), "{spent:?}");
}

/// `timeline-is-gapless`, `batch-is-atomic`.
async fn many_writers_share_a_timeline(store: Store) {
    let source = dense_source();
    let writers: i64 = 6;
    let each: i64 = 5;
    let tasks = (0..writers).map(|writer| {
        let (store, source) = (store.clone(), Arc::clone(&source));
        tokio::spawn(async move {
            let timeline = Timeline::open(store, Arc::clone(&source));
            let mut tokens = Vec::new();
            for n in 0..each {
                let first = (writer * each + n) * 2;
                let batch = points(&source, [first, first + 1]);
                tokens.push(timeline.append(batch, Default::default()).await.expect("appends").token.sequence(0));
            }
            assert!(tokens.is_sorted());
            tokens
        })
    });
    let tokens: BTreeSet<u64> = join_all(tasks).await.into_iter().flat_map(|task| task.expect("ends")).collect();
    let total = (writers * each) as u64;
    assert_eq!(tokens, (1..=total).collect());
    let timeline = Timeline::open(store, source);
    let deltas = timeline.read_after(&ReadToken::default()).await.expect("readable");
    assert!(deltas.iter().all(|delta| delta.rows() == 2), "each upload is in one delta as a whole");
    let keys: BTreeSet<Vec<u8>> = deltas.iter().flat_map(|d| [d.key(0).to_vec(), d.key(1).to_vec()]).collect();
    assert_eq!(keys.len(), total as usize * 2, "no upload is lost, none is there twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_share_a_timeline_in_memory() {
    many_writers_share_a_timeline(Store::memory()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_share_a_timeline_on_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    many_writers_share_a_timeline(Store::disk(directory.path()).expect("opens")).await;
}

#[tokio::test]
async fn a_lost_response_is_neither_a_failure_nor_a_second_write() {
    for fault in Fault::ALL {
        let source = dense_source();
        let (store, faults) = faulty();
        let timeline = Timeline::open(store, Arc::clone(&source));
        timeline.append(points(&source, 0..1), Default::default()).await.expect("appends");
        faults.script(Operation::Put, "timeline", fault);
        let outcome = timeline.append(points(&source, 1..2), Default::default()).await;
        assert_eq!(outcome.expect("appends"), appended(2), "{fault:?}");
        assert_eq!(timeline.append(points(&source, 2..3), Default::default()).await.expect("appends"), appended(3));
        assert_eq!(all_updates(&timeline).await.len(), 3, "{fault:?}");
    }
}

#[tokio::test]
async fn an_append_that_crashes_is_all_or_nothing() {
    for takes_effect in [false, true] {
        let source = dense_source();
        let (store, faults) = faulty();
        let timeline = Timeline::open(store.clone(), Arc::clone(&source));
        timeline.append(points(&source, 0..1), Default::default()).await.expect("appends");
        if takes_effect {
            faults.crash_during(0)
        } else {
            faults.crash_after(0)
        };
        let error = timeline.append(points(&source, 1..3), Default::default()).await.expect_err("crashed");
        assert!(matches!(error, AppendError::Ambiguous { .. }), "{error}");
        faults.revive();
        let reopened = Timeline::open(store, Arc::clone(&source));
        let written = all_updates(&reopened).await.len();
        assert_eq!(written, if takes_effect { 3 } else { 1 });
    }
}

/// `key-commits-once`: over every point at which the first attempt can crash.
#[tokio::test]
async fn key_commits_once_wherever_the_first_attempt_crashes() {
    let source = dense_source();
    let mut crashes = 0;
    for operations in 0.. {
        for takes_effect in [false, true] {
            let (store, faults) = faulty();
            let other = Timeline::open(store.clone(), Arc::clone(&source));
            other.append(points(&source, 100..101), Default::default()).await.expect("appends");
            if takes_effect {
                faults.crash_during(operations)
            } else {
                faults.crash_after(operations)
            };
            let first = Timeline::open(store.clone(), Arc::clone(&source));
            let outcome = first.append(points(&source, 0..3), key("upload-1")).await;
            let crashed = outcome.is_err();
            faults.revive();
            crashes += usize::from(crashed);

            // Others go on meanwhile.
            for n in 101..104 {
                other.append(points(&source, n..n + 1), Default::default()).await.expect("appends");
            }
            let retry = Timeline::open(store.clone(), Arc::clone(&source));
            let replay = retry.append(points(&source, 0..3), key("upload-1")).await.expect("the retry succeeds");
            let again = retry.append(points(&source, 0..3), key("upload-1")).await.expect("and every later one");
            assert_eq!((again.token, again.replayed), (replay.token.clone(), true));
            if let Ok(outcome) = outcome {
                assert_eq!((outcome.token, replay.replayed), (replay.token, true));
            }
            assert_eq!(all_updates(&retry).await.len(), 4 + 3, "written exactly once");
            if !crashed && !takes_effect {
                assert!(crashes >= 8, "the append takes several requests");
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn key_commits_once_among_concurrent_retries() {
    let store = Store::memory();
    let source = dense_source();
    for round in 0..8 {
        let tasks = (0..6).map(|_| {
            let (store, source) = (store.clone(), Arc::clone(&source));
            tokio::spawn(async move {
                let timeline = Timeline::open(store, Arc::clone(&source));
                timeline
                    .append(points(&source, round..round + 1), key(&format!("round {round}")))
                    .await
                    .expect("appends")
            })
        });
        let outcomes: Vec<Appended> = join_all(tasks).await.into_iter().map(|task| task.expect("ends")).collect();
        assert!(outcomes.iter().all(|outcome| outcome.token == outcomes[0].token), "{outcomes:?}");
        // Two that try the same sequence at the same time write the same bytes, and neither can tell who did.
        assert!(outcomes.iter().any(|outcome| !outcome.replayed), "{outcomes:?}");
    }
    let timeline = Timeline::open(store, source);
    assert_eq!(all_updates(&timeline).await.len(), 8);
}

#[tokio::test]
async fn a_key_with_another_payload_is_refused() {
    let source = dense_source();
    let timeline = Timeline::open(Store::memory(), Arc::clone(&source));
    timeline.append(points(&source, 0..2), key("k")).await.expect("appends");
    let error = timeline.append(points(&source, 0..3), key("k")).await.expect_err("another payload");
    assert!(matches!(error, AppendError::KeyReused), "{error}");
    assert_eq!(timeline.append(points(&source, 0..3), key("l")).await.expect("appends"), appended(2));
    for bad in [String::new(), "k".repeat(257)] {
        let error = timeline.append(points(&source, 0..1), key(&bad)).await.expect_err("a bad key");
        assert!(matches!(error, AppendError::Invalid(_)), "{error}");
    }
}

/// Does what garbage collection does: a boundary first, then the deltas.
pub(crate) async fn collect(store: &Store, source: &DataSource, up_to: u64) {
    let boundary = Boundary {
        format: FORMAT,
        number: 1,
        commit_id: Ulid::from(7_u128),
        timeline: ReadToken::single(up_to),
        generation: 0,
    };
    let bytes = serde_json::to_vec(&boundary).expect("serializes");
    let object = ObjectKey::SourceBoundary { source: source.id.clone(), number: 1 };
    store.create(&object, bytes.into(), |_| true).await.expect("written");
    for sequence in 1..=up_to {
        let object = ObjectKey::Delta { source: source.id.clone(), lane: 0, sequence };
        store.delete(&object).await.expect("deleted");
    }
}

/// A writer sleeps while others append, fold and collect. Its next sequence is free again, and means nothing.
#[tokio::test]
async fn a_zombie_does_not_commit_into_the_past() {
    let source = dense_source();
    let clock = Arc::new(ManualClock::new());
    let store = Store::memory().with_clock(Arc::clone(&clock) as _);
    let zombie = Timeline::open(store.clone(), Arc::clone(&source));
    zombie.append(points(&source, 0..1), Default::default()).await.expect("appends");
    let others = Timeline::open(store.clone(), Arc::clone(&source));
    for n in 1..5 {
        others.append(points(&source, n..n + 1), Default::default()).await.expect("appends");
    }
    collect(&store, &source, 5).await;
    clock.advance(Duration::from_secs(3600));

    assert_eq!(zombie.append(points(&source, 9..10), Default::default()).await.expect("appends"), appended(6));
    let found = others.read_after(&ReadToken::single(5)).await.expect("readable");
    assert_eq!(found.len(), 1, "what landed below the boundary is read by nobody");
    let error = others.read_after(&ReadToken::single(4)).await.expect_err("collected");
    let TimelineError::Collected { collected } = &error else { unreachable!("{error}") };
    assert_eq!(*collected, ReadToken::single(5));
    assert!(error.to_string().contains("read the newest checkpoint first"), "{error}");
}

#[tokio::test]
async fn a_cold_start_after_collection_continues_the_numbering() {
    let source = dense_source();
    let store = Store::memory();
    let timeline = Timeline::open(store.clone(), Arc::clone(&source));
    for n in 0..3 {
        timeline.append(points(&source, n..n + 1), Default::default()).await.expect("appends");
    }
    collect(&store, &source, 3).await;
    let cold = Timeline::open(store, Arc::clone(&source));
    assert_eq!(cold.head().await.expect("reads"), ReadToken::single(3));
    assert_eq!(cold.append(points(&source, 3..4), Default::default()).await.expect("appends"), appended(4));
}

#[tokio::test]
async fn a_key_whose_history_is_collected_is_refused() {
    let source = dense_source();
    let (store, faults) = faulty();
    let timeline = Timeline::open(store.clone(), Arc::clone(&source));
    timeline.append(points(&source, 0..1), Default::default()).await.expect("appends");
    // The receipt is written, the delta is not.
    faults.crash_after(1);
    timeline.append(points(&source, 1..2), key("k")).await.expect_err("crashed");
    faults.revive();
    let other = Timeline::open(store.clone(), Arc::clone(&source));
    other.append(points(&source, 2..3), Default::default()).await.expect("appends");
    collect(&store, &source, 2).await;
    let retry = Timeline::open(store, Arc::clone(&source));
    let error = retry.append(points(&source, 1..2), key("k")).await.expect_err("nobody can tell");
    assert!(matches!(error, AppendError::KeyExpired { .. }), "{error}");
}

#[tokio::test]
async fn a_gap_above_the_boundary_is_corruption() {
    let source = dense_source();
    let store = Store::memory();
    let timeline = Timeline::open(store.clone(), Arc::clone(&source));
    for n in 0..3 {
        timeline.append(points(&source, n..n + 1), Default::default()).await.expect("appends");
    }
    store.delete(&ObjectKey::Delta { source: source.id.clone(), lane: 0, sequence: 2 }).await.expect("deleted");
    let error = timeline.read_after(&ReadToken::default()).await.expect_err("a gap");
    let TimelineError::Corrupt(corrupt) = &error else { unreachable!("{error}") };
    assert_eq!((corrupt.part.as_str(), corrupt.found.as_str()), ("timeline-is-gapless", "sequence 3"));
}

#[tokio::test]
async fn a_deleted_source_takes_no_more() {
    let source = dense_source();
    let clock = Arc::new(ManualClock::new());
    let store = Store::memory().with_clock(Arc::clone(&clock) as _);
    create_source(&store, &source).await.expect("created");
    let timeline = Timeline::open(store.clone(), Arc::clone(&source));
    timeline.append(points(&source, 0..1), Default::default()).await.expect("appends");
    delete_source(&store, &source.id).await.expect("deleted");
    clock.advance(Duration::from_secs(60));
    let error = timeline.append(points(&source, 1..2), Default::default()).await.expect_err("deleted");
    assert_eq!(error.to_string(), "Data source DataSourceId { Name = Films & more, Version = 1.10 } does not exist");
}

#[tokio::test]
async fn a_batch_for_another_source_is_refused() {
    let source = dense_source();
    let mut other = DataSource::clone(&source);
    other.id.version = "2".to_owned();
    let timeline = Timeline::open(Store::memory(), Arc::new(other));
    let error = timeline.append(points(&source, 0..1), Default::default()).await.expect_err("another source");
    assert!(matches!(error, AppendError::Invalid(_)), "{error}");
}

/// A store whose requests can be held up, and the same store without that.
pub(crate) fn sleepy() -> (Store, Store, Faults, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let plain = Store::memory().with_clock(Arc::clone(&clock) as _);
    let (faulty, faults) = FaultStore::new(Arc::clone(plain.object_store()));
    (plain.layer(|_| Arc::new(faulty)), plain, faults, clock)
}

/// As above, but the writer falls asleep with its put under way.
#[tokio::test]
async fn a_put_that_took_too_long_does_not_commit_into_the_past() {
    let source = dense_source();
    let (store, plain, faults, clock) = sleepy();
    let zombie = Timeline::open(store, Arc::clone(&source));
    zombie.append(points(&source, 0..1), Default::default()).await.expect("appends");
    let held = faults.hold(Operation::Put, "timeline");
    let sleeping = tokio::spawn({
        let (zombie, late) = (zombie.clone(), points(&source, 9..10));
        async move { zombie.append(late, Default::default()).await }
    });
    held.arrived().await;
    let others = Timeline::open(plain.clone(), Arc::clone(&source));
    for n in 1..5 {
        others.append(points(&source, n..n + 1), Default::default()).await.expect("appends");
    }
    collect(&plain, &source, 5).await;
    clock.advance(Duration::from_secs(3600));
    held.release();
    assert_eq!(sleeping.await.expect("ends").expect("appends"), appended(6));
}

/// The response to a receipt is lost, and the writer sleeps before it asks again. Meanwhile a retry commits the batch, others
/// go on, and all of it is collected. That the batch is there says nothing about what came after it.
#[tokio::test]
async fn what_another_attempt_wrote_does_not_make_knowledge_young() {
    let source = dense_source();
    let (store, plain, faults, clock) = sleepy();
    let zombie = Timeline::open(store, Arc::clone(&source));
    zombie.append(points(&source, 0..1), Default::default()).await.expect("appends");
    faults.script(Operation::Put, "receipts", Fault::LostResponse);
    let (first, second) = (faults.hold(Operation::Put, "receipts"), faults.hold(Operation::Put, "receipts"));
    first.release();
    let sleeping = tokio::spawn({
        let (zombie, batch) = (zombie.clone(), points(&source, 1..2));
        async move { zombie.append(batch, key("k")).await }
    });
    second.arrived().await;
    let others = Timeline::open(plain.clone(), Arc::clone(&source));
    assert_eq!(others.append(points(&source, 1..2), key("k")).await.expect("appends").token, ReadToken::single(2));
    others.append(points(&source, 2..3), Default::default()).await.expect("appends");
    clock.advance(Duration::from_secs(20 * 60));
    second.release();
    assert_eq!(sleeping.await.expect("ends").expect("appends").token, ReadToken::single(2));

    collect(&plain, &source, 3).await;
    clock.advance(Duration::from_secs(60));
    assert_eq!(zombie.append(points(&source, 3..4), Default::default()).await.expect("appends"), appended(4));
}

/// A process that slept through the deletion, the collection and the making anew of a data source starts from its new head.
#[tokio::test]
async fn a_source_that_was_made_anew_is_not_continued_at_its_old_head() {
    let source = dense_source();
    let clock = Arc::new(ManualClock::new());
    let store = Store::memory().with_clock(Arc::clone(&clock) as _);
    let zombie = Timeline::open(store.clone(), Arc::clone(&source));
    for n in 0..3 {
        zombie.append(points(&source, n..n + 1), Default::default()).await.expect("appends");
    }
    for sequence in 1..=3 {
        let object = ObjectKey::Delta { source: source.id.clone(), lane: 0, sequence };
        store.delete(&object).await.expect("deleted");
    }
    let others = Timeline::open(store.clone(), Arc::clone(&source));
    others.append(points(&source, 3..4), Default::default()).await.expect("appends");
    clock.advance(Duration::from_secs(3600));

    assert_eq!(zombie.append(points(&source, 4..5), key("k")).await.expect("appends"), appended(2));
    assert_eq!(all_updates(&others).await.len(), 2);
}

/// A store whose listings leave one object out, as a directory's may that is written to while it is read.
#[derive(Debug)]
struct TornListings {
    inner: Arc<dyn ObjectStore>,
    hidden: Path,
}

impl std::fmt::Display for TornListings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TornListings({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for TornListings {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(at, payload, options).await
    }
    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }
    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }
    fn delete_stream(&self, at: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(at)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let hidden = self.hidden.clone();
        self.inner.list(prefix).try_filter(move |meta| ready(meta.location != hidden)).boxed()
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn a_listing_that_misses_a_delta_that_is_there_is_no_corruption() {
    let source = dense_source();
    let store = Store::memory();
    let writer = Timeline::open(store.clone(), Arc::clone(&source));
    for n in 0..4 {
        writer.append(points(&source, n..n + 1), Default::default()).await.expect("appends");
    }
    let hidden = store.path(&ObjectKey::Delta { source: source.id.clone(), lane: 0, sequence: 2 });
    let torn = store.layer(|inner| Arc::new(TornListings { inner, hidden }));
    let reader = Timeline::open(torn, Arc::clone(&source));
    assert_eq!(reader.head().await.expect("reads"), ReadToken::single(4));
    assert_eq!(all_updates(&reader).await.len(), 4);
}
