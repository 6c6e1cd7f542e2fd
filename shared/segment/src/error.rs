//! What can go wrong with a segment.

use std::path::PathBuf;

use tarn_model::Corrupt;

/// An operation on a segment failed. Nothing was changed; a file that was being written is not complete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The bytes are not what was written: fetch them again, or rebuild the index.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The file could not be read, mapped or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `open`, `map`, `write`, …
        action: &'static str,
        /// The file; empty when the output is not a file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What the caller handed over does not fit: rows without keys, a query of another dimension. A defect of the caller.
    #[error("segment input: {0}")]
    Input(String),
    /// The graph library refused; its errors are texts without kinds.
    #[error("graph: {0}")]
    Graph(String),
}
