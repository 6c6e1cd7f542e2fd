//! What holds for every request: types, encodings, limits, and the shape of refusals.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use tarn_api_testkit::Client;

use crate::server::{Server, gzip, point, products};

const UPLOAD: &str = "/api/v1/upload/products/1";

#[tokio::test]
async fn every_refusal_is_an_error_dto() {
    let server = Server::with_products().await;
    for (method, path, status) in [
        (Method::GET, "/nowhere", 404),
        (Method::GET, "/api/v1/upload/products", 404),
        (Method::GET, UPLOAD, 405),
        (Method::DELETE, "/api/v1/indices", 405),
        (Method::POST, "/api/v1/data-sources/products/1", 405),
        (Method::PATCH, "/healthz", 405),
        (Method::POST, UPLOAD, 400),
        (Method::GET, "/api/v1/data-sources/%ff/1", 400),
        (Method::GET, "/api/v1/data-sources/%00/1", 404),
    ] {
        let answer = server.request(method.clone(), path, &[], Body::empty()).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(!answer.messages().is_empty());
    }
    assert_eq!(server.get("/nowhere").await.messages(), ["There is nothing at /nowhere; see /docs"]);
    assert_eq!(server.get(UPLOAD).await.messages(), [format!("GET is not allowed on {UPLOAD}; see /docs")]);
    assert_eq!(server.get(UPLOAD).await.header("allow"), "POST");
}

#[tokio::test]
async fn json_goes_by_several_names() {
    let server = Server::with_products().await;
    for kind in [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON;Charset=\"UTF-8\"",
        "text/json",
        "application/vnd.vektonn+json",
    ] {
        let answer = server.request(Method::POST, UPLOAD, &[("content-type", kind)], "[]").await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
    }
    assert_eq!(server.request(Method::POST, UPLOAD, &[], "[]").await.status, 200);
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "", "json"] {
        let answer = server.request(Method::POST, UPLOAD, &[("content-type", kind)], "[]").await;
        assert_eq!(answer.status, 415, "{kind}");
        assert!(answer.messages()[0].contains("is not supported; send application/json"), "{:?}", answer.messages());
    }
    let path = "/api/v1/data-sources/x/1";
    let answer = server.request(Method::PUT, path, &[("content-type", "application/x-ndjson")], "{}").await;
    assert_eq!(answer.status, 415);
}

#[tokio::test]
async fn bodies_may_be_compressed_both_ways() {
    let server = Server::with_products().await;
    let body = gzip(json!([point(1), point(2)]).to_string().as_bytes());
    let headers = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let answer = server.request(Method::POST, UPLOAD, &headers, body.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());

    let answer = server.request(Method::GET, "/openapi.json", &[("accept-encoding", "gzip")], Body::empty()).await;
    assert_eq!(answer.header("content-encoding"), "gzip");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&answer.body[..]), &mut text).unwrap();
    assert!(serde_json::from_str::<Value>(&text).unwrap().is_object());

    let broken = server.request(Method::POST, UPLOAD, &headers, body[..body.len() / 2].to_vec()).await;
    assert_eq!(broken.status, 400);
    assert!(broken.messages()[0].starts_with("The request body cannot be read"));
    let unknown = [("content-type", "application/json"), ("content-encoding", "zstd")];
    let refused = server.request(Method::POST, UPLOAD, &unknown, body).await;
    assert_eq!(refused.status, 415);
    assert_eq!(refused.messages(), ["Content-Encoding is not supported; send gzip or identity"]);
}

#[tokio::test]
async fn a_gzip_bomb_ends_at_the_limit() {
    let server = Server::with_products().await;
    let bomb = gzip(&vec![b' '; tarn_model::limits::BODY_BYTES + 1]);
    assert!(bomb.len() < 1_000_000);
    let headers = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let refused = server.request(Method::POST, UPLOAD, &headers, bomb).await;
    assert_eq!(refused.status, 413);
    assert!(refused.messages()[0].contains(&tarn_model::limits::BODY_BYTES.to_string()));
}

