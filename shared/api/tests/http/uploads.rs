//! Uploads: the messages of layer 1, four formats, idempotency, one commit each.

use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type};
use axum::http::Method;
use serde_json::{Value, json};
use tarn_api::ApiSettings;
use tarn_api_testkit::Answer;
use tarn_model::limits;

use crate::server::{Gate, Server, point, products};

const ALL: &str = "All attributes defined for data source (and no other ones) must be specified";

async fn upload(server: &Server, points: Value) -> Answer {
    server.upload("products/1", &points.to_string()).await
}

/// `point(1)` with one property replaced.
fn with(property: &str, value: Value) -> Value {
    let mut point = point(1);
    point[property] = value;
    json!([point])
}

fn with_name(value: Value) -> Value {
    with("attributes", json!([{"key": "id", "value": {"int64": 1}}, {"key": "name", "value": value}]))
}

#[tokio::test]
async fn an_upload_answers_200_with_an_empty_body_and_the_version() {
    let server = Server::with_products().await;
    for version in ["1", "2"] {
        let answer = upload(&server, json!([point(1), point(2)])).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.body.is_empty());
        assert_eq!(answer.header("tarn-version"), version);
    }
    let nothing = upload(&server, json!([])).await;
    assert_eq!((nothing.status.as_u16(), nothing.header("tarn-version")), (200, "2"));
}

#[tokio::test]
async fn an_uncontended_upload_costs_one_put() {
    let server = Server::with_products().await;
    assert_eq!(upload(&server, json!([point(1)])).await.status, 200);
    let before = server.requests.counts();
    assert_eq!(upload(&server, json!([point(1)])).await.status, 200);
    assert_eq!(server.requests.counts().since(&before).puts, 1);
}

#[tokio::test]
async fn a_data_source_that_does_not_exist_is_not_found() {
    let server = Server::with_products().await;
    let refused = server.upload("X/1.0", "[]").await;
    assert_eq!(refused.status, 404);
    assert_eq!(refused.messages(), ["Data source DataSourceId { Name = X, Version = 1.0 } does not exist"]);
}

#[tokio::test]
async fn faulty_points_get_the_messages_of_layer_one() {
    let server = Server::with_products().await;
    let id = json!({"key": "id", "value": {"int64": 1}});
    let name = json!({"key": "name", "value": {"string": "x"}});
    for (points, messages) in [
        (with("attributes", json!([id, name, id])), vec!["Attribute keys must be unique"]),
        (with("attributes", json!([id])), vec![ALL]),
        (with("attributes", Value::Null), vec![ALL]),
        (
            with("attributes", json!([id, name, {"key": "k", "value": {"bool": true}}])),
            vec![ALL, "InputDataPoint attribute key is unknown: 'k'"],
        ),
        (
            with("attributes", json!([id, name, {"key": " ", "value": {"bool": true}}])),
            vec![ALL, "InputDataPoint attribute key is null or whitespace"],
        ),
        (
            with("attributes", json!([id, name, {"value": {"bool": true}}])),
            vec![ALL, "InputDataPoint attribute key is null or whitespace"],
        ),
        (with_name(json!({"int64": 42})), vec!["InputDataPoint attribute 'name' has invalid value: '42'"]),
        (with_name(json!({"bool": true})), vec!["InputDataPoint attribute 'name' has invalid value: 'True'"]),
        (with_name(json!({})), vec!["InputDataPoint attribute 'name' has invalid value: ''"]),
        (with_name(Value::Null), vec!["InputDataPoint attribute 'name' has invalid value: ''"]),
        (with_name(json!({"string": "a", "int64": 1})), vec!["InputDataPoint attribute 'name' has invalid value: 'a'"]),
        (with("isDeleted", json!(true)), vec!["IsDeleted is inconsistent with Vector"]),
        (with("vector", Value::Null), vec!["IsDeleted is inconsistent with Vector"]),
        (
            with("vector", json!({"isSparse": false, "coordinates": [1]})),
            vec!["Vector coordinates must have dimension: 2"],
        ),
        (with("vector", json!({"isSparse": false})), vec!["Vector coordinates must have dimension: 2"]),
        (
            with("vector", json!({"isSparse": true, "coordinates": [1], "coordinateIndices": [0]})),
            vec!["Vector must be dense"],
        ),
        (with("vector", json!({"isSparse": false, "coordinates": [1e30, 0]})), vec!["Vector coordinate 0 is"]),
    ] {
        let refused = upload(&server, points.clone()).await;
        assert_eq!(refused.status, 400, "{points}");
        let found = refused.messages();
        assert_eq!(found.len(), messages.len(), "{points}: {found:?}");
        for (found, message) in found.iter().zip(messages) {
            assert!(found == message || (message.ends_with("is") && found.starts_with(message)), "{points}: {found}");
        }
    }
}

