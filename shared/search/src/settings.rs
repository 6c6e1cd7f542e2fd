//! How an engine is set up. Plain data.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings of an [`crate::Engine`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EngineSettings {
    /// Where segment files of a remote store are kept. Unused for a store that is a local directory.
    pub cache_dir: PathBuf,
    /// Size bound of `cache_dir`, in bytes. Files that searches under way use may exceed it for as long as they do.
    pub cache_bytes: u64,
    /// Threads that compute distances; 0 means one per processor.
    pub threads: usize,
    /// How old an `eventual` answer's snapshot may be before it is refreshed.
    pub eventual_max_age: Duration,
    /// How old a look at the store may be for the absence of the next object to prove that there is none; after that the
    /// engine lists. Must be shorter than the grace period of garbage collection.
    pub trust_absence: Duration,
    /// How long a definition is used before it is compared with the store's: how long a deleted index may go on answering.
    pub definition_max_age: Duration,
    /// Memory bound of cached filter bitmaps, in bytes.
    pub filter_cache_bytes: usize,
    /// Bytes of segment files that one leaf is given, as far as whole shards allow. A search of fewer is answered by the engine
    /// itself. Counts only for an engine that has leaves.
    pub leaf_bytes: u64,
    /// Most leaves that one search asks. More bytes than they would have are shared out among them.
    pub leaves_max: usize,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            cache_dir: std::env::temp_dir().join("tarn-cache"),
            cache_bytes: 8 << 30,
            threads: 0,
            eventual_max_age: Duration::from_secs(2),
            trust_absence: Duration::from_secs(60),
            definition_max_age: Duration::from_secs(10),
            filter_cache_bytes: 64 << 20,
            leaf_bytes: 1 << 30,
            leaves_max: 64,
        }
    }
}
