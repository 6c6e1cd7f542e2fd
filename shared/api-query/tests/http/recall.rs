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
        json!({"filter": {"eq": {"key": "nothing", "value": 1}}}),
        json!([]),
    ] {
        let refused = server.post(PATH, &body).await;
        assert_eq!(refused.status, 400, "{body}: {}", refused.text());
    }
    assert_eq!(server.post("/api/v1/indices/none/1/recall", &json!({})).await.status, 404);
}
