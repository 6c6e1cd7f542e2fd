//! A bucket that keeps versions: events name them, and come in any order.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use tarn_drop::{Outcome, Settled};
use tarn_testkit::{Fault, Operation};

use crate::support::{World, csv, report, sequences, settled, updates};

const KEY: &str = "drop/films/1.0/x.csv";

/// Keeps every version of what is dropped, as S3 does: of those that are written while versions are not kept, named `null`, the
/// last.
#[derive(Debug)]
struct Versioned {
    inner: Arc<dyn ObjectStore>,
    versions: Mutex<HashMap<Path, Vec<(String, Bytes)>>>,
    suspended: bool,
}

impl Versioned {
    /// The version that is meant, if it is there.
    fn found(&self, location: &Path, named: Option<&str>) -> Option<(String, Bytes)> {
        let versions = self.versions.lock();
        let mut versions = versions.get(location)?.iter().rev();
        versions.find(|(name, _)| named.is_none_or(|named| named == name)).cloned()
    }
}

impl fmt::Display for Versioned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Versioned")
    }
}

#[async_trait]
impl ObjectStore for Versioned {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if !location.as_ref().starts_with("drop/") {
            return self.inner.get_opts(location, options).await;
        }
        let gone = || Error::NotFound { path: location.to_string(), source: "no such version".into() };
        if options.version.is_none() {
            // A delete hides the versions.
            self.inner.head(location).await?;
        }
        let (version, bytes) = self.found(location, options.version.as_deref()).ok_or_else(gone)?;
        let meta = ObjectMeta {
            location: location.clone(),
            last_modified: "2026-01-01T00:00:00Z".parse().unwrap(),
            size: bytes.len() as u64,
            e_tag: Some(format!("\"{}\"", bytes.len())),
            version: Some(version),
        };
        options.check_preconditions(&meta)?;
        let range = options.range.map_or(Ok(0..meta.size), |range| range.as_range(meta.size)).unwrap();
        let part = bytes.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap());
        let payload = GetResultPayload::Stream(Box::pin(futures::stream::iter([Ok(part)])));
        Ok(GetResult { payload, meta, range, attributes: object_store::Attributes::default() })
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let mut versions = self.versions.lock().remove(location).unwrap_or_default();
        let name = if self.suspended { "null".to_owned() } else { format!("v{}", versions.len()) };
        versions.retain(|(other, _)| *other != name);
        versions.push((name, Bytes::from(payload.clone())));
        self.versions.lock().insert(location.clone(), versions);
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

async fn world(suspended: bool) -> World {
    World::over(move |inner| Arc::new(Versioned { inner, versions: Mutex::default(), suspended })).await
}

async fn process(world: &World, version: &str) -> Outcome {
    world.folder().process(KEY, Some(version), None).await.unwrap()
}

#[tokio::test]
async fn the_event_of_a_file_that_was_replaced_unread_is_done() {
    let world = world(false).await;
    world.put(KEY, csv(&updates(0..10))).await;
    world.put(KEY, csv(&updates(10..30))).await;
    for version in ["v1", "v0", "v1", "v0"] {
        let outcome = process(&world, version).await;
        assert_eq!(matches!(outcome, Outcome::Ignored { .. }), version == "v0", "{outcome:?}");
    }
    assert_eq!(world.updates().await, updates(10..30));
}

#[tokio::test]
async fn a_file_that_is_replaced_half_way_is_completed_and_so_is_the_new_one() {
    for order in [["v0", "v1"], ["v1", "v0"]] {
        let world = world(false).await;
        world.put(KEY, csv(&updates(0..100))).await;
        for _ in 0..100 {
            world.faults.script(Operation::Put, "timeline/000/00000000000000000002", Fault::UnavailableBefore);
        }
        world.folder().process(KEY, Some("v0"), None).await.unwrap_err();
        world.faults.heal();
        world.put(KEY, csv(&updates(100..130))).await;
        for version in order.into_iter().chain(order) {
            assert!(!sequences(&settled(process(&world, version).await)).is_empty());
        }
        let (old, new) = (updates(0..100), updates(100..130));
        let expected =
            if order[0] == "v0" { [&old[..], &new].concat() } else { [&old[..40], &new, &old[40..]].concat() };
        assert_eq!(world.updates().await, expected, "{order:?}");
    }
}

#[tokio::test]
async fn what_replaces_a_refused_file_stays() {
    let world = world(false).await;
    world.put(KEY, "id,title,vector\nx,a,\"[1,2]\"\n").await;
    world.faults.script(Operation::Put, "drop-refused/", Fault::UnavailableBefore);
    world.folder().process(KEY, Some("v0"), None).await.unwrap_err();
    world.faults.heal();
    world.put(KEY, csv(&updates(0..10))).await;
    let status = settled(process(&world, "v0").await);
    assert!(report(&status).message.contains("'x' is not"), "{:?}", status.settled);
    assert!(matches!(settled(process(&world, "v1").await).settled, Settled::Committed { .. }));
    assert_eq!(world.updates().await, updates(0..10));
}

#[tokio::test]
async fn files_without_versions_are_told_apart_by_what_they_hold() {
    let world = world(true).await;
    for rows in [0..10, 10..30] {
        world.put(KEY, csv(&updates(rows))).await;
        assert!(matches!(
            settled(world.folder().process(KEY, None, None).await.unwrap()).settled,
            Settled::Committed { .. }
        ));
    }
    assert_eq!(world.updates().await, updates(0..30));
}
