//! Who may do what.

use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use serde_json::json;
use tarn_api::{
    ApiSettings, AppState, AuthMode, Grant, KeysSeen, auth_required, create_key, ingest_router, list_keys, revoke_key,
};
use tarn_api_testkit::{Answer, Client};

use crate::auto_create::creating;
use crate::server::{Server, point, products};

const SOURCE: &str = "/api/v1/data-sources/products/1";
/// Longer than a record of a key is believed.
const A_WHILE: Duration = Duration::from_secs(11);

async fn key(server: &Server, grants: &[&str]) -> String {
    let grants = grants.iter().map(|grant| grant.parse::<Grant>().unwrap()).collect();
    let key = create_key(&server.store, "test", grants).await.unwrap().key;
    server.clock.advance(A_WHILE);
    key
}

async fn with_key(server: &Server, method: Method, path: &str, key: &str, body: String) -> Answer {
    let bearer = format!("Bearer {key}");
    server.request(method, path, &[("authorization", &bearer), ("content-type", "application/json")], body).await
}

#[tokio::test]
async fn without_keys_everybody_may_do_everything_unless_keys_are_always_required() {
    let open = Server::new();
    assert!(!auth_required(&open.store).await.unwrap());
    assert_eq!(open.get("/api/v1/data-sources").await.status, 200);

    let closed = Server::with(ApiSettings { auth: AuthMode::Always, ..ApiSettings::default() });
    let refused = closed.get("/api/v1/data-sources").await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"tarn\"");
    assert!(refused.messages()[0].starts_with("This server requires an API key"));
}

#[tokio::test]
async fn what_a_process_has_seen_of_keys_counts_while_it_is_young() {
    let server = Server::new();
    let begun = |seen| {
        let state = AppState::new(server.store.clone(), ApiSettings::default());
        state.learn_keys(seen);
        (Client::new(ingest_router(state.clone())), state)
    };
    let lists = || server.requests.counts().lists;
    let none = KeysSeen::look(&server.store).await.unwrap();
    assert!(!none.required());
    let (client, state) = begun(none);
    create_key(&server.store, "first", vec!["read:*".parse().unwrap()]).await.unwrap();
    let before = lists();
    server.clock.advance(Duration::from_millis(2_999));
    assert_eq!(client.get("/metrics").await.status, 200);
    assert_eq!(lists(), before, "nobody asked again");
    server.clock.advance(Duration::from_millis(1));
    assert_eq!(client.get("/metrics").await.status, 401);
    assert_eq!(lists(), before + 1);
    state.learn_keys(none);
    assert_eq!(client.get("/metrics").await.status, 401, "what was seen before undoes nothing");

    let (client, _) = begun(KeysSeen::look(&server.store).await.unwrap());
    server.clock.advance(A_WHILE);
    let before = lists();
    assert_eq!(client.get("/metrics").await.status, 401);
    let always = AppState::new(server.store.clone(), ApiSettings { auth: AuthMode::Always, ..ApiSettings::default() });
    assert_eq!(Client::new(ingest_router(always)).get("/metrics").await.status, 401);
    assert_eq!(lists(), before, "once keys are required, nobody asks whether they are");
}

#[tokio::test]
async fn a_question_whether_the_server_is_ready_tells_of_keys_too() {
    let server = Server::new();
    assert_eq!(server.get("/readyz").await.status, 200);
    let before = server.requests.counts().lists;
    assert_eq!(server.get("/metrics").await.status, 200);
    assert_eq!(server.requests.counts().lists, before);
}

#[tokio::test]
async fn once_there_is_a_key_requests_need_one() {
    let server = Server::with_products().await;
    let key = key(&server, &["admin:*"]).await;
    assert!(auth_required(&server.store).await.unwrap());
    assert_eq!(server.get(SOURCE).await.status, 401);
    for open in ["/_status/ping", "/_status/version", "/healthz", "/readyz", "/openapi.json", "/docs", "/"] {
        assert_eq!(server.get(open).await.status, 200, "{open}");
    }
    assert_eq!(server.get("/metrics").await.status, 401);
    for headers in [
        ("authorization", format!("Bearer {key}")),
        ("authorization", format!("bearer {key}")),
        ("x-api-key", key.clone()),
    ] {
        let answer = server.request(Method::GET, SOURCE, &[(headers.0, &headers.1)], Body::empty()).await;
        assert_eq!(answer.status, 200, "{}", headers.0);
    }
}

