//! A store that fails as real ones do: by script, by seed, or for good until revived.
//!
//! What makes faults hard is not that a request fails but that it may have taken effect, or may yet; every kind of that
//! is here. Faults are injected above the store, so the store itself stays sound.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Semaphore;

/// What kind of request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A put of a whole object; also a copy.
    Put,
    /// Start, part or completion of a multipart upload.
    Multipart,
    /// A get of an object, of ranges, or of its metadata.
    Get,
    /// A listing.
    List,
    /// A delete.
    Delete,
}

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// 503 without effect.
    UnavailableBefore,
    /// 503 after it took effect.
    UnavailableAfter,
    /// Time-out without effect.
    Timeout,
    /// Time-out after it took effect: the response was lost.
    LostResponse,
    /// Time-out now; a put takes effect when [`Faults::land_late`] is called. Other requests: as [`Fault::Timeout`].
    LandsLate,
    /// 403 without effect, as for credentials that do not permit it.
    Denied,
}

impl Fault {
    /// All that may pass.
    pub const ALL: [Self; 5] =
        [Self::UnavailableBefore, Self::UnavailableAfter, Self::Timeout, Self::LostResponse, Self::LandsLate];

    fn takes_effect(self) -> bool {
        matches!(self, Self::UnavailableAfter | Self::LostResponse)
    }
}

/// The error that a fault shows itself as.
#[derive(Clone, Copy, Debug)]
enum Injected {
    Fault(Fault),
    Crashed,
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fault(Fault::UnavailableBefore | Fault::UnavailableAfter) => "injected: 503 Slow Down",
            Self::Fault(Fault::Denied) => "injected: 403 Forbidden",
            Self::Fault(_) => "injected: request timed out",
            Self::Crashed => "injected: the process has crashed",
        })
    }
}

impl std::error::Error for Injected {}

impl From<Injected> for Error {
    fn from(injected: Injected) -> Self {
        if let Injected::Fault(Fault::Denied) = injected {
            return Self::PermissionDenied { path: "a path".to_owned(), source: Box::new(injected) };
        }
        Self::Generic { store: "FaultStore", source: Box::new(injected) }
    }
}

/// Steers a [`FaultStore`]. Clones steer the same one.
#[derive(Clone, Debug)]
pub struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug)]
struct Plan {
    holds: Vec<Hold>,
    script: VecDeque<Scripted>,
    random: Option<(SmallRng, f64)>,
    crash: Option<Crash>,
    log: Vec<(Operation, String)>,
    late: Vec<Late>,
}

#[derive(Debug)]
struct Scripted {
    operation: Operation,
    path_contains: String,
    fault: Fault,
}

#[derive(Debug)]
struct Hold {
    operation: Operation,
    path_contains: String,
    held: Held,
}

/// A request that is held up on its way to the store, as by a process that was put to sleep; see [`Faults::hold`].
#[derive(Clone, Debug)]
pub struct Held {
    arrived: Arc<Semaphore>,
    released: Arc<Semaphore>,
}

impl Held {
    /// Returns once the request has been made.
    pub async fn arrived(&self) {
        wait(&self.arrived).await;
    }

    /// Lets it go on.
    pub fn release(&self) {
        self.released.add_permits(1);
    }
}

async fn wait(semaphore: &Semaphore) {
    // Nobody closes these; if somebody did, there would be nothing to wait for.
    if let Ok(permit) = semaphore.acquire().await {
        permit.forget();
    }
}

#[derive(Debug)]
struct Crash {
    operations_left: u64,
    last_takes_effect: bool,
}

#[derive(Debug)]
struct Late {
    location: Path,
    payload: PutPayload,
    opts: PutOptions,
}

/// What to do with a request.
enum Verdict {
    Pass,
    Fail(Fault),
    Crashed { takes_effect: bool },
}

