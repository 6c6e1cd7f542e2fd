//! A decorator that counts requests and bytes, for tests, metrics and the price of an answer.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// Objects that one list request returns on S3.
const LIST_PAGE: u64 = 1_000;

/// What a [`CountingStore`] has seen so far. Clones share the counters.
#[derive(Clone, Debug, Default)]
pub struct Requests(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    gets: AtomicU64,
    heads: AtomicU64,
    puts: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
}

/// Requests by kind, as S3 would bill them, and bytes. Retries below the decorator are not seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestCounts {
    /// Whole objects and ranges.
    pub gets: u64,
    /// Metadata alone.
    pub heads: u64,
    /// Puts, and the parts, start and completion of multipart uploads; also copies.
    pub puts: u64,
    /// Pages of listings.
    pub lists: u64,
    /// Objects deleted.
    pub deletes: u64,
    /// Bytes that gets asked for.
    pub bytes_read: u64,
    /// Bytes that puts carried.
    pub bytes_written: u64,
}

impl Requests {
    /// The counts since the start.
    pub fn counts(&self) -> RequestCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RequestCounts {
            gets: read(&self.0.gets),
            heads: read(&self.0.heads),
            puts: read(&self.0.puts),
            lists: read(&self.0.lists),
            deletes: read(&self.0.deletes),
            bytes_read: read(&self.0.bytes_read),
            bytes_written: read(&self.0.bytes_written),
        }
    }
}

impl RequestCounts {
    /// What happened since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            gets: self.gets - earlier.gets,
            heads: self.heads - earlier.heads,
            puts: self.puts - earlier.puts,
            lists: self.lists - earlier.lists,
            deletes: self.deletes - earlier.deletes,
            bytes_read: self.bytes_read - earlier.bytes_read,
            bytes_written: self.bytes_written - earlier.bytes_written,
        }
    }

    /// Requests of all kinds.
    pub fn total(&self) -> u64 {
        self.gets + self.heads + self.puts + self.lists + self.deletes
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Counts what passes through.
#[derive(Debug)]
pub struct CountingStore {
    inner: Arc<dyn ObjectStore>,
    requests: Requests,
}

impl CountingStore {
    /// Wraps a store; the handle reads the counters.
    pub fn new(inner: Arc<dyn ObjectStore>) -> (Self, Requests) {
        let requests = Requests::default();
        (Self { inner, requests: requests.clone() }, requests)
    }

    fn counted_list(&self, listing: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let counters = Arc::clone(&self.requests.0);
        add(&counters.lists, 1);
        listing
            .enumerate()
            .map(move |(index, item)| {
                if index > 0 && (index as u64).is_multiple_of(LIST_PAGE) {
                    add(&counters.lists, 1);
                }
                item
            })
            .boxed()
    }
}

impl fmt::Display for CountingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CountingStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for CountingStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        add(&self.requests.0.puts, 1);
        add(&self.requests.0.bytes_written, payload.content_length() as u64);
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        add(&self.requests.0.puts, 1);
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(CountingUpload { inner, requests: self.requests.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        add(if head { &self.requests.0.heads } else { &self.requests.0.gets }, 1);
        let result = self.inner.get_opts(location, options).await?;
        if !head {
            add(&self.requests.0.bytes_read, result.range.end - result.range.start);
        }
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        // As the stores below do it, so that each coalesced request is counted once.
        object_store::coalesce_ranges(
            ranges,
            |range| async move {
                add(&self.requests.0.gets, 1);
                add(&self.requests.0.bytes_read, range.end - range.start);
                let mut parts = self.inner.get_ranges(location, std::slice::from_ref(&range)).await?;
                Ok::<_, object_store::Error>(parts.pop().unwrap_or_default())
            },
            object_store::OBJECT_STORE_COALESCE_DEFAULT,
        )
        .await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let counters = Arc::clone(&self.requests.0);
        self.inner.delete_stream(locations.inspect(move |_| add(&counters.deletes, 1)).boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.counted_list(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.counted_list(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let result = self.inner.list_with_delimiter(prefix).await?;
        let names = (result.objects.len() + result.common_prefixes.len()) as u64;
        add(&self.requests.0.lists, names.div_ceil(LIST_PAGE).max(1));
        Ok(result)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        add(&self.requests.0.puts, 1);
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct CountingUpload {
    inner: Box<dyn MultipartUpload>,
    requests: Requests,
}

#[async_trait]
impl MultipartUpload for CountingUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        add(&self.requests.0.puts, 1);
        add(&self.requests.0.bytes_written, data.content_length() as u64);
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        add(&self.requests.0.puts, 1);
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        add(&self.requests.0.deletes, 1);
        self.inner.abort().await
    }
}
