//! Events as the services send them, and what becomes of them.

use std::sync::Arc;

use serde_json::{Value, json};
use tarn_drop::DropSettings;
use tarn_store::Store;

use super::*;

const FAR: Duration = Duration::from_secs(1 << 32);

/// A notification of S3, with what else is in one.
fn notification(bucket: &str, key: &str, version: Option<&str>) -> Value {
    let mut object = json!({"key": key, "size": 1024, "eTag": "d41d8cd98f00b204e9800998ecf8427e", "sequencer": "0055AED6DCD90281E5"});
    if let Some(version) = version {
        object["versionId"] = version.into();
    }
    json!({"Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-central-1",
        "eventTime": "2026-01-31T12:00:00.000Z", "eventName": "ObjectCreated:CompleteMultipartUpload",
        "userIdentity": {"principalId": "AWS:AIDAINPONIXQXHT3IKHL2"},
        "requestParameters": {"sourceIPAddress": "205.255.255.255"},
        "responseElements": {"x-amz-request-id": "D82B88E5F771F645", "x-amz-id-2": "vlR7PnpV2Ce81l0PRw6jlUpck7Jo5ZsQjryTjKlc5aLWGVHPZLj5NeC6qMa0emYBDXOo6QBU0Wo="},
        "s3": {"s3SchemaVersion": "1.0", "configurationId": "drop",
            "bucket": {"name": bucket, "ownerIdentity": {"principalId": "A3I5XTEXAMAI3E"}, "arn": format!("arn:aws:s3:::{bucket}")},
            "object": object}}]})
}

fn test_event() -> Value {
    json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-01-31T12:00:00.000Z", "Bucket": "b",
        "RequestId": "5582815E1AEA5ADF", "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE"})
}

/// What the queue delivers.
fn sqs(bodies: &[&str]) -> SqsEvent {
    let message = |(number, body): (usize, &&str)| {
        json!({"messageId": format!("m{number}"), "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a", "body": body,
            "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183",
                "SenderId": "AIDAIENQZJOLO23YVJ4VO", "ApproximateFirstReceiveTimestamp": "1545082649185"},
            "messageAttributes": {}, "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3", "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:drop", "awsRegion": "eu-central-1"})
    };
    let records: Vec<Value> = bodies.iter().enumerate().map(message).collect();
    serde_json::from_value(json!({ "Records": records })).unwrap()
}

fn failed(response: &BatchResponse) -> Vec<&str> {
    response.batch_item_failures.iter().map(|failure| failure.item_identifier.as_str()).collect()
}

async fn folder() -> DropFolder {
    let store = Store::memory();
    let source = tarn_model::DataSource {
        id: tarn_model::DataSourceId::new("films", "1").unwrap(),
        vector_dimension: 2,
        vector_kind: tarn_model::VectorKind::Dense,
        attribute_types: [("id".to_owned(), tarn_model::AttributeType::Int64)].into(),
        permanent_attributes: ["id".to_owned()].into(),
        sharders: std::collections::BTreeMap::new(),
        policy: Default::default(),
    };
    tarn_store::create_source(&store, &source).await.unwrap();
    DropFolder::new(store, DropSettings::default())
}

async fn put(folder: &DropFolder, key: &str, text: &str) {
    let path = object_store::path::Path::parse(key).unwrap();
    let objects = Arc::clone(folder.store().object_store());
    object_store::ObjectStoreExt::put(&*objects, &path, text.to_owned().into()).await.unwrap();
}

#[test]
fn keys_are_decoded_as_s3_encodes_them() {
    assert_eq!(decode_key("drop/films/1/my+file%2B%C3%BC%25.csv").unwrap(), "drop/films/1/my file+\u{fc}%.csv");
    for wrong in ["%", "%4", "%zz", "%FF"] {
        assert_eq!(decode_key(wrong), None, "{wrong}");
    }
}

