//! Leave to upload into the drop folder, and what became of the files.

use std::sync::Arc;

use async_trait::async_trait;
use axum::http::Method;
use serde_json::json;
use tarn_api::{ApiSettings, AppState, AuthMode, create_key, ingest_router};
use tarn_drop::{DropError, DropFolder, DropSettings, Presign, PresignRequest, PresignedUpload};
use tarn_store::Store;

use tarn_api_testkit::{Answer, Client};

use crate::server::{Server, products};

/// Signs nothing, and says what it was asked to.
#[derive(Debug)]
struct Signer;

#[async_trait]
impl Presign for Signer {
    async fn presign(&self, request: &PresignRequest) -> Result<PresignedUpload, DropError> {
        let length = request.bytes.map(|bytes| ("content-length".to_owned(), bytes.to_string()));
        let media = request.content_type.clone().map(|media| ("content-type".to_owned(), media));
        Ok(PresignedUpload {
            url: format!("https://bucket/{}?signed", request.key.render()),
            headers: length.into_iter().chain(media).collect(),
            expires_ms: 1_700_000_900_000,
        })
    }
}

async fn server() -> Server {
    let mut server = Server::with_products().await;
    let settings = ApiSettings::default();
    let state = AppState::with_presigner(server.store.clone(), settings, None, Some(Arc::new(Signer)));
    server.client = Client::new(ingest_router(state));
    server
}

async fn ask(server: &Server, path: &str, body: &serde_json::Value) -> Answer {
    server.post(&format!("/api/v1/uploads/{path}"), body).await
}

#[tokio::test]
async fn a_ticket_names_the_object_and_the_headers() {
    let server = server().await;
    let body = json!({"fileName": "my file.csv", "bytes": 5, "contentType": "text/csv"});
    let answer = ask(&server, "products/1", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let expected = json!({
        "method": "PUT",
        "url": "https://bucket/drop/products/1/my file.csv?signed",
        "headers": {"content-length": "5", "content-type": "text/csv"},
        "key": "drop/products/1/my file.csv",
        "expiresAt": "2023-11-14T22:28:20Z",
    });
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn what_cannot_be_uploaded_is_refused() {
    let server = server().await;
    for (body, status, said) in [
        (json!({}), 400, "fileName"),
        (json!({"fileName": "../x.csv"}), 400, "without slashes"),
        (json!({"fileName": ".."}), 400, "not be '.' or '..'"),
        (json!({"fileName": ".x"}), 400, "begins with a dot"),
        (json!({"fileName": "x.csv", "contentType": "a\nb"}), 400, "visible ASCII"),
        (json!({"fileName": "x.csv", "bytes": 6_000_000_000_u64}), 413, "in parts, as drop/products/1/x.csv"),
        (json!({"fileName": "x.csv", "bytes": -1}), 400, "The body must be"),
    ] {
        let answer = ask(&server, "products/1", &body).await;
        assert_eq!(answer.status, status, "{body}");
        assert!(answer.messages()[0].contains(said), "{body}: {}", answer.text());
    }
    let unknown = ask(&server, "unknown/1", &json!({"fileName": "x.csv"})).await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test]
async fn a_store_in_a_directory_says_where_to_copy_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::disk(directory.path()).unwrap();
    let server = Server::over(&store, ApiSettings::default());
    server.put("/api/v1/data-sources/a%2Fb/1", &products()).await;
    let answer = ask(&server, "a%2Fb/1", &json!({"fileName": "x.csv"})).await;
    assert_eq!(answer.status, 409);
    let place = store.local_root().unwrap().join("drop/a%2Fb/1/x.csv");
    assert!(answer.messages()[0].contains(&format!("copy the file to {}", place.display())), "{}", answer.text());
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(&place, "id,name,vector\n1,a,\"[1,2]\"\n").unwrap();
    let folder = DropFolder::new(store, DropSettings::default());
    folder.process("drop/a%2Fb/1/x.csv", None, None).await.unwrap();
    let drops = server.get("/api/v1/drops/a%2Fb/1").await.json();
    assert_eq!(drops["drops"][0]["state"], "committed", "{drops}");
}

#[tokio::test]
async fn drops_are_listed_with_their_reports() {
    let server = server().await;
    let folder = DropFolder::new(server.store.clone(), DropSettings::default());
    for (name, text) in [("good", "id,name,vector\n1,a,\"[1,2]\"\n"), ("bad", "id,name,vector\none,a,\"[1,2]\"\n")] {
        let key = format!("drop/products/1/{name}.csv");
        let path = object_store::path::Path::parse(&key).unwrap();
        object_store::ObjectStoreExt::put(&**server.store.object_store(), &path, text.into()).await.unwrap();
        folder.process(&key, None, None).await.unwrap();
    }
    let first = server.get("/api/v1/drops/products/1?limit=1").await.json();
    let next = first["next"].as_str().unwrap();
    let second = server.get(&format!("/api/v1/drops/products/1?limit=1&after={next}")).await.json();
    assert!(second["next"].is_null());
    let mut all = [first["drops"][0].clone(), second["drops"][0].clone()];
    all.sort_by_key(|entry| entry["file"].to_string());
    let [bad, good] = &all;
    assert_eq!((&bad["state"], &bad["rowsCommitted"]), (&json!("refused"), &json!(0)));
    assert_eq!((&bad["report"]["row"], &bad["report"]["line"]), (&json!(1), &json!(2)));
    assert_eq!(bad["report"]["column"], "id");
    assert_eq!((&good["state"], &good["rows"], &good["sequences"]), (&json!("committed"), &json!(1), &json!([1])));
    assert_eq!(good["version"], "1");
    for (query, said) in [("limit=0", "from 1 to"), ("after=x", "the page before")] {
        let answer = server.get(&format!("/api/v1/drops/products/1?{query}")).await;
        assert_eq!(answer.status, 400);
        assert!(answer.messages()[0].contains(said), "{}", answer.text());
    }
    assert_eq!(server.get("/api/v1/drops/unknown/1").await.status, 404);
}

#[tokio::test]
async fn both_need_the_write_scope_of_the_data_source() {
    let server = server().await;
    let settings = ApiSettings { auth: AuthMode::Always, ..ApiSettings::default() };
    let state = AppState::with_presigner(server.store.clone(), settings, None, Some(Arc::new(Signer)));
    let client = Client::new(ingest_router(state));
    let server = Server { client, ..server };
    for (grant, status) in [
        ("write:data-sources/products/1", 200),
        ("admin:*", 200),
        ("read:*", 403),
        ("write:data-sources/products/2", 403),
        ("write:indices/products/1", 403),
    ] {
        let key = create_key(&server.store, "k", vec![grant.parse().unwrap()]).await.unwrap().key;
        let headers = [("x-api-key", key.as_str()), ("content-type", "application/json")];
        let ticket =
            server.request(Method::POST, "/api/v1/uploads/products/1", &headers, "{\"fileName\": \"x.csv\"}").await;
        assert_eq!(ticket.status, status, "{grant}");
        let drops = server.request(Method::GET, "/api/v1/drops/products/1", &headers, "").await;
        assert_eq!(drops.status, status, "{grant}");
    }
}
