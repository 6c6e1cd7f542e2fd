//! The store's behaviour as a specification: conformance, the commit under every fault, crashes, the cache, the roots.

mod cache;
mod commit;
mod conformance;
mod crash;
mod meter;
mod objects;
mod ranges;

use std::sync::Arc;

use tarn_model::{DataSourceId, ObjectKey};
use tarn_store::{BackoffPolicy, RetryStore, Store};
use tarn_testkit::{FaultStore, Faults, ManualClock};

/// A store that fails on request, with reads repeated and waits that take no time.
fn faulty(store: &Store) -> (Store, Faults) {
    let clock = Arc::new(ManualClock::new());
    let (faulty, faults) = FaultStore::new(Arc::clone(store.object_store()));
    let reading = RetryStore::new(Arc::new(faulty), clock.clone(), BackoffPolicy::default(), 1);
    (store.layer(|_| Arc::new(reading)).with_clock(clock).with_seed(1), faults)
}

fn source(name: &str) -> DataSourceId {
    DataSourceId::new(name, "1.0").expect("a valid id")
}

fn delta(sequence: u64) -> ObjectKey {
    ObjectKey::Delta { source: source("s"), lane: 0, sequence }
}
