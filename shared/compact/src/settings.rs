//! Settings of the builder and of garbage collection: data, without behaviour.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tarn_segment::SegmentSettings;
use tarn_timeline::MIN_COLLECTION_GRACE;

/// How to build. None of it changes what an index holds, only how, and at what cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct BuilderSettings {
    /// Memory that the fold and the row buffers may take together; beyond it they spill to `temp_dir`. The graph of a
    /// segment under construction comes on top: about 150 bytes a row, and the segment's vectors.
    pub memory_limit_bytes: u64,
    /// Rows from which on a split of an HNSW index gets a graph.
    pub graph_threshold_rows: u64,
    /// Where to spill and to assemble files; `None`: the system's temporary directory.
    pub temp_dir: Option<PathBuf>,
    /// Where to keep local copies of remote objects between runs; `None`: below `temp_dir`, for the builder's life.
    pub cache_dir: Option<PathBuf>,
    /// Most bytes of local copies.
    pub cache_bytes: u64,
    /// Most bytes of copies of remote deltas while they are folded. A fold of more publishes a checkpoint there and goes on
    /// from it: who dies has lost one such step. A build reads what is beyond from the store a second time.
    pub spool_bytes_max: u64,
    /// Most deltas that a fold takes in before it publishes a checkpoint and goes on from it.
    pub fold_deltas_max: u64,
    /// Threads for folding and for building graphs.
    pub threads: usize,
    /// Largest segment, in bytes of vectors, keys and attributes.
    pub segment_bytes_max: u64,
    /// Largest data file of a checkpoint, in bytes.
    pub checkpoint_file_bytes_max: u64,
    /// How many files or segments of about one size are merged into one.
    pub merge_fan: usize,
    /// A file or segment with a larger share of dead rows is rewritten, in percent.
    pub dead_percent_max: u8,
    /// A build that takes longer publishes nothing. Garbage collection must grant a longer grace period, see
    /// [`Self::shortest_grace`]. The same for all builders of a store.
    pub longest_build: Duration,
    /// How to build segments.
    pub segment: SegmentSettings,
    /// Seeds the unique ids of objects, for tests that must repeat; `None`: the operating system does.
    pub seed: Option<u64>,
}

impl Default for BuilderSettings {
    fn default() -> Self {
        Self {
            memory_limit_bytes: 1 << 30,
            graph_threshold_rows: 50_000,
            temp_dir: None,
            cache_dir: None,
            cache_bytes: 64 << 30,
            spool_bytes_max: 16 << 30,
            fold_deltas_max: 20_000,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            segment_bytes_max: 512 << 20,
            checkpoint_file_bytes_max: 1 << 30,
            merge_fan: 4,
            dead_percent_max: 40,
            longest_build: Duration::from_secs(6 * 3600),
            segment: SegmentSettings::default(),
            seed: None,
        }
    }
}

impl BuilderSettings {
    /// The shortest grace period of garbage collection that is safe beside builders with these settings, uploads and
    /// searches: a build has published what it wrote before that, or never will, its last put included; and what an upload
    /// or a search believes without asking is younger ([`MIN_COLLECTION_GRACE`]).
    pub fn shortest_grace(&self) -> Duration {
        self.longest_build.saturating_add(MIN_COLLECTION_GRACE)
    }
}

/// What garbage collection may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct GcOptions {
    /// Say what would be deleted, and delete nothing.
    pub dry_run: bool,
    /// Nothing younger is deleted, and nothing that was replaced more recently. A reader may hold on to a manifest, and a
    /// builder to objects it has not published, for this long. Less than [`BuilderSettings::shortest_grace`] is refused
    /// unless `store_is_idle`.
    pub grace: Duration,
    /// The caller vouches that nobody uploads, searches or builds meanwhile, in any process: any grace period will do.
    pub store_is_idle: bool,
    /// The newest so many checkpoints and manifests are kept whatever their age, with everything they name. At least 1.
    pub retain_generations: u64,
    /// For how long an idempotency key is remembered.
    pub receipt_retention: Duration,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            grace: Duration::from_secs(24 * 3600),
            store_is_idle: false,
            retain_generations: 2,
            receipt_retention: Duration::from_secs(7 * 24 * 3600),
        }
    }
}
