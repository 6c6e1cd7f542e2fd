//! Definitions, and which root is newest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use object_store::ObjectStoreExt;
use tarn_model::{
    AttributeType, Boundary, DataSource, FORMAT, IndexId, Manifest, ObjectKey, ReadToken, VectorKind, limits,
};
use tarn_store::{
    CountingStore, Defined, Store, StoreError, create_source, delete_source, is_source_deleted, latest_manifest,
    latest_source_boundary, list_sources, load_source,
};

use crate::source;

fn definition(name: &str, dimension: u32) -> DataSource {
    DataSource {
        id: source(name),
        vector_dimension: dimension,
        vector_kind: VectorKind::Dense,
        attribute_types: BTreeMap::from([("id".to_owned(), AttributeType::Int64)]),
        permanent_attributes: BTreeSet::from(["id".to_owned()]),
        sharders: BTreeMap::new(),
        policy: Default::default(),
    }
}

#[tokio::test]
async fn definitions_are_created_once() {
    let store = Store::memory();
    assert_eq!(create_source(&store, &definition("a", 2)).await.expect("create"), Defined::Created);
    assert_eq!(create_source(&store, &definition("a", 2)).await.expect("create"), Defined::Same);
    assert_eq!(create_source(&store, &definition("a", 3)).await.expect("create"), Defined::Differs);
    let loaded = load_source(&store, &source("a")).await.expect("load");
    assert_eq!(loaded.as_deref(), Some(&definition("a", 2)));
    assert_eq!(load_source(&store, &source("b")).await.expect("load"), None);
}

#[tokio::test]
async fn listing_definitions_does_not_list_their_data() {
    let (counting, requests) = CountingStore::new(Arc::clone(Store::memory().object_store()));
    let store = Store::memory().layer(|_| Arc::new(counting));
    for name in ["b", "größe/../x", "a"] {
        create_source(&store, &definition(name, 2)).await.expect("create");
        for sequence in 1..=700 {
            let key = ObjectKey::Delta { source: source(name), lane: 0, sequence };
            store.put_unique(&key, "d".into()).await.expect("put");
        }
    }
    let before = requests.counts();
    let names: Vec<_> = list_sources(&store).await.expect("list").iter().map(|s| s.id.name.clone()).collect();
    assert_eq!(names, ["a", "b", "größe/../x"]);
    assert_eq!(requests.counts().since(&before).lists, 4, "one for the names, one for each name's versions");
}

#[tokio::test]
async fn a_deleted_definition_is_gone_and_its_name_is_not_free() {
    let store = Store::memory();
    assert!(!delete_source(&store, &source("a")).await.expect("delete"), "there is none");
    create_source(&store, &definition("a", 2)).await.expect("create");
    assert!(delete_source(&store, &source("a")).await.expect("delete"));
    assert!(!delete_source(&store, &source("a")).await.expect("delete"), "already");
    assert!(is_source_deleted(&store, &source("a")).await.expect("marker"));
    assert_eq!(load_source(&store, &source("a")).await.expect("load"), None);
    assert!(list_sources(&store).await.expect("list").is_empty());
    assert_eq!(create_source(&store, &definition("a", 2)).await.expect("create"), Defined::Deleted);
}

#[tokio::test]
async fn a_definition_that_is_not_what_its_key_says_is_corrupt() {
    let store = Store::memory();
    let other = serde_json::to_vec(&definition("other", 2)).expect("JSON");
    for bytes in [b"not json".to_vec(), other, b"{}".to_vec(), Vec::new()] {
        store.put_unique(&ObjectKey::Source(source("a")), bytes.into()).await.expect("put");
        let corrupt = load_source(&store, &source("a")).await;
        assert!(matches!(&corrupt, Err(StoreError::Corrupt(c)) if c.object.ends_with("source.json")), "{corrupt:?}");
    }
}

#[tokio::test]
async fn what_was_found_is_made_durable_where_there_are_files() {
    let key = ObjectKey::Source(source("a"));
    Store::memory().make_durable(&key).await.expect("nothing to do");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disk = Store::disk(directory.path()).expect("a store");
    disk.put_unique(&key, "x".into()).await.expect("put");
    disk.make_durable(&key).await.expect("synced");
    let absent = disk.make_durable(&ObjectKey::Source(source("b"))).await;
    assert!(matches!(absent, Err(StoreError::Unavailable { .. })), "{absent:?}");
}

/// What a file system shows that does not tell `A` from `a`: the definition of `A` at the place of `a`.
#[tokio::test]
async fn a_name_that_differs_in_case_alone_is_another_name() {
    let store = Store::memory();
    let upper = serde_json::to_vec(&definition("A", 2)).expect("JSON");
    store.put_unique(&ObjectKey::Source(source("a")), upper.into()).await.expect("put");
    assert_eq!(load_source(&store, &source("a")).await.expect("load"), None);
    assert_eq!(create_source(&store, &definition("a", 2)).await.expect("create"), Defined::Differs);
    assert!(!delete_source(&store, &source("a")).await.expect("delete"), "A is not deleted under the name of a");
    assert!(!is_source_deleted(&store, &source("a")).await.expect("marker"));
}

