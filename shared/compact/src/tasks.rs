//! A run over everything as tasks that any process may carry out, in an order that somebody else looks after.
//!
//! ```text
//! plan ─▶ fold, each data source ─▶ build, each part of each index ─▶ publish
//! ```
//! *Plan* looks at what there is and names the tasks. Its answer is small: what a part needs to know is in the index's
//! *order*, an object under `builds/` that the task names. A *fold* folds one data source, all of it, and publishes the
//! checkpoint. A *build* builds the shards of one part and leaves its result beside the order. *Publish* puts the parts of
//! each index together.
//!
//! **Tasks are idempotent**, and named by their inputs. A fold is done when a checkpoint includes the watermark that it
//! names. An order has a name by what is to be built on what, so a plan that is made again finds the order, and what has
//! been built for it. The result of a part is created if absent: whoever comes second throws away what they have built
//! (`a-part-has-one-result`). The order has the commit id of the manifest, so a second publication finds its own, however
//! late. A task that dies leaves garbage, and so does a plan that nobody carries out; garbage collection takes both.
//!
//! **Tasks that come out of order** are answered and change nothing: a build before its fold finds no checkpoint, a
//! publication before its builds no result.
//!
//! **Two at once**, state machines or builders of any kind, race for generations as ever. A fold that loses goes on from
//! the winner's checkpoint; a build that loses has lost its work. State machines that plan the same share an order.
//!
//! **Failures.** What may go better at another attempt is an error of the task. What will not (damaged objects, a
//! definition that is gone) is an answer, so that one bad data source does not keep the others from being built; publish
//! tells of all of them.

mod budget;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tarn_model::{Corrupt, DataSourceId, FORMAT, Index, IndexId, Manifest, ObjectKey, ReadToken};
use tarn_store::{Created, latest_manifest, list_indices, list_sources, load_source};
use ulid::Ulid;

use crate::build::{BuildOrder, PartResult, Step, Target, definitions, order, outcome};
use crate::checkpoint;
use crate::context::Context;
use crate::error::CompactError;
use crate::hint;
use crate::outcome::{BuildOutcome, RunItem, RunSummary, Status};
use crate::publish::{Begun, Publication, stands, to_json};
use budget::Budget;

/// Most parts of one index; an index with more shards has several in a part.
const PARTS_MAX: usize = 128;
/// Most failures that a plan lists.
const FAILURES_MAX: usize = 20;
/// Longest text of a failure in an answer, in bytes of JSON. The log has it all.
const FAILURE_BYTES_MAX: usize = 240;

/// One task: JSON with its name in `task`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Task {
    /// See [`crate::Builder::plan_tasks`].
    Plan,
    /// See [`crate::Builder::fold_task`].
    Fold {
        /// The data source.
        source: DataSourceId,
        /// What the checkpoint must include.
        up_to: ReadToken,
    },
    /// See [`crate::Builder::build_task`].
    Build {
        /// The index.
        index: IndexId,
        /// The id of its order.
        order: Ulid,
        /// From 0.
        part: u32,
    },
    /// See [`crate::Builder::publish_tasks`].
    Publish {
        /// The answer of the plan.
        plan: TaskPlan,
        /// The answers of its folds.
        #[serde(default)]
        folds: Vec<TaskAnswer>,
        /// The answers of its builds.
        #[serde(default)]
        builds: Vec<TaskAnswer>,
    },
}

/// What is to be done. All of `folds` before any of `builds`; within each, in any order and at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TaskPlan {
    /// One [`Task::Fold`] for each data source whose timeline has grown.
    pub folds: Vec<Task>,
    /// The [`Task::Build`]s of each index that lags.
    pub builds: Vec<Task>,
    /// What could not be planned, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
    /// How many data sources and indices did not fit into this plan; another one takes them.
    #[serde(default)]
    pub left: u64,
}

/// What became of a fold or a build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum TaskAnswer {
    /// It is done, by this task or another.
    Done,
    /// Another builder has published the index; there was nothing left to do.
    LostRace,
    /// It cannot be done, and another attempt would not help.
    Failed(String),
}

