//! The console's page as a browser gets it.

use axum::body::Body;
use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tarn_api::{ApiSettings, AuthMode};

use crate::server::Server;

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap();
    rest.split_once(end).unwrap().0
}

#[tokio::test]
async fn the_page_is_open_and_holds_the_browser_to_itself() {
    let server = Server::with(ApiSettings { auth: AuthMode::Always, ..ApiSettings::default() });
    let answer = server.get("/").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    assert_eq!(answer.header("cache-control"), "no-cache");
    let page = answer.text();
    let policy: Vec<&str> = answer.header("content-security-policy").split("; ").collect();
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    for directive in [
        "default-src 'none'".to_owned(),
        format!("script-src {}", hash(between(&page, "<script>", "</script>"))),
        format!("style-src {}", hash(between(&page, "<style>", "</style>"))),
        "connect-src 'self'".to_owned(),
        "base-uri 'none'".to_owned(),
        "form-action 'none'".to_owned(),
        "frame-ancestors 'none'".to_owned(),
    ] {
        assert!(policy.contains(&directive.as_str()), "{directive} in {policy:?}");
    }
    assert!(!answer.header("content-security-policy").contains("unsafe"), "{policy:?}");
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let page = Server::new().get("/").await.text();
    // Names of XML, not addresses.
    let rest = page.replace("http://www.w3.org/2000/svg", "");
    for foreign in ["http://", "https://", "src=", "@import", "url(", "//cdn"] {
        assert!(!rest.contains(foreign), "{foreign}");
    }
    // The policy would keep these from working.
    let (markup, _) = page.split_once("<script>").unwrap();
    for inline in [" style=", " onclick=", " onload=", " onsubmit=", "javascript:"] {
        assert!(!markup.contains(inline), "{inline}");
    }
    assert_eq!(page.matches("</script>").count(), 1);
    assert_eq!(page.matches("</style>").count(), 1);
    // One request of a function brings all of it.
    assert!(page.len() < 60_000, "{}", page.len());
}

#[tokio::test]
async fn the_page_is_not_sent_again_to_who_has_it() {
    let server = Server::new();
    let tag = server.get("/").await.header("etag").to_owned();
    let ask = |tag: String| {
        let server = &server;
        async move { server.request(Method::GET, "/", &[("if-none-match", &tag)], Body::empty()).await }
    };
    for known in [tag.clone(), format!("\"other\", {tag}"), "*".to_owned()] {
        let answer = ask(known).await;
        assert_eq!(answer.status, 304);
        assert!(answer.body.is_empty());
        assert_eq!(answer.header("etag"), tag);
    }
    assert_eq!(ask("W/\"other\"".to_owned()).await.status, 200);
}