#[tokio::test]
async fn faulty_sparse_points_get_the_messages_of_layer_one() {
    let server = Server::new();
    let definition = json!({
        "vectorDimension": 10, "vectorsAreSparse": true, "attributeValueTypes": {"id": "Bool"},
        "permanentAttributes": ["id"], "shardersByAttributeKey": {"id": {"possibleValues": [false]}},
    });
    assert_eq!(server.put("/api/v1/data-sources/s/1", &definition).await.status, 201);
    let point =
        |id: bool, vector: Value| json!([{"attributes": [{"key": "id", "value": {"bool": id}}], "vector": vector}]);
    let sparse = |coordinates: Value, indices: Value| {
        point(false, json!({"isSparse": true, "coordinates": coordinates, "coordinateIndices": indices}))
    };
    let unique = "Each vector coordinate value must have unique corresponding index";
    for (points, message) in [
        (point(false, json!({"isSparse": false, "coordinates": [1]})), "Vector must be sparse"),
        (sparse(json!([]), json!([])), "Vector must have coordinates"),
        (sparse(json!([1, 2]), json!([1])), unique),
        (sparse(json!([1, 2]), json!([1, 1])), unique),
        (sparse(json!([1]), Value::Null), unique),
        (sparse(json!([1]), json!([10])), "Vector coordinates must have dimension: 10"),
        (sparse(json!([1]), json!([-1])), "Vector coordinates must have dimension: 10"),
        (
            point(true, json!({"isSparse": true, "coordinates": [1], "coordinateIndices": [0]})),
            "InputDataPoint attribute 'id' has unacceptable value 'True' for corresponding sharder",
        ),
    ] {
        let refused = server.upload("s/1", &points.to_string()).await;
        assert_eq!(refused.status, 400, "{points}");
        assert_eq!(refused.messages(), [message], "{points}");
    }
    let accepted = server.upload("s/1", &sparse(json!([0.1, 1e-300]), json!([7, 3])).to_string()).await;
    assert_eq!(accepted.status, 200, "{}", accepted.text());
}

#[tokio::test]
async fn an_upload_is_all_or_nothing() {
    let server = Server::with_products().await;
    let mut bad = point(2);
    bad["vector"]["coordinates"] = json!([1]);
    assert_eq!(upload(&server, json!([point(1), bad, point(3)])).await.status, 400);
    assert_eq!(server.get("/api/v1/data-sources/products/1").await.json()["head"], "0");
}

#[tokio::test]
async fn names_have_no_case_unknown_ones_are_ignored_and_the_last_of_repeated_ones_wins() {
    let server = Server::with_products().await;
    let body = r#"[{"IsDeleted": null, "comment": {"a": [1, {"b": null}]}, "vector": null,
        "VECTOR": {"COORDINATES": ["1.5", -2], "coordinateIndices": null, "IsSparse": false},
        "attributes": [],
        "Attributes": [{"KEY": "id", "Value": {"INT64": "7", "string": null, "other": 1}},
                       {"value": {"String": "old", "string": "new"}, "key": "name"}]}]"#;
    let answer = server.upload("products/1", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let export = server.get("/api/v1/data-sources/products/1/export").await;
    assert_eq!(
        export.json(),
        json!({
            "attributes": [{"key": "id", "value": {"int64": 7}}, {"key": "name", "value": {"string": "new"}}],
            "vector": {"isSparse": false, "coordinates": [1.5, -2.0]},
        })
    );
}

#[tokio::test]
async fn ndjson_is_one_point_a_line() {
    let server = Server::with_products().await;
    let send = async |body: String| {
        let headers = [("content-type", "application/x-ndjson")];
        server.request(Method::POST, "/api/v1/upload/products/1", &headers, body).await
    };
    let answer = send(format!("{}\n\n{}\n", point(1), point(2))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(send(String::new()).await.status, 200);
    let refused = send(format!("{}\n[]\n", point(1))).await;
    assert_eq!(refused.messages(), ["a data point must be an object, found an array at line 2 column 1"]);
}

fn columns() -> RecordBatch {
    let field = Arc::new(Field::new("item", DataType::Float32, true));
    let values = Arc::new(Float32Array::from(vec![1.0, 0.5, 2.0, 0.5]));
    let vectors = FixedSizeListArray::new(field, 2, values, None);
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
        ("name", Arc::new(StringArray::from(vec!["n1", "n2"]))),
        ("vector", Arc::new(vectors)),
    ])
    .unwrap()
}

