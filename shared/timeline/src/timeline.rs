//! One data source's timeline in a store: its head, reading, appending.

use std::sync::Arc;

use futures::Stream;
use tarn_model::{DataSource, ReadToken};
use tarn_store::Store;

use crate::batch::PointBatch;
use crate::codec::Delta;
use crate::error::{AppendError, TimelineError};

/// How to append.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppendOptions {
    /// Makes a repeated upload take effect once. At most [`tarn_model::limits::IDEMPOTENCY_KEY_BYTES`] bytes.
    pub idempotency_key: Option<String>,
}

impl AppendOptions {
    /// With an idempotency key.
    pub fn idempotent(key: impl Into<String>) -> Self {
        Self { idempotency_key: Some(key.into()) }
    }
}

/// A durable append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Includes the append, and what came before it.
    pub token: ReadToken,
    /// An earlier attempt with the same idempotency key had written it already.
    pub replayed: bool,
}

/// A data source's timeline. Cheap to clone; clones share what they know of the head.
#[derive(Clone, Debug)]
pub struct Timeline {
    store: Store,
    source: Arc<DataSource>,
}

impl Timeline {
    /// The timeline of a data source. No request is made.
    pub fn open(store: Store, source: Arc<DataSource>) -> Self {
        Self { store, source }
    }

    /// The data source.
    pub fn source(&self) -> &Arc<DataSource> {
        &self.source
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Appends a batch as one delta: durable and visible as a whole, or not at all.
    ///
    /// # Errors
    /// See [`AppendError`]; each kind says what is durable.
    pub async fn append(&self, batch: PointBatch, options: AppendOptions) -> Result<Appended, AppendError> {
        let _ = (batch, options);
        todo!()
    }

    /// The last committed sequence, asked of the store.
    ///
    /// # Errors
    /// [`TimelineError::Store`].
    pub async fn head(&self) -> Result<ReadToken, TimelineError> {
        todo!()
    }

    /// Reads one delta; `None` when there is none at this sequence: not yet, or no longer.
    ///
    /// # Errors
    /// [`TimelineError::Store`] and [`TimelineError::Corrupt`].
    pub async fn read(&self, sequence: u64) -> Result<Option<Delta>, TimelineError> {
        let _ = sequence;
        todo!()
    }

    /// Reads every delta after a token, in order.
    ///
    /// # Errors
    /// [`TimelineError::Collected`] when the token is below the boundary of garbage collection.
    pub async fn read_after(&self, token: &ReadToken) -> Result<Vec<Delta>, TimelineError> {
        let _ = token;
        todo!()
    }

    /// Like [`Self::read_after`], one delta at a time: memory holds a few.
    pub fn stream_after(&self, token: &ReadToken) -> impl Stream<Item = Result<Delta, TimelineError>> + Send + use<> {
        let _ = token;
        futures::stream::empty()
    }
}
