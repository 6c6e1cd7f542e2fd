//! Layer 1: what Vektonn's clients send, and what they read.

use axum::http::Method;
use serde_json::{Value, json};

use crate::server::{Server, ids, point, query};

#[tokio::test]
async fn a_search_finds_the_nearest_points() {
    let server = Server::with_points().await;
    let answer = server.search("nearest/1", &query(2)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let results = answer.json();
    assert_eq!(results.as_array().unwrap().len(), 1);
    assert_eq!(ids(&results[0]), [1, 2]);
    let nearest = &results[0]["nearestDataPoints"][0];
    // Vectors come unless the search says not to, and floats in their shortest text.
    assert_eq!(nearest["vector"], json!({"isSparse": false, "coordinates": [1.0, 0.0]}));
    let distance = nearest["distance"].as_f64().unwrap();
    assert!((distance - 0.01).abs() < 1e-6, "{distance}");
    assert_eq!(results[0]["queryVector"], json!({"isSparse": false, "coordinates": [0.9, 0.0]}));
    assert!(answer.text().contains("[0.9,0.0]"));
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!((answer.header("tarn-version"), answer.header("tarn-coverage")), ("1", "1"));
    assert!(answer.header("server-timing").starts_with("snapshot;dur="));
    assert!(!answer.header("tarn-requests").is_empty());
}

#[tokio::test]
async fn attributes_come_as_id_then_split_then_payload_each_by_key() {
    let server = Server::with_points().await;
    let keys = async |index: &str| -> Vec<String> {
        let results = server.search(index, &query(1)).await.json();
        let attributes = results[0]["nearestDataPoints"][0]["attributes"].as_array().unwrap().clone();
        attributes.iter().map(|attribute| attribute["key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(keys("nearest/1").await, ["id", "sk1", "sk2", "name", "price"]);
    assert_eq!(keys("split/1").await, ["id", "sk1", "sk2", "name", "price"]);
}

#[tokio::test]
async fn get_with_a_body_searches_too() {
    let server = Server::with_points().await;
    let headers = [("content-type", "application/json")];
    let answer = server.request(Method::GET, "/api/v1/search/nearest/1", &headers, query(1).to_string()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(ids(&answer.json()[0]), [1]);
}

#[tokio::test]
async fn a_search_of_the_official_client_is_understood() {
    // As the client of PyPI sends it: unset fields are left out, `retrieveVectors` when it is true.
    let server = Server::with_points().await;
    let headers = [
        ("accept", "application/json"),
        ("content-type", "application/json; charset=utf-8"),
        ("request-timeout", "2.500"),
    ];
    let body = concat!(
        r#"{"splitFilter":[{"key":"sk1","value":{"bool":true}}],"#,
        r#""queryVectors":[{"isSparse":false,"coordinates":[0.9,0.0]}],"k":10}"#
    );
    let answer = server.request(Method::POST, "/api/v1/search/split/1", &headers, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(ids(&answer.json()[0]), [2, 4]);
    assert!(answer.json()[0]["nearestDataPoints"][0]["vector"].is_object());
}

#[tokio::test]
async fn split_filters_may_be_full_partial_or_absent() {
    let server = Server::with_points().await;
    for (filter, expected) in [
        (json!([{"key": "sk1", "value": {"bool": false}}, {"key": "sk2", "value": {"string": "a"}}]), vec![1, 3]),
        (json!([{"key": "sk2", "value": {"string": "a"}}]), vec![1, 2, 3, 4]),
        (json!([{"key": "sk2", "value": {"string": "b"}}]), vec![]),
        (json!([]), vec![1, 2, 3, 4]),
        (Value::Null, vec![1, 2, 3, 4]),
    ] {
        let mut search = query(10);
        search["splitFilter"] = filter.clone();
        assert_eq!(server.ids("split/1", &search).await, expected, "{filter}");
    }
}

#[tokio::test]
async fn uploads_updates_and_deletes_show_at_once() {
    let server = Server::with_points().await;
    let mut moved = point(4);
    moved["vector"]["coordinates"] = json!([0.9, 0]);
    let mut gone = point(1);
    gone["isDeleted"] = json!(true);
    gone.as_object_mut().unwrap().remove("vector");
    assert_eq!(server.post("/api/v1/upload/points/1", &json!([moved, gone])).await.status, 200);
    assert_eq!(server.ids("nearest/1", &query(10)).await, [4, 2, 3]);
}

#[tokio::test]
async fn several_queries_get_a_result_each_without_vectors_when_asked() {
    let server = Server::with_points().await;
    let search = json!({
        "QUERYVECTORS": [{"coordinates": ["4", 0], "isSparse": false}, {"isSparse": false, "coordinates": [2, 0]}],
        "K": "2", "retrievevectors": false, "unknown": [1],
    });
    let results = server.search("nearest/1", &search).await.json();
    assert_eq!((ids(&results[0]), ids(&results[1])), (vec![4, 3], vec![2, 1]));
    assert!(results[0]["nearestDataPoints"][0].get("vector").is_none());
}

#[tokio::test]
async fn an_index_that_does_not_exist_is_not_found() {
    let server = Server::with_points().await;
    for path in ["/api/v1/info/X/1.0", "/api/v1/probe/X/1.0", "/api/v1/indices/X/1.0", "/api/v1/indices/X/1.0/points"] {
        let refused = server.get(path).await;
        assert_eq!(refused.status, 404, "{path}");
        assert_eq!(refused.messages(), ["Index IndexId { Name = X, Version = 1.0 } does not exist"]);
    }
    assert_eq!(server.search("X/1.0", &query(1)).await.status, 404);
}

#[tokio::test]
async fn faulty_searches_get_the_messages_of_layer_one() {
    let server = Server::with_points().await;
    let with = |property: &str, value: Value| {
        let mut search = query(1);
        search[property] = value;
        search
    };
    let sk1 = |value: Value| json!([{"key": "sk1", "value": value}]);
    for (search, messages) in [
        (query(0), vec!["K must be positive"]),
        (query(-3), vec!["K must be positive"]),
        (with("k", Value::Null), vec!["K must be positive"]),
        (with("queryVectors", json!([])), vec!["At least one query vector is required"]),
        (json!({}), vec!["K must be positive", "At least one query vector is required"]),
        (
            with("splitFilter", json!([{"key": "id", "value": {"int64": 1}}])),
            vec!["SplitFilter attribute keys must be in SplitAttributes: {sk1, sk2}"],
        ),
        (
            with(
                "splitFilter",
                json!([{"key": "sk1", "value": {"bool": true}}, {"key": "sk1", "value": {"bool": true}}]),
            ),
            vec!["SplitFilter attribute keys must be unique"],
        ),
        (with("splitFilter", sk1(json!({"int64": 1}))), vec!["SplitFilter attribute 'sk1' has invalid value: '1'"]),
        (with("splitFilter", sk1(json!({}))), vec!["SplitFilter attribute 'sk1' has invalid value: ''"]),
        (
            with("queryVectors", json!([{"isSparse": false, "coordinates": [1]}])),
            vec!["Vector coordinates must have dimension: 2"],
        ),
        (
            with("queryVectors", json!([{"isSparse": true, "coordinates": [1], "coordinateIndices": [1]}])),
            vec!["Vector must be dense"],
        ),
    ] {
        let refused = server.search("split/1", &search).await;
        assert_eq!(refused.status, 400, "{search}");
        assert_eq!(refused.messages(), messages, "{search}");
    }
}

#[tokio::test]
async fn hostile_searches_are_refused() {
    let server = Server::with_points().await;
    for body in [
        "",
        "null",
        "[]",
        "{",
        r#"{"k": 1.5}"#,
        r#"{"k": 99999999999}"#,
        r#"{"k": "x"}"#,
        r#"{"k": []}"#,
        r#"{"queryVectors": {}}"#,
        r#"{"queryVectors": [[1, 2]], "k": 1}"#,
        r#"{"queryVectors": [null], "k": 1}"#,
        r#"{"queryVectors": [{"coordinates": [null, 1]}], "k": 1}"#,
        r#"{"retrieveVectors": "yes"}"#,
        r#"{"splitFilter": {}}"#,
        r#"{"exact": 1}"#,
        r#"{"attributes": [1]}"#,
    ] {
        let headers = [("content-type", "application/json")];
        let refused = server.request(Method::POST, "/api/v1/search/nearest/1", &headers, body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert!(!refused.messages().is_empty());
    }
    let vectors: Vec<Value> = (0..1_001).map(|_| json!({"isSparse": false, "coordinates": [1, 0]})).collect();
    assert_eq!(server.search("nearest/1", &json!({"queryVectors": vectors, "k": 1})).await.status, 400);
    assert_eq!(server.search("nearest/1", &query(10_001)).await.status, 400);
    let many = json!({"queryVectors": vectors[..1_000], "k": 10_000});
    assert!(server.search("nearest/1", &many).await.messages()[0].starts_with("k times the number of query vectors"));
}

#[tokio::test]
async fn info_counts_live_points() {
    let server = Server::with_points().await;
    let expected = json!({
        "indexAlgorithm": "FaissIndex.L2", "vectorType": "DenseVector", "vectorDimension": 2, "dataPointsCount": 4,
    });
    assert_eq!(server.get("/api/v1/info/nearest/1").await.json(), expected);
    let several = server.get("/api/v1/info").await;
    assert_eq!(several.status, 404);
    assert_eq!(several.messages(), ["There are 2 indices; ask for one: /api/v1/info/NAME/VERSION"]);
    assert_eq!(server.request(Method::DELETE, "/api/v1/indices/split/1", &[], "").await.status, 204);
    assert_eq!(server.get("/api/v1/info").await.json(), expected);
}

#[tokio::test]
async fn probe_searches_with_a_zero_vector() {
    let server = Server::with_points().await;
    let one = server.get("/api/v1/probe/nearest/1").await.json();
    assert_eq!(ids(&one[0]), [1]);
    assert_eq!(one[0]["queryVector"]["coordinates"], json!([0.0, 0.0]));
    assert!(one[0]["nearestDataPoints"][0]["vector"].is_object());
    assert_eq!(ids(&server.get("/api/v1/probe/nearest/1?k=3").await.json()[0]), [1, 2, 3]);
    assert_eq!(server.get("/api/v1/probe/nearest/1?k=0").await.messages(), ["K must be positive"]);
    assert_eq!(server.get("/api/v1/probe/nearest/1?k=x").await.status, 400);
}

#[tokio::test]
async fn sparse_vectors_keep_their_f64_values() {
    let server = Server::new();
    let source = json!({
        "vectorDimension": 1_000_000, "vectorsAreSparse": true, "attributeValueTypes": {"id": "Int64"},
        "permanentAttributes": ["id"],
    });
    server.define("data-sources/s/1", &source).await;
    let index = json!({
        "dataSourceId": {"name": "s", "version": "1"}, "indexAlgorithm": {"type": "SparnnIndex.Cosine"}, "idAttributes": ["id"],
    });
    server.define("indices/s/1", &index).await;
    let third = 1.0 / 3.0;
    let point = json!([{
        "attributes": [{"key": "id", "value": {"int64": 1}}],
        "vector": {"isSparse": true, "coordinates": [third, 2.0], "coordinateIndices": [999_999, 5]},
    }]);
    assert_eq!(server.post("/api/v1/upload/s/1", &point).await.status, 200);
    let search = json!({
        "queryVectors": [{"isSparse": true, "coordinates": [third, 2.0], "coordinateIndices": [999_999, 5]}], "k": 1,
    });
    let results = server.search("s/1", &search).await.json();
    let found = &results[0]["nearestDataPoints"][0];
    assert_eq!(
        found["vector"],
        json!({"isSparse": true, "coordinates": [2.0, third], "coordinateIndices": [5, 999_999]})
    );
    assert!(found["distance"].as_f64().unwrap().abs() < 1e-12);
    assert_eq!(results[0]["queryVector"]["coordinateIndices"], json!([999_999, 5]));
    assert_eq!(server.get("/api/v1/info/s/1").await.json()["vectorType"], "SparseVector");
    assert_eq!(server.get("/api/v1/probe/s/1").await.status, 200);
}