/// What has been published, and everything that failed on the way.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct TaskSummary {
    /// One item for each index of the plan.
    pub run: RunSummary,
    /// Failures of the plan and of its tasks.
    pub failures: Vec<String>,
}

/// Names the tasks that bring everything up to date.
pub(crate) async fn plan(context: &Arc<Context>) -> Result<TaskPlan, CompactError> {
    let mut planner =
        Planner { context, plan: TaskPlan::default(), budget: Budget::default(), targets: BTreeMap::new() };
    // So that what did not fit into one plan has its turn in another.
    for source in context.rotated(list_sources(&context.store).await?) {
        let planned = planner.fold(&source.id).await;
        planner.note(&source.id, planned)?;
    }
    for index in context.rotated(list_indices(&context.store).await?) {
        let planned = planner.build(&index).await;
        planner.note(&index.id, planned)?;
    }
    let (folds, builds, left) = (planner.plan.folds.len(), planner.plan.builds.len(), planner.plan.left);
    tracing::info!(folds, builds, left, "planned");
    Ok(planner.plan)
}

struct Planner<'a> {
    context: &'a Arc<Context>,
    plan: TaskPlan,
    budget: Budget,
    /// The checkpoint of each data source after the folds.
    targets: BTreeMap<DataSourceId, Option<Target>>,
}

impl Planner<'_> {
    async fn fold(&mut self, id: &DataSourceId) -> Result<(), CompactError> {
        let fold = checkpoint::plan(self.context, id).await?;
        let (mut generation, mut watermark) =
            fold.previous.as_ref().map_or((0, ReadToken::default()), |p| (p.generation, p.watermark.clone()));
        if fold.is_due() {
            let task = Task::Fold { source: id.clone(), up_to: fold.up_to.clone() };
            if self.budget.take_fold(&task)? {
                self.plan.folds.push(task);
                (generation, watermark) = (generation + 1, fold.up_to);
            } else {
                self.plan.left += 1;
            }
        }
        let target = (generation > 0).then_some(Target { from_generation: generation, watermark });
        self.targets.insert(id.clone(), target);
        Ok(())
    }

    async fn build(&mut self, index: &Index) -> Result<(), CompactError> {
        let begun = Begun::now(self.context);
        let target = match self.targets.get(&index.data_source) {
            Some(Some(target)) => target.clone(),
            Some(None) => return Ok(()),
            // Its failure is listed already, if there is such a data source.
            None if load_source(&self.context.store, &index.data_source).await?.is_some() => return Ok(()),
            None => return Err(CompactError::NotFound { what: index.data_source.to_string() }),
        };
        let previous = latest_manifest(&self.context.store, &index.id, None).await?;
        let Some(order) = order(self.context, begun, index, previous.as_ref(), target, PARTS_MAX) else {
            return Ok(());
        };
        // Ids are of one length.
        if !self.budget.take_builds(&builds_of(&order))? {
            self.plan.left += 1;
            return Ok(());
        }
        let order = self.write(order).await?;
        self.plan.builds.extend(builds_of(&order));
        Ok(())
    }

    /// Stores an order, unless there is one that asks for the same: a plan that is made again goes on with what has been
    /// built. One that has not much time left is let be.
    async fn write(&self, mut order: BuildOrder) -> Result<BuildOrder, CompactError> {
        let context = self.context;
        order.id = order.id_by_inputs()?;
        let bytes = to_json(&order)?;
        let found = match context.store.create(&order.key(), bytes.clone(), |found| *found == bytes).await? {
            Created::Ours => return Ok(order),
            Created::Taken(found) => found,
        };
        let earlier = serde_json::from_slice::<BuildOrder>(&found).ok().filter(|earlier| {
            let is_young = Begun::by(context, earlier.begun_ms).age(context) <= context.settings.longest_build / 2;
            is_young && earlier.format == FORMAT && earlier.id == order.id && earlier.asks_the_same(&order)
        });
        if let Some(earlier) = earlier {
            return Ok(earlier);
        }
        order.id = context.new_id();
        context.store.put_unique(&order.key(), to_json(&order)?).await?;
        Ok(order)
    }

    /// Goes on after a failure of one item, unless all may go better at another attempt.
    fn note(&mut self, what: &impl ToString, planned: Result<(), CompactError>) -> Result<(), CompactError> {
        let Err(error) = planned else { return Ok(()) };
        if error.is_retryable() {
            return Err(error);
        }
        tracing::error!(what = what.to_string(), %error, "cannot be planned");
        if self.plan.failures.len() < FAILURES_MAX {
            self.plan.failures.push(shortened(&format!("{}: {error}", what.to_string())));
        }
        Ok(())
    }
}