fn arrow_stream(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

fn parquet_file(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[tokio::test]
async fn columns_are_taken_as_arrow_and_as_parquet() {
    for (kind, body) in [
        ("application/vnd.apache.arrow.stream", arrow_stream(&columns())),
        ("application/vnd.apache.parquet", parquet_file(&columns())),
    ] {
        let server = Server::with_products().await;
        let path = "/api/v1/upload/products/1";
        let answer = server.request(Method::POST, path, &[("content-type", kind)], body.clone()).await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
        let export = server.get("/api/v1/data-sources/products/1/export").await.text();
        let mut points: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        points.sort_by_key(|point| point["attributes"][0]["value"]["int64"].as_i64());
        let mut expected = [point(1), point(2)];
        for (point, id) in expected.iter_mut().zip([1.0, 2.0]) {
            point["vector"]["coordinates"] = json!([id, 0.5]);
        }
        assert_eq!(points, expected);

        for broken in [&body[..body.len() / 2], &[][..], b"PAR1PAR1", &[0xff; 100]] {
            let refused = server.request(Method::POST, path, &[("content-type", kind)], broken.to_vec()).await;
            assert_eq!(refused.status, 400, "{kind}");
            assert!(refused.messages()[0].starts_with("The body is not"), "{:?}", refused.messages());
        }
    }
}

#[tokio::test]
async fn a_repeated_upload_with_an_idempotency_key_takes_effect_once() {
    let server = Server::with_products().await;
    let send = async |key: &str, points: Value| {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        server.request(Method::POST, "/api/v1/upload/products/1", &headers, points.to_string()).await
    };
    let first = send("a", json!([point(1)])).await;
    assert_eq!((first.status.as_u16(), first.header("tarn-version"), first.header("tarn-replayed")), (200, "1", ""));
    let other = send("b", json!([point(2)])).await;
    assert_eq!(other.header("tarn-version"), "2");
    let again = send("a", json!([point(1)])).await;
    assert_eq!(
        (again.status.as_u16(), again.header("tarn-version"), again.header("tarn-replayed")),
        (200, "1", "true")
    );
    assert_eq!(server.get("/api/v1/data-sources/products/1").await.json()["head"], "2");

    let reused = send("a", json!([point(3)])).await;
    assert_eq!(reused.status, 409);
    assert!(reused.messages()[0].contains("idempotency key was used before for a different payload"));
    for key in ["", &"x".repeat(limits::IDEMPOTENCY_KEY_BYTES + 1)] {
        assert_eq!(send(key, json!([point(1)])).await.status, 400);
    }
}

#[tokio::test]
async fn an_upload_of_too_many_points_is_refused() {
    let server = Server::with_products().await;
    let tombstone = r#"{"attributes":[{"key":"id","value":{"int64":1}}],"isDeleted":true},"#;
    let mut body = format!("[{}", tombstone.repeat(limits::BATCH_POINTS + 1));
    body.pop();
    body.push(']');
    let refused = server.upload("products/1", &body).await;
    assert_eq!(refused.status, 413);
    assert_eq!(
        refused.messages(),
        [format!("An upload takes at most {} points; send it in parts", limits::BATCH_POINTS)]
    );
}

#[tokio::test]
async fn uploads_to_a_deleted_data_source_are_not_found() {
    let server = Server::with_products().await;
    assert_eq!(upload(&server, json!([point(1)])).await.status, 200);
    assert_eq!(server.delete("/api/v1/data-sources/products/1").await.status, 204);
    let refused = upload(&server, json!([point(2)])).await;
    assert_eq!(refused.status, 404);
    assert_eq!(refused.messages(), ["Data source DataSourceId { Name = products, Version = 1 } does not exist"]);
    assert_eq!(server.put("/api/v1/data-sources/products/2", &products()).await.status, 201);
}

#[tokio::test]
async fn uploads_beyond_the_queue_are_told_to_come_back() {
    let gate = Gate::new();
    let settings = ApiSettings { queue_bytes: 1, ..ApiSettings::default() };
    let server = Arc::new(Server::over(&gate.store(), settings));
    server.define_products().await;
    assert_eq!(upload(&server, json!([point(1)])).await.status, 200);

    gate.set_open(false);
    let first = tokio::spawn({
        let server = Arc::clone(&server);
        async move { upload(&server, json!([point(2)])).await }
    });
    gate.somebody_waits().await;
    let refused = upload(&server, json!([point(3)])).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "1"));
    assert!(refused.messages()[0].contains("bytes of uploads are waiting already"), "{:?}", refused.messages());

    gate.set_open(true);
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(upload(&server, json!([point(3)])).await.header("tarn-version"), "3");
}

