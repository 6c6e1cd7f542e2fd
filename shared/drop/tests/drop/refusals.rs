//! A bad file changes nothing, is moved away, and its report says why.

use std::sync::Arc;

use tarn_drop::{DropFolder, Outcome};
use tarn_store::delete_source;

use crate::support::{
    CHUNK, FORMATS, World, arrow_file, arrow_stream, columns, csv, gzip, ndjson, parquet, report, settings, settled,
    updates, zstd,
};

/// Bytes that grow a thousandfold: blank lines, of which nothing is taken in before there are too many.
fn bomb(bytes: usize) -> Vec<u8> {
    let mut line = vec![b' '; 1 << 16];
    line.push(b'\n');
    line.into_iter().cycle().take(bytes).collect()
}

#[tokio::test]
async fn a_bad_row_in_the_middle_of_three_chunks_changes_nothing() {
    let middle = CHUNK + CHUNK / 2;
    let line_of = |text: &str, row: usize, bad: &str| {
        let mut lines: Vec<&str> = text.lines().collect();
        lines[row] = bad;
        lines.join("\n").into_bytes()
    };
    let rows = updates(0..100);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let cases = [
        ("x.csv", line_of(&text(csv(&rows)), middle, "x,a,\"[1,2]\",false"), "id", "'x' is not a Int64"),
        ("y.csv", line_of(&text(csv(&rows)), middle, "1,a,\"[1,2\",false"), "vector", "is no vector"),
        (
            "x.ndjson",
            line_of(&text(ndjson(&rows)), middle - 1, r#"{"id": 1, "title": 5, "vector": [1, 2]}"#),
            "title",
            "5 is not",
        ),
    ];
    for (name, file, column, message) in cases {
        for file in [file.clone(), gzip(&file), zstd(&file)] {
            let world = World::new().await;
            let status = world.drop_file(name, file.clone()).await;
            let report = report(&status);
            assert_eq!(report.row, Some(middle as u64), "{report:?}");
            assert!(report.line.is_some() && report.action.contains("drop it again"), "{report:?}");
            assert_eq!(report.column.as_deref(), Some(column), "{report:?}");
            assert!(report.message.contains(message), "{report:?}");
            assert_eq!(world.deltas().await, 0);
            assert_eq!(world.keys("sources/films/1.0/receipts/").await.len(), 0);
            assert_eq!(world.get(&format!("drop/films/1.0/{name}")).await, None);
            let kept = world.keys("drop-refused/").await;
            let [written, copy] = kept.as_slice() else { panic!("{kept:?}") };
            assert_eq!(world.get(copy).await, Some(file));
            assert!(copy.ends_with(name) && written.ends_with(".report.json"), "{kept:?}");
            let text = String::from_utf8(world.get(written).await.unwrap()).unwrap();
            assert!(text.contains(&format!("\"row\":{middle}")), "{text}");
        }
    }
}

#[tokio::test]
async fn a_bad_row_of_a_columnar_file_is_named_across_batches() {
    use arrow::array::{ArrayRef, Float32Array, RecordBatch};
    let good = columns(&updates(0..100));
    let mut values = vec![0.5_f32; 200];
    values[2 * 57] = f32::NAN;
    let field = good.schema().field_with_name("vector").unwrap().clone();
    let arrow::datatypes::DataType::FixedSizeList(item, _) = field.data_type() else { panic!() };
    let vectors: ArrayRef = Arc::new(
        arrow::array::FixedSizeListArray::try_new(item.clone(), 2, Arc::new(Float32Array::from(values)), None).unwrap(),
    );
    let mut all = good.columns().to_vec();
    all[2] = vectors;
    let bad = RecordBatch::try_new(good.schema(), all).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), bad.schema(), None).unwrap();
    writer.write(&bad).unwrap();
    let parquet_file = writer.into_inner().unwrap();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &bad.schema()).unwrap();
    writer.write(&bad.slice(0, 30)).unwrap();
    writer.write(&bad.slice(30, 70)).unwrap();
    let stream = writer.into_inner().unwrap();
    for (name, file) in [("x.parquet", parquet_file), ("x.arrows", stream)] {
        let world = World::new().await;
        let status = world.drop_file(name, file).await;
        let report = report(&status);
        assert_eq!((report.row, report.column.as_deref()), (Some(58), Some("vector")), "{report:?}");
        assert_eq!(world.deltas().await, 0);
    }
}

