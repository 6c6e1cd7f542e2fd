//! Reading many ranges of one object: coalesced, in parallel, and asked for again when one lags far behind the others.
//!
//! A store answers most requests in about the same time and a few much later, and a read of many ranges waits for the last.
//! So a range whose siblings have long been answered is asked for a second time, and the first answer wins. Both requests
//! count. No failure is repeated here: that is the client's business, or [`crate::RetryStore`]'s.

use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{AbortHandle, BoxFuture, Either, abortable, select};
use futures::stream::FuturesUnordered;
use object_store::path::Path;
use object_store::{Error as Below, GetOptions, GetRange};
use tarn_model::{Corrupt, ObjectKey};

use crate::error::StoreError;
use crate::meter::Meter;
use crate::store::Store;

/// How [`Store::read_ranges`] goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeReads {
    /// Ranges with at most this many bytes between them share a request; `None`: each range is a request, as its caller has
    /// planned it.
    pub gap: Option<u64>,
    /// Ranges under way at once.
    pub at_once: usize,
    /// When a range is asked for a second time; `None` for never.
    pub hedge: Option<Hedge>,
}

/// When a range counts as lagging: once half of the requests of the same read have been answered, and it has taken longer
/// than both of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// So many times the median of those that were answered.
    pub factor: u32,
    /// And at least this.
    pub at_least: Duration,
}

impl Hedge {
    const DEFAULT: Self = Self { factor: 3, at_least: Duration::from_millis(50) };
}

impl Default for Hedge {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl RangeReads {
    /// Each range is a request. For callers that have weighed gaps against requests themselves.
    pub const fn as_planned() -> Self {
        Self { gap: None, at_once: 32, hedge: Some(Hedge::DEFAULT) }
    }

    /// Ranges share a request when the gap costs less than a round trip would.
    pub const fn coalesced() -> Self {
        Self { gap: Some(64 << 10), ..Self::as_planned() }
    }
}

impl Default for RangeReads {
    fn default() -> Self {
        Self::coalesced()
    }
}

/// One request of a read.
#[derive(Debug, Default)]
struct Request {
    /// When it was first made; `None` before.
    began: Option<Duration>,
    /// Its tries under way.
    tries: Vec<AbortHandle>,
    hedged: bool,
    body: Option<Bytes>,
}

/// A try ends: of which request, when it began, and with what, unless it was called off.
type Try<'a> = BoxFuture<'a, (usize, Duration, Option<Result<Bytes, StoreError>>)>;

impl Store {
    /// Reads ranges of an object, in the order asked for. They may overlap and touch; empty ones cost nothing.
    ///
    /// # Errors
    /// [`StoreError::Missing`]; [`StoreError::Corrupt`] when an answer is not as long as its range, as when the object ends
    /// before; see [`StoreError`] for the rest. The first error ends the read.
    pub async fn read_ranges(
        &self,
        key: &ObjectKey,
        ranges: &[Range<u64>],
        how: &RangeReads,
    ) -> Result<Vec<Bytes>, StoreError> {
        let plan = coalesce(ranges, how.gap);
        let bodies = Meter::one_trip(self.read_all(key, &plan.requests, how)).await?;
        let parts = ranges.iter().zip(plan.request_of).map(|(range, request)| {
            let Some(request) = request else { return Bytes::new() };
            let start = (range.start - plan.requests[request].start) as usize;
            bodies[request].slice(start..start + (range.end - range.start) as usize)
        });
        Ok(parts.collect())
    }

    /// Reads the last `count` bytes of an object of `object_bytes` bytes, or all of it when it is shorter, in one request.
    ///
    /// # Errors
    /// As [`Self::read_ranges`]; [`StoreError::Corrupt`] also when the object is longer than that.
    pub async fn read_last(&self, key: &ObjectKey, object_bytes: u64, count: u64) -> Result<Bytes, StoreError> {
        self.read_range(&self.path(key), object_bytes.saturating_sub(count)..object_bytes, Some(object_bytes)).await
    }

