//! Recall over HTTP.

use serde_json::json;

use crate::server::Server;

const PATH: &str = "/api/v1/indices/nearest/1/recall";

#[tokio::test]
async fn recall_is_measured_on_demand() {
    let server = Server::with_points().await;
    let answer = server.post(PATH, &json!({"k": 2, "queries": 10, "seed": 7})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let report = answer.json();
    assert_eq!((&report["recall"], &report["lowest"]), (&json!(1.0), &json!(1.0)));
    assert_eq!((&report["queries"], &report["k"]), (&json!(4), &json!(2)), "there are no more points");
    assert_eq!(answer.header("tarn-version"), "1");
    let filter = json!({"lte": {"key": "id", "value": 2}});
    let answer = server.post(PATH, &json!({"filter": filter})).await;
    assert_eq!(answer.json()["queries"], 2);
    assert_eq!(server.post(PATH, &json!({})).await.status, 200, "everything has a default");
}

#[tokio::test]
async fn a_measurement_that_cannot_be_is_refused() {
    let server = Server::with_points().await;
    for body in [
        json!({"k": 0}),
        json!({"queries": 1_001}),
        json!({"targetRecall": 2}),
        json!({"efSearch": 0}),
        json!({"nprobe": 0}),
        json!({"deadlineMs": 0}),
        json!({"deadlineMs": "soon"}),
        json!({"filter": {"eq": {"key": "nothing", "value": 1}}}),
        json!([]),
    ] {
        let refused = server.post(PATH, &body).await;
        assert_eq!(refused.status, 400, "{body}: {}", refused.text());
    }
    assert_eq!(server.post("/api/v1/indices/none/1/recall", &json!({})).await.status, 404);
}

#[tokio::test]
async fn a_measurement_ends_at_its_deadline_with_what_it_has() {
    let server = Server::with_points().await;
    let whole = server.post(PATH, &json!({"deadlineMs": 60_000, "nprobe": 3, "efSearch": 3})).await.json();
    assert_eq!((&whole["queries"], &whole["complete"]), (&json!(4), &json!(true)));
    let none = server.post(PATH, &json!({"deadlineMs": 1e-6})).await;
    assert_eq!(none.status, 200, "{}", none.text());
    assert_eq!((&none.json()["queries"], &none.json()["complete"]), (&json!(0), &json!(false)));
    // A limit of the request that is sooner brings it forward.
    let headers = [("content-type", "application/json"), ("request-timeout", "0.000001")];
    let body = json!({"deadlineMs": 60_000}).to_string();
    let limited = server.request(axum::http::Method::POST, PATH, &headers, body).await;
    assert!(limited.status == 503 || limited.json()["complete"] == false, "{}", limited.text());
}
