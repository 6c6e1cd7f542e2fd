//! Data sources and indices: created once, never changed, deleted when nothing is built from them.

use serde_json::{Value, json};

use crate::server::{Server, products};

fn index() -> Value {
    json!({
        "dataSourceId": {"name": "products", "version": "1"},
        "indexAlgorithm": {"type": "FaissIndex.L2"},
        "idAttributes": ["id"],
        "splitAttributes": [],
    })
}

#[tokio::test]
async fn a_definition_is_created_once() {
    let server = Server::new();
    let created = server.put("/api/v1/data-sources/products/1.10", &products()).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.json()["id"], json!({"name": "products", "version": "1.10"}));
    assert_eq!(created.json()["definition"]["attributeValueTypes"], json!({"id": "Int64", "name": "String"}));

    let again = server.put("/api/v1/data-sources/products/1.10", &products()).await;
    assert_eq!((again.status.as_u16(), again.json()), (200, created.json()));
    // Versions are text.
    assert_eq!(server.put("/api/v1/data-sources/products/1.1", &products()).await.status, 201);

    let mut other = products();
    other["vectorDimension"] = json!(3);
    let refused = server.put("/api/v1/data-sources/products/1.10", &other).await;
    assert_eq!(refused.status, 409);
    assert_eq!(
        refused.messages(),
        [
            "Data source DataSourceId { Name = products, Version = 1.10 } exists with another definition; definitions do \
             not change, use a new version",
            "vectorDimension is 2, the request says 3",
        ]
    );
}

#[tokio::test]
async fn an_index_is_created_over_a_data_source() {
    let server = Server::with_products().await;
    let created = server.put("/api/v1/indices/by-name/1", &index()).await;
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(server.put("/api/v1/indices/by-name/1", &index()).await.status, 200);

    let mut hnsw = index();
    hnsw["indexAlgorithm"]["params"] = json!({"Hnsw_M": 16, "Hnsw_EfConstruction": "100", "Hnsw_EfSearch": "50"});
    let refused = server.put("/api/v1/indices/by-name/1", &hnsw).await;
    assert_eq!(refused.status, 409);
    assert!(refused.messages()[1].starts_with("indexAlgorithm is {\"type\":\"FaissIndex.L2\"}, the request says"));
    assert_eq!(server.put("/api/v1/indices/by-name/2", &hnsw).await.status, 201);

    let mut nowhere = index();
    nowhere["dataSourceId"]["version"] = json!("2");
    let refused = server.put("/api/v1/indices/by-name/3", &nowhere).await;
    assert_eq!(refused.status, 404);
    assert_eq!(refused.messages(), ["Data source DataSourceId { Name = products, Version = 2 } does not exist"]);
}

#[tokio::test]
async fn a_created_definition_can_be_sent_back() {
    let server = Server::with_products().await;
    let mut sharded = index();
    sharded["shardsById"] = json!({
        "even": {"shardsByAttributeKey": {"id": {"numberOfShards": 2, "shardValues": [0]}}},
        "odd": {"shardsByAttributeKey": {"id": {"numberOfShards": 2, "shardValues": [1]}}},
    });
    let created = server.put("/api/v1/indices/sharded/1", &sharded).await;
    assert_eq!(created.status, 201, "{}", created.text());
    let again = server.put("/api/v1/indices/sharded/1", &created.json()["definition"]).await;
    assert_eq!(again.status, 200, "{}", again.text());

    let described = server.get("/api/v1/data-sources/products/1").await.json();
    assert_eq!(server.put("/api/v1/data-sources/products/1", &described["definition"]).await.status, 200);
}

#[tokio::test]
async fn property_names_are_matched_without_case_and_numbers_may_be_strings() {
    let server = Server::new();
    let definition = json!({
        "VECTORDIMENSION": "2", "vectorsaresparse": null,
        "AttributeValueTypes": {"id": "INT64"}, "PermanentAttributes": ["id"],
    });
    let created = server.put("/api/v1/data-sources/a/1", &definition).await;
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(created.json()["definition"]["attributeValueTypes"]["id"], "Int64");
}

