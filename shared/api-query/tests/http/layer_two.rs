//! Layer 2's fields of a search, and the routes beside it.

use serde_json::{Value, json};

use tarn_api_query::ReceiptDto;

use crate::server::{Server, ids, point, query};

async fn with(server: &Server, fields: Value) -> tarn_api_testkit::Answer {
    let mut search = query(10);
    for (name, value) in fields.as_object().unwrap() {
        search[name] = value.clone();
    }
    server.search("split/1", &search).await
}

#[tokio::test]
async fn filters_choose_points_by_any_attribute() {
    let server = Server::with_points().await;
    for (filter, expected) in [
        (json!({"gt": {"key": "price", "value": 0.2}}), vec![3, 4]),
        (json!({"eq": {"key": "price", "value": {"float64": 0.3}}}), vec![3]),
        (json!({"in": {"key": "name", "values": ["n1", "n4", "n9"]}}), vec![1, 4]),
        (json!({"not": {"eq": {"key": "sk1", "value": true}}}), vec![1, 3]),
        (
            json!({"and": [{"startsWith": {"key": "name", "value": "n"}}, {"lte": {"key": "id", "value": 2}}]}),
            vec![1, 2],
        ),
        (json!({"or": []}), vec![]),
        (Value::Null, vec![1, 2, 3, 4]),
    ] {
        let answer = with(&server, json!({"filter": filter})).await;
        assert_eq!(answer.status, 200, "{filter}: {}", answer.text());
        assert_eq!(ids(&answer.json()[0]), expected, "{filter}");
    }
    for filter in [
        json!(1),
        json!({"equals": {"key": "id", "value": 1}}),
        json!({"eq": {"key": "nothing", "value": 1}}),
        json!({"eq": {"key": "id", "value": "x"}}),
        json!({"startsWith": {"key": "id", "value": "1"}}),
    ] {
        let refused = with(&server, json!({"filter": filter})).await;
        assert_eq!(refused.status, 400, "{filter}");
        assert!(refused.messages()[0].starts_with("filter"), "{:?}", refused.messages());
    }
}