#[tokio::test]
async fn beside_a_gateways_own_authorization_the_key_has_its_own_header() {
    let server = Server::with_products().await;
    let key = key(&server, &["admin:*"]).await;
    for gateways in
        ["Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln", "AWS4-HMAC-SHA256 Credential=AKID/20240501/x/execute-api/aws4_request"]
    {
        let both = [("authorization", gateways), ("x-api-key", key.as_str())];
        assert_eq!(server.request(Method::GET, SOURCE, &both, Body::empty()).await.status, 200, "{gateways}");
        assert_eq!(server.request(Method::GET, SOURCE, &both[..1], Body::empty()).await.status, 401, "{gateways}");
    }
}

#[tokio::test]
async fn a_key_that_is_not_known_is_refused_without_a_hint() {
    let server = Server::with_products().await;
    let key = key(&server, &["admin:*"]).await;
    let mut wrong_secret = key.clone();
    wrong_secret.replace_range(key.len() - 1.., if key.ends_with('0') { "1" } else { "0" });
    let unknown_id = format!("tarn_{}_{}", "0".repeat(16), "0".repeat(64));
    for wrong in [wrong_secret.as_str(), &unknown_id, "", "x", "tarn_", "tarn_../../x_y", &key[..key.len() - 1]] {
        let refused = with_key(&server, Method::GET, SOURCE, wrong, String::new()).await;
        assert_eq!(refused.status, 401, "{wrong}");
        assert_eq!(refused.messages(), ["The API key is not known, or was revoked"]);
    }
    let basic = server.request(Method::GET, SOURCE, &[("authorization", "Basic eDp5")], Body::empty()).await;
    assert_eq!(basic.status, 401);
}

#[tokio::test]
async fn scopes_permit_what_they_say() {
    let server = Server::with_products().await;
    let index = json!({
        "dataSourceId": {"name": "products", "version": "1"}, "indexAlgorithm": {"type": "FaissIndex.L2"}, "idAttributes": ["id"],
    });
    assert_eq!(server.put("/api/v1/indices/by-name/1", &index).await.status, 201);
    let body = json!([point(1)]).to_string();
    let actions = [
        ("read:data-sources/products", Method::GET, SOURCE, String::new()),
        ("read:data-sources/products", Method::GET, "/api/v1/data-sources/products/1/export", String::new()),
        ("write:data-sources/products", Method::POST, "/api/v1/upload/products/1", body),
        ("write:data-sources/products", Method::GET, "/api/v1/drops/products/1", String::new()),
        ("admin:data-sources/products", Method::PUT, SOURCE, products().to_string()),
        ("admin:*", Method::PUT, "/api/v1/indices/by-name/1", index.to_string()),
        ("admin:indices/by-name", Method::DELETE, "/api/v1/indices/by-name/1", String::new()),
        ("read:*", Method::GET, "/metrics", String::new()),
    ];
    let powerless = key(&server, &["admin:data-sources/other", "admin:indices/other"]).await;
    for (grant, method, path, body) in &actions {
        let refused = with_key(&server, method.clone(), path, &powerless, body.clone()).await;
        assert_eq!(refused.status, 403, "{method} {path}");
        assert!(refused.messages()[0].starts_with("The API key does not permit this; it would need the grant"));
        let scope = grant.split(':').next().unwrap();
        for other in ["read:*", "write:*"].iter().filter(|other| !other.starts_with(scope)) {
            let other = key(&server, &[other]).await;
            let refused = with_key(&server, method.clone(), path, &other, body.clone()).await;
            assert_eq!(refused.status, 403, "{method} {path}");
        }
    }
    for (grant, method, path, body) in actions {
        let key = key(&server, &[grant]).await;
        let answer = with_key(&server, method.clone(), path, &key, body).await;
        assert!(answer.status.is_success(), "{method} {path} with {grant}: {}", answer.text());
    }
}

#[tokio::test]
async fn an_index_needs_a_grant_to_read_its_data_source() {
    let server = Server::with_products().await;
    let key = key(&server, &["admin:indices/*"]).await;
    let index = json!({
        "dataSourceId": {"name": "products", "version": "1"}, "indexAlgorithm": {"type": "FaissIndex.L2"}, "idAttributes": ["id"],
    });
    let refused = with_key(&server, Method::PUT, "/api/v1/indices/mine/1", &key, index.to_string()).await;
    assert_eq!(refused.status, 403);
    assert!(refused.messages()[0].ends_with("read:data-sources/products/1"));
}

