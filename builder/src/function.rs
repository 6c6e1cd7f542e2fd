//! The function: an event in, an answer out.

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::Value;
use tarn_compact::{Builder, Garbage, GcReport, RunItem, RunSummary, Status, Task, TaskAnswer, TaskPlan};

use crate::Failure;
use crate::event::Event;

/// Most objects that the answer of a garbage collection lists: it must fit into Lambda's 6 MB.
const GARBAGE_LISTED_MAX: usize = 1_000;

/// What a failed event's error is called: a state machine shows this, and may have no room for the message.
const FAILED: &str = "TaskFailed";

/// Answers events until Lambda ends the process.
pub(crate) async fn serve(builder: &Builder) -> Result<(), Failure> {
    let failed = |error: Failure| Diagnostic { error_type: FAILED.to_owned(), error_message: error.to_string() };
    let answer = async |event: LambdaEvent<Value>| answer(builder, event.payload).await.map_err(failed);
    lambda_runtime::run(service_fn(answer)).await
}

/// An answer, one shape for each task.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    Report(Report),
    Plan(TaskPlan),
    Task(TaskAnswer),
    Gc(Collected),
}

/// Carries out an event. A task whose failure another attempt may mend is an error, so that its event is delivered again; every
/// one of them is idempotent. A run or a publication in which anything failed is an error too, after it has done everything else, so
/// that somebody hears of it.
pub(crate) async fn answer(builder: &Builder, event: Value) -> Result<Answer, Failure> {
    match Event::decode(event)? {
        Event::Run => Report::of(&builder.run().await?).into_answer(),
        Event::Gc(options) => {
            let collected = Collected::of(builder.collect_garbage(&options).await?);
            collected.log();
            Ok(Answer::Gc(collected))
        }
        Event::Task(Task::Plan) => Ok(Answer::Plan(builder.plan_tasks().await?)),
        Event::Task(Task::Fold { source, up_to }) => Ok(Answer::Task(builder.fold_task(&source, &up_to).await?)),
        Event::Task(Task::Build { index, order, part }) => {
            Ok(Answer::Task(builder.build_task(&index, order, part).await?))
        }
        Event::Task(Task::Publish { plan, folds, builds }) => {
            let summary = builder.publish_tasks(&plan, folds.iter().chain(&builds)).await;
            let mut report = Report::of(&summary.run);
            report.failures.extend(summary.failures);
            report.into_answer()
        }
        Event::Task(task) => Err(format!("this builder cannot carry out {task:?}").into()),
    }
}

/// What a run did.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) published: Vec<String>,
    pub(crate) failures: Vec<String>,
}

impl Report {
    pub(crate) fn of(summary: &RunSummary) -> Self {
        let published = summary.items.iter().filter_map(|item| match item {
            RunItem::Fold(id, Ok(done)) if done.status == Status::Published => {
                Some(format!("{id}: checkpoint {} at {}, {} rows", done.generation, done.watermark, done.rows))
            }
            RunItem::Build(id, Ok(done)) if done.status == Status::Published => {
                Some(format!("{id}: manifest {} at {}, {} rows", done.generation, done.watermark, done.rows))
            }
            _ => None,
        });
        Self {
            published: published.collect(),
            failures: summary.failures().map(|(what, error)| format!("{what}: {error}")).collect(),
        }
    }

    pub(crate) fn log(&self) {
        for line in &self.published {
            tracing::info!("{line}");
        }
        for line in &self.failures {
            tracing::error!("{line}");
        }
    }

    /// Nobody reads the answer to a schedule or a queue: what was done is in the log.
    fn into_answer(self) -> Result<Answer, Failure> {
        self.log();
        if self.failures.is_empty() { Ok(Answer::Report(self)) } else { Err(self.failures.join("; ").into()) }
    }
}

/// What a garbage collection did.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Collected {
    dry_run: bool,
    count: usize,
    bytes: u64,
    notes: Vec<String>,
    /// The first of them.
    objects: Vec<Garbage>,
}

impl Collected {
    fn of(report: GcReport) -> Self {
        let count = report.objects.len();
        let mut objects = report.objects;
        objects.truncate(GARBAGE_LISTED_MAX);
        Self { dry_run: report.dry_run, count, bytes: report.bytes, notes: report.notes, objects }
    }

