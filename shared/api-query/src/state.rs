//! What the handlers that search share.

use std::time::Duration;

use tarn_api::{AppState, Counter};
use tarn_search::{Engine, EngineStats, FunctionSize};

/// What the handlers that search share: one per process, cheap to clone.
#[derive(Clone)]
pub struct QueryState {
    app: AppState,
    engine: Engine,
    function: Option<FunctionSize>,
}

impl QueryState {
    /// Of the state of the other handlers and an engine over the same store.
    pub fn new(app: AppState, engine: Engine) -> Self {
        let counting = engine.clone();
        app.metrics().show(move || counters(&counting));
        Self { app, engine, function: None }
    }

    /// The same in a Lambda function of this size, for receipts.
    #[must_use]
    pub fn in_function(self, size: FunctionSize) -> Self {
        Self { function: Some(size), ..self }
    }

    /// Time, for what takes how long.
    pub(crate) fn now(&self) -> Duration {
        self.engine.store().clock().monotonic()
    }

    /// The function that this runs in, if it does.
    pub(crate) fn function(&self) -> Option<FunctionSize> {
        self.function
    }

    /// What is shared with the other handlers.
    pub fn app(&self) -> &AppState {
        &self.app
    }

    /// What searches.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}

fn counters(engine: &Engine) -> Vec<Counter> {
    let EngineStats { cold_searches, hydrated_files, hydrated_bytes, .. } = engine.stats();
    let counter = |name, help, value| Counter { name, help, value };
    vec![
        counter("tarn_cold_searches_total", "Searches that read ranges of files in the store.", cold_searches),
        counter("tarn_hydrated_files_total", "Files fetched after searches had read ranges of them.", hydrated_files),
        counter("tarn_hydrated_bytes_total", "Bytes of files so fetched.", hydrated_bytes),
    ]
}
