//! The web console at `/`: a page to look into a store and to search it.
//!
//! Owns the page and what a browser is told about it: it runs the page's own script, by its hash, and talks to this server
//! alone. The page holds no data; its script asks the API for that, with the key that its reader gives it.
//!
//! `console/logic.js` is what the console knows without a document; the other scripts show it.

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::state::AppState;

const PAGE: &str = include_str!("console/index.html");
const STYLE: &str = include_str!("console/style.css");
/// In the order in which they run: each uses what those before it define.
const SCRIPTS: [&str; 10] = [
    include_str!("console/logic.js"),
    include_str!("console/page.js"),
    include_str!("console/store.js"),
    include_str!("console/index.js"),
    include_str!("console/search.js"),
    include_str!("console/answer.js"),
    include_str!("console/points.js"),
    include_str!("console/statistics.js"),
    include_str!("console/structure.js"),
    include_str!("console/start.js"),
];

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

pub(crate) fn routes() -> Router<AppState> {
    let page = Page::new();
    Router::new().route("/", get(move |headers: HeaderMap| async move { page.answer(&headers) }))
}

/// One document with its style and script inside: one request shows it.
#[derive(Clone)]
struct Page {
    html: Bytes,
    headers: HeaderMap,
}

impl Page {
    fn new() -> Self {
        let (style, script) = (slim(STYLE), SCRIPTS.map(slim).concat());
        let html = PAGE.replacen("<style></style>", &format!("<style>{style}</style>"), 1).replacen(
            "<script></script>",
            &format!("<script>{script}</script>"),
            1,
        );
        // Nothing but what was built in runs or is applied, and nothing goes to another server: also not what a stored value
        // might make of a fault in the script.
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            digest(&script),
            digest(&style)
        );
        // Weak: on its way the page may be compressed.
        let tag = format!("W/\"{}\"", digest(&html));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
        // Kept, but asked for each time: page and API are of one version.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(CONTENT_SECURITY_POLICY, of_ascii(&policy));
        headers.insert(ETAG, of_ascii(&tag));
        Self { html: Bytes::from(html), headers }
    }

    fn answer(&self, asked: &HeaderMap) -> Response {
        let tags = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut tags = tags.flat_map(|list| list.split(',')).map(str::trim);
        let own = self.headers.get(ETAG).and_then(|tag| tag.to_str().ok());
        if tags.any(|tag| tag == "*" || Some(tag) == own) {
            return (StatusCode::NOT_MODIFIED, self.headers.clone()).into_response();
        }
        (self.headers.clone(), self.html.clone()).into_response()
    }
}

/// Without indentation and lines that are comments: a fifth of the page, and nothing to who runs it.
fn slim(source: &str) -> String {
    let lines = source.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn digest(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text))
}

/// A value of what every header may hold. If it were not, the page would better do nothing.
fn of_ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|error| {
        tracing::error!(%error, text, "a header of the console cannot be written");
        HeaderValue::from_static("default-src 'none'")
    })
}
