//! What functions behind an HTTP API of API Gateway have in common: how a response becomes a reply (payload format 2.0), and how
//! long the work for it may take.
//!
//! Text goes as it is, other bytes in base64. A response that a function may not give becomes a refusal that says so; Lambda
//! would drop it, and the client would learn nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::TryStreamExt as _;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tarn_store::Clock;

use crate::error::ApiError;

/// Most bytes of an event or a reply of a function: 6 MB, less what surrounds them.
pub const PAYLOAD_BYTES: usize = 6_000_000;

/// How long the work of an invocation may take. `ends_ms`: when it is ended from outside, in milliseconds since the Unix epoch;
/// `reserve` of that is left, to answer. A short time is shared out evenly.
pub fn time_left(clock: &dyn Clock, ends_ms: u64, reserve: Duration) -> Duration {
    let left = Duration::from_millis(ends_ms.saturating_sub(u64::try_from(clock.now_ms()).unwrap_or(0)));
    left.saturating_sub(reserve.min(left / 2))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HttpReply<'a> {
    status_code: u16,
    /// Values of one name in one, as the format wants them. There are no cookies.
    headers: BTreeMap<&'a str, String>,
    body: Cow<'a, str>,
    is_base64_encoded: bool,
}

/// The reply for a response. One that is too large becomes 413 with `advice` on how to ask for less.
///
/// # Errors
/// When the body fails half-way.
pub async fn reply(response: Response, advice: &str) -> Result<Box<RawValue>, axum::Error> {
    if let Some(reply) = written(response).await? {
        return Ok(reply);
    }
    let refusal = ApiError::too_large(format!(
        "The answer takes more than the {PAYLOAD_BYTES} bytes that a function may send; {advice}"
    ));
    let refusal = written(refusal.into_response()).await?;
    refusal.ok_or_else(|| axum::Error::new("the refusal of an answer is too large itself"))
}

/// `None` when it is too large. No more of the body is read than could be sent.
async fn written(response: Response<Body>) -> Result<Option<Box<RawValue>>, axum::Error> {
    let (parts, body) = response.into_parts();
    let mut bytes = Vec::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.try_next().await? {
        if bytes.len() + chunk.len() > PAYLOAD_BYTES {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    let text = std::str::from_utf8(&bytes).ok().filter(|_| !parts.headers.contains_key(CONTENT_ENCODING));
    let is_base64_encoded = text.is_none();
    let body = text.map_or_else(|| STANDARD.encode(&bytes).into(), Cow::Borrowed);
    let headers = joined(&parts.headers);
    let reply = HttpReply { status_code: parts.status.as_u16(), headers, body, is_base64_encoded };
    // Escapes and base64 count, too.
    Ok(Some(to_raw_value(&reply).map_err(axum::Error::new)?).filter(|reply| reply.get().len() <= PAYLOAD_BYTES))
}

fn joined(headers: &HeaderMap) -> BTreeMap<&str, String> {
    let mut joined: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        match joined.get_mut(name.as_str()) {
            Some(values) => *values = format!("{values}, {value}"),
            None => drop(joined.insert(name.as_str(), value.into_owned())),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use axum::http::{StatusCode, header};
    use serde_json::{Value, json};

    use super::*;

    async fn reply(response: Response) -> Value {
        serde_json::from_str(super::reply(response, "ask for less").await.unwrap().get()).unwrap()
    }

    #[tokio::test]
    async fn text_goes_as_it_is_and_other_bytes_in_base64() {
        let mut text = (StatusCode::CREATED, [(header::VARY, "a")], "[\"é\"]").into_response();
        text.headers_mut().append(header::VARY, "b".parse().unwrap());
        let text = reply(text).await;
        assert_eq!((&text["statusCode"], &text["body"]), (&json!(201), &json!("[\"é\"]")));
        assert_eq!((&text["isBase64Encoded"], &text["headers"]["vary"]), (&json!(false), &json!("a, b")));
        let bytes = reply([0xff_u8, 0].into_response()).await;
        assert_eq!((&bytes["body"], &bytes["isBase64Encoded"]), (&json!("/wA="), &json!(true)));
        let encoded = reply(([(header::CONTENT_ENCODING, "gzip")], "text").into_response()).await;
        assert_eq!(encoded["isBase64Encoded"], json!(true), "what is encoded is no text, whatever its bytes");
    }

    #[tokio::test]
    async fn the_limit_is_for_what_travels() {
        // As text it fits; escaped it has twice the bytes.
        let quotes = reply("\"".repeat(PAYLOAD_BYTES / 2 + 1).into_response()).await;
        assert_eq!(quotes["statusCode"], 413);
        assert!(quotes["body"].as_str().unwrap().contains("ask for less"), "{quotes}");
        assert_eq!(reply("a".repeat(PAYLOAD_BYTES / 2 + 1).into_response()).await["statusCode"], 200);
    }

    #[tokio::test]
    async fn what_cannot_be_sent_is_not_read() {
        let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'x'; 100_000]));
        assert_eq!(reply(Body::from_stream(endless).into_response()).await["statusCode"], 413);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_reply() {
        let broken = futures::stream::iter([Ok("[1"), Err(std::io::Error::other("gone"))]);
        let failed = super::reply(Body::from_stream(broken).into_response(), "").await;
        assert!(failed.unwrap_err().to_string().contains("gone"));
    }
}