#[tokio::test]
async fn files_that_are_not_what_they_seem_are_refused_with_what_was_seen() {
    let rows = updates(0..100);
    let cut = |file: Vec<u8>| file[..file.len() * 2 / 3].to_vec();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty.csv", Vec::new(), "has no header"),
        ("empty.bin", Vec::new(), "is empty"),
        ("x.bin", vec![0; 64], "00 00 00"),
        ("x.parquet", csv(&rows), "does not begin as Parquet"),
        ("x.json", b"[{}]".to_vec(), "must be an object"),
        ("x.csv.bz2", b"BZh9...".to_vec(), "bzip2"),
        ("twice.csv.gz", gzip(&gzip(&csv(&rows))), "gzip inside another compression"),
        ("cut.parquet", cut(parquet(&rows)), "Parquet file is not valid"),
        ("cut.arrow", cut(arrow_file(&rows)), "cannot be read to its end"),
        ("cut.arrows", cut(arrow_stream(&rows)), "cannot be read to its end"),
        ("cut.csv.gz", cut(gzip(&csv(&rows))), "cannot be read"),
        ("cut.csv.zst", cut(zstd(&csv(&rows))), "cannot be read"),
        ("cut.parquet.gz", cut(gzip(&parquet(&rows))), "cannot be read"),
        ("utf8.csv", b"id,title,vector\n1,\xff,\"[1,2]\"\n".to_vec(), "not UTF-8"),
        ("ragged.csv", b"id,title,vector\n1,a\n".to_vec(), "2 cells; the header has 3"),
        ("header.csv", b"id,name,vector\n1,a,\"[1,2]\"\n".to_vec(), "no column 'title'"),
        ("no-vector.ndjson", b"{\"id\": 1, \"title\": \"\"}\n".to_vec(), "no 'vector'"),
        ("three.ndjson", b"{\"id\": 1, \"title\": \"\", \"vector\": [1, 2, 3]}\n".to_vec(), "dimension: 2"),
    ];
    for (name, file, said) in cases {
        let world = World::new().await;
        let status = world.drop_file(name, file).await;
        let report = report(&status);
        assert!(report.message.contains(said), "{name}: {report:?}");
        assert_eq!(world.deltas().await, 0, "{name}");
    }
}

#[tokio::test]
async fn flipped_bytes_never_do_worse_than_a_refusal() {
    let rows = updates(0..60);
    for (name, encode) in FORMATS {
        let good = encode(&rows);
        for at in (0..good.len()).step_by(good.len() / 40) {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            let world = World::new().await;
            // Some bytes do not matter, and some make another valid value.
            world.drop_file(name, bad).await;
        }
    }
}

#[tokio::test]
async fn a_bomb_is_refused() {
    let grown = bomb(80 << 20);
    for (name, bytes) in [
        ("x.ndjson.gz", gzip(&grown)),
        ("x.ndjson.zst", zstd(&grown)),
        ("x.parquet.gz", {
            let mut parquet = b"PAR1".to_vec();
            parquet.extend_from_slice(&grown);
            gzip(&parquet)
        }),
    ] {
        assert!(bytes.len() < 400_000, "{name}: {}", bytes.len());
        let world = World::new().await;
        world.put(&format!("drop/films/1.0/{name}"), bytes).await;
        let folder = DropFolder::new(world.store.clone(), tarn_drop::DropSettings::default());
        let status = settled(folder.process(&format!("drop/films/1.0/{name}"), None, None).await.unwrap());
        assert!(report(&status).message.contains("grow to more than"), "{name}: {:?}", status.settled);
    }
}

#[tokio::test]
async fn what_the_writer_of_an_arrow_file_has_to_do_is_said() {
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::{FileWriter, IpcWriteOptions};
    let batch = columns(&updates(0..100));
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).unwrap();
    let mut writer = FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    let world = World::new().await;
    let status = world.drop_file("x.feather", writer.into_inner().unwrap()).await;
    let report = report(&status);
    assert!(report.message.contains("write them uncompressed or with ZSTD"), "{report:?}");
    assert!(report.action.contains("Write the file anew"), "{report:?}");
}

