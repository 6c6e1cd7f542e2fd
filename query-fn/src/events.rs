//! Events of the function: requests of the HTTP API, and leaf requests of other invocations.
//!
//! A leaf request is told by its first key, which no event of an HTTP API has: what a client sends is inside such an event and
//! cannot become one. Whoever may invoke the function directly may search everything; IAM says who that is.
//!
//! Work ends before the invocation's time does: a function that is ended from outside loses what it has mapped and cached, and
//! its caller learns nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use lambda_http::http::{HeaderMap, HeaderName, HeaderValue};
use lambda_http::request::LambdaRequest;
use lambda_http::tower::ServiceExt as _;
use lambda_http::{Error, LambdaEvent, Request, RequestExt as _};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tarn_api::gateway::{self, PAYLOAD_BYTES};
use tarn_search::{Engine, LeafAnswer, LeafError, LeafRequest};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What to do about an answer that is too large.
const ADVICE: &str = "ask for fewer points or queries at once, for fewer attributes or none of the vectors (retrieveVectors false), or \
                      accept gzip";
/// The first key of every leaf event.
const LEAF_KEY: &str = r#""tarnLeaf""#;
/// Left of the invocation's time when the work ends: to answer.
const RESERVE: Duration = Duration::from_secs(1);
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("request-timeout");

/// What invokes a leaf. Written by whoever borrows the request, read by whoever gets it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LeafEvent<R = LeafRequest> {
    #[serde(rename = "tarnLeaf")]
    pub(crate) request: R,
}

/// What a leaf replies.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum LeafReply {
    Answer(LeafAnswer),
    Error(LeafError),
    /// The answer has so many bytes, more than a response holds. Ask for fewer queries at once.
    TooLarge(usize),
}

/// What handles events. Clones share everything.
#[derive(Clone)]
pub(crate) struct Handler {
    router: Router,
    engine: Engine,
    responses: Arc<UnboundedSender<()>>,
}

/// Tells that a response is on its way, however the handling ended.
struct Responded(Arc<UnboundedSender<()>>);

impl Drop for Responded {
    fn drop(&mut self) {
        // Nobody listens when there is no extension.
        self.0.send(()).ok();
    }
}

impl Handler {
    /// A handler, and a message for each response that it gives.
    pub(crate) fn new(router: Router, engine: Engine) -> (Self, UnboundedReceiver<()>) {
        let (sender, receiver) = unbounded_channel();
        (Self { router, engine, responses: Arc::new(sender) }, receiver)
    }

    /// Handles one event.
    ///
    /// # Errors
    /// When it is neither an event of an HTTP API nor a leaf request.
    pub(crate) async fn handle(self, event: LambdaEvent<Box<RawValue>>) -> Result<Box<RawValue>, Error> {
        let _responded = Responded(Arc::clone(&self.responses));
        let LambdaEvent { payload, context } = event;
        let left = gateway::time_left(&**self.engine.store().clock(), context.deadline, RESERVE);
        if is_leaf_event(payload.get()) {
            return leaf(&self.engine, payload.get(), left).await;
        }
        let request: LambdaRequest = serde_json::from_str(payload.get())?;
        let mut request = Request::from(request).with_lambda_context(context);
        bound(request.headers_mut(), left);
        Ok(gateway::reply(self.router.oneshot(request).await?, ADVICE).await?)
    }
}

fn is_leaf_event(payload: &str) -> bool {
    payload.trim_start().strip_prefix('{').is_some_and(|rest| rest.trim_start().starts_with(LEAF_KEY))
}

/// Bounds a request by the time that is left. A header that is no time stays, to be refused.
fn bound(headers: &mut HeaderMap, left: Duration) {
    let left = left.as_secs_f64().max(0.001);
    let asked = headers.get(REQUEST_TIMEOUT).map(|value| value.to_str().ok()?.trim().parse::<f64>().ok());
    let is_longer = match asked {
        None => true,
        Some(asked) => asked.is_some_and(|asked| asked.is_finite() && asked > left),
    };
    if let Ok(left) = HeaderValue::from_str(&format!("{left:.3}"))
        && is_longer
    {
        headers.insert(REQUEST_TIMEOUT, left);
    }
}

