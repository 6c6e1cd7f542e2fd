//! A generation: one manifest with its catalogs, and the segment files they name.
//!
//! Files are fetched and mapped when a query needs them. A generation that follows another shares the catalogs and the open
//! files that both name. A file stays open until nobody holds a generation that names it, or until it is idle and others need
//! its space (`OpenFiles`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures::future::try_join_all;
use parking_lot::RwLock;
use roaring::RoaringBitmap;
use tarn_model::{Corrupt, IndexId, Manifest, ObjectKey, ObjectRef, ReadToken};
use tarn_segment::{Catalog, CatalogSegment, Outline, Segment, SegmentError, SegmentKind, Statistics};
use tarn_store::{LocalFile, Meter, SegmentCache, Store, StoreError};
use ulid::Ulid;

use crate::cold::{ColdFile, ColdFiles, check_outline};
use crate::column::check_columns;
use crate::definition::Definition;
use crate::error::SearchError;
use crate::expiry::Expiry;
use crate::open_files::{OpenFiles, Space};
use crate::pool::Pool;
use crate::splits::{Directory, SplitEntry};
use crate::tail::segment_number;
use crate::turns::Turns;

/// One manifest with its catalogs.
#[derive(Debug)]
pub(crate) struct Generation {
    /// `None` before the first build.
    pub(crate) manifest: Option<Manifest>,
    /// By shard position; `None` for a shard without segments, and for one that was not wanted.
    pub(crate) shards: Vec<Option<Arc<ShardCatalog>>>,
    /// The shards whose catalogs were wanted.
    wanted: Wanted,
    /// The first segment's number among all segments of the generation, by shard position.
    first_segment: Vec<usize>,
}

/// Shards, by position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All there are.
    All,
    /// These.
    Some(BTreeSet<u32>),
}

impl Wanted {
    fn has(&self, shard: u32) -> bool {
        match self {
            Self::All => true,
            Self::Some(shards) => shards.contains(&shard),
        }
    }
}

/// One shard's catalog, prepared for queries.
#[derive(Debug)]
pub(crate) struct ShardCatalog {
    object: ObjectRef,
    /// In the order of the catalog.
    pub(crate) segments: Vec<BaseSegment>,
    /// All splits of all segments.
    pub(crate) directory: Directory,
}

/// One segment of a catalog.
#[derive(Debug)]
pub(crate) struct BaseSegment {
    /// How its rows are indexed.
    pub(crate) kind: SegmentKind,
    /// Rows, dead ones included.
    pub(crate) rows: u32,
    /// Rows that the catalog says are dead.
    pub(crate) deleted: RoaringBitmap,
    /// What the others are like, if the builder has counted.
    pub(crate) statistics: Option<Arc<Statistics>>,
    /// The file, shared among the generations that name it.
    pub(crate) file: Arc<SegmentFile>,
}

/// A segment file: fetched and opened by whoever needs it and finds it closed.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    /// What the file must be.
    pub(crate) object: ObjectRef,
    /// Unique in the process.
    pub(crate) number: u64,
    open: RwLock<Option<OpenFile>>,
    /// Held by whoever is opening it.
    opening: tokio::sync::Mutex<()>,
    /// How many of its last bytes an outline is read from; 0: it is searched whole or not at all.
    pub(crate) outline: u64,
    /// What is known of it while it stays where it is. Nothing once it is open.
    cold: RwLock<Option<Arc<ColdFile>>>,
    /// Held by whoever is reading the outline.
    outlining: tokio::sync::Mutex<()>,
    /// Whether a background task is fetching it.
    pub(crate) hydrating: AtomicBool,
    /// Whether the log says that it does not fit the cache.
    pub(crate) said_too_large: AtomicBool,
    last_use: AtomicU64,
    /// Whether a local copy that had gone bad was already thrown away.
    fetched_again: AtomicBool,
    /// Which rows have expired.
    pub(crate) expiry: Expiry,
}

#[derive(Debug)]
struct OpenFile {
    /// A search that uses it has a handle of its own.
    segment: Arc<Segment>,
    /// Keeps the cache from evicting what is mapped.
    _pin: LocalFile,
    /// `None` when the file is the store's own.
    space: Option<Space>,
}

