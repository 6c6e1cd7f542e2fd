//! The upload function: HTTP API events to the ingest router. No other logic.
//!
//! `TARN_STORE` names the store, as `s3://bucket/prefix`. Requests always need a key: a function can be reached by others.

use lambda_http::{Error, run, tracing};
use tarn_api::{ApiSettings, AppState, AuthMode, counted, ingest_router};
use tarn_store::{Store, StoreOptions};

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let url = std::env::var("TARN_STORE").map_err(|_| "TARN_STORE must name the store, as s3://bucket/prefix")?;
    let (store, requests) = counted(&Store::open(&url, &StoreOptions::default())?);
    let settings = ApiSettings { auth: AuthMode::Always, ..ApiSettings::default() };
    run(ingest_router(AppState::with_requests(store, settings, Some(requests)))).await
}
