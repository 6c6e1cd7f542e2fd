//! What uploads cost: requests are billed one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tarn_model::{AttributeType, AttributeValue, DataPoint, DataSource, DataSourceId, Update, Vector, VectorKind};
use tarn_store::{CountingStore, LatencyStore, Requests, Store, SystemClock, create_source};
use tarn_timeline::{AppendOptions, GroupCommitter, PointBatch, Timeline};

const UPLOADS: i64 = 32;
const PUTS_MOST: u64 = 8;

async fn committer(latency: Duration) -> (GroupCommitter, Requests, Arc<DataSource>) {
    let source = Arc::new(DataSource {
        id: DataSourceId::new("s", "1").expect("an id"),
        vector_dimension: 2,
        vector_kind: VectorKind::Dense,
        attribute_types: BTreeMap::from([("id".to_owned(), AttributeType::Int64)]),
        permanent_attributes: BTreeSet::from(["id".to_owned()]),
        sharders: BTreeMap::new(),
        policy: Default::default(),
    });
    let far = Store::memory().layer(|inner| Arc::new(LatencyStore::new(inner, Arc::new(SystemClock), latency)));
    create_source(&far, &source).await.expect("a data source");
    let (counting, requests) = CountingStore::new(Arc::clone(far.object_store()));
    let committer = GroupCommitter::new(Timeline::open(far.layer(|_| Arc::new(counting)), Arc::clone(&source)));
    // What a process learns once: the head, and that the data source is not deleted.
    committer.submit(batch(&source, -1), AppendOptions::default()).await.expect("a first upload");
    (committer, requests, source)
}

fn batch(source: &Arc<DataSource>, id: i64) -> PointBatch {
    let attributes = BTreeMap::from([("id".to_owned(), AttributeValue::Int64(id))]);
    let point = DataPoint { attributes, vector: Vector::Dense(vec![1.0, 2.0]) };
    PointBatch::from_updates(Arc::clone(source), &[Update::Upsert(point)]).expect("a valid batch")
}

#[tokio::test]
async fn an_uncontended_upload_is_exactly_one_put() {
    let (committer, requests, source) = committer(Duration::ZERO).await;
    for id in 0..20 {
        let before = requests.counts();
        committer.submit(batch(&source, id), AppendOptions::default()).await.expect("an upload");
        let cost = requests.counts().since(&before);
        assert_eq!((cost.puts, cost.total()), (1, 1), "upload {id}: {cost:?}");
    }
}

#[tokio::test]
async fn concurrent_small_uploads_share_puts() {
    let (committer, requests, source) = committer(Duration::from_millis(30)).await;
    let before = requests.counts();
    let uploads = (0..UPLOADS).map(|id| committer.submit(batch(&source, id), AppendOptions::default()));
    let tokens = join_all(uploads).await;
    let cost = requests.counts().since(&before);
    assert!(cost.puts <= PUTS_MOST, "{UPLOADS} uploads took {} puts", cost.puts);
    for token in tokens {
        token.expect("an upload");
    }
    let deltas = committer.timeline().read_after(&Default::default()).await.expect("the timeline");
    let batches: u64 = deltas.iter().map(|delta| delta.batches.len() as u64).sum();
    assert_eq!(batches, UPLOADS as u64 + 1, "every upload is a batch of its own, once");
}
