//! One data source's timeline in a store: what is known of its head, and reading.
//!
//! Knowledge. "At time T nothing after sequence H had ever existed" is what lets one put be enough for an append and one
//! get for a strong read. It ages: after T others may append, fold, and collect what they appended, and then H + 1 is
//! absent again although it was committed. Collection waits at least [`MIN_COLLECTION_GRACE`] after a delta is written and
//! writes a boundary before it deletes; so knowledge younger than [`KNOWLEDGE_MAX_AGE`] can be believed. Older knowledge is
//! looked up again, and what rests on knowledge that grew old meanwhile is believed after the boundary was read *later*
//! than the fact that depends on it. The data source itself may have been deleted, collected and made again; then its
//! sequences begin anew, and what was known is of another timeline.
//!
//! Owns `timeline-is-gapless`: above the boundary, sequence N + 1 exists only if N does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tarn_model::{Corrupt, DataSource, KeyPrefix, ObjectKey, ReadToken};
use tarn_store::{Store, StoreError, latest_checkpoint, latest_source_boundary};
use ulid::Ulid;

use crate::blocking::run;
use crate::codec::{Delta, decode_delta};
use crate::error::TimelineError;

/// How long what a process knows of a head is believed without a look at the boundary.
pub const KNOWLEDGE_MAX_AGE: Duration = Duration::from_secs(5 * 60);
/// How long garbage collection must leave a delta alone after it was written, at least. Three times
/// [`KNOWLEDGE_MAX_AGE`], for the put or get that was under way, and for clocks that run differently.
pub const MIN_COLLECTION_GRACE: Duration = Duration::from_secs(15 * 60);

/// The only lane there is; see [`tarn_model::limits::LANES`].
pub(crate) const LANE: u16 = 0;
/// Deltas read at the same time.
const READ_AHEAD: usize = 8;
/// Sequences whose batch ids are remembered.
const REMEMBERED: usize = 256;

/// At time `at` nothing after `head` had ever existed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Knowledge {
    pub(crate) head: u64,
    pub(crate) at: Duration,
}

/// A data source's timeline. Cheap to clone; clones share what they know of the head.
#[derive(Clone, Debug)]
pub struct Timeline {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) source: Arc<DataSource>,
    pub(crate) max_age: Duration,
    knowledge: Mutex<Option<Knowledge>>,
    batch_ids: Mutex<BTreeMap<u64, Arc<[Ulid]>>>,
    /// When the source was last seen not to be deleted.
    pub(crate) existed_at: Mutex<Option<Duration>>,
    /// Appends of one process would only race each other for the next sequence.
    pub(crate) writer: tokio::sync::Mutex<()>,
}

impl Timeline {
    /// The timeline of a data source. No request is made.
    pub fn open(store: Store, source: Arc<DataSource>) -> Self {
        Self::with_max_age(store, source, KNOWLEDGE_MAX_AGE)
    }