/// Where files come from and who opens them.
#[derive(Clone)]
pub(crate) struct Files {
    /// The store.
    pub(crate) store: Store,
    /// The local copies.
    pub(crate) cache: Arc<SegmentCache>,
    /// Which of them are open.
    pub(crate) open: Arc<OpenFiles>,
    /// Of which others something is known.
    pub(crate) cold: Arc<ColdFiles>,
    /// Who verifies, maps and computes.
    pub(crate) pool: Pool,
    /// Who computes until a deadline.
    pub(crate) turns: Turns,
}

impl Generation {
    /// The state of an index that has not been built.
    pub(crate) fn unbuilt(definition: &Definition) -> Self {
        Self {
            manifest: None,
            shards: vec![None; definition.shards.len()],
            wanted: Wanted::All,
            first_segment: vec![0; definition.shards.len()],
        }
    }

    /// Reads the catalogs of a manifest, those of the wanted shards. `previous` lends what both name; `at_hand` are catalogs that
    /// were read already, by id, and are checked like others.
    ///
    /// # Errors
    /// [`SearchError::Corrupt`] when manifest, catalogs and definition do not agree, or bytes are not what the manifest says;
    /// [`StoreError::Missing`] when a catalog is gone.
    pub(crate) async fn load(
        files: &Files,
        definition: &Arc<Definition>,
        manifest: Manifest,
        wanted: Wanted,
        previous: &Self,
        at_hand: &BTreeMap<Ulid, Vec<u8>>,
    ) -> Result<Self, SearchError> {
        let object = ObjectKey::Manifest { index: manifest.index.clone(), generation: manifest.generation }.render();
        let known = previous.shards.iter().flatten().flat_map(|shard| &shard.segments);
        let known: HashMap<Ulid, &BaseSegment> = known.map(|segment| (segment.file.object.id, segment)).collect();
        let mut shards: Vec<Option<Arc<ShardCatalog>>> = vec![None; definition.shards.len()];
        let (index, known) = (&manifest.index, &known);
        let load = |position: usize, shard: String, catalog: ObjectRef, bytes: Option<Bytes>| async move {
            Ok::<_, SearchError>((position, ShardCatalog::load(files, index, shard, catalog, bytes, known).await?))
        };
        let mut loads = Vec::new();
        for entry in &manifest.shards {
            let position = definition.shard_position(&entry.shard).ok_or_else(|| Corrupt {
                object: object.clone(),
                part: "shards-are-defined".to_owned(),
                expected: format!("one of the shards {:?}", definition.shards),
                found: format!("shard '{}'", entry.shard),
            })?;
            let Some(catalog) = entry.catalog.clone().filter(|_| wanted.has(position)) else { continue };
            let position = position as usize;
            let old = previous.shards.get(position).and_then(Option::as_ref);
            match old.filter(|old| old.object == catalog) {
                Some(old) => shards[position] = Some(Arc::clone(old)),
                None => {
                    let bytes = at_hand.get(&catalog.id).map(|bytes| Bytes::copy_from_slice(bytes));
                    loads.push(load(position, entry.shard.clone(), catalog, bytes));
                }
            }
        }
        for (position, catalog) in try_join_all(loads).await? {
            shards[position] = Some(Arc::new(catalog));
        }
        let mut first_segment = Vec::with_capacity(shards.len());
        let mut count = 0;
        for shard in &shards {
            first_segment.push(count);
            count += shard.as_ref().map_or(0, |shard| shard.segments.len());
        }
        Ok(Self { manifest: Some(manifest), shards, wanted, first_segment })
    }

    /// Whether the catalogs of all these shards have been read.
    pub(crate) fn knows(&self, shards: &BTreeSet<u32>) -> bool {
        shards.iter().all(|shard| self.wanted.has(*shard))
    }

    /// These shards, and those whose catalogs have been read.
    pub(crate) fn wanted_with(&self, shards: &BTreeSet<u32>) -> Wanted {
        match &self.wanted {
            Wanted::All => Wanted::All,
            Wanted::Some(known) => Wanted::Some(known | shards),
        }
    }

