//! The data sources that uploads go to: their definitions and their committers, kept between requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tarn_model::{DataSource, DataSourceId};
use tarn_store::{Store, load_source};
use tarn_timeline::{GroupCommitter, GroupSettings, Timeline};

use crate::error::ApiError;

/// Age up to which a definition is believed. Definitions do not change; this bounds how long one lives on that was
/// deleted, collected and defined anew. (An append to a deleted data source is refused whatever is kept here.)
const FRESH: Duration = Duration::from_secs(30);
/// Most data sources kept.
const KEPT: usize = 1_000;

/// A data source and the one committer through which this process writes to it.
#[derive(Clone, Debug)]
pub(crate) struct SourceHandle {
    pub(crate) source: Arc<DataSource>,
    pub(crate) committer: GroupCommitter,
    /// Whether what comes with the first upload needs no looking after any more.
    pub(crate) has_indices: Arc<AtomicBool>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Sources {
    store: Store,
    /// See [`crate::ApiSettings::queue_bytes`].
    queue_bytes: usize,
    kept: Mutex<HashMap<DataSourceId, (SourceHandle, Duration)>>,
    /// Held while an upload creates what comes with it.
    creating: tokio::sync::Mutex<()>,
}

impl Sources {
    pub(crate) fn new(store: Store, queue_bytes: usize) -> Self {
        Self { store, queue_bytes, kept: Mutex::default(), creating: tokio::sync::Mutex::default() }
    }

    /// # Errors
    /// 404 when there is no such data source.
    pub(crate) async fn get(&self, id: &DataSourceId) -> Result<SourceHandle, ApiError> {
        let now = self.store.clock().monotonic();
        if let Some((handle, loaded)) = self.kept.lock().get(id)
            && now.saturating_sub(*loaded) < FRESH
        {
            return Ok(handle.clone());
        }
        let source = load_source(&self.store, id).await?;
        let mut kept = self.kept.lock();
        let Some(source) = source else {
            kept.remove(id);
            return Err(source_not_found(id));
        };
        if let Some((handle, loaded)) = kept.get_mut(id)
            && handle.source == source
        {
            // It may have been deleted, collected and defined as before.
            handle.has_indices.store(false, Ordering::Release);
            *loaded = now;
            return Ok(handle.clone());
        }
        if kept.len() >= KEPT {
            let oldest = kept.iter().min_by_key(|(_, (_, loaded))| *loaded).map(|(id, _)| id.clone());
            oldest.and_then(|id| kept.remove(&id));
        }
        let timeline = Timeline::open(self.store.clone(), Arc::clone(&source));
        let settings = GroupSettings { queue_bytes: self.queue_bytes, ..GroupSettings::default() };
        let committer = GroupCommitter::with_settings(timeline, settings);
        let handle = SourceHandle { source, committer, has_indices: Arc::default() };
        kept.insert(id.clone(), (handle.clone(), now));
        Ok(handle)
    }

    /// Waits until no other upload of this process creates anything, and keeps it so.
    pub(crate) async fn creating(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.creating.lock().await
    }

    pub(crate) fn forget(&self, id: &DataSourceId) {
        self.kept.lock().remove(id);
    }
}

pub(crate) fn source_not_found(id: &DataSourceId) -> ApiError {
    ApiError::not_found(format!("Data source {id} does not exist"))
}