fn builds_of(order: &BuildOrder) -> Vec<Task> {
    let task = |(part, _)| Task::Build { index: order.index.clone(), order: order.id, part };
    (0_u32..).zip(&order.parts).map(task).collect()
}

/// Folds a data source, until a checkpoint includes `up_to`.
pub(crate) async fn fold(
    context: &Arc<Context>,
    source: &DataSourceId,
    up_to: &ReadToken,
) -> Result<TaskAnswer, CompactError> {
    let folded = checkpoint::fold_up_to(context, source, up_to).await;
    answer(&source.to_string(), folded.map(|_| TaskAnswer::Done))
}

/// Builds a part of an index.
pub(crate) async fn build(
    context: &Arc<Context>,
    index: &IndexId,
    order: Ulid,
    part: u32,
) -> Result<TaskAnswer, CompactError> {
    let subject = format!("{index}, part {part}");
    answer(&subject, build_part(context, index, order, part).await)
}

fn answer(subject: &str, done: Result<TaskAnswer, CompactError>) -> Result<TaskAnswer, CompactError> {
    match done {
        Err(error) if !error.is_retryable() => {
            tracing::error!(subject, %error, "the task failed");
            Ok(TaskAnswer::Failed(shortened(&format!("{subject}: {error}"))))
        }
        other => other,
    }
}

async fn build_part(
    context: &Arc<Context>,
    index: &IndexId,
    order: Ulid,
    part: u32,
) -> Result<TaskAnswer, CompactError> {
    let order = load_order(context, index, order).await?;
    let key = order.part_key(part);
    if context.store.size(&key).await?.is_some() {
        return Ok(TaskAnswer::Done);
    }
    if is_taken(context, &order).await? {
        return Ok(TaskAnswer::LostRace);
    }
    let step = Step::resume(context, order).await?;
    let result = to_json(&step.build_part(part).await?)?;
    let is_ours = |found: &Bytes| *found == result;
    match context.store.create(&key, result.clone(), is_ours).await? {
        Created::Ours => {}
        Created::Taken(_) => tracing::info!(%index, part, "somebody else has built this part"),
    }
    Ok(TaskAnswer::Done)
}

/// Whether the generation that an order is to have is there.
async fn is_taken(context: &Context, order: &BuildOrder) -> Result<bool, CompactError> {
    let key = ObjectKey::Manifest { index: order.index.clone(), generation: order.generation() };
    Ok(context.store.size(&key).await?.is_some())
}

/// Publishes every index of a plan whose parts are all built.
pub(crate) async fn publish(
    context: &Arc<Context>,
    plan: &TaskPlan,
    answers: impl IntoIterator<Item = &TaskAnswer>,
) -> TaskSummary {
    let mut summary = TaskSummary { failures: plan.failures.clone(), ..TaskSummary::default() };
    let failed = answers.into_iter().filter_map(|answer| match answer {
        TaskAnswer::Failed(text) => Some(text.clone()),
        TaskAnswer::Done | TaskAnswer::LostRace => None,
    });
    summary.failures.extend(failed);
    let mut orders: Vec<(&IndexId, Ulid)> = Vec::new();
    for task in &plan.builds {
        match task {
            Task::Build { index, order, .. } => orders.push((index, *order)),
            _ => summary.failures.push("a task among the builds of the plan is none".to_owned()),
        }
    }
    orders.sort_unstable();
    orders.dedup();
    for (index, order) in orders {
        let published = publish_order(context, index, order).await;
        summary.run.items.push(RunItem::Build(index.clone(), published));
    }
    summary
}

