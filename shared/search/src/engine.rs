//! The engine: one per process, cheap to clone.

use std::sync::Arc;

use tarn_model::{DataSource, Index, IndexId};
use tarn_store::Store;

use crate::describe::IndexDescription;
use crate::error::SearchError;
use crate::points::{PointsPage, PointsRequest};
use crate::request::{Consistency, SearchRequest, SearchResponse};
use crate::settings::EngineSettings;

/// Answers queries over the indices of one store. Clones share everything.
#[derive(Clone)]
pub struct Engine {
    _store: Store,
}

impl Engine {
    /// Starts the thread pool and opens the local cache. No request to the store.
    ///
    /// # Errors
    /// [`SearchError::Internal`] when threads cannot be started, [`SearchError::Store`] when the cache directory is unusable.
    pub fn new(store: Store, settings: EngineSettings) -> Result<Self, SearchError> {
        let _ = settings;
        Ok(Self { _store: store })
    }

    /// The definition of an index and of its data source, cached; a deleted index is noticed at the next refresh.
    ///
    /// # Errors
    /// [`SearchError::IndexNotFound`].
    pub async fn index(&self, id: &IndexId) -> Result<(Arc<Index>, Arc<DataSource>), SearchError> {
        let _ = id;
        todo!()
    }

    /// Finds the nearest points.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub async fn search(&self, id: &IndexId, request: SearchRequest) -> Result<SearchResponse, SearchError> {
        let _ = (id, request);
        todo!()
    }

    /// Live points of the index, the tail included.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub async fn count(&self, id: &IndexId, consistency: Consistency) -> Result<u64, SearchError> {
        let _ = (id, consistency);
        todo!()
    }

    /// What the index consists of, now. `splits` bounds how many splits are described.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub async fn describe(&self, id: &IndexId, splits: usize) -> Result<IndexDescription, SearchError> {
        let _ = (id, splits);
        todo!()
    }

    /// A page of live points in key order.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub async fn points(&self, id: &IndexId, request: PointsRequest) -> Result<PointsPage, SearchError> {
        let _ = (id, request);
        todo!()
    }

    /// Fetches and opens everything a search of the index would need.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub async fn warm(&self, id: &IndexId) -> Result<(), SearchError> {
        let _ = id;
        todo!()
    }

    /// Lets go of an index that is not used any more: unpins its files.
    pub fn forget(&self, id: &IndexId) {
        let _ = id;
    }
}
