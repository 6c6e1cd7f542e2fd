//! Every format, however compressed, says the same.

use std::sync::Arc;

use tarn_drop::Settled;

use crate::support::{CHUNK, FORMATS, World, columns, csv, gzip, parquet, sequences, updates, zstd};

#[tokio::test]
async fn every_format_and_compression_commits_the_same_updates_in_order() {
    let expected = updates(0..100);
    for (name, encode) in FORMATS {
        for (ending, compress) in
            [("", (|bytes| bytes.to_vec()) as fn(&[u8]) -> Vec<u8>), (".gz", gzip), (".zst", zstd)]
        {
            let world = World::new().await;
            let status = world.drop_file(&format!("{name}{ending}"), compress(&encode(&expected))).await;
            let Settled::Committed { rows, deletions, sequences, .. } = &status.settled else {
                panic!("{name}{ending}: {:?}", status.settled)
            };
            assert_eq!((*rows, *deletions), (100, 14), "{name}{ending}");
            assert_eq!(sequences, &[1, 2, 3], "{name}{ending}");
            assert_eq!(world.updates().await, expected, "{name}{ending}");
            assert!(world.get(&format!("drop/films/1.0/{name}{ending}")).await.is_some(), "{name}{ending}");
        }
    }
}

#[tokio::test]
async fn chunks_end_where_files_do_not_care() {
    for rows in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK] {
        for (name, encode) in FORMATS {
            let world = World::new().await;
            let expected = updates(0..i64::try_from(rows).unwrap());
            let status = world.drop_file(name, encode(&expected)).await;
            assert_eq!(sequences(&status).len(), rows.div_ceil(CHUNK), "{name} {rows}");
            assert_eq!(world.updates().await, expected, "{name} {rows}");
        }
    }
}

#[tokio::test]
async fn a_mapping_names_the_columns() {
    let file = "nr,name,x_0,x_1,gone,title\n5,a,1,2,false,no\n6,,,,true,no\n";
    let mapping =
        r#"{"attributes": {"id": "nr", "title": "name"}, "vector": "x", "isDeleted": "gone", "format": "csv"}"#;
    let expected = "id,title,vector,isDeleted\n5,a,\"[1,2]\",\n6,,,1\n";
    let plain = World::new().await;
    plain.drop_file("x.csv", expected).await;
    for mapping_name in ["a/b/x.txt.mapping.json", "a/b/_mapping.json", "a/_mapping.json", "_mapping.json"] {
        let world = World::new().await;
        world.put(&format!("drop/films/1.0/{mapping_name}"), mapping).await;
        let status = world.drop_file("a/b/x.txt", file).await;
        assert_eq!(sequences(&status), [1], "{mapping_name}");
        assert_eq!(world.updates().await, plain.updates().await, "{mapping_name}");
    }
}

#[tokio::test]
async fn columns_are_mapped_as_rows_are() {
    let world = World::new().await;
    world.put("drop/films/1.0/_mapping.json", r#"{"attributes": {"title": "extra"}}"#).await;
    world.drop_file("x.parquet", parquet(&updates(0..6))).await;
    world.drop_file("x.csv", csv(&updates(0..0))).await;
    let titles: Vec<_> = world.updates().await;
    assert!(format!("{titles:?}").matches("unused").count() == 6, "{titles:?}");
}

#[tokio::test]
async fn columns_that_feed_nothing_may_be_of_any_type() {
    use arrow::array::*;
    use arrow::datatypes::{DataType, Field, Fields, Float32Type, Int32Type, TimeUnit};
    let expected = updates(0..6);
    let batch = columns(&expected);
    let strings = || Arc::new(StringArray::from(vec!["a"; 6])) as ArrayRef;
    let inner = Fields::from(vec![Field::new("s", DataType::Utf8, true), Field::new("b", DataType::Binary, false)]);
    let binary = || Arc::new(BinaryArray::from(vec![&b"b"[..]; 6])) as ArrayRef;
    let mut maps = MapBuilder::new(None, StringBuilder::new(), BinaryBuilder::new());
    (0..6).for_each(|_| maps.append(true).unwrap());
    let titles: DictionaryArray<Int32Type> = batch["title"].as_string::<i32>().iter().collect();
    let more: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::clone(&batch["id"])),
        ("title", Arc::new(titles)),
        ("vector", Arc::clone(&batch["vector"])),
        ("isDeleted", Arc::clone(&batch["isDeleted"])),
        ("struct", Arc::new(StructArray::new(inner, vec![strings(), binary()], None))),
        ("map", Arc::new(maps.finish())),
        ("binary", binary()),
        ("large", Arc::new(LargeStringArray::from(vec!["l"; 6]))),
        ("list", Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(vec![Some(vec![Some(1.0)]); 6]))),
        ("decimal", Arc::new(Decimal128Array::from(vec![1; 6]))),
        ("time", Arc::new(TimestampNanosecondArray::from(vec![1; 6]).with_timezone("Europe/Berlin"))),
        (
            "duration",
            arrow::compute::cast(&Int64Array::from(vec![1; 6]), &DataType::Duration(TimeUnit::Second)).unwrap(),
        ),
    ];
    let batch = RecordBatch::try_from_iter(more).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let world = World::new().await;
    let status = world.drop_file("x.parquet", writer.into_inner().unwrap()).await;
    assert!(matches!(status.settled, Settled::Committed { .. }), "{:?}", status.settled);
    assert_eq!(world.updates().await, expected);
}

#[tokio::test]
async fn names_of_files_are_theirs() {
    let world = World::new().await;
    for name in ["my file +100%.csv", "übung/größe.csv", "%2e%2e.csv", "a=b&c.csv"] {
        let status = world.drop_file(name, csv(&updates(0..3))).await;
        assert_eq!(sequences(&status).len(), 1, "{name}");
        assert_eq!(status.path(), name);
    }
}
