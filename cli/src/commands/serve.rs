//! `tarn serve`: uploads, background builder and search in one process.
//!
//! Refuses to be reached from other machines without API keys. Everything durable is in the store; the process may be
//! killed at any moment.

pub(super) mod builder_loop;
mod drop_loop;
pub(super) mod http;
mod watch_uploads;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use axum::Router;
use axum::middleware::from_fn_with_state;
use serde::Serialize;
use tarn_api::{ApiSettings, AppState, AuthMode, KeysSeen, counted};
use tarn_api_query::{QueryState, serve_router};
use tarn_presign::BucketPresigner;
use tarn_search::{Engine, EngineSettings};
use tarn_store::{Requests, Store};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

pub(super) use self::builder_loop::{BuilderLoop, LoopSettings};
use self::drop_loop::DropLoop;
pub(super) use self::http::{Ended, Server};
pub(super) use self::watch_uploads::Uploads;
use super::search::engine_with;
use crate::args::ServeArgs;
use crate::context::{Context, Opening};
use crate::error::CliError;
use crate::output::{DIM, GOOD, HEADING, NAME, Report, WARN, duration, fields};

/// The status of a process that a second signal ended, as shells count it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

pub(super) async fn run(context: &Context, args: ServeArgs) -> Result<ExitCode, CliError> {
    log_to_stderr();
    let store = context.store(Opening::OrCreate)?;
    let seen = KeysSeen::look(&store).await?;
    let keys = seen.required();
    check_address(args.listen, keys)?;
    let server = Server::bind(args.listen).await.map_err(|error| {
        CliError::of(&error)
            .while_doing(format_args!("cannot listen on {}", args.listen))
            .hint("is another server running? --listen 127.0.0.1:0 takes a free port")
    })?;

    let (store, requests) = counted(&store);
    let (stop_sender, stop) = watch::channel(false);
    let uploads = Uploads::default();
    let settings = EngineSettings {
        hydration: args.hydration,
        query_cache_bytes: args.query_cache.map_or(0, |size| usize::try_from(size.0).unwrap_or(usize::MAX)),
        recall_share: args.recall_share,
        ..EngineSettings::default()
    };
    let engine = engine_with(store.clone(), &args.cache, settings)?;
    let router = router(&store, engine, uploads.clone(), Some(requests), mode(args.listen), Some(seen));
    let drops = if args.no_drops {
        None
    } else {
        Some(DropLoop::start(store.clone(), args.drop_interval.0, uploads.clone(), stop.clone()))
    };
    let builder = if args.no_build {
        None
    } else {
        let settings = LoopSettings {
            interval: args.build_interval.0,
            after_deltas: args.build_after,
            gc_interval: args.gc_interval.0,
            builder: super::build::settings(&args.builder, args.cache.threads),
        };
        Some(BuilderLoop::start(store.clone(), settings, uploads, stop.clone())?)
    };
    context.out.show(&Started {
        url: format!("http://{}", server.address()),
        address: server.address(),
        store: store.url().to_owned(),
        keys,
        builder: builder.as_ref().map(|_| {
            format!(
                "every {} while there is something new, or after {} deltas",
                duration(args.build_interval.0),
                args.build_after
            )
        }),
    })?;

    let serving = tokio::spawn(server.run(router, store.clock().clone(), stop));
    first_signal().await?;
    context.out.say(&format!("\n{DIM}finishing the requests in flight; once more to stop at once{DIM:#}"))?;
    stop_sender.send_replace(true);
    tokio::select! {
        ended = serving => {
            let ended = ended.map_err(|error| CliError::of(&error).while_doing("the server failed"))?;
            if let Some(builder) = builder {
                builder.join().await;
            }
            if let Some(drops) = drops {
                drops.join().await;
            }
            if let Ended::CutOff(connections) = ended {
                tracing::warn!(connections, "some connections were cut off");
            }
            Ok(ExitCode::SUCCESS)
        }
        again = first_signal() => again.map(|()| ExitCode::from(INTERRUPTED)),
    }
}