#[tokio::test]
async fn uploads_create_nothing_that_who_defined_it_may_not_create() {
    let server = Server::with_products().await;
    let path = "/api/v1/data-sources/created/1";
    let (one, versions) = (creating(false).to_string(), creating(true).to_string());
    for (grants, body, missing) in [
        (&["admin:data-sources/created"][..], &one, "admin:indices/near/1"),
        (&["admin:data-sources/created", "write:indices/near", "admin:indices/near/2"], &one, "admin:indices/near/1"),
        (&["admin:data-sources/created/1", "admin:indices/near"], &versions, "admin:data-sources/created/*"),
        (&["admin:data-sources/created", "admin:indices/near/1"], &versions, "admin:indices/near/*"),
    ] {
        let key = key(&server, grants).await;
        let refused = with_key(&server, Method::PUT, path, &key, body.clone()).await;
        assert_eq!(refused.status, 403, "{grants:?}: {}", refused.text());
        assert!(refused.messages()[0].ends_with(missing), "{grants:?}: {}", refused.text());
    }
    let admin = key(&server, &["admin:data-sources/created", "admin:indices/n*"]).await;
    let defined = with_key(&server, Method::PUT, path, &admin, versions).await;
    assert_eq!(defined.status, 201, "{}", defined.text());
    // Whoever uploads needs no such right, but the one to write to what is created.
    let uploader = key(&server, &["write:data-sources/created/2"]).await;
    let points = json!([point(1)]).to_string();
    for (version, status) in [(1, 403), (2, 200), (3, 403)] {
        let path = format!("/api/v1/upload/created/{version}");
        let answer = with_key(&server, Method::POST, &path, &uploader, points.clone()).await;
        assert_eq!(answer.status, status, "{version}: {}", answer.text());
    }
    let indices = with_key(&server, Method::GET, "/api/v1/indices", &admin, String::new()).await.json();
    assert_eq!(indices["indices"].as_array().unwrap().len(), 1);
    assert_eq!(indices["indices"][0]["id"], json!({"name": "near", "version": "2"}));
}

#[tokio::test]
async fn lists_show_what_the_caller_may_read() {
    let server = Server::with_products().await;
    assert_eq!(server.put("/api/v1/data-sources/secret/1", &products()).await.status, 201);
    let key = key(&server, &["read:data-sources/prod*", "write:*"]).await;
    let answer = with_key(&server, Method::GET, "/api/v1/data-sources", &key, String::new()).await;
    let list = answer.json();
    assert_eq!(list["dataSources"].as_array().unwrap().len(), 1);
    assert_eq!(list["dataSources"][0]["id"]["name"], "products");
}

#[tokio::test]
async fn key_changes_show_within_seconds() {
    let server = Server::with_products().await;
    let admin = key(&server, &["admin:*"]).await;
    assert_eq!(with_key(&server, Method::GET, SOURCE, &admin, String::new()).await.status, 200);
    let id = admin.split('_').nth(1).unwrap();
    assert!(revoke_key(&server.store, id).await.unwrap());
    assert!(revoke_key(&server.store, id).await.unwrap(), "revoking twice is no error");
    server.clock.advance(Duration::from_secs(4));
    assert_eq!(with_key(&server, Method::GET, SOURCE, &admin, String::new()).await.status, 401);
    // The last key is revoked; the server does not fall open.
    assert!(auth_required(&server.store).await.unwrap());
    assert_eq!(server.get(SOURCE).await.status, 401);

    // A new key is looked up as soon as it is shown.
    let grants = vec!["read:*".parse().unwrap()];
    let new = create_key(&server.store, "new", grants).await.unwrap();
    assert_eq!(with_key(&server, Method::GET, SOURCE, &new.key, String::new()).await.status, 200);

    let keys = list_keys(&server.store).await.unwrap();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys.iter().filter(|key| key.revoked_ms.is_some()).count(), 1);
    assert!(!revoke_key(&server.store, "0000000000000000").await.unwrap());
    assert!(!revoke_key(&server.store, "../x").await.unwrap());
}

#[tokio::test]
async fn guessing_keys_costs_a_bounded_number_of_requests() {
    let server = Server::with_products().await;
    let known = key(&server, &["read:*"]).await;
    assert_eq!(with_key(&server, Method::GET, SOURCE, &known, String::new()).await.status, 200);
    let before = server.requests.counts();
    let mut statuses = Vec::new();
    for guess in 0..200 {
        let guess = format!("tarn_{guess:016x}_{}", "0".repeat(64));
        statuses.push(with_key(&server, Method::GET, SOURCE, &guess, String::new()).await.status.as_u16());
    }
    let asked = server.requests.counts().since(&before).gets;
    assert!(asked <= 2 * 51, "{asked} requests");
    assert!(statuses.contains(&401) && statuses.contains(&429), "{statuses:?}");
    assert_eq!(with_key(&server, Method::GET, SOURCE, &known, String::new()).await.status, 200);
}