    async fn read_all(
        &self,
        key: &ObjectKey,
        ranges: &[Range<u64>],
        how: &RangeReads,
    ) -> Result<Vec<Bytes>, StoreError> {
        let path = &self.path(key);
        let clock = &**self.clock();
        let mut requests: Vec<Request> = ranges.iter().map(|_| Request::default()).collect();
        let mut tries: FuturesUnordered<Try<'_>> = FuturesUnordered::new();
        let mut answered: Vec<Duration> = Vec::with_capacity(ranges.len());
        let mut begun = 0;
        let attempt = |number: usize, request: &mut Request| -> Try<'_> {
            let began = clock.monotonic();
            request.began.get_or_insert(began);
            let (read, handle) = abortable(self.read_range(path, ranges[number].clone(), None));
            request.tries.push(handle);
            Box::pin(async move { (number, began, read.await.ok()) })
        };
        while answered.len() < ranges.len() {
            while begun < ranges.len() && begun - answered.len() < how.at_once.max(1) {
                tries.push(attempt(begun, &mut requests[begun]));
                begun += 1;
            }
            let patience = how.hedge.and_then(|hedge| patience(hedge, &mut answered, ranges.len()));
            let due = |request: &Request| match (request.began, patience) {
                (Some(began), Some(patience)) if request.body.is_none() && !request.hedged => Some(began + patience),
                _ => None,
            };
            let ended = match requests.iter().filter_map(due).min() {
                None => tries.next().await,
                Some(due) => {
                    let wait = due.saturating_sub(clock.monotonic());
                    match select(tries.next(), pin!(clock.sleep(wait))).await {
                        Either::Left((ended, _)) => ended,
                        Either::Right(_) => None,
                    }
                }
            };
            match ended {
                Some((number, began, Some(Ok(body)))) if requests[number].body.is_none() => {
                    answered.push(clock.monotonic().saturating_sub(began));
                    let request = &mut requests[number];
                    request.body = Some(body);
                    request.tries.iter().for_each(AbortHandle::abort);
                }
                Some((number, _, Some(Err(error)))) if requests[number].body.is_none() => {
                    let request = &mut requests[number];
                    request.tries.pop();
                    // The other try may still succeed.
                    if request.tries.is_empty() {
                        return Err(error);
                    }
                }
                Some(_) => {}
                None => {
                    let now = clock.monotonic();
                    for (number, request) in requests.iter_mut().enumerate() {
                        if due(request).is_some_and(|due| due <= now) {
                            request.hedged = true;
                            Meter::note_hedge();
                            tries.push(attempt(number, request));
                        }
                    }
                }
            }
        }
        Ok(requests.into_iter().filter_map(|request| request.body).collect())
    }

    async fn read_range(&self, path: &Path, range: Range<u64>, object_bytes: Option<u64>) -> Result<Bytes, StoreError> {
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let read = async {
            let result = self.object_store().get_opts(path, options).await?;
            Ok::<_, Below>((result.meta.size, result.bytes().await?))
        };
        let (size, bytes) = match read.await {
            Ok(read) => read,
            Err(error) => return Err(self.unread(path, range.end, error).await),
        };
        let wrong = |part: &str, expected: u64, found: u64| {
            StoreError::Corrupt(Corrupt {
                object: path.to_string(),
                part: part.into(),
                expected: format!("{expected} bytes"),
                found: format!("{found} bytes"),
            })
        };
        match object_bytes {
            Some(expected) if expected != size => Err(wrong("length", expected, size)),
            _ if bytes.len() as u64 != range.end - range.start => {
                Err(wrong("length of a range", range.end - range.start, bytes.len() as u64))
            }
            _ => Ok(bytes),
        }
    }
}

/// How long a request may take before it is asked for again; `None` while too few have been answered to tell.
fn patience(hedge: Hedge, answered: &mut [Duration], requests: usize) -> Option<Duration> {
    if answered.is_empty() || answered.len() * 2 < requests {
        return None;
    }
    answered.sort_unstable();
    Some((answered[answered.len() / 2] * hedge.factor).max(hedge.at_least))
}

#[derive(Debug, PartialEq, Eq)]
struct Plan {
    requests: Vec<Range<u64>>,
    /// By range: its request, unless it is empty.
    request_of: Vec<Option<usize>>,
}

fn coalesce(ranges: &[Range<u64>], gap: Option<u64>) -> Plan {
    let mut order: Vec<usize> = (0..ranges.len()).filter(|&at| !ranges[at].is_empty()).collect();
    let mut plan = Plan { requests: Vec::with_capacity(order.len()), request_of: vec![None; ranges.len()] };
    if gap.is_some() {
        order.sort_unstable_by_key(|&at| (ranges[at].start, ranges[at].end));
    }
    for at in order {
        let range = &ranges[at];
        match (plan.requests.last_mut(), gap) {
            (Some(last), Some(gap)) if range.start <= last.end.saturating_add(gap) => {
                last.end = last.end.max(range.end)
            }
            _ => plan.requests.push(range.clone()),
        }
        plan.request_of[at] = Some(plan.requests.len() - 1);
    }
    plan
}
