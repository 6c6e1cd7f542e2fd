//! What the handlers share.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tarn_drop::Presign;
use tarn_store::{CountingStore, Requests, Store};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::{Gate, KeysSeen};
use crate::body::{BodyBudget, HeldBody};
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::settings::ApiSettings;
use crate::sources::Sources;

/// Most requests at once that read points by the file: exports, samples, deletions by filter, counts and measurements. Each holds a
/// thread, a part of the timeline's tail and perhaps a file, an export for as long as its client cares to read.
const READINGS: usize = 16;

/// What the handlers share: one per process, cheap to clone.
#[derive(Clone, Debug)]
pub struct AppState {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    settings: ApiSettings,
    gate: Gate,
    metrics: Arc<Metrics>,
    bodies: Arc<BodyBudget>,
    sources: Sources,
    readings: Arc<Semaphore>,
    /// When the object store last answered that it is there, on the store's monotonic clock.
    ready: Mutex<Option<Duration>>,
    requests: Option<Requests>,
    presigner: Option<Arc<dyn Presign>>,
}

impl AppState {
    /// Over a store. No request to it is made.
    pub fn new(store: Store, settings: ApiSettings) -> Self {
        Self::with_requests(store, settings, None)
    }

    /// As [`Self::new`]; `requests` are the counters of the store's counting decorator, for metrics and headers.
    pub fn with_requests(store: Store, settings: ApiSettings, requests: Option<Requests>) -> Self {
        Self::with_presigner(store, settings, requests, None)
    }

    /// As [`Self::with_requests`]; `presigner` signs uploads into the drop folder, where the store is a bucket.
    pub fn with_presigner(
        store: Store,
        settings: ApiSettings,
        requests: Option<Requests>,
        presigner: Option<Arc<dyn Presign>>,
    ) -> Self {
        let inner = Inner {
            gate: Gate::new(store.clone(), settings.auth),
            metrics: Arc::new(Metrics::default()),
            bodies: BodyBudget::new(settings.body_bytes_in_flight),
            sources: Sources::new(store.clone(), settings.queue_bytes),
            readings: Arc::new(Semaphore::new(READINGS)),
            ready: Mutex::default(),
            store,
            settings,
            requests,
            presigner,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Tells what this process has seen of the store's keys, so that its requests need not ask as long as that is young.
    pub fn learn_keys(&self, seen: KeysSeen) {
        self.inner.gate.learn(seen);
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The settings.
    pub fn settings(&self) -> &ApiSettings {
        &self.inner.settings
    }

    /// The counters of this process.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    /// The counters of the store, if it has a counting decorator.
    pub fn requests(&self) -> Option<&Requests> {
        self.inner.requests.as_ref()
    }

    pub(crate) fn presigner(&self) -> Option<&Arc<dyn Presign>> {
        self.inner.presigner.as_ref()
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.inner.gate
    }

    /// Reads a request's body, within the limits on one and on all together.
    ///
    /// # Errors
    /// 413 beyond the limit of one body, 429 beyond that of all together, 400 when it breaks off.
    pub async fn read_body(&self, body: axum::body::Body) -> Result<HeldBody, ApiError> {
        self.inner.bodies.read(body).await
    }

    pub(crate) fn sources(&self) -> &Sources {
        &self.inner.sources
    }

    pub(crate) fn ready(&self) -> &Mutex<Option<Duration>> {
        &self.inner.ready
    }

    /// Admits a request that reads points by the file, such as an export, until the permit is dropped.
    ///
    /// # Errors
    /// 429 when as many are under way as may be.
    pub fn admit_reading(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.inner.readings).try_acquire_owned().map_err(|_| {
            let what = "exports, samples, deletions by filter, statistics that read points, or measurements of recall";
            ApiError::overloaded(format!("{READINGS} {what} are under way, which is the most; try again later"), 5)
        })
    }
}

/// The store seen through a counting decorator, and its counters: for [`AppState::with_requests`].
pub fn counted(store: &Store) -> (Store, Requests) {
    let mut counters = Requests::default();
    let store = store.layer(|objects| {
        let (counting, requests) = CountingStore::new(objects);
        counters = requests;
        Arc::new(counting)
    });
    (store, counters)
}
