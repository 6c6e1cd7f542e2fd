//! What the handlers that search share.

use std::time::Duration;

use tarn_api::{AppState, Counter, Series};
use tarn_search::{Engine, EngineStats, FunctionSize, ObservedRecall};

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
        let observing = engine.clone();
        app.metrics().show_series(move || observed_recall(&observing));
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
    let EngineStats {
        cold_searches,
        hydrated_files,
        hydrated_bytes,
        query_cache_hits,
        query_cache_misses,
        recall_dropped,
        ..
    } = engine.stats();
    let counter = |name, help, value| Counter { name, help, value };
    vec![
        counter("tarn_cold_searches_total", "Searches that read ranges of files in the store.", cold_searches),
        counter("tarn_hydrated_files_total", "Files fetched after searches had read ranges of them.", hydrated_files),
        counter("tarn_hydrated_bytes_total", "Bytes of files so fetched.", hydrated_bytes),
        counter(
            "tarn_query_cache_hits_total",
            "Searches answered as before, nothing having changed.",
            query_cache_hits,
        ),
        counter("tarn_query_cache_misses_total", "Searches that were looked for in vain.", query_cache_misses),
        counter("tarn_recall_dropped_total", "Searches that were to be compared and were not.", recall_dropped),
    ]
}

fn observed_recall(engine: &Engine) -> Vec<Series> {
    let observed = engine.all_observed_recall();
    let series = |name, help, kind, value: fn(&ObservedRecall) -> f64| {
        observed.iter().map(move |observed| Series {
            name,
            help,
            kind,
            labels: vec![
                ("index", format!("{}/{}", observed.index.name, observed.index.version)),
                ("filter", observed.class.name().to_owned()),
            ],
            value: value(observed),
        })
    };
    let mean = series("tarn_recall", "Mean recall of the searches compared.", "gauge", ObservedRecall::recall);
    let count = |observed: &ObservedRecall| observed.queries as f64;
    let counted = series("tarn_recall_queries_total", "Query vectors compared with an exact search.", "counter", count);
    let sum = |observed: &ObservedRecall| observed.sum;
    let summed = series("tarn_recall_sum", "Their recalls, one added to the other.", "counter", sum);
    mean.chain(counted).chain(summed).collect()
}
