//! A server in the test's process.

use std::ops::Deref;

use serde_json::{Value, json};
use tarn_api::{ApiSettings, AppState, AuthMode, counted, create_key};
use tarn_api_query::{QueryState, serve_router};
use tarn_api_testkit::{Answer, Client};
use tarn_search::{Engine, EngineSettings};
use tarn_store::Store;

pub(crate) struct Server {
    pub(crate) client: Client,
    pub(crate) app: AppState,
    pub(crate) store: Store,
    /// Where an engine would keep segment files.
    pub(crate) _cache: tempfile::TempDir,
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
        let cache = tempfile::tempdir().unwrap();
        let (store, requests) = counted(store);
        let engine_settings = EngineSettings { cache_dir: cache.path().to_owned(), ..EngineSettings::default() };
        let engine = Engine::new(store.clone(), engine_settings).unwrap();
        let app = AppState::with_requests(store.clone(), settings, Some(requests));
        let client = Client::new(serve_router(QueryState::new(app.clone(), engine)));
        Self { client, app, store, _cache: cache }
    }

    /// One over the same store that requires keys from its beginning.
    pub(crate) fn guarded(&self) -> Self {
        Self::over(&self.store, ApiSettings { auth: AuthMode::Always, ..ApiSettings::default() })
    }

    /// A new key with these grants.
    pub(crate) async fn key(&self, grants: &[&str]) -> String {
        let grants = grants.iter().map(|grant| grant.parse().unwrap()).collect();
        create_key(&self.store, "test", grants).await.unwrap().key
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
        let answer = self.put(&path, definition).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
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
