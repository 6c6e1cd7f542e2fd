//! `tarn serve` over HTTP.

use reqwest::{Client, StatusCode};
use serde_json::{Value as Json, json};

use crate::support::{Serving, error, json as tarn};

pub(crate) fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

/// Defines a 2-d data source and an index over HTTP, both `docs/1.0`, with `id` and a counter `n`.
pub(crate) async fn define(http: &Client, url: &str) {
    let source = json!({
        "vectorDimension": 2, "attributeValueTypes": { "id": "String", "n": "Int64" }, "permanentAttributes": ["id"],
    });
    let index = json!({
        "dataSourceId": { "name": "docs", "version": "1.0" }, "indexAlgorithm": { "type": "FaissIndex.L2" },
        "idAttributes": ["id"],
    });
    for (path, body) in [("data-sources", source), ("indices", index)] {
        let response = http.put(format!("{url}/api/v1/{path}/docs/1.0")).json(&body).send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.text().await.unwrap());
    }
}

pub(crate) fn point(id: &str, n: i64) -> Json {
    json!({
        "attributes": [{ "key": "id", "value": { "string": id } }, { "key": "n", "value": { "int64": n } }],
        "vector": { "isSparse": false, "coordinates": [n, 0] },
    })
}

pub(crate) fn query(k: u32) -> Json {
    json!({ "queryVectors": [{ "isSparse": false, "coordinates": [0, 0] }], "k": k, "retrieveVectors": false })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_request_is_not_asked_for_what_the_server_has_asked_at_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let http = client();
    let mut listed = Vec::new();
    // What was seen at the start counts for seconds; a busy machine may need longer than that, though not each time.
    for attempt in 0..5 {
        let server = Serving::start(&dir.path().join(attempt.to_string()), &["--no-build", "--no-drops"]);
        let metrics = http.get(format!("{}/metrics", server.url)).send().await.unwrap().text().await.unwrap();
        let lists = metrics.lines().find_map(|line| line.strip_prefix("tarn_store_requests_total{kind=\"list\"} "));
        listed.push(lists.unwrap().to_owned());
        if listed[attempt] == "0" {
            return;
        }
    }
    panic!("listings before each first answer: {listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_answers_and_stops_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("new");
    let server = Serving::start(&store, &[]);
    let http = client();
    define(&http, &server.url).await;
    let upload = format!("{}/api/v1/upload/docs/1.0", server.url);
    let response = http.post(&upload).json(&json!([point("a", 1), point("b", 2)])).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["tarn-version"], "1");
    let search = format!("{}/api/v1/search/docs/1.0", server.url);
    let found: Json = http.post(&search).json(&query(5)).send().await.unwrap().json().await.unwrap();
    assert_eq!(found[0]["nearestDataPoints"].as_array().unwrap().len(), 2, "{found}");

    // HTTP/2 with prior knowledge, on the same port.
    let h2c = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let ping = h2c.get(format!("{}/_status/ping", server.url)).send().await.unwrap();
    assert_eq!((ping.version(), ping.status()), (reqwest::Version::HTTP_2, StatusCode::OK));

    assert!(server.terminate().success());
    assert_eq!(tarn(&store, &["verify"])["problems"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_background_builder_builds() {
    let dir = tempfile::tempdir().unwrap();
    let server = Serving::start(dir.path(), &["--build-interval", "100ms", "--build-after", "1"]);
    let http = client();
    define(&http, &server.url).await;
    let upload = format!("{}/api/v1/upload/docs/1.0", server.url);
    http.post(&upload).json(&json!([point("a", 1)])).send().await.unwrap().error_for_status().unwrap();
    let describe = format!("{}/api/v1/indices/docs/1.0", server.url);
    // Asked until it has happened; a builder that never builds fails the test by its time limit.
    loop {
        let described: Json = http.get(&describe).send().await.unwrap().json().await.unwrap();
        if described["generation"].as_u64() >= Some(1) && described["watermark"] == "1" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(server.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_demanded_once_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let created = tarn(dir.path(), &["keys", "create", "--name", "me", "--grant", "admin:*"]);
    let server = Serving::start(dir.path(), &["--no-build"]);
    let http = client();
    let list = format!("{}/api/v1/data-sources", server.url);
    assert_eq!(http.get(&list).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let key = created["key"].as_str().unwrap();
    assert_eq!(http.get(&list).bearer_auth(key).send().await.unwrap().status(), StatusCode::OK);
}

#[test]
fn an_open_server_stays_on_loopback() {
    let dir = tempfile::tempdir().unwrap();
    let said = error(Some(dir.path()), &["serve", "--listen", "0.0.0.0:0"]);
    assert!(said.contains("without API keys") && said.contains("tarn keys create"), "{said}");
}

#[test]
fn a_taken_port_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = error(Some(dir.path()), &["serve", "--listen", &address]);
    assert!(said.contains(&address) && said.contains("another server"), "{said}");
}
