//! What can go wrong that is not the file's fault: try again later.

use tarn_model::{Corrupt, ReadToken};
use tarn_store::StoreError;
use tarn_timeline::{AppendError, AutoCreateError};

/// A run that did not end. Nothing is lost: the same file is to be processed again, and goes on where this run ended. A file
/// with a fault of its own is no error, it is refused.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DropError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A chunk could not be appended.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// What the file's upload is to create could not be created.
    #[error(transparent)]
    AutoCreate(#[from] AutoCreateError),
    /// A record of the drop folder is not what it must be.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The file was replaced or removed while it was read.
    #[error("{key} was replaced or removed while it was read; what is there now is processed as a file of its own")]
    Changed {
        /// The file's key.
        key: String,
    },
    /// Whether a chunk was appended can no longer be told.
    #[error(
        "whether all of {key} was committed can no longer be told: it was left half way, and the timeline up to {collected} was \
         collected since; nothing was written now. Drop the file again: its points are written once more, over the same ones"
    )]
    Expired {
        /// The file's key.
        key: String,
        /// Everything up to here is collected.
        collected: ReadToken,
    },
    /// This process could not do it.
    #[error("cannot {what}: {cause}")]
    Local {
        /// What was tried, as a verb.
        what: &'static str,
        /// What the system said.
        cause: String,
    },
}

impl DropError {
    pub(crate) fn local(what: &'static str, cause: impl ToString) -> Self {
        Self::Local { what, cause: cause.to_string() }
    }
}
