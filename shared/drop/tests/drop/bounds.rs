//! Memory does not grow with the file: a file that no memory holds, made up as it is read.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tarn_drop::{DropFolder, DropSettings};

use crate::support::{World, sequences, settled};

const NAME: &str = "endless.ndjson";
const LINE: usize = 128;

/// Bytes handed out and not given back.
#[derive(Debug, Default)]
struct Held {
    now: AtomicUsize,
    most: AtomicUsize,
    largest_delta: AtomicUsize,
}

struct Block(Vec<u8>, Arc<Held>);

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.1.now.fetch_sub(self.0.len(), Ordering::SeqCst);
    }
}

/// Adds one file that is made up as it is read, and notes how much of it is held at once.
#[derive(Debug)]
struct Endless {
    inner: Arc<dyn ObjectStore>,
    lines: u64,
    held: Arc<Held>,
}

impl Endless {
    fn bytes(&self, range: Range<u64>) -> Vec<u8> {
        let line = LINE as u64;
        let mut out = Vec::new();
        for number in range.start / line..=range.end.saturating_sub(1) / line {
            let row = format!("{{\"id\": {number}, \"title\": \"a film\", \"vector\": [0.5, {}]}}", number % 100);
            out.extend_from_slice(format!("{row:<width$}\n", width = LINE - 1).as_bytes());
        }
        let skip = usize::try_from(range.start % line).unwrap();
        out.drain(..skip);
        out.truncate(usize::try_from(range.end - range.start).unwrap());
        out
    }
}

impl fmt::Display for Endless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Endless")
    }
}

#[async_trait]
impl ObjectStore for Endless {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if location.filename() != Some(NAME) {
            return self.inner.get_opts(location, options).await;
        }
        let size = self.lines * LINE as u64;
        let meta = ObjectMeta {
            location: location.clone(),
            last_modified: "2026-01-01T00:00:00Z".parse().unwrap(),
            size,
            e_tag: Some("endless".into()),
            version: None,
        };
        let range = match options.range {
            Some(GetRange::Bounded(range)) => range,
            _ => 0..0,
        };
        let block = Block(self.bytes(range.clone()), Arc::clone(&self.held));
        let now = self.held.now.fetch_add(block.0.len(), Ordering::SeqCst) + block.0.len();
        self.held.most.fetch_max(now, Ordering::SeqCst);
        let bytes = Bytes::from_owner(block);
        let payload = GetResultPayload::Stream(Box::pin(futures::stream::iter([Ok(bytes)])));
        Ok(GetResult { payload, meta, range, attributes: object_store::Attributes::default() })
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if location.as_ref().contains("/timeline/") {
            self.held.largest_delta.fetch_max(payload.content_length(), Ordering::SeqCst);
        }
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// The most bytes of the file held at once, the largest delta, and how many deltas there are.
async fn run(lines: u64) -> (usize, usize, usize) {
    let held = Arc::new(Held::default());
    let noted = Arc::clone(&held);
    let world = World::over(move |inner| Arc::new(Endless { inner, lines, held: noted })).await;
    let mut settings = DropSettings::default();
    settings.block_bytes = 64 << 10;
    settings.chunk_bytes = 256 << 10;
    let folder = DropFolder::new(world.store.clone(), settings);
    let status = settled(folder.process(&format!("drop/films/1.0/{NAME}"), None, None).await.unwrap());
    assert_eq!(held.now.load(Ordering::SeqCst), 0);
    let deltas = sequences(&status).len();
    (held.most.load(Ordering::SeqCst), held.largest_delta.load(Ordering::SeqCst), deltas)
}

/// What of a file is in memory: one block of it, the chunk being filled, the one in the channel, the one being appended. Each is
/// bounded by the settings; this test shows that none of them knows how long the file is.
#[tokio::test]
async fn memory_does_not_grow_with_the_file() {
    let (small, small_delta, few) = run(8_000).await;
    let (large, large_delta, many) = run(64_000).await;
    assert!(many > 6 * few, "{few} and {many} deltas");
    assert_eq!(small, large);
    assert!(large <= 64 << 10, "{large}");
    assert!(large_delta <= small_delta * 2, "{small_delta} and {large_delta}");
}
