//! A server in the test's process.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::Method;
use serde_json::{Value, json};
use tarn_api::{ApiSettings, AppState, counted, ingest_router};
use tarn_api_testkit::{Answer, Client};
use tarn_store::{Clock, LatencyStore, Requests, Store};
use tokio::sync::watch;

/// Time that stands still until the test moves it; sleeping takes real time.
#[derive(Debug, Default)]
pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis().try_into().unwrap(), Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        1_700_000_000_000 + i64::try_from(self.0.load(Ordering::SeqCst)).unwrap()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A clock by whose latencies a store waits until it is told not to.
#[derive(Debug)]
pub(crate) struct Gate {
    open: watch::Sender<bool>,
    waiting: AtomicU64,
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { open: watch::Sender::new(true), waiting: AtomicU64::new(0) })
    }

    /// A store in memory behind the gate.
    pub(crate) fn store(self: &Arc<Self>) -> Store {
        Store::memory().layer(|inner| Arc::new(LatencyStore::new(inner, self.clone(), Duration::ZERO)))
    }

    pub(crate) fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }

    /// Returns once a request to the store waits.
    pub(crate) async fn somebody_waits(&self) {
        while self.waiting.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Clock for Gate {
    fn now_ms(&self) -> i64 {
        0
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    async fn sleep(&self, _: Duration) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) struct Server {
    pub(crate) client: Client,
    pub(crate) store: Store,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) requests: Requests,
}

impl Deref for Server {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(ApiSettings::default())
    }

    pub(crate) fn with(settings: ApiSettings) -> Self {
        Self::over(&Store::memory(), settings)
    }

    pub(crate) fn over(store: &Store, settings: ApiSettings) -> Self {
        let clock = Arc::new(TestClock::default());
        let (store, requests) = counted(&store.with_clock(clock.clone()));
        let state = AppState::with_requests(store.clone(), settings, Some(requests.clone()));
        Self { client: Client::new(ingest_router(state)), store, clock, requests }
    }

    /// With the data source `products/1`: two coordinates, an id and a name.
    pub(crate) async fn with_products() -> Self {
        let server = Self::new();
        server.define_products().await;
        server
    }

    pub(crate) async fn define_products(&self) {
        let answer = self.put("/api/v1/data-sources/products/1", &products()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
    }

    pub(crate) async fn upload(&self, path: &str, body: &str) -> Answer {
        let path = format!("/api/v1/upload/{path}");
        self.request(Method::POST, &path, &[("content-type", "application/json")], body.to_owned()).await
    }
}

pub(crate) fn products() -> Value {
    json!({
        "vectorDimension": 2,
        "vectorsAreSparse": false,
        "attributeValueTypes": {"id": "Int64", "name": "String"},
        "permanentAttributes": ["id"],
    })
}

pub(crate) fn point(id: i64) -> Value {
    json!({
        "attributes": [{"key": "id", "value": {"int64": id}}, {"key": "name", "value": {"string": format!("n{id}")}}],
        "vector": {"isSparse": false, "coordinates": [id, 0.5]},
    })
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