impl Default for Faults {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Plan {
            holds: Vec::new(),
            script: VecDeque::new(),
            random: None,
            crash: None,
            log: Vec::new(),
            late: Vec::new(),
        })))
    }
}

impl Faults {
    /// The next request of this kind whose path contains the text fails so. Scripted faults are used up in order.
    pub fn script(&self, operation: Operation, path_contains: &str, fault: Fault) {
        let path_contains = path_contains.to_owned();
        self.0.lock().script.push_back(Scripted { operation, path_contains, fault });
    }

    /// The next request of this kind whose path contains the text waits, before it has any effect, until it is released.
    pub fn hold(&self, operation: Operation, path_contains: &str) -> Held {
        let held = Held { arrived: Arc::new(Semaphore::new(0)), released: Arc::new(Semaphore::new(0)) };
        let path_contains = path_contains.to_owned();
        self.0.lock().holds.push(Hold { operation, path_contains, held: held.clone() });
        held
    }

    async fn hold_up(&self, operation: Operation, path: &Path) {
        let hold = {
            let holds = &mut self.0.lock().holds;
            let matches = |hold: &Hold| hold.operation == operation && path.as_ref().contains(&hold.path_contains);
            holds.iter().position(matches).map(|position| holds.remove(position))
        };
        if let Some(Hold { held, .. }) = hold {
            held.arrived.add_permits(1);
            wait(&held.released).await;
        }
    }

    /// From now on every request fails with this probability, in a way drawn from the seed. Zero ends it.
    pub fn random(&self, seed: u64, probability: f64) {
        self.0.lock().random = (probability > 0.0).then(|| (SmallRng::seed_from_u64(seed), probability));
    }

    /// After `operations` more requests the process is dead: all requests fail, without effect, until [`Self::revive`].
    pub fn crash_after(&self, operations: u64) {
        self.0.lock().crash = Some(Crash { operations_left: operations, last_takes_effect: false });
    }

    /// As [`Self::crash_after`], but the first request after that takes effect before the process dies.
    pub fn crash_during(&self, operations: u64) {
        self.0.lock().crash = Some(Crash { operations_left: operations, last_takes_effect: true });
    }

    /// Whether a crash has come to pass.
    pub fn has_crashed(&self) -> bool {
        self.0.lock().crash.as_ref().is_some_and(|crash| crash.operations_left == 0)
    }

    /// Ends a crash.
    pub fn revive(&self) {
        self.0.lock().crash = None;
    }

    /// Ends every fault, scripted ones too. Late puts stay pending.
    pub fn heal(&self) {
        let mut plan = self.0.lock();
        plan.script.clear();
        plan.random = None;
        plan.crash = None;
    }

    /// Requests so far.
    pub fn operations(&self) -> u64 {
        self.0.lock().log.len() as u64
    }

    /// Every request so far, with its path.
    pub fn log(&self) -> Vec<(Operation, String)> {
        self.0.lock().log.clone()
    }

    fn judge(&self, operation: Operation, path: &Path) -> Verdict {
        let plan = &mut *self.0.lock();
        plan.log.push((operation, path.to_string()));
        if let Some(crash) = &mut plan.crash {
            if crash.operations_left == 0 {
                return Verdict::Crashed { takes_effect: std::mem::take(&mut crash.last_takes_effect) };
            }
            crash.operations_left -= 1;
        }
        let scripted = plan
            .script
            .iter()
            .position(|next| next.operation == operation && path.as_ref().contains(&next.path_contains))
            .and_then(|position| plan.script.remove(position));
        if let Some(scripted) = scripted {
            return Verdict::Fail(scripted.fault);
        }
        if let Some((rng, probability)) = &mut plan.random
            && rng.random_bool(*probability)
        {
            return Verdict::Fail(Fault::ALL[rng.random_range(0..Fault::ALL.len())]);
        }
        Verdict::Pass
    }