#[tokio::test]
async fn uploads_count_as_bytes_in_flight_until_they_are_committed() {
    let gate = Gate::new();
    let settings = ApiSettings { body_bytes_in_flight: 5_000, ..ApiSettings::default() };
    let server = Arc::new(Server::over(&gate.store(), settings));
    let definition =
        json!({"vectorDimension": 1_000, "attributeValueTypes": {"id": "Int64"}, "permanentAttributes": ["id"]});
    assert_eq!(server.put("/api/v1/data-sources/wide/1", &definition).await.status, 201);
    // Two kilobytes of text, four of coordinates.
    let send = |server: Arc<Server>| async move {
        let point = json!([{
            "attributes": [{"key": "id", "value": {"int64": 1}}],
            "vector": {"isSparse": false, "coordinates": vec![0; 1_000]},
        }]);
        let headers = [("content-type", "application/json"), ("request-timeout", "10")];
        server.request(Method::POST, "/api/v1/upload/wide/1", &headers, point.to_string()).await
    };
    assert_eq!(send(server.clone()).await.status, 200);

    gate.set_open(false);
    let first = tokio::spawn(send(server.clone()));
    gate.somebody_waits().await;
    let refused = send(server.clone()).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    gate.set_open(true);
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(send(server).await.status, 200);
}

#[tokio::test]
async fn columns_that_claim_more_than_they_have_are_refused() {
    let server = Server::with_products().await;
    let path = "/api/v1/upload/products/1";
    let footer = [0x49, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00];
    let parquet = [&b"PAR1"[..], &footer, &8_u32.to_le_bytes(), b"PAR1"].concat();
    let long_metadata = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f].to_vec();
    for (kind, body) in
        [("application/vnd.apache.parquet", parquet), ("application/vnd.apache.arrow.stream", long_metadata)]
    {
        let refused = server.request(Method::POST, path, &[("content-type", kind)], body).await;
        assert_eq!(refused.status, 400, "{kind}");
        assert!(refused.messages()[0].starts_with("The body is not a valid"), "{:?}", refused.messages());
    }
}

#[tokio::test]
async fn strings_behind_a_dictionary_count_as_long_as_they_are() {
    let server = Server::new();
    let definition = json!({
        "vectorDimension": 1, "attributeValueTypes": {"id": "Int64", "name": "String"}, "permanentAttributes": ["id"],
    });
    assert_eq!(server.put("/api/v1/data-sources/names/1", &definition).await.status, 201);
    let rows = 20_000;
    let long = "x".repeat(limits::STRING_VALUE_BYTES);
    let names: DictionaryArray<Int32Type> = std::iter::repeat_n(long.as_str(), rows).collect();
    let field = Arc::new(Field::new("item", DataType::Float32, true));
    let vectors = FixedSizeListArray::new(field, 1, Arc::new(Float32Array::from(vec![0.0; rows])), None);
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(0..rows as i64)) as ArrayRef),
        ("name", Arc::new(names)),
        ("vector", Arc::new(vectors)),
    ])
    .unwrap();
    let body = arrow_stream(&batch);
    assert!(body.len() < 1_000_000, "{}", body.len());
    let headers = [("content-type", "application/vnd.apache.arrow.stream")];
    let refused = server.request(Method::POST, "/api/v1/upload/names/1", &headers, body).await;
    assert_eq!(refused.status, 413, "{}", refused.text());
    assert!(refused.messages()[0].starts_with("The columns of the upload take more than"));
}

#[tokio::test]
async fn faults_in_columns_name_the_row_of_the_upload() {
    let server = Server::with_products().await;
    let rows = 10_000;
    let field = Arc::new(Field::new("item", DataType::Float32, true));
    let vectors = FixedSizeListArray::new(field, 2, Arc::new(Float32Array::from(vec![0.0; 2 * rows])), None);
    let names = (0..rows).map(|row| (row != 9_000).then_some("x"));
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(0..rows as i64)) as ArrayRef),
        ("name", Arc::new(names.collect::<StringArray>())),
        ("vector", Arc::new(vectors)),
    ])
    .unwrap();
    for (kind, body) in [
        ("application/vnd.apache.arrow.stream", arrow_stream(&batch)),
        ("application/vnd.apache.parquet", parquet_file(&batch)),
    ] {
        let headers = [("content-type", kind)];
        let refused = server.request(Method::POST, "/api/v1/upload/products/1", &headers, body).await;
        assert_eq!(refused.status, 400, "{kind}");
        assert!(refused.messages()[0].starts_with("row 9000 (from 0), column 'name'"), "{:?}", refused.messages());
    }
}
