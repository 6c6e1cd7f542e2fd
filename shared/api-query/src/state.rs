//! What the handlers that search share.

use tarn_api::AppState;
use tarn_search::Engine;

/// What the handlers that search share: one per process, cheap to clone.
#[derive(Clone)]
pub struct QueryState {
    app: AppState,
    engine: Engine,
}

impl QueryState {
    /// Of the state of the other handlers and an engine over the same store.
    pub fn new(app: AppState, engine: Engine) -> Self {
        Self { app, engine }
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
