//! The live set equals the fold of all updates, whatever part of it is in checkpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::{Schema, UInt64Type};
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;
use tarn_model::{
    Boundary, Checkpoint, CheckpointFile, DataSource, FORMAT, ObjectKey, ObjectRef, PointKey, ReadToken, Update,
};
use tarn_store::Store;
use tarn_timeline::{
    LiveOptions, PointBatch, Timeline, TimelineError, VERSION_COLUMN, checkpoint_schema, live, pack_version,
    row_attributes, row_vector, writer_properties,
};
use ulid::Ulid;

use crate::common::{any_updates, batch, delete, dense_source, id, sparse_source, upsert};

pub(crate) type Fold = BTreeMap<Vec<u8>, (u64, Update)>;

pub(crate) fn fold(source: &DataSource, deltas: &[Vec<Update>]) -> Fold {
    let mut fold = Fold::new();
    for (sequence, updates) in (1..).zip(deltas) {
        for (row, update) in (0..).zip(updates) {
            match update {
                Update::Upsert(point) => {
                    let key = PointKey::encode(source, &point.attributes).expect("a key").0;
                    fold.insert(key, (pack_version(sequence, row), update.clone()));
                }
                Update::Delete(attributes) => {
                    fold.remove(&PointKey::encode(source, attributes).expect("a key").0);
                }
            }
        }
    }
    fold
}

async fn write_file(store: &Store, source: &DataSource, n: u128, batch: RecordBatch) -> ObjectRef {
    let properties = writer_properties(source).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).expect("writes");
    writer.write(&batch).expect("writes");
    let bytes = writer.into_inner().expect("writes");
    let reference = ObjectRef { id: id(n), bytes: bytes.len() as u64, crc32c: crc32c::crc32c(&bytes) };
    let key = ObjectKey::CheckpointData { source: source.id.clone(), id: reference.id };
    store.put_unique(&key, bytes.into()).await.expect("written");
    reference
}

/// A checkpoint of the fold of the first `watermark` deltas. Its file also has the rows of `dead`, marked as deleted.
pub(crate) async fn write_checkpoint(
    store: &Store,
    source: &Arc<DataSource>,
    generation: u64,
    watermark: u64,
    fold: &Fold,
    dead: &[Update],
) {
    let mut rows: Vec<(bool, u64, Update)> = dead.iter().map(|update| (true, 0, update.clone())).collect();
    rows.extend(fold.values().map(|(version, update)| (false, *version, update.clone())));
    // Dead rows between live ones.
    rows.sort_by_key(|(_, version, update)| (version % 3, format!("{update:?}")));
    let updates: Vec<Update> = rows.iter().map(|(_, _, update)| update.clone()).collect();
    let points = batch(source, &updates);
    let mut columns: Vec<ArrayRef> = points.record_batch().columns().to_vec();
    columns[1] = Arc::new(rows.iter().map(|(_, version, _)| *version).collect::<UInt64Array>());
    let data = RecordBatch::try_new(checkpoint_schema(source), columns).expect("fits");
    let data = write_file(store, source, u128::from(generation) * 10, data).await;
    let deleted: UInt64Array = (0..).zip(&rows).filter(|(_, (dead, ..))| *dead).map(|(row, _)| row).collect();
    let deleted_rows = deleted.values().len() as u64;
    let deleted = match deleted_rows {
        0 => None,
        _ => {
            let batch = RecordBatch::try_from_iter([("row", Arc::new(deleted) as ArrayRef)]).expect("fits");
            Some(write_file(store, source, u128::from(generation) * 10 + 1, batch).await)
        }
    };
    let checkpoint = Checkpoint {
        format: FORMAT,
        source: source.id.clone(),
        generation,
        commit_id: Ulid::from(9_u128),
        watermark: ReadToken::single(watermark),
        created_ms: 0,
        rows: fold.len() as u64,
        files: vec![CheckpointFile { data, rows: rows.len() as u64, deleted, deleted_rows }],
    };
    let key = ObjectKey::Checkpoint { source: source.id.clone(), generation };
    let bytes = serde_json::to_vec(&checkpoint).expect("serializes");
    store.create(&key, bytes.into(), |_| true).await.expect("written");
}

