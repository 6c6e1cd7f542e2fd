//! What can go wrong with a timeline. A kind exists only where a caller acts differently.

use tarn_model::{Corrupt, DataSourceId, ReadToken, ValidationError};
use tarn_store::StoreError;

/// A failed append. Each kind says what is durable.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The batch does not fit the data source. Nothing was written.
    #[error(transparent)]
    Invalid(#[from] ValidationError),
    /// The data source is deleted. Nothing was written.
    #[error("Data source {source_id} does not exist")]
    Deleted {
        /// The data source.
        source_id: DataSourceId,
    },
    /// The idempotency key came before, with another payload. Nothing was written.
    #[error(
        "the idempotency key was used before for a different payload; repeat an upload with the same points in the same \
         order, or give a new upload a new key"
    )]
    KeyReused,
    /// The idempotency key came before, so long ago that the deltas that would tell whether its upload was committed
    /// are folded and collected. Nothing was written now.
    #[error(
        "the idempotency key is too old: the timeline up to {collected} is collected, and whether the first upload was \
         committed can no longer be told; read the points back, and upload with a new key what is missing"
    )]
    KeyExpired {
        /// Everything up to here is collected.
        collected: ReadToken,
    },
    /// Too many bytes wait to be written. Nothing was written; the same upload may succeed in a moment.
    #[error("{queued_bytes} bytes of uploads are waiting already, at most {limit_bytes} may; try again in a second")]
    Overloaded {
        /// Bytes that wait, or are being written.
        queued_bytes: usize,
        /// The most that may.
        limit_bytes: usize,
    },
    /// Other writers won every sequence that was tried. Nothing was written; the same upload may succeed in a moment.
    #[error("other writers won {attempts} sequences in a row; nothing was written, try again")]
    Contended {
        /// Sequences tried.
        attempts: u32,
    },
    /// The store failed before anything that counts was written.
    #[error("nothing was written: {0}")]
    NotApplied(#[source] StoreError),
    /// Whether the upload is or will become durable is unknown. Repeating it with the same idempotency key is safe;
    /// repeating it without one is harmless but for a second, equal write of the same points.
    #[error("whether the upload was written is unknown: {cause}; repeat it with the same idempotency key")]
    Ambiguous {
        /// What happened.
        cause: String,
    },
    /// Stored bytes are not what they must be. Nothing was written.
    #[error("nothing was written: {0}")]
    Corrupt(#[from] Corrupt),
}

impl AppendError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Overloaded { .. } | Self::Contended { .. } | Self::Ambiguous { .. } => true,
            Self::NotApplied(error) => error.is_retryable(),
            _ => false,
        }
    }
}

/// A failed read of a timeline.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TimelineError {
    /// History that was asked for is collected. Read the newest checkpoint or manifest, and go on from its watermark.
    #[error(
        "the timeline up to {collected} was collected; read the newest checkpoint first, and go on from its watermark"
    )]
    Collected {
        /// Everything up to here may be gone.
        collected: ReadToken,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Stored bytes are not what they must be.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}
