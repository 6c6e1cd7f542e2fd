//! A real S3 server takes what is signed, and nothing else; and what is uploaded under odd names is found and committed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use tarn_drop::{DropFolder, DropSettings, Outcome, PresignRequest, PresignedUpload, Settled, upload_path};
use tarn_model::{AttributeType, DataSource, DataSourceId, VectorKind};
use tarn_presign::BucketPresigner;
use tarn_store::create_source;
use tarn_testkit::Weed;

const FILE: &str = "{\"id\": 1, \"vector\": [1, 2]}\n";
const MEDIA: &str = "application/x-ndjson";

fn films() -> DataSource {
    DataSource {
        id: DataSourceId { name: "films".into(), version: "1.0".into() },
        vector_dimension: 2,
        vector_kind: VectorKind::Dense,
        attribute_types: [("id".to_owned(), AttributeType::Int64)].into(),
        permanent_attributes: ["id".to_owned()].into(),
        sharders: std::collections::BTreeMap::new(),
        policy: Default::default(),
    }
}

/// The status of a PUT as a client would send it.
fn put(ticket: &PresignedUpload, body: &str, media: &str) -> u16 {
    let (host, path) = ticket.url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let length = body.len();
    let head = format!("PUT /{path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: {media}\r\ncontent-length: {length}\r\n");
    stream.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_takes_what_is_signed() {
    let server = Weed::start();
    let store = server.store("pre fix/a+b");
    create_source(&store, &Arc::new(films())).await.unwrap();
    let presigner = BucketPresigner::of(&store).unwrap();
    let folder = DropFolder::new(store.clone(), DropSettings::default());
    let bytes = Some(FILE.len() as u64);
    for name in ["plain.ndjson", "my file +100%.ndjson", "%2e%2e.ndjson", "größe&=?#.ndjson"] {
        let key = upload_path(&films().id, name).unwrap();
        let request = PresignRequest { key: key.clone(), bytes, content_type: Some(MEDIA.into()) };
        let ticket = presigner.presign(&request).await.unwrap();
        let longer = format!("{FILE}\n");
        assert_eq!(put(&ticket, &longer, MEDIA), 403, "{name}: another length");
        assert_eq!(put(&ticket, FILE, "text/html"), 403, "{name}: another type");
        let elsewhere = PresignedUpload { url: ticket.url.replacen("/drop/", "/sources/", 1), ..ticket.clone() };
        assert_eq!(put(&elsewhere, FILE, MEDIA), 403, "{name}: another key");
        assert_eq!(put(&ticket, FILE, MEDIA), 200, "{name}");
        assert_eq!(store.size(&key).await.unwrap(), bytes, "{name}");
        let outcome = folder.process(&key.render(), None, None).await.unwrap();
        let Outcome::Settled(status) = outcome else { panic!("{name}: {outcome:?}") };
        assert!(matches!(status.settled, Settled::Committed { .. }), "{name}: {:?}", status.settled);
    }
}