    /// Lets `request` through, or not.
    async fn apply<T>(&self, operation: Operation, path: &Path, request: impl Future<Output = Result<T>>) -> Result<T> {
        self.hold_up(operation, path).await;
        let (takes_effect, injected) = match self.judge(operation, path) {
            Verdict::Pass => return request.await,
            Verdict::Fail(fault) => (fault.takes_effect(), Injected::Fault(fault)),
            Verdict::Crashed { takes_effect } => (takes_effect, Injected::Crashed),
        };
        if takes_effect {
            // The client never learns how it went.
            drop(request.await);
        }
        Err(injected.into())
    }
}

/// Fails on request. See [`Faults`].
#[derive(Debug)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    faults: Faults,
}

impl FaultStore {
    /// Wraps a store; the handle steers it. Nothing fails until told to.
    pub fn new(inner: Arc<dyn ObjectStore>) -> (Self, Faults) {
        let faults = Faults::default();
        (Self { inner, faults: faults.clone() }, faults)
    }

    /// Wraps a store under an existing handle, so that one process's clients fail together.
    pub fn with_faults(inner: Arc<dyn ObjectStore>, faults: Faults) -> Self {
        Self { inner, faults }
    }

    fn faulty_list(
        &self,
        prefix: Option<&Path>,
        listing: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (faults, prefix) = (self.faults.clone(), prefix.cloned().unwrap_or_default());
        async move { faults.apply(Operation::List, &prefix, async { Ok(listing) }).await }
            .into_stream()
            .try_flatten()
            .boxed()
    }
}

impl Faults {
    /// Lets the puts that timed out reach the store behind `store` now, in order; how each went.
    pub async fn land_late(&self, store: &dyn ObjectStore) -> Vec<Result<PutResult>> {
        let late = std::mem::take(&mut self.0.lock().late);
        let mut results = Vec::with_capacity(late.len());
        for Late { location, payload, opts } in late {
            results.push(store.put_opts(&location, payload, opts).await);
        }
        results
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.faults.hold_up(Operation::Put, location).await;
        let (takes_effect, injected) = match self.faults.judge(Operation::Put, location) {
            Verdict::Pass => return self.inner.put_opts(location, payload, opts).await,
            Verdict::Fail(Fault::LandsLate) => {
                let late = Late { location: location.clone(), payload, opts };
                self.faults.0.lock().late.push(late);
                return Err(Injected::Fault(Fault::LandsLate).into());
            }
            Verdict::Fail(fault) => (fault.takes_effect(), Injected::Fault(fault)),
            Verdict::Crashed { takes_effect } => (takes_effect, Injected::Crashed),
        };
        if takes_effect {
            drop(self.inner.put_opts(location, payload, opts).await);
        }
        Err(injected.into())
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let start = self.inner.put_multipart_opts(location, opts);
        let inner = self.faults.apply(Operation::Multipart, location, start).await?;
        Ok(Box::new(FaultUpload { inner, faults: self.faults.clone(), location: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.faults.apply(Operation::Get, location, self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.faults.apply(Operation::Get, location, self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, faults) = (Arc::clone(&self.inner), self.faults.clone());
        locations
            .then(move |location| {
                let (inner, faults) = (Arc::clone(&inner), faults.clone());
                async move {
                    let location = location?;
                    faults.apply(Operation::Delete, &location, inner.delete(&location)).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.faulty_list(prefix, self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.faulty_list(prefix, self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.cloned().unwrap_or_default();
        self.faults.apply(Operation::List, &path, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.faults.apply(Operation::Put, to, self.inner.copy_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct FaultUpload {
    inner: Box<dyn MultipartUpload>,
    faults: Faults,
    location: Path,
}

#[async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let part = self.inner.put_part(data);
        let (faults, location) = (self.faults.clone(), self.location.clone());
        async move { faults.apply(Operation::Multipart, &location, part).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.faults.apply(Operation::Multipart, &self.location, self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.faults.apply(Operation::Multipart, &self.location, self.inner.abort()).await
    }
}