    /// Which builder run published it; `None` before the first build.
    pub(crate) fn commit_id(&self) -> Option<Ulid> {
        self.manifest.as_ref().map(|manifest| manifest.commit_id)
    }

    /// The manifest's number; 0 before the first build.
    pub(crate) fn number(&self) -> u64 {
        self.manifest.as_ref().map_or(0, |manifest| manifest.generation)
    }

    /// What the segments include.
    pub(crate) fn watermark(&self) -> ReadToken {
        self.manifest.as_ref().map_or_else(|| ReadToken::single(0), |manifest| manifest.watermark.clone())
    }

    /// A segment, by its place.
    pub(crate) fn segment(&self, shard: u32, segment: u32) -> Option<&BaseSegment> {
        self.shards.get(shard as usize)?.as_ref()?.segments.get(segment as usize)
    }

    /// The number of a segment among all segments of the generation.
    pub(crate) fn segment_index(&self, shard: u32, segment: u32) -> usize {
        self.first_segment.get(shard as usize).copied().unwrap_or(0) + segment as usize
    }

    /// How many segments there are.
    pub(crate) fn segment_count(&self) -> usize {
        self.shards.iter().flatten().map(|shard| shard.segments.len()).sum()
    }
}

impl ShardCatalog {
    async fn load(
        files: &Files,
        index: &IndexId,
        shard: String,
        object: ObjectRef,
        at_hand: Option<Bytes>,
        known: &HashMap<Ulid, &BaseSegment>,
    ) -> Result<Self, SearchError> {
        let key = ObjectKey::Catalog { index: index.clone(), id: object.id };
        let name = key.render();
        let bytes = match at_hand {
            Some(bytes) => bytes,
            None => files.store.get(&key).await?.ok_or_else(|| StoreError::Missing { object: name.clone() })?,
        };
        check_bytes(&name, &bytes, &object)?;
        let catalog = files.pool.run(move |_| Ok(Catalog::decode(&name, &bytes)?)).await?;
        if catalog.shard != shard {
            return Err(SearchError::Corrupt(Corrupt {
                object: key.render(),
                part: "shard".to_owned(),
                expected: shard,
                found: catalog.shard,
            }));
        }
        let mut entries = Vec::with_capacity(catalog.segments.iter().map(|s| s.splits.len()).sum());
        let mut segments = Vec::with_capacity(catalog.segments.len());
        for (segment, number) in catalog.segments.into_iter().zip(0u32..) {
            let CatalogSegment { object, kind, outline, rows, deleted, splits, statistics } = segment;
            entries.extend(splits.into_iter().map(|split| SplitEntry {
                key: split.key.0.into(),
                segment: number,
                start: split.rows.start,
                end: split.rows.end,
            }));
            // A catalog that says something else of a file has it opened, and so checked, again.
            let same = |known: &&&BaseSegment| {
                known.file.object == object && (known.kind, known.rows, known.file.outline) == (kind, rows, outline)
            };
            let file = match known.get(&object.id).filter(same) {
                Some(known) => Arc::clone(&known.file),
                None => Arc::new(SegmentFile {
                    object,
                    number: segment_number(),
                    open: RwLock::default(),
                    opening: tokio::sync::Mutex::default(),
                    outline,
                    cold: RwLock::default(),
                    outlining: tokio::sync::Mutex::default(),
                    hydrating: AtomicBool::new(false),
                    said_too_large: AtomicBool::new(false),
                    last_use: AtomicU64::new(0),
                    fetched_again: AtomicBool::new(false),
                    expiry: Expiry::default(),
                }),
            };
            segments.push(BaseSegment { kind, rows, deleted, statistics, file });
        }
        Ok(Self { object, segments, directory: Directory::new(entries) })
    }
}

impl SegmentFile {
    /// The object's key.
    pub(crate) fn key(&self, definition: &Definition) -> ObjectKey {
        ObjectKey::Segment { index: definition.index.id.clone(), id: self.object.id }
    }