#[tokio::test]
async fn a_request_that_takes_too_long_ends() {
    let server = Server::with_products().await;
    let never = Body::from_stream(futures::stream::pending::<Result<&[u8], std::io::Error>>());
    let headers = [("content-type", "application/json"), ("request-timeout", "0.050")];
    let ended = server.request(Method::POST, UPLOAD, &headers, never).await;
    assert_eq!(ended.status, 503);
    assert!(ended.messages()[0].starts_with("The request took longer than its limit of 0.050 s"));
    for wrong in ["0", "-1", "x", "NaN", "inf", ""] {
        let headers = [("content-type", "application/json"), ("request-timeout", wrong)];
        assert_eq!(server.request(Method::POST, UPLOAD, &headers, "[]").await.status, 400, "{wrong}");
    }
    let headers = [("content-type", "application/json"), ("request-timeout", "1e300")];
    assert_eq!(server.request(Method::POST, UPLOAD, &headers, "[]").await.status, 200);
}

#[tokio::test]
async fn hostile_bodies_are_refused_where_they_go_wrong() {
    let server = Server::with_products().await;
    let deep = "[".repeat(100_000);
    for body in [
        "",
        " ",
        "null",
        "{}",
        "1",
        "\"x\"",
        "[",
        "[1]",
        "[null]",
        "[[]]",
        "[\"x\"]",
        "[{}",
        deep.as_str(),
        r#"[{"attributes":1}]"#,
        r#"[{"attributes":{}}]"#,
        r#"[{"attributes":[1]}]"#,
        r#"[{"attributes":[{"key":1}]}]"#,
        r#"[{"attributes":[{"key":"id","value":1}]}]"#,
        r#"[{"attributes":[{"key":"id","value":{"int64":"x"}}]}]"#,
        r#"[{"attributes":[{"key":"id","value":{"int64":9223372036854775808}}]}]"#,
        r#"[{"attributes":[{"key":"id","value":{"int64":1.5}}]}]"#,
        r#"[{"attributes":[{"key":"id","value":{"guid":"x"}}]}]"#,
        r#"[{"attributes":[{"key":"id","value":{"dateTime":"yesterday"}}]}]"#,
        r#"[{"attributes":[{"key":"id","value":{"bool":1}}]}]"#,
        r#"[{"vector":[1,2]}]"#,
        r#"[{"vector":{"isSparse":"no","coordinates":[1,2]}}]"#,
        r#"[{"vector":{"coordinates":[null,1]}}]"#,
        r#"[{"vector":{"coordinates":["NaN",1]}}]"#,
        r#"[{"vector":{"coordinates":[{},1]}}]"#,
        r#"[{"vector":{"coordinates":[1e999,1]}}]"#,
        r#"[{"isDeleted":"yes"}]"#,
        r#"[{"x":tru}]"#,
        r#"[{"attributes":[],"vector":null,"isDeleted":false}] x"#,
    ] {
        let refused = server.upload("products/1", body).await;
        assert_eq!(refused.status, 400, "{body:.80}");
        assert!(!refused.messages().is_empty());
    }
    let headers = [("content-type", "application/json")];
    let refused = server.request(Method::POST, UPLOAD, &headers, vec![b'[', b'"', 0xff, b'"', b']']).await;
    assert_eq!(refused.messages(), ["Malformed JSON: the text is not UTF-8 at line 1 column 3"]);
    let refused = server.upload("products/1", "[\n  {\"vector\": {\"coordinates\": [1, null]}}]").await;
    assert_eq!(
        refused.messages(),
        ["a coordinate (NaN and infinity cannot be sent) must be a number, found null at line 2 column 34"]
    );
    let nothing = server.get("/api/v1/data-sources/products/1").await.json();
    assert_eq!(nothing["head"], "0");
}

