//! What can go wrong while building. A kind exists only where a caller acts differently.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tarn_model::Corrupt;
use tarn_segment::SegmentError;
use tarn_store::StoreError;
use tarn_timeline::TimelineError;

/// A failed step of the builder. Whatever was written is garbage that nobody names; running again is always safe.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompactError {
    /// There is no such data source or index, or it is deleted.
    #[error("{what} does not exist")]
    NotFound {
        /// The data source or index.
        what: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Stored bytes are not what they must be.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The timeline could not be read.
    #[error(transparent)]
    Timeline(#[from] TimelineError),
    /// A segment could not be built or read.
    #[error("{0}")]
    Segment(#[source] Arc<SegmentError>),
    /// The query engine failed: out of memory even with spilling, or out of temporary disk space.
    #[error("{doing} failed: {cause}. Give the builder more memory or temporary disk space")]
    Engine {
        /// What was being computed.
        doing: &'static str,
        /// What the engine says.
        cause: String,
    },
    /// The local temporary directory failed.
    #[error("cannot {action} {}: {cause}. Check the builder's temporary directory", path.display())]
    Local {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        cause: Arc<std::io::Error>,
    },
    /// It took so long that garbage collection may have taken what it wrote; nothing was published.
    #[error(
        "the build took {took_s} s, longer than the {limit_s} s after which garbage collection may take unpublished \
         objects; nothing was published. Give the builder more memory or threads, build more parts at once, or raise the limit and the \
         grace period"
    )]
    TooSlow {
        /// Seconds since its first write.
        took_s: u64,
        /// The limit, in seconds.
        limit_s: u64,
    },
    /// Garbage collection was asked for a grace period that is not safe beside those who use the store.
    #[error(
        "a grace period of {grace_s} s is too short while somebody may build, upload or search: at least {shortest_s} s are \
         needed. Nothing was deleted. Use a longer one, or say that nobody uses the store"
    )]
    GraceTooShort {
        /// What was asked for, in seconds.
        grace_s: u64,
        /// [`crate::BuilderSettings::shortest_grace`], in seconds.
        shortest_s: u64,
    },
    /// Garbage collection took so long that what it had planned may no longer be true; it stopped.
    #[error(
        "garbage collection stopped after {took_s} s, because what it listed may be in use again after {limit_s} s; run it \
         again to take the rest"
    )]
    CollectorTooSlow {
        /// Seconds since the listing.
        took_s: u64,
        /// The limit, in seconds.
        limit_s: u64,
    },
    /// A setting makes no sense.
    #[error("{0}")]
    Settings(String),
}

impl CompactError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) | Self::Timeline(TimelineError::Store(error)) => error.is_retryable(),
            Self::Timeline(TimelineError::Collected { .. }) => true,
            _ => false,
        }
    }

    pub(crate) fn local(action: &'static str, path: &Path, cause: std::io::Error) -> Self {
        Self::Local { action, path: path.to_path_buf(), cause: Arc::new(cause) }
    }

    pub(crate) fn engine(doing: &'static str, cause: impl std::fmt::Display) -> Self {
        Self::Engine { doing, cause: cause.to_string() }
    }
}

impl From<SegmentError> for CompactError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Corrupt(corrupt) => Self::Corrupt(corrupt),
            other => Self::Segment(Arc::new(other)),
        }
    }
}
