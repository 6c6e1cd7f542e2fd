//! `commits-are-created-once`, under every fault.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tarn_store::{Clock, CountingStore, Created, Store, StoreError};
use tarn_testkit::{Fault, FaultStore, Faults, ManualClock, Operation};

use crate::{delta, faulty};

const OURS: Bytes = Bytes::from_static(b"ours");
const THEIRS: Bytes = Bytes::from_static(b"theirs");

async fn create_ours(store: &Store) -> Result<Created, StoreError> {
    store.create(&delta(1), OURS, |found| *found == OURS).await
}

#[tokio::test]
async fn an_uncontended_commit_is_one_put_and_nothing_else() {
    let (counting, requests) = CountingStore::new(Arc::clone(Store::memory().object_store()));
    let store = Store::memory().layer(|_| Arc::new(counting));
    assert_eq!(create_ours(&store).await.expect("create"), Created::Ours);
    let counts = requests.counts();
    assert_eq!((counts.puts, counts.total()), (1, 1), "{counts:?}");
}

#[tokio::test]
async fn ours_after_any_single_fault() {
    for fault in Fault::ALL {
        let memory = Store::memory();
        let (store, faults) = faulty(&memory);
        faults.script(Operation::Put, "timeline", fault);
        assert_eq!(create_ours(&store).await.expect("create"), Created::Ours, "{fault:?}");
        assert_eq!(memory.get(&delta(1)).await.expect("get"), Some(OURS), "{fault:?}");
    }
}

#[tokio::test]
async fn ours_although_reading_fails_too() {
    for fault in Fault::ALL {
        let memory = Store::memory();
        let (store, faults) = faulty(&memory);
        faults.script(Operation::Put, "timeline", Fault::LostResponse);
        for _ in 0..8 {
            faults.script(Operation::Get, "timeline", fault);
        }
        assert_eq!(create_ours(&store).await.expect("create"), Created::Ours, "{fault:?}");
    }
}

/// Lets a rival create the object while we wait to try again.
#[derive(Debug)]
struct RivalWhileWaiting {
    clock: ManualClock,
    objects: Arc<dyn ObjectStore>,
    path: object_store::path::Path,
}

#[async_trait]
impl Clock for RivalWhileWaiting {
    fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }
    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
    async fn sleep(&self, duration: Duration) {
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.objects.put_opts(&self.path, THEIRS.into(), create).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        self.clock.sleep(duration).await;
    }
}

#[tokio::test]
async fn a_rival_between_two_tries_wins_unless_our_put_took_effect() {
    for fault in Fault::ALL {
        let memory = Store::memory();
        let (store, faults) = faulty(&memory);
        let rival = RivalWhileWaiting {
            clock: ManualClock::new(),
            objects: Arc::clone(memory.object_store()),
            path: memory.path(&delta(1)),
        };
        let store = store.with_clock(Arc::new(rival));
        faults.script(Operation::Put, "timeline", fault);
        let outcome = create_ours(&store).await.expect("create");
        let stored = memory.get(&delta(1)).await.expect("get").expect("somebody won");
        let expected = match fault {
            Fault::UnavailableAfter | Fault::LostResponse => (Created::Ours, OURS),
            _ => (Created::Taken(THEIRS), THEIRS),
        };
        assert_eq!((outcome, &stored), (expected.0, &expected.1), "{fault:?}");
        // A put that is still on its way changes nothing when it lands.
        for landed in faults.land_late(memory.object_store().as_ref()).await {
            assert!(matches!(landed, Err(object_store::Error::AlreadyExists { .. })), "{landed:?}");
        }
        assert_eq!(memory.get(&delta(1)).await.expect("get"), Some(stored), "{fault:?}");
    }
}

#[tokio::test]
async fn a_late_put_that_lands_first_is_recognised_as_ours() {
    let memory = Store::memory();
    let (store, faults) = faulty(&memory);
    for _ in 0..6 {
        faults.script(Operation::Put, "timeline", Fault::LandsLate);
    }
    let unknown = create_ours(&store).await;
    assert!(matches!(unknown, Err(StoreError::Ambiguous { attempts: 6, .. })), "{unknown:?}");
    assert_eq!(memory.get(&delta(1)).await.expect("get"), None);
    let landed = faults.land_late(memory.object_store().as_ref()).await;
    assert_eq!(landed.iter().filter(|landed| landed.is_ok()).count(), 1, "of six late puts one creates the object");
    assert_eq!(create_ours(&store).await.expect("create"), Created::Ours);
}

