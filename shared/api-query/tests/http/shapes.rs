//! Scores, groups, context, combinations and stored points over HTTP.

use axum::http::Method;
use serde_json::{Value, json};
use tarn_api_query::{ReceiptDto, SearchQueryDto, SearchResultDto};

use crate::server::{Server, ids, point, query};

async fn with(server: &Server, fields: Value) -> tarn_api_testkit::Answer {
    let mut search = query(10);
    for (name, value) in fields.as_object().unwrap() {
        search[name] = value.clone();
    }
    server.search("nearest/1", &search).await
}

fn distances(result: &Value) -> Vec<f64> {
    let found = result["nearestDataPoints"].as_array().unwrap().iter();
    found.map(|point| point["distance"].as_f64().unwrap()).collect()
}

fn dense(coordinates: [f64; 2]) -> Value {
    json!({"isSparse": false, "coordinates": coordinates})
}

#[tokio::test]
async fn a_score_ranks_in_the_direction_asked_for_and_explain_says_how() {
    let server = Server::with_points().await;
    for (score, higher, expected, by) in [
        ("VectorDistance", Value::Null, vec![1, 2, 3, 4], "index"),
        ("vectordistance", json!(true), vec![4, 3, 2, 1], "scan"),
        ("QuickVectorDistance", Value::Null, vec![1, 2, 3, 4], "scan"),
        ("VectorMultiplication", Value::Null, vec![4, 3, 2, 1], "scan"),
        ("VectorMultiplication", json!(false), vec![1, 2, 3, 4], "scan"),
        ("AngularDistance", Value::Null, vec![1, 2, 3, 4], "scan"),
    ] {
        let answer = with(&server, json!({"score": score, "higherIsBetter": higher, "explain": true})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let result = &answer.json()[0];
        assert_eq!(ids(result), expected, "{score} {higher}");
        let receipt: ReceiptDto = serde_json::from_value(result["receipt"].clone()).unwrap();
        let ranking = receipt.ranking.unwrap();
        assert_eq!(ranking.score.unwrap().to_lowercase(), score.to_lowercase());
        assert_eq!(ranking.by, by, "{score} {higher}");
    }
    let nearest = with(&server, json!({"score": "VectorDistance"})).await.json();
    assert!((distances(&nearest[0])[1] - 1.1).abs() < 1e-6, "with the root: {nearest}");
    let farthest = with(&server, json!({"higherIsBetter": true})).await.json();
    assert_eq!(ids(&farthest[0]), [4, 3, 2, 1]);
    let refused = with(&server, json!({"score": "L1"})).await;
    assert_eq!(refused.status, 400);
    assert!(refused.messages()[0].contains("QuickVectorDistance"), "{:?}", refused.messages());
}

#[tokio::test]
async fn groups_come_best_first_with_their_points() {
    let server = Server::with_points().await;
    let grouped = |k: i64, fields: Value| {
        let mut all = json!({"k": k, "groupBy": "sk1"});
        for (name, value) in fields.as_object().unwrap() {
            all[name] = value.clone();
        }
        all
    };
    // One neighbour is of one group; the search looks for the other one.
    let answer = with(&server, grouped(1, json!({"resultLimit": 2, "groupLimit": 2}))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let result = &answer.json()[0];
    assert_eq!(ids(result), [1, 3, 2, 4]);
    assert_eq!((&result["groups"][0]["value"], &result["groups"][0]["count"]), (&json!({"bool": false}), &json!(2)));
    assert_eq!((&result["groups"][1]["value"], &result["groupsComplete"]), (&json!({"bool": true}), &json!(true)));
    let typed: Vec<SearchResultDto> = serde_json::from_value(answer.json()).unwrap();
    assert_eq!(typed[0].groups.as_ref().unwrap().len(), 2);
    // One point of each unless more are wanted; the limit on results leaves k alone.
    assert_eq!(ids(&with(&server, grouped(10, json!({}))).await.json()[0]), [1, 2]);
    assert_eq!(ids(&with(&server, grouped(10, json!({"resultLimit": 1}))).await.json()[0]), [1]);
    let sums = with(&server, grouped(10, json!({"groupLimit": 2, "groupScore": "sum", "higherIsBetter": true}))).await;
    assert_eq!(ids(&sums.json()[0]), [4, 2, 3, 1]);
    let filter = json!({"groupFilter": {"eq": {"key": "sk1", "value": true}}});
    assert_eq!(ids(&with(&server, grouped(10, filter)).await.json()[0]), [2]);
    let few = with(&server, grouped(10, json!({"attributes": ["id"]}))).await.json();
    assert_eq!(few[0]["nearestDataPoints"][0]["attributes"].as_array().unwrap().len(), 1, "sk1 was not asked for");
    for (wrong, says) in [
        (json!({"groupLimit": 2}), "want groupBy"),
        (json!({"groupBy": "nothing"}), "groupBy names 'nothing'"),
        (json!({"groupBy": "sk1", "groupLimit": 0}), "groupLimit must be"),
        (json!({"groupBy": "sk1", "groupScore": "mean"}), "'sumOverSquare'"),
        (
            json!({"groupBy": "sk1", "groupFilter": {"eq": {"key": "id", "value": 1}}}),
            "groupFilter may name 'sk1' alone",
        ),
        (json!({"resultLimit": 0}), "resultLimit must be"),
    ] {
        let refused = with(&server, wrong.clone()).await;
        assert_eq!(refused.status, 400, "{wrong}");
        assert!(refused.messages()[0].contains(says), "{wrong}: {:?}", refused.messages());
    }
}

#[tokio::test]
async fn context_and_combination_make_one_list_of_several_vectors() {
    let server = Server::with_points().await;
    let context = json!({"k": 2, "context": [dense([4.2, 0.0])]});
    assert_eq!(ids(&with(&server, context.clone()).await.json()[0]), [1, 4]);
    let mut prioritized = context;
    prioritized["prioritize"] = json!(true);
    assert_eq!(ids(&with(&server, prioritized).await.json()[0]), [4, 3]);
    assert_eq!(with(&server, json!({"prioritize": true})).await.status, 400);
    let both =
        |combine: &str| json!({"k": 4, "queryVectors": [dense([0.9, 0.0]), dense([3.0, 0.0])], "combine": combine});
    for (combine, expected) in [("best", [3, 1, 2, 4]), ("sum", [2, 1, 3, 4]), ("reciprocalRank", [3, 2, 1, 4])] {
        let answer = with(&server, both(combine)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let results = answer.json();
        assert_eq!(results.as_array().unwrap().len(), 1, "{combine}");
        assert_eq!(ids(&results[0]), expected, "{combine}");
        assert!(results[0]["nearestDataPoints"][0]["distance"].is_f64());
    }
    assert_eq!(with(&server, json!({"combine": "mean"})).await.status, 400);
}

#[tokio::test]
async fn stored_points_are_queries_and_not_answers() {
    let server = Server::with_points().await;
    let id = |id: i64| {
        json!([{"key": "id", "value": {"int64": id}}, {"key": "sk1", "value": {"bool": id % 2 == 0}},
               {"key": "sk2", "value": {"string": "a"}}])
    };
    let answer = with(&server, json!({"queryVectors": [], "queryIds": [id(3), id(1)], "k": 2})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let results = answer.json();
    assert_eq!((ids(&results[0]), ids(&results[1])), (vec![2, 4], vec![2, 4]));
    assert_eq!(results[0]["queryVector"]["coordinates"], json!([3.0, 0.0]));
    let after_vectors = with(&server, json!({"queryIds": [id(4)], "k": 1})).await.json();
    assert_eq!((ids(&after_vectors[0]), ids(&after_vectors[1])), (vec![1], vec![3]));
    for (wrong, says) in [
        (json!({"queryIds": [id(9)]}), "queryIds[0]: the index has no such point"),
        (json!({"queryIds": [[{"key": "id", "value": {"int64": 1}}]]}), "queryIds[0]: All attributes"),
        (
            json!({"queryIds": [[{"key": "nope", "value": {"int64": 1}}]]}),
            "queryIds[0]: attribute key is unknown: 'nope'",
        ),
        (
            json!({"queryIds": [[{"key": "id", "value": {"string": "1"}}]]}),
            "queryIds[0]: attribute 'id' has invalid value",
        ),
        (json!({"queryVectors": [], "queryIds": []}), "At least one query vector is required"),
    ] {
        let refused = with(&server, wrong.clone()).await;
        assert_eq!(refused.status, 400, "{wrong}");
        assert!(refused.messages()[0].starts_with(says), "{wrong}: {:?}", refused.messages());
    }
}

#[tokio::test]
async fn a_dense_and_a_sparse_index_answer_as_one() {
    let server = Server::with_points().await;
    let source = json!({
        "vectorDimension": 9, "vectorsAreSparse": true,
        "attributeValueTypes": {"id": "Int64", "sk2": "String", "sk1": "Bool", "word": "String"},
        "permanentAttributes": ["id", "sk1", "sk2"],
    });
    server.define("data-sources/words/1", &source).await;
    let index = json!({
        "dataSourceId": {"name": "words", "version": "1"}, "indexAlgorithm": {"type": "SparnnIndex.Cosine"},
        "idAttributes": ["id", "sk1", "sk2"],
    });
    server.define("indices/words/1", &index).await;
    let words: Vec<Value> = [4, 2, 7]
        .map(|id: i64| {
            let mut point = point(id);
            point["attributes"].as_array_mut().unwrap().retain(|a| a["key"] != "name" && a["key"] != "price");
            point["attributes"].as_array_mut().unwrap().push(json!({"key": "word", "value": {"string": "w"}}));
            point["vector"] = json!({"isSparse": true, "coordinates": [1.0, 0.5], "coordinateIndices": [id, 0]});
            point
        })
        .into();
    assert_eq!(server.post("/api/v1/upload/words/1", &json!(words)).await.status, 200);
    let sparse = json!({"isSparse": true, "coordinates": [1.0], "coordinateIndices": [4]});
    let beside = json!({"index": {"name": "words", "version": "1"}, "queryVectors": [sparse]});
    let answer = with(&server, json!({"k": 3, "combine": "reciprocalRank", "beside": beside})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // 2 is second here and second there; 1 and 4 are first in one list alone; 4 is not among the three nearest here.
    let found: Vec<i64> = answer.json()[0]["nearestDataPoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| {
            point["attributes"].as_array().unwrap().iter().find(|a| a["key"] == "id").unwrap()["value"]["int64"]
                .as_i64()
                .unwrap()
        })
        .collect();
    assert_eq!(found, [2, 1, 4]);
    let mut same = beside.clone();
    same["score"] = json!("CosineSimilarity");
    let best = with(&server, json!({"k": 3, "combine": "best", "score": "CosineSimilarity", "beside": same})).await;
    assert_eq!(best.status, 200, "{}", best.text());
    let typed: SearchQueryDto = serde_json::from_value(json!({"k": 3, "beside": same})).unwrap();
    assert_eq!(typed.beside.unwrap().index.name, "words");
    let mut unknown = beside.clone();
    unknown["index"]["name"] = json!("nobody");
    let mut misspelled = beside.clone();
    misspelled["queryVector"] = json!([]);
    let mut misfit = beside.clone();
    misfit["queryVectors"] = json!([dense([1.0, 2.0])]);
    let mut malformed = beside.clone();
    malformed["queryVectors"] = json!(5);
    let mut unscored = beside.clone();
    unscored["score"] = json!("L1");
    let mut large = beside.clone();
    large["filter"] = json!({"or": vec![json!({"exists": {"key": "word"}}); 998]});
    let grouped = json!({"beside": beside, "combine": "reciprocalRank", "groupBy": "sk1"});
    let answer = with(&server, grouped.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut too_large = grouped.clone();
    (too_large["beside"], too_large["groupFilter"]) = (large, json!({"eq": {"key": "sk1", "value": true}}));
    let mut by_payload = grouped;
    by_payload["groupBy"] = json!("name");
    for (fields, status, says) in [
        (json!({"beside": beside}), 400, "beside wants combine"),
        (json!({"beside": beside, "combine": "sum"}), 400, "combine sum wants every score"),
        (json!({"beside": beside, "combine": "best"}), 400, "combine best wants scores of one kind"),
        (json!({"beside": {}, "combine": "best"}), 400, "beside must name an index"),
        (json!({"beside": misspelled, "combine": "best"}), 400, "beside has no 'queryVector'"),
        (json!({"beside": misfit, "combine": "best"}), 400, "beside: Vector must be sparse"),
        (json!({"beside": malformed, "combine": "best"}), 400, "beside: "),
        (json!({"beside": unscored, "combine": "best"}), 400, "beside: score must be one of"),
        (by_payload, 400, "beside: groupBy must name a permanent attribute"),
        (too_large, 400, "beside: with groupFilter, filter has more than 1000 nodes"),
        (json!({"beside": unknown, "combine": "best"}), 404, "Index IndexId { Name = nobody"),
        (json!({"beside": beside, "combine": "reciprocalRank", "context": [dense([1.0, 2.0])]}), 400, "context cannot"),
    ] {
        let refused = with(&server, fields.clone()).await;
        assert_eq!(refused.status, status, "{fields}: {}", refused.text());
        assert!(refused.messages()[0].starts_with(says), "{fields}: {:?}", refused.messages());
        assert!(!refused.text().contains("column"), "of a text that was never sent: {}", refused.text());
    }
}

#[tokio::test]
async fn a_key_must_be_one_that_may_read_both_indices() {
    let server = Server::with_points().await;
    let mut keys = Vec::new();
    for grants in [&["read:indices/nearest/1"][..], &["read:indices/nearest/1", "read:indices/split/1"]] {
        keys.push(server.key(grants).await);
    }
    let client = server.guarded();
    let mut search = query(3);
    search["combine"] = json!("reciprocalRank");
    search["beside"] = json!({"index": {"name": "split", "version": "1"}, "queryVectors": [dense([0.0, 0.0])]});
    for (key, status) in [(&keys[0], 403), (&keys[1], 200)] {
        let headers = [("x-api-key", key.as_str()), ("content-type", "application/json")];
        let answer = client.request(Method::POST, "/api/v1/search/nearest/1", &headers, search.to_string()).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
}

#[tokio::test]
async fn groups_do_not_get_round_what_a_search_may_find() {
    let server = Server::with_points().await;
    let vectors = vec![dense([0.0, 0.0]); 101];
    let fields = json!({"queryVectors": vectors, "k": 1, "groupBy": "sk1", "groupLimit": 100, "resultLimit": 100});
    let refused = with(&server, fields.clone()).await;
    assert_eq!(refused.status, 400);
    assert!(refused.messages()[0].contains("resultLimit times groupLimit"), "{:?}", refused.messages());
    let mut fewer = fields;
    fewer["queryVectors"] = json!(vec![dense([0.0, 0.0]); 100]);
    assert_eq!(with(&server, fewer).await.status, 200);
}
