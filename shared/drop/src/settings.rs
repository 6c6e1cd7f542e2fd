//! What can be set about the drop folder. Data only; limits on files are in `tarn_model::limits`.

use std::path::PathBuf;

/// How dropped files are read. The defaults suit a function with 1 GB of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DropSettings {
    /// About how many bytes of points a chunk, and so a delta, holds.
    pub chunk_bytes: usize,
    /// Bytes of one request for a part of a file.
    pub block_bytes: u64,
    /// Most bytes that a compressed Parquet file may grow to; it is unpacked to a temporary file.
    pub spool_bytes: u64,
    /// Where that temporary file is; the system's place unless given.
    pub spool_dir: Option<PathBuf>,
}

impl Default for DropSettings {
    fn default() -> Self {
        Self { chunk_bytes: 32 << 20, block_bytes: 8 << 20, spool_bytes: 400_000_000, spool_dir: None }
    }
}
