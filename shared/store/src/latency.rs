//! A decorator that makes a near store as slow as a far one, for tests and benches of round trips.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

use crate::clock::Clock;

/// Waits before every request. Requests made at the same time wait at the same time. Parts of multipart uploads do not
/// wait, starting one does.
#[derive(Debug)]
pub struct LatencyStore {
    inner: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    latency: Duration,
    /// Bytes a second.
    rate: Option<u64>,
}

impl LatencyStore {
    /// Wraps a store; `latency` is the time to the first byte of an answer.
    pub fn new(inner: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>, latency: Duration) -> Self {
        Self { inner, clock, latency, rate: None }
    }

    /// The same with so many bytes a second for each answer to a read, which is held back until all of it could be there.
    #[must_use]
    pub fn with_rate(self, bytes_per_second: u64) -> Self {
        Self { rate: Some(bytes_per_second.max(1)), ..self }
    }

    async fn wait(&self) {
        self.clock.sleep(self.latency).await;
    }

    fn delayed<T: Send + 'static>(&self, stream: BoxStream<'static, T>) -> BoxStream<'static, T> {
        let (clock, latency) = (Arc::clone(&self.clock), self.latency);
        futures::stream::once(async move {
            clock.sleep(latency).await;
            stream
        })
        .flatten()
        .boxed()
    }
}

impl fmt::Display for LatencyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LatencyStore({:?}, {})", self.latency, self.inner)
    }
}

#[async_trait]
impl ObjectStore for LatencyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.wait().await;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.wait().await;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.wait().await;
        let is_body = !options.head;
        let result = self.inner.get_opts(location, options).await?;
        if let Some(rate) = self.rate.filter(|_| is_body) {
            let bytes = result.range.end - result.range.start;
            self.clock.sleep(Duration::from_secs_f64(bytes as f64 / rate as f64)).await;
        }
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.wait().await;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.delayed(self.inner.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.delayed(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.delayed(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.wait().await;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.wait().await;
        self.inner.copy_opts(from, to, options).await
    }
}
