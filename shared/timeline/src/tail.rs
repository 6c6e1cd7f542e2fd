//! The tail: decoded deltas after a watermark, kept between queries. The readers' half of the protocol.
//!
//! A warm reader asks for the next sequence with a get that usually finds nothing; that nothing is believed while what is
//! known of the head is young, and checked against the boundary otherwise (see `timeline`). A cold reader lists. Calls
//! that arrive while a probe is under way share the next one.
//!
//! Owns `strong-tail-is-complete`: a strong tail holds every delta that was acknowledged before the call.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tarn_model::ReadToken;

use crate::codec::Delta;
use crate::error::TimelineError;
use crate::timeline::{LANE, Timeline};

/// Most sequences probed at the same time by a reader that has fallen behind.
const PROBES: u64 = 16;

/// How recent a tail must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Includes everything that was acknowledged before the call.
    Strong,
    /// Includes everything that was acknowledged this long before the call.
    Within(Duration),
}

/// The deltas after a watermark.
#[derive(Clone, Debug)]
pub struct Tail {
    /// In order of sequence, gapless, from the watermark on.
    pub deltas: Vec<Arc<Delta>>,
    /// The last sequence that is included.
    pub head: ReadToken,
}

/// Reads a timeline's tail incrementally. Shared by all queries on a data source. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TailReader {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    timeline: Timeline,
    limit_bytes: usize,
    held: Mutex<Option<Held>>,
    /// One reader at a time asks the store.
    asking: tokio::sync::Mutex<()>,
    /// Orders calls and probes: a probe answers the strong calls that came before it started. The clock is too coarse.
    tickets: AtomicU64,
}

/// The deltas `(floor, floor + deltas.len()]`; at `at` nothing after them had ever existed.
#[derive(Clone, Debug)]
struct Held {
    floor: u64,
    deltas: VecDeque<Arc<Delta>>,
    bytes: usize,
    at: Duration,
    /// Of the probe that found the head.
    ticket: u64,
}

/// From when on a held tail answers a call.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    After { ticket: u64 },
    NotBefore { at: Duration },
}

impl Held {
    fn head(&self) -> u64 {
        self.floor + self.deltas.len() as u64
    }

    fn push(&mut self, delta: Arc<Delta>) {
        self.bytes += delta.memory_bytes();
        self.deltas.push_back(delta);
    }

    /// The tail after a watermark, if it is held.
    fn tail(&self, watermark: u64) -> Option<Tail> {
        let skip = usize::try_from(watermark.checked_sub(self.floor)?).ok()?;
        if skip > self.deltas.len() {
            return None;
        }
        Some(Tail { deltas: self.deltas.iter().skip(skip).cloned().collect(), head: ReadToken::single(self.head()) })
    }
}

