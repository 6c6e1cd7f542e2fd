//! Definitions of data sources and indices: create, load, list, delete.
//!
//! `names-stay-in-their-prefix`, on file systems too that do not tell `A` from `a` (the usual ones of macOS and Windows): a
//! definition counts only under the very name that stands in it. So there `a` does not exist while `A` does, cannot be
//! created beside it, and deleting it does not touch `A`.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tarn_model::{Corrupt, DataSource, DataSourceId, Index, IndexId, ObjectKey};

use crate::commit::Created;
use crate::error::StoreError;
use crate::store::Store;

/// The name of a data source's definition below its version.
const SOURCE: &str = "source.json";
/// Requests under way at once while listing.
const CONCURRENCY: usize = 16;

/// What became of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defined {
    /// It is new.
    Created,
    /// The same definition was there; nothing changed.
    Same,
    /// Another definition has this name and version; nothing changed. Definitions are immutable: use a new version.
    Differs,
    /// It was deleted. The name and version are free again when garbage collection has removed everything of it.
    Deleted,
}

/// A definition and the two objects it owns.
trait Definition: Serialize + DeserializeOwned + PartialEq + Send + Sync {
    type Id: Clone + PartialEq + Send + Sync;
    fn id(&self) -> &Self::Id;
    fn key(id: &Self::Id) -> ObjectKey;
    fn marker(id: &Self::Id) -> ObjectKey;
    /// The id whose definition has this key.
    fn of_key(key: ObjectKey) -> Option<Self::Id>;
}

impl Definition for DataSource {
    type Id = DataSourceId;
    fn id(&self) -> &DataSourceId {
        &self.id
    }
    fn key(id: &DataSourceId) -> ObjectKey {
        ObjectKey::Source(id.clone())
    }
    fn marker(id: &DataSourceId) -> ObjectKey {
        ObjectKey::SourceDeleted(id.clone())
    }
    fn of_key(key: ObjectKey) -> Option<DataSourceId> {
        if let ObjectKey::Source(id) = key { Some(id) } else { None }
    }
}

impl Definition for Index {
    type Id = IndexId;
    fn id(&self) -> &IndexId {
        &self.id
    }
    fn key(id: &IndexId) -> ObjectKey {
        ObjectKey::Index(id.clone())
    }
    fn marker(id: &IndexId) -> ObjectKey {
        ObjectKey::IndexDeleted(id.clone())
    }
    fn of_key(key: ObjectKey) -> Option<IndexId> {
        if let ObjectKey::Index(id) = key { Some(id) } else { None }
    }
}

/// A data source's definition; `None` when there is none or it was deleted. Two gets at the same time.
///
/// # Errors
/// [`StoreError`]; `Corrupt` when the object is no definition or names another data source.
pub async fn load_source(store: &Store, id: &DataSourceId) -> Result<Option<Arc<DataSource>>, StoreError> {
    load(store, id).await
}

/// As [`load_source`], an index's definition.
///
/// # Errors
/// See [`load_source`].
pub async fn load_index(store: &Store, id: &IndexId) -> Result<Option<Arc<Index>>, StoreError> {
    load(store, id).await
}

/// Every data source that is not deleted, by name, then version.
///
/// # Errors
/// See [`load_source`].
pub async fn list_sources(store: &Store) -> Result<Vec<Arc<DataSource>>, StoreError> {
    let mut all: Vec<Arc<DataSource>> = list(store, "sources", SOURCE).await?;
    all.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    Ok(all)
}

/// The versions of the data sources of a name, in their order as text; those too that are deleted and not yet collected. One LIST.
///
/// # Errors
/// See [`StoreError`].
pub async fn list_source_versions(store: &Store, name: &str) -> Result<Vec<DataSourceId>, StoreError> {
    let any = DataSource::key(&DataSourceId { name: name.to_owned(), version: "1".to_owned() }).render();
    // Below the name a directory for each version, and in it the definition.
    let below = any.rsplitn(3, '/').last().unwrap_or_default();
    let mut versions = ids::<DataSource>(store.children(below).await?, SOURCE);
    versions.sort_unstable();
    Ok(versions)
}

/// Every index that is not deleted, by name, then version.
///
/// # Errors
/// See [`load_source`].
pub async fn list_indices(store: &Store) -> Result<Vec<Arc<Index>>, StoreError> {
    let mut all: Vec<Arc<Index>> = list(store, "indices", "index.json").await?;
    all.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    Ok(all)
}

/// Stores a data source's definition, which the caller has validated. Repeating it is harmless.
///
/// # Errors
/// See [`Store::create`].
pub async fn create_source(store: &Store, source: &DataSource) -> Result<Defined, StoreError> {
    create(store, source).await
}

/// As [`create_source`], an index's definition.
///
/// # Errors
/// See [`Store::create`].
pub async fn create_index(store: &Store, index: &Index) -> Result<Defined, StoreError> {
    create(store, index).await
}