#[tokio::test]
async fn a_store_that_stays_down_leaves_the_outcome_unknown() {
    let memory = Store::memory();
    let (store, faults) = faulty(&memory);
    faults.crash_after(0);
    let unknown = create_ours(&store).await;
    assert!(matches!(unknown, Err(StoreError::Ambiguous { .. })), "{unknown:?}");
    faults.crash_during(0);
    let unknown = create_ours(&store).await;
    assert!(matches!(unknown, Err(StoreError::Ambiguous { .. })), "{unknown:?}");
    faults.revive();
    assert_eq!(memory.get(&delta(1)).await.expect("get"), Some(OURS), "the dying request took effect");
    assert_eq!(create_ours(&store).await.expect("create"), Created::Ours, "asking again settles it");
}

#[tokio::test]
async fn whatever_fails_at_most_one_writer_is_told_ours() {
    for seed in 0..300 {
        let memory = Store::memory();
        let writers = (0..3_u64).map(|writer| {
            let (store, faults): (Store, Faults) = faulty(&memory);
            faults.random(seed * 10 + writer, 0.5);
            let memory = memory.clone();
            async move {
                let bytes = Bytes::from(format!("writer {writer}"));
                let outcome = store.create(&delta(1), bytes.clone(), |found| *found == bytes).await;
                faults.land_late(memory.object_store().as_ref()).await;
                (bytes, outcome)
            }
        });
        let outcomes = futures::future::join_all(writers).await;
        let stored = memory.get(&delta(1)).await.expect("get");
        let mut winners = 0;
        for (bytes, outcome) in outcomes {
            match outcome {
                Ok(Created::Ours) => {
                    winners += 1;
                    assert_eq!(stored.as_ref(), Some(&bytes), "seed {seed}");
                }
                Ok(Created::Taken(by)) => assert_eq!(stored, Some(by), "seed {seed}"),
                Err(StoreError::Ambiguous { .. }) => {}
                Err(other) => panic!("seed {seed}: {other}"),
            }
        }
        assert!(winners <= 1, "seed {seed}: {winners} winners");
    }
}

#[tokio::test]
async fn a_crash_at_any_request_leaves_the_object_absent_or_whole() {
    for during in [false, true] {
        for point in 0..3 {
            let memory = Store::memory();
            let (store, faults) = faulty(&memory);
            faults.script(Operation::Put, "timeline", Fault::Timeout);
            if during {
                faults.crash_during(point)
            } else {
                faults.crash_after(point)
            }
            let outcome = create_ours(&store).await;
            let stored = memory.get(&delta(1)).await.expect("get");
            match outcome {
                Ok(Created::Ours) => assert_eq!(stored, Some(OURS)),
                Ok(Created::Taken(_)) => panic!("nobody else wrote"),
                Err(_) => assert!(stored.is_none() || stored == Some(OURS)),
            }
        }
    }
}

#[tokio::test]
async fn an_object_that_vanishes_between_put_and_get_is_created_again() {
    // What a garbage collector may do to a slow writer; the writer re-reads the boundary afterwards.
    let memory = Store::memory();
    memory.put_unique(&delta(1), THEIRS).await.expect("put");
    let (faulty, faults) = FaultStore::new(Arc::clone(memory.object_store()));
    let store = memory.layer(|_| Arc::new(faulty)).with_clock(Arc::new(ManualClock::new()));
    faults.script(Operation::Get, "timeline", Fault::Timeout);
    memory.object_store().delete(&memory.path(&delta(1))).await.expect("delete");
    assert_eq!(create_ours(&store).await.expect("create"), Created::Ours);
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_for_certain() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disk = Store::disk(directory.path()).expect("a store");
    // Longer than a file name may be; the model's limits prevent it.
    let name = "x".repeat(300);
    let key = tarn_model::ObjectKey::Source(tarn_model::DataSourceId { name, version: "1".into() });
    let refused = disk.create(&key, OURS, |found| *found == OURS).await;
    assert!(matches!(refused, Err(StoreError::Config { .. })), "{refused:?}");
}
