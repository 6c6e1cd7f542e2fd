//! The document of the whole server, and who may search.

use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};
use tarn_api::{ApiSettings, AuthMode, create_key};
use tarn_api_testkit::Client;

use crate::server::{Server, query};

fn operations(document: &Value) -> Vec<(Method, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods
            .map(move |(method, operation)| (method.to_uppercase().parse().unwrap(), path.clone(), operation.clone()))
    });
    operations.collect()
}

#[tokio::test]
async fn every_operation_of_the_document_is_served() {
    let server = Server::new();
    let document = server.get("/openapi.json").await.json();
    let operations = operations(&document);
    assert!(operations.len() >= 21, "{}", operations.len());
    for (method, path, operation) in operations {
        let url = path.replace("{name}", "a").replace("{version}", "1");
        let answer = server.request(method.clone(), &url, &[], Body::empty()).await;
        assert_ne!(answer.status, 405, "{method} {path}");
        let declared = operation["responses"].as_object().unwrap();
        assert!(declared.contains_key(answer.status.as_str()), "{method} {path} answers {}", answer.status);
    }
    for part in document.to_string().split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
    }
}

#[tokio::test]
async fn every_operation_that_is_not_open_needs_a_key() {
    let server = Server::with(ApiSettings { auth: AuthMode::Always, ..ApiSettings::default() });
    let document = server.get("/openapi.json").await.json();
    for (method, path, operation) in operations(&document) {
        let url = path.replace("{name}", "a").replace("{version}", "1");
        let status = server.request(method.clone(), &url, &[], Body::empty()).await.status;
        let open = operation["security"] == json!([{}]);
        assert_eq!(status == 401, !open, "{method} {path} answers {status}");
    }
}

#[tokio::test]
async fn searching_needs_a_grant_to_read_the_index() {
    let server = Server::with_points().await;
    let reader = create_key(&server.store, "reader", vec!["read:indices/near*".parse().unwrap()]).await.unwrap().key;
    let other = create_key(&server.store, "other", vec!["admin:data-sources/*".parse().unwrap()]).await.unwrap().key;
    // The server that was open notices keys within seconds; another one at once.
    let router = {
        let engine = tarn_search::Engine::new(server.store.clone(), tarn_search::EngineSettings::default()).unwrap();
        let app = tarn_api::AppState::new(server.store.clone(), ApiSettings::default());
        tarn_api_query::serve_router(tarn_api_query::QueryState::new(app, engine))
    };
    let server = Server { client: Client::new(router), ..server };
    let paths = [
        (Method::POST, "/api/v1/search/nearest/1"),
        (Method::GET, "/api/v1/info/nearest/1"),
        (Method::GET, "/api/v1/probe/nearest/1"),
        (Method::GET, "/api/v1/indices/nearest/1"),
        (Method::GET, "/api/v1/indices/nearest/1/points"),
        (Method::POST, "/api/v1/indices/nearest/1/warm"),
        (Method::GET, "/api/v1/indices/nearest/1/export"),
        (Method::GET, "/api/v1/indices/nearest/1/statistics?tail=true"),
        (Method::POST, "/api/v1/indices/nearest/1/sample"),
        (Method::POST, "/api/v1/indices/nearest/1/recall"),
    ];
    for (method, path) in paths {
        let body = match path.rsplit('/').next() {
            _ if path.contains("search") => query(1).to_string(),
            Some("sample") => json!({"n": 2}).to_string(),
            Some("recall") => json!({"queries": 1}).to_string(),
            _ => String::new(),
        };
        for (key, expected) in [(Some(&reader), true), (Some(&other), false), (None, false)] {
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(key.map(|key| ("x-api-key", key.as_str())));
            let answer = server.request(method.clone(), path, &headers, body.clone()).await;
            assert_eq!(answer.status.is_success(), expected, "{method} {path}: {}", answer.text());
            let expected = if key.is_none() { 401 } else { 403 };
            assert!(answer.status.is_success() || answer.status == expected, "{method} {path}: {}", answer.status);
        }
    }
    let only = server.request(Method::GET, "/api/v1/info", &[("x-api-key", &reader)], Body::empty()).await;
    assert_eq!(only.status, 200, "of two indices the key may read one: {}", only.text());
}

/// The deployment hands a request to the function that serves it: each of these routes stands in its list, and no other.
#[test]
fn the_gateway_sends_searches_where_they_are_answered() {
    let api = include_str!("../../../../infra/api.tf");
    let listed = api.split_once("query_routes = toset([").unwrap().1.split_once("])").unwrap().0;
    let mut listed: Vec<&str> = listed.split('"').filter(|text| text.contains(' ') && text.contains("/api/")).collect();
    let document = serde_json::to_value(tarn_api_query::openapi()).unwrap();
    let mut served: Vec<String> = operations(&document)
        .into_iter()
        .filter(|(_, path, _)| path.starts_with("/api/"))
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect();
    // A search with GET has a body, which an OpenAPI document cannot say.
    served.push("GET /api/v1/search/{name}/{version}".to_owned());
    listed.sort_unstable();
    served.sort_unstable();
    assert_eq!(listed, served);
}