#[tokio::test]
async fn a_faulty_definition_is_refused_with_what_to_do() {
    let server = Server::with_products().await;
    for (change, message) in [
        (
            json!({"vectorDimensions": 2}),
            "'vectorDimensions' is not a property here; the properties are vectorDimension",
        ),
        (json!({"vectorDimension": -1}), "vectorDimension must be a whole number of 32 bits, found -1"),
        (json!({"vectorDimension": 0}), "vectorDimension"),
        (json!({"vectorDimension": null}), "'vectorDimension' is missing"),
        (json!({"attributeValueTypes": {"id": "Int32"}}), "Int32"),
        (json!({"attributeValueTypes": []}), "attributeValueTypes must be an object, found an array"),
        (json!({"permanentAttributes": []}), "permanentAttributes"),
        (json!({"permanentAttributes": ["x"]}), "x"),
    ] {
        let mut definition = products();
        for (name, value) in change.as_object().unwrap() {
            definition[name] = value.clone();
        }
        let refused = server.put("/api/v1/data-sources/other/1", &definition).await;
        assert_eq!(refused.status, 400, "{change}");
        assert!(refused.messages().join("; ").contains(message), "{change}: {:?}", refused.messages());
    }
    let mut bare_version = index();
    bare_version["dataSourceId"]["version"] = json!(1.10);
    let refused = server.put("/api/v1/indices/other/1", &bare_version).await;
    assert!(refused.messages()[0].starts_with("version must be a string, found a number at line 1 column"));

    let long = "x".repeat(1_000);
    assert_eq!(server.put(&format!("/api/v1/data-sources/{long}/1"), &products()).await.status, 400);
    assert_eq!(server.get(&format!("/api/v1/data-sources/{long}/1")).await.status, 404);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let server = Server::new();
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(server.put(&format!("/api/v1/data-sources/{name}/1"), &products()).await.status, 201);
    }
    let names = |page: &Value| -> Vec<String> {
        let entries = page["dataSources"].as_array().unwrap();
        entries.iter().map(|entry| entry["id"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = server.get("/api/v1/data-sources?limit=2").await.json();
    assert_eq!(names(&first), ["a", "b"]);
    let after = first["next"].as_str().unwrap().replace('"', "%22").replace(['[', ']'], "").replace(',', "%2C");
    let second = server.get(&format!("/api/v1/data-sources?limit=3&after=%5B{after}%5D")).await.json();
    assert_eq!(names(&second), ["c", "d", "e"]);
    assert_eq!(second["next"], Value::Null);
    assert_eq!(names(&server.get("/api/v1/data-sources").await.json()).len(), 5);
    for query in ["limit=0", "limit=1001", "limit=x", "after=x"] {
        assert_eq!(server.get(&format!("/api/v1/data-sources?{query}")).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn a_data_source_is_deleted_after_its_indices() {
    let server = Server::with_products().await;
    assert_eq!(server.put("/api/v1/indices/by-name/1", &index()).await.status, 201);

    let refused = server.delete("/api/v1/data-sources/products/1").await;
    assert_eq!(refused.status, 409);
    assert_eq!(
        refused.messages(),
        ["Data source DataSourceId { Name = products, Version = 1 } has indices; delete them first: IndexId { Name = \
          by-name, Version = 1 }"]
    );
    assert_eq!(server.delete("/api/v1/indices/by-name/1").await.status, 204);
    assert_eq!(server.delete("/api/v1/indices/by-name/1").await.status, 404);
    assert_eq!(server.delete("/api/v1/data-sources/products/1").await.status, 204);
    assert_eq!(server.delete("/api/v1/data-sources/products/1").await.status, 404);
    assert_eq!(server.get("/api/v1/data-sources/products/1").await.status, 404);
    let refused = server.put("/api/v1/data-sources/products/1", &products()).await;
    assert_eq!(refused.status, 409);
    assert!(refused.messages()[0].contains("was deleted"));
}

#[tokio::test]
async fn a_data_source_is_described() {
    let server = Server::with_products().await;
    assert_eq!(server.put("/api/v1/indices/by-name/1", &index()).await.status, 201);
    let upload = server.upload("products/1", &json!([crate::server::point(1)]).to_string()).await;
    assert_eq!(upload.status, 200, "{}", upload.text());
    let described = server.get("/api/v1/data-sources/products/1").await.json();
    assert_eq!(described["id"], json!({"name": "products", "version": "1"}));
    assert_eq!(described["head"], "1");
    assert_eq!(described["indices"], json!([{"name": "by-name", "version": "1"}]));
    assert_eq!(described.get("checkpoint"), None);
}
