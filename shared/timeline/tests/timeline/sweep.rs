//! Deleting by a question, and retention: what goes, what stays, and what is counted, whoever else writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use parking_lot::Mutex;
use proptest::prelude::*;
use tarn_model::{
    AttributeValue, Attributes, DataPoint, DataSource, ObjectKey, PointKey, ReadToken, Retention, Update,
};
use tarn_store::{Clock, Store};
use tarn_testkit::{Fault, FaultStore, Faults, ManualClock, Operation};
use tarn_timeline::{
    AppendError, LiveOptions, Question, RetentionState, SweepError, SweepOptions, Swept, Timeline, TimelineError, live,
    row_attributes,
};

use crate::append::{collect, faulty, sleepy};
use crate::common::{any_updates, batch, delete, dense_source, points, upsert};
use crate::live::{fold, write_checkpoint};

fn memory() -> Store {
    Store::memory().with_clock(Arc::new(ManualClock::new()))
}

/// The ids of the live points.
async fn ids(timeline: &Timeline) -> Vec<i64> {
    let source = Arc::clone(timeline.source());
    let rows = live(timeline.store(), Arc::clone(&source), LiveOptions::default()).await.expect("reads");
    let batches: Vec<_> = rows.batches.try_collect().await.expect("reads");
    let all = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| row_attributes(batch, &source, row)));
    let mut ids: Vec<i64> = all.map(|attributes| id(&attributes)).collect();
    ids.sort_unstable();
    ids
}

fn id(attributes: &Attributes) -> i64 {
    match attributes["id"] {
        AttributeValue::Int64(id) => id,
        ref other => panic!("{other}"),
    }
}

fn ids_below(bound: i64) -> SweepOptions {
    SweepOptions::new(Arc::new(move |point| id(point) < bound), BTreeSet::new())
}

fn swept(deleted: u64, cut: u64, token: u64) -> Swept {
    let [cut, token] = [cut, token].map(ReadToken::single);
    Swept { deleted, complete: true, cut, token, position: None }
}

#[tokio::test]
async fn a_sweep_deletes_what_the_question_is_true_of() {
    let source = dense_source();
    let timeline = Timeline::open(memory(), Arc::clone(&source));
    timeline.append(points(&source, 0..10), Default::default()).await.expect("appends");
    timeline.append(batch(&source, &[delete(2)]), Default::default()).await.expect("appends");
    assert_eq!(timeline.sweep(ids_below(5)).await.expect("sweeps"), swept(4, 2, 3));
    assert_eq!(ids(&timeline).await, [5, 6, 7, 8, 9]);
    assert_eq!(timeline.sweep(ids_below(5)).await.expect("sweeps"), swept(0, 3, 3), "nothing is written for nothing");
    let price = |point: &Attributes| matches!(point["price"], AttributeValue::Float64(price) if price > 11.0);
    let by_price = SweepOptions::new(Arc::new(price), ["price".to_owned()].into());
    let dry = SweepOptions { dry_run: true, ..by_price.clone() };
    assert_eq!(timeline.sweep(dry).await.expect("sweeps"), swept(2, 3, 3));
    assert_eq!(timeline.sweep(by_price).await.expect("sweeps"), swept(2, 3, 4));
    assert_eq!(ids(&timeline).await, [5, 6, 7]);
}

#[tokio::test]
async fn a_sweep_that_is_cut_short_is_gone_on_with() {
    let source = dense_source();
    let timeline = Timeline::open(memory(), Arc::clone(&source));
    timeline.append(points(&source, 0..10), Default::default()).await.expect("appends");
    let first = timeline.sweep(SweepOptions { limit: 3, ..ids_below(8) }).await.expect("sweeps");
    assert_eq!((first.deleted, first.complete, first.cut.clone()), (3, false, ReadToken::single(1)));
    // Written after the cut: it stays, although it is what the question asks for.
    timeline.append(points(&source, [7, 100, -1]), Default::default()).await.expect("appends");
    let rest = SweepOptions { cut: Some(first.cut), ..ids_below(8) };
    let rest = timeline.sweep(rest).await.expect("sweeps");
    assert!(rest.complete);
    let left = ids(&timeline).await;
    assert_eq!(left, [-1, 7, 8, 9, 100]);
    assert_eq!(rest.deleted, 4);
    let until = SweepOptions { until: Some(Duration::ZERO), least_rows: 0, ..ids_below(8) };
    let none = timeline.sweep(until).await.expect("sweeps");
    assert_eq!((none.deleted, none.complete), (0, false));
    assert_eq!(none.position.map(|position| position.to_string()).as_deref(), Some("0.4.0.0"));
}