#[tokio::test]
async fn health_and_version_are_open() {
    let server = Server::new();
    assert_eq!(server.get("/_status/ping").await.json(), json!({"Status": "Ok"}));
    assert!(server.get("/_status/version").await.json()["CommitHash"].is_string());
    assert_eq!(server.get("/healthz").await.status, 200);
    assert_eq!(server.get("/readyz").await.status, 200);
    let head = server.request(Method::HEAD, "/healthz", &[], Body::empty()).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
}

#[tokio::test]
async fn asking_whether_the_server_is_ready_costs_a_bounded_number_of_requests() {
    let server = Server::new();
    for _ in 0..10 {
        assert_eq!(server.get("/readyz").await.status, 200);
    }
    assert_eq!(server.requests.counts().lists, 1);
    server.clock.advance(Duration::from_secs(2));
    assert_eq!(server.get("/readyz").await.status, 200);
    assert_eq!(server.requests.counts().lists, 2);
}

#[tokio::test]
async fn metrics_count_requests_by_route() {
    let server = Server::with_products().await;
    assert_eq!(server.upload("products/1", &json!([point(1), point(2)]).to_string()).await.status, 200);
    assert_eq!(server.get("/api/v1/data-sources/nothing/1").await.status, 404);
    let text = server.get("/metrics").await.text();
    for line in [
        "tarn_http_requests_total{route=\"/api/v1/upload/{name}/{version}\",method=\"POST\",status=\"200\"} 1",
        "tarn_http_requests_total{route=\"/api/v1/data-sources/{name}/{version}\",method=\"GET\",status=\"404\"} 1",
        "tarn_uploads_total 1",
        "tarn_uploaded_points_total 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(text.contains("tarn_store_requests_total{kind=\"put\"} "));
}

#[tokio::test]
async fn too_many_bytes_of_bodies_at_once_are_refused() {
    let settings = tarn_api::ApiSettings { body_bytes_in_flight: 1_000, ..Default::default() };
    let server = Server::with(settings);
    assert_eq!(server.put("/api/v1/data-sources/products/1", &products()).await.status, 201);
    let refused = server.upload("products/1", &" ".repeat(2_000)).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), "1");
    // The share of a refused body is given back.
    assert_eq!(server.upload("products/1", "[]").await.status, 200);
}

#[tokio::test]
async fn a_request_of_the_official_client_is_understood() {
    // As the client of PyPI sends it: see its `_post`.
    let server = Server::with_products().await;
    let body = concat!(
        r#"[{"attributes":[{"key":"id","value":{"int64":1}},{"key":"name","value":{"string":"ünïcode"}}],"#,
        r#""vector":{"isSparse":false,"coordinates":[1.5,-0.25]}},"#,
        r#"{"attributes":[{"key":"id","value":{"int64":2}}],"isDeleted":true}]"#
    );
    let request = Request::post(UPLOAD)
        .header("accept", "application/json")
        .header("accept-encoding", "gzip, deflate")
        .header("content-type", "application/json; charset=utf-8")
        .header("request-timeout", "2.500")
        .header("connection", "keep-alive")
        .header("user-agent", "python-requests/2.27.1")
        .body(Body::from(body))
        .unwrap();
    let answer = server.send(request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.body.is_empty());
}

#[tokio::test]
async fn a_panic_is_an_answer_that_names_the_request() {
    async fn panics() -> &'static str {
        panic!("on purpose: this is a test")
    }
    let routes = axum::Router::new().route("/panics", axum::routing::get(panics));
    let state = tarn_api::AppState::new(tarn_store::Store::memory(), tarn_api::ApiSettings::default());
    let router = tarn_api::finish(routes, state, &tarn_api::openapi());
    let server = Client::new(router);
    let answer = server.get("/panics").await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.messages(), ["The server failed on this request; its log has the cause under the requestId"]);
    assert!(server.get("/metrics").await.text().contains("\ntarn_panics_total 1\n"));
}
