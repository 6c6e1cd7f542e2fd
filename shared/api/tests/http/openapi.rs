//! The document says what the server does.

use axum::body::Body;
use axum::http::Method;
use serde_json::Value;
use tarn_api::{ApiSettings, AuthMode};

use crate::server::Server;

async fn document(server: &Server) -> Value {
    let answer = server.get("/openapi.json").await;
    assert_eq!(answer.header("content-type"), "application/json");
    answer.json()
}

fn operations(document: &Value) -> Vec<(Method, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (method.to_uppercase().parse().unwrap(), path.clone(), operation))
    });
    operations.collect()
}

#[tokio::test]
async fn every_operation_of_the_document_is_served_and_says_what_it_is() {
    let server = Server::new();
    let document = document(&server).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let operations = operations(&document);
    assert!(operations.len() >= 14, "{}", operations.len());
    for (method, path, operation) in operations {
        let url = path.replace("{name}", "a").replace("{version}", "1");
        let answer = server.request(method.clone(), &url, &[], Body::empty()).await;
        assert_ne!(answer.status, 405, "{method} {path}");
        assert!(!answer.text().contains("There is nothing at"), "{method} {path}");
        let declared = operation["responses"].as_object().unwrap();
        assert!(declared.contains_key(answer.status.as_str()), "{method} {path} answers {}", answer.status);
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
        assert!(operation["tags"].is_array(), "{method} {path}");
    }
}

#[tokio::test]
async fn every_operation_that_is_not_open_needs_a_key() {
    let server = Server::with(ApiSettings { auth: AuthMode::Always, ..ApiSettings::default() });
    let document = document(&server).await;
    for (method, path, operation) in operations(&document) {
        let url = path.replace("{name}", "a").replace("{version}", "1");
        let status = server.request(method.clone(), &url, &[], Body::empty()).await.status;
        let open = operation["security"] == serde_json::json!([{}]);
        assert_eq!(status == 401, !open, "{method} {path} answers {status}");
        assert_eq!(operation["responses"].get("401").is_some(), !open, "{method} {path}");
    }
}

#[tokio::test]
async fn every_schema_that_is_named_is_there() {
    let document = document(&Server::new()).await;
    let text = document.to_string();
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
    }
}

#[tokio::test]
async fn the_page_fetches_nothing_from_elsewhere() {
    let page = Server::new().get("/docs").await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    for foreign in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.text().contains(foreign), "{foreign}");
    }
}