    /// As [`Self::open`], with another age than [`KNOWLEDGE_MAX_AGE`]. Zero looks at the boundary every time.
    pub fn with_max_age(store: Store, source: Arc<DataSource>, max_age: Duration) -> Self {
        let inner = Inner {
            store,
            source,
            max_age,
            knowledge: Mutex::default(),
            batch_ids: Mutex::default(),
            existed_at: Mutex::default(),
            writer: tokio::sync::Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The data source.
    pub fn source(&self) -> &Arc<DataSource> {
        &self.inner.source
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The last committed sequence, asked of the store: everything acknowledged before the call is included.
    ///
    /// # Errors
    /// [`TimelineError::Store`].
    pub async fn head(&self) -> Result<ReadToken, TimelineError> {
        let Some(known) = self.known_fresh() else {
            return Ok(ReadToken::single(self.find_head().await?.head));
        };
        let started = self.now();
        if !self.exists(known.head + 1).await? {
            return Ok(ReadToken::single(self.learn(known.head, started).head));
        }
        Ok(ReadToken::single(self.find_head().await?.head))
    }

    /// Reads one delta; `None` when there is none at this sequence: not yet, or no longer.
    ///
    /// # Errors
    /// [`TimelineError::Store`] and [`TimelineError::Corrupt`].
    pub async fn read(&self, sequence: u64) -> Result<Option<Delta>, TimelineError> {
        let key = self.key(sequence);
        let Some(bytes) = self.store().get(&key).await? else { return Ok(None) };
        Ok(Some(self.decode(sequence, bytes).await?))
    }

    pub(crate) async fn decode(&self, sequence: u64, bytes: Bytes) -> Result<Delta, TimelineError> {
        let source = Arc::clone(&self.inner.source);
        let object = self.key(sequence).render();
        let delta = run(bytes.len(), move || decode_delta(&object, &source, LANE, sequence, &bytes)).await??;
        self.remember(sequence, delta.batches.iter().map(|batch| batch.id).collect());
        Ok(delta)
    }

    /// Reads every delta after a token, in order. Memory holds them all; see [`Self::stream_after`].
    ///
    /// # Errors
    /// [`TimelineError::Collected`] when the token is below the boundary of garbage collection.
    pub async fn read_after(&self, token: &ReadToken) -> Result<Vec<Delta>, TimelineError> {
        self.stream_after(token).try_collect().await
    }

    /// As [`Self::read_after`], one delta at a time: memory holds a few.
    pub fn stream_after(&self, token: &ReadToken) -> impl Stream<Item = Result<Delta, TimelineError>> + Send + use<> {
        let (timeline, floor) = (self.clone(), token.sequence(LANE));
        stream::once(async move {
            let listing = timeline.list_after(floor).await?;
            Ok::<_, TimelineError>(timeline.read_each(listing.sequences()))
        })
        .try_flatten()
    }

    /// Reads deltas that must exist, in the order given.
    pub(crate) fn read_each(
        &self,
        sequences: Vec<u64>,
    ) -> impl Stream<Item = Result<Delta, TimelineError>> + Send + use<> {
        let timeline = self.clone();
        let read = move |sequence| {
            let timeline = timeline.clone();
            async move {
                match timeline.read(sequence).await? {
                    Some(delta) => Ok(delta),
                    None => Err(timeline.explain_absent(sequence).await),
                }
            }
        };
        stream::iter(sequences).map(read).buffered(READ_AHEAD)
    }

    /// The deltas after `floor`, gapless, none collected. One listing and one look at the boundary, in this order.
    ///
    /// # Errors
    /// [`TimelineError::Collected`] when `floor` is below the boundary.
    pub(crate) async fn list_after(&self, floor: u64) -> Result<Listing, TimelineError> {
        let started = self.now();
        let prefix = KeyPrefix::Timeline(self.source().id.clone(), LANE);
        let listed = self.store().list_after(&prefix, &self.key(floor)).await?;
        let sequences = listed.iter().filter_map(|object| match object.key {
            Some(ObjectKey::Delta { sequence, .. }) => Some(sequence),
            _ => None,
        });
        let boundary = self.boundary().await?;
        if floor < boundary {
            return Err(self.collected(boundary));
        }
        let mut head = floor;
        for sequence in sequences {
            // A directory that is written to while it is listed may show a later file and not the one before.
            while head + 1 < sequence && self.exists(head + 1).await? {
                head += 1;
            }
            check_gapless(&self.key(head + 1).render(), head + 1, sequence)?;
            head = sequence;
        }
        // Without a delta the floor is only what the caller says; it may be beyond the end.
        if head > floor {
            self.learn(head, started);
        }
        Ok(Listing { floor, head, boundary, at: started })
    }

    /// Finds the head: from what was known on, or from the newest checkpoint's watermark.
    pub(crate) async fn find_head(&self) -> Result<Knowledge, TimelineError> {
        loop {
            let known = self.known();
            let mut floor = match known {
                Some(known) => known.head,
                None => latest_checkpoint(self.store(), &self.source().id, None)
                    .await?
                    .map_or(0, |checkpoint| checkpoint.watermark.sequence(LANE)),
            };
            let listing = loop {
                match self.list_after(floor).await {
                    Ok(listing) => break listing,
                    Err(TimelineError::Collected { collected }) => floor = collected.sequence(LANE),
                    Err(error) => return Err(error),
                }
            };
            // The floor is a head that was, a watermark or a boundary: it existed. If nothing follows it, and it is gone
            // although it was not collected, then that was in a data source of this name that exists no more.
            let last = listing.head > listing.boundary && listing.head == listing.floor;
            if known.is_some() && last && !self.exists(listing.head).await? {
                tracing::info!(source = %self.source().id, head = listing.head, "the data source was made anew");
                self.forget();
                continue;
            }
            return Ok(self.learn(listing.head, listing.at));
        }
    }

    async fn exists(&self, sequence: u64) -> Result<bool, StoreError> {
        Ok(self.store().size(&self.key(sequence)).await?.is_some())
    }

    /// Up to here deltas may be gone. Not cached: who asks needs the answer of now.
    pub(crate) async fn boundary(&self) -> Result<u64, StoreError> {
        let boundary = latest_source_boundary(self.store(), &self.source().id, None).await?;
        Ok(boundary.map_or(0, |boundary| boundary.timeline.sequence(LANE)))
    }

    /// Why a delta that must exist is absent.
    pub(crate) async fn explain_absent(&self, sequence: u64) -> TimelineError {
        match self.boundary().await {
            Ok(boundary) if sequence <= boundary => self.collected(boundary),
            Ok(_) => {
                let object = self.key(sequence).render();
                Corrupt { object, part: GAPLESS.to_owned(), expected: "a delta".to_owned(), found: "none".to_owned() }
                    .into()
            }
            Err(error) => error.into(),
        }
    }

    pub(crate) fn collected(&self, boundary: u64) -> TimelineError {
        TimelineError::Collected { collected: ReadToken::single(boundary) }
    }

    pub(crate) fn key(&self, sequence: u64) -> ObjectKey {
        ObjectKey::Delta { source: self.source().id.clone(), lane: LANE, sequence }
    }

    pub(crate) fn now(&self) -> Duration {
        self.store().clock().monotonic()
    }

    /// Whether what was known at `at` can be believed now.
    pub(crate) fn is_fresh(&self, at: Duration) -> bool {
        self.now().saturating_sub(at) < self.inner.max_age
    }

    fn known(&self) -> Option<Knowledge> {
        *self.inner.knowledge.lock()
    }

    /// What is known and young enough to be believed.
    pub(crate) fn known_fresh(&self) -> Option<Knowledge> {
        self.known().filter(|known| self.is_fresh(known.at))
    }

    fn forget(&self) {
        *self.inner.knowledge.lock() = None;
        self.inner.batch_ids.lock().clear();
    }

    /// Adds "at `at` nothing after `head` had ever existed". Two such facts make one: nothing after the later head had
    /// existed at the later time.
    pub(crate) fn learn(&self, head: u64, at: Duration) -> Knowledge {
        let mut knowledge = self.inner.knowledge.lock();
        let (head, at) = knowledge.map_or((head, at), |known| (known.head.max(head), known.at.max(at)));
        *knowledge.insert(Knowledge { head, at })
    }

    /// Adds that `sequence` exists; it says nothing about when later ones did not.
    pub(crate) fn learn_exists(&self, sequence: u64) {
        let mut knowledge = self.inner.knowledge.lock();
        if let Some(known) = knowledge.as_mut() {
            known.head = known.head.max(sequence);
        }
    }

    pub(crate) fn remember(&self, sequence: u64, ids: Arc<[Ulid]>) {
        let mut remembered = self.inner.batch_ids.lock();
        remembered.insert(sequence, ids);
        while remembered.len() > REMEMBERED {
            remembered.pop_first();
        }
    }

    pub(crate) fn remembered(&self, sequence: u64) -> Option<Arc<[Ulid]>> {
        self.inner.batch_ids.lock().get(&sequence).cloned()
    }
}

/// The deltas in `(floor, head]`, which are all there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listing {
    pub(crate) floor: u64,
    pub(crate) head: u64,
    /// Read after the listing.
    pub(crate) boundary: u64,
    /// Before the listing was asked for.
    pub(crate) at: Duration,
}

impl Listing {
    pub(crate) fn sequences(&self) -> Vec<u64> {
        (self.floor + 1..=self.head).collect()
    }
}

const GAPLESS: &str = "timeline-is-gapless";

/// `timeline-is-gapless`: a listing shows the sequence that must come next.
fn check_gapless(object: &str, expected: u64, found: u64) -> Result<(), Corrupt> {
    if expected == found {
        return Ok(());
    }
    Err(Corrupt {
        object: object.to_owned(),
        part: GAPLESS.to_owned(),
        expected: format!("sequence {expected}"),
        found: format!("sequence {found}"),
    })
}
