//! Export: what was uploaded comes back, in three formats, and can be uploaded again.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use axum::routing::get;
use bytes::Bytes;
use http_body_util::BodyExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use tarn_api::{ApiSettings, AppState};
use tarn_api_testkit::Answer;
use tarn_store::Store;
use tower::ServiceExt;

use crate::server::{Server, point};

const EXPORT: &str = "/api/v1/data-sources/everything/1/export";

/// A data source with an attribute of every type, and two points in it.
async fn server() -> (Server, Vec<Value>) {
    let server = Server::new();
    let definition = json!({
        "vectorDimension": 2,
        "attributeValueTypes":
            {"a": "String", "b": "Guid", "c": "Bool", "d": "Int64", "e": "Float64", "f": "DateTime"},
        "permanentAttributes": ["d"],
    });
    assert_eq!(server.put("/api/v1/data-sources/everything/1", &definition).await.status, 201);
    let point = |d: i64, a: &str, e: f64, f: &str| {
        json!({
            "attributes": [
                {"key": "a", "value": {"string": a}},
                {"key": "b", "value": {"guid": "6f9619ff-8b86-d011-b42d-00c04fc964ff"}},
                {"key": "c", "value": {"bool": true}},
                {"key": "d", "value": {"int64": d}},
                {"key": "e", "value": {"float64": e}},
                {"key": "f", "value": {"dateTime": f}},
            ],
            "vector": {"isSparse": false, "coordinates": [0.1, -3.4]},
        })
    };
    let points = vec![
        point(i64::MIN, "żółć\u{1f600}", 0.1 + 0.2, "2024-01-31T12:00:00.123456Z"),
        point(i64::MAX, "", -1e300, "0001-01-01T00:00:00Z"),
    ];
    assert_eq!(server.upload("everything/1", &json!(points).to_string()).await.status, 200);
    (server, points)
}

async fn export(server: &Server, accept: &str) -> Answer {
    let answer = server.request(Method::GET, EXPORT, &[("accept", accept)], Body::empty()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

fn lines(answer: &Answer) -> Vec<Value> {
    let mut points: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    points.sort_by_key(|point| point["attributes"][3]["value"]["int64"].as_i64());
    points
}

#[tokio::test]
async fn points_come_back_as_they_were_uploaded() {
    let (server, points) = server().await;
    let answer = export(&server, "*/*").await;
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    assert_eq!(answer.header("tarn-version"), "1");
    assert_eq!(lines(&answer), points);
    // Floats in the shortest text that is the same f32.
    assert!(answer.text().contains("\"coordinates\":[0.1,-3.4]"), "{}", answer.text());
}

#[tokio::test]
async fn the_last_write_of_a_point_is_exported_and_deleted_points_are_not() {
    let server = Server::with_products().await;
    let mut newer = point(1);
    newer["attributes"][1]["value"]["string"] = json!("newer");
    newer["vector"]["coordinates"] = json!([1.0, 0.5]);
    let gone = json!({"attributes": [{"key": "id", "value": {"int64": 2}}], "isDeleted": true});
    assert_eq!(server.upload("products/1", &json!([point(1), point(2)]).to_string()).await.status, 200);
    assert_eq!(server.upload("products/1", &json!([newer, gone]).to_string()).await.status, 200);
    assert_eq!(server.get("/api/v1/data-sources/products/1/export").await.json(), newer);
}

#[tokio::test]
async fn every_format_can_be_uploaded_again() {
    let (server, points) = server().await;
    for media in ["application/x-ndjson", "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"] {
        let file = export(&server, &format!("text/html, {media};q=0.9")).await;
        assert_eq!(file.header("content-type"), media);
        let (other, _) = self::server().await;
        let path = "/api/v1/upload/everything/1";
        let gone = |id: i64| json!({"attributes": [{"key": "d", "value": {"int64": id}}], "isDeleted": true});
        let emptied = other.upload("everything/1", &json!([gone(i64::MIN), gone(i64::MAX)]).to_string()).await;
        assert_eq!(emptied.status, 200, "{}", emptied.text());
        assert_eq!(
            export(&other, media).await.text().lines().count(),
            export(&other, media).await.text().lines().count()
        );
        let answer = other.request(Method::POST, path, &[("content-type", media)], file.body).await;
        assert_eq!(answer.status, 200, "{media}: {}", answer.text());
        assert_eq!(lines(&export(&other, "application/x-ndjson").await), points, "{media}");
    }
}

#[tokio::test]
async fn an_empty_data_source_exports_as_an_empty_file() {
    let server = Server::with_products().await;
    let path = "/api/v1/data-sources/products/1/export";
    assert_eq!(server.get(path).await.body, Bytes::new());
    let headers = [("accept", "application/vnd.apache.parquet")];
    let parquet = server.request(Method::GET, path, &headers, Body::empty()).await;
    let rows: usize = ParquetRecordBatchReaderBuilder::try_new(parquet.body)
        .unwrap()
        .build()
        .unwrap()
        .map(|b| b.unwrap().num_rows())
        .sum();
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn what_cannot_be_exported_is_refused() {
    let (server, _) = server().await;
    let refused = server.request(Method::GET, EXPORT, &[("accept", "text/html")], Body::empty()).await;
    assert_eq!(refused.status, 406);
    assert!(refused.messages()[0].starts_with("Accept must name one of application/x-ndjson"));
    assert_eq!(server.get("/api/v1/data-sources/nothing/1/export").await.status, 404);
}

#[tokio::test]
async fn a_compressed_export_ends_where_the_plain_one_does() {
    let (server, _) = server().await;
    let empty = json!({"vectorDimension": 2, "attributeValueTypes": {"d": "Int64"}, "permanentAttributes": ["d"]});
    assert_eq!(server.put("/api/v1/data-sources/empty/1", &empty).await.status, 201);
    for path in [EXPORT, "/api/v1/data-sources/empty/1/export"] {
        let headers = [("accept", "application/x-ndjson"), ("accept-encoding", "gzip")];
        let answer = server.request(Method::GET, path, &headers, Body::empty()).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-encoding")), (200, "gzip"));
    }
}

#[tokio::test]
async fn exports_at_once_are_bounded() {
    let (server, _) = server().await;
    let mut read = Vec::new();
    // Answers that nobody reads to the end are exports under way.
    let refused = loop {
        let request = Request::get(EXPORT).body(Body::empty()).unwrap();
        let response = server.client.router().oneshot(request).await.unwrap();
        if response.status() != 200 {
            break response;
        }
        read.push(response);
        assert!(read.len() < 1_000);
    };
    assert_eq!(refused.status(), 429);
    read.pop();
    assert_eq!(export(&server, "*/*").await.status, 200);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_compressed_or_not() {
    async fn breaks_off() -> Body {
        let pieces = [Ok("x".repeat(100_000)), Err("on purpose: this is a test")];
        Body::from_stream(futures::stream::iter(pieces))
    }
    let routes = Router::new().route("/breaks-off", get(breaks_off));
    let state = AppState::new(Store::memory(), ApiSettings::default());
    let router = tarn_api::finish(routes, state, &tarn_api::openapi());
    for encoding in ["gzip", "identity"] {
        let request = Request::get("/breaks-off").header("accept-encoding", encoding).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers().contains_key("content-encoding"), encoding == "gzip");
        assert!(response.into_body().collect().await.is_err(), "{encoding}");
    }
}
