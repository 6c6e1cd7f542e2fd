//! A decorator that counts requests and bytes: those of all, for tests and metrics, and those of each task that has a
//! [`Meter`], for the price of an answer.

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
use serde::{Deserialize, Serialize};

use crate::meter::{Meter, Ticket};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
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

    pub(crate) fn add(&mut self, other: &Self) {
        self.gets += other.gets;
        self.heads += other.heads;
        self.puts += other.puts;
        self.lists += other.lists;
        self.deletes += other.deletes;
        self.bytes_read += other.bytes_read;
        self.bytes_written += other.bytes_written;
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
        // Whoever asks pays, whoever polls.
        let meter = Meter::current();
        let ticket = Ticket::new(|counts| counts.lists += 1);
        let listing = futures::stream::once(async move {
            let ticket = ticket.made().await;
            (ticket, listing)
        });
        let items = listing.flat_map(move |(ticket, listing)| {
            let (counters, meter, mut first) = (Arc::clone(&counters), meter.clone(), Some(ticket));
            // The end of the listing is an item, so that an empty one is seen to be answered.
            let items = listing.map(Some).chain(futures::stream::iter([None]));
            items.enumerate().filter_map(move |(index, item)| {
                if let Some(first) = first.take() {
                    first.answered(|_| ());
                }
                if index > 0 && (index as u64).is_multiple_of(LIST_PAGE) && item.is_some() {
                    add(&counters.lists, 1);
                    Ticket::under(meter.clone(), |counts| counts.lists += 1).answered(|_| ());
                }
                std::future::ready(item)
            })
        });
        items.boxed()
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
        let bytes = payload.content_length() as u64;
        add(&self.requests.0.puts, 1);
        add(&self.requests.0.bytes_written, bytes);
        let ticket = Ticket::new(|counts| {
            counts.puts += 1;
            counts.bytes_written += bytes;
        });
        let result = self.inner.put_opts(location, payload, opts).await;
        ticket.answered(|_| ());
        result
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        add(&self.requests.0.puts, 1);
        let ticket = Ticket::new(|counts| counts.puts += 1);
        let inner = self.inner.put_multipart_opts(location, opts).await;
        ticket.answered(|_| ());
        let inner = inner?;
        Ok(Box::new(CountingUpload { inner, requests: self.requests.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        add(if head { &self.requests.0.heads } else { &self.requests.0.gets }, 1);
        let ticket = Ticket::new(|counts| *if head { &mut counts.heads } else { &mut counts.gets } += 1);
        let ticket = ticket.made().await;
        let result = self.inner.get_opts(location, options).await;
        let bytes = result.as_ref().map_or(0, |result| if head { 0 } else { result.range.end - result.range.start });
        add(&self.requests.0.bytes_read, bytes);
        ticket.answered(|counts| counts.bytes_read += bytes);
        result
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        // As the stores below do it, so that each coalesced request is counted once.
        let reads = object_store::coalesce_ranges(
            ranges,
            |range| async move {
                let bytes = range.end - range.start;
                add(&self.requests.0.gets, 1);
                add(&self.requests.0.bytes_read, bytes);
                let ticket = Ticket::new(|counts| {
                    counts.gets += 1;
                    counts.bytes_read += bytes;
                });
                let ticket = ticket.made().await;
                let parts = self.inner.get_ranges(location, std::slice::from_ref(&range)).await;
                ticket.answered(|_| ());
                Ok::<_, object_store::Error>(parts?.pop().unwrap_or_default())
            },
            object_store::OBJECT_STORE_COALESCE_DEFAULT,
        );
        Meter::one_trip(reads).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let counters = Arc::clone(&self.requests.0);
        let meter = Meter::current();
        let counted = move |_: &Result<Path>| {
            add(&counters.deletes, 1);
            Ticket::under(meter.clone(), |counts| counts.deletes += 1).answered(|_| ());
        };
        self.inner.delete_stream(locations.inspect(counted).boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.counted_list(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.counted_list(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let ticket = Ticket::new(|counts| counts.lists += 1).made().await;
        let result = self.inner.list_with_delimiter(prefix).await;
        let names = result.as_ref().map_or(0, |result| result.objects.len() + result.common_prefixes.len()) as u64;
        let pages = names.div_ceil(LIST_PAGE).max(1);
        add(&self.requests.0.lists, pages);
        ticket.answered(|counts| counts.lists += pages - 1);
        result
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        add(&self.requests.0.puts, 1);
        let ticket = Ticket::new(|counts| counts.puts += 1);
        let result = self.inner.copy_opts(from, to, options).await;
        ticket.answered(|_| ());
        result
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
        let bytes = data.content_length() as u64;
        add(&self.requests.0.puts, 1);
        add(&self.requests.0.bytes_written, bytes);
        let ticket = Ticket::new(|counts| {
            counts.puts += 1;
            counts.bytes_written += bytes;
        });
        let part = self.inner.put_part(data);
        Box::pin(async move {
            let result = part.await;
            ticket.answered(|_| ());
            result
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        add(&self.requests.0.puts, 1);
        let ticket = Ticket::new(|counts| counts.puts += 1);
        let result = self.inner.complete().await;
        ticket.answered(|_| ());
        result
    }

    async fn abort(&mut self) -> Result<()> {
        add(&self.requests.0.deletes, 1);
        let ticket = Ticket::new(|counts| counts.deletes += 1);
        let result = self.inner.abort().await;
        ticket.answered(|_| ());
        result
    }
}
