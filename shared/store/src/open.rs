//! From a URL to a store: a directory, an S3 bucket, or memory.
//!
//! Credentials and region come from the `AWS_*` environment (keys, session token, web identity, container or instance
//! role). Profiles in `~/.aws` are not read.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use url::Url;

use crate::clock::SystemClock;
use crate::disk::DiskStore;
use crate::error::StoreError;
use crate::store::Store;

/// How patient a store is. The defaults suit a person or a function that waits for the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreOptions {
    /// Longest single request, body included.
    pub request_timeout: Duration,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Retries of a request that the server refused or that never reached it.
    pub retries: usize,
    /// No retry starts later than this after the first try.
    pub retry_timeout: Duration,
    /// Whether opening a directory creates it.
    pub create_directory: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(3),
            retries: 4,
            retry_timeout: Duration::from_secs(20),
            create_directory: true,
        }
    }
}

impl Store {
    /// Opens a store: a path of a directory, `file:///absolute/path`, `s3://bucket/prefix`, or `memory://` (a new, empty
    /// one each time). No request is made. Plain HTTP is used when, and only when, `AWS_ENDPOINT_URL` (or
    /// `AWS_ENDPOINT_URL_S3`) says `http://`.
    ///
    /// # Errors
    /// [`StoreError::Config`] for a URL that is none of these or a directory that cannot be had.
    pub fn open(url: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Self::open_directory(FilePath::new(url), options);
        };
        match scheme.to_ascii_lowercase().as_str() {
            "memory" => Ok(Self::memory()),
            "file" => {
                let path = Url::parse(url).ok().and_then(|u| u.to_file_path().ok()).ok_or_else(|| {
                    StoreError::config(format!("'{url}' is not an absolute file URL; write file:///path/to/directory"))
                })?;
                Self::open_directory(&path, options)
            }
            "s3" => open_s3(url, rest, options),
            other => Err(StoreError::config(format!(
                "cannot open '{url}': unknown scheme '{other}'; use a directory, file:///path, s3://bucket/prefix or memory://"
            ))),
        }
    }

    /// A new, empty store in memory. It ends with its last clone.
    pub fn memory() -> Self {
        Self::from_object_store(Arc::new(InMemory::new()), Arc::new(SystemClock)).with_url("memory://")
    }

    /// A store in a directory, which is created when missing. Durable as [`DiskStore`] says.
    ///
    /// # Errors
    /// [`StoreError::Config`] when the directory cannot be had.
    pub fn disk(directory: &FilePath) -> Result<Self, StoreError> {
        Self::open_directory(directory, &StoreOptions::default())
    }

    fn open_directory(directory: &FilePath, options: &StoreOptions) -> Result<Self, StoreError> {
        if directory.as_os_str().is_empty() {
            return Err(StoreError::config(
                "the store's directory must not be empty; name one, for example ./tarn-data",
            ));
        }
        if options.create_directory {
            std::fs::create_dir_all(directory).map_err(|error| {
                StoreError::config(format!("cannot create the store's directory '{}': {error}", directory.display()))
            })?;
        }
        let disk = DiskStore::open(directory)?;
        let root = disk.root().to_path_buf();
        let url = root.display().to_string();
        Ok(Self::from_object_store(Arc::new(disk), Arc::new(SystemClock)).with_url(url).with_local_root(root))
    }
}

fn open_s3(url: &str, rest: &str, options: &StoreOptions) -> Result<Store, StoreError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(StoreError::config(format!("'{url}' names no bucket; write s3://bucket/prefix")));
    }
    let prefix = Path::parse(prefix.trim_matches('/')).map_err(|error| {
        StoreError::config(format!("'{url}' has a prefix that cannot be part of an object key: {error}"))
    })?;
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let plain_http = endpoint.as_deref().is_some_and(|endpoint| endpoint.to_ascii_lowercase().starts_with("http://"));
    let client = ClientOptions::new()
        .with_timeout(options.request_timeout)
        .with_connect_timeout(options.connect_timeout)
        .with_allow_http(plain_http);
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: options.retries,
        retry_timeout: options.retry_timeout,
    };
    let s3 = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client)
        .with_retry(retry)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .build()
        .map_err(|error| StoreError::config(format!("cannot open '{url}': {error}")))?;
    Ok(Store::from_object_store(Arc::new(s3), Arc::new(SystemClock)).with_url(url).with_prefix(prefix))
}
