//! A reader of one index: finds out what is current, with as few requests as that takes.
//!
//! Warm, it asks for the next generation and for the next sequence, at once; both usually answer that there is none. Cold,
//! it lists. Owns two invariants:
//!
//! `strong-reads-see-acknowledged-writes`: a search uses a look at the store that began after the search did. Searches that
//! arrive while a look is under way share the next one, so a hundred at once cost two looks and none is stale.
//!
//! `absence-is-trusted-while-young`: that object n + 1 is absent means that n is the last only if n + 1 cannot have been
//! written *and* collected since the reader last looked. Garbage collection spares objects younger than its grace period,
//! so the reader lists again once its last look is older than [`crate::EngineSettings::trust_absence`], which must be shorter.

mod history;
mod opening;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, Shared, try_join, try_join_all};
use futures::{StreamExt, TryStreamExt};
use parking_lot::{Mutex, RwLock};
use tarn_model::{
    Corrupt, DataSource, DataSourceId, Index, IndexId, KeyPrefix, Manifest, ObjectKey, ReadToken, limits,
};
use tarn_store::{Meter, StoreError, latest_manifest, latest_source_boundary, load_index, load_source};
use tarn_timeline::decode_delta;
use tokio::sync::watch;

use crate::definition::Definition;
use crate::error::SearchError;
use crate::generation::{Files, Generation, Wanted};
use crate::leaf::Pin;
use crate::moment::Moment;
use crate::request::Consistency;
use crate::settings::EngineSettings;
use crate::snapshot::Snapshot;
use crate::tail::{DeltaRows, Tail};
use opening::{Newest, Opening};

pub(crate) use history::State;

/// The only lane there is. With more, each would have a tail of its own.
const LANE: u16 = 0;
const _: () = assert!(limits::LANES == 1, "a tail covers one lane");
/// Requests for deltas under way at once.
const DELTAS_AT_ONCE: usize = 16;
/// How often a cold start begins anew because a builder and garbage collection overtook it.
const COLD_ATTEMPTS: usize = 5;

/// A look, and what it asks of the store.
#[derive(Clone)]
struct Flight {
    look: Shared<BoxFuture<'static, Result<Arc<Snapshot>, SearchError>>>,
    meter: Meter,
    /// Whether somebody has been charged for it.
    charged: Arc<AtomicBool>,
}

/// Keeps a snapshot of one index current.
pub(crate) struct Reader {
    id: IndexId,
    files: Files,
    settings: Arc<EngineSettings>,
    /// The definition, and when it was last compared with the store's.
    definition: RwLock<Option<(Arc<Definition>, Moment)>>,
    pinned: RwLock<Option<Pinned>>,
    /// Held by the first look, when nothing is known; and which of them failed last, with what.
    meeting: tokio::sync::Mutex<Option<(u64, SearchError)>>,
    /// First looks that have begun.
    meetings: AtomicU64,
    /// What it found, until the look that follows it.
    opening: Mutex<Option<Opening>>,
    /// Whether it may believe a hint.
    believes: AtomicBool,
    /// Whether the definition is a hint's.
    believed: AtomicBool,
    /// The newest generation that was read, with its definition; the tail after it may not be known yet.
    likely: watch::Sender<Option<Likely>>,
    /// Held by the look that is under way.
    turn: tokio::sync::Mutex<()>,
    /// The look that has not begun.
    waiting: Mutex<Option<Flight>>,
    /// The last snapshot that a root has pinned; held by whoever is fetching the next. Not what this process's own searches
    /// see: a root's may be older or newer.
    pinned_by_root: tokio::sync::Mutex<Option<Arc<Snapshot>>>,
    /// The earlier generations that were asked for last.
    earlier: tokio::sync::Mutex<Vec<Arc<Snapshot>>>,
}

type Likely = (Arc<Definition>, Arc<Generation>);

/// The newest snapshot, and when the look began that found it current.
#[derive(Clone)]
struct Pinned {
    snapshot: Arc<Snapshot>,
    looked: Moment,
}

