//! What an upload creates because a definition says so, and what it does not.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};
use tarn_model::{DataSourceId, KeyPrefix, ObjectKey, limits};
use tarn_store::is_source_deleted;

use crate::server::{Server, point, products};

/// Products whose first upload creates an index; with `versions`, an upload to another version creates that.
pub(crate) fn creating(versions: bool) -> Value {
    let mut products = products();
    products["autoCreate"] = json!({
        "versions": versions,
        "indices": [{"name": "near", "indexAlgorithm": {"type": "FaissIndex.L2"}, "idAttributes": ["id"]}],
    });
    products
}

#[tokio::test]
async fn the_first_upload_creates_what_the_definition_names() {
    let server = Server::new();
    let created = server.put("/api/v1/data-sources/products/1", &creating(true)).await;
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(created.json()["definition"]["autoCreate"]["indices"][0]["name"], "near");
    let indices = || server.get("/api/v1/indices");
    assert_eq!(indices().await.json()["indices"], json!([]));
    assert_eq!(server.upload("products/1", "[]").await.status, 200);
    assert_eq!(indices().await.json()["indices"], json!([]), "nothing was uploaded");
    assert_eq!(server.upload("products/1", &json!([point(1)]).to_string()).await.status, 200);
    assert_eq!(indices().await.json()["indices"][0]["id"], json!({"name": "near", "version": "1"}));
    // Another version of the data source, as like it as can be.
    assert_eq!(server.upload("products/2", &json!([point(1)]).to_string()).await.status, 200);
    let second = server.get("/api/v1/data-sources/products/2").await.json();
    assert_eq!(second["definition"], created.json()["definition"]);
    assert_eq!(second["indices"], json!([{"name": "near", "version": "2"}]));
    assert_eq!(server.upload("others/1", &json!([point(1)]).to_string()).await.status, 404);
}

#[tokio::test]
async fn nothing_is_created_that_no_definition_allows() {
    let server = Server::new();
    assert_eq!(server.put("/api/v1/data-sources/products/1", &creating(false)).await.status, 201);
    assert_eq!(server.upload("products/2", &json!([point(1)]).to_string()).await.status, 404);
    assert_eq!(server.get("/api/v1/data-sources/products/2").await.status, 404);
    let mut wrong = creating(false);
    wrong["autoCreate"]["indices"][0]["idAttributes"] = json!(["nothing"]);
    assert_eq!(server.put("/api/v1/data-sources/products/3", &wrong).await.status, 400);
}

/// With `products/1`, whose definition allows everything.
async fn server() -> Server {
    let server = Server::new();
    assert_eq!(server.put("/api/v1/data-sources/products/1", &creating(true)).await.status, 201);
    server
}

fn points() -> String {
    json!([point(1)]).to_string()
}

/// The names and versions of every data source and index that there is.
async fn all(server: &Server) -> (Vec<Value>, Vec<Value>) {
    let ids = async |path: &str, list: &str| {
        let answer = server.get(path).await.json();
        answer[list].as_array().unwrap().iter().map(|one| one["id"].clone()).collect()
    };
    (ids("/api/v1/data-sources", "dataSources").await, ids("/api/v1/indices", "indices").await)
}