/// `options`, and how often its question is asked of which point.
fn counting(options: SweepOptions) -> (SweepOptions, Arc<Mutex<BTreeMap<i64, u32>>>) {
    let asked = Arc::<Mutex<BTreeMap<i64, u32>>>::default();
    let (ask, noted) = (Arc::clone(&options.question), Arc::clone(&asked));
    let question: Question = Arc::new(move |point: &Attributes| {
        *noted.lock().entry(id(point)).or_default() += 1;
        ask(point)
    });
    (SweepOptions { question, ..options }, asked)
}

/// Forty points: of a checkpoint file, and of three deltas.
async fn forty(store: &Store, source: &Arc<DataSource>) -> Vec<Vec<Update>> {
    let timeline = Timeline::open(store.clone(), Arc::clone(source));
    let ten = |first: i64| (first..first + 10).map(|id| upsert(source, id, 1.0)).collect::<Vec<_>>();
    let deltas = vec![ten(0), ten(10), ten(20), ten(30)];
    for updates in &deltas {
        timeline.append(batch(source, updates), Default::default()).await.expect("appends");
    }
    write_checkpoint(store, source, 1, 1, &fold(source, &deltas[..1]), &[upsert(source, 99, 1.0)]).await;
    deltas
}

/// Sweeps in turns, each of which looks at some batch of rows and goes on where the one before ended. How many turns it took.
async fn in_turns(timeline: &Timeline, mut options: SweepOptions, deleted: &mut u64) -> u32 {
    for turn in 1..100 {
        let swept = timeline.sweep(options.clone()).await.expect("sweeps");
        *deleted += swept.deleted;
        if swept.complete {
            assert_eq!(swept.position, None);
            return turn;
        }
        assert_ne!(swept.position, options.position, "each turn comes on");
        let text = swept.position.expect("a position").to_string();
        (options.cut, options.position) = (Some(swept.cut), Some(text.parse().expect("a position")));
    }
    panic!("a hundred turns did not do");
}

#[tokio::test]
async fn a_sweep_in_turns_looks_at_each_point_once() {
    let source = dense_source();
    for (late, limit) in [(true, u64::MAX), (false, 1), (false, 7), (false, 30)] {
        let store = memory();
        forty(&store, &source).await;
        let timeline = Timeline::open(store.clone(), Arc::clone(&source));
        let (options, asked) = counting(ids_below(33));
        let until = late.then_some(Duration::ZERO);
        let options = SweepOptions { until, least_rows: 1, limit, ..options };
        let dry = SweepOptions { dry_run: true, ..options.clone() };
        let mut counted = 0;
        in_turns(&timeline, dry, &mut counted).await;
        assert_eq!(counted, 33, "{limit}: a count in turns counts each point once");
        // A point with whose batch a turn ended at its limit is asked again.
        let most = if late { 1 } else { u32::MAX };
        assert!(asked.lock().values().all(|&times| times <= most), "{asked:?}");
        assert_eq!(asked.lock().len(), 40);
        let mut deleted = 0;
        let turns = in_turns(&timeline, options, &mut deleted).await;
        assert_eq!((deleted, ids(&timeline).await.len()), (33, 7), "{limit}");
        assert!(turns > 1, "{limit}: {turns}");
    }
}

/// Between two turns others write, and builders fold.
#[tokio::test]
async fn a_new_checkpoint_neither_hides_nor_repeats_a_point() {
    let (source, store) = (dense_source(), memory());
    let mut deltas = forty(&store, &source).await;
    let timeline = Timeline::open(store.clone(), Arc::clone(&source));
    let first = timeline.sweep(SweepOptions { limit: 15, ..ids_below(33) }).await.expect("sweeps");
    assert_eq!((first.deleted, first.complete), (15, false));
    let gone: Vec<Update> = (0..15).map(delete).collect();
    let others = vec![upsert(&source, 3, 9.0), upsert(&source, 20, 9.0), delete(21), upsert(&source, 50, 1.0)];
    timeline.append(batch(&source, &others), Default::default()).await.expect("appends");
    deltas.extend([gone, others]);
    write_checkpoint(&store, &source, 2, 6, &fold(&source, &deltas), &[]).await;
    let (rest, asked) = counting(ids_below(33));
    let rest = SweepOptions { cut: Some(first.cut.clone()), position: first.position, ..rest };
    let swept = timeline.sweep(rest.clone()).await.expect("sweeps");
    assert_eq!((swept.deleted, swept.complete), (16, true), "15 to 32 without 20 and 21");
    assert!(asked.lock().keys().all(|&id| id >= 10), "{asked:?}: the first part is not looked at again");
    assert_eq!(ids(&timeline).await, [3, 20, 33, 34, 35, 36, 37, 38, 39, 50]);
}