impl Reader {
    /// Knows nothing yet.
    pub(crate) fn new(id: IndexId, files: Files, settings: Arc<EngineSettings>) -> Self {
        Self {
            id,
            files,
            settings,
            definition: RwLock::default(),
            pinned: RwLock::default(),
            meeting: tokio::sync::Mutex::default(),
            meetings: AtomicU64::new(0),
            opening: Mutex::default(),
            believes: AtomicBool::new(true),
            believed: AtomicBool::new(false),
            likely: watch::Sender::default(),
            turn: tokio::sync::Mutex::default(),
            waiting: Mutex::default(),
            pinned_by_root: tokio::sync::Mutex::default(),
            earlier: tokio::sync::Mutex::default(),
        }
    }

    /// A snapshot that is fresh enough.
    ///
    /// # Errors
    /// [`SearchError::NotYet`] when even the newest does not include `min_version`; see [`SearchError`] for the rest.
    pub(crate) async fn snapshot(
        self: &Arc<Self>,
        consistency: Consistency,
        min_version: Option<&ReadToken>,
    ) -> Result<Arc<Snapshot>, SearchError> {
        let includes = |snapshot: &Snapshot| min_version.is_none_or(|want| snapshot.version().includes(want));
        if let Some(snapshot) = self.at_hand(consistency).filter(|snapshot| includes(snapshot)) {
            return Ok(snapshot);
        }
        let snapshot = self.look().await?;
        match min_version {
            Some(want) if !includes(&snapshot) => {
                Err(SearchError::NotYet { have: snapshot.version(), want: want.clone() })
            }
            _ => Ok(snapshot),
        }
    }