async fn publish_order(context: &Arc<Context>, index: &IndexId, order: Ulid) -> Result<BuildOutcome, CompactError> {
    let order = load_order(context, index, order).await?;
    if let Some(outcome) = published_before(context, &order).await? {
        return Ok(outcome);
    }
    let mut parts = Vec::with_capacity(order.parts.len());
    for part in (0_u32..).take(order.parts.len()) {
        let key = order.part_key(part);
        let bytes = context.store.get(&key).await?.ok_or_else(|| CompactError::NotFound {
            what: format!("the result of part {part} of {index}, which must be built before it is published,"),
        })?;
        parts.push(parse_part(&key, &bytes, &order, part)?);
    }
    Step::resume(context, order).await?.publish(parts).await
}

/// How the publication of an order ended, if somebody has published its generation.
async fn published_before(context: &Context, order: &BuildOrder) -> Result<Option<BuildOutcome>, CompactError> {
    let generation = order.generation();
    let key = ObjectKey::Manifest { index: order.index.clone(), generation };
    let Some(bytes) = context.store.get(&key).await? else { return Ok(None) };
    let manifest = Manifest::parse(&key.render(), &bytes, &order.index, generation)?;
    if manifest.commit_id == order.commit_id && stands(context, &order.index, generation).await? == Publication::Ours {
        // Whoever published it may not have come so far.
        let (_, source) = definitions(context, &order.index).await?;
        hint::mend(context, &source, &manifest).await;
        return Ok(Some(outcome(Status::Published, Some(&manifest), 0, 0)));
    }
    let newest = latest_manifest(&context.store, &order.index, None).await?;
    Ok(Some(outcome(Status::LostRace, newest.as_ref(), 0, 0)))
}

async fn load_order(context: &Context, index: &IndexId, id: Ulid) -> Result<BuildOrder, CompactError> {
    let key = ObjectKey::BuildOrder { index: index.clone(), id };
    let bytes = context.store.get(&key).await?;
    let bytes = bytes.ok_or_else(|| CompactError::NotFound { what: format!("the order {id} of {index}") })?;
    let order: BuildOrder = parse(&key, &bytes, "the order of a build")?;
    check(&key, order.format == FORMAT && order.id == id && order.index == *index)?;
    Ok(order)
}

fn parse_part(key: &ObjectKey, bytes: &[u8], order: &BuildOrder, part: u32) -> Result<PartResult, CompactError> {
    let result: PartResult = parse(key, bytes, "the result of a part")?;
    let named = result.format == FORMAT && result.order == order.commit_id && result.part == part;
    check(key, named && result.shards.iter().map(|entry| &entry.shard).eq(order.shards_of(part)?))?;
    Ok(result)
}

fn parse<'a, T: Deserialize<'a>>(key: &ObjectKey, bytes: &'a [u8], what: &str) -> Result<T, Corrupt> {
    serde_json::from_slice(bytes).map_err(|error| corrupt(key, "json", what, error.to_string()))
}

fn check(key: &ObjectKey, holds: bool) -> Result<(), Corrupt> {
    let expected = format!("format {FORMAT}, and what its key and its order say");
    if holds { Ok(()) } else { Err(corrupt(key, "owner", &expected, "something else".to_owned())) }
}

fn corrupt(key: &ObjectKey, part: &str, expected: &str, found: String) -> Corrupt {
    Corrupt { object: key.render(), part: part.to_owned(), expected: expected.to_owned(), found }
}

/// The beginning of a text, at most [`FAILURE_BYTES_MAX`] of JSON.
fn shortened(text: &str) -> String {
    let mut left = FAILURE_BYTES_MAX;
    let fits = |c: &char| {
        let bytes = if *c == '"' || *c == '\\' || c.is_control() { 6 } else { c.len_utf8() };
        let fits = bytes <= left;
        left = left.saturating_sub(bytes);
        fits
    };
    text.chars().take_while(fits).collect()
}