#[tokio::test]
async fn a_sweep_whose_checkpoint_is_collected_begins_at_the_start() {
    let (source, store) = (dense_source(), memory());
    let mut deltas = forty(&store, &source).await;
    let timeline = Timeline::open(store.clone(), Arc::clone(&source));
    let dry = SweepOptions { limit: 15, dry_run: true, ..ids_below(33) };
    let counted = timeline.sweep(dry.clone()).await.expect("sweeps");
    let first = timeline.sweep(SweepOptions { limit: 15, ..ids_below(33) }).await.expect("sweeps");
    let gone: Vec<Update> = (0..15).map(delete).collect();
    let others = vec![upsert(&source, 3, 9.0), upsert(&source, 20, 9.0)];
    timeline.append(batch(&source, &others), Default::default()).await.expect("appends");
    deltas.extend([gone, others]);
    write_checkpoint(&store, &source, 2, 6, &fold(&source, &deltas), &[]).await;
    collect(&store, &source, 6).await;
    let (rest, asked) = counting(ids_below(33));
    let rest = SweepOptions { cut: Some(first.cut.clone()), position: first.position, ..rest };
    let swept = timeline.sweep(rest).await.expect("sweeps");
    assert_eq!((swept.deleted, swept.complete, swept.cut), (17, true, first.cut), "15 to 32 without 20");
    assert!(!asked.lock().contains_key(&3), "written after the cut");
    assert_eq!(ids(&timeline).await, [3, 20, 33, 34, 35, 36, 37, 38, 39]);
    // A count would count again what it has counted.
    let rest = SweepOptions { cut: Some(counted.cut), position: counted.position, ..dry };
    let error = timeline.sweep(rest).await.expect_err("is gone");
    assert!(matches!(error, SweepError::Forgotten), "{error}");
}

/// Appends so many deltas of a point each, and folds all there are.
async fn busy(timeline: &Timeline, deltas: &mut Vec<Vec<Update>>, generation: u64, more: i64) {
    let source = timeline.source();
    for n in 0..more {
        deltas.push(vec![upsert(source, 1_000 + n, 1.0)]);
        timeline.append(points(source, [1_000 + n]), Default::default()).await.expect("appends");
    }
    write_checkpoint(timeline.store(), source, generation, deltas.len() as u64, &fold(source, deltas), &[]).await;
}

/// Neither what others wrote since nor what earlier turns removed is read again and again.
#[tokio::test]
async fn a_sweep_begins_at_the_start_rather_than_read_what_is_folded_long_since() {
    for (more, begins) in [(100, false), (300, true)] {
        let (source, (store, requests)) = (dense_source(), counted(&Arc::new(ManualClock::new())));
        let mut deltas = forty(&store, &source).await;
        let timeline = Timeline::open(store.clone(), Arc::clone(&source));
        let middle = SweepOptions::new(Arc::new(|point| (5..33).contains(&id(point))), BTreeSet::new());
        let first = timeline.sweep(SweepOptions { limit: 15, ..middle.clone() }).await.expect("sweeps");
        let counted = timeline.sweep(SweepOptions { limit: 3, dry_run: true, ..middle.clone() }).await.expect("sweeps");
        assert_eq!((first.deleted, first.complete, counted.deleted), (15, false, 3));
        deltas.push((5..20).map(delete).collect());
        deltas.push(vec![upsert(&source, 25, 9.0)]);
        timeline.append(batch(&source, &deltas[5]), Default::default()).await.expect("appends");
        busy(&timeline, &mut deltas, 2, more).await;
        // A count reads nothing that came after its state.
        let rest = SweepOptions { cut: Some(counted.cut), position: counted.position, dry_run: true, ..middle.clone() };
        assert_eq!(timeline.sweep(rest).await.expect("counts").deleted, 10, "20 to 32 without the first three");
        let before = requests.counts();
        let (rest, asked) = counting(middle);
        let rest = SweepOptions { cut: Some(first.cut.clone()), position: first.position, ..rest };
        let swept = timeline.sweep(rest).await.expect("sweeps");
        assert_eq!((swept.deleted, swept.complete, swept.cut), (12, true, first.cut), "20 to 32 without 25");
        assert_eq!(asked.lock().contains_key(&0), begins, "{more}: {asked:?}");
        let gets = requests.counts().since(&before).gets;
        assert_eq!(gets < 20, begins, "{more}: {gets}");
    }
}