    /// Exactly the snapshot that a root has pinned, with the catalogs of some shards at least.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when the manifest is gone or another has its number, or when a delta is gone.
    pub(crate) async fn snapshot_at(
        &self,
        definition: Definition,
        pin: &Pin,
        shards: &BTreeSet<u32>,
    ) -> Result<Arc<Snapshot>, SearchError> {
        let head = pin.head.sequence(LANE);
        let same_definition = |other: &Definition| other.index == definition.index && other.source == definition.source;
        let same_commit =
            |s: &Arc<Snapshot>| s.generation.commit_id() == Some(pin.commit_id) && same_definition(&s.definition);
        let is_meant = |s: &Arc<Snapshot>| same_commit(s) && s.tail.head() == head && s.generation.knows(shards);
        let own = self.pinned.read().as_ref().map(|pinned| Arc::clone(&pinned.snapshot));
        if let Some(own) = own.as_ref().filter(|own| is_meant(own)) {
            return Ok(Arc::clone(own));
        }
        let mut last = self.pinned_by_root.lock().await;
        if let Some(last) = last.as_ref().filter(|last| is_meant(last)) {
            return Ok(Arc::clone(last));
        }
        let lender = last.clone().or(own);
        // Of the same commit everything is certainly the same; of another, catalogs and files are, by their names.
        let same = lender.as_ref().filter(|lender| same_commit(lender));
        let definition = same.map_or_else(|| Arc::new(definition), |same| Arc::clone(&same.definition));
        let known = same.filter(|same| same.generation.knows(shards));
        let generation = match known {
            Some(known) => Arc::clone(&known.generation),
            None => {
                let manifest = match same.and_then(|same| same.generation.manifest.clone()) {
                    Some(manifest) => manifest,
                    None => self.manifest_at(pin).await?,
                };
                let unbuilt = Generation::unbuilt(&definition);
                let wanted =
                    same.map_or_else(|| Wanted::Some(shards.clone()), |same| same.generation.wanted_with(shards));
                let lender = lender.as_ref().map_or(&unbuilt, |lender| &*lender.generation);
                let none = BTreeMap::new();
                Arc::new(Generation::load(&self.files, &definition, manifest, wanted, lender, &none).await?)
            }
        };
        // A tail that is newer than the pin has forgotten what the pin's still shows.
        let older = same.filter(|same| same.tail.head() <= head);
        let after = older.map_or_else(|| generation.watermark().sequence(LANE), |older| older.tail.head());
        if after > head {
            return Err(SearchError::Internal(format!(
                "{} is pinned at {head}, before its watermark {after}",
                self.id
            )));
        }
        let deltas = self.deltas_between(&definition, after, head).await?;
        let snapshot = self.assemble(&definition, generation, older.map(|older| &**older), deltas).await?;
        *last = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    async fn manifest_at(&self, pin: &Pin) -> Result<Manifest, SearchError> {
        let key = ObjectKey::Manifest { index: self.id.clone(), generation: pin.generation };
        let object = key.render();
        let missing = || StoreError::Missing { object: format!("{object} (commit {})", pin.commit_id) };
        let bytes = self.files.store.get(&key).await?.ok_or_else(missing)?;
        let manifest = Manifest::parse(&object, &bytes, &self.id, pin.generation)?;
        if manifest.commit_id != pin.commit_id { Err(missing().into()) } else { Ok(manifest) }
    }

    /// The deltas after one sequence up to another, all of them.
    async fn deltas_between(
        &self,
        definition: &Definition,
        after: u64,
        head: u64,
    ) -> Result<Vec<(u64, Bytes)>, SearchError> {
        let reads = (after + 1..=head).map(|sequence| async move {
            let key = delta_key(definition, sequence);
            let bytes = self.files.store.get(&key).await?;
            let bytes = bytes.ok_or_else(|| StoreError::Missing { object: key.render() })?;
            Ok::<_, SearchError>((sequence, bytes))
        });
        futures::stream::iter(reads).buffered(DELTAS_AT_ONCE).try_collect().await
    }

    /// The pinned snapshot, if it is young enough for this consistency.
    fn at_hand(&self, consistency: Consistency) -> Option<Arc<Snapshot>> {
        if consistency == Consistency::Strong {
            return None;
        }
        let pinned = self.pinned.read().clone()?;
        (self.now().since(pinned.looked) <= self.settings.eventual_max_age).then_some(pinned.snapshot)
    }

    /// The definition that a request of this consistency is checked against.
    ///
    /// # Errors
    /// [`SearchError::IndexNotFound`].
    pub(crate) async fn definition_for(&self, consistency: Consistency) -> Result<Arc<Definition>, SearchError> {
        match self.at_hand(consistency) {
            Some(snapshot) => Ok(Arc::clone(&snapshot.definition)),
            None => self.definition().await,
        }
    }

    /// The definition, at most as old as the settings allow.
    ///
    /// # Errors
    /// [`SearchError::IndexNotFound`].
    pub(crate) async fn definition(&self) -> Result<Arc<Definition>, SearchError> {
        let now = self.now();
        if let Some(definition) = self.young_definition(now) {
            return Ok(definition);
        }
        let known = self.definition.read().as_ref().map(|(definition, _)| Arc::clone(definition));
        let Some(known) = known else { return self.meet(now).await };
        let loaded = self.load_definition(Some(&known.source.id)).await;
        if let Err(SearchError::IndexNotFound(_) | SearchError::SourceNotFound(_)) = &loaded {
            *self.definition.write() = None;
            self.distrust();
        }
        let (index, source) = loaded?;
        self.believed.store(false, Ordering::Relaxed);
        let definition = match known.index == index && known.source == source {
            true => known,
            false => Arc::new(Definition::new(index, source)),
        };
        *self.definition.write() = Some((Arc::clone(&definition), now));
        Ok(definition)
    }

    /// The definition of an index of which nothing is known. Those who wait for a first look share the next one when it fails:
    /// if each made its own, the last would wait for the failures of all.
    async fn meet(&self, now: Moment) -> Result<Arc<Definition>, SearchError> {
        let begun = self.meetings.load(Ordering::Relaxed);
        let mut failed = self.meeting.lock().await;
        // Somebody may have met it meanwhile.
        if let Some(definition) = self.young_definition(now) {
            return Ok(definition);
        }
        if let Some((number, error)) = &*failed
            && *number > begun
        {
            return Err(error.clone());
        }
        let number = self.meetings.fetch_add(1, Ordering::Relaxed) + 1;
        let met = self.first_look().await;
        match &met {
            Ok(definition) => *self.definition.write() = Some((Arc::clone(definition), now)),
            Err(error) => *failed = Some((number, error.clone())),
        }
        met
    }

    fn young_definition(&self, now: Moment) -> Option<Arc<Definition>> {
        let known = self.definition.read();
        let (definition, checked) = known.as_ref()?;
        (now.since(*checked) <= self.settings.definition_max_age).then(|| Arc::clone(definition))
    }

    /// Forgets the snapshot, so that the next look is a cold one.
    pub(crate) fn distrust(&self) {
        *self.pinned.write() = None;
        *self.opening.lock() = None;
        self.likely.send_replace(None);
    }

    /// Whether a hint may be believed.
    pub(crate) fn believes(&self) -> bool {
        self.believes.load(Ordering::Relaxed)
    }

    /// Forgets everything if it comes from a hint, and believes none any more. For when something stored is not what it must be:
    /// then the hint may be what is wrong. Says whether it may be: whether it counted still, or `believing`, when the search
    /// began, and somebody else has found out first.
    pub(crate) fn disbelieve(&self, believing: bool) -> bool {
        let believed = self.believed.swap(false, Ordering::Relaxed);
        if believed {
            self.believes.store(false, Ordering::Relaxed);
            *self.definition.write() = None;
            self.distrust();
        }
        believed || (believing && !self.believes())
    }

    /// The generation that the next snapshot probably shows, as soon as there is one: before the tail is known.
    pub(crate) async fn likely(&self) -> (Arc<Definition>, Arc<Generation>) {
        let known = self.likely.subscribe().wait_for(Option::is_some).await.ok().and_then(|known| known.clone());
        match known {
            Some(known) => known,
            // The sender is this reader's: it does not go away.
            None => std::future::pending().await,
        }
    }

    fn announce(&self, definition: &Arc<Definition>, generation: &Arc<Generation>) {
        self.likely.send_replace(Some((Arc::clone(definition), Arc::clone(generation))));
    }

    /// The definition as it is stored. `likely` is the data source that the index is probably over.
    async fn load_definition(
        &self,
        likely: Option<&DataSourceId>,
    ) -> Result<(Arc<Index>, Arc<DataSource>), SearchError> {
        let store = &self.files.store;
        let guess = async {
            match likely {
                Some(id) => load_source(store, id).await,
                None => Ok(None),
            }
        };
        let (index, guess) = try_join(load_index(store, &self.id), guess).await?;
        let index = index.ok_or_else(|| SearchError::IndexNotFound(self.id.clone()))?;
        let source = match guess.filter(|source| source.id == index.data_source) {
            Some(source) => source,
            None => self.load_source(&index).await?,
        };
        Ok((index, source))
    }

    async fn load_source(&self, index: &Index) -> Result<Arc<DataSource>, SearchError> {
        let source = load_source(&self.files.store, &index.data_source).await?;
        source.ok_or_else(|| SearchError::SourceNotFound(index.data_source.clone()))
    }

    fn now(&self) -> Moment {
        Moment::now(&**self.files.store.clock())
    }

    /// A look at the store that begins from here on. Of those who share it, the first that has its answer is charged: whoever
    /// asked first may have given up.
    async fn look(self: &Arc<Self>) -> Result<Arc<Snapshot>, SearchError> {
        let began = Meter::mark();
        let Flight { look, meter, charged } = self.flight();
        let looked = look.await;
        match charged.swap(true, Ordering::Relaxed) {
            false => began.add(&meter.spent()),
            true => began.wait_for(&meter.spent()),
        }
        looked
    }

    /// The look that has not begun, or a new one.
    fn flight(self: &Arc<Self>) -> Flight {
        let mut waiting = self.waiting.lock();
        match &*waiting {
            Some(flight) => flight.clone(),
            None => {
                let (reader, meter) = (Arc::clone(self), Meter::new());
                let look = async move {
                    let _turn = reader.turn.lock().await;
                    // Whoever arrives from here on needs a later look.
                    *reader.waiting.lock() = None;
                    reader.look_now().await
                };
                let own = meter.clone();
                let look = async move { own.scope(look).await }.boxed().shared();
                waiting.insert(Flight { look, meter, charged: Arc::default() }).clone()
            }
        }
    }

    async fn look_now(&self) -> Result<Arc<Snapshot>, SearchError> {
        let looked = self.now();
        let definition = self.definition().await?;
        let pinned = self.pinned.read().clone().filter(|p| Arc::ptr_eq(&p.snapshot.definition, &definition));
        let (snapshot, looked) = match &pinned {
            Some(pinned) if looked.since(pinned.looked) <= self.settings.trust_absence => {
                (self.look_warm(&pinned.snapshot).await?, looked)
            }
            _ => self.look_cold(&definition, pinned.as_ref().map(|p| &*p.snapshot), looked).await?,
        };
        self.announce(&snapshot.definition, &snapshot.generation);
        *self.pinned.write() = Some(Pinned { snapshot: Arc::clone(&snapshot), looked });
        Ok(snapshot)
    }

    /// One GET each for the next generation and the next sequence when there is nothing new.
    async fn look_warm(&self, pinned: &Arc<Snapshot>) -> Result<Arc<Snapshot>, SearchError> {
        let (manifest, deltas) = try_join(self.newer_manifest(&pinned.generation), self.newer_deltas(pinned)).await?;
        if manifest.is_none() && deltas.is_empty() {
            return Ok(Arc::clone(pinned));
        }
        let generation = match manifest {
            None => Arc::clone(&pinned.generation),
            Some(manifest) => {
                let (definition, lender) = (&pinned.definition, &pinned.generation);
                let none = BTreeMap::new();
                Arc::new(Generation::load(&self.files, definition, manifest, Wanted::All, lender, &none).await?)
            }
        };
        self.assemble(&pinned.definition, generation, Some(pinned), deltas).await
    }

    async fn newer_manifest(&self, generation: &Generation) -> Result<Option<Manifest>, SearchError> {
        let mut newest: Option<Manifest> = None;
        loop {
            let current = newest.as_ref().or(generation.manifest.as_ref());
            let next = current.map_or(1, |manifest| manifest.generation + 1);
            let key = ObjectKey::Manifest { index: self.id.clone(), generation: next };
            let Some(bytes) = self.files.store.get(&key).await? else { return Ok(newest) };
            let manifest = Manifest::parse(&key.render(), &bytes, &self.id, next)?;
            manifest.check_successor(current)?;
            newest = Some(manifest);
        }
    }

    /// The deltas after the snapshot's head, until one is absent. The first alone, for there is usually none; behind it, more
    /// at once each time.
    async fn newer_deltas(&self, pinned: &Snapshot) -> Result<Vec<(u64, Bytes)>, SearchError> {
        let mut deltas = Vec::new();
        let mut next = pinned.tail.head() + 1;
        let mut at_once = 1;
        loop {
            let reads = (next..next + at_once as u64).map(|sequence| async move {
                self.files.store.get(&delta_key(&pinned.definition, sequence)).await.map(|bytes| (sequence, bytes))
            });
            for (sequence, bytes) in try_join_all(reads).await? {
                match bytes {
                    Some(bytes) => deltas.push((sequence, bytes)),
                    None => return Ok(deltas),
                }
            }
            next += at_once as u64;
            at_once = (at_once * 2).min(DELTAS_AT_ONCE);
        }
    }

    /// Lists the newest manifest, unless the first look has, then the deltas after its watermark; and says when what it knows
    /// of the manifest was looked for, at the latest `began`. What `previous` knows is not read again, as far as it is certainly
    /// the same: after so long the index may have been deleted and created anew, with the same definition and the same numbers.
    /// Catalogs and files have unique names, and so has a manifest (its commit id); a tail has none.
    async fn look_cold(
        &self,
        definition: &Arc<Definition>,
        previous: Option<&Snapshot>,
        began: Moment,
    ) -> Result<(Arc<Snapshot>, Moment), SearchError> {
        let mut opening = self.take_opening(definition, began);
        for _ in 0..COLD_ATTEMPTS {
            let newest = self.newest(definition, previous, opening.take(), began).await?;
            let Some((generation, looked)) = newest else { continue };
            self.announce(definition, &generation);
            let same = previous.filter(|previous| Arc::ptr_eq(&previous.generation, &generation));
            let after = same.map_or_else(|| generation.watermark().sequence(LANE), |same| same.tail.head());
            let listed = self.listed_deltas(definition, after).await?;
            // Between the two looks a builder may have taken deltas in, and garbage collection removed them; not soon when
            // there was a manifest, for what that leaves to the timeline is kept as long as it is.
            let doubtful = match &listed {
                Listed::Deltas(_) => false,
                Listed::Gap(_) => true,
                Listed::Nothing => {
                    generation.manifest.is_none() || self.now().since(looked) > self.settings.trust_absence
                }
            };
            if doubtful && self.is_overtaken(generation.number()).await? {
                continue;
            }
            if generation.manifest.is_none() {
                self.check_timeline_is_whole(definition).await?;
            }
            let deltas = match listed {
                Listed::Nothing => Vec::new(),
                Listed::Deltas(deltas) => deltas,
                Listed::Gap(corrupt) => return Err(SearchError::Corrupt(corrupt)),
            };
            return Ok((self.assemble(definition, generation, same, deltas).await?, looked));
        }
        Err(SearchError::Internal(format!(
            "{} was rebuilt and collected {COLD_ATTEMPTS} times while it was being read; raise the grace period of gc",
            self.id
        )))
    }

    /// The newest generation, and when it was looked for; `None` when it was collected meanwhile, so that there is a newer one.
    async fn newest(
        &self,
        definition: &Arc<Definition>,
        previous: Option<&Snapshot>,
        opening: Option<(Newest, Moment)>,
        began: Moment,
    ) -> Result<Option<(Arc<Generation>, Moment)>, SearchError> {
        let (manifest, looked) = match opening {
            Some((Newest::Generation(generation), looked)) => return Ok(Some((generation, looked))),
            Some((Newest::Listed(0), looked)) => (None, looked),
            Some((Newest::Listed(number), looked)) => {
                let key = ObjectKey::Manifest { index: self.id.clone(), generation: number };
                let Some(bytes) = self.files.store.get(&key).await? else { return Ok(None) };
                (Some(Manifest::parse(&key.render(), &bytes, &self.id, number)?), looked)
            }
            None => (latest_manifest(&self.files.store, &self.id, None).await?, began),
        };
        let number = manifest.as_ref().map_or(0, |manifest| manifest.generation);
        let same = previous.filter(|previous| manifest.is_some() && previous.generation.manifest == manifest);
        let generation = match (manifest, same) {
            (_, Some(same)) => Arc::clone(&same.generation),
            (None, None) => Arc::new(Generation::unbuilt(definition)),
            (Some(manifest), None) => {
                let unbuilt = Generation::unbuilt(definition);
                let lender = previous.map_or(&unbuilt, |previous| &*previous.generation);
                let none = BTreeMap::new();
                match Generation::load(&self.files, definition, manifest, Wanted::All, lender, &none).await {
                    Err(SearchError::Store(StoreError::Missing { .. })) if self.is_overtaken(number).await? => {
                        return Ok(None);
                    }
                    loaded => Arc::new(loaded?),
                }
            }
        };
        Ok(Some((generation, looked)))
    }

    /// An index that has not been built is answered from the timeline, if that is all there. Garbage collection writes the
    /// boundary before it deletes; so whoever asks for it *after* reading the timeline knows whether something was missing.
    async fn check_timeline_is_whole(&self, definition: &Definition) -> Result<(), SearchError> {
        let boundary = latest_source_boundary(&self.files.store, &definition.source.id, None).await?;
        match boundary {
            Some(boundary) if boundary.timeline.sequence(LANE) > 0 => Err(SearchError::NotBuilt(self.id.clone())),
            _ => Ok(()),
        }
    }

    async fn is_overtaken(&self, generation: u64) -> Result<bool, SearchError> {
        let key = ObjectKey::Manifest { index: self.id.clone(), generation: generation + 1 };
        Ok(self.files.store.get(&key).await?.is_some())
    }

    async fn listed_deltas(&self, definition: &Definition, after: u64) -> Result<Listed, SearchError> {
        let prefix = KeyPrefix::Timeline(definition.source.id.clone(), LANE);
        let listed = self.files.store.list_after(&prefix, &delta_key(definition, after)).await?;
        let sequences = listed.into_iter().filter_map(|listed| match listed.key {
            Some(ObjectKey::Delta { sequence, .. }) => Some(sequence),
            _ => None,
        });
        let last = sequences.max().unwrap_or(after);
        let reads = (after + 1..=last).map(|sequence| async move {
            let bytes = self.files.store.get(&delta_key(definition, sequence)).await?;
            Ok::<_, SearchError>((sequence, bytes))
        });
        // Also those that are not listed: a listing of a directory may overlook a file that is new, and show a later one.
        let mut reads = futures::stream::iter(reads).buffered(DELTAS_AT_ONCE);
        let mut deltas = Vec::new();
        while let Some((sequence, bytes)) = reads.try_next().await? {
            let Some(bytes) = bytes else {
                return Ok(Listed::Gap(Corrupt {
                    object: delta_key(definition, sequence).render(),
                    part: "timeline-is-gapless".to_owned(),
                    expected: "a delta, because a later one exists".to_owned(),
                    found: "nothing".to_owned(),
                }));
            };
            deltas.push((sequence, bytes));
        }
        Ok(if deltas.is_empty() { Listed::Nothing } else { Listed::Deltas(deltas) })
    }

    /// Puts a generation and the deltas after its watermark together. `previous` lends its tail and what it knows of it.
    async fn assemble(
        &self,
        definition: &Arc<Definition>,
        generation: Arc<Generation>,
        previous: Option<&Snapshot>,
        deltas: Vec<(u64, Bytes)>,
    ) -> Result<Arc<Snapshot>, SearchError> {
        let watermark = generation.watermark().sequence(LANE);
        let tail = previous.map(|previous| Arc::clone(&previous.tail));
        let build = {
            let definition = Arc::clone(definition);
            move || {
                let tail = tail.map_or_else(|| Tail::empty(watermark), |tail| tail.advance(watermark));
                let mut rows = Vec::with_capacity(deltas.len());
                for (sequence, bytes) in deltas.into_iter().filter(|(sequence, _)| *sequence > watermark) {
                    let object = delta_key(&definition, sequence).render();
                    let delta = decode_delta(&object, &definition.source, LANE, sequence, &bytes)?;
                    rows.push(DeltaRows::new(object, sequence, delta.data));
                }
                Ok(tail.grow(&definition, rows)?)
            }
        };
        let tail = Arc::new(self.files.pool.run(move |_| build()).await?);
        let same = previous.filter(|previous| Arc::ptr_eq(&previous.generation, &generation));
        Ok(Arc::new(match same {
            Some(previous) => previous.with_tail(tail),
            None => Snapshot::new(Arc::clone(definition), generation, tail),
        }))
    }
}

/// What a listing of deltas found.
enum Listed {
    Nothing,
    Deltas(Vec<(u64, Bytes)>),
    Gap(Corrupt),
}

fn delta_key(definition: &Definition, sequence: u64) -> ObjectKey {
    ObjectKey::Delta { source: definition.source.id.clone(), lane: LANE, sequence }
}