#[test]
fn a_notification_names_bucket_key_and_version() {
    let created = |bucket: &str, key: &str, version: Option<&str>| Created {
        bucket: bucket.into(),
        key: key.into(),
        version: version.map(str::to_owned),
    };
    let body = notification("b", "drop/films/1/a+b.csv", Some("096fKKXTRTtl3on89fVO.nfljtsv6qko")).to_string();
    let expected = created("b", "drop/films/1/a b.csv", Some("096fKKXTRTtl3on89fVO.nfljtsv6qko"));
    assert_eq!(decode(&body), Ok(vec![expected]));
    let body = notification("b", "x", Some("null")).to_string();
    assert_eq!(decode(&body), Ok(vec![created("b", "x", None)]));
    assert_eq!(decode(&test_event().to_string()), Ok(vec![]));
    let mut prefixed = notification("b", "x", None);
    prefixed["Records"][0]["eventName"] = "s3:ObjectCreated:Put".into();
    assert_eq!(decode(&prefixed.to_string()), Ok(vec![created("b", "x", None)]));
    let mut removed = notification("b", "x", None);
    removed["Records"][0]["eventName"] = "ObjectRemoved:Delete".into();
    assert_eq!(decode(&removed.to_string()), Ok(vec![]));
    for wrong in ["", "{}", "[]", "hello", r#"{"Records": [{"s3": {}}]}"#] {
        assert!(decode(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_answer_has_the_shape_that_the_queue_reads() {
    let response = BatchResponse { batch_item_failures: vec![ItemFailure { item_identifier: "m1".into() }] };
    assert_eq!(serde_json::to_value(response).unwrap(), json!({"batchItemFailures": [{"itemIdentifier": "m1"}]}));
    assert_eq!(serde_json::to_value(BatchResponse::default()).unwrap(), json!({"batchItemFailures": []}));
}

#[tokio::test]
async fn messages_succeed_and_fail_one_by_one() {
    let folder = folder().await;
    put(&folder, "drop/films/1/my file.ndjson", "{\"id\": 1, \"vector\": [1, 2]}\n").await;
    put(&folder, "drop/films/1/bad.ndjson", "{\"id\": 1}\n").await;
    let good = notification("b", "drop/films/1/my+file.ndjson", None).to_string();
    let bad = notification("b", "drop/films/1/bad.ndjson", None).to_string();
    let gone = notification("b", "drop/films/1/gone.ndjson", None).to_string();
    let hostile = notification("b", "drop/films/1/..%2F..%2Fsources/films/1/source.json", None).to_string();
    let folder_marker = notification("b", "drop/films/1/", None).to_string();
    let test = test_event().to_string();
    let bodies = [&good, &good, "poison", &bad, &gone, &hostile, &folder_marker, &test].map(|body: &str| body);
    let response = handle(&folder, sqs(&bodies), FAR).await;
    assert_eq!(failed(&response), ["m2"]);
    let films = tarn_model::DataSourceId::new("films", "1").unwrap();
    let page = tarn_drop::list_drops(folder.store(), &films, 10, None);
    let mut states: Vec<_> = page.await.unwrap().unwrap().entries.into_iter().map(|e| (e.path, e.state)).collect();
    states.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [("bad.ndjson", tarn_drop::DropState::Refused), ("my file.ndjson", tarn_drop::DropState::Committed)];
    assert_eq!(states, expected.map(|(path, state)| (path.to_owned(), state)));
}

#[tokio::test]
async fn a_file_that_fails_does_not_keep_the_others_of_its_message_waiting() {
    let folder = folder().await;
    put(&folder, "sources/broken/1/source.json", "{").await;
    put(&folder, "drop/broken/1/x.ndjson", "{}").await;
    put(&folder, "drop/films/1/a.ndjson", "{\"id\": 1, \"vector\": [1, 2]}\n").await;
    let mut body = notification("b", "drop/broken/1/x.ndjson", None);
    let good = notification("b", "drop/films/1/a.ndjson", None);
    body["Records"].as_array_mut().unwrap().push(good["Records"][0].clone());
    assert_eq!(failed(&handle(&folder, sqs(&[&body.to_string()]), FAR).await), ["m0"]);
    let films = tarn_model::DataSourceId::new("films", "1").unwrap();
    let page = tarn_drop::list_drops(folder.store(), &films, 10, None).await.unwrap().unwrap();
    assert_eq!(page.entries[0].state, tarn_drop::DropState::Committed);
}

#[tokio::test]
async fn what_there_is_no_time_for_is_delivered_again() {
    let folder = folder().await;
    put(&folder, "drop/films/1/a.ndjson", "{\"id\": 1, \"vector\": [1, 2]}\n").await;
    let body = notification("b", "drop/films/1/a.ndjson", None).to_string();
    let response = handle(&folder, sqs(&[&body, &body]), Duration::ZERO).await;
    assert_eq!(failed(&response), ["m0", "m1"]);
    assert_eq!(failed(&handle(&folder, sqs(&[&body]), FAR).await), Vec::<&str>::new());
}