#[tokio::test]
async fn guessing_the_same_keys_again_costs_no_more() {
    let server = Server::with_products().await;
    let _known = key(&server, &["read:*"]).await;
    let guess = async || {
        let mut asked = 0;
        for guess in 0..60 {
            let guess = format!("tarn_{guess:016x}_{}", "0".repeat(64));
            asked += usize::from(with_key(&server, Method::GET, SOURCE, &guess, String::new()).await.status != 429);
        }
        asked
    };
    assert_eq!(guess().await, 50);
    // What is no longer fresh is looked up again, and that is a guess again: none is left but those of four seconds.
    server.clock.advance(Duration::from_millis(500));
    assert_eq!(guess().await, 60);
    let before = server.requests.counts();
    for _ in 0..10 {
        server.clock.advance(Duration::from_secs(4));
        guess().await;
    }
    let asked = server.requests.counts().since(&before).gets;
    assert!(asked <= 2 * 50 * 10, "{asked} requests");
}

#[tokio::test]
async fn a_refused_deletion_does_not_name_what_the_key_may_not_read() {
    let server = Server::with_products().await;
    let index = json!({
        "dataSourceId": {"name": "products", "version": "1"}, "indexAlgorithm": {"type": "FaissIndex.L2"}, "idAttributes": ["id"],
    });
    for name in ["shown", "secret"] {
        assert_eq!(server.put(&format!("/api/v1/indices/{name}/1"), &index).await.status, 201);
    }
    let key = key(&server, &["admin:data-sources/products", "read:indices/shown"]).await;
    let refused = with_key(&server, Method::DELETE, SOURCE, &key, String::new()).await;
    assert_eq!(refused.status, 409);
    assert!(refused.messages()[0].ends_with("IndexId { Name = shown, Version = 1 }, 1 that the API key may not read"));
    assert!(!refused.text().contains("secret"));
}

#[tokio::test]
async fn secrets_are_stored_hashed_and_shown_nowhere() {
    let server = Server::with_products().await;
    let grants = vec!["admin:*".parse().unwrap()];
    let new = create_key(&server.store, "test", grants).await.unwrap();
    let secret = new.key.rsplit('_').next().unwrap();
    assert!(!format!("{new:?}").contains(secret));
    for listed in server.store.list(&tarn_model::KeyPrefix::All).await.unwrap() {
        let bytes = server.store.get(&listed.key.unwrap()).await.unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(secret), "{}", listed.path);
    }
    server.clock.advance(A_WHILE);
    let mut wrong = new.key.clone();
    wrong.push('x');
    assert!(!with_key(&server, Method::GET, SOURCE, &wrong, String::new()).await.text().contains(secret));
}

#[tokio::test]
async fn deleting_by_filter_needs_to_read_the_index_and_to_write_the_data_source() {
    let server = Server::with_products().await;
    let index = json!({
        "dataSourceId": {"name": "products", "version": "1"}, "indexAlgorithm": {"type": "FaissIndex.L2"}, "idAttributes": ["id"],
    });
    assert_eq!(server.put("/api/v1/indices/all/1", &index).await.status, 201);
    assert_eq!(server.upload("products/1", &json!([point(1), point(2)]).to_string()).await.status, 200);
    let path = "/api/v1/indices/all/1/delete-by-filter";
    let body = json!({"filter": {}, "dryRun": true}).to_string();
    let of = async |grants: &[&str]| {
        let key = key(&server, grants).await;
        with_key(&server, Method::POST, path, &key, body.clone()).await
    };
    for (grants, missing) in [
        (&["read:indices/all"][..], "write:data-sources/products/1"),
        (&["write:data-sources/products"], "read:indices/all/1"),
        (&["write:*"], "read:indices/all/1"),
        (&["read:*"], "write:data-sources/products/1"),
        (&["admin:indices/all"], "write:data-sources/products/1"),
        (&["admin:indices/other", "write:data-sources/products"], "read:indices/all/1"),
    ] {
        let refused = of(grants).await;
        assert_eq!(refused.status, 403, "{grants:?}");
        assert!(refused.messages()[0].ends_with(missing), "{grants:?}: {:?}", refused.messages());
    }
    for grants in [&["read:indices/all", "write:data-sources/products"][..], &["admin:*"]] {
        let counted = of(grants).await;
        assert_eq!((counted.status.as_u16(), &counted.json()["deleted"]), (200, &json!(2)), "{grants:?}");
    }
    assert_eq!(server.post(path, &json!({"filter": {}})).await.status, 401);
    let export = "/api/v1/data-sources/products/1/export?asOf=1";
    let writer = key(&server, &["write:data-sources/products"]).await;
    assert_eq!(with_key(&server, Method::GET, export, &writer, String::new()).await.status, 403);
}
