//! [`Builder`]: one value that holds what every step needs.

use std::sync::Arc;

use tarn_model::{DataSourceId, IndexId, ReadToken};
use tarn_store::{Store, list_indices, list_sources};
use ulid::Ulid;

use crate::build;
use crate::checkpoint;
use crate::context::Context;
use crate::error::CompactError;
use crate::gc;
use crate::outcome::{BuildOutcome, FoldOutcome, GcReport, RunItem, RunSummary, VerifyReport};
use crate::progress::Progress;
use crate::settings::{BuilderSettings, GcOptions};
use crate::tasks::{self, TaskAnswer, TaskPlan, TaskSummary};
use crate::verify;

/// Folds, builds, publishes, collects and verifies. Any number of builders may work on one store at once.
#[derive(Clone)]
pub struct Builder {
    context: Arc<Context>,
}

impl Builder {
    /// A builder. No request is made.
    ///
    /// # Errors
    /// [`CompactError::Settings`], or a directory that cannot be used.
    pub fn new(store: Store, settings: BuilderSettings, progress: Arc<dyn Progress>) -> Result<Self, CompactError> {
        Ok(Self { context: Context::new(store, settings, progress)? })
    }

    /// Folds the timeline of a data source up to its head into a new checkpoint; into several, one after the other, when it
    /// has grown by more than the settings allow to one.
    ///
    /// # Errors
    /// [`CompactError`]; what was published until then stays.
    pub async fn fold(&self, source: &DataSourceId) -> Result<FoldOutcome, CompactError> {
        checkpoint::fold(&self.context, source).await
    }

    /// Brings an index to the newest checkpoint of its data source.
    ///
    /// # Errors
    /// [`CompactError`]; nothing was published then.
    pub async fn build(&self, index: &IndexId) -> Result<BuildOutcome, CompactError> {
        build::build(&self.context, index).await
    }

    /// Folds every data source and builds every index. A failure is an item of the summary and does not stop the others. Each
    /// run begins at another data source and index, so that one that takes longer than a process may live does not keep
    /// those after it from ever being built.
    ///
    /// # Errors
    /// The data sources and indices could not be listed.
    pub async fn run(&self) -> Result<RunSummary, CompactError> {
        let mut summary = RunSummary::default();
        for source in self.context.rotated(list_sources(&self.context.store).await?) {
            let outcome = self.fold(&source.id).await;
            summary.items.push(RunItem::Fold(source.id.clone(), outcome));
        }
        for index in self.context.rotated(list_indices(&self.context.store).await?) {
            let outcome = self.build(&index.id).await;
            summary.items.push(RunItem::Build(index.id.clone(), outcome));
        }
        summary.items.sort_by(RunItem::in_reports);
        Ok(summary)
    }

    /// Names the tasks of a run, for other processes to carry out. As JSON, the plan and the answers of all its tasks are
    /// smaller than 256 KiB.
    ///
    /// # Errors
    /// [`CompactError`]; what was written is garbage. A data source or an index that cannot be planned is in the plan's
    /// failures.
    pub async fn plan_tasks(&self) -> Result<TaskPlan, CompactError> {
        tasks::plan(&self.context).await
    }

    /// Folds the timeline of a data source until a checkpoint includes `up_to`.
    ///
    /// # Errors
    /// [`CompactError`] when another attempt may help; any other failure is the answer.
    pub async fn fold_task(&self, source: &DataSourceId, up_to: &ReadToken) -> Result<TaskAnswer, CompactError> {
        tasks::fold(&self.context, source, up_to).await
    }

    /// Builds a part of an index, unless it is built already. Publishes nothing.
    ///
    /// # Errors
    /// [`CompactError`] when another attempt may help; any other failure is the answer.
    pub async fn build_task(&self, index: &IndexId, order: Ulid, part: u32) -> Result<TaskAnswer, CompactError> {
        tasks::build(&self.context, index, order, part).await
    }

    /// Publishes every index of a plan whose parts are all built. `answers`: of the plan's folds and builds. A failure is in
    /// the summary and does not stop the others.
    pub async fn publish_tasks<'a>(
        &self,
        plan: &TaskPlan,
        answers: impl IntoIterator<Item = &'a TaskAnswer>,
    ) -> TaskSummary {
        tasks::publish(&self.context, plan, answers).await
    }

    /// Deletes what no reader and no builder can need; with `dry_run`, only says what it would delete.
    ///
    /// # Errors
    /// [`CompactError`]; what was deleted until then was garbage.
    pub async fn collect_garbage(&self, options: &GcOptions) -> Result<GcReport, CompactError> {
        gc::collect(&self.context, options).await
    }

    /// Re-reads every live object and checks it.
    ///
    /// # Errors
    /// The store could not be listed or read. What is wrong with the objects stands in the report.
    pub async fn verify(&self) -> Result<VerifyReport, CompactError> {
        verify::verify(&self.context).await
    }
}
