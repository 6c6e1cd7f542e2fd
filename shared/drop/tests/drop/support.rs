//! A data source, files of updates in every format, and what the timeline holds afterwards.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use arrow::ipc::writer::{FileWriter, StreamWriter};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use tarn_drop::{DropFolder, DropSettings, DropStatus, Outcome, Settled};
use tarn_model::{
    AttributeType, AttributeValue, Attributes, DataPoint, DataSource, DataSourceId, ReadToken, Update, Vector,
    VectorKind,
};
use tarn_store::{Store, create_source};
use tarn_testkit::{FaultStore, Faults, ManualClock};
use tarn_timeline::{Timeline, row_attributes, row_vector};

/// Rows of a chunk in these tests.
pub(crate) const CHUNK: usize = 40;

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) faults: Faults,
    pub(crate) source: Arc<DataSource>,
}

pub(crate) fn films() -> DataSource {
    DataSource {
        id: DataSourceId { name: "films".into(), version: "1.0".into() },
        vector_dimension: 2,
        vector_kind: VectorKind::Dense,
        attribute_types: [("id".to_owned(), AttributeType::Int64), ("title".to_owned(), AttributeType::String)].into(),
        permanent_attributes: ["id".to_owned()].into(),
        sharders: BTreeMap::new(),
        policy: Default::default(),
    }
}

