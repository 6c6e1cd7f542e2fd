//! What can go wrong with a store. A kind exists only where a caller acts differently.

use std::error::Error;
use std::sync::Arc;

use tarn_model::Corrupt;

/// What the layer below reported.
pub type Cause = Arc<dyn Error + Send + Sync + 'static>;

/// A failed operation on a store.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store, the network or the local disk did not do it. Nothing that counts was committed; trying again may help.
    #[error("cannot {operation} {object}: {cause}. The store may be busy or unreachable; try again")]
    Unavailable {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The object's key, a prefix or a file.
        object: String,
        /// The layer below.
        cause: Cause,
    },
    /// A commit may or may not be durable, now or later. Only a re-read that finds the object tells; a caller must not
    /// report success or failure. See [`crate::Store::create`].
    #[error(
        "whether {object} was written is unknown after {attempts} attempts: {cause}. \
         Repeat the request with the same idempotency key"
    )]
    Ambiguous {
        /// The object's key.
        object: String,
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        cause: Cause,
    },
    /// The credentials do not allow it. Trying again does not help.
    #[error("not allowed to {operation} {object}: {cause}. Check the credentials and their permissions")]
    Denied {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The object's key or a prefix.
        object: String,
        /// The layer below.
        cause: Cause,
    },
    /// An object that a root names is not there: garbage collection took it since the root was read, or the bucket is
    /// damaged. A reader reads the newest root and tries once more.
    #[error("{object} is missing; it was collected as garbage, or the bucket is damaged (tarn verify tells)")]
    Missing {
        /// The object's key.
        object: String,
    },
    /// Stored bytes are not what they must be.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The store cannot work as it is set up: a bad URL, no such bucket, a file system without hard links.
    #[error("{message}")]
    Config {
        /// What is wrong and what to do.
        message: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Ambiguous { .. })
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::Config { message: message.into() }
    }

    pub(crate) fn local(operation: &'static str, path: &std::path::Path, error: std::io::Error) -> Self {
        Self::Unavailable { operation, object: path.display().to_string(), cause: Arc::new(error) }
    }

    /// From the layer below. A missing object is no error for the callers of this; what arrives here as `NotFound` is
    /// a bucket that does not exist.
    pub(crate) fn from_below(operation: &'static str, object: &str, error: object_store::Error) -> Self {
        use object_store::Error as E;
        let object = object.to_owned();
        match error {
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
                Self::Denied { operation, object, cause: Arc::new(error) }
            }
            E::NotFound { .. } => Self::config(format!(
                "cannot {operation} {object}: {error}. Check that the bucket or directory exists and the region is right"
            )),
            E::NotSupported { .. }
            | E::NotImplemented { .. }
            | E::InvalidPath { .. }
            | E::UnknownConfigurationKey { .. } => Self::config(format!("cannot {operation} {object}: {error}")),
            other => Self::Unavailable { operation, object, cause: Arc::new(other) },
        }
    }
}
