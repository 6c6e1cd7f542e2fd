//! What happens around every request: an id, a time limit, a net under panics and foreign errors, and the counting.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use tarn_model::limits;

use crate::error::ApiError;
use crate::state::AppState;

/// Names the request in answers and in the log.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("tarn-request-id");
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("request-timeout");

/// The outermost layer but for compression.
pub(crate) async fn observe(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let clock = state.store().clock();
    let started = clock.monotonic();
    let _in_flight = state.metrics().enter();
    let id = format!("{:016x}", rand::random::<u64>());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();

    let answer = match timeout(request.headers()) {
        Err(error) => error.into_response(),
        Ok(limit) => {
            let handler = AssertUnwindSafe(next.run(request)).catch_unwind();
            tokio::select! {
                biased;
                outcome = handler => match outcome {
                    Ok(response) => response,
                    Err(panic) => {
                        let what = panic_text(panic.as_ref());
                        tracing::error!(request_id = id, %method, path, what, "a handler panicked");
                        state.metrics().panicked();
                        ApiError::internal().into_response()
                    }
                },
                () = clock.sleep(limit) => timed_out(limit).into_response(),
            }
        }
    };
    let mut response = with_error_body(answer, &method, &path, &id);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let took = clock.monotonic().saturating_sub(started);
    let status = response.status();
    state.metrics().request(&route, method_label(&method), status.as_u16(), took);
    if status.is_server_error() {
        tracing::warn!(request_id = id, %method, path, status = status.as_u16(), ?took, "request failed");
    } else {
        tracing::debug!(request_id = id, %method, path, status = status.as_u16(), ?took, "request");
    }
    response
}

/// How long the request may take: `Request-Timeout`, in seconds, up to the default.
///
/// # Errors
/// 400: it is no number of seconds.
pub fn timeout(headers: &HeaderMap) -> Result<Duration, ApiError> {
    let most = Duration::from_millis(limits::REQUEST_TIMEOUT_MS);
    let Some(value) = headers.get(REQUEST_TIMEOUT) else { return Ok(most) };
    match value.to_str().ok().and_then(|text| text.trim().parse::<f64>().ok()) {
        Some(seconds) if seconds > 0.0 && seconds.is_finite() => {
            Ok(Duration::try_from_secs_f64(seconds).map_or(most, |asked| asked.min(most)))
        }
        _ => Err(ApiError::invalid("Request-Timeout must be a positive number of seconds, such as 2.500")),
    }
}

fn timed_out(limit: Duration) -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "timeout",
        format!(
            "The request took longer than its limit of {:.3} s (header Request-Timeout). An upload may have been stored: \
             repeat it with the same Idempotency-Key header",
            limit.as_secs_f64()
        ),
    )
}

/// Gives every refusal an ErrorDto: its own with the request's id, or one made up for a layer that knows none.
fn with_error_body(response: Response, method: &Method, path: &str, id: &str) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let dto = match response.extensions().get::<ApiError>() {
        Some(error) => error.dto(Some(id.to_owned())),
        None => foreign(status, method, path).dto(Some(id.to_owned())),
    };
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(axum::http::header::CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    match serde_json::to_vec(&dto) {
        Ok(body) => Response::from_parts(parts, body.into()),
        Err(error) => {
            tracing::error!(%error, "cannot write an error as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn foreign(status: StatusCode, method: &Method, path: &str) -> ApiError {
    let path: String = path.chars().take(200).collect();
    match status {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ApiError::unsupported_media_type("Content-Encoding is not supported; send gzip or identity")
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            ApiError::new(status, "methodNotAllowed", format!("{method} is not allowed on {path}; see /docs"))
        }
        StatusCode::NOT_FOUND => ApiError::not_found(format!("There is nothing at {path}; see /docs")),
        // The one refusal of the extractors that handlers use.
        StatusCode::BAD_REQUEST => ApiError::invalid("The path must be UTF-8, percent-encoded; see /docs"),
        status if status.is_server_error() => ApiError::internal(),
        status => ApiError::new(status, "invalid", status.canonical_reason().unwrap_or("The request is invalid")),
    }
}

/// Methods come from the client; labels do not.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
