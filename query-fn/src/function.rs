//! Invoking a Lambda function: one signed POST.
//!
//! The store's credentials sign, for they are the function's own and renew themselves. Nothing is tried twice here.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lambda_http::Error;
use lambda_http::http::{Method, Request, StatusCode};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpConnector, HttpRequestBody, ReqwestConnector};
use tarn_search::SearchError;
use tarn_store::Bucket;

use crate::config::ScaleOut;

/// Longer than any search may take.
const TIMEOUT: Duration = Duration::from_secs(90);
/// Set on the response of an invocation that ended in an error of the function's, such as a crash or a time-out.
const FUNCTION_ERROR: &str = "x-amz-function-error";
/// Of a text that explains a refusal.
const SHOWN: usize = 300;

/// What can be invoked with a payload and replies with one.
#[async_trait]
pub(crate) trait Invoke: Send + Sync {
    /// Invokes it and waits.
    ///
    /// # Errors
    /// [Retryable][SearchError::is_retryable] when it is throttled, out of reach, or died.
    async fn invoke(&self, payload: Bytes) -> Result<Bytes, SearchError>;
}

/// A Lambda function.
pub(crate) struct Function {
    http: HttpClient,
    url: String,
    region: String,
    credentials: AwsCredentialProvider,
}

impl Function {
    /// The function that `scale_out` names, in the region and with the credentials of a bucket.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub(crate) fn new(scale_out: &ScaleOut, bucket: &Bucket) -> Result<Self, Error> {
        let options = ClientOptions::new().with_timeout(TIMEOUT).with_allow_http(scale_out.endpoint.is_some());
        Ok(Self {
            http: ReqwestConnector::default().connect(&options)?,
            url: url(scale_out, &bucket.region),
            region: bucket.region.clone(),
            credentials: bucket.credentials.clone(),
        })
    }
}

fn url(scale_out: &ScaleOut, region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let endpoint = scale_out.endpoint.clone().unwrap_or_else(|| format!("https://lambda.{region}.{domain}"));
    let (endpoint, function) = (endpoint.trim_end_matches('/'), &scale_out.function);
    let version = scale_out.version.as_ref().map_or_else(String::new, |version| format!("?Qualifier={version}"));
    format!("{endpoint}/2015-03-31/functions/{function}/invocations{version}")
}

#[async_trait]
impl Invoke for Function {
    async fn invoke(&self, payload: Bytes) -> Result<Bytes, SearchError> {
        let credential = self.credentials.get_credential().await.map_err(SearchError::unavailable_leaf)?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.url)
            .header("content-type", "application/json")
            .body(HttpRequestBody::from(payload));
        let mut request = request.map_err(|error| SearchError::Internal(format!("cannot invoke: {error}")))?;
        AwsAuthorizer::new(&credential, "lambda", &self.region).authorize(&mut request, None);
        let response = self.http.execute(request).await.map_err(SearchError::unavailable_leaf)?;
        let status = response.status();
        let died = response.headers().contains_key(FUNCTION_ERROR);
        let body = response.into_body().bytes().await.map_err(SearchError::unavailable_leaf)?;
        outcome(status, died, body)
    }
}

