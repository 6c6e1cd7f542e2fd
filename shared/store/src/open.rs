//! From a URL to a store: a directory, an S3 bucket, or memory.
//!
//! Credentials and region come from the `AWS_*` environment (keys, session token, web identity, container or instance
//! role). Profiles in `~/.aws` are not read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use url::Url;

use crate::clock::SystemClock;
use crate::disk::DiskStore;
use crate::error::StoreError;
use crate::listing::PassingOver;
use crate::store::{Bucket, Store};

/// How patient a store is. The defaults suit a person or a function that waits for the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreOptions {
    /// Longest single request, body included: 16 MiB on a slow line take a while.
    pub request_timeout: Duration,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Retries of a request that the server refused or that never reached it.
    pub retries: usize,
    /// No retry starts later than this after the first try.
    pub retry_timeout: Duration,
    /// Whether opening a directory creates it.
    pub create_directory: bool,
    /// Where S3 is and who we are. By default the process's own.
    pub environment: Environment,
}

/// The `AWS_*` variables. Printing one shows the names alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The value of a variable that is set and not empty.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Variables whose names do not begin with `AWS_` are left out.
impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().filter(|(name, _)| name.starts_with("AWS_")).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(3),
            retries: 4,
            retry_timeout: Duration::from_secs(20),
            create_directory: true,
            environment: Environment::of_process(),
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
    // The endpoint that the client will choose, in its order.
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
        .iter()
        .find_map(|name| options.environment.get(name));
    let plain_http = endpoint.is_some_and(|endpoint| endpoint.to_ascii_lowercase().starts_with("http://"));
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
    let mut builder = AmazonS3Builder::new();
    for (name, value) in options.environment.0.iter().filter(|(_, value)| !value.is_empty()) {
        // The client knows some of the variables; AWS_PROFILE and others mean nothing to it.
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    let config = |key: AmazonS3ConfigKey| builder.get_config_value(&key);
    let region = config(AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_owned());
    let virtual_hosted =
        config(AmazonS3ConfigKey::VirtualHostedStyleRequest).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let endpoint = endpoint.map(str::to_owned);
    let s3 = builder
        .with_bucket_name(bucket)
        .with_client_options(client)
        .with_retry(retry)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .build()
        .map_err(|error| StoreError::config(format!("cannot open '{url}': {error}")))?;
    let credentials = s3.credentials().clone();
    let bucket = Bucket { name: bucket.to_owned(), region, endpoint, virtual_hosted, credentials };
    let store = Store::from_object_store(Arc::new(PassingOver::new(s3)), Arc::new(SystemClock));
    Ok(store.with_url(url).with_prefix(prefix).with_bucket(bucket))
}
