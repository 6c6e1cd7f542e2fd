//! Events of the function: requests of the HTTP API, and leaf requests of other invocations.
//!
//! A leaf request is told by its first key, which no event of an HTTP API has: what a client sends is inside such an event and
//! cannot become one. Whoever may invoke the function directly may search everything; IAM says who that is.

use std::sync::Arc;

use axum::Router;
use lambda_http::request::LambdaRequest;
use lambda_http::tower::ServiceExt as _;
use lambda_http::{Adapter, Error, LambdaEvent};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tarn_search::{Engine, LeafAnswer, LeafError, LeafRequest};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Most bytes of a request or a response: 6 MB, less what surrounds them.
pub(crate) const PAYLOAD_BYTES: usize = 6_000_000;

/// How every leaf event begins.
const LEAF_EVENT: &str = r#"{"tarnLeaf":"#;

/// What invokes a leaf.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LeafEvent {
    #[serde(rename = "tarnLeaf")]
    pub(crate) request: LeafRequest,
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
        if payload.get().trim_start().starts_with(LEAF_EVENT) {
            return leaf(&self.engine, payload.get()).await;
        }
        let request: LambdaRequest = serde_json::from_str(payload.get())?;
        let response = Adapter::from(self.router).oneshot(LambdaEvent { payload: request, context }).await?;
        Ok(to_raw_value(&response)?)
    }
}

async fn leaf(engine: &Engine, event: &str) -> Result<Box<RawValue>, Error> {
    let reply = match serde_json::from_str::<LeafEvent>(event) {
        Ok(LeafEvent { request }) => match engine.search_leaf(request).await {
            Ok(answer) => LeafReply::Answer(answer),
            Err(error) => LeafReply::Error(error.into()),
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
    use lambda_http::Context;
    use tarn_api::{ApiSettings, AppState};
    use tarn_api_query::{QueryState, query_router};
    use tarn_search::EngineSettings;
    use tarn_store::Store;

    use super::*;

    async fn handle(event: &str) -> (Result<Box<RawValue>, Error>, UnboundedReceiver<()>) {
        let (store, cache) = (Store::memory(), tempfile::tempdir().unwrap());
        let settings = EngineSettings { cache_dir: cache.path().to_owned(), threads: 1, ..EngineSettings::default() };
        let engine = Engine::new(store.clone(), settings).unwrap();
        let app = AppState::new(store, ApiSettings::default());
        let (handler, responses) = Handler::new(query_router(QueryState::new(app, engine.clone())), engine);
        let payload = RawValue::from_string(event.to_owned()).unwrap();
        (handler.handle(LambdaEvent { payload, context: Context::default() }).await, responses)
    }

    fn http(path: &str, body: &str) -> String {
        serde_json::json!({
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
        let (answered, mut responses) = handle(r#"{"tarnLeaf":{"shards":[],"newField":1}}"#).await;
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
}
