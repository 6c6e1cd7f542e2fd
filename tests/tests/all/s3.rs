//! A real S3 server against the suite that every store passes.

use tarn_model::{DataSourceId, KeyPrefix, ObjectKey};
use tarn_store::{Store, StoreError, StoreOptions};
use tarn_testkit::{Weed, conformance};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s3_conforms() {
    let server = Weed::start();
    // Also at the root of the bucket, beside what is there, at the same time.
    let (below, root) = (server.store("one"), server.store(""));
    tokio::join!(conformance::run(&below, "a"), conformance::run(&root, "b"));

    let source = DataSourceId { name: "a".into(), version: "1".into() };
    let key = ObjectKey::Source(source);
    server.store("deep/prefix").put_unique(&key, "x".into()).await.expect("put");
    assert_eq!(server.store("deep").get(&key).await.expect("get"), None, "prefixes are apart");
    let listed = server.store("deep/prefix").list(&KeyPrefix::All).await.expect("list");
    assert_eq!(listed.iter().map(|listed| listed.path.as_str()).collect::<Vec<_>>(), [key.render()]);

    let mut options = StoreOptions::default();
    options.environment = server
        .environment()
        .into_iter()
        .map(|(key, value)| if key == "AWS_SECRET_ACCESS_KEY" { (key, "wrong".to_owned()) } else { (key, value) })
        .collect();
    let denied = Store::open(&server.url(""), &options).expect("a client").get(&key).await;
    assert!(matches!(denied, Err(StoreError::Denied { .. })), "{denied:?}");
}