#[tokio::test]
async fn a_line_without_end_is_refused() {
    let mut line = b"{\"id\": 1, \"title\": \"".to_vec();
    line.resize(17 << 20, b'x');
    let mut record = b"id,title,vector\n1,\"".to_vec();
    record.resize(18 << 20, b'x');
    for (name, bytes) in [("x.ndjson", line), ("x.csv", record)] {
        let world = World::new().await;
        world.put(&format!("drop/films/1.0/{name}"), bytes).await;
        let folder = DropFolder::new(world.store.clone(), tarn_drop::DropSettings::default());
        let status = settled(folder.process(&format!("drop/films/1.0/{name}"), None, None).await.unwrap());
        assert!(report(&status).message.contains("longer than 16777216 bytes"), "{name}: {:?}", status.settled);
        assert_eq!(report(&status).row, Some(1));
    }
}

#[tokio::test]
async fn a_compressed_parquet_file_that_grows_too_large_is_told_what_to_do() {
    let world = World::new().await;
    let mut settings = settings();
    settings.spool_bytes = 1_000;
    world.put("drop/films/1.0/x.parquet.gz", gzip(&parquet(&updates(0..100)))).await;
    let folder = DropFolder::new(world.store.clone(), settings);
    let status = settled(folder.process("drop/films/1.0/x.parquet.gz", None, None).await.unwrap());
    assert!(report(&status).action.contains("uncompressed"), "{:?}", status.settled);
}

#[tokio::test]
async fn an_unknown_data_source_is_a_refusal() {
    let world = World::new().await;
    world.put("drop/films/2.0/x.csv", csv(&updates(0..10))).await;
    let status = settled(world.folder().process("drop/films/2.0/x.csv", None, None).await.unwrap());
    assert!(report(&status).message.contains("Name = films, Version = 2.0"), "{:?}", status.settled);
    assert_eq!(world.keys("drop-refused/films/2.0/").await.len(), 2);

    delete_source(&world.store, &world.source.id).await.unwrap();
    let status = world.drop_file("x.csv", csv(&updates(0..10))).await;
    assert!(report(&status).message.contains("does not exist"), "{:?}", status.settled);
}

#[tokio::test]
async fn a_mapping_that_cannot_be_used_refuses_the_file_and_not_the_mapping() {
    for (mapping, said) in [
        ("{", "EOF"),
        (r#"{"atributes": {}}"#, "unknown field"),
        (r#"{"attributes": {"year": "y"}}"#, "the attribute 'year'; the data source has id, title"),
        (r#"{"isDeleted": "gone"}"#, "no column 'gone'"),
    ] {
        let world = World::new().await;
        world.put("drop/films/1.0/x.csv.mapping.json", mapping).await;
        let status = world.drop_file("x.csv", csv(&updates(0..10))).await;
        assert!(report(&status).message.contains(said), "{mapping}: {:?}", status.settled);
        assert!(world.get("drop/films/1.0/x.csv.mapping.json").await.is_some());
    }
}

#[tokio::test]
async fn keys_that_are_no_files_are_ignored_and_touch_nothing() {
    let world = World::new().await;
    let before = world.keys("").await;
    for key in [
        "",
        "drop",
        "drop/",
        "drop/films/1.0/",
        "drop/films/1.0/folder/",
        "drop/films/1.0//x.csv",
        "drop/films/1.0/../../../sources/films/1.0/source.json",
        "drop/films/1.0/./x.csv",
        "drop/../1.0/x.csv",
        "drop/%2e%2e/1.0/x.csv",
        "drop/fil%6Ds/1.0/x.csv",
        "drop/films/1.0/x\u{0}.csv",
        "drop/films/1.0/_mapping.json",
        "drop/films/1.0/x.csv.mapping.json",
        "sources/films/1.0/source.json",
        "/drop/films/1.0/x.csv",
    ] {
        let outcome = world.folder().process(key, None, None).await.unwrap();
        assert!(matches!(outcome, Outcome::Ignored { .. }), "{key}: {outcome:?}");
    }
    assert_eq!(world.keys("").await, before);
}
