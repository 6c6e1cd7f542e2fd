//! Why a search gave no answer. A kind exists only where callers act differently.

use std::error::Error;
use std::sync::Arc;

use tarn_model::{Corrupt, DataSourceId, IndexId, ReadToken, ValidationError};
use tarn_store::StoreError;

/// Why a search, a count or a description failed. Reads change nothing, so every failure may be retried.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// No index of this name and version exists, or it has been deleted. 404.
    #[error("Index {0} does not exist")]
    IndexNotFound(IndexId),
    /// The index's data source has been deleted. 404.
    #[error("Data source {0} does not exist")]
    SourceNotFound(DataSourceId),
    /// The index has no generation yet, and the beginning of its timeline has been compacted away, so that the timeline
    /// cannot answer for it. 503 until a builder has run.
    #[error(
        "Index {0} has not been built yet; a builder does it (tarn build, or tarn serve in the background); then retry"
    )]
    NotBuilt(IndexId),
    /// The request does not fit the index. The messages are the wire texts. 400.
    #[error(transparent)]
    Invalid(#[from] ValidationError),
    /// The write that `want` names has not happened, as far as the timeline shows. 409.
    #[error(
        "the timeline is at version {have}, the request wants {want}; retry, or send the version of an upload to this index's data source"
    )]
    NotYet {
        /// The newest version that was seen.
        have: ReadToken,
        /// The version asked for.
        want: ReadToken,
    },
    /// The request wants a generation that is gone, 410; or that is not there yet, 409.
    #[error("{}", no_generation(index, *wanted, *kept))]
    NoGeneration {
        /// The index.
        index: IndexId,
        /// The generation asked for.
        wanted: u64,
        /// The oldest and the newest that there are, if any.
        kept: Option<(u64, u64)>,
    },
    /// The object store failed. 503 when retryable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A leaf could not be asked, or could not read: throttled, out of reach, dead. Retryable. 503.
    #[error("a group of shards could not be searched: {0}")]
    Leaf(Arc<dyn Error + Send + Sync>),
    /// The deadline passed before there was anything that an answer could be made of; until when it had to be. Retryable. 503.
    #[error("the deadline passed before {0}; allow more time")]
    Late(&'static str),
    /// A stored object does not say what it must; the error names it. 500. Never a silently partial answer.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The engine itself failed: its thread pool could not start, or a computation panicked. 500.
    #[error("the search engine failed: {0}")]
    Internal(String),
}

fn no_generation(index: &IndexId, wanted: u64, kept: Option<(u64, u64)>) -> String {
    match kept {
        None => format!("Index {index} has not been built yet: there is no generation {wanted}; leave asOf out"),
        Some((_, newest)) if wanted > newest => {
            format!(
                "Index {index} has no generation {wanted} yet, the newest is {newest}; leave asOf out for the newest state"
            )
        }
        Some((oldest, newest)) => format!(
            "generation {wanted} of index {index} is gone, there are {oldest} to {newest}; name one of these, and have gc retain more \
             generations if older ones are needed"
        ),
    }
}

impl SearchError {
    /// Whether the same search may succeed if it is simply asked again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Leaf(_) | Self::Late(_) => true,
            _ => false,
        }
    }

    /// That a leaf could not be asked, or could not read.
    pub fn unavailable_leaf(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Leaf(Arc::from(cause.into()))
    }
}
