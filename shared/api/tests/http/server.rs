//! A server in the test's process, and what it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tarn_api::{ApiSettings, AppState, counted, ingest_router};
use tarn_store::{Clock, Requests, Store};
use tower::ServiceExt;

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

pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) store: Store,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) requests: Requests,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(ApiSettings::default())
    }

    pub(crate) fn with(settings: ApiSettings) -> Self {
        let clock = Arc::new(TestClock::default());
        let (store, requests) = counted(&Store::memory().with_clock(clock.clone()));
        let state = AppState::with_requests(store.clone(), settings, Some(requests.clone()));
        Self { router: ingest_router(state), store, clock, requests }
    }

    /// With the data source `products/1`: two coordinates, an id and a name.
    pub(crate) async fn with_products() -> Self {
        let server = Self::new();
        let answer = server.put("/api/v1/data-sources/products/1", &products()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        server
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, &[], Body::empty()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path, &[], Body::empty()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::PUT, path, &[("content-type", "application/json")], body.to_string()).await
    }

    pub(crate) async fn upload(&self, path: &str, body: &str) -> Answer {
        let path = format!("/api/v1/upload/{path}");
        self.request(Method::POST, &path, &[("content-type", "application/json")], body.to_owned()).await
    }
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The messages of a refusal, which must be an ErrorDto that names its request.
    pub(crate) fn messages(&self) -> Vec<String> {
        assert!(!self.status.is_success(), "{}: {}", self.status, self.text());
        assert_eq!(self.header("content-type"), "application/json");
        let json = self.json();
        assert_eq!(json["requestId"].as_str().unwrap(), self.header("tarn-request-id"));
        assert!(!json["code"].as_str().unwrap().is_empty());
        let messages = json["errorMessages"].as_array().unwrap();
        assert!(!messages.is_empty());
        messages.iter().map(|message| message.as_str().unwrap().to_owned()).collect()
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
