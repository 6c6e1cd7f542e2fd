//! The search function: HTTP API events to the query router, leaf requests to the engine. No other logic.
//!
//! Everything is built once, before the first event, and kept while the environment lives; nothing that counts is kept here.
//! Requests over HTTP always need a key: a function can be reached by others. Leaf requests come by invocation alone, which IAM
//! guards. After a response has gone out, an internal extension fetches the files that it had to do without, and has
//! searches compared with exact ones if a share of them is to be.
//!
//! What the environment says is in [`config`].

mod config;
mod events;
mod extension;
mod function;
mod leaves;
mod temporary;

use std::num::NonZeroUsize;
use std::sync::Arc;

use lambda_http::{Error, LambdaEvent, lambda_runtime, service_fn};
use serde_json::value::RawValue;
use tarn_api::{ApiSettings, AppState, AuthMode, counted};
use tarn_api_query::{QueryState, query_router};
use tarn_search::{Engine, EngineSettings, FunctionSize};
use tarn_store::{Store, StoreOptions};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::Config;
use crate::events::Handler;
use crate::extension::Extension;
use crate::function::Function;
use crate::leaves::LambdaLeaves;

#[tokio::main]
async fn main() -> Result<(), Error> {
    log(std::env::var("TARN_LOG").ok().as_deref());
    let config = Config::read(|name| std::env::var(name).ok())?;
    let (store, requests) = counted(&Store::open(&config.store, &StoreOptions::default())?);
    let engine = engine(&config, &store)?;
    let settings = ApiSettings { auth: AuthMode::Always, ..ApiSettings::default() };
    let app = AppState::with_requests(store.clone(), settings, Some(requests));
    let mut state = QueryState::new(app, engine.clone());
    if let Some(memory_mb) = config.memory_mb {
        state = state.in_function(FunctionSize { memory_mb, arm: cfg!(target_arch = "aarch64") });
    }
    let (handler, responses) = Handler::new(query_router(state), engine.clone());
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
            failed = extension.run(responses, || after_response(engine.clone())) => failed,
        },
        Err(error) => {
            tracing::warn!(%error, "no extension: missing files are fetched when a search needs them");
            drop(responses);
            serving.await
        }
    }
}

/// Logs what `filter` names: levels, of everything or of targets. Not what it could name besides, spans and fields: telling those
/// takes regular expressions, which would be a tenth of a megabyte more to load.
fn log(filter: Option<&str>) {
    let filter = filter.and_then(|filter| filter.parse().ok());
    let filter: Targets = filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    // CloudWatch has a time for each line.
    let lines = tracing_subscriber::fmt::layer().json().with_ansi(false).without_time();
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
}

fn engine(config: &Config, store: &Store) -> Result<Engine, Error> {
    let cache_bytes = config.cache_bytes.unwrap_or_else(|| temporary::cache_bytes(&std::env::temp_dir()));
    let settings = EngineSettings {
        cache_bytes,
        hydration: config.hydration,
        query_cache_bytes: config.query_cache_bytes,
        recall_share: config.recall_share,
        ..EngineSettings::default()
    };
    let Some(scale_out) = &config.scale_out else { return Ok(Engine::new(store.clone(), settings)?) };
    let bucket = store.bucket().ok_or("TARN_LEAF_BYTES needs a store on S3")?;
    let function = Function::new(scale_out, bucket)?;
    let leaves = Arc::new(LambdaLeaves::new(function, Arc::clone(store.clock())));
    let leaves_max = scale_out.leaves_max.map_or(settings.leaves_max, NonZeroUsize::get);
    let settings = EngineSettings { leaf_bytes: scale_out.leaf_bytes, leaves_max, ..settings };
    Ok(Engine::with_leaves(store.clone(), settings, leaves)?)
}

async fn after_response(engine: Engine) {
    if let Err(error) = engine.hydrate().await {
        tracing::warn!(%error, "a missing file could not be fetched");
    }
    engine.compared().await;
}
