//! An internal extension of Lambda's: work between a response and the moment at which the environment is frozen.
//!
//! Lambda hands an invocation to the runtime and to each extension, and freezes the environment when all of them ask for the
//! next. So this one waits for the response, works, and asks. The time is billed, and a next invocation goes to another
//! environment meanwhile; it counts against the function's time-out, and therefore ends before it.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use lambda_http::Error;
use lambda_http::http::{Request, Uri};
use lambda_runtime_api_client::PooledClient;
use lambda_runtime_api_client::body::Body;
use serde::Deserialize;
use tarn_store::Clock;
use tokio::sync::mpsc::UnboundedReceiver;

/// An internal extension may have any name that no external one has.
const NAME: &str = "tarn-hydrate";
const NAME_HEADER: &str = "lambda-extension-name";
const IDENTIFIER_HEADER: &str = "lambda-extension-identifier";
const REGISTER: &str = "/2020-01-01/extension/register";
const NEXT: &str = "/2020-01-01/extension/event/next";
/// Left of the invocation's time when the work ends: to ask for the next event.
const RESERVE: Duration = Duration::from_secs(1);
/// A runtime API that does not answer must not hold up the function.
const REGISTRATION: Duration = Duration::from_secs(1);

/// A registered extension.
#[derive(Debug)]
pub(crate) struct Extension {
    /// The runtime's own, which knows no TLS and no time limit: the next event may be hours away.
    api: PooledClient,
    identifier: String,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    event_type: String,
    /// Milliseconds since the Unix epoch.
    #[serde(default)]
    deadline_ms: i64,
}

impl Extension {
    /// Registers for invocations. `api`: host and port.
    ///
    /// # Errors
    /// When the API refuses, does not know extensions, or takes too long. The function does without, then.
    pub(crate) async fn register(api: &str, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let endpoint: Uri = format!("http://{api}").parse()?;
        let api = PooledClient::builder().with_endpoint(endpoint).build();
        let request = Request::post(REGISTER).header(NAME_HEADER, NAME).body(Body::from(r#"{"events":["INVOKE"]}"#))?;
        let response = tokio::select! {
            response = api.call(request) => response?,
            () = clock.sleep(REGISTRATION) => return Err("the extensions API does not answer".into()),
        };
        let identifier = response.headers().get(IDENTIFIER_HEADER).filter(|_| response.status().is_success());
        let refused = || format!("the extension was not registered: {}", response.status());
        let identifier = identifier.ok_or_else(refused)?.to_str()?.to_owned();
        Ok(Self { api, identifier, clock })
    }

    /// For each invocation waits for the response, then works as long as there is time.
    ///
    /// # Errors
    /// When the next event cannot be had. It never ends otherwise.
    pub(crate) async fn run<W: Future<Output = ()>>(
        self,
        mut responses: UnboundedReceiver<()>,
        work: impl Fn() -> W,
    ) -> Result<(), Error> {
        loop {
            let event = self.next().await?;
            if event.event_type != "INVOKE" {
                continue;
            }
            responses.recv().await.ok_or("the function has ended")?;
            let left = u64::try_from(event.deadline_ms.saturating_sub(self.clock.now_ms())).unwrap_or(0);
            let left = Duration::from_millis(left).saturating_sub(RESERVE);
            tokio::select! {
                () = work() => {}
                () = self.clock.sleep(left) => tracing::info!("no time for all that is to be done after the response"),
            }
        }
    }

    async fn next(&self) -> Result<Event, Error> {
        let request = Request::get(NEXT).header(IDENTIFIER_HEADER, &self.identifier).body(Body::empty())?;
        let response = self.api.call(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            return Err(format!("the next event was refused: {status}").into());
        }
        Ok(serde_json::from_slice(&body)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use tarn_store::SystemClock;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    async fn serve(api: Router) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, api).await });
        address
    }

    fn registering() -> Router {
        let register = |headers: HeaderMap, body: String| async move {
            assert_eq!((headers[NAME_HEADER].to_str().unwrap(), body.as_str()), (NAME, r#"{"events":["INVOKE"]}"#));
            [(IDENTIFIER_HEADER, "me")]
        };
        Router::new().route(REGISTER, post(register))
    }

    /// One invocation, then a refusal.
    fn with_one_event(deadline_ms: i64) -> Router {
        let asked = Arc::new(AtomicUsize::new(0));
        let next = move |headers: HeaderMap| {
            let number = asked.fetch_add(1, Ordering::SeqCst);
            async move {
                assert_eq!(headers[IDENTIFIER_HEADER], "me");
                match number {
                    0 => Ok(Json(serde_json::json!({"eventType": "INVOKE", "deadlineMs": deadline_ms}))),
                    _ => Err(StatusCode::GONE),
                }
            }
        };
        registering().route(NEXT, get(next))
    }

    async fn registered(api: Router) -> Extension {
        Extension::register(&serve(api).await, Arc::new(SystemClock)).await.unwrap()
    }

    #[tokio::test]
    async fn it_works_after_the_response_and_then_asks_for_the_next_event() {
        let extension = registered(with_one_event(SystemClock.now_ms() + 60_000)).await;
        let (responded, responses) = unbounded_channel();
        let worked = Arc::new(AtomicUsize::new(0));
        let work = || {
            let worked = Arc::clone(&worked);
            async move {
                worked.fetch_add(1, Ordering::SeqCst);
            }
        };
        let mut running = std::pin::pin!(extension.run(responses, work));
        tokio::select! {
            ended = &mut running => panic!("there was no response yet: {ended:?}"),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        assert_eq!(worked.load(Ordering::SeqCst), 0);
        responded.send(()).unwrap();
        let refused = running.await.unwrap_err();
        assert!(refused.to_string().contains("410"), "{refused}");
        assert_eq!(worked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn work_ends_before_the_invocations_time_does() {
        let extension = registered(with_one_event(SystemClock.now_ms() + 1_100)).await;
        let (responded, responses) = unbounded_channel();
        responded.send(()).unwrap();
        let refused = extension.run(responses, std::future::pending).await.unwrap_err();
        assert!(refused.to_string().contains("410"), "it asked for the next event: {refused}");
    }

    #[tokio::test]
    async fn a_refused_registration_is_an_error_to_go_on_without() {
        let refuse = Router::new().route(REGISTER, post(|| async { StatusCode::FORBIDDEN }));
        for api in [refuse, Router::new()] {
            let refused = Extension::register(&serve(api).await, Arc::new(SystemClock)).await.unwrap_err();
            assert!(refused.to_string().contains("not registered"), "{refused}");
        }
    }
}