    /// The object's key as text, for errors.
    pub(crate) fn name(&self, definition: &Definition) -> String {
        self.key(definition).render()
    }

    /// Whether it is open. That may have changed by the time the answer is read.
    pub(crate) fn is_open(&self) -> bool {
        self.open.read().is_some()
    }

    /// When it was used last; see [`OpenFiles::next_use`].
    pub(crate) fn last_use(&self) -> u64 {
        self.last_use.load(Ordering::Relaxed)
    }

    /// Closes it unless a search uses it; says whether it did.
    pub(crate) fn close_if_idle(&self) -> bool {
        let mut open = self.open.write();
        // Nobody gets another handle while the lock is held.
        let closed = open.take_if(|open| Arc::strong_count(&open.segment) == 1);
        drop(open);
        closed.is_some()
    }

    /// The segment, if it is open.
    fn opened(&self, files: &Files) -> Option<Arc<Segment>> {
        let segment = self.open.read().as_ref().map(|open| Arc::clone(&open.segment))?;
        self.last_use.store(files.open.next_use(), Ordering::Relaxed);
        Some(segment)
    }

    /// What is known of it while it stays where it is.
    pub(crate) fn cold(&self) -> Option<Arc<ColdFile>> {
        self.cold.read().clone()
    }

    /// Frees what is known of it, as soon as no search uses it.
    pub(crate) fn forget_cold(&self) {
        *self.cold.write() = None;
    }

    /// Its outline, read from the store if nobody has; and the bytes that this took.
    ///
    /// # Errors
    /// [`SearchError::Corrupt`] when it is not what the catalog and the data source say; [`SearchError::Store`].
    pub(crate) async fn outline(
        self: &Arc<Self>,
        files: &Files,
        definition: &Arc<Definition>,
        rows: u32,
    ) -> Result<(Arc<ColdFile>, u64), SearchError> {
        self.last_use.store(files.open.next_use(), Ordering::Relaxed);
        if let Some(cold) = self.cold() {
            return Ok((cold, 0));
        }
        let _turn = self.outlining.lock().await;
        if let Some(cold) = self.cold() {
            return Ok((cold, 0));
        }
        let key = self.key(definition);
        let bytes = files.store.read_last(&key, self.object.bytes, self.outline).await?;
        let (name, object, definition) = (key.render(), self.object.clone(), Arc::clone(definition));
        let cells_bytes_max = files.cold.cells_bytes_max();
        let read = move || {
            let outline = Outline::read(&name, bytes, &object)?;
            check_outline(&name, &outline, &definition, rows)?;
            Ok(Arc::new(ColdFile::new(outline, cells_bytes_max)))
        };
        let cold = files.pool.run(move |_| read()).await?;
        *self.cold.write() = Some(Arc::clone(&cold));
        files.cold.add(self);
        Ok((cold, self.outline))
    }

    async fn open(
        self: &Arc<Self>,
        files: &Files,
        definition: &Arc<Definition>,
        rows: u32,
        kind: SegmentKind,
    ) -> Result<Arc<Segment>, SearchError> {
        let _turn = self.opening.lock().await;
        if let Some(segment) = self.opened(files) {
            return Ok(segment);
        }
        let open = match self.fetch(files, definition, rows, kind).await {
            // The cache verified its copy once; a disk can go bad since. What the store has may be sound. Once, because
            // a file that was written wrong stays wrong.
            Err(SearchError::Corrupt(_)) if !self.fetched_again.swap(true, Ordering::Relaxed) => {
                files.cache.discard(&self.object);
                self.fetch(files, definition, rows, kind).await?
            }
            fetched => fetched?,
        };
        let segment = Arc::clone(&open.segment);
        self.last_use.store(files.open.next_use(), Ordering::Relaxed);
        let counts = open.space.is_some();
        *self.open.write() = Some(open);
        self.forget_cold();
        if counts {
            files.open.add(self);
        }
        Ok(segment)
    }