/// Nobody has answered with them; they are in the right form.
#[tokio::test]
async fn a_position_that_was_made_up_does_not_have_the_whole_timeline_read() {
    let (source, (store, requests)) = (dense_source(), counted(&Arc::new(ManualClock::new())));
    let timeline = Timeline::open(store.clone(), Arc::clone(&source));
    let mut deltas = forty(&store, &source).await;
    busy(&timeline, &mut deltas, 2, 300).await;
    let position = |text: &str| Some(text.parse().expect("a position"));
    for made_up in ["0.304.0.0", "1.304.0.0", "0.4.0.0"] {
        let before = requests.counts();
        let options = SweepOptions { position: position(made_up), limit: 1, ..ids_below(33) };
        assert_eq!(timeline.sweep(options).await.expect("sweeps").deleted, 1, "{made_up}");
        let gets = requests.counts().since(&before).gets;
        assert!(gets < 20, "{made_up}: {gets}");
    }
    // A count may be of a state with a long tail, but not with one of any length.
    deltas.extend((0..3).map(|id| vec![delete(id)]));
    busy(&timeline, &mut deltas, 3, 4_000).await;
    let before = requests.counts();
    let count = SweepOptions { position: position("0.4307.0.0"), dry_run: true, ..ids_below(33) };
    let error = timeline.sweep(count).await.expect_err("too long a tail");
    assert!(matches!(error, SweepError::Forgotten), "{error}");
    let gets = requests.counts().since(&before).gets;
    assert!(gets < 20, "{gets}");
}

#[tokio::test]
async fn a_cut_that_has_not_come_is_refused() {
    let source = dense_source();
    let timeline = Timeline::open(memory(), Arc::clone(&source));
    timeline.append(points(&source, 0..10), Default::default()).await.expect("appends");
    let ahead = SweepOptions { cut: Some(ReadToken::single(2)), ..ids_below(5) };
    let error = timeline.sweep(ahead).await.expect_err("ahead");
    assert_eq!(
        error.to_string(),
        "version 2 is ahead: the timeline is at 1; name a version that an upload or a search has answered with"
    );
    assert_eq!(ids(&timeline).await.len(), 10);
}

/// The question of `options`, which first has somebody else write.
fn meanwhile(options: SweepOptions, write: impl Fn() + Send + Sync + 'static) -> SweepOptions {
    let (done, ask) = (AtomicBool::new(false), Arc::clone(&options.question));
    let question: Question = Arc::new(move |point: &Attributes| {
        if !done.swap(true, Ordering::SeqCst) {
            write();
        }
        ask(point)
    });
    SweepOptions { question, ..options }
}

#[tokio::test]
async fn a_sweep_removes_what_it_counts() {
    let (source, store) = (dense_source(), memory());
    // Another process: it shares nothing with the first but the store.
    let (timeline, other) = (Timeline::open(store.clone(), source.clone()), Timeline::open(store, source.clone()));
    timeline.append(points(&source, 0..10), Default::default()).await.expect("appends");
    let writes = vec![upsert(&source, 1, 77.0), delete(2), upsert(&source, -5, 1.0)];
    let write = {
        let (other, writes) = (other.clone(), batch(&source, &writes));
        move || {
            let appended = futures::executor::block_on(other.append(writes.clone(), Default::default()));
            appended.expect("appends");
        }
    };
    // It reads 1 and 2 as they were, and finds out before it deletes them.
    let options = meanwhile(ids_below(5), write);
    assert_eq!(timeline.sweep(options).await.expect("sweeps"), swept(3, 1, 3));
    assert_eq!(ids(&timeline).await, [-5, 1, 5, 6, 7, 8, 9]);
    let delta = other.read(3).await.expect("reads").expect("is there");
    assert_eq!(delta.rows(), 3, "one tombstone for each point that is gone");
}

/// What this process knows of the head is young, and far behind.
#[tokio::test]
async fn a_sweep_catches_up_with_writers_of_other_processes() {
    let (source, store) = (dense_source(), memory());
    let (timeline, other) = (Timeline::open(store.clone(), source.clone()), Timeline::open(store, source.clone()));
    timeline.append(points(&source, 0..10), Default::default()).await.expect("appends");
    let write = {
        let (other, source) = (other.clone(), source.clone());
        move || {
            for n in 0..100 {
                let written = other.append(points(&source, [n + 1_000]), Default::default());
                futures::executor::block_on(written).expect("appends");
            }
        }
    };
    assert_eq!(timeline.sweep(meanwhile(ids_below(5), write)).await.expect("sweeps"), swept(5, 1, 102));
    assert_eq!(ids(&timeline).await.len(), 105);
}

/// A sweep falls asleep with its tombstones under way. Others use the sequence, write one of the points again, and all of it is collected.
#[tokio::test]
async fn tombstones_that_come_after_collection_count_for_nothing() {
    let source = dense_source();
    let (store, plain, faults, clock) = sleepy();
    let zombie = Timeline::open(store, Arc::clone(&source));
    zombie.append(points(&source, 0..10), Default::default()).await.expect("appends");
    let held = faults.hold(Operation::Put, "timeline");
    let sleeping = tokio::spawn({
        let zombie = zombie.clone();
        async move { zombie.sweep(ids_below(5)).await }
    });
    held.arrived().await;
    let others = Timeline::open(plain.clone(), Arc::clone(&source));
    others.append(points(&source, [1]), Default::default()).await.expect("appends");
    let mut deltas: Vec<Vec<Update>> = vec![(0..10).map(|id| upsert(&source, id, id as f32)).collect()];
    deltas.push(vec![upsert(&source, 1, 1.0)]);
    write_checkpoint(&plain, &source, 1, 2, &fold(&source, &deltas), &[]).await;
    collect(&plain, &source, 2).await;
    clock.advance(Duration::from_secs(3600));
    held.release();
    let error = sleeping.await.expect("ends").expect_err("nothing was deleted");
    assert!(matches!(error, SweepError::Read(TimelineError::Collected { .. })) && error.is_retryable(), "{error}");
    let again = SweepOptions { cut: Some(ReadToken::single(1)), ..ids_below(5) };
    assert_eq!(zombie.sweep(again).await.expect("sweeps"), swept(4, 1, 3));
    assert_eq!(ids(&others).await, [1, 5, 6, 7, 8, 9]);
}