    fn log(&self) {
        for note in &self.notes {
            tracing::warn!("{note}");
        }
        tracing::info!(dry_run = self.dry_run, count = self.count, bytes = self.bytes, "collected garbage");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use serde_json::json;
    use tarn_compact::{BuilderSettings, Silent};
    use tarn_model::{
        AttributeType, AttributeValue, Attributes, DataPoint, DataSource, DataSourceId, Index, IndexAlgorithm, IndexId,
        Metric, Update, Vector, VectorKind,
    };
    use tarn_store::{Store, create_index, create_source};
    use tarn_timeline::{AppendOptions, PointBatch, Timeline};

    use super::*;

    async fn ask(builder: &Builder, event: Value) -> Value {
        serde_json::to_value(answer(builder, event).await.expect("answered")).expect("JSON")
    }

    async fn builder() -> (Builder, Store) {
        let store = Store::memory();
        let builder = Builder::new(store.clone(), BuilderSettings::default(), Arc::new(Silent)).expect("a builder");
        (builder, store)
    }

    fn films() -> DataSource {
        DataSource {
            id: DataSourceId::new("films", "1").expect("valid"),
            vector_dimension: 2,
            vector_kind: VectorKind::Dense,
            attribute_types: BTreeMap::from([("id".to_owned(), AttributeType::Int64)]),
            permanent_attributes: ["id".to_owned()].into(),
            sharders: BTreeMap::new(),
            policy: Default::default(),
        }
    }

    fn index_over(name: &str, data_source: &str) -> Index {
        Index {
            id: IndexId::new(name, "1").expect("valid"),
            data_source: DataSourceId::new(data_source, "1").expect("valid"),
            algorithm: IndexAlgorithm { metric: Metric::L2, hnsw: None },
            id_attributes: ["id".to_owned()].into(),
            split_attributes: [].into(),
            shards: Index::single_shard(),
        }
    }

    async fn upload(store: &Store, id: i64) {
        let attributes = Attributes::from([("id".to_owned(), AttributeValue::Int64(id))]);
        let point = Update::Upsert(DataPoint { attributes, vector: Vector::Dense(vec![1.0, 2.0]) });
        let source = Arc::new(films());
        let batch = PointBatch::from_updates(Arc::clone(&source), &[point]).expect("a valid point");
        let timeline = Timeline::open(store.clone(), source);
        timeline.append(batch, AppendOptions::default()).await.expect("appended");
    }

    #[tokio::test]
    async fn an_event_that_comes_twice_publishes_once() {
        let (builder, store) = builder().await;
        create_source(&store, &films()).await.expect("created");
        create_index(&store, &index_over("films", "films")).await.expect("created");
        upload(&store, 1).await;
        let event = json!({"Records": [{"messageId": "1", "body": "a delta", "eventSource": "aws:sqs"}]});
        let first = ask(&builder, event.clone()).await;
        assert_eq!(first["published"].as_array().map(Vec::len), Some(2), "{first}");
        assert_eq!(ask(&builder, event).await, json!({"published": [], "failures": []}));
    }

    /// What a state machine does: it passes on what it is given, and adds nothing.
    #[tokio::test]
    async fn the_items_of_a_plan_are_events_and_their_answers_make_the_last() {
        let (builder, store) = builder().await;
        create_source(&store, &films()).await.expect("created");
        create_index(&store, &index_over("films", "films")).await.expect("created");
        for generation in 1..=2 {
            upload(&store, generation).await;
            let plan = ask(&builder, json!({"task": "plan"})).await;
            let mut publish = json!({"task": "publish", "plan": plan});
            for step in ["folds", "builds"] {
                let mut answers = Vec::new();
                for item in plan[step].as_array().expect("a list") {
                    answers.push(ask(&builder, item.clone()).await);
                }
                assert_eq!(answers, [json!("done")]);
                publish[step] = answers.into();
            }
            let published = ask(&builder, publish).await;
            let line = published["published"][0].as_str().expect("a line");
            assert!(line.contains(&format!("manifest {generation} at {generation}, {generation} rows")), "{line}");
        }
    }

    #[tokio::test]
    async fn every_task_has_an_answer() {
        let (builder, store) = builder().await;
        create_source(&store, &films()).await.expect("created");
        let nothing = json!({"published": [], "failures": []});
        assert_eq!(ask(&builder, json!({"Records": []})).await, nothing);
        let plan = ask(&builder, json!({"task": "plan"})).await;
        assert_eq!(plan, json!({"folds": [], "builds": [], "left": 0}));
        let publish = json!({"task": "publish", "plan": plan, "folds": [], "builds": []});
        assert_eq!(ask(&builder, publish).await, nothing);
        let fold = json!({"task": "fold", "source": {"name": "films", "version": "1"}, "upTo": []});
        assert_eq!(ask(&builder, fold).await, json!("done"));
        let id = json!({"name": "films", "version": "1"});
        let build = json!({"task": "build", "index": id, "order": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "part": 0});
        let failed = ask(&builder, build).await;
        assert!(failed["failed"].as_str().is_some_and(|text| text.contains("does not exist")), "{failed}");
        let collected = ask(&builder, json!({"task": "gc", "dryRun": true, "graceMs": 0})).await;
        assert_eq!((&collected["dryRun"], &collected["count"]), (&json!(true), &json!(0)));
    }

    #[tokio::test]
    async fn a_failure_of_a_run_or_a_publication_is_an_error_of_the_event() {
        let (builder, store) = builder().await;
        create_index(&store, &index_over("orphan", "nowhere")).await.expect("created");
        let error = answer(&builder, json!({})).await.expect_err("refused");
        assert!(error.to_string().contains("nowhere"), "{error}");
        let plan = ask(&builder, json!({"task": "plan"})).await;
        assert_eq!(plan["failures"].as_array().map(Vec::len), Some(1), "{plan}");
        let publish = json!({"task": "publish", "plan": plan, "folds": [{"failed": "a fold"}], "builds": []});
        let error = answer(&builder, publish).await.expect_err("refused").to_string();
        assert!(error.contains("nowhere") && error.contains("a fold"), "{error}");
    }
}