/// The whole HTTP API over a store, telling `uploads` of what changes it. `seen`: what is known of the store's keys.
pub(super) fn router(
    store: &Store,
    engine: Engine,
    uploads: Uploads,
    requests: Option<Requests>,
    auth: AuthMode,
    seen: Option<KeysSeen>,
) -> Router {
    let settings = ApiSettings { auth, ..ApiSettings::default() };
    let presigner = BucketPresigner::of(store);
    let state = AppState::with_presigner(store.clone(), settings, requests, presigner);
    if let Some(seen) = seen {
        state.learn_keys(seen);
    }
    let state = QueryState::new(state, engine);
    serve_router(state).layer(from_fn_with_state(uploads, watch_uploads::watch))
}

/// Whom others can reach demands keys, whatever the store holds.
fn mode(address: SocketAddr) -> AuthMode {
    if address.ip().is_loopback() { AuthMode::WhenKeysExist } else { AuthMode::Always }
}

/// `no-keys-means-loopback`: a server that answers anybody must not be reachable from elsewhere.
fn check_address(address: SocketAddr, keys: bool) -> Result<(), CliError> {
    if keys || address.ip().is_loopback() {
        return Ok(());
    }
    Err(CliError::new(format!(
        "refusing to listen on {address} without API keys: anybody could read and change everything"
    ))
    .hint("create a key first, `tarn keys create --name me --grant 'admin:*'`, or listen on 127.0.0.1"))
}

/// Returns at the next SIGINT or SIGTERM.
async fn first_signal() -> Result<(), CliError> {
    let listen = |kind| signal(kind).map_err(|error| CliError::of(&error).while_doing("cannot listen for signals"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("TARN_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).finish();
    // A second subscriber in one process: only in tests, where the first does.
    drop(tracing::subscriber::set_global_default(subscriber));
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Started {
    url: String,
    address: SocketAddr,
    store: String,
    /// Whether requests need an API key.
    keys: bool,
    builder: Option<String>,
}

impl Report for Started {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        let Self { url, .. } = self;
        writeln!(out, "{HEADING}tarn {}{HEADING:#}\n", env!("CARGO_PKG_VERSION"))?;
        let keys = if self.keys {
            format!("{GOOD}required{GOOD:#}")
        } else {
            "none; everybody on this machine may do everything".to_owned()
        };
        let builder = self.builder.clone().unwrap_or_else(|| format!("{WARN}off{WARN:#}; run tarn build"));
        fields(
            out,
            &[
                ("listening on", format!("{NAME}{url}{NAME:#}")),
                ("store", self.store.clone()),
                ("console", format!("{url}/")),
                ("documentation", format!("{url}/docs")),
                ("builder", builder),
                ("API keys", keys),
            ],
        )?;
        let key = if self.keys { " -H 'Authorization: Bearer YOUR_KEY'" } else { "" };
        writeln!(
            out,
            "\n{HEADING}Try it{HEADING:#}
  curl -X PUT {url}/api/v1/data-sources/docs/1.0{key} -H 'Content-Type: application/json' \\
       -d '{{\"vectorDimension\":2,\"attributeValueTypes\":{{\"id\":\"String\"}},\"permanentAttributes\":[\"id\"]}}'
  curl -X PUT {url}/api/v1/indices/docs/1.0{key} -H 'Content-Type: application/json' \\
       -d '{{\"dataSourceId\":{{\"name\":\"docs\",\"version\":\"1.0\"}},\"indexAlgorithm\":{{\"type\":\"Tarn.Cosine\"}},\"idAttributes\":[\"id\"]}}'
  curl -X POST {url}/api/v1/upload/docs/1.0{key} -H 'Content-Type: application/json' \\
       -d '[{{\"attributes\":[{{\"key\":\"id\",\"value\":{{\"string\":\"a\"}}}}],\"vector\":{{\"isSparse\":false,\"coordinates\":[1,0.5]}}}}]'
  curl -X POST {url}/api/v1/search/docs/1.0{key} -H 'Content-Type: application/json' \\
       -d '{{\"queryVectors\":[{{\"isSparse\":false,\"coordinates\":[1,1]}}],\"k\":1,\"retrieveVectors\":false}}'

{DIM}Ctrl-C finishes what is under way and stops.{DIM:#}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_keys_means_loopback() {
        let check = |address: &str, keys| check_address(address.parse().unwrap(), keys);
        assert!(check("127.0.0.1:1", false).is_ok());
        assert!(check("[::1]:1", false).is_ok());
        assert!(check("0.0.0.0:1", true).is_ok());
        for open in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
            assert!(check(open, false).unwrap_err().to_string().contains("without API keys"), "{open}");
        }
    }
}