fn outcome(status: StatusCode, died: bool, body: Bytes) -> Result<Bytes, SearchError> {
    if status.is_success() && !died {
        return Ok(body);
    }
    let text: String = String::from_utf8_lossy(&body).chars().take(SHOWN).collect();
    let message = format!("the invocation of a leaf ended with {status}: {text}");
    if died || status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        return Err(SearchError::unavailable_leaf(message));
    }
    Err(SearchError::Internal(message))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lambda_http::http::{HeaderMap, HeaderName, HeaderValue, Uri};
    use object_store::StaticCredentialProvider;
    use object_store::aws::AwsCredential;
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn a_function_is_invoked_where_its_bucket_is() {
        let named = |version: Option<&str>, endpoint: Option<&str>| ScaleOut {
            leaf_bytes: 1,
            leaves_max: None,
            function: "leaf".to_owned(),
            version: version.map(str::to_owned),
            endpoint: endpoint.map(str::to_owned),
        };
        let path = "/2015-03-31/functions/leaf/invocations";
        assert_eq!(url(&named(None, None), "eu-west-1"), format!("https://lambda.eu-west-1.amazonaws.com{path}"));
        assert_eq!(url(&named(None, None), "cn-north-1"), format!("https://lambda.cn-north-1.amazonaws.com.cn{path}"));
        assert_eq!(url(&named(Some("7"), Some("http://a:1/")), "x"), format!("http://a:1{path}?Qualifier=7"));
    }

    /// A function at an emulator that answers every invocation alike, and what it was sent.
    async fn function(status: StatusCode, died: bool) -> (Function, mpsc::Receiver<(Uri, HeaderMap, Bytes)>) {
        let (sender, received) = mpsc::channel(1);
        let answer = move |uri: Uri, headers: HeaderMap, body: Bytes| async move {
            sender.send((uri, headers, body)).await.unwrap();
            let error =
                died.then_some((HeaderName::from_static(FUNCTION_ERROR), HeaderValue::from_static("Unhandled")));
            (status, HeaderMap::from_iter(error), "{}")
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
        let credential = AwsCredential {
            key_id: "KEYID".to_owned(),
            secret_key: "SECRETKEY".to_owned(),
            token: Some("SESSIONTOKEN".to_owned()),
        };
        let bucket = Bucket {
            name: "bucket".to_owned(),
            region: "eu-west-1".to_owned(),
            endpoint: None,
            virtual_hosted: false,
            credentials: Arc::new(StaticCredentialProvider::new(credential)),
        };
        let (function, version) = ("leaf_1-a".to_owned(), Some("7".to_owned()));
        let scale_out = ScaleOut { leaf_bytes: 1, leaves_max: None, function, version, endpoint };
        (Function::new(&scale_out, &bucket).unwrap(), received)
    }

    #[tokio::test]
    async fn an_invocation_is_signed_with_the_stores_credentials() {
        let (function, mut received) = function(StatusCode::OK, false).await;
        assert_eq!(function.invoke(Bytes::from("payload")).await.unwrap(), "{}");
        let (uri, headers, body) = received.recv().await.unwrap();
        assert_eq!(uri, "/2015-03-31/functions/leaf_1-a/invocations?Qualifier=7");
        assert_eq!(
            (&headers["x-amz-security-token"], &body[..]),
            (&HeaderValue::from_static("SESSIONTOKEN"), &b"payload"[..])
        );
        let authorization = headers["authorization"].to_str().unwrap();
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=KEYID/"), "{authorization}");
        assert!(authorization.contains("/eu-west-1/lambda/aws4_request"), "{authorization}");
        for signed in ["host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"] {
            assert!(authorization.contains(signed), "{signed} is not signed: {authorization}");
        }
    }

    #[tokio::test]
    async fn a_refusal_names_no_secret() {
        for (status, died) in
            [(StatusCode::TOO_MANY_REQUESTS, false), (StatusCode::OK, true), (StatusCode::FORBIDDEN, false)]
        {
            let (function, _received) = function(status, died).await;
            let error = function.invoke(Bytes::from("payload")).await.unwrap_err();
            assert_eq!(error.is_retryable(), status != StatusCode::FORBIDDEN);
            let text = format!("{error} {error:?}");
            assert!(!text.contains("SECRETKEY") && !text.contains("SESSIONTOKEN"), "{text}");
        }
    }

    #[test]
    fn what_may_pass_is_retryable_and_what_will_not_is_not() {
        let retryable = |status, died| outcome(status, died, Bytes::from("why")).unwrap_err().is_retryable();
        assert!(retryable(StatusCode::TOO_MANY_REQUESTS, false), "throttled");
        assert!(retryable(StatusCode::BAD_GATEWAY, false));
        assert!(retryable(StatusCode::OK, true), "died");
        assert!(!retryable(StatusCode::FORBIDDEN, false));
        assert!(!retryable(StatusCode::NOT_FOUND, false));
        let error = outcome(StatusCode::FORBIDDEN, false, Bytes::from("why")).unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
        assert_eq!(outcome(StatusCode::OK, false, Bytes::from("{}")).unwrap(), "{}");
    }
}
