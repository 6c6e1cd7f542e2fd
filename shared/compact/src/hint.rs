//! The hint of an index (see [`tarn_model::Hint`]): written after each manifest, and again where it is found to be stale.
//!
//! It is a cache, so everything here is best effort: what fails is logged, the manifest stands, and a reader without a hint
//! asks for what the hint would have told. Two builders may write at once; the hint of the older manifest may win, and is
//! then stale until somebody looks at it again.
//!
//! Not here: deleting it, which is garbage collection's.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tarn_model::{DataSource, Hint, Index, IndexId, KeyPrefix, Manifest, ObjectKey, ObjectRef, limits};
use tarn_store::{latest_manifest, load_source};

use crate::build::catalog_key;
use crate::context::Context;
use crate::error::CompactError;

/// Catalogs that are read at once.
const CONCURRENCY: usize = 16;

/// Writes the hint of a manifest that was published, unless a newer one is there already.
pub(crate) async fn write(context: &Context, source: &DataSource, manifest: &Manifest) {
    if let Err(error) = try_write(context, source, manifest).await {
        tracing::warn!(index = %manifest.index, %error, "the hint beside the manifests was not written; searches do without");
    }
}

/// Writes the hint of the newest manifest anew, unless it is there: its builder may have died before it wrote one.
pub(crate) async fn mend(context: &Context, source: &DataSource, newest: &Manifest) {
    // A hint's ETag is not looked at: asking for the manifest's takes a listing, and who wrote the hint has made one.
    let found = read(context, &newest.index).await;
    if !found.is_some_and(|hint| hint.manifest == *newest && hint.data_source == *source) {
        write(context, source, newest).await;
    }
}

/// As [`mend`], for who has listed the index: a bucket that was copied has other ETags.
pub(crate) async fn mend_listed(context: &Context, index: &Index, newest: &ObjectKey, e_tag: Option<&str>) {
    // Where no ETags are told there are no hints.
    if e_tag.is_none() || read(context, &index.id).await.is_some_and(|hint| hint.is_of(newest, e_tag)) {
        return;
    }
    let (store, id) = (&context.store, &index.id);
    match tokio::try_join!(load_source(store, &index.data_source), latest_manifest(store, id, None)) {
        Ok((Some(source), Some(manifest))) => write(context, &source, &manifest).await,
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(index = %id, %error, "the hint beside the manifests was not mended; searches do without");
        }
    }
}

/// The hint; `None` when there is none that can be read.
async fn read(context: &Context, index: &IndexId) -> Option<Hint> {
    let key = ObjectKey::Hint(index.clone());
    let found = match context.store.get(&key).await {
        Ok(found) => found?,
        Err(error) => {
            tracing::warn!(%index, %error, "the hint beside the manifests was not read");
            return None;
        }
    };
    Hint::parse(&key.render(), &found, index).inspect_err(|error| tracing::warn!(%index, %error, "no hint")).ok()
}

async fn try_write(context: &Context, source: &DataSource, manifest: &Manifest) -> Result<(), CompactError> {
    // By the request that readers make: they compare texts.
    let listed = context.store.first(&KeyPrefix::Manifests(manifest.index.clone())).await?;
    let of_newest = listed.filter(|listed| listed.key == Some(manifest.key()));
    let Some(manifest_e_tag) = of_newest.and_then(|listed| listed.e_tag) else {
        // There is a newer manifest, whose builder writes the hint; or the store tells no ETags, and readers take no hints.
        return Ok(());
    };
    let mut catalogs = BTreeMap::new();
    let objects: Vec<ObjectRef> = manifest.shards.iter().filter_map(|entry| entry.catalog.clone()).collect();
    if objects.iter().fold(0, |sum: u64, object| sum.saturating_add(object.bytes)) <= limits::HINT_CATALOG_BYTES {
        let key = catalog_key(&manifest.index);
        let read = objects.into_iter().map(|object| (key(object.id), object)).map(|(key, object)| async move {
            let bytes = context.read(&key, &object).await?;
            Ok::<_, CompactError>((object.id, bytes.to_vec()))
        });
        catalogs = futures::stream::iter(read).buffered(CONCURRENCY).try_collect().await?;
    }
    let hint = Hint { manifest: manifest.clone(), manifest_e_tag, data_source: source.clone(), catalogs };
    match hint.encode() {
        Some(bytes) => Ok(context.store.overwrite(&hint.key(), Bytes::from(bytes)).await?),
        None => {
            tracing::debug!(index = %manifest.index, "the manifest is too large for a hint");
            Ok(())
        }
    }
}