/// What the sweep reads of the others is what a writer that slept has put where a collected delta was.
#[tokio::test]
async fn what_is_read_below_the_boundary_is_not_believed() {
    let (source, store) = (dense_source(), memory());
    let timeline = Timeline::open(store.clone(), source.clone());
    timeline.append(points(&source, 0..10), Default::default()).await.expect("appends");
    let write = {
        let (store, source) = (store.clone(), source.clone());
        move || {
            let other = Timeline::open(store.clone(), source.clone());
            let writing = async {
                other.append(points(&source, [1]), Default::default()).await.expect("appends");
                collect(&store, &source, 2).await;
                let zombie = points(&source, [77]);
                let info = tarn_timeline::BatchInfo { id: ulid::Ulid::from(5_u128), rows: 1 };
                let bytes = tarn_timeline::encode_delta(0, 2, &[info], &zombie).expect("encodes");
                let key = ObjectKey::Delta { source: source.id.clone(), lane: 0, sequence: 2 };
                store.create(&key, bytes, |_| true).await.expect("lands");
            };
            futures::executor::block_on(writing);
        }
    };
    let error = timeline.sweep(meanwhile(ids_below(5), write)).await.expect_err("collected");
    assert!(matches!(error, SweepError::Read(TimelineError::Collected { .. })), "{error}");
}

/// Puts that one call of the store makes before it gives up.
const TRIES: usize = 6;

#[tokio::test]
async fn a_put_whose_outcome_is_unknown_is_counted_once() {
    for fault in Fault::ALL {
        for times in [1, TRIES, 2 * TRIES] {
            let source = dense_source();
            let (store, faults) = faulty();
            let timeline = Timeline::open(store.clone(), Arc::clone(&source));
            timeline.append(points(&source, 0..10), Default::default()).await.expect("appends");
            (0..times).for_each(|_| faults.script(Operation::Put, "/timeline/", fault));
            match timeline.sweep(ids_below(5)).await {
                Ok(done) => assert_eq!(done, swept(5, 1, 2), "{fault:?} {times}"),
                // What certainly had no effect needs no settling.
                Err(error) => {
                    assert!(
                        matches!(error, SweepError::Append(AppendError::NotApplied(_))),
                        "{fault:?} {times}: {error}"
                    );
                    faults.heal();
                    assert_eq!(timeline.sweep(ids_below(5)).await.expect("sweeps"), swept(5, 1, 2));
                }
            }
            // What was late finds the sequence taken.
            assert!(faults.land_late(store.object_store().as_ref()).await.iter().all(Result::is_err));
            assert_eq!(ids(&timeline).await, [5, 6, 7, 8, 9]);
            let cold = Timeline::open(store, source);
            assert_eq!(cold.head().await.expect("reads"), ReadToken::single(2), "{fault:?} {times}");
        }
    }
}

#[tokio::test]
async fn a_sweep_that_does_not_know_what_it_deleted_gives_no_count() {
    let source = dense_source();
    for fault in [Fault::LostResponse, Fault::LandsLate] {
        let (store, faults) = faulty();
        let timeline = Timeline::open(store.clone(), Arc::clone(&source));
        // More than go into one delta of tombstones: the second is in doubt when the first is counted.
        let many = 20_010;
        timeline.append(points(&source, 0..many), Default::default()).await.expect("appends");
        let key = ObjectKey::Delta { source: source.id.clone(), lane: 0, sequence: 3 }.render();
        (0..200).for_each(|_| faults.script(Operation::Put, &key, fault));
        let error = timeline.sweep(ids_below(many)).await.expect_err("is in doubt");
        let SweepError::Unsettled { deleted, tombstones, .. } = &error else { panic!("{error}") };
        assert_eq!((*deleted, *tombstones), (10_000, 10_000));
        assert!(error.is_retryable());
        assert!(error.to_string().contains("Do the same again"), "{error}");
        faults.heal();
        let landed = if fault == Fault::LostResponse { 10_000 } else { 0 };
        let rest = timeline.sweep(ids_below(many)).await.expect("sweeps");
        assert_eq!((rest.deleted, rest.complete), (10_010 - landed, true), "{fault:?}");
        assert_eq!(ids(&timeline).await, Vec::<i64>::new());
    }
}

