//! [`Builder`]: one value that holds what every step needs.

use std::sync::Arc;

use tarn_model::{DataSourceId, IndexId};
use tarn_store::Store;

use crate::error::CompactError;
use crate::outcome::{BuildOutcome, FoldOutcome, GcReport, RunSummary, VerifyReport};
use crate::progress::Progress;
use crate::settings::{BuilderSettings, GcOptions};

/// Folds, builds, publishes, collects and verifies. Any number of builders may work on one store at once.
#[derive(Clone)]
pub struct Builder {
    store: Store,
    settings: Arc<BuilderSettings>,
    progress: Arc<dyn Progress>,
}

impl Builder {
    /// A builder. No request is made.
    ///
    /// # Errors
    /// [`CompactError::Settings`], or a directory that cannot be used.
    pub fn new(store: Store, settings: BuilderSettings, progress: Arc<dyn Progress>) -> Result<Self, CompactError> {
        Ok(Self { store, settings: Arc::new(settings), progress })
    }

    /// Folds the timeline of a data source up to its head into a new checkpoint.
    ///
    /// # Errors
    /// [`CompactError`]; nothing was published then.
    pub async fn fold(&self, source: &DataSourceId) -> Result<FoldOutcome, CompactError> {
        let _ = (source, &self.store, &self.settings, &self.progress);
        todo!()
    }

    /// Brings an index to the newest checkpoint of its data source.
    ///
    /// # Errors
    /// [`CompactError`]; nothing was published then.
    pub async fn build(&self, index: &IndexId) -> Result<BuildOutcome, CompactError> {
        let _ = index;
        todo!()
    }

    /// Folds every data source and builds every index. A failure is an item of the summary and does not stop the others.
    ///
    /// # Errors
    /// The data sources and indices could not be listed.
    pub async fn run(&self) -> Result<RunSummary, CompactError> {
        todo!()
    }

    /// Deletes what no reader and no builder can need; with `dry_run`, only says what it would delete.
    ///
    /// # Errors
    /// [`CompactError`]; what was deleted until then was garbage.
    pub async fn collect_garbage(&self, options: &GcOptions) -> Result<GcReport, CompactError> {
        let _ = options;
        todo!()
    }

    /// Re-reads every live object and checks it.
    ///
    /// # Errors
    /// The store could not be listed or read. What is wrong with the objects stands in the report.
    pub async fn verify(&self) -> Result<VerifyReport, CompactError> {
        todo!()
    }
}
