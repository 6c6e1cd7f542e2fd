//! The stores against the conformance suite, and the commit under every fault.

use std::sync::Arc;

use tarn_store::{BackoffPolicy, RetryStore, Store};
use tarn_testkit::{FaultStore, ManualClock, conformance};

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

/// A store that fails on request, with reads repeated and waits that take no time.
fn faulty(store: &Store) -> (Store, tarn_testkit::Faults) {
    let clock = Arc::new(ManualClock::new());
    let (faulty, faults) = FaultStore::new(Arc::clone(store.object_store()));
    let reading = RetryStore::new(Arc::new(faulty), clock.clone(), BackoffPolicy::default(), 1);
    (store.layer(|_| Arc::new(reading)).with_clock(clock).with_seed(1), faults)
}
