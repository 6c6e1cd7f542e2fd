//! For tests only: a client of a router in the test's own process, without a socket, and what it is answered.
//!
//! Apart from `tarn-testkit`, so that tests of crates that know no HTTP do not compile a web framework. It knows no route
//! and no body: those are the tests' own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// Sends requests to a router.
#[derive(Clone, Debug)]
pub struct Client {
    router: Router,
}

/// What a request was answered, its body read to the end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The bytes of the body.
    pub body: Bytes,
}

impl Client {
    /// Of a router.
    pub fn new(router: Router) -> Self {
        Self { router }
    }

    /// The router.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Sends a request as it is. Panics when the body of the answer breaks off.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Sends a request of parts.
    pub async fn request(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    /// GET without a body.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, &[], Body::empty()).await
    }

    /// DELETE without a body.
    pub async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path, &[], Body::empty()).await
    }

    /// PUT of JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::PUT, path, &JSON, body.to_string()).await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::POST, path, &JSON, body.to_string()).await
    }
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body, which must be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// A header, empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The messages of a refusal, which must be an ErrorDto that names its request.
    pub fn messages(&self) -> Vec<String> {
        assert!(!self.status.is_success(), "{}: {}", self.status, self.text());
        assert_eq!(self.header("content-type"), "application/json");
        let json = self.json();
        assert_eq!(json["requestId"].as_str().unwrap(), self.header("tarn-request-id"));
        assert!(!json["code"].as_str().unwrap().is_empty());
        let messages = json["errorMessages"].as_array().unwrap();
        assert!(!messages.is_empty());
        messages.iter().map(|message| message.as_str().unwrap().to_owned()).collect()
    }
}