#[tokio::test]
async fn a_sweep_whose_put_fails_says_so_and_can_be_repeated() {
    let source = dense_source();
    let mut faults = Faults::default();
    let store = memory().layer(|inner| {
        let (store, handle) = FaultStore::new(inner);
        faults = handle;
        Arc::new(store)
    });
    let timeline = Timeline::open(store, Arc::clone(&source));
    timeline.append(points(&source, 0..10), Default::default()).await.expect("appends");
    for _ in 0..100 {
        faults.script(Operation::Put, "/timeline/", Fault::UnavailableBefore);
    }
    let failed = timeline.sweep(ids_below(5)).await.expect_err("fails");
    assert!(
        matches!(failed, SweepError::Append(AppendError::NotApplied(_)) | SweepError::Unsettled { deleted: 0, .. }),
        "{failed}"
    );
    assert!(failed.is_retryable());
    faults.heal();
    assert_eq!(timeline.sweep(ids_below(5)).await.expect("sweeps").deleted, 5);
    assert_eq!(ids(&timeline).await, [5, 6, 7, 8, 9]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// As if every tombstone had been written at the cut, before all later writes.
    #[test]
    fn a_sweep_comes_before_what_is_written_later((source, updates) in any_updates(24), cut in 0..4u64, odd in 0..2u8) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let timeline = Timeline::open(memory(), Arc::clone(&source));
            let cut = cut.min(updates.chunks(6).len() as u64);
            let dooms = move |key: &[u8]| key.last().is_some_and(|byte| byte % 2 == odd);
            let mut fold = BTreeMap::<Vec<u8>, DataPoint>::new();
            for (at, updates) in (1..).zip(updates.chunks(6)) {
                let batch = batch(&source, updates);
                timeline.append(batch, Default::default()).await.expect("appends");
                for update in updates {
                    let (Update::Upsert(DataPoint { attributes, .. }) | Update::Delete(attributes)) = update;
                    let key = PointKey::encode(&source, attributes).expect("a key").0;
                    match update {
                        Update::Upsert(point) => drop(fold.insert(key, point.clone())),
                        Update::Delete(_) => drop(fold.remove(&key)),
                    }
                }
                if at == cut {
                    fold.retain(|key, _| !dooms(key.as_slice()));
                }
            }
            let of_key = Arc::clone(&source);
            let question: Question = Arc::new(move |point: &Attributes| {
                dooms(&PointKey::encode(&of_key, point).expect("a key").0)
            });
            let options = SweepOptions::new(question, BTreeSet::new());
            let options = SweepOptions { cut: Some(ReadToken::single(cut)), ..options };
            let before = count(&timeline).await;
            let swept = timeline.sweep(options).await.expect("sweeps");
            let after = count(&timeline).await;
            assert_eq!(before - after, swept.deleted);
            assert_eq!(after, fold.len() as u64);
        });
    }
}

async fn count(timeline: &Timeline) -> u64 {
    let rows = live(timeline.store(), Arc::clone(timeline.source()), LiveOptions::default()).await.expect("reads");
    let batches: Vec<_> = rows.batches.try_collect().await.expect("reads");
    batches.iter().map(|batch| batch.num_rows() as u64).sum()
}

/// Points live a minute from `when` on; and there are never to be more than `target`.
fn perishable(keep_seconds: Option<u64>, target_points: Option<u64>) -> Arc<DataSource> {
    let mut source = (*dense_source()).clone();
    source.policy.retention = Some(Retention { attribute: "when".into(), keep_seconds, target_points });
    source.validate().expect("valid");
    Arc::new(source)
}

/// Point `id`, whose time is so many seconds after the clock's start.
fn at(source: &DataSource, id: i64, seconds: i64) -> Update {
    let Update::Upsert(mut point) = upsert(source, id, 1.0) else { panic!("an upsert") };
    let start = ManualClock::new().now_ms() * 1000;
    point.attributes.insert("when".into(), AttributeValue::DateTime(start + seconds * 1_000_000));
    Update::Upsert(point)
}

async fn apply(timeline: &Timeline, state: &mut Option<RetentionState>) -> u64 {
    let (swept, next) = timeline.apply_retention(state.take()).await.expect("applies").expect("has retention");
    assert!(swept.complete);
    *state = Some(next);
    swept.deleted
}