    async fn fetch(
        &self,
        files: &Files,
        definition: &Arc<Definition>,
        rows: u32,
        kind: SegmentKind,
    ) -> Result<OpenFile, SearchError> {
        let key = self.key(definition);
        let space = files.store.local_file(&key).is_none().then(|| files.open.make_room(self.object.bytes));
        let local = files.cache.fetch(&key, &self.object).await?;
        let (path, object, name) = (local.path().to_owned(), self.object.clone(), key.render());
        let definition = Arc::clone(definition);
        let verify = move || {
            let segment = Segment::open(&path, Some(&object)).map_err(|e| segment_error(&name, e))?;
            check_segment(&name, &segment, &definition, rows, kind)?;
            Ok(Arc::new(segment))
        };
        let segment = files.pool.run(move |_| verify()).await?;
        Ok(OpenFile { segment, _pin: local, space })
    }
}

impl BaseSegment {
    /// Live rows as far as the catalog knows.
    pub(crate) fn live(&self) -> u64 {
        u64::from(self.rows) - self.deleted.len()
    }

    /// Live rows of some ranges, as far as the catalog knows.
    pub(crate) fn live_in(&self, ranges: &[Range<u32>]) -> u64 {
        let rows =
            |range: &Range<u32>| u64::from(range.end - range.start) - self.deleted.range_cardinality(range.clone());
        ranges.iter().map(rows).sum()
    }

    /// The open segment: fetched, verified and mapped if nobody has. That goes on when whoever asked gives up: the next one
    /// finds it done.
    ///
    /// # Errors
    /// [`SearchError::Corrupt`] names a file whose bytes, rows or columns are not what catalog and data source say;
    /// [`SearchError::Store`].
    pub(crate) async fn open(&self, files: &Files, definition: &Arc<Definition>) -> Result<Arc<Segment>, SearchError> {
        let (file, rows, kind) = (Arc::clone(&self.file), self.rows, self.kind);
        let (files, definition) = (files.clone(), Arc::clone(definition));
        let opening = async move { file.open(&files, &definition, rows, kind).await };
        let opening = tokio::spawn(Meter::follow(opening));
        let failed = |error| SearchError::Internal(format!("{}: {error}", self.file.object.id));
        opening.await.unwrap_or_else(|error| Err(failed(error)))
    }

    /// The segment, if it is open.
    pub(crate) fn opened(&self, files: &Files) -> Option<Arc<Segment>> {
        self.file.opened(files)
    }
}

/// `segment-is-what-the-catalog-says`: kind, rows, metric, dimension and columns.
fn check_segment(
    object: &str,
    segment: &Segment,
    definition: &Definition,
    rows: u32,
    kind: SegmentKind,
) -> Result<(), Corrupt> {
    let (index, source) = (&definition.index, &definition.source);
    let expected = (rows, kind, index.algorithm.metric, source.vector_dimension);
    let found = (segment.rows(), segment.kind(), segment.metric(), segment.dimension());
    if expected != found {
        return Err(Corrupt {
            object: object.to_owned(),
            part: "segment-is-what-the-catalog-says".to_owned(),
            expected: format!("{expected:?}"),
            found: format!("{found:?}"),
        });
    }
    check_columns(object, segment.attributes(), source)
}

/// A segment's error with the object's name in it, whatever the local file is called.
pub(crate) fn segment_error(object: &str, error: SegmentError) -> SearchError {
    let object = object.to_owned();
    match error {
        SegmentError::Corrupt(corrupt) => SearchError::Corrupt(Corrupt { object, ..corrupt }),
        // Collected between the look at the file and its opening.
        SegmentError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            SearchError::Store(StoreError::Missing { object })
        }
        other => SearchError::Internal(format!("{object}: {other}")),
    }
}

fn check_bytes(object: &str, bytes: &[u8], expected: &ObjectRef) -> Result<(), Corrupt> {
    let found = (bytes.len() as u64, crc32c::crc32c(bytes));
    if found == (expected.bytes, expected.crc32c) {
        return Ok(());
    }
    Err(Corrupt {
        object: object.to_owned(),
        part: "object".to_owned(),
        expected: format!("{} bytes with CRC-32C {:08x}", expected.bytes, expected.crc32c),
        found: format!("{} bytes with CRC-32C {:08x}", found.0, found.1),
    })
}
