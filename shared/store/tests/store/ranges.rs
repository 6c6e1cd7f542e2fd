//! Reading many ranges of one object: what is asked for, how often, and when.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use proptest::prelude::*;
use tarn_model::ObjectKey;
use tarn_store::{BackoffPolicy, Clock, CountingStore, Hedge, Meter, RangeReads, RetryStore, Spent, Store, StoreError};
use tarn_testkit::{Fault, FaultStore, Faults, Operation, SteppedClock};

use crate::delta;

const MS: Duration = Duration::from_millis(1);

/// Ranges that were asked for.
type Asked = Arc<Mutex<Vec<Range<u64>>>>;

/// A store whose answers to ranges take so long, by the start of the range: first the first time, then the second.
#[derive(Debug)]
struct Slow {
    inner: Arc<dyn ObjectStore>,
    clock: Arc<SteppedClock>,
    usual: Duration,
    late: Mutex<HashMap<u64, Vec<Duration>>>,
    asked: Asked,
    /// Bytes that an answer has too many or too few.
    distort: i64,
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slow")
    }
}

#[async_trait]
impl ObjectStore for Slow {
    async fn get_opts(&self, location: &Path, mut options: GetOptions) -> Result<GetResult> {
        if let Some(GetRange::Bounded(range)) = &mut options.range {
            self.asked.lock().push(range.clone());
            let late = self.late.lock().get_mut(&range.start).and_then(Vec::pop);
            self.clock.sleep(late.unwrap_or(self.usual)).await;
            range.end = range.end.saturating_add_signed(self.distort);
        }
        self.inner.get_opts(location, options).await
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("nothing is uploaded in parts")
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// An object of a thousand bytes in a slow store.
struct World {
    clock: Arc<SteppedClock>,
    store: Store,
    asked: Asked,
}

fn content() -> Bytes {
    (0..1000_u32).map(|i| (i % 251) as u8).collect()
}

impl World {
    /// `late`: the answer to ranges with this start takes so long, first and second time.
    async fn new(usual: Duration, late: &[(u64, [Duration; 2])], distort: i64) -> Self {
        let memory = Store::memory();
        memory.put_unique(&key(), content()).await.expect("put");
        let clock = Arc::new(SteppedClock::new());
        let asked = Arc::default();
        let late = late.iter().map(|(start, [first, second])| (*start, vec![*second, *first])).collect();
        let slow = Slow {
            inner: Arc::clone(memory.object_store()),
            clock: Arc::clone(&clock),
            usual,
            late: Mutex::new(late),
            asked: Arc::clone(&asked),
            distort,
        };
        let (counting, _) = CountingStore::new(Arc::new(slow));
        Self { store: memory.layer(|_| Arc::new(counting)).with_clock(clock.clone()), clock, asked }
    }

    async fn read(&self, ranges: &[Range<u64>], how: &RangeReads) -> (Result<Vec<Bytes>, StoreError>, Duration, Spent) {
        let (meter, key) = (Meter::new(), key());
        let read = meter.scope(self.store.read_ranges(&key, ranges, how));
        let (read, took) = self.clock.run(read).await;
        (read, took, meter.spent())
    }

    /// The ranges that were asked for, by their starts.
    fn asked(&self) -> Vec<Range<u64>> {
        let mut asked = self.asked.lock().clone();
        asked.sort_unstable_by_key(|range| (range.start, range.end));
        asked
    }
}

fn key() -> ObjectKey {
    delta(1)
}

fn tens(count: u64) -> Vec<Range<u64>> {
    (0..count).map(|i| i * 100..i * 100 + 10).collect()
}

fn check(parts: &[Bytes], ranges: &[Range<u64>]) {
    let content = content();
    let expected: Vec<Bytes> = ranges
        .iter()
        .map(|r| if r.is_empty() { Bytes::new() } else { content.slice(r.start as usize..r.end as usize) })
        .collect();
    assert_eq!(parts, expected);
}

#[tokio::test]
async fn a_range_that_lags_behind_its_siblings_is_asked_for_again() {
    let world = World::new(20 * MS, &[(300, [500 * MS, 20 * MS])], 0).await;
    let ranges = tens(6);
    let (parts, took, spent) = world.read(&ranges, &RangeReads::as_planned()).await;
    check(&parts.unwrap(), &ranges);
    assert_eq!(took, 80 * MS, "three times the median of 20 ms, and 20 ms");
    assert_eq!((spent.requests.gets, spent.hedged, spent.round_trips), (7, 1, 1));
}

#[tokio::test]
async fn the_first_answer_wins_whichever_request_it_is_to() {
    // The first answers while the second is under way.
    let world = World::new(20 * MS, &[(0, [70 * MS, 500 * MS])], 0).await;
    let ranges = tens(4);
    let (parts, took, spent) = world.read(&ranges, &RangeReads::as_planned()).await;
    check(&parts.unwrap(), &ranges);
    assert_eq!((took, spent.hedged), (70 * MS, 1));
}

#[tokio::test]
async fn what_is_slow_among_slow_ones_or_within_bounds_is_not_asked_for_again() {
    for (usual, late) in [(1, 50), (40, 120)] {
        let world = World::new(usual * MS, &[(100, [late * MS, MS])], 0).await;
        let (parts, took, spent) = world.read(&tens(5), &RangeReads::as_planned()).await;
        assert_eq!(parts.unwrap().len(), 5);
        assert_eq!((took, spent.hedged), (late * MS, 0), "{usual} and {late} ms");
    }
    // Of two, one has nothing to be compared with but itself; of three that lag, half have not been answered.
    let lag = [500 * MS, MS];
    let world = World::new(20 * MS, &[(0, lag), (100, lag), (200, lag)], 0).await;
    assert_eq!(world.read(&tens(5), &RangeReads::as_planned()).await.2.hedged, 0);
    let world = World::new(20 * MS, &[(0, lag)], 0).await;
    assert_eq!(world.read(&tens(1), &RangeReads::as_planned()).await.2.hedged, 0);
    let never = RangeReads { hedge: None, ..RangeReads::as_planned() };
    let world = World::new(20 * MS, &[(0, lag)], 0).await;
    assert_eq!(world.read(&tens(9), &never).await.1, 500 * MS);
}

#[tokio::test]
async fn a_hedge_waits_as_long_as_it_is_told_to() {
    let world = World::new(10 * MS, &[(0, [500 * MS, 10 * MS])], 0).await;
    let how = RangeReads { hedge: Some(Hedge { factor: 20, at_least: 70 * MS }), ..RangeReads::as_planned() };
    assert_eq!(world.read(&tens(3), &how).await.1, 210 * MS);
}

#[tokio::test]
async fn no_more_than_so_many_are_under_way_at_once() {
    let world = World::new(20 * MS, &[], 0).await;
    let how = RangeReads { at_once: 4, ..RangeReads::as_planned() };
    let (parts, took, spent) = world.read(&tens(10), &how).await;
    check(&parts.unwrap(), &tens(10));
    assert_eq!(took, 60 * MS, "three waves");
    assert_eq!(spent.round_trips, 1, "none waits for what another says");
}

#[tokio::test]
async fn ranges_with_small_gaps_share_a_request_unless_they_were_planned_so() {
    let ranges = [90..100, 0..10, 30..30, 12..20, 15..40, 500..501];
    let world = World::new(MS, &[], 0).await;
    let (parts, _, spent) = world.read(&ranges, &RangeReads { gap: Some(50), ..RangeReads::default() }).await;
    check(&parts.unwrap(), &ranges);
    assert_eq!(world.asked(), [0..100, 500..501]);
    assert_eq!((spent.requests.gets, spent.requests.bytes_read), (2, 101));
    let world = World::new(MS, &[], 0).await;
    let (parts, ..) = world.read(&ranges, &RangeReads { gap: Some(0), ..RangeReads::default() }).await;
    check(&parts.unwrap(), &ranges);
    assert_eq!(world.asked(), [0..10, 12..40, 90..100, 500..501]);
    let world = World::new(MS, &[], 0).await;
    let (parts, ..) = world.read(&ranges, &RangeReads::as_planned()).await;
    check(&parts.unwrap(), &ranges);
    assert_eq!(world.asked(), [0..10, 12..20, 15..40, 90..100, 500..501]);
    let (nothing, _, spent) = world.read(&[], &RangeReads::default()).await;
    assert_eq!((nothing.unwrap().len(), spent), (0, Spent::default()));
}

#[tokio::test]
async fn an_answer_of_another_length_is_corrupt() {
    for distort in [-1, 1] {
        let world = World::new(MS, &[], distort).await;
        let (read, ..) = world.read(&tens(3), &RangeReads::as_planned()).await;
        assert!(matches!(&read, Err(StoreError::Corrupt(corrupt)) if corrupt.expected == "10 bytes"), "{read:?}");
        let last = world.clock.run(world.store.read_last(&key(), 1000, 10)).await.0;
        // Nothing comes after the end.
        assert_eq!(matches!(last, Err(StoreError::Corrupt(_))), distort < 0, "{last:?}");
    }
}

#[tokio::test]
async fn a_range_past_the_end_is_corrupt_and_an_object_that_is_gone_is_missing() {
    let world = World::new(MS, &[], 0).await;
    for past in [990..1001, 2000..2001] {
        let (read, ..) = world.read(&[0..10, past], &RangeReads::as_planned()).await;
        assert!(matches!(&read, Err(StoreError::Corrupt(corrupt)) if corrupt.part.starts_with("length")), "{read:?}");
    }
    let store = Store::memory();
    let read = store.read_ranges(&key(), &tens(2), &RangeReads::default()).await;
    assert!(matches!(read, Err(StoreError::Missing { .. })), "{read:?}");
    assert!(matches!(store.read_last(&key(), 10, 1).await, Err(StoreError::Missing { .. })));
}

#[tokio::test]
async fn the_end_of_an_object_is_read_if_it_is_as_long_as_it_must_be() {
    let world = World::new(MS, &[], 0).await;
    let last = async |bytes, count| world.clock.run(world.store.read_last(&key(), bytes, count)).await.0;
    assert_eq!(last(1000, 30).await.unwrap(), content().slice(970..));
    assert_eq!(last(1000, 5000).await.unwrap(), content(), "all there is");
    for wrong in [999, 1001] {
        let read = last(wrong, 30).await;
        assert!(matches!(&read, Err(StoreError::Corrupt(corrupt)) if corrupt.part.starts_with("length")), "{read:?}");
    }
}

#[tokio::test]
async fn the_one_request_that_fails_does_not_end_a_read_that_the_other_answers() {
    let memory = Store::memory();
    memory.put_unique(&key(), content()).await.unwrap();
    let clock = Arc::new(SteppedClock::new());
    let (faulty, faults) = FaultStore::new(Arc::clone(memory.object_store()));
    let store = memory.layer(|_| Arc::new(faulty)).with_clock(clock.clone());
    // The first request hangs and fails in the end; the second hangs too, for a shorter time.
    let (first, second) = (faults.hold(Operation::Get, ""), Arc::new(Mutex::new(None)));
    let steer = async {
        first.arrived().await;
        *second.lock() = Some(faults.hold(Operation::Get, ""));
        let held = second.lock().clone().unwrap();
        held.arrived().await;
        faults.script(Operation::Get, "", Fault::Timeout);
        first.release();
        tokio::task::yield_now().await;
        held.release();
    };
    let ranges = tens(4);
    let (key, how) = (key(), RangeReads::as_planned());
    let both = async { futures::join!(store.read_ranges(&key, &ranges, &how), steer).0 };
    check(&clock.run(both).await.0.unwrap(), &ranges);
    // A failure without another request ends the read.
    faults.script(Operation::Get, "", Fault::Timeout);
    let read = clock.run(store.read_ranges(&key, &ranges, &RangeReads::as_planned())).await.0;
    assert!(matches!(read, Err(StoreError::Unavailable { .. })), "{read:?}");
}

#[tokio::test]
async fn failures_that_pass_are_repeated_below() {
    let memory = Store::memory();
    memory.put_unique(&key(), content()).await.unwrap();
    let clock = Arc::new(SteppedClock::new());
    let faults = Faults::default();
    let faulty = FaultStore::with_faults(Arc::clone(memory.object_store()), faults.clone());
    let retrying = RetryStore::new(Arc::new(faulty), clock.clone(), BackoffPolicy::default(), 7);
    let store = memory.layer(|_| Arc::new(retrying)).with_clock(clock.clone());
    faults.script(Operation::Get, "", Fault::UnavailableBefore);
    faults.script(Operation::Get, "", Fault::LostResponse);
    let (key, ranges) = (key(), tens(5));
    let read = clock.run(store.read_ranges(&key, &ranges, &RangeReads::as_planned())).await.0;
    check(&read.unwrap(), &ranges);
}

proptest! {
    #[test]
    fn any_ranges_are_read_in_the_order_asked_for(
        ranges in prop::collection::vec((0..1000_u64, 0..200_u64), 0..12),
        gap in prop::option::of(0..300_u64),
        at_once in 0..5_usize,
    ) {
        let ranges: Vec<Range<u64>> = ranges.iter().map(|(start, length)| *start..(start + length).min(1000)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::new(MS, &[], 0).await;
            let how = RangeReads { gap, at_once, ..RangeReads::default() };
            check(&world.read(&ranges, &how).await.0.unwrap(), &ranges);
            if let Some(gap) = gap {
                let asked = world.asked();
                assert!(asked.windows(2).all(|pair| pair[0].end + gap < pair[1].start), "{asked:?}");
            }
        });
    }
}
