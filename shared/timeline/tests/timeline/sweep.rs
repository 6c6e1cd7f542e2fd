//! Deleting by a question, and retention: what goes, what stays, and what is counted, whoever else writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use proptest::prelude::*;
use tarn_model::{
    AttributeValue, Attributes, DataPoint, DataSource, ObjectKey, PointKey, ReadToken, Retention, Update,
};
use tarn_store::{Clock, Store};
use tarn_testkit::{Fault, FaultStore, Faults, ManualClock, Operation};
use tarn_timeline::{
    AppendError, LiveOptions, Question, RetentionState, SweepError, SweepOptions, Swept, Timeline, live, row_attributes,
};

use crate::common::{any_updates, batch, delete, dense_source, points, upsert};

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
    Swept { deleted, complete: true, cut: ReadToken::single(cut), token: ReadToken::single(token) }
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
    let until = SweepOptions { until: Some(Duration::ZERO), ..ids_below(8) };
    let none = timeline.sweep(until).await.expect("sweeps");
    assert_eq!((none.deleted, none.complete), (0, false));
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
        matches!(failed, SweepError::Append(AppendError::NotApplied(_) | AppendError::Ambiguous { .. })),
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
            if (1..=updates.chunks(6).len() as u64).contains(&cut) {
                assert_eq!(after, fold.len() as u64);
            } else {
                assert_eq!(swept.deleted, if cut == 0 { 0 } else { before - after });
            }
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

#[tokio::test]
async fn a_source_without_retention_is_left_alone() {
    let source = dense_source();
    let timeline = Timeline::open(memory(), Arc::clone(&source));
    timeline.append(points(&source, 0..3), Default::default()).await.expect("appends");
    assert_eq!(timeline.apply_retention(None).await.expect("applies"), None);
    let key = ObjectKey::Delta { source: source.id.clone(), lane: 0, sequence: 2 };
    assert_eq!(timeline.store().get(&key).await.expect("reads"), None);
}