#[tokio::test]
async fn retention_deletes_what_has_expired_and_nothing_else() {
    let (source, clock) = (perishable(Some(60), None), Arc::new(ManualClock::new()));
    let store = Store::memory().with_clock(Arc::clone(&clock) as _);
    let timeline = Timeline::open(store.clone(), Arc::clone(&source));
    let updates: Vec<Update> = (0..6).map(|id| at(&source, id, id * 10 - 60)).collect();
    timeline.append(batch(&source, &updates), Default::default()).await.expect("appends");
    // A builder that knows nothing, and one that goes on from what it knew, do the same.
    let mut state = None;
    assert_eq!(apply(&timeline, &mut state).await, 1, "the one whose minute is just over");
    assert_eq!(apply(&timeline, &mut state).await, 0);
    clock.advance(Duration::from_millis(9_999));
    assert_eq!(apply(&timeline, &mut state).await, 0);
    clock.advance(Duration::from_millis(1));
    assert_eq!(apply(&timeline, &mut None).await, 1);
    assert_eq!(ids(&timeline).await, [2, 3, 4, 5]);
    // What comes later and goes earlier is seen, too; and a point that is written again lives on.
    let updates = [at(&source, 9, -55), at(&source, 2, 100)];
    timeline.append(batch(&source, &updates), Default::default()).await.expect("appends");
    assert_eq!(apply(&timeline, &mut state).await, 1);
    clock.advance(Duration::from_secs(30));
    assert_eq!(apply(&timeline, &mut state).await, 2);
    assert_eq!(ids(&timeline).await, [2, 5]);
}

#[tokio::test]
async fn nothing_due_costs_no_look_at_the_points() {
    let (source, clock) = (perishable(Some(60), Some(10)), Arc::new(ManualClock::new()));
    let mut requests = tarn_store::Requests::default();
    let store = Store::memory().with_clock(Arc::clone(&clock) as _).layer(|inner| {
        let (counting, handle) = tarn_store::CountingStore::new(inner);
        requests = handle;
        Arc::new(counting)
    });
    let timeline = Timeline::open(store, Arc::clone(&source));
    let updates: Vec<Update> = (0..6).map(|id| at(&source, id, 0)).collect();
    timeline.append(batch(&source, &updates), Default::default()).await.expect("appends");
    let mut state = None;
    assert_eq!(apply(&timeline, &mut state).await, 0);
    let before = requests.counts();
    assert_eq!(apply(&timeline, &mut state).await, 0);
    assert_eq!(requests.counts().since(&before).gets, 0, "no delta, no checkpoint");
}

#[tokio::test]
async fn a_cap_keeps_the_latest() {
    let (source, clock) = (perishable(None, Some(4)), Arc::new(ManualClock::new()));
    let store = Store::memory().with_clock(Arc::clone(&clock) as _);
    let timeline = Timeline::open(store, Arc::clone(&source));
    let updates: Vec<Update> = (0..9).map(|id| at(&source, id, (id * 7) % 9)).collect();
    timeline.append(batch(&source, &updates), Default::default()).await.expect("appends");
    let mut state = None;
    assert_eq!(apply(&timeline, &mut state).await, 5);
    let mut latest: Vec<i64> = (0..9).collect();
    latest.sort_by_key(|id| -((id * 7) % 9));
    latest.truncate(4);
    latest.sort_unstable();
    assert_eq!(ids(&timeline).await, latest);
    assert_eq!(apply(&timeline, &mut state).await, 0);
    // Equal ones stay together: which of them would go would be chance.
    let updates: Vec<Update> = (20..26).map(|id| at(&source, id, 100)).collect();
    timeline.append(batch(&source, &updates), Default::default()).await.expect("appends");
    assert_eq!(apply(&timeline, &mut state).await, 4);
    assert_eq!(ids(&timeline).await, (20..26).collect::<Vec<_>>());
}

/// A store in memory whose requests are counted.
fn counted(clock: &Arc<ManualClock>) -> (Store, tarn_store::Requests) {
    let mut requests = tarn_store::Requests::default();
    let store = Store::memory().with_clock(Arc::clone(clock) as _).layer(|inner| {
        let (counting, handle) = tarn_store::CountingStore::new(inner);
        requests = handle;
        Arc::new(counting)
    });
    (store, requests)
}

#[tokio::test]
async fn a_cap_that_equal_date_times_exceed_is_not_looked_into_again() {
    let (source, clock) = (perishable(None, Some(4)), Arc::new(ManualClock::new()));
    let (store, requests) = counted(&clock);
    let timeline = Timeline::open(store, Arc::clone(&source));
    let updates: Vec<Update> = (0..9).map(|id| at(&source, id, 0)).collect();
    timeline.append(batch(&source, &updates), Default::default()).await.expect("appends");
    let mut state = None;
    assert_eq!(apply(&timeline, &mut state).await, 0, "all are equal");
    let before = requests.counts();
    assert_eq!(apply(&timeline, &mut state).await, 0);
    assert_eq!(requests.counts().since(&before).gets, 0);
    // One more is a reason to look.
    timeline.append(batch(&source, &[at(&source, 20, 1)]), Default::default()).await.expect("appends");
    assert_eq!(apply(&timeline, &mut state).await, 0);
    let later: Vec<Update> = (30..34).map(|id| at(&source, id, 2)).collect();
    timeline.append(batch(&source, &later), Default::default()).await.expect("appends");
    assert_eq!(apply(&timeline, &mut state).await, 10);
    assert_eq!(ids(&timeline).await, [30, 31, 32, 33]);
}