impl TailReader {
    /// A reader that holds at most `limit_bytes` of decoded deltas.
    pub fn new(timeline: Timeline, limit_bytes: usize) -> Self {
        let inner = Inner {
            timeline,
            limit_bytes,
            held: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            tickets: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The timeline.
    pub fn timeline(&self) -> &Timeline {
        &self.inner.timeline
    }

    /// The deltas after `watermark`, which some root names, read as far as `freshness` asks. When warm and nothing new: one
    /// get if strong; no request when what is held is recent enough.
    ///
    /// # Errors
    /// [`TimelineError::Collected`] when the watermark is below the boundary of garbage collection: read the newest root.
    /// [`TimelineError::TailTooLarge`], and failures of the store.
    pub async fn advance(&self, watermark: &ReadToken, freshness: Freshness) -> Result<Tail, TimelineError> {
        let watermark = watermark.sequence(LANE);
        let timeline = self.timeline();
        let wanted = match freshness {
            Freshness::Strong => Wanted::After { ticket: self.ticket() },
            Freshness::Within(age) => Wanted::NotBefore { at: timeline.now().saturating_sub(age) },
        };
        if let Some(tail) = self.held_tail(watermark, wanted) {
            return Ok(tail);
        }
        let _asking = self.inner.asking.lock().await;
        if let Some(tail) = self.held_tail(watermark, wanted) {
            return Ok(tail);
        }
        let held = self.inner.held.lock().clone();
        let held = match held {
            Some(held) if (held.floor..=held.head()).contains(&watermark) => self.follow(held, watermark).await,
            _ => self.start(watermark).await,
        };
        match held {
            Ok(held) => {
                let tail = held.tail(watermark);
                *self.inner.held.lock() = Some(held);
                tail.ok_or_else(|| timeline.collected(watermark))
            }
            Err(error) => {
                if matches!(error, TimelineError::Collected { .. }) {
                    *self.inner.held.lock() = None;
                }
                Err(error)
            }
        }
    }

    fn ticket(&self) -> u64 {
        self.inner.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// What is held, when it is recent enough.
    fn held_tail(&self, watermark: u64, wanted: Wanted) -> Option<Tail> {
        let held = self.inner.held.lock();
        let held = held.as_ref().filter(|held| match wanted {
            Wanted::After { ticket } => held.ticket > ticket,
            Wanted::NotBefore { at } => held.at >= at,
        });
        held?.tail(watermark)
    }

    /// Reads everything after a watermark.
    async fn start(&self, watermark: u64) -> Result<Held, TimelineError> {
        let timeline = self.timeline();
        let ticket = self.ticket();
        let listing = timeline.list_after(watermark).await?;
        // Decoded deltas are larger than stored ones, or about equal; so this refuses none that would fit.
        if usize::try_from(listing.bytes).unwrap_or(usize::MAX) > self.inner.limit_bytes.saturating_mul(2) {
            return Err(self.too_large(watermark));
        }
        let mut held = Held { floor: watermark, deltas: VecDeque::new(), bytes: 0, at: listing.at, ticket };
        let mut deltas = std::pin::pin!(timeline.read_each(listing.sequences()));
        while let Some(delta) = deltas.try_next().await? {
            held.push(Arc::new(delta));
            self.check_size(&held, watermark)?;
        }
        Ok(held)
    }

    /// Reads what came after what is held.
    async fn follow(&self, mut held: Held, watermark: u64) -> Result<Held, TimelineError> {
        let timeline = self.timeline();
        let mut probes = 1;
        loop {
            let (started, ticket) = (timeline.now(), self.ticket());
            let next = held.head() + 1;
            let found: Vec<Option<Delta>> = stream::iter(next..next + probes)
                .map(|sequence| timeline.read(sequence))
                .buffered(usize::try_from(probes).unwrap_or(1))
                .try_collect()
                .await?;
            // A probe beyond the first gap may have been answered later than the gap was; the next call gets there.
            let new: Vec<Delta> = found.into_iter().map_while(|delta| delta).collect();
            if !timeline.is_fresh(held.at) {
                let boundary = timeline.boundary().await?;
                if held.head() < boundary {
                    return Err(timeline.collected(boundary));
                }
            }
            let ended = (new.len() as u64) < probes;
            for delta in new {
                held.push(Arc::new(delta));
            }
            self.check_size(&held, watermark)?;
            if ended {
                held.at = started;
                held.ticket = ticket;
                timeline.learn(held.head(), started);
                return Ok(held);
            }
            probes = (probes * 2).min(PROBES);
        }
    }

    fn check_size(&self, held: &Held, watermark: u64) -> Result<(), TimelineError> {
        if held.bytes > self.inner.limit_bytes { Err(self.too_large(watermark)) } else { Ok(()) }
    }

    fn too_large(&self, watermark: u64) -> TimelineError {
        TimelineError::TailTooLarge { watermark: ReadToken::single(watermark), limit_bytes: self.inner.limit_bytes }
    }

    /// Forgets the deltas up to a watermark: no reader will ask for them again. One that does pays for a cold start.
    pub fn forget(&self, watermark: &ReadToken) {
        let watermark = watermark.sequence(LANE);
        let mut held = self.inner.held.lock();
        let Some(held) = held.as_mut() else { return };
        while held.floor < watermark {
            let Some(delta) = held.deltas.pop_front() else { return };
            held.bytes -= delta.memory_bytes();
            held.floor += 1;
        }
    }

    /// Bytes of decoded deltas that are held.
    pub fn held_bytes(&self) -> usize {
        self.inner.held.lock().as_ref().map_or(0, |held| held.bytes)
    }
}
