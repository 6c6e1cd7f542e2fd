//! A store that notes which ranges are read, and interferes with some of them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

/// What becomes of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interference {
    /// It is never answered.
    Hang,
    /// A bit of it is flipped.
    Flip,
}

/// Notes and steers the reads of segment files. Clones share everything.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    reads: Vec<Range<u64>>,
    interfere: Option<(Range<u64>, Interference)>,
    hanging: usize,
    holds_others: bool,
}

/// A read that is never answered, and counts as hanging as long as somebody waits for it.
struct Hanging(Gate);

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.0.lock().hanging -= 1;
    }
}

impl Gate {
    /// What was read of segment files since the last call.
    pub(crate) fn reads(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut self.0.lock().reads)
    }

    /// From now on, to reads of a segment file that touch this range.
    pub(crate) fn interfere(&self, range: Range<u64>, how: Interference) {
        self.0.lock().interfere = Some((range, how));
    }

    /// From now on reads of other objects wait for a read of a segment file to begin.
    pub(crate) fn hold_others(&self) {
        self.0.lock().holds_others = true;
    }

    /// Reads that somebody waits for in vain.
    pub(crate) fn hanging(&self) -> usize {
        self.0.lock().hanging
    }

    /// Everything passes.
    pub(crate) fn open(&self) {
        self.0.lock().interfere = None;
    }

    /// The store seen through the gate.
    pub(crate) fn over(&self, inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        Arc::new(GateStore { inner, gate: self.clone() })
    }

    fn pass(&self, range: &Range<u64>) -> Option<Interference> {
        let mut state = self.0.lock();
        state.reads.push(range.clone());
        state.holds_others = false;
        let touches = |other: &Range<u64>| other.start < range.end && range.start < other.end;
        let how = state.interfere.as_ref().filter(|(other, _)| touches(other)).map(|(_, how)| *how);
        state.hanging += usize::from(how == Some(Interference::Hang));
        how
    }
}

struct GateStore {
    inner: Arc<dyn ObjectStore>,
    gate: Gate,
}

impl fmt::Debug for GateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for GateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GateStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for GateStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_segment = location.as_ref().contains("/segments/") && !options.head;
        let result = self.inner.get_opts(location, options).await?;
        if !is_segment {
            while self.gate.0.lock().holds_others {
                tokio::task::yield_now().await;
            }
            return Ok(result);
        }
        match self.gate.pass(&result.range) {
            None => Ok(result),
            Some(Interference::Hang) => {
                let _hanging = Hanging(self.gate.clone());
                std::future::pending().await
            }
            Some(Interference::Flip) => {
                let (meta, range, attributes) = (result.meta.clone(), result.range.clone(), result.attributes.clone());
                let mut bytes = result.bytes().await?.to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x10;
                let payload = futures::stream::iter([Ok(Bytes::from(bytes))]).boxed();
                Ok(GetResult { payload: GetResultPayload::Stream(payload), meta, range, attributes })
            }
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
