//! A decorator that repeats reads which failed for a reason that may pass. Writes pass through once: commits have their
//! own rule (`commit`), and the S3 client repeats what is idempotent by itself, reads included; so this one is for the
//! stores that do not.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

use crate::backoff::{Backoff, BackoffPolicy};
use crate::clock::Clock;

/// Repeats gets and lists. A listing that fails part-way starts again and is held back until it is complete.
#[derive(Clone, Debug)]
pub struct RetryStore {
    inner: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    policy: BackoffPolicy,
    jitter: Arc<parking_lot::Mutex<SmallRng>>,
}

impl RetryStore {
    /// Wraps a store; `seed` draws the jitter of the waits.
    pub fn new(inner: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>, policy: BackoffPolicy, seed: u64) -> Self {
        Self { inner, clock, policy, jitter: Arc::new(parking_lot::Mutex::new(SmallRng::seed_from_u64(seed))) }
    }

    async fn retry<T, F: Future<Output = Result<T>>>(&self, attempt: impl Fn() -> F) -> Result<T> {
        let mut backoff = Backoff::new(self.policy, self.jitter.lock().next_u64());
        loop {
            let error = match attempt().await {
                Err(error) if may_pass(&error) => error,
                settled => return settled,
            };
            let Some(wait) = backoff.next_wait() else { return Err(error) };
            tracing::debug!(%error, attempt = backoff.taken(), "read again");
            self.clock.sleep(wait).await;
        }
    }

    fn retried_list(
        &self,
        list: impl Fn(&dyn ObjectStore) -> BoxStream<'static, Result<ObjectMeta>> + Send + Sync + 'static,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        async move {
            let all = this.retry(|| list(this.inner.as_ref()).try_collect::<Vec<_>>()).await;
            match all {
                Ok(all) => futures::stream::iter(all).map(Ok).boxed(),
                Err(error) => futures::stream::once(async { Err(error) }).boxed(),
            }
        }
        .into_stream()
        .flatten()
        .boxed()
    }
}

fn may_pass(error: &Error) -> bool {
    matches!(error, Error::Generic { .. } | Error::JoinError { .. })
}

impl fmt::Display for RetryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RetryStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for RetryStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.retry(|| self.inner.get_opts(location, options.clone())).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.retry(|| self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.cloned();
        self.retried_list(move |inner| inner.list(prefix.as_ref()))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let (prefix, offset) = (prefix.cloned(), offset.clone());
        self.retried_list(move |inner| inner.list_with_offset(prefix.as_ref(), &offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.retry(|| self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
