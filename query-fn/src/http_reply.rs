//! What an HTTP API makes a response of: payload format 2.0.
//!
//! Text goes as it is, other bytes in base64. A response that a function may not give becomes a refusal that says so; Lambda
//! would drop it, and the client would learn nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::body::{Body, to_bytes};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lambda_http::Error;
use lambda_http::http::HeaderMap;
use lambda_http::http::header::CONTENT_ENCODING;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tarn_api::ApiError;

use crate::events::PAYLOAD_BYTES;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HttpReply<'a> {
    status_code: u16,
    /// Values of one name in one, as the format wants them. There are no cookies.
    headers: BTreeMap<&'a str, String>,
    body: Cow<'a, str>,
    is_base64_encoded: bool,
}

/// The reply to an event of an HTTP API.
///
/// # Errors
/// When the body fails half-way.
pub(crate) async fn http_reply(response: Response) -> Result<Box<RawValue>, Error> {
    let reply = written(response).await?;
    let bytes = reply.get().len();
    if bytes <= PAYLOAD_BYTES {
        return Ok(reply);
    }
    let refusal = ApiError::too_large(format!(
        "The answer takes {bytes} bytes, more than the {PAYLOAD_BYTES} that a function may send; ask for fewer points or queries \
         at once, for fewer attributes or none of the vectors (retrieveVectors false), or accept gzip"
    ));
    written(refusal.into_response()).await
}

async fn written(response: Response<Body>) -> Result<Box<RawValue>, Error> {
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await?;
    let text = std::str::from_utf8(&bytes).ok().filter(|_| !parts.headers.contains_key(CONTENT_ENCODING));
    let is_base64_encoded = text.is_none();
    let body = text.map_or_else(|| STANDARD.encode(&bytes).into(), Cow::Borrowed);
    let headers = joined(&parts.headers);
    Ok(to_raw_value(&HttpReply { status_code: parts.status.as_u16(), headers, body, is_base64_encoded })?)
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
        serde_json::from_str(http_reply(response).await.unwrap().get()).unwrap()
    }

    #[tokio::test]
    async fn text_goes_as_it_is_and_other_bytes_in_base64() {
        let text = (StatusCode::CREATED, [(header::VARY, "a")], "[\"é\"]").into_response();
        let mut text = text.map(|body| body);
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
        assert_eq!(reply("a".repeat(PAYLOAD_BYTES / 2 + 1).into_response()).await["statusCode"], 200);
    }
}
