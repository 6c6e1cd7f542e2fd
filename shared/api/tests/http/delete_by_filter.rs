//! Deleting by filter, and which points go by themselves.

use serde_json::{Value, json};
use tarn_api_testkit::Answer;

use crate::server::{Server, point, products};

fn index(splits: &[&str]) -> Value {
    json!({
        "dataSourceId": {"name": "products", "version": "1"},
        "indexAlgorithm": {"type": "FaissIndex.L2"},
        "idAttributes": ["id"],
        "splitAttributes": splits,
    })
}

/// Ten products and an index over them.
async fn server() -> Server {
    let server = Server::with_products().await;
    assert_eq!(server.put("/api/v1/indices/all/1", &index(&[])).await.status, 201);
    let points: Vec<Value> = (0..10).map(point).collect();
    assert_eq!(server.upload("products/1", &json!(points).to_string()).await.status, 200);
    server
}

async fn delete(server: &Server, body: Value) -> Answer {
    server.post("/api/v1/indices/all/1/delete-by-filter", &body).await
}

/// The ids that an export finds.
async fn ids(server: &Server) -> Vec<i64> {
    let export = server.get("/api/v1/data-sources/products/1/export").await;
    let lines: Vec<Value> = export.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let id = |line: &Value| {
        let attributes = line["attributes"].as_array().unwrap();
        attributes.iter().find(|attribute| attribute["key"] == "id").unwrap()["value"]["int64"].as_i64().unwrap()
    };
    let mut ids: Vec<i64> = lines.iter().map(id).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn points_that_a_filter_is_true_of_are_deleted_and_counted() {
    let server = server().await;
    let filter = json!({"or": [{"lt": {"key": "id", "value": 3}}, {"eq": {"key": "name", "value": "n7"}}]});
    let dry = delete(&server, json!({"filter": filter, "dryRun": true})).await;
    assert_eq!(dry.status, 200, "{}", dry.text());
    assert_eq!(dry.json(), json!({"deleted": 4, "complete": true, "version": "1"}));
    assert_eq!(ids(&server).await.len(), 10);
    let deleted = delete(&server, json!({"filter": filter})).await;
    assert_eq!(deleted.json(), json!({"deleted": 4, "complete": true, "version": "1"}));
    assert_eq!(deleted.header("tarn-version"), "2");
    assert_eq!(ids(&server).await, [3, 4, 5, 6, 8, 9]);
    let again = delete(&server, json!({"filter": filter})).await;
    assert_eq!(again.json(), json!({"deleted": 0, "complete": true, "version": "2"}));
}

#[tokio::test]
async fn a_deletion_in_parts_goes_on_where_it_ended() {
    let server = server().await;
    let first = delete(&server, json!({"filter": {}, "limit": 4})).await.json();
    assert_eq!((&first["deleted"], &first["complete"], &first["version"]), (&json!(4), &json!(false), &json!("1")));
    assert_eq!(server.upload("products/1", &json!([point(0), point(50)]).to_string()).await.status, 200);
    let rest = delete(&server, json!({"filter": {}, "next": first["next"]})).await;
    assert_eq!(rest.json(), json!({"deleted": 6, "complete": true, "version": "1"}));
    assert_eq!(ids(&server).await, [0, 50], "what was written since stays");
}

#[tokio::test]
async fn a_deletion_as_of_a_version_spares_what_is_newer() {
    let server = server().await;
    assert_eq!(server.upload("products/1", &json!([point(0), point(50)]).to_string()).await.status, 200);
    let dry = delete(&server, json!({"filter": {}, "version": "1", "dryRun": true})).await;
    assert_eq!(dry.json(), json!({"deleted": 9, "complete": true, "version": "1"}));
    let old = delete(&server, json!({"filter": {}, "version": "1"})).await;
    assert_eq!(old.json(), json!({"deleted": 9, "complete": true, "version": "1"}));
    assert_eq!(ids(&server).await, [0, 50]);
    let ahead = delete(&server, json!({"filter": {}, "version": "4"})).await;
    assert_eq!(ahead.status, 409, "{}", ahead.text());
    assert!(ahead.text().contains("version 4 is ahead"), "{}", ahead.text());
    assert_eq!(ids(&server).await, [0, 50]);
}

#[tokio::test]
async fn a_count_in_parts_counts_each_point_once() {
    let server = server().await;
    let (mut counted, mut body) = (0, json!({"filter": {"lt": {"key": "id", "value": 8}}, "limit": 3, "dryRun": true}));
    for _ in 0..3 {
        let answer = delete(&server, body.clone()).await.json();
        counted += answer["deleted"].as_u64().unwrap();
        assert_eq!(answer["complete"].as_bool(), Some(answer["next"].is_null()), "{answer}");
        body["next"] = answer["next"].clone();
    }
    assert_eq!((counted, &body["next"]), (8, &Value::Null));
    assert_eq!(ids(&server).await.len(), 10);
}

#[tokio::test]
async fn nobody_goes_on_with_another_question() {
    let server = server().await;
    let filter = json!({"lt": {"key": "id", "value": 8}});
    let first = delete(&server, json!({"filter": filter, "limit": 3, "dryRun": true})).await.json();
    for body in [
        json!({"filter": filter, "next": first["next"]}),
        json!({"filter": {}, "dryRun": true, "next": first["next"]}),
        json!({"filter": filter, "dryRun": true, "next": first["next"], "version": "1"}),
        json!({"filter": filter, "dryRun": true, "next": "1-0.1.0.3-0"}),
        json!({"filter": filter, "dryRun": true, "next": ""}),
        json!({"filter": filter, "dryRun": true, "next": 7}),
    ] {
        let refused = delete(&server, body.clone()).await;
        assert_eq!(refused.status, 400, "{body}: {}", refused.text());
    }
    assert_eq!(ids(&server).await.len(), 10);
}

#[tokio::test]
async fn a_deletion_that_does_not_say_what_is_refused() {
    let server = server().await;
    for body in [
        json!({}),
        json!({"splitFilter": []}),
        json!({"fliter": {"eq": {"key": "id", "value": 1}}}),
        json!({"filter": {"eq": {"key": "nothing", "value": 1}}}),
        json!({"filter": {}, "limit": 0}),
        json!({"filter": {}, "version": "x"}),
        json!({"splitFilter": [{"key": "id", "value": {"int64": 1}}]}),
    ] {
        let refused = delete(&server, body.clone()).await;
        assert_eq!(refused.status, 400, "{body}: {}", refused.text());
    }
    let nowhere = server.post("/api/v1/indices/none/1/delete-by-filter", &json!({"filter": {}})).await;
    assert_eq!(nowhere.status, 404);
    assert_eq!(ids(&server).await.len(), 10);
}

#[tokio::test]
async fn a_definition_says_which_points_go() {
    let server = Server::new();
    let mut kept = products();
    kept["attributeValueTypes"]["at"] = json!("DateTime");
    kept["retention"] = json!({"attribute": "at", "keepSeconds": 60, "targetN": 5});
    let created = server.put("/api/v1/data-sources/products/1", &kept).await;
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(created.json()["definition"]["retention"], kept["retention"]);
    kept["retention"] = json!({"attribute": "id", "keepSeconds": 60});
    assert_eq!(server.put("/api/v1/data-sources/products/2", &kept).await.status, 400);
    kept["retention"] = json!({"attribute": "at"});
    assert_eq!(server.put("/api/v1/data-sources/products/2", &kept).await.status, 400);
}