#[tokio::test]
async fn an_upload_creates_only_what_it_needs() {
    let server = server().await;
    let before = all(&server).await;
    let path = "/api/v1/upload/products/2";
    let json = [("content-type", "application/json")];
    for (headers, body, status) in [
        (json, "[]", 200),
        (json, "[", 400),
        (json, r#"[{"attributes": [], "vector": {"isSparse": false, "coordinates": [1, 2]}}]"#, 400),
        ([("content-type", "text/plain")], "[]", 415),
    ] {
        let answer = server.request(Method::POST, path, &headers, body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert_eq!(all(&server).await, before, "{body}");
    }
    let empty = server.upload("products/2", "[]").await;
    assert_eq!(empty.header("tarn-version"), "0");
    // Leave to upload later is not an upload. This server's store is no bucket.
    let ticket = server.post("/api/v1/uploads/products/2", &json!({"fileName": "x.csv"})).await;
    assert_eq!((ticket.status.as_u16(), ticket.json()["code"].clone()), (409, json!("noPresignedUrls")));
    assert_eq!(all(&server).await, before);
    let good = server.upload("products/2", &points()).await;
    assert_eq!((good.status.as_u16(), good.header("tarn-version")), (200, "1"));
    assert_eq!(all(&server).await.0.len(), 2);
}

#[tokio::test]
async fn uploads_at_once_create_a_version_once() {
    let server = server().await;
    let uploads = (0..8).map(|_| async { server.upload("products/2", &points()).await });
    for answer in futures::future::join_all(uploads).await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let (sources, indices) = all(&server).await;
    assert_eq!((sources.len(), indices), (2, vec![json!({"name": "near", "version": "2"})]));
}

#[tokio::test]
async fn uploads_create_a_bounded_number_of_versions() {
    let server = server().await;
    // One is there.
    for version in 2..limits::AUTO_VERSIONS {
        let answer = server.upload(&format!("products/{version}"), &points()).await;
        assert_eq!(answer.status, 200, "{version}: {}", answer.text());
    }
    // One place is left, whoever comes first.
    let uploads = ["products/x", "products/y"].map(|path| server.upload(path, "[]"));
    for answer in futures::future::join_all(uploads).await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let points = points();
    let uploads = ["products/x", "products/y"].map(|path| server.upload(path, &points));
    let mut answers = futures::future::join_all(uploads).await;
    answers.sort_by_key(|answer| answer.status);
    assert_eq!(answers[0].status, 200, "{}", answers[0].text());
    assert_eq!(answers[1].status, 409, "{}", answers[1].text());
    assert!(answers[1].messages()[0].contains("no more than 100 versions"), "{}", answers[1].text());
    // Those that are there, other names, and whoever may define are not concerned.
    assert_eq!(server.upload("products/7", &points).await.status, 200);
    assert_eq!(server.put("/api/v1/data-sources/products/by-hand", &products()).await.status, 201);
}

#[tokio::test]
async fn what_others_have_broken_does_not_keep_an_upload_from_creating() {
    let server = server().await;
    let other = DataSourceId::new("other", "1").unwrap();
    server.store.create(&ObjectKey::Source(other), "no definition".into(), |_| true).await.unwrap();
    assert!(!server.get("/api/v1/data-sources").await.status.is_success(), "nothing can be listed");
    assert_eq!(server.upload("products/2", &points()).await.status, 200);
}

#[tokio::test]
async fn a_first_upload_whose_index_has_a_name_that_is_taken_is_refused() {
    let server = Server::with_products().await;
    let mut definition = creating(true);
    definition["autoCreate"]["indices"] = json!([
        {"name": "free", "indexAlgorithm": {"type": "FaissIndex.L2"}, "idAttributes": ["id"]},
        {"name": "near", "indexAlgorithm": {"type": "FaissIndex.L2"}, "idAttributes": ["id"]},
    ]);
    assert_eq!(server.put("/api/v1/data-sources/creating/1", &definition).await.status, 201);
    let mut index = json!({
        "dataSourceId": {"name": "products", "version": "1"}, "indexAlgorithm": {"type": "FaissIndex.L2"}, "idAttributes": ["id"],
    });
    assert_eq!(server.put("/api/v1/indices/near/1", &index).await.status, 201);
    let refused = server.upload("creating/1", &points()).await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.messages()[0].contains("Name = near, Version = 1"), "{}", refused.text());
    assert_eq!(all(&server).await.1, [json!({"name": "near", "version": "1"})], "all indices or none");
    assert_eq!(server.get("/api/v1/data-sources/creating/1").await.json()["head"], "0");
    // One that is just what the upload would create is as good as created.
    index["dataSourceId"] = json!({"name": "creating", "version": "2"});
    assert_eq!(server.upload("creating/2", "[]").await.status, 200);
    assert_eq!(server.put("/api/v1/data-sources/creating/2", &definition).await.status, 201);
    assert_eq!(server.put("/api/v1/indices/near/2", &index).await.status, 201);
    assert_eq!(server.upload("creating/2", &points()).await.status, 200);
}

#[tokio::test]
async fn a_version_that_was_deleted_is_not_created_before_it_is_collected() {
    let server = server().await;
    let definition =
        json!({"vectorDimension": 2, "attributeValueTypes": {"id": "Int64"}, "permanentAttributes": ["id"]});
    assert_eq!(server.put("/api/v1/data-sources/products/2", &definition).await.status, 201);
    assert_eq!(server.delete("/api/v1/data-sources/products/2").await.status, 204);
    server.clock.advance(Duration::from_secs(60));
    assert_eq!(server.upload("products/2", &points()).await.status, 404);
    assert!(is_source_deleted(&server.store, &DataSourceId::new("products", "2").unwrap()).await.unwrap());
}

#[tokio::test]
async fn a_data_source_that_is_defined_anew_has_a_first_upload_again() {
    let server = server().await;
    for _ in 0..2 {
        assert_eq!(server.upload("products/1", &points()).await.status, 200);
        assert_eq!(all(&server).await.1, [json!({"name": "near", "version": "1"})]);
        for path in ["indices/near/1", "data-sources/products/1"] {
            assert_eq!(server.delete(&format!("/api/v1/{path}")).await.status, 204);
        }
        // What garbage collection does, a day later; this process has kept what it knew.
        for listed in server.store.list(&KeyPrefix::All).await.unwrap() {
            server.store.delete(&listed.key.unwrap()).await.unwrap();
        }
        server.clock.advance(Duration::from_secs(90_000));
        assert_eq!(server.put("/api/v1/data-sources/products/1", &creating(true)).await.status, 201);
    }
}
