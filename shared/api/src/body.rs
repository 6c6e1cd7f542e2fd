//! Request bodies: their type, and their bytes within limits.
//!
//! Bodies arrive here decompressed, so that the limit holds for what a small gzip body grows to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use tarn_model::limits;

use crate::error::ApiError;

/// What a body may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// `application/json`, `text/json`, `application/*+json`; also a body without a type.
    Json,
    /// `application/x-ndjson`: JSON values, one a line.
    Ndjson,
    /// `application/vnd.apache.arrow.stream`: the Arrow IPC stream format.
    ArrowStream,
    /// `application/vnd.apache.parquet`.
    Parquet,
}

impl MediaType {
    /// What the request's `Content-Type` says.
    ///
    /// # Errors
    /// 415 for a type that no route reads, or text that is not UTF-8.
    pub fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Self::Json) };
        let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
        let (essence, parameters) = text.split_once(';').unwrap_or((&text, ""));
        let essence = essence.trim();
        let kind = match essence {
            "application/json" | "text/json" => Self::Json,
            "application/x-ndjson" | "application/ndjson" | "application/jsonlines" | "application/x-jsonlines" => {
                Self::Ndjson
            }
            "application/vnd.apache.arrow.stream" => Self::ArrowStream,
            "application/vnd.apache.parquet" => Self::Parquet,
            _ if essence.starts_with("application/") && essence.ends_with("+json") => Self::Json,
            _ => return Err(unsupported(value)),
        };
        let utf8 = parameters
            .split(';')
            .filter_map(|parameter| parameter.trim().strip_prefix("charset="))
            .all(|charset| matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii"));
        if utf8 { Ok(kind) } else { Err(unsupported(value)) }
    }

    /// As [`Self::of`], for routes that read nothing but JSON.
    ///
    /// # Errors
    /// 415 for any other type.
    pub fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
        match Self::of(headers)? {
            Self::Json => Ok(()),
            _ => Err(ApiError::unsupported_media_type("This request takes a body of Content-Type application/json")),
        }
    }
}

fn unsupported(value: &HeaderValue) -> ApiError {
    let found: String = String::from_utf8_lossy(value.as_bytes()).chars().take(80).collect();
    ApiError::unsupported_media_type(format!(
        "Content-Type '{found}' is not supported; send application/json in UTF-8 (uploads: also application/x-ndjson, \
         application/vnd.apache.arrow.stream or application/vnd.apache.parquet)"
    ))
}

/// Bodies above this are parsed on a thread where blocking is allowed.
const PARSE_INLINE_BYTES: usize = 64 * 1024;

/// Bounds the bytes of all bodies, and of what was read from them, that are held at once.
#[derive(Debug)]
pub(crate) struct BodyBudget {
    limit: usize,
    held: AtomicUsize,
}

/// Bytes of the budget; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    bytes: usize,
    budget: Arc<BodyBudget>,
}

/// Bytes of a body, and its share of the budget.
#[derive(Debug)]
pub struct HeldBody {
    bytes: Vec<u8>,
    share: Share,
}

impl HeldBody {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Parses the body: at once if it is small and its format `quick` to read, else on a thread where blocking is allowed.
    ///
    /// # Errors
    /// Those of `parse`, and 500 when it panics.
    pub async fn parse<T: Send + 'static>(
        self,
        quick: bool,
        parse: impl FnOnce(Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        if quick && self.bytes.len() <= PARSE_INLINE_BYTES {
            return parse(self);
        }
        tokio::task::spawn_blocking(move || parse(self)).await.map_err(|error| {
            tracing::error!(%error, "parsing a request body did not end");
            ApiError::internal()
        })?
    }

    /// The bytes and their share of the budget, which is for the caller to keep as long as what was made of them.
    pub(crate) fn into_parts(self) -> (Vec<u8>, Share) {
        (self.bytes, self.share)
    }
}

impl Share {
    /// Takes more of the budget.
    ///
    /// # Errors
    /// 429 when there is no more.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        let before = self.budget.held.fetch_add(bytes, Ordering::AcqRel);
        self.bytes += bytes;
        if before.saturating_add(bytes) > self.budget.limit {
            return Err(ApiError::overloaded(
                "The server holds too many request bodies; repeat the request in a second",
                1,
            ));
        }
        Ok(())
    }

    /// Takes or gives back what makes it this many bytes. What is in memory already is not refused: others are.
    pub(crate) fn set(&mut self, bytes: usize) {
        self.budget.held.fetch_add(bytes, Ordering::AcqRel);
        self.budget.held.fetch_sub(self.bytes, Ordering::AcqRel);
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl BodyBudget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, held: AtomicUsize::new(0) })
    }

    /// Reads a body to its end.
    ///
    /// # Errors
    /// 413 beyond the limit of one body, 429 beyond that of all together, 400 when the body breaks off or its gzip is
    /// faulty.
    pub(crate) async fn read(self: &Arc<Self>, mut body: Body) -> Result<HeldBody, ApiError> {
        let share = Share { bytes: 0, budget: Arc::clone(self) };
        let mut held = HeldBody { bytes: Vec::new(), share };
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|error| ApiError::invalid(format!("The request body cannot be read: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if held.bytes.len() + data.len() > limits::BODY_BYTES {
                return Err(ApiError::too_large(format!(
                    "The request body is larger than the limit of {} bytes (after decompression); send it in parts",
                    limits::BODY_BYTES
                )));
            }
            held.share.grow(data.len())?;
            held.bytes.extend_from_slice(&data);
        }
        Ok(held)
    }
}
