//! The search function: HTTP API events to the query router. No other logic.
//!
//! `TARN_STORE` names the store, as `s3://bucket/prefix`; `TARN_CACHE_BYTES` bounds the segment files kept in the temporary
//! directory, 400 MB unless set. Requests always need a key: a function can be reached by others.

use lambda_http::{Error, run, tracing};
use tarn_api::{ApiSettings, AppState, AuthMode, counted};
use tarn_api_query::{QueryState, query_router};
use tarn_search::{Engine, EngineSettings};
use tarn_store::{Store, StoreOptions};

/// A function's temporary directory has 512 MB unless it is given more.
const CACHE_BYTES: u64 = 400_000_000;

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let url = std::env::var("TARN_STORE").map_err(|_| "TARN_STORE must name the store, as s3://bucket/prefix")?;
    let cache_bytes = match std::env::var("TARN_CACHE_BYTES") {
        Ok(text) => text.parse().map_err(|_| "TARN_CACHE_BYTES must be a number of bytes")?,
        Err(_) => CACHE_BYTES,
    };
    let (store, requests) = counted(&Store::open(&url, &StoreOptions::default())?);
    let engine = Engine::new(store.clone(), EngineSettings { cache_bytes, ..EngineSettings::default() })?;
    let settings = ApiSettings { auth: AuthMode::Always, ..ApiSettings::default() };
    run(query_router(QueryState::new(AppState::with_requests(store, settings, Some(requests)), engine))).await
}