async fn read(
    store: &Store,
    source: &Arc<DataSource>,
    options: LiveOptions,
) -> Result<(ReadToken, Fold), TimelineError> {
    let live = live(store, Arc::clone(source), options).await?;
    assert_eq!(live.schema, checkpoint_schema(source));
    let batches: Vec<RecordBatch> = live.batches.try_collect().await?;
    let mut found = Fold::new();
    for batch in &batches {
        let versions = batch.column_by_name(VERSION_COLUMN).expect("a column").as_primitive::<UInt64Type>();
        for row in 0..batch.num_rows() {
            let attributes = row_attributes(batch, source, row);
            let vector = row_vector(batch, source, row).expect("a live row has a vector");
            let key = batch.column(0).as_binary::<i32>().value(row).to_vec();
            let update = Update::Upsert(tarn_model::DataPoint { attributes, vector });
            assert!(found.insert(key, (versions.value(row), update)).is_none(), "each point once");
        }
    }
    Ok((live.at, found))
}

async fn append_all(store: &Store, source: &Arc<DataSource>, deltas: &[Vec<Update>]) {
    let timeline = Timeline::open(store.clone(), Arc::clone(source));
    for updates in deltas {
        timeline.append(batch(source, updates), Default::default()).await.expect("appends");
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("starts").block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_live_set_is_the_fold((source, updates) in any_updates(30), cut in 0_usize..8, batch_rows in 1_usize..7) {
        let deltas: Vec<Vec<Update>> = updates.chunks(5).map(<[Update]>::to_vec).collect();
        let cut = cut.min(deltas.len());
        block_on(async {
            let store = Store::memory();
            append_all(&store, &source, &deltas).await;
            if cut > 0 {
                write_checkpoint(&store, &source, 1, cut as u64, &fold(&source, &deltas[..cut]), &[]).await;
            }
            let options = LiveOptions { batch_rows, ..Default::default() };
            let (at, found) = read(&store, &source, options).await.expect("readable");
            assert_eq!(at, ReadToken::single(deltas.len() as u64));
            assert_eq!(found, fold(&source, &deltas));
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_rows_of_a_checkpoint_are_left_out_on_any_store() {
    for source in [dense_source(), sparse_source()] {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = Store::disk(directory.path()).expect("opens");
        for store in [
            Store::memory(),
            disk.clone(),
            Store::disk(&directory.path().join("b")).expect("opens").without_local_files(),
        ] {
            let first: Vec<Update> = (0..20).map(|id| upsert(&source, id, id as f32)).collect();
            let second = vec![upsert(&source, 3, 33.0), delete(4), upsert(&source, 99, 9.0), delete(99)];
            let deltas = [first, second];
            append_all(&store, &source, &deltas).await;
            let dead: Vec<Update> = (50..57).map(|id| upsert(&source, id, 0.0)).collect();
            write_checkpoint(&store, &source, 1, 1, &fold(&source, &deltas[..1]), &dead).await;
            let (_, found) = read(&store, &source, LiveOptions::default()).await.expect("readable");
            assert_eq!(found, fold(&source, &deltas));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_live_set_of_an_earlier_moment() {
    let source = dense_source();
    let store = Store::memory();
    let deltas: Vec<Vec<Update>> =
        (0..6).map(|n| vec![upsert(&source, n, 0.0), upsert(&source, 100, n as f32), delete(n - 2)]).collect();
    append_all(&store, &source, &deltas).await;
    write_checkpoint(&store, &source, 1, 2, &fold(&source, &deltas[..2]), &[]).await;
    write_checkpoint(&store, &source, 2, 4, &fold(&source, &deltas[..4]), &[]).await;
    for at in 0..=7 {
        let options = LiveOptions { at: Some(ReadToken::single(at)), ..Default::default() };
        let (found_at, found) = read(&store, &source, options).await.expect("readable");
        let expected = at.min(6);
        assert_eq!(found_at, ReadToken::single(expected));
        assert_eq!(found, fold(&source, &deltas[..expected as usize]), "at {at}");
    }
    // The deltas before the second checkpoint are collected, and the first checkpoint with them.
    let boundary = Boundary {
        format: FORMAT,
        number: 1,
        commit_id: Ulid::from(1_u128),
        timeline: ReadToken::single(4),
        generation: 1,
    };
    let key = ObjectKey::SourceBoundary { source: source.id.clone(), number: 1 };
    store.create(&key, serde_json::to_vec(&boundary).expect("serializes").into(), |_| true).await.expect("written");
    store.delete(&ObjectKey::Checkpoint { source: source.id.clone(), generation: 1 }).await.expect("deleted");
    for sequence in 1..=4 {
        store.delete(&ObjectKey::Delta { source: source.id.clone(), lane: 0, sequence }).await.expect("deleted");
    }
    let old = LiveOptions { at: Some(ReadToken::single(3)), ..Default::default() };
    let error = read(&store, &source, old).await.expect_err("collected");
    assert!(matches!(error, TimelineError::Collected { .. }), "{error}");
    let (_, found) = read(&store, &source, LiveOptions::default()).await.expect("readable");
    assert_eq!(found, fold(&source, &deltas));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_columns_alone() {
    let source = dense_source();
    let store = Store::memory();
    append_all(&store, &source, &[vec![upsert(&source, 1, 0.0), upsert(&source, 2, 0.0)], vec![delete(1)]]).await;
    write_checkpoint(
        &store,
        &source,
        1,
        1,
        &fold(&source, &[vec![upsert(&source, 1, 0.0), upsert(&source, 2, 0.0)]]),
        &[],
    )
    .await;
    let options = LiveOptions { columns: Some(vec!["title".into(), "id".into()]), ..Default::default() };
    let live = live(&store, Arc::clone(&source), options).await.expect("starts");
    let names = |schema: &Schema| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    assert_eq!(names(&live.schema), ["id", "title"]);
    let batches: Vec<RecordBatch> = live.batches.try_collect().await.expect("readable");
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    assert_eq!(batches[0].schema(), live.schema);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_checkpoint_file_is_corrupt() {
    let source = dense_source();
    let directory = tempfile::tempdir().expect("a directory");
    for store in [Store::disk(directory.path()).expect("opens"), Store::memory()] {
        let deltas = [(0..20).map(|id| upsert(&source, id, id as f32)).collect::<Vec<_>>()];
        append_all(&store, &source, &deltas).await;
        write_checkpoint(&store, &source, 1, 1, &fold(&source, &deltas), &[]).await;
        let key = ObjectKey::CheckpointData { source: source.id.clone(), id: id(10) };
        let mut bytes = store.get(&key).await.expect("reads").expect("is there").to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        store.delete(&key).await.expect("deleted");
        store.put_unique(&key, bytes.into()).await.expect("written");
        let error = read(&store, &source, LiveOptions::default()).await.expect_err("damaged");
        assert!(error.to_string().contains(&format!("{} is corrupt at checksum", key.render())), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_may_go_away() {
    let source = dense_source();
    let store = Store::memory();
    append_all(&store, &source, &[(0..100).map(|id| upsert(&source, id, 0.0)).collect()]).await;
    let mut live =
        live(&store, Arc::clone(&source), LiveOptions { batch_rows: 1, ..Default::default() }).await.expect("starts");
    let first = live.batches.try_next().await.expect("readable").expect("a batch");
    assert_eq!(first.num_rows(), 1);
    drop(live);
    let whole = PointBatch::from_updates(source, &[]).expect("an empty batch is fine");
    assert!(whole.is_empty());
}