#[tokio::test]
async fn a_filter_may_nest_to_its_limit() {
    let server = Server::with_points().await;
    let mut filter = json!({"eq": {"key": "id", "value": 1}});
    for _ in 1..tarn_model::limits::FILTER_DEPTH {
        filter = json!({"and": [filter]});
    }
    let answer = with(&server, json!({"filter": filter})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for _ in 0..1_000 {
        filter = json!({"and": [filter]});
    }
    assert_eq!(with(&server, json!({"filter": filter})).await.status, 400);
}

#[tokio::test]
async fn consistency_and_min_version_say_how_fresh_the_answer_is() {
    let server = Server::with_points().await;
    for consistency in ["strong", "eventual", "Strong"] {
        assert_eq!(with(&server, json!({"consistency": consistency})).await.status, 200);
    }
    let upload = server.post("/api/v1/upload/points/1", &json!([point(5)])).await;
    let version = upload.header("tarn-version").to_owned();
    for consistency in ["strong", "eventual"] {
        let answer = with(&server, json!({"minVersion": version, "consistency": consistency})).await;
        assert_eq!(ids(&answer.json()[0]).len(), 5, "{consistency}");
        assert_eq!(answer.header("tarn-version"), version);
    }
    assert_eq!(with(&server, json!({"minVersion": 2})).await.status, 200);
    let ahead = with(&server, json!({"minVersion": "99"})).await;
    assert_eq!(ahead.status, 409);
    assert!(ahead.messages()[0].contains("99"), "{:?}", ahead.messages());
    for wrong in [json!({"minVersion": "x"}), json!({"minVersion": -1}), json!({"consistency": "weak"})] {
        assert_eq!(with(&server, wrong.clone()).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn effort_deadline_and_attributes_can_be_set() {
    let server = Server::with_points().await;
    for good in [
        json!({"exact": true}),
        json!({"targetRecall": 0.99}),
        json!({"efSearch": 100}),
        json!({"nprobe": 100}),
        json!({"nprobe": 100_000, "efSearch": 100}),
        json!({"deadlineMs": 1000.5}),
        json!({"exact": null, "targetRecall": null, "efSearch": null, "nprobe": null, "deadlineMs": null, "attributes": null, "filter": null}),
    ] {
        assert_eq!(ids(&with(&server, good.clone()).await.json()[0]), [1, 2, 3, 4], "{good}");
    }
    let answer = with(&server, json!({"attributes": ["name", "id", "name"]})).await;
    let attributes = answer.json()[0]["nearestDataPoints"][0]["attributes"].clone();
    assert_eq!(attributes, json!([{"key": "id", "value": {"int64": 1}}, {"key": "name", "value": {"string": "n1"}}]));
    for wrong in [
        json!({"targetRecall": 0}),
        json!({"targetRecall": 1.1}),
        json!({"efSearch": 0}),
        json!({"efSearch": 100_000}),
        json!({"nprobe": 0}),
        json!({"nprobe": -1}),
        json!({"deadlineMs": 0}),
        json!({"deadlineMs": -1}),
        json!({"attributes": ["nothing"]}),
    ] {
        assert_eq!(with(&server, wrong.clone()).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn a_receipt_says_how_an_answer_came_about_and_its_totals_are_headers() {
    let server = Server::with_points().await;
    let mut vectors = query(10);
    vectors["queryVectors"] = json!([vectors["queryVectors"][0], vectors["queryVectors"][0]]);
    let ask = async |explain: Value| {
        let mut search = vectors.clone();
        search["explain"] = explain;
        server.search("split/1", &search).await
    };
    let plain = server.search("split/1", &vectors).await;
    for explain in [json!(false), Value::Null] {
        assert_eq!(ask(explain).await.text(), plain.text(), "not a byte more unless it is asked for");
    }
    let answer = ask(json!(true)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut results = answer.json();
    let receipt = results[0].as_object_mut().unwrap().remove("receipt").unwrap();
    assert_eq!(results, plain.json(), "the same answer");
    let receipt: ReceiptDto = serde_json::from_value(receipt).unwrap();
    assert_eq!(answer.header("tarn-requests"), receipt.requests.total.to_string());
    assert_eq!((receipt.requests.total, receipt.requests.get, receipt.round_trips), (2, 2, 1), "a warm, strong search");
    assert_eq!(answer.header("tarn-bytes"), receipt.bytes.to_string());
    assert_eq!(answer.header("tarn-coverage"), receipt.coverage.to_string());
    assert_eq!(answer.header("tarn-version"), receipt.version);
    assert_eq!(answer.header("tarn-generation"), receipt.generation.to_string());
    let phases = receipt.milliseconds.phases().map(|(name, ms)| format!("{name};dur={ms:.3}")).collect::<Vec<_>>();
    assert_eq!(answer.header("server-timing"), phases.join(", "));
    assert!(receipt.milliseconds.total >= receipt.milliseconds.search, "{receipt:?}");
    // Nothing was built: all there is, is in memory.
    let [segment] = receipt.segments.as_slice() else { panic!("{receipt:?}") };
    assert_eq!((segment.rows, segment.cache.as_str(), segment.plan.by.as_str()), (4, "memory", "exact"));
    assert_eq!((receipt.dollars.total, receipt.dollars.requests), (0.0, 0.0), "memory is no bucket");
    assert_eq!(ask(json!("yes")).await.status, 400);
}

#[tokio::test]
async fn searches_at_the_same_time_are_each_told_what_they_cost() {
    let server = Server::with_points().await;
    with(&server, json!({})).await;
    let answers = futures::future::join_all((0..20).map(|_| with(&server, json!({})))).await;
    let requests: Vec<u64> = answers.iter().map(|answer| answer.header("tarn-requests").parse().unwrap()).collect();
    assert!(requests.iter().all(|&count| count <= 2), "of all together: {requests:?}");
    assert!(requests.contains(&2), "{requests:?}");
}

#[tokio::test]
async fn points_come_in_pages_by_id() {
    let server = Server::with_points().await;
    let first = server.get("/api/v1/indices/nearest/1/points?limit=3").await;
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.header("tarn-version"), "1");
    let page = first.json();
    let list = |page: &Value| ids(&json!({"nearestDataPoints": page["points"]}));
    assert_eq!(list(&page), [1, 2, 3]);
    assert!(page["points"][0].get("vector").is_none());
    let next = page["next"].as_str().unwrap();
    let rest = server.get(&format!("/api/v1/indices/nearest/1/points?after={next}&retrieveVectors=true")).await.json();
    assert_eq!(list(&rest), [4]);
    assert_eq!(rest["points"][0]["vector"]["coordinates"], json!([4.0, 0.0]));
    assert!(rest.get("next").is_none());

    let filter = "%7B%22gt%22%3A%7B%22key%22%3A%22id%22%2C%22value%22%3A2%7D%7D";
    let chosen = server.get(&format!("/api/v1/indices/nearest/1/points?filter={filter}")).await.json();
    assert_eq!(list(&chosen), [3, 4]);
    let split = "%5B%7B%22key%22%3A%22sk1%22%2C%22value%22%3A%7B%22bool%22%3Atrue%7D%7D%5D";
    let chosen = server.get(&format!("/api/v1/indices/split/1/points?splitFilter={split}")).await.json();
    assert_eq!(list(&chosen), [2, 4]);
    for wrong in
        ["limit=0", "limit=x", "after=xyz", "filter=x", "splitFilter=1", "retrieveVectors=maybe", "consistency=weak"]
    {
        assert_eq!(server.get(&format!("/api/v1/indices/nearest/1/points?{wrong}")).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn an_index_is_described_and_warmed() {
    let server = Server::with_points().await;
    let described = server.get("/api/v1/indices/split/1").await;
    assert_eq!(described.status, 200, "{}", described.text());
    let described = described.json();
    assert_eq!(described["id"], json!({"name": "split", "version": "1"}));
    assert_eq!(described["definition"]["splitAttributes"], json!(["sk1", "sk2"]));
    assert_eq!((&described["generation"], &described["head"]), (&json!(0), &json!("1")));
    assert_eq!(described["dataPointsCount"], 4);
    assert_eq!(described["shards"].as_array().unwrap().len(), 1);
    assert_eq!(server.get("/api/v1/indices/split/1?splits=x").await.status, 400);
    assert_eq!(server.post("/api/v1/indices/split/1/warm", &Value::Null).await.status, 204);
}

#[tokio::test]
async fn the_vectors_of_one_answer_are_bounded() {
    let server = Server::new();
    let source =
        json!({"vectorDimension": 16_384, "attributeValueTypes": {"id": "Int64"}, "permanentAttributes": ["id"]});
    server.define("data-sources/wide/1", &source).await;
    let index = json!({
        "dataSourceId": {"name": "wide", "version": "1"}, "indexAlgorithm": {"type": "FaissIndex.L2"}, "idAttributes": ["id"],
    });
    server.define("indices/wide/1", &index).await;
    let mut search = json!({"queryVectors": [{"isSparse": false, "coordinates": vec![0; 16_384]}], "k": 10_000});
    let refused = server.search("wide/1", &search).await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.messages()[0].contains("ask for at most 8192, or with retrieveVectors false"),
        "{}",
        refused.text()
    );
    search["k"] = json!(8_192);
    assert_eq!(server.search("wide/1", &search).await.status, 200);
    search["k"] = json!(10_000);
    search["retrieveVectors"] = json!(false);
    assert_eq!(server.search("wide/1", &search).await.status, 200);
    assert_eq!(server.get("/api/v1/probe/wide/1?k=10000").await.status, 400);
    let points = "/api/v1/indices/wide/1/points?limit=10000";
    assert_eq!(server.get(&format!("{points}&retrieveVectors=true")).await.status, 400);
    assert_eq!(server.get(points).await.status, 200);
}

#[tokio::test]
async fn a_long_search_is_parsed_like_a_short_one() {
    let server = Server::with_points().await;
    let long = "x".repeat(200_000);
    assert_eq!(ids(&with(&server, json!({"comment": long})).await.json()[0]), [1, 2, 3, 4]);
    assert_eq!(with(&server, json!({"comment": long, "exact": 1})).await.status, 400);
}
