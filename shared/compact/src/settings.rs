//! Settings of the builder and of garbage collection: data, without behaviour.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tarn_model::IndexAlgorithm;
use tarn_segment::SegmentSettings;
use tarn_timeline::MIN_COLLECTION_GRACE;

/// How to build. None of it but `retention` changes what an index holds, only how, and at what cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct BuilderSettings {
    /// Memory that the fold and the row buffers may take together; beyond it they spill to `temp_dir`. The segment under
    /// construction comes on top: its vectors, and for each row about 150 bytes of a graph, or half a byte per coordinate in
    /// cells and 300 bytes for a graph beside them.
    pub memory_limit_bytes: u64,
    /// What large splits of approximate indices get. Segments of the other kind stay until they are merged.
    pub approximate_index: ApproximateIndex,
    /// Rows from which on a split gets cells, where it is to have any. Exact indices have them, too: their searches compare
    /// every row, or know by its code that it is too far.
    pub cells_threshold_rows: u64,
    /// Rows from which on a split of an approximate index gets a graph, where it is to have a graph and no cells.
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
    /// Threads for folding and for building cells and graphs.
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
    /// Whether to append tombstones for the points whose time is up, before a fold. The builder must be permitted to write to
    /// timelines; without, such points are found no more, but stay in the objects. The same for all builders of a store.
    pub retention: bool,
    /// How to build segments.
    pub segment: SegmentSettings,
    /// Seeds the unique ids of objects, for tests that must repeat; `None`: the operating system does.
    pub seed: Option<u64>,
}

/// How a large split of an index with HNSW parameters is searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ApproximateIndex {
    /// Rows in cells, by nearness. Fast from the first search on, also where nothing is local.
    #[default]
    Cells,
    /// An HNSW graph. To be searched, all of it must be local.
    Graph,
    /// Cells, and a graph beside them for searches where all of it is local: they take what costs less for the recall that
    /// they want.
    Both,
}

impl ApproximateIndex {
    const NAMES: [(&'static str, Self); 3] = [("cells", Self::Cells), ("graph", Self::Graph), ("both", Self::Both)];
}

impl FromStr for ApproximateIndex {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::NAMES.iter().find(|(name, _)| *name == text);
        let names = || Self::NAMES.map(|(name, _)| name).join(", ");
        known.map(|&(_, kind)| kind).ok_or_else(|| format!("'{text}' is none of {}", names()))
    }
}

impl Default for BuilderSettings {
    fn default() -> Self {
        Self {
            memory_limit_bytes: 1 << 30,
            approximate_index: ApproximateIndex::default(),
            cells_threshold_rows: 20_000,
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
            retention: true,
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

    /// Rows from which on a split gets a segment of its own; `None` for sparse indices, of which none does.
    pub(crate) fn own_threshold_rows(&self, algorithm: &IndexAlgorithm) -> Option<u64> {
        match self.approximate_index {
            _ if algorithm.metric.is_sparse() => None,
            ApproximateIndex::Graph if !algorithm.is_exact() => Some(self.graph_threshold_rows),
            ApproximateIndex::Cells | ApproximateIndex::Graph | ApproximateIndex::Both => {
                Some(self.cells_threshold_rows)
            }
        }
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
