//! How an engine is set up. Plain data.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tarn_segment::ColdBudget;

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
    /// Memory bound of kept answers, in bytes; 0 keeps none.
    pub query_cache_bytes: usize,
    /// The share of the real searches, 0 to 1, that are compared with exact ones, beside them. 0: none.
    pub recall_share: f64,
    /// Searching files of a remote store where they are.
    pub cold: ColdSettings,
    /// How files that were searched where they are come into the cache.
    pub hydration: Hydration,
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
            query_cache_bytes: 0,
            recall_share: 0.0,
            cold: ColdSettings::default(),
            hydration: Hydration::Background,
            leaf_bytes: 1 << 30,
            leaves_max: 64,
        }
    }
}

/// What becomes of a file that was searched where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Hydration {
    /// It is fetched at once, while the answer goes out. For processes that go on running between requests.
    #[default]
    Background,
    /// It is fetched by [`crate::Engine::hydrate`]. For processes that are frozen between requests.
    Manual,
    /// It stays where it is; what was read of it is kept in memory.
    Off,
}

impl FromStr for Hydration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "background" => Ok(Self::Background),
            "manual" => Ok(Self::Manual),
            "off" => Ok(Self::Off),
            _ => Err(format!("'{text}' is none of background, manual and off")),
        }
    }
}

/// When a file is searched where it is, and what that may cost. A file that is open or in the cache never is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ColdSettings {
    /// Whether any is. If not, files are fetched whole before they are searched.
    pub enabled: bool,
    /// A file of at most this many bytes is fetched whole: that takes fewer round trips, and hardly longer.
    pub whole_bytes: u64,
    /// Most query vectors of a search that reads parts of files; one of more fetches them whole.
    pub queries_max: usize,
    /// Most ranges of cells that one search reads of each file, per query vector; at least 1. Recall is measured with the
    /// default: what is promised with fewer ranges takes more bytes.
    pub cell_ranges: usize,
    /// The same of a search with a filter, whose neighbours lie in more cells.
    pub filtered_cell_ranges: usize,
    /// Most ranges of rows; at least 1.
    pub row_ranges: usize,
    /// Memory bound of what is kept of the files that were searched so: outlines, cells, columns of filters, in bytes. A file of
    /// which a filter needs columns of more is fetched whole.
    pub memory_bytes: usize,
}

impl ColdSettings {
    /// What one query may read of a file.
    pub(crate) fn budget(&self, filtered: bool) -> ColdBudget {
        let (budget, cell_ranges_max) = if filtered {
            (ColdBudget::filtered(), self.filtered_cell_ranges)
        } else {
            (ColdBudget::default(), self.cell_ranges)
        };
        ColdBudget { cell_ranges_max, row_ranges_max: self.row_ranges, ..budget }
    }
}

impl Default for ColdSettings {
    fn default() -> Self {
        let budget = ColdBudget::default();
        Self {
            enabled: true,
            whole_bytes: 4 << 20,
            queries_max: 4,
            cell_ranges: budget.cell_ranges_max,
            filtered_cell_ranges: ColdBudget::filtered().cell_ranges_max,
            row_ranges: budget.row_ranges_max,
            memory_bytes: 256 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hydration_is_named_as_it_is_serialised() {
        for hydration in [Hydration::Background, Hydration::Manual, Hydration::Off] {
            let name = serde_json::to_value(hydration).unwrap();
            assert_eq!(name.as_str().unwrap().parse(), Ok(hydration));
        }
        assert!("never".parse::<Hydration>().unwrap_err().contains("background, manual and off"));
    }
}
