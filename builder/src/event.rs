//! What an event asks for.
//!
//! `{"task": …}` is `run`, `plan`, `fold`, `build`, `publish` or `gc`. Any other event, a schedule's or a queue's, has no
//! `task` and asks for a run: what has changed is in the store, not in the event, so it may come late, twice or out of order.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tarn_compact::{GcOptions, Task};

/// A decoded event.
#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    /// Fold and build everything.
    Run,
    /// One task of a run that is shared out.
    Task(Task),
    /// Collect garbage.
    Gc(GcOptions),
}

/// The options of `{"task": "gc"}`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct GcRequest {
    task: String,
    dry_run: bool,
    grace_ms: Option<u64>,
    store_is_idle: bool,
    retain_generations: Option<u64>,
    receipt_retention_ms: Option<u64>,
}

/// An event that asks for nothing we know.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EventError {
    #[error("unknown task {0}; there are run, plan, fold, build, publish and gc")]
    UnknownTask(Value),
    #[error("the event of task '{task}' is wrong: {cause}")]
    Wrong { task: String, cause: serde_json::Error },
}

impl Event {
    /// Decodes an event.
    pub(crate) fn decode(event: Value) -> Result<Self, EventError> {
        let Some(task) = event.get("task") else { return Ok(Self::Run) };
        let Some(name) = task.as_str().map(str::to_owned) else { return Err(EventError::UnknownTask(task.clone())) };
        let wrong = |cause| EventError::Wrong { task: name.clone(), cause };
        match name.as_str() {
            "run" => Ok(Self::Run),
            "gc" => serde_json::from_value(event).map(|request| Self::Gc(gc_options(&request))).map_err(wrong),
            "plan" | "fold" | "build" | "publish" => serde_json::from_value(event).map(Self::Task).map_err(wrong),
            _ => Err(EventError::UnknownTask(task.clone())),
        }
    }
}

fn gc_options(request: &GcRequest) -> GcOptions {
    let mut options = GcOptions::default();
    options.dry_run = request.dry_run;
    options.store_is_idle = request.store_is_idle;
    if let Some(grace_ms) = request.grace_ms {
        options.grace = Duration::from_millis(grace_ms);
    }
    if let Some(retain) = request.retain_generations {
        options.retain_generations = retain;
    }
    if let Some(retention_ms) = request.receipt_retention_ms {
        options.receipt_retention = Duration::from_millis(retention_ms);
    }
    options
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decode(event: Value) -> Event {
        Event::decode(event).expect("a valid event")
    }

    fn refusal(event: Value) -> String {
        Event::decode(event).expect_err("refused").to_string()
    }

    #[test]
    fn whatever_has_no_task_is_a_run() {
        let queue = json!({"Records": [{"messageId": "1", "body": "{\"Records\":[]}", "eventSource": "aws:sqs"}]});
        let schedule = json!({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}});
        for event in [Value::Null, json!({}), json!([]), json!("x"), queue, schedule, json!({"task": "run", "more": 1})]
        {
            assert_eq!(decode(event.clone()), Event::Run, "{event}");
        }
    }

    #[test]
    fn tasks_are_the_items_of_a_plan_as_they_are() {
        assert_eq!(decode(json!({"task": "plan"})), Event::Task(Task::Plan));
        let id = json!({"name": "films", "version": "1"});
        let fold = json!({"task": "fold", "source": id, "upTo": [17]});
        let build = json!({"task": "build", "index": id, "order": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "part": 3});
        let plan = json!({"folds": [fold], "builds": [build], "left": 0});
        let publish = json!({"task": "publish", "plan": plan, "folds": ["done"], "builds": [{"failed": "why"}]});
        for event in [fold, build, publish] {
            let Event::Task(task) = decode(event.clone()) else { panic!("{event} is a task") };
            assert_eq!(serde_json::to_value(task).expect("JSON"), event);
        }
    }

    #[test]
    fn gc_takes_its_options_in_milliseconds() {
        assert_eq!(decode(json!({"task": "gc"})), Event::Gc(GcOptions::default()));
        let event = json!({"task": "gc", "dryRun": true, "graceMs": 1500, "storeIsIdle": true, "retainGenerations": 3});
        let Event::Gc(options) = decode(event) else { panic!("gc") };
        assert!(options.dry_run && options.store_is_idle);
        assert_eq!((options.grace, options.retain_generations), (Duration::from_millis(1500), 3));
        assert_eq!(options.receipt_retention, GcOptions::default().receipt_retention);
    }

    #[test]
    fn what_is_not_understood_is_refused_and_never_a_run() {
        assert!(refusal(json!({"task": "rum"})).contains("unknown task \"rum\""));
        assert!(refusal(json!({"task": 7})).contains("unknown task 7"));
        assert!(refusal(json!({"task": null})).contains("unknown task null"));
        assert!(refusal(json!({"task": "fold"})).contains("'fold'"));
        assert!(refusal(json!({"task": "build", "index": {}, "part": -1})).contains("'build'"));
        // A misspelt option of a task that deletes is no option left out.
        assert!(refusal(json!({"task": "gc", "dryrun": true})).contains("dryrun"));
        assert!(refusal(json!({"task": "gc", "graceMs": -1})).contains("'gc'"));
    }
}
