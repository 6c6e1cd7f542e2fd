//! The real time, moved forward at will; and a store whose objects were written by that time.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use tarn_store::{Clock, SystemClock};

/// A clock that shows the real time until a test moves it forward. Sleeping moves it forward too, and takes no time.
#[derive(Debug, Default)]
pub struct ShiftedClock {
    ahead_ns: AtomicU64,
}

impl ShiftedClock {
    /// A clock that shows the real time.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock forward.
    pub fn advance(&self, duration: Duration) {
        self.ahead_ns.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    fn ahead(&self) -> Duration {
        Duration::from_nanos(self.ahead_ns.load(Ordering::SeqCst))
    }
}

#[async_trait]
impl Clock for ShiftedClock {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms().saturating_add(i64::try_from(self.ahead().as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic() + self.ahead()
    }

    async fn sleep(&self, duration: Duration) {
        self.advance(duration);
        tokio::task::yield_now().await;
    }
}

/// A store whose objects were last modified when a [`ShiftedClock`] said so. Without it an object written after the clock has
/// been moved would look old at once.
#[derive(Debug)]
pub struct ShiftedStore {
    inner: Arc<dyn ObjectStore>,
    clock: Arc<ShiftedClock>,
    shifts: Arc<Mutex<HashMap<Path, Duration>>>,
}

impl ShiftedStore {
    /// Over a store that goes by the real time.
    pub fn new(inner: Arc<dyn ObjectStore>, clock: Arc<ShiftedClock>) -> Self {
        Self { inner, clock, shifts: Arc::default() }
    }

    fn written(&self, location: &Path) {
        self.shifts.lock().insert(location.clone(), self.clock.ahead());
    }

    fn shift(&self, meta: &mut ObjectMeta) {
        shift(&self.shifts, meta);
    }

    fn shifted(&self, listing: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let shifts = Arc::clone(&self.shifts);
        let shift = move |meta: Result<ObjectMeta>| {
            meta.map(|mut meta| {
                shift(&shifts, &mut meta);
                meta
            })
        };
        listing.map(shift).boxed()
    }
}

fn shift(shifts: &Mutex<HashMap<Path, Duration>>, meta: &mut ObjectMeta) {
    if let Some(ahead) = shifts.lock().get(&meta.location) {
        meta.last_modified += *ahead;
    }
}

impl fmt::Display for ShiftedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShiftedStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for ShiftedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let result = self.inner.put_opts(location, payload, opts).await?;
        self.written(location);
        Ok(result)
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.written(location);
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut result = self.inner.get_opts(location, options).await?;
        self.shift(&mut result.meta);
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.shifted(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.shifted(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut result = self.inner.list_with_delimiter(prefix).await?;
        result.objects.iter_mut().for_each(|meta| self.shift(meta));
        Ok(result)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.written(to);
        Ok(())
    }
}