#[tokio::test]
async fn a_cap_that_was_applied_in_part_is_gone_on_with() {
    let source = perishable(None, Some(4));
    let (store, plain, faults, _) = sleepy();
    let timeline = Timeline::open(store, Arc::clone(&source));
    let updates: Vec<Update> = (0..10_014).map(|id| at(&source, id, id)).collect();
    timeline.append(batch(&source, &updates), Default::default()).await.expect("appends");
    // Somebody is faster than the second delta of tombstones, and then the store does not answer.
    let second = ObjectKey::Delta { source: source.id.clone(), lane: 0, sequence: 3 }.render();
    let held = faults.hold(Operation::Put, &second);
    let applying = tokio::spawn({
        let timeline = timeline.clone();
        async move { timeline.apply_retention(None).await }
    });
    held.arrived().await;
    let other = Timeline::open(plain, Arc::clone(&source));
    other.append(batch(&source, &[at(&source, 10_013, 20_000)]), Default::default()).await.expect("appends");
    (0..50).for_each(|_| faults.script(Operation::List, "", Fault::UnavailableBefore));
    held.release();
    let (part, state) = applying.await.expect("ends").expect("applies").expect("has retention");
    assert_eq!((part.deleted, part.complete), (10_000, false));
    faults.heal();
    assert_eq!(apply(&timeline, &mut Some(state)).await, 10);
    assert_eq!(ids(&timeline).await.len(), 4);
}

#[tokio::test]
async fn a_tombstone_is_no_point_that_expires() {
    let mut source = (*perishable(Some(60), None)).clone();
    source.permanent_attributes.insert("when".to_owned());
    let (source, clock) = (Arc::new(source), Arc::new(ManualClock::new()));
    let (store, requests) = counted(&clock);
    let timeline = Timeline::open(store, Arc::clone(&source));
    timeline.append(batch(&source, &[at(&source, 1, 0)]), Default::default()).await.expect("appends");
    let mut state = None;
    assert_eq!(apply(&timeline, &mut state).await, 0);
    let Update::Upsert(mut old) = at(&source, 2, -100) else { panic!("an upsert") };
    old.attributes.retain(|name, _| source.permanent_attributes.contains(name));
    timeline.append(batch(&source, &[Update::Delete(old.attributes)]), Default::default()).await.expect("appends");
    let before = requests.counts();
    assert_eq!(apply(&timeline, &mut state).await, 0);
    assert_eq!(requests.counts().since(&before).gets, 1, "the delta, and no point");
}

/// The data source was deleted, collected and made anew with the same definition.
#[tokio::test]
async fn what_was_known_of_another_timeline_is_forgotten() {
    let source = perishable(Some(60), None);
    let old = Timeline::open(memory(), Arc::clone(&source));
    for id in 0..5 {
        old.append(batch(&source, &[at(&source, id, 0)]), Default::default()).await.expect("appends");
    }
    let mut state = None;
    assert_eq!(apply(&old, &mut state).await, 0);
    let anew = Timeline::open(memory(), Arc::clone(&source));
    anew.append(batch(&source, &[at(&source, 1, -100)]), Default::default()).await.expect("appends");
    assert_eq!(apply(&anew, &mut state).await, 1);
}

#[tokio::test]
async fn expired_points_are_looked_at_once() {
    let (source, clock) = (perishable(Some(60), None), Arc::new(ManualClock::new()));
    let (store, requests) = counted(&clock);
    let timeline = Timeline::open(store.clone(), Arc::clone(&source));
    let updates: Vec<Update> = (0..6).map(|id| at(&source, id, id * 10 - 60)).collect();
    timeline.append(batch(&source, &updates), Default::default()).await.expect("appends");
    let before = requests.counts();
    assert_eq!(apply(&timeline, &mut None).await, 1);
    assert_eq!(requests.counts().since(&before).gets, 1, "one delta, which has all points");
}

#[tokio::test]
async fn a_source_without_retention_is_left_alone() {
    let source = dense_source();
    let timeline = Timeline::open(memory(), Arc::clone(&source));
    timeline.append(points(&source, 0..3), Default::default()).await.expect("appends");
    assert_eq!(timeline.apply_retention(None).await.expect("applies"), None);
    let key = ObjectKey::Delta { source: source.id.clone(), lane: 0, sequence: 2 };
    assert_eq!(timeline.store().get(&key).await.expect("reads"), None);
}
