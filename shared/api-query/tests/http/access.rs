//! Who may read the points of an index, and how many may at once.

use axum::http::Method;
use serde_json::json;
use tarn_api::Resource;
use tarn_api_testkit::{Answer, Client};
use tarn_model::IndexId;

use crate::server::{Server, query};

const INDEX: &str = "/api/v1/indices/split/1";

/// A request that reads points of `split/1`.
struct Reading {
    method: Method,
    path: String,
    body: String,
}

/// Every route that shows points of an index or what they are like.
fn readings() -> Vec<Reading> {
    let get = |path: &str| Reading { method: Method::GET, path: format!("{INDEX}{path}"), body: String::new() };
    let post = |path: &str, body| Reading { method: Method::POST, path: path.to_owned(), body };
    let mut readings: Vec<Reading> =
        ["", "/statistics", "/statistics?exact=true", "/export", "/points"].iter().map(|path| get(path)).collect();
    readings.extend([
        post("/api/v1/search/split/1", query(1).to_string()),
        post(&format!("{INDEX}/sample"), json!({"n": 2}).to_string()),
        post(&format!("{INDEX}/recall"), json!({"queries": 1, "k": 1}).to_string()),
    ]);
    readings
}

async fn send(client: &Client, reading: &Reading, headers: &[(&str, &str)]) -> Answer {
    let headers = [&[("content-type", "application/json")], headers].concat();
    client.request(reading.method.clone(), &reading.path, &headers, reading.body.clone()).await
}

#[tokio::test]
async fn points_of_an_index_are_shown_to_who_may_read_it() {
    let server = Server::with_points().await;
    let mut keys = Vec::new();
    for grants in [&["read:indices/split/1"][..], &["write:*", "read:data-sources/*", "admin:indices/nearest"]] {
        keys.push(server.key(grants).await);
    }
    let client = server.guarded();
    let id = IndexId::new("split", "1").unwrap();
    let missing = format!("read:{}", Resource::Index(&id));
    for reading in readings() {
        let path = &reading.path;
        assert_eq!(send(&client, &reading, &[]).await.status, 401, "{path}");
        let refused = send(&client, &reading, &[("x-api-key", &keys[1])]).await;
        assert_eq!(refused.status, 403, "{path}: {}", refused.text());
        assert!(refused.messages()[0].ends_with(&missing), "{path}: {}", refused.text());
        let answer = send(&client, &reading, &[("x-api-key", &keys[0])]).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn what_reads_points_by_the_file_is_admitted_a_few_at_once() {
    let server = Server::with_points().await;
    let heavy = |reading: &Reading| {
        ["/sample", "/recall", "/export", "exact=true"].iter().any(|end| reading.path.ends_with(end))
    };
    let filter = "%7B%22lte%22%3A%7B%22key%22%3A%22id%22%2C%22value%22%3A2%7D%7D";
    let counting = ["tail=true", &format!("filter={filter}")].map(|asked| format!("{INDEX}/statistics?{asked}"));
    let get = |path| Reading { method: Method::GET, path, body: String::new() };
    let deletion = Reading {
        method: Method::POST,
        path: format!("{INDEX}/delete-by-filter"),
        body: json!({"filter": {"eq": {"key": "id", "value": 77}}}).to_string(),
    };
    let (mut heavy, light): (Vec<_>, Vec<_>) = readings().into_iter().partition(heavy);
    heavy.extend(counting.map(get));
    heavy.push(deletion);
    assert_eq!((heavy.len(), light.len()), (7, 4));

    let mut held = Vec::new();
    while let Ok(permit) = server.app.admit_reading() {
        held.push(permit);
    }
    assert_eq!(held.len(), 16);
    for reading in &heavy {
        let refused = send(&server, reading, &[]).await;
        assert_eq!(refused.status, 429, "{}: {}", reading.path, refused.text());
        assert_eq!(refused.header("retry-after"), "5", "{}", reading.path);
    }
    for reading in &light {
        assert_eq!(send(&server, reading, &[]).await.status, 200, "{}", reading.path);
    }
    // One place serves one after the other: each gives it back.
    held.pop();
    for reading in &heavy {
        let answer = send(&server, reading, &[]).await;
        assert_eq!(answer.status, 200, "{}: {}", reading.path, answer.text());
    }
}
