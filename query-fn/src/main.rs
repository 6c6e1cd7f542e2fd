//! The search function: HTTP API events to the query router, leaf requests to the engine. No other logic.
//!
//! Everything is built once, before the first event, and kept while the environment lives; nothing that counts is kept here.
//! Requests over HTTP always need a key: a function can be reached by others. Leaf requests come by invocation alone, which IAM
//! guards. After a response has gone out, an internal extension fetches the files that it had to do without.
//!
//! What the environment says is in [`config`].

mod config;
mod events;
mod extension;
mod function;
mod leaves;

use std::sync::Arc;

use lambda_http::{Error, LambdaEvent, lambda_runtime, service_fn};
use serde_json::value::RawValue;
use tarn_api::{ApiSettings, AppState, AuthMode, counted};
use tarn_api_query::{QueryState, query_router};
use tarn_search::{Engine, EngineSettings};
use tarn_store::{Store, StoreOptions};
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::events::Handler;
use crate::extension::Extension;
use crate::function::Function;
use crate::leaves::LambdaLeaves;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let filter = EnvFilter::try_from_env("TARN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // CloudWatch has a time for each line.
    tracing_subscriber::fmt().json().with_env_filter(filter).with_ansi(false).without_time().init();
    let config = Config::read(|name| std::env::var(name).ok())?;
    let (store, requests) = counted(&Store::open(&config.store, &StoreOptions::default())?);
    let engine = engine(&config, &store)?;
    let settings = ApiSettings { auth: AuthMode::Always, ..ApiSettings::default() };
    let app = AppState::with_requests(store.clone(), settings, Some(requests));
    let (handler, responses) = Handler::new(query_router(QueryState::new(app, engine.clone())), engine.clone());
    let serving = lambda_runtime::run(service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let handler = handler.clone();
        async move { handler.handle(event).await }
    }));
    // Before the runtime asks for the first event: later, it may not.
    let registered = match &config.runtime_api {
        Some(api) => Extension::register(api, Arc::clone(store.clock())).await,
        None => Err("AWS_LAMBDA_RUNTIME_API is not set".into()),
    };
    match registered {
        // One that no longer asks for events would hold up every response; so both end together.
        Ok(extension) => tokio::select! {
            ended = serving => ended,
            failed = extension.run(responses, || hydrate(engine.clone())) => failed,
        },
        Err(error) => {
            tracing::warn!(%error, "no extension: missing files are fetched when a search needs them");
            drop(responses);
            serving.await
        }
    }
}

fn engine(config: &Config, store: &Store) -> Result<Engine, Error> {
    let settings = EngineSettings { cache_bytes: config.cache_bytes, ..EngineSettings::default() };
    let Some(scale_out) = &config.scale_out else { return Ok(Engine::new(store.clone(), settings)?) };
    let bucket = store.bucket().ok_or("TARN_LEAF_BYTES needs a store on S3")?;
    let function = Function::new(scale_out, bucket)?;
    let leaves = Arc::new(LambdaLeaves::new(function, Arc::clone(store.clock())));
    Ok(Engine::with_leaves(store.clone(), EngineSettings { leaf_bytes: scale_out.leaf_bytes, ..settings }, leaves)?)
}

async fn hydrate(engine: Engine) {
    if let Err(error) = engine.hydrate().await {
        tracing::warn!(%error, "a missing file could not be fetched");
    }
}
