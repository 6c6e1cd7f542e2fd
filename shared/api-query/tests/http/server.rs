//! A server in the test's process.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tarn_api::{ApiSettings, AppState, counted};
use tarn_api_query::{QueryState, serve_router};
use tarn_search::{Engine, EngineSettings};
use tarn_store::Store;
use tower::ServiceExt;

pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) store: Store,
    /// Where an engine would keep segment files.
    pub(crate) _cache: tempfile::TempDir,
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
        let cache = tempfile::tempdir().unwrap();
        let (store, requests) = counted(&Store::memory());
        let engine_settings = EngineSettings { cache_dir: cache.path().to_owned(), ..EngineSettings::default() };
        let engine = Engine::new(store.clone(), engine_settings).unwrap();
        let app = AppState::with_requests(store.clone(), settings, Some(requests));
        Self { router: serve_router(QueryState::new(app, engine)), store, _cache: cache }
    }

    /// With points 1 to 4 on a line in `points/1`, found by `nearest/1`, and split by `sk1` and `sk2` in `split/1`.
    pub(crate) async fn with_points() -> Self {
        let server = Self::new();
        let source = json!({
            "vectorDimension": 2,
            "attributeValueTypes": {"id": "Int64", "sk2": "String", "sk1": "Bool", "name": "String", "price": "Float64"},
            "permanentAttributes": ["id", "sk1", "sk2"],
        });
        server.define("data-sources/points/1", &source).await;
        let mut index = json!({
            "dataSourceId": {"name": "points", "version": "1"},
            "indexAlgorithm": {"type": "FaissIndex.L2"},
            "idAttributes": ["id", "sk1", "sk2"],
        });
        server.define("indices/nearest/1", &index).await;
        index["splitAttributes"] = json!(["sk2", "sk1"]);
        server.define("indices/split/1", &index).await;
        let points: Vec<Value> = (1..=4).map(point).collect();
        let uploaded = server.post("/api/v1/upload/points/1", &json!(points)).await;
        assert_eq!(uploaded.status, 200, "{}", uploaded.text());
        server
    }

    pub(crate) async fn define(&self, path: &str, definition: &Value) {
        let path = format!("/api/v1/{path}");
        let headers = [("content-type", "application/json")];
        let answer = self.request(Method::PUT, &path, &headers, definition.to_string()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
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
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, &[], Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::POST, path, &[("content-type", "application/json")], body.to_string()).await
    }

    pub(crate) async fn search(&self, index: &str, query: &Value) -> Answer {
        self.post(&format!("/api/v1/search/{index}"), query).await
    }

    /// The ids that a search finds, nearest first.
    pub(crate) async fn ids(&self, index: &str, query: &Value) -> Vec<i64> {
        let answer = self.search(index, query).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        ids(&answer.json()[0])
    }
}

pub(crate) fn ids(result: &Value) -> Vec<i64> {
    let found = result["nearestDataPoints"].as_array().unwrap().iter();
    found.map(|point| point["attributes"][0]["value"]["int64"].as_i64().unwrap()).collect()
}

/// At (id, 0); the even ones have `sk1`.
pub(crate) fn point(id: i64) -> Value {
    json!({
        "attributes": [
            {"key": "name", "value": {"string": format!("n{id}")}},
            {"key": "price", "value": {"float64": id as f64 / 10.0}},
            {"key": "id", "value": {"int64": id}},
            {"key": "sk2", "value": {"string": "a"}},
            {"key": "sk1", "value": {"bool": id % 2 == 0}},
        ],
        "vector": {"isSparse": false, "coordinates": [id, 0]},
    })
}

pub(crate) fn query(k: i64) -> Value {
    json!({"queryVectors": [{"isSparse": false, "coordinates": [0.9, 0]}], "k": k})
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

    pub(crate) fn messages(&self) -> Vec<String> {
        assert!(!self.status.is_success(), "{}: {}", self.status, self.text());
        let json = self.json();
        let messages = json["errorMessages"].as_array().unwrap();
        messages.iter().map(|message| message.as_str().unwrap().to_owned()).collect()
    }
}
