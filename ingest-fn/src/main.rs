//! The upload function: HTTP API events to the ingest router, or notifications of dropped files to the drop folder. No other
//! logic.
//!
//! `TARN_STORE` names the store, as `s3://bucket/prefix`. `TARN_ENTRY` says what the events are: `http` (unless it says otherwise)
//! or `drop`. `TARN_LOG` says what is logged. Requests always need a key: a function can be reached by others.

mod drop_events;

use std::time::Duration;

use lambda_http::request::LambdaRequest;
use lambda_http::tower::ServiceExt as _;
use lambda_http::{Error, Request, RequestExt as _};
use lambda_runtime::{LambdaEvent, service_fn};
use tarn_api::{ApiSettings, AppState, AuthMode, counted, gateway, ingest_router};
use tarn_drop::{DropFolder, DropSettings};
use tarn_presign::BucketPresigner;
use tarn_store::{Store, StoreOptions};
use tracing_subscriber::EnvFilter;

/// Time that a run leaves for the chunk that it has begun: to append it, to record it, to answer.
const RESERVE: Duration = Duration::from_secs(30);

/// What to do about an answer that is too large.
const ADVICE: &str = "accept gzip, list fewer at once, or export from the bucket: its checkpoints are Parquet files";

#[tokio::main]
async fn main() -> Result<(), Error> {
    let filter = EnvFilter::try_from_env("TARN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // CloudWatch has a time for each line.
    tracing_subscriber::fmt().json().with_env_filter(filter).with_ansi(false).without_time().init();
    let url = std::env::var("TARN_STORE").map_err(|_| "TARN_STORE must name the store, as s3://bucket/prefix")?;
    let store = Store::open(&url, &StoreOptions::default())?;
    match std::env::var("TARN_ENTRY").as_deref() {
        Err(_) | Ok("http") => serve_http(store).await,
        Ok("drop") => serve_drops(store).await,
        Ok(other) => Err(format!("TARN_ENTRY must be http or drop, not {other}").into()),
    }
}

async fn serve_http(store: Store) -> Result<(), Error> {
    let presigner = BucketPresigner::of(&store);
    let (store, requests) = counted(&store);
    let settings = ApiSettings { auth: AuthMode::Always, ..ApiSettings::default() };
    let router = ingest_router(AppState::with_presigner(store, settings, Some(requests), presigner));
    let handler = service_fn(move |event: LambdaEvent<LambdaRequest>| {
        let router = router.clone();
        async move {
            let request = Request::from(event.payload).with_lambda_context(event.context);
            Ok::<_, Error>(gateway::reply(router.oneshot(request).await?, ADVICE).await?)
        }
    });
    lambda_runtime::run(handler).await
}

async fn serve_drops(store: Store) -> Result<(), Error> {
    let folder = DropFolder::new(store, DropSettings::default());
    let handler = service_fn(|event: LambdaEvent<drop_events::SqsEvent>| {
        let folder = folder.clone();
        async move {
            let deadline = deadline(&folder, event.context.deadline);
            Ok::<_, Error>(drop_events::handle(&folder, event.payload, deadline).await)
        }
    });
    lambda_runtime::run(handler).await
}

/// When to stop, by the store's monotonic clock. `ends_ms`: when the invocation is ended, in milliseconds since the Unix epoch.
fn deadline(folder: &DropFolder, ends_ms: u64) -> Duration {
    let clock = &**folder.store().clock();
    clock.monotonic() + gateway::time_left(clock, ends_ms, RESERVE)
}