#[tokio::test]
async fn a_definition_that_is_corrupt_can_be_deleted() {
    let store = Store::memory();
    store.put_unique(&ObjectKey::Source(source("a")), "{".into()).await.expect("put");
    assert!(delete_source(&store, &source("a")).await.expect("delete"));
}

fn index() -> IndexId {
    IndexId::new("i", "1").expect("an id")
}

async fn put_manifest(store: &Store, generation: u64) {
    let manifest = Manifest {
        format: FORMAT,
        index: index(),
        generation,
        commit_id: ulid::Ulid(u128::from(generation)),
        watermark: ReadToken::single(generation.min(limits::SEQUENCE)),
        created_ms: 0,
        rows: 0,
        shards: Vec::new(),
    };
    let key = ObjectKey::Manifest { index: index(), generation };
    store.put_unique(&key, serde_json::to_vec(&manifest).expect("JSON").into()).await.expect("put");
}

#[tokio::test]
async fn the_newest_manifest_is_found_with_and_without_a_hint() {
    let (counting, requests) = CountingStore::new(Arc::clone(Store::memory().object_store()));
    let store = Store::memory().layer(|_| Arc::new(counting));
    let latest =
        async |hint| latest_manifest(&store, &index(), hint).await.expect("latest").map(|manifest| manifest.generation);
    assert_eq!(latest(None).await, None);
    assert_eq!(latest(Some(0)).await, None);
    for generation in 1..=13 {
        put_manifest(&store, generation).await;
        let before = requests.counts();
        assert_eq!(latest(None).await, Some(generation));
        let cold = requests.counts().since(&before);
        assert_eq!((cold.lists, cold.gets), (1, 1), "a cold start");
    }
    for behind in 0..13 {
        assert_eq!(latest(Some(behind)).await, Some(13), "from {behind}");
    }
    let before = requests.counts();
    assert_eq!(latest(Some(13)).await, None, "nothing is newer");
    let warm = requests.counts().since(&before);
    assert_eq!((warm.gets, warm.total()), (1, 1), "a warm reader asks once");
}

#[tokio::test]
async fn foreign_objects_among_the_manifests_are_passed_over() {
    let store = Store::memory();
    let foreign = store.path(&ObjectKey::Manifest { index: index(), generation: 1 });
    for name in [".DS_Store", "zzz"] {
        let path = object_store::path::Path::from(foreign.as_ref().replace("18446744073709551614.json", name));
        store.object_store().put(&path, "x".into()).await.expect("put");
    }
    assert_eq!(latest_manifest(&store, &index(), None).await.expect("latest"), None);
    put_manifest(&store, 1).await;
    put_manifest(&store, 2).await;
    let found = latest_manifest(&store, &index(), None).await.expect("latest");
    assert_eq!(found.map(|manifest| manifest.generation), Some(2));
}

#[tokio::test]
async fn looking_for_newer_manifests_ends_at_the_last_number() {
    let store = Store::memory();
    put_manifest(&store, u64::MAX).await;
    let found = latest_manifest(&store, &index(), Some(u64::MAX - 1)).await.expect("latest");
    assert_eq!(found.map(|manifest| manifest.generation), Some(u64::MAX));
}

#[tokio::test]
async fn a_manifest_of_another_generation_is_corrupt() {
    let store = Store::memory();
    put_manifest(&store, 4).await;
    let bytes = store.get(&ObjectKey::Manifest { index: index(), generation: 4 }).await.expect("get").expect("there");
    store.put_unique(&ObjectKey::Manifest { index: index(), generation: 5 }, bytes).await.expect("put");
    for hint in [None, Some(4)] {
        let corrupt = latest_manifest(&store, &index(), hint).await;
        assert!(matches!(corrupt, Err(StoreError::Corrupt(_))), "{corrupt:?}");
    }
}

#[tokio::test]
async fn boundaries_are_checked_against_their_key() {
    let store = Store::memory();
    let boundary = Boundary {
        format: FORMAT,
        number: 1,
        commit_id: ulid::Ulid(1),
        timeline: ReadToken::single(40),
        generation: 3,
    };
    let put = async |number, boundary: &Boundary| {
        let key = ObjectKey::SourceBoundary { source: source("a"), number };
        store.put_unique(&key, serde_json::to_vec(boundary).expect("JSON").into()).await.expect("put");
    };
    put(1, &boundary).await;
    let found = latest_source_boundary(&store, &source("a"), None).await.expect("latest");
    assert_eq!(found.as_ref(), Some(&boundary));
    for wrong in [Boundary { format: 99, number: 2, ..boundary.clone() }, boundary.clone()] {
        put(2, &wrong).await;
        let corrupt = latest_source_boundary(&store, &source("a"), Some(1)).await;
        assert!(matches!(corrupt, Err(StoreError::Corrupt(_))), "{corrupt:?}");
    }
}
