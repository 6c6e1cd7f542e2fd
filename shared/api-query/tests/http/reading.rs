//! Statistics, samples and exports of an index over HTTP; and states that are not there.

use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};
use tarn_api_testkit::Answer;
use tarn_model::{IndexId, ObjectKey};
use tarn_store::load_index;

use crate::server::{Server, point};

const STATISTICS: &str = "/api/v1/indices/split/1/statistics";
const SAMPLE: &str = "/api/v1/indices/split/1/sample";
const EXPORT: &str = "/api/v1/indices/split/1/export";

fn id_of(point: &Value) -> i64 {
    let attributes = point["attributes"].as_array().unwrap().iter();
    attributes.filter(|attribute| attribute["key"] == "id").find_map(|id| id["value"]["int64"].as_i64()).unwrap()
}

async fn stream(server: &Server, sample: &Value) -> Answer {
    let headers = [("accept", "application/x-ndjson"), ("content-type", "application/json")];
    server.request(Method::POST, SAMPLE, &headers, sample.to_string()).await
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn statistics_are_those_of_the_points() {
    let server = Server::with_points().await;
    // Nothing is built yet, and the tail was not asked for.
    let built = server.get(STATISTICS).await;
    assert_eq!(built.status, 200, "{}", built.text());
    assert_eq!(built.json()["dataPointsCount"], 0);
    assert_eq!(built.json()["distances"]["bins"], json!(vec![0; 64]));
    assert!(built.json().get("centre").is_none());
    assert_eq!(built.header("tarn-generation"), "0");

    let all = server.get(&format!("{STATISTICS}?tail=true")).await;
    assert_eq!(all.header("tarn-version"), "1");
    let all = all.json();
    assert_eq!(all["dataPointsCount"], 4);
    assert_eq!(all["centre"], json!([2.5, 0.0]));
    let distances = &all["distances"];
    assert_eq!((&distances["from"], &distances["max"]), (&json!("centre"), &json!(1.5)));
    // A point each 0.5 and 1.5 to either side, and 64 bins of 1/32.
    assert_eq!(distances["binWidth"], 0.03125);
    assert_eq!((&distances["bins"][16], &distances["bins"][48]), (&json!(2), &json!(2)));
    assert!((all["spread"].as_f64().unwrap() - 1.25_f64.sqrt()).abs() < 1e-9);

    let filter = "%7B%22lte%22%3A%7B%22key%22%3A%22id%22%2C%22value%22%3A2%7D%7D";
    let some = server.get(&format!("{STATISTICS}?tail=true&filter={filter}")).await.json();
    assert_eq!((&some["dataPointsCount"], &some["centre"]), (&json!(2), &json!([1.5, 0.0])));
    for bad in
        ["tail=maybe", "since=0", "asOf=x", "shard=nowhere", "filter=%7B", "splitFilter=%5B1%5D", "consistency=x"]
    {
        let refused = server.get(&format!("{STATISTICS}?{bad}")).await;
        assert_eq!(refused.status, 400, "{bad}: {}", refused.text());
    }
}

#[tokio::test]
async fn a_sample_is_json_or_a_stream() {
    let server = Server::with_points().await;
    let drawn = server.post(SAMPLE, &json!({"n": 3, "seed": 5})).await;
    assert_eq!(drawn.status, 200, "{}", drawn.text());
    let sample = drawn.json();
    let ids: Vec<i64> = sample["points"].as_array().unwrap().iter().map(id_of).collect();
    assert_eq!((ids.len(), &sample["population"], &sample["seed"]), (3, &json!(4), &json!(5)));
    assert_eq!(sample["points"][0]["vector"]["coordinates"], json!([ids[0] as f64, 0.0]));
    let fewer = server.post(SAMPLE, &json!({"n": 2, "seed": 5, "retrieveVectors": false})).await.json();
    let fewer: Vec<&Value> = fewer["points"].as_array().unwrap().iter().collect();
    assert_eq!(fewer.iter().map(|point| id_of(point)).collect::<Vec<_>>(), ids[..2]);
    assert!(fewer[0].get("vector").is_none());
    let filter = json!({"eq": {"key": "sk1", "value": true}});
    let even = server.post(SAMPLE, &json!({"n": 9, "filter": filter})).await.json();
    assert_eq!(even["population"], 2);

    let streamed = stream(&server, &json!({"n": 3, "seed": 5})).await;
    assert_eq!(streamed.header("content-type"), "application/x-ndjson");
    let mut of_stream: Vec<i64> = lines(&streamed.text()).iter().map(id_of).collect();
    let mut expected = ids.clone();
    of_stream.sort_unstable();
    expected.sort_unstable();
    assert_eq!(of_stream, expected);

    for bad in [json!({}), json!({"n": 0}), json!({"n": -1}), json!({"n": 10_001}), json!({"n": 1, "filter": 1})] {
        let refused = server.post(SAMPLE, &bad).await;
        assert_eq!(refused.status, 400, "{bad}: {}", refused.text());
    }
    let any = stream(&server, &json!({"n": 10_001})).await;
    assert_eq!((any.status.as_u16(), lines(&any.text()).len()), (200, 4));
}

#[tokio::test]
async fn what_an_index_exports_can_be_uploaded_again() {
    let server = Server::with_points().await;
    let exported = server.get(EXPORT).await;
    assert_eq!((exported.status.as_u16(), exported.header("tarn-version")), (200, "1"));
    let points = lines(&exported.text());
    assert_eq!(points.len(), 4);
    let again = server.post("/api/v1/upload/points/1", &json!(points)).await;
    assert_eq!(again.status, 200, "{}", again.text());
    for (accept, begins) in
        [("application/vnd.apache.arrow.stream", &[0xff; 4][..]), ("application/vnd.apache.parquet", &b"PAR1"[..])]
    {
        let exported = server.request(Method::GET, EXPORT, &[("accept", accept)], Body::empty()).await;
        assert_eq!(exported.header("content-type"), accept);
        assert!(exported.body.starts_with(begins), "{accept}");
    }
    let picture = server.request(Method::GET, EXPORT, &[("accept", "image/png")], Body::empty()).await;
    assert_eq!(picture.status, 406);
}

#[tokio::test]
async fn a_generation_that_is_not_there_is_said_to_be_missing() {
    let server = Server::with_points().await;
    for path in ["statistics?asOf=1", "statistics?since=1", "export?asOf=1", "points?asOf=1"] {
        let refused = server.get(&format!("/api/v1/indices/split/1/{path}")).await;
        assert_eq!(refused.status, 409, "{path}: {}", refused.text());
        assert!(refused.messages()[0].contains("has not been built yet"), "{:?}", refused.messages());
    }
    let mut search = crate::server::query(1);
    search["asOf"] = json!(1);
    assert_eq!(server.search("split/1", &search).await.status, 409);
    search["asOf"] = json!(0);
    assert_eq!(server.search("split/1", &search).await.status, 400);
    search["asOf"] = Value::Null;
    assert_eq!(server.search("split/1", &search).await.status, 200);
    let uploaded = server.post("/api/v1/upload/points/1", &json!([point(9)])).await;
    assert_eq!(uploaded.status, 200);
    search["asOf"] = json!(1);
    assert_eq!(server.search("split/1", &search).await.status, 409, "an upload is no build");
}

#[tokio::test]
async fn a_generation_that_garbage_collection_has_taken_is_gone() {
    let server = Server::with_points().await;
    let id = IndexId::new("split", "1").unwrap();
    let index = load_index(&server.store, &id).await.unwrap().unwrap();
    let shard = index.shards.keys().next().unwrap();
    // The second of two builds of nothing, and what the collection of the first has left behind.
    let commit = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let manifest = json!({
        "format": 1, "index": id, "generation": 2, "commitId": commit, "watermark": [0], "createdMs": 0, "rows": 0,
        "shards": [{"shard": shard, "rows": 0, "splits": 0, "segments": 0, "segmentBytes": 0}],
    });
    let boundary = json!({"format": 1, "number": 1, "commitId": commit, "generation": 1});
    for (key, object) in [
        (ObjectKey::Manifest { index: id.clone(), generation: 2 }, manifest),
        (ObjectKey::IndexBoundary { index: id.clone(), number: 1 }, boundary),
    ] {
        server.store.create(&key, object.to_string().into(), |_| true).await.unwrap();
    }
    for (generation, status, said) in [(1, 410, "generation 1"), (3, 409, "no generation 3 yet")] {
        for path in ["statistics?asOf", "statistics?since", "export?asOf", "points?asOf"] {
            let refused = server.get(&format!("/api/v1/indices/split/1/{path}={generation}")).await;
            assert_eq!(refused.status, status, "{path}={generation}: {}", refused.text());
            assert!(refused.messages()[0].contains(said), "{path}: {}", refused.text());
        }
        let mut search = crate::server::query(1);
        search["asOf"] = json!(generation);
        assert_eq!(server.search("split/1", &search).await.status, status);
        let drawn = server.post(SAMPLE, &json!({"n": 1, "asOf": generation})).await;
        assert_eq!(drawn.status, status, "{}", drawn.text());
    }
    let kept = server.get(&format!("{STATISTICS}?asOf=2")).await;
    assert_eq!((kept.status.as_u16(), kept.header("tarn-generation")), (200, "2"), "{}", kept.text());
}