async fn leaf(engine: &Engine, event: &str, left: Duration) -> Result<Box<RawValue>, Error> {
    let reply = match serde_json::from_str::<LeafEvent>(event) {
        Ok(LeafEvent { request }) => tokio::select! {
            biased;
            answered = engine.search_leaf(request) => {
                answered.map_or_else(|error| LeafReply::Error(error.into()), LeafReply::Answer)
            }
            () = engine.store().clock().sleep(left) => LeafReply::Error(LeafError::Unavailable(
                "a leaf ran out of its function's time; give the function more, or its leaves fewer bytes".to_owned(),
            )),
        },
        Err(error) => LeafReply::Error(LeafError::Failed(format!("not a leaf request of this release: {error}"))),
    };
    let text = to_raw_value(&reply)?;
    match text.get().len() {
        bytes if bytes > PAYLOAD_BYTES => Ok(to_raw_value(&LeafReply::TooLarge(bytes))?),
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use lambda_http::Context;
    use lambda_http::http::StatusCode;
    use serde_json::json;
    use tarn_api::{ApiSettings, AppState};
    use tarn_api_query::{QueryState, query_router};
    use tarn_model::{ReadToken, Vector};
    use tarn_search::{EngineSettings, Pin, SearchRequest};
    use tarn_store::{Clock as _, Store, SystemClock};
    use tarn_testkit::{Operation, Scenario};

    use super::*;

    fn engine(store: Store) -> (Engine, tempfile::TempDir) {
        let cache = tempfile::tempdir().unwrap();
        let settings = EngineSettings { cache_dir: cache.path().to_owned(), threads: 1, ..EngineSettings::default() };
        (Engine::new(store, settings).unwrap(), cache)
    }

    /// An event with so many milliseconds left.
    fn event(payload: &str, left_ms: u64) -> LambdaEvent<Box<RawValue>> {
        let mut context = Context::default();
        context.deadline = u64::try_from(SystemClock.now_ms()).unwrap() + left_ms;
        LambdaEvent { payload: RawValue::from_string(payload.to_owned()).unwrap(), context }
    }

    async fn handle(payload: &str) -> (Result<Box<RawValue>, Error>, UnboundedReceiver<()>) {
        let store = Store::memory();
        let (engine, _cache) = engine(store.clone());
        let app = AppState::new(store, ApiSettings::default());
        let (handler, responses) = Handler::new(query_router(QueryState::new(app, engine.clone())), engine);
        (handler.handle(event(payload, 60_000)).await, responses)
    }

    fn http(path: &str, body: &str) -> String {
        json!({
            "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "",
            "headers": {"host": "a", "content-type": "application/json"}, "body": body, "isBase64Encoded": false,
            "requestContext": {"accountId": "1", "apiId": "a", "stage": "$default", "timeEpoch": 0,
                "http": {"method": "POST", "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"}},
        })
        .to_string()
    }

    #[tokio::test]
    async fn requests_go_to_the_router_whatever_they_say() {
        let body = r#"{"tarnLeaf": {}}"#;
        let (answered, mut responses) = handle(&http("/api/v1/search/nobody/1", body)).await;
        let answered: serde_json::Value = serde_json::from_str(answered.unwrap().get()).unwrap();
        assert_eq!(answered["statusCode"], 404, "{answered}");
        responses.try_recv().unwrap();
        assert!(responses.try_recv().is_err(), "one message for one response");
    }

    #[tokio::test]
    async fn a_leaf_request_of_another_release_is_an_error_and_not_half_an_answer() {
        let (answered, mut responses) = handle(r#" { "tarnLeaf": {"shards":[],"newField":1}}"#).await;
        let reply: LeafReply = serde_json::from_str(answered.unwrap().get()).unwrap();
        assert!(matches!(&reply, LeafReply::Error(LeafError::Failed(text)) if text.contains("release")), "{reply:?}");
        responses.try_recv().unwrap();
    }

    #[tokio::test]
    async fn other_events_fail_and_are_over_all_the_same() {
        let (answered, mut responses) = handle(r#"{"Records": []}"#).await;
        assert!(answered.is_err());
        responses.try_recv().unwrap();
    }

    #[tokio::test]
    async fn a_request_is_told_the_invocations_time_and_an_answer_that_is_too_large_is_413() {
        let told = |headers: HeaderMap| async move { headers[REQUEST_TIMEOUT].to_str().unwrap().to_owned() };
        let large = || async { (StatusCode::OK, "x".repeat(PAYLOAD_BYTES)) };
        let router = Router::new().route("/told", post(told)).route("/large", post(large)).route("/", get(|| async {}));
        let (engine, _cache) = engine(Store::memory());
        let (handler, _responses) = Handler::new(router, engine);
        let ask = async |path: &str| {
            let reply = handler.clone().handle(event(&http(path, ""), 11_000)).await.unwrap();
            serde_json::from_str::<serde_json::Value>(reply.get()).unwrap()
        };
        let told: f64 = ask("/told").await["body"].as_str().unwrap().parse().unwrap();
        assert!(told > 5.0 && told <= 10.0, "{told}");
        let large = ask("/large").await;
        assert_eq!(large["statusCode"], 413);
        assert!(large["body"].as_str().unwrap().contains("fewer"), "{large}");
    }

    #[test]
    fn a_time_limit_is_only_ever_shortened() {
        for (asked, expected) in [(None, "9.500"), (Some("2"), "2"), (Some("60"), "9.500"), (Some("never"), "never")] {
            let mut headers = HeaderMap::new();
            headers.extend(asked.map(|asked| (REQUEST_TIMEOUT, HeaderValue::from_static(asked))));
            bound(&mut headers, Duration::from_millis(9_500));
            assert_eq!(headers[REQUEST_TIMEOUT], expected);
        }
    }

    #[test]
    fn a_short_time_is_shared_out() {
        let now = u64::try_from(SystemClock.now_ms()).unwrap();
        let left = |after_ms| gateway::time_left(&SystemClock, now + after_ms, RESERVE).as_millis();
        assert!((28_000 - 500..=28_000).contains(&left(29_000)));
        assert!((500 - 250..=500).contains(&left(1_000)));
        assert_eq!(gateway::time_left(&SystemClock, 0, RESERVE), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_leaf_that_has_no_time_left_says_so() {
        let scenario = Scenario::dense();
        let mut faults = tarn_testkit::Faults::default();
        let store = Store::memory().layer(|objects| {
            let (store, handle) = tarn_testkit::FaultStore::new(objects);
            faults = handle;
            Arc::new(store)
        });
        let _held = faults.hold(Operation::Get, "/manifests/");
        let (engine, _cache) = engine(store);
        let (handler, _responses) = Handler::new(Router::new(), engine);
        let pin =
            Pin { generation: 1, commit_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(), head: ReadToken::single(0) };
        let request = LeafRequest {
            index: (*scenario.indices[0]).clone(),
            source: (*scenario.source).clone(),
            pin,
            shards: Vec::new(),
            search: SearchRequest::new(vec![Vector::Dense(vec![0.5; scenario.source.vector_dimension as usize])], 1),
            remaining: None,
        };
        let payload = serde_json::to_string(&LeafEvent { request: &request }).unwrap();
        let reply = handler.handle(event(&payload, 20)).await.unwrap();
        let reply: LeafReply = serde_json::from_str(reply.get()).unwrap();
        assert!(matches!(&reply, LeafReply::Error(LeafError::Unavailable(text)) if text.contains("time")), "{reply:?}");
    }
}