/// Chunks of [`CHUNK`] rows, blocks that cut rows in the middle.
pub(crate) fn settings() -> DropSettings {
    let mut settings = DropSettings::default();
    // A point of `films` is taken to have 136 bytes.
    settings.chunk_bytes = CHUNK * 136;
    settings.block_bytes = 1_000;
    settings
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::over(|store| store).await
    }

    /// Over a store that is seen through a decorator.
    pub(crate) async fn over(decorate: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        let clock = Arc::new(ManualClock::new());
        let mut handle = None;
        let store = Store::memory().with_clock(clock).layer(decorate).layer(|below| {
            let (store, faults) = FaultStore::new(below);
            handle = Some(faults);
            Arc::new(store)
        });
        let source = Arc::new(films());
        create_source(&store, &source).await.unwrap();
        Self { store, faults: handle.unwrap(), source }
    }

    pub(crate) fn folder(&self) -> DropFolder {
        DropFolder::new(self.store.clone(), settings())
    }

    /// Puts an object, past the faults of the process under test.
    pub(crate) async fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        let path = Path::parse(key).unwrap();
        self.store.object_store().put(&path, bytes.into().into()).await.unwrap();
    }

    pub(crate) async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let path = Path::parse(key).unwrap();
        match self.store.object_store().get(&path).await {
            Ok(found) => Some(found.bytes().await.unwrap().to_vec()),
            Err(object_store::Error::NotFound { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Removes what is below a prefix, past the faults, as garbage collection does.
    pub(crate) async fn remove(&self, prefix: &str) {
        for key in self.keys(prefix).await {
            self.store.object_store().delete(&Path::parse(key).unwrap()).await.unwrap();
        }
    }

    /// Keys below a prefix.
    pub(crate) async fn keys(&self, prefix: &str) -> Vec<String> {
        let all = self.store.list(&tarn_model::KeyPrefix::All).await.unwrap();
        all.into_iter().map(|listed| listed.path).filter(|path| path.starts_with(prefix)).collect()
    }

    /// Drops a file for `films` and processes it to its end.
    pub(crate) async fn drop_file(&self, name: &str, bytes: impl Into<Vec<u8>>) -> DropStatus {
        let key = format!("drop/films/1.0/{name}");
        self.put(&key, bytes).await;
        settled(self.folder().process(&key, None, None).await.unwrap())
    }

    /// Everything in the timeline, in order.
    pub(crate) async fn updates(&self) -> Vec<Update> {
        let timeline = Timeline::open(self.store.clone(), Arc::clone(&self.source));
        let deltas = timeline.read_after(&ReadToken::default()).await.unwrap();
        let mut updates = Vec::new();
        for delta in deltas {
            for row in 0..delta.rows() {
                let attributes = row_attributes(&delta.data, &self.source, row);
                updates.push(match row_vector(&delta.data, &self.source, row) {
                    Some(vector) => Update::Upsert(DataPoint { attributes, vector }),
                    None => Update::Delete(attributes),
                });
            }
        }
        updates
    }

    pub(crate) async fn deltas(&self) -> usize {
        self.keys("sources/films/1.0/timeline/").await.len()
    }

    pub(crate) fn now(&self) -> Duration {
        self.store.clock().monotonic()
    }
}

pub(crate) fn settled(outcome: Outcome) -> DropStatus {
    match outcome {
        Outcome::Settled(status) => *status,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn report(status: &DropStatus) -> &tarn_drop::DropReport {
    match &status.settled {
        Settled::Refused(report) => report,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn sequences(status: &DropStatus) -> &[u64] {
    match &status.settled {
        Settled::Committed { sequences, .. } => sequences,
        other => panic!("{other:?}"),
    }
}

/// Updates of a file: every seventh deletes a point that came before.
pub(crate) fn updates(rows: std::ops::Range<i64>) -> Vec<Update> {
    rows.map(|row| {
        let id = |id: i64| ("id".to_owned(), AttributeValue::Int64(id));
        if row % 7 == 6 {
            return Update::Delete([id(row - 3)].into());
        }
        let title = ("title".to_owned(), AttributeValue::String(format!("film \"{row}\", ü")));
        let attributes: Attributes = [id(row), title].into();
        // Binary fractions: the same in every format.
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        Update::Upsert(DataPoint { attributes, vector: Vector::Dense(vec![row as f32 / 8.0, -0.5]) })
    })
    .collect()
}

struct Row {
    id: i64,
    title: Option<String>,
    vector: Option<Vec<f32>>,
}

fn rows(updates: &[Update]) -> Vec<Row> {
    let id = |attributes: &Attributes| match attributes["id"] {
        AttributeValue::Int64(id) => id,
        _ => unreachable!(),
    };
    let row = |update: &Update| match update {
        Update::Delete(attributes) => Row { id: id(attributes), title: None, vector: None },
        Update::Upsert(point) => {
            let Vector::Dense(vector) = &point.vector else { unreachable!() };
            let title = point.attributes["title"].to_string();
            Row { id: id(&point.attributes), title: Some(title), vector: Some(vector.clone()) }
        }
    };
    updates.iter().map(row).collect()
}

/// As the HTTP API has it.
pub(crate) fn ndjson(updates: &[Update]) -> Vec<u8> {
    let line = |row: Row| {
        let mut attributes = vec![serde_json::json!({"key": "id", "value": {"int64": row.id}})];
        if let Some(title) = row.title {
            attributes.push(serde_json::json!({"key": "title", "value": {"string": title}}));
        }
        let vector = row.vector.map(|vector| serde_json::json!({"isSparse": false, "coordinates": vector}));
        let deleted = vector.is_none();
        format!("{}\n", serde_json::json!({"attributes": attributes, "vector": vector, "isDeleted": deleted}))
    };
    rows(updates).into_iter().map(line).collect::<String>().into_bytes()
}

/// A property per attribute, blank lines between some rows, no line end at the end.
pub(crate) fn flat_ndjson(updates: &[Update]) -> Vec<u8> {
    let line = |row: Row| match row.vector {
        Some(vector) => serde_json::json!({"title": row.title, "id": row.id, "vector": vector}).to_string(),
        None => serde_json::json!({"id": row.id, "isDeleted": true}).to_string() + "\n",
    };
    rows(updates).into_iter().map(line).collect::<Vec<_>>().join("\n").into_bytes()
}

pub(crate) fn csv(updates: &[Update]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["id", "title", "vector", "isDeleted"]).unwrap();
    for row in rows(updates) {
        let vector = row.vector.map(|vector| serde_json::json!(vector).to_string());
        let deleted = vector.is_none().to_string();
        let (title, vector) = (row.title.unwrap_or_default(), vector.unwrap_or_default());
        writer.write_record([row.id.to_string(), title, vector, deleted]).unwrap();
    }
    writer.into_inner().unwrap()
}

pub(crate) fn columns(updates: &[Update]) -> RecordBatch {
    let rows = rows(updates);
    let ids: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.id)).collect::<Int64Array>());
    let titles: ArrayRef = Arc::new(rows.iter().map(|row| row.title.clone()).collect::<StringArray>());
    let deleted: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.vector.is_none())).collect::<BooleanArray>());
    let values = rows.iter().flat_map(|row| row.vector.clone().unwrap_or_else(|| vec![0.0, 0.0]));
    let values: ArrayRef = Arc::new(Float32Array::from_iter_values(values));
    let field = Arc::new(Field::new("item", DataType::Float32, true));
    let vectors: ArrayRef = Arc::new(FixedSizeListArray::try_new(field, 2, values, None).unwrap());
    let extra: ArrayRef = Arc::new(rows.iter().map(|_| Some("unused")).collect::<StringArray>());
    RecordBatch::try_from_iter([
        ("id", ids),
        ("title", titles),
        ("vector", vectors),
        ("isDeleted", deleted),
        ("extra", extra),
    ])
    .unwrap()
}

/// In row groups and pages that end nowhere near a chunk.
pub(crate) fn parquet(updates: &[Update]) -> Vec<u8> {
    let batch = columns(updates);
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(33))
        .set_data_page_row_count_limit(10)
        .set_write_batch_size(5)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn batches(updates: &[Update]) -> Vec<RecordBatch> {
    let batch = columns(updates);
    (0..batch.num_rows()).step_by(29).map(|at| batch.slice(at, 29.min(batch.num_rows() - at))).collect()
}

pub(crate) fn arrow_file(updates: &[Update]) -> Vec<u8> {
    let batch = columns(updates);
    let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    batches(updates).iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

pub(crate) fn arrow_stream(updates: &[Update]) -> Vec<u8> {
    let batch = columns(updates);
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    batches(updates).iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

pub(crate) type Encode = fn(&[Update]) -> Vec<u8>;

/// Every format, under the names that tell them.
pub(crate) const FORMATS: [(&str, Encode); 6] = [
    ("a.ndjson", ndjson),
    ("b.jsonl", flat_ndjson),
    ("c.csv", csv),
    ("d.parquet", parquet),
    ("e.arrow", arrow_file),
    ("f.arrows", arrow_stream),
];