/// Marks a data source as deleted; false when there is none. Its objects go with the next garbage collection.
///
/// # Errors
/// See [`Store::create`].
pub async fn delete_source(store: &Store, id: &DataSourceId) -> Result<bool, StoreError> {
    delete::<DataSource>(store, id).await
}

/// As [`delete_source`], an index.
///
/// # Errors
/// See [`Store::create`].
pub async fn delete_index(store: &Store, id: &IndexId) -> Result<bool, StoreError> {
    delete::<Index>(store, id).await
}

/// Whether a data source carries the marker of deletion.
///
/// # Errors
/// See [`StoreError`].
pub async fn is_source_deleted(store: &Store, id: &DataSourceId) -> Result<bool, StoreError> {
    Ok(store.size(&DataSource::marker(id)).await?.is_some())
}

/// Whether an index carries the marker of deletion.
///
/// # Errors
/// See [`StoreError`].
pub async fn is_index_deleted(store: &Store, id: &IndexId) -> Result<bool, StoreError> {
    Ok(store.size(&Index::marker(id)).await?.is_some())
}

async fn load<D: Definition>(store: &Store, id: &D::Id) -> Result<Option<Arc<D>>, StoreError> {
    let (key, marker) = (D::key(id), D::marker(id));
    let (bytes, deleted) = futures::try_join!(store.get(&key), store.size(&marker))?;
    match bytes {
        Some(bytes) if deleted.is_none() => Ok(parse(&key, &bytes, id)?.map(Arc::new)),
        _ => Ok(None),
    }
}

/// The definition; `None` when it is that of a name which only the file system takes for the same.
fn parse<D: Definition>(key: &ObjectKey, bytes: &Bytes, id: &D::Id) -> Result<Option<D>, StoreError> {
    let corrupt = |part: &str, expected: &str, found: String| Corrupt {
        object: key.render(),
        part: part.into(),
        expected: expected.into(),
        found,
    };
    let definition: D = serde_json::from_slice(bytes)
        .map_err(|error| corrupt("definition", "a definition in JSON", error.to_string()))?;
    if definition.id() == id {
        return Ok(Some(definition));
    }
    // Keys hold no letters but ASCII's.
    if D::key(definition.id()).render().eq_ignore_ascii_case(&key.render()) {
        return Ok(None);
    }
    Err(corrupt("id", "the name and version in the key", "another name or version".into()).into())
}

async fn create<D: Definition>(store: &Store, definition: &D) -> Result<Defined, StoreError> {
    let (key, marker) = (D::key(definition.id()), D::marker(definition.id()));
    let bytes = serde_json::to_vec_pretty(definition)
        .map_err(|error| StoreError::config(format!("cannot write {}: {error}", key.render())))?;
    if store.size(&marker).await?.is_some() {
        return Ok(Defined::Deleted);
    }
    let same = |found: &Bytes| serde_json::from_slice::<D>(found).is_ok_and(|found| found == *definition);
    // The definition carries no commit id: whoever stored an equal one first, the result is the same. So "ours" after a
    // refused put means only "equal", and Created may be reported twice when two callers race.
    let existed = store.size(&key).await?.is_some();
    match store.create(&key, bytes.into(), same).await? {
        Created::Ours if existed => Ok(Defined::Same),
        Created::Ours => Ok(Defined::Created),
        Created::Taken(_) => Ok(Defined::Differs),
    }
}

async fn delete<D: Definition>(store: &Store, id: &D::Id) -> Result<bool, StoreError> {
    let (key, marker) = (D::key(id), D::marker(id));
    let (bytes, deleted) = futures::try_join!(store.get(&key), store.size(&marker))?;
    let Some(bytes) = bytes.filter(|_| deleted.is_none()) else { return Ok(false) };
    // A definition that cannot be read may be deleted; another's may not.
    if matches!(parse::<D>(&key, &bytes, id), Ok(None)) {
        return Ok(false);
    }
    // Markers are all alike; whose it is does not matter.
    store.create(&marker, Bytes::from_static(b"{}\n"), |_| true).await?;
    Ok(true)
}

async fn list<D: Definition>(store: &Store, root: &str, file: &str) -> Result<Vec<Arc<D>>, StoreError> {
    let names = store.children(root).await?;
    let versions: Vec<Vec<String>> = futures::stream::iter(names)
        .map(|name| async move { store.children(&name).await })
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    futures::stream::iter(ids::<D>(versions.into_iter().flatten(), file))
        .map(|id| async move { load::<D>(store, &id).await })
        .buffered(CONCURRENCY)
        .try_filter_map(|definition| std::future::ready(Ok(definition)))
        .try_collect()
        .await
}

/// Whose definitions are in these directories, if any are.
fn ids<D: Definition>(versions: impl IntoIterator<Item = String>, file: &str) -> Vec<D::Id> {
    let key = |version: String| ObjectKey::parse(&format!("{version}/{file}"));
    versions.into_iter().filter_map(|version| key(version).and_then(D::of_key)).collect()
}
