//! `tarn upload` from every format.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::FixedSizeListArray;
use arrow::array::{ArrayRef, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use arrow::ipc::writer::{FileWriter, StreamWriter};
use parquet::arrow::ArrowWriter;

use crate::support::{define, error, ids, json};

/// `n` points `p0`, `p1`, … at (0, 0), (1, 0), …; the id's column is called `key`.
fn columns(n: u16) -> RecordBatch {
    let ids: ArrayRef = Arc::new((0..n).map(|i| Some(format!("p{i}"))).collect::<StringArray>());
    let langs: ArrayRef = Arc::new((0..n).map(|_| Some("en")).collect::<StringArray>());
    let years: ArrayRef = Arc::new((0..n).map(|i| Some(i64::from(i))).collect::<Int64Array>());
    let values: ArrayRef = Arc::new(Float32Array::from_iter_values((0..n).flat_map(|i| [f32::from(i), 0.0])));
    let field = Arc::new(Field::new("item", DataType::Float32, true));
    let vectors: ArrayRef = Arc::new(FixedSizeListArray::try_new(field, 2, values, None).unwrap());
    let unused: ArrayRef = Arc::new((0..n).map(|_| Some("unused")).collect::<StringArray>());
    RecordBatch::try_from_iter([("key", ids), ("lang", langs), ("year", years), ("vec", vectors), ("note", unused)])
        .unwrap()
}

fn upload(store: &Path, file: &Path, more: &[&str]) -> serde_json::Value {
    let file = file.to_str().unwrap();
    json(store, &[&["upload", file, "--to", "docs/1.0", "--map", "id=key", "--vector-column", "vec"], more].concat())
}

#[test]
fn every_format_ends_up_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let batch = columns(50);
    let path = |name: &str| dir.path().join(name);
    let mut parquet = ArrowWriter::try_new(File::create(path("a.parquet")).unwrap(), batch.schema(), None).unwrap();
    parquet.write(&batch).unwrap();
    parquet.close().unwrap();
    let mut file = FileWriter::try_new(File::create(path("b.arrow")).unwrap(), &batch.schema()).unwrap();
    file.write(&batch).unwrap();
    file.finish().unwrap();
    let mut stream = StreamWriter::try_new(File::create(path("c.arrow")).unwrap(), &batch.schema()).unwrap();
    stream.write(&batch).unwrap();
    stream.finish().unwrap();
    let rows = |line: &dyn Fn(u16) -> String| (0..50).map(line).collect::<String>();
    let line = |i: u16| format!("{{\"key\": \"p{i}\", \"lang\": \"en\", \"year\": {i}, \"vec\": [{i}, 0]}}\n");
    fs::write(path("d.ndjson"), rows(&line)).unwrap();
    let line = |i: u16| format!("p{i},en,{i},\"[{i}, 0]\"\n");
    fs::write(path("e.csv"), format!("key,lang,year,vec\n{}", rows(&line))).unwrap();
    let line = |i: u16| format!("p{i},en,{i},{i},0\n");
    fs::write(path("f.csv"), format!("key,lang,year,vec_0,vec_1\n{}", rows(&line))).unwrap();

    for name in ["a.parquet", "b.arrow", "c.arrow", "d.ndjson", "e.csv", "f.csv"] {
        let store = path(&format!("{name}.store"));
        define(&store);
        let uploaded = upload(&store, &path(name), &["--batch", "20"]);
        assert_eq!((&uploaded["points"], &uploaded["batches"]), (&50.into(), &3.into()), "{name}: {uploaded}");
        let found = json(&store, &["search", "docs/1.0", "--vector", "[48, 0]", "-k", "3"]);
        assert_eq!(ids(&found), ["p48", "p47", "p49"], "{name}");
        assert_eq!(found["results"][0][0]["attributes"]["year"], 48, "{name}");
    }
}

#[test]
fn the_same_idempotency_key_commits_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    define(&store);
    let file = dir.path().join("p.csv");
    fs::write(&file, "key,lang,year,vec\na,en,1,\"[0,0]\"\nb,en,2,\"[1,0]\"\n").unwrap();
    let args = ["--batch", "1", "--idempotency-key", "nightly"];
    assert_eq!(upload(&store, &file, &args)["replayed"], 0);
    assert_eq!(upload(&store, &file, &args)["replayed"], 2);
    assert_eq!(json(&store, &["inspect", "timeline", "docs/1.0"])["stored"], 2);
}

#[test]
fn a_faulty_row_is_named_and_its_batch_is_not_committed() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    define(&store);
    let cases = [
        ("a.csv", "id,lang,year,vector\na,en,1,\"[0,0]\"\nb,en,soon,\"[1,0]\"\n", "line 3"),
        ("b.csv", "id,lang,year,vector\na,en,1,\"[0,0,0]\"\n", "line 2"),
        ("c.csv", "id,lang,vector\na,en,\"[0,0]\"\n", "no column 'year'"),
        ("d.ndjson", "{\"id\": \"a\", \"lang\": \"en\", \"year\": 1, \"vector\": [0, 0]}\n{\"id\":", "line 2"),
        ("e.ndjson", "{\"id\": \"a\", \"lang\": \"en\", \"year\": 1, \"vector\": [0, null]}\n", "line 1"),
        ("f.ndjson", "{\"id\": \"a\", \"lang\": \"en\", \"vector\": [0, 0]}\n", "line 1"),
        ("g.txt", "", "--format"),
        ("h.parquet", "not parquet", "h.parquet"),
    ];
    for (name, content, expected) in cases {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        let said = error(Some(&store), &["upload", path.to_str().unwrap(), "--to", "docs/1.0"]);
        assert!(said.contains(name) && said.contains(expected), "{name}: {said}");
    }
    assert_eq!(json(&store, &["inspect", "timeline", "docs/1.0"])["stored"], 0);
}
