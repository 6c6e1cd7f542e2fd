//! Errors of the HTTP API: one shape for every answer that is not a success.
//!
//! Owns `every-refusal-is-an-error-dto`: clients of layer 1 lose the status of an answer whose body is anything else. The
//! net under it is [`crate::middleware`], which rewrites refusals that some layer below made up by itself.
//!
//! Holds no secrets: messages never quote headers, keys or bodies beyond a short excerpt of the value at fault.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tarn_model::{Corrupt, ValidationError};
use tarn_store::StoreError;
use utoipa::ToSchema;

use crate::json::JsonError;

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorDto {
    /// What is wrong and what to do about it; at least one message.
    pub error_messages: Vec<String>,
    /// A short name of the kind of error, for programs.
    pub code: String,
    /// Names this request in the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Why a request was refused, or failed.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    messages: Vec<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    /// An error with one message.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, messages: vec![message.into()], headers: Vec::new() }
    }

    /// 400: the request says something that cannot be.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    /// 404: what the path names does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "notFound", message)
    }

    /// 409: the request contradicts what is there.
    pub fn conflict(messages: Vec<String>) -> Self {
        Self { messages, ..Self::new(StatusCode::CONFLICT, "conflict", "") }
    }

    /// 401: no key, or none that is known.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tarn\""))
    }

    /// 403: a known key that may not do this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 413: the request is larger than a limit.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "tooLarge", message)
    }

    /// 415: a body of a type that this route does not read.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupportedMediaType", message)
    }

    /// 429: too much at once; says after how many seconds to retry.
    pub fn overloaded(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", message)
            .with_header(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds))
    }

    /// 503: not now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
            .with_header(header::RETRY_AFTER, HeaderValue::from(1_u32))
    }

    /// 500: a fault of the server, which has logged it.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The server failed on this request; its log has the cause under the requestId",
        )
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The messages of the answer.
    pub fn messages(&self) -> &[String] {
        &self.messages
    }

    /// The body of the answer.
    pub(crate) fn dto(&self, request_id: Option<String>) -> ErrorDto {
        ErrorDto { error_messages: self.messages.clone(), code: self.code.to_owned(), request_id }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.dto(None))).into_response();
        for (name, value) in self.headers.clone() {
            response.headers_mut().insert(name, value);
        }
        // The outermost middleware knows the request's id and renders the body again with it.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<ValidationError> for ApiError {
    fn from(error: ValidationError) -> Self {
        Self { messages: error.messages, ..Self::invalid("") }
    }
}

impl From<JsonError> for ApiError {
    fn from(error: JsonError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => {
                tracing::warn!(%error, "the object store is unavailable");
                Self::unavailable("The object store does not answer; repeat the request in a moment")
            }
            StoreError::Ambiguous { .. } => {
                tracing::warn!(%error, "the outcome of a write is unknown");
                Self::unavailable(
                    "The object store did not say whether the write took place; repeat the request, an upload with the \
                     same Idempotency-Key header",
                )
            }
            error => {
                tracing::error!(%error, "the object store failed");
                Self::internal()
            }
        }
    }
}

impl From<Corrupt> for ApiError {
    fn from(error: Corrupt) -> Self {
        tracing::error!(%error, "corrupt object");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "corrupt", error.to_string())
    }
}
