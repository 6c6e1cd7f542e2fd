//! The world that steps act on: a store that fails on request, and the processes that use it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tarn_compact::{ApproximateIndex, Builder, BuilderSettings, CompactError, GcOptions, Silent};
use tarn_model::{Index, ObjectKey, PointKey, ReadToken};
use tarn_search::{ColdSettings, Engine, EngineSettings, Hydration, InProcess};
use tarn_segment::{Catalog, SegmentKind};
use tarn_store::{Clock, Defined, Store, create_index, create_source, latest_manifest};
use tarn_testkit::{
    AtLeast, FaultStore, Faults, Faulty, HintFault, Reference, Scenario, Scope, Search, ShiftedClock, ShiftedStore,
    Step, Upload,
};
use tarn_timeline::{AppendError, AppendOptions, Appended, GroupCommitter, PointBatch, Timeline, TimelineError};
use tempfile::TempDir;

use super::ledger::{Entry, Ledger};

mod deletions;
mod readings;
mod searches;

/// Splits of this many rows get cells or a graph; the largest splits of the scenarios have more.
const THRESHOLD_ROWS: u64 = 60;
/// Rows of a cell.
const ROWS_PER_CELL: usize = 10;
/// Memory for answers that may be asked for again.
const QUERY_CACHE_BYTES: usize = 1 << 20;
/// Younger garbage is left alone. Readers and builders of the model test never take as long.
const GRACE: Duration = Duration::from_secs(3_600);
const LONGEST_BUILD: Duration = Duration::from_secs(1_800);

/// Which store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Where {
    Memory,
    Disk,
}

pub(crate) struct World {
    scenario: Scenario,
    /// Sees the store as it is.
    truth: Timeline,
    /// What the processes use.
    store: Store,
    faults: Faults,
    clock: Arc<ShiftedClock>,
    processes: Processes,
    reference: Reference,
    ledger: Ledger,
    acknowledged: u64,
    keys: u64,
    /// Requests fail now: operations may.
    failing: bool,
    tally: Tally,
    /// Segments with cells or a graph, of each index after the last build.
    approximate_before: BTreeMap<usize, usize>,
    /// What was found when a hint was spoiled last, by index.
    hints: BTreeMap<usize, bytes::Bytes>,
    starts: Starts,
    /// What was to be deleted by filter, of which nobody knows what became.
    deletions: Vec<deletions::Unsettled>,
    /// A question to ask again.
    earlier: Option<Search>,
    /// By seed: the last sample of all that was drawn.
    drawn: BTreeMap<u64, Vec<PointKey>>,
    /// Where the store is, on disk.
    _directory: TempDir,
}

/// Ends and starts anew with every restart.
struct Processes {
    timeline: Timeline,
    committer: GroupCommitter,
    builder: Builder,
    engine: Engine,
}

/// What processes are started with.
struct Starts {
    cache: TempDir,
    /// What large splits get: the next builder makes the first of them.
    kinds: Vec<ApproximateIndex>,
    /// How many there were: every third engine has leaves.
    engines: usize,
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    steps: BTreeMap<&'static str, u64>,
    pub(crate) searches: u64,
    failed: u64,
    /// Of approximate indices; whether cells or a graph answered is the planner's choice.
    pub(crate) approximate_queries: u64,
    recall_sum: f64,
    worst_recall: f64,
    /// Queries that did not find everything.
    pub(crate) misses: u64,
    pub(crate) cold: Cold,
    pub(crate) approximate_segments: ApproximateSegments,
    pub(crate) asked: Asked,
}

/// What was asked beyond neighbours, and answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    /// By a score, or in the other direction.
    pub(crate) ranked: u64,
    /// In groups.
    pub(crate) grouped: u64,
    /// With context.
    pub(crate) context: u64,
    /// Several vectors as one list.
    pub(crate) combined: u64,
    /// Of these, over two indices.
    pub(crate) beside: u64,
    /// For what is like a stored point.
    pub(crate) stored: u64,
    /// As of a generation that is there.
    pub(crate) as_of: u64,
    /// As of one that is not.
    pub(crate) gone: u64,
    /// Refused, rightly.
    pub(crate) refused: u64,
    /// Cut short at a deadline.
    pub(crate) cut_short: u64,
    /// Statistics.
    pub(crate) statistics: u64,
    /// Samples.
    pub(crate) samples: u64,
    /// Points that were deleted by filter.
    pub(crate) deleted: u64,
    /// Points that were live, expired, and were not answered.
    pub(crate) expired: u64,
    /// Points that retention took out.
    pub(crate) retired: u64,
}

impl Asked {
    /// Whether nothing was left out that any scenario has.
    pub(crate) fn has_all_kinds(&self) -> bool {
        let Self { ranked, grouped, context, combined, beside, stored, as_of, gone, refused, .. } = *self;
        let kinds = [ranked, grouped, context, combined, beside, stored, as_of, gone, refused];
        let others = [self.cut_short, self.statistics, self.samples, self.deleted];
        kinds.into_iter().chain(others).all(|count| count > 0)
    }
}

/// What was seen of searches by processes that had just begun.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cold {
    /// Searches.
    pub(crate) searches: u64,
    /// Segments that stayed where they were: ranges of their files were read.
    pub(crate) by_ranges: u64,
    /// Queries of approximate searches that read ranges, and what these found.
    pub(crate) queries: u64,
    recall_sum: f64,
    /// Hints that were spoiled.
    pub(crate) spoiled_hints: u64,
}

impl Cold {
    /// Mean recall; 1 without any query.
    pub(crate) fn recall(&self) -> f64 {
        if self.queries == 0 { 1.0 } else { self.recall_sum / self.queries as f64 }
    }
}

/// What was seen of segments with cells or a graph.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ApproximateSegments {
    /// The most in one index at once.
    pub(crate) at_once: usize,
    /// Manifests in which one has dead rows.
    pub(crate) with_dead_rows: u64,
    /// Builds after which an index had fewer than before.
    pub(crate) merges: u64,
}

impl Tally {
    /// Mean recall of approximate searches; 1 without any.
    pub(crate) fn recall(&self) -> f64 {
        if self.approximate_queries == 0 { 1.0 } else { self.recall_sum / self.approximate_queries as f64 }
    }

    fn add_recall(&mut self, recall: f64) {
        self.worst_recall = if self.approximate_queries == 0 { recall } else { self.worst_recall.min(recall) };
        self.approximate_queries += 1;
        self.misses += u64::from(recall < 1.0);
        self.recall_sum += recall;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} searches answered, {} operations failed as they may, recall {:.4} (worst {:.2}, {} misses) over {} queries; \
             {:?}; {:?}, recall {:.4}; {:?}; {:?}",
            self.searches,
            self.failed,
            self.recall(),
            self.worst_recall,
            self.misses,
            self.approximate_queries,
            self.approximate_segments,
            self.cold,
            self.cold.recall(),
            self.asked,
            self.steps
        )
    }
}

impl World {
    pub(crate) async fn new(
        scenario: Scenario,
        place: Where,
        kinds: &[ApproximateIndex],
        seed: u64,
    ) -> Result<Self, String> {
        let temporary = || TempDir::new().map_err(|error| error.to_string());
        let (directory, cache) = (temporary()?, temporary()?);
        let base = match place {
            Where::Memory => Store::memory(),
            Where::Disk => Store::disk(directory.path()).map_err(|error| error.to_string())?,
        };
        let clock = Arc::new(ShiftedClock::new());
        let scenario = scenario.beginning(u64::try_from(clock.now_ms() / 1_000).unwrap_or(0));
        let base = base.with_clock(Arc::clone(&clock) as Arc<dyn Clock>).with_seed(seed);
        let base = base.layer(|objects| Arc::new(ShiftedStore::new(objects, Arc::clone(&clock))));
        let mut faults = Faults::default();
        let store = base.layer(|objects| {
            let (store, handle) = FaultStore::new(objects);
            faults = handle;
            Arc::new(store)
        });
        define(&base, &scenario).await?;
        let mut starts = Starts { cache, kinds: kinds.to_vec(), engines: 0 };
        let processes = Processes::start(&store, &scenario, &mut starts)?;
        Ok(Self {
            truth: Timeline::open(base, Arc::clone(&scenario.source)),
            reference: Reference::new(Arc::clone(&scenario.source)),
            scenario,
            store,
            faults,
            clock,
            processes,
            ledger: Ledger::default(),
            acknowledged: 0,
            keys: 0,
            failing: false,
            tally: Tally::default(),
            approximate_before: BTreeMap::new(),
            hints: BTreeMap::new(),
            starts,
            deletions: Vec::new(),
            earlier: None,
            drawn: BTreeMap::new(),
            _directory: directory,
        })
    }

    pub(crate) async fn perform(&mut self, step: &Step) -> Result<(), String> {
        if let Step::Faulty(faulty, step) = step {
            return self.perform_faulty(*faulty, step).await;
        }
        *self.tally.steps.entry(name(step)).or_default() += 1;
        self.perform_sound(step).await.map_err(|error| format!("{}: {error}", name(step)))?;
        if matches!(step, Step::Build(_) | Step::Run | Step::RunTwice) {
            self.look_at_segments().await?;
        }
        Ok(())
    }

    async fn look_at_segments(&mut self) -> Result<(), String> {
        for (position, index) in self.scenario.indices.iter().enumerate().filter(|(_, i)| i.algorithm.hnsw.is_some()) {
            let (count, with_dead_rows) = approximate_segments_of(self.truth.store(), index).await?;
            let seen = &mut self.tally.approximate_segments;
            seen.at_once = seen.at_once.max(count);
            seen.with_dead_rows += u64::from(with_dead_rows);
            let before = self.approximate_before.insert(position, count);
            seen.merges += u64::from(before.is_some_and(|before| count > 0 && count < before));
        }
        Ok(())
    }

    async fn perform_sound(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Upload(upload) => self.upload(upload).await,
            Step::UploadTogether(uploads) => self.upload_together(uploads).await,
            Step::Fold => self.fold().await,
            Step::Build(index) => self.build(*index).await,
            Step::Run => self.run().await,
            Step::RunTwice => self.run_twice().await,
            Step::CollectGarbage { retain, dry_run } => self.collect_garbage(*retain, *dry_run).await,
            Step::Advance { by_ms } => {
                self.clock.advance(Duration::from_millis(*by_ms));
                Ok(())
            }
            Step::Restart { cold } => self.restart(*cold),
            Step::Search(search) => self.search(search).await,
            Step::Count(index) => self.count(*index).await,
            Step::Statistics(statistic) => self.statistics(statistic).await,
            Step::Sample(sampling) => self.sample(sampling).await,
            Step::Delete(deletion) => self.delete(deletion).await,
            Step::Verify => self.verify().await,
            Step::LandLate => self.land_late().await,
            Step::Hint(index, fault) => self.spoil_hint(*index, *fault).await,
            Step::Faulty(..) => Err("faults are not nested".to_owned()),
        }
    }

    async fn perform_faulty(&mut self, faulty: Faulty, step: &Step) -> Result<(), String> {
        match faulty {
            Faulty::Random { seed, probability } => self.faults.random(seed, probability),
            Faulty::Crash { after, during: false } => self.faults.crash_after(after),
            Faulty::Crash { after, during: true } => self.faults.crash_during(after),
        }
        self.failing = true;
        let name = name(step);
        *self.tally.steps.entry(name).or_default() += 1;
        let outcome = self.perform_sound(step).await;
        self.failing = false;
        let crashed = self.faults.has_crashed();
        self.faults.heal();
        outcome.map_err(|error| format!("{name} while {faulty:?}: {error}"))?;
        self.follow().await?;
        if crashed { self.restart(true) } else { Ok(()) }
    }

    /// Builds everything, checks every object, and compares every index with the reference.
    pub(crate) async fn finish(mut self) -> Result<Tally, String> {
        self.land_late().await?;
        self.restart(true)?;
        self.compare_everything().await?;
        self.run().await?;
        // A run mends all of them.
        self.hints.clear();
        self.verify().await?;
        self.compare_everything().await?;
        Ok(self.tally)
    }

    async fn compare_everything(&mut self) -> Result<(), String> {
        for index in 0..self.scenario.indices.len() {
            let query = self.zero();
            let search = Search {
                index,
                queries: vec![query],
                k: 10_000,
                scope: Scope::default(),
                eventual: false,
                at_least: AtLeast::Acknowledged,
                exact: true,
                cold: false,
                vectors: true,
                attributes: None,
                rank: None,
                shape: None,
                as_of: None,
                deadline_ms: None,
                twice: false,
            };
            self.search(&search).await.map_err(|error| format!("at the end: {error}"))?;
            self.count(index).await.map_err(|error| format!("at the end: {error}"))?;
        }
        Ok(())
    }

    fn zero(&self) -> tarn_model::Vector {
        match self.scenario.source.vector_kind {
            tarn_model::VectorKind::Dense => {
                tarn_model::Vector::Dense(vec![0.0; self.scenario.source.vector_dimension as usize])
            }
            tarn_model::VectorKind::Sparse => {
                tarn_model::Vector::Sparse(tarn_model::SparseVector::from_pairs([(0, 0.0)]))
            }
        }
    }

    async fn follow(&mut self) -> Result<(), String> {
        let now = self.now();
        let (scenario, deletions) = (&self.scenario, &self.deletions);
        let may_go =
            |reference: &Reference, key: &PointKey| deletions::may_go(scenario, deletions, reference, key, now);
        let swept = self.ledger.follow(&self.truth, &mut self.reference, &may_go).await?;
        self.tally.asked.retired += swept;
        Ok(())
    }

    /// In microseconds since 1970, by the clock of all processes.
    fn now(&self) -> i64 {
        self.clock.now_ms() * 1_000
    }

    /// Takes note of a failure that a fault explains; any other is an error.
    fn forgive(&mut self, explained: bool, error: impl fmt::Display) -> Result<(), String> {
        if self.failing && explained {
            self.tally.failed += 1;
            return Ok(());
        }
        Err(format!("failed without a reason: {error}"))
    }
}

/// Uploads.
impl World {
    async fn upload(&mut self, upload: &Upload) -> Result<(), String> {
        let (entry, batch, options) = self.prepare(upload)?;
        let mut maybe_written = false;
        let mut written = None::<Appended>;
        for _ in 0..=upload.repeats.unwrap_or(0) {
            self.ledger.repeat(entry);
            let outcome = self.processes.timeline.append(batch.clone(), options.clone()).await;
            if let (Ok(appended), Some(before)) = (&outcome, &written)
                && (!appended.replayed || !appended.token.includes(&before.token))
            {
                return Err(format!("a repeated upload gave {appended:?} after {before:?}"));
            }
            written = outcome.as_ref().ok().cloned().or(written);
            self.settle(entry, outcome, &mut maybe_written).await?;
        }
        Ok(())
    }

    async fn upload_together(&mut self, uploads: &[Upload]) -> Result<(), String> {
        let prepared = uploads.iter().map(|upload| self.prepare(upload)).collect::<Result<Vec<_>, _>>()?;
        let committer = &self.processes.committer;
        let submit = |(entry, batch, options): (Entry, PointBatch, AppendOptions)| async move {
            (entry, committer.submit(batch, options).await)
        };
        for (entry, outcome) in join_all(prepared.into_iter().map(submit)).await {
            self.settle(entry, outcome, &mut false).await?;
        }
        Ok(())
    }

    fn prepare(&mut self, upload: &Upload) -> Result<(Entry, PointBatch, AppendOptions), String> {
        let source = Arc::clone(&self.scenario.source);
        let batch = PointBatch::from_updates(source, &upload.updates).map_err(|error| error.to_string())?;
        self.keys += 1;
        let options = match upload.repeats {
            Some(_) => AppendOptions::idempotent(format!("key {}", self.keys)),
            None => AppendOptions::default(),
        };
        Ok((self.ledger.begin(&upload.updates), batch, options))
    }

    /// Compares what an uploader was told with the timeline. `maybe_written`: by an earlier attempt.
    async fn settle(
        &mut self,
        entry: Entry,
        outcome: Result<Appended, AppendError>,
        maybe_written: &mut bool,
    ) -> Result<(), String> {
        self.follow().await?;
        match outcome {
            Ok(appended) => {
                *maybe_written = true;
                let sequence = appended.token.sequence(0);
                self.acknowledged = self.acknowledged.max(sequence);
                if sequence > self.reference.head() {
                    return Err(format!("acknowledged at {sequence}, but the head is {}", self.reference.head()));
                }
                self.ledger.acknowledge(entry, sequence)
            }
            Err(error @ AppendError::Ambiguous { .. }) => {
                *maybe_written = true;
                self.forgive(true, error)
            }
            Err(error @ (AppendError::NotApplied(_) | AppendError::Contended { .. })) => {
                if !*maybe_written {
                    self.ledger.refuse(entry)?;
                }
                self.forgive(true, error)
            }
            Err(error) => self.forgive(false, error),
        }
    }

    async fn land_late(&mut self) -> Result<(), String> {
        self.faults.land_late(self.truth.store().object_store().as_ref()).await;
        self.follow().await
    }
}

/// Hints.
impl World {
    /// Whatever becomes of a hint, answers stay what they are.
    async fn spoil_hint(&mut self, index: usize, fault: HintFault) -> Result<(), String> {
        let store = self.truth.store().clone();
        let key = |index: usize| ObjectKey::Hint(self.scenario.indices[index].id.clone());
        let read = |index: usize| {
            let (store, key) = (store.clone(), key(index));
            async move { store.get(&key).await.map_err(|error| error.to_string()) }
        };
        let Some(found) = read(index).await? else { return Ok(()) };
        let other = read((index + 1) % self.scenario.indices.len()).await?;
        let instead = match fault {
            HintFault::Lost => None,
            HintFault::Stale => Some(self.hints.get(&index).unwrap_or(&found).clone()),
            HintFault::Cut => Some(found.slice(..found.len() / 2)),
            HintFault::Foreign => other,
        };
        let spoiled = match instead {
            Some(bytes) => store.overwrite(&key(index), bytes).await,
            None => store.delete(&key(index)).await,
        };
        spoiled.map_err(|error| error.to_string())?;
        self.tally.cold.spoiled_hints += 1;
        self.hints.insert(index, found);
        Ok(())
    }
}

/// Builders.
impl World {
    async fn fold(&mut self) -> Result<(), String> {
        let began = self.now();
        let outcome = self.processes.builder.fold(&self.scenario.source.id).await;
        self.follow().await?;
        match outcome {
            Ok(outcome) => {
                self.check_rows("fold", outcome.rows, &outcome.watermark, None)?;
                self.check_retention(began)
            }
            Err(error) => self.forgive(is_of_the_store(&error), error),
        }
    }

    async fn build(&mut self, index: usize) -> Result<(), String> {
        let outcome = self.processes.builder.build(&self.scenario.indices[index].id).await;
        self.follow().await?;
        match outcome {
            Ok(outcome) => self.check_rows("build", outcome.rows, &outcome.watermark, Some(index)),
            Err(error) => self.forgive(is_of_the_store(&error), error),
        }
    }

    fn check_rows(&self, what: &str, rows: u64, watermark: &ReadToken, index: Option<usize>) -> Result<(), String> {
        let sequence = watermark.sequence(0);
        let expected = match index {
            None => self.reference.live_at(sequence).count(),
            Some(index) => self.indexed(index, sequence),
        };
        if sequence <= self.reference.head() && rows == expected as u64 {
            return Ok(());
        }
        Err(format!("the {what} says {rows} rows at {sequence}; the reference has {expected}"))
    }

    fn indexed(&self, index: usize, sequence: u64) -> usize {
        self.reference.indexed_at(&self.scenario.indices[index], sequence, &Scope::default()).count()
    }

    async fn run(&mut self) -> Result<(), String> {
        let began = self.now();
        let outcome = self.processes.builder.run().await;
        self.follow().await?;
        match outcome {
            Ok(summary) => {
                let failures: Vec<(bool, String)> = summary
                    .failures()
                    .map(|(what, error)| (is_of_the_store(error), format!("{what}: {error}")))
                    .collect();
                failures.into_iter().try_for_each(|(explained, error)| self.forgive(explained, error))?;
                self.check_retention(began)
            }
            Err(error) => self.forgive(is_of_the_store(&error), error),
        }
    }

    async fn run_twice(&mut self) -> Result<(), String> {
        let other = Processes::builder(&self.store, &mut self.starts)?;
        let (ours, theirs) = tokio::join!(self.processes.builder.run(), other.run());
        for summary in [ours, theirs] {
            let summary = summary.map_err(|error| error.to_string())?;
            if let Some((what, error)) = summary.failures().next() {
                return Err(format!("one of two builders failed: {what}: {error}"));
            }
        }
        self.follow().await
    }

    async fn collect_garbage(&mut self, retain: u64, dry_run: bool) -> Result<(), String> {
        let mut options = GcOptions::default();
        options.grace = GRACE;
        options.retain_generations = retain;
        options.dry_run = dry_run;
        match self.processes.builder.collect_garbage(&options).await {
            Ok(_) => Ok(()),
            Err(error) => self.forgive(is_of_the_store(&error), error),
        }
    }

    async fn verify(&mut self) -> Result<(), String> {
        let hint = |&index: &usize| ObjectKey::Hint(self.scenario.indices[index].id.clone()).render();
        let spoiled: BTreeSet<String> = self.hints.keys().map(hint).collect();
        match self.processes.builder.verify().await {
            Ok(mut report) => {
                // Rightly found, until somebody mends them.
                report.problems.retain(|problem| !spoiled.contains(&problem.object));
                match report.problems.is_empty() {
                    true => Ok(()),
                    false => Err(format!("the store is not sound: {:?}", report.problems)),
                }
            }
            Err(error) => self.forgive(is_of_the_store(&error), error),
        }
    }

    fn restart(&mut self, cold: bool) -> Result<(), String> {
        if cold {
            self.starts.cache = TempDir::new().map_err(|error| error.to_string())?;
        }
        self.processes = Processes::start(&self.store, &self.scenario, &mut self.starts)?;
        Ok(())
    }
}

impl Processes {
    fn start(store: &Store, scenario: &Scenario, starts: &mut Starts) -> Result<Self, String> {
        let timeline = Timeline::open(store.clone(), Arc::clone(&scenario.source));
        let settings = EngineSettings {
            cache_dir: starts.cache.path().join("engine"),
            threads: 2,
            query_cache_bytes: QUERY_CACHE_BYTES,
            ..EngineSettings::default()
        };
        Ok(Self {
            committer: GroupCommitter::new(timeline.clone()),
            timeline,
            builder: Self::builder(store, starts)?,
            engine: Self::engine(store, settings, starts)?,
        })
    }

    /// Every third one asks a leaf about every shard.
    fn engine(store: &Store, settings: EngineSettings, starts: &mut Starts) -> Result<Engine, String> {
        starts.engines += 1;
        if !starts.engines.is_multiple_of(3) {
            return Engine::new(store.clone(), settings).map_err(|error| error.to_string());
        }
        let of_leaf = EngineSettings { cache_dir: starts.cache.path().join("leaf"), ..settings.clone() };
        let leaf = Engine::new(store.clone(), of_leaf).map_err(|error| error.to_string())?;
        let settings = EngineSettings { leaf_bytes: 1, ..settings };
        Engine::with_leaves(store.clone(), settings, Arc::new(InProcess(leaf))).map_err(|error| error.to_string())
    }

    /// An engine of a process that has just begun, far from the store. Files stay where they are whenever that answers.
    fn beginner(store: &Store, cache: &TempDir) -> Result<Engine, String> {
        let cold = ColdSettings { whole_bytes: 0, ..ColdSettings::default() };
        let cache_dir = cache.path().join("engine");
        let settings =
            EngineSettings { cache_dir, threads: 2, cold, hydration: Hydration::Off, ..EngineSettings::default() };
        Engine::new(store.without_local_files(), settings).map_err(|error| error.to_string())
    }

    fn builder(store: &Store, starts: &mut Starts) -> Result<Builder, String> {
        let mut settings = BuilderSettings::default();
        starts.kinds.rotate_left(1);
        settings.approximate_index = starts.kinds.last().copied().unwrap_or_default();
        settings.cells_threshold_rows = THRESHOLD_ROWS;
        settings.graph_threshold_rows = THRESHOLD_ROWS;
        settings.cache_dir = Some(starts.cache.path().join("builder"));
        settings.threads = 1;
        settings.longest_build = LONGEST_BUILD;
        settings.segment.calibration_queries = 20;
        // Small, so that few rows have many: cold searches choose among them.
        settings.segment.rows_per_cell = ROWS_PER_CELL;
        Builder::new(store.clone(), settings, Arc::new(Silent)).map_err(|error| error.to_string())
    }
}

async fn define(store: &Store, scenario: &Scenario) -> Result<(), String> {
    let created = create_source(store, &scenario.source).await.map_err(|error| error.to_string())?;
    if created != Defined::Created {
        return Err(format!("the data source is {created:?}"));
    }
    for index in &scenario.indices {
        let created = create_index(store, index).await.map_err(|error| error.to_string())?;
        if created != Defined::Created {
            return Err(format!("an index is {created:?}"));
        }
    }
    Ok(())
}

/// How many segments of the newest manifest have cells or a graph, and whether any of them has dead rows.
async fn approximate_segments_of(store: &Store, index: &Index) -> Result<(usize, bool), String> {
    let manifest = latest_manifest(store, &index.id, None).await.map_err(|error| error.to_string())?;
    let (mut count, mut with_dead_rows) = (0, false);
    for object in manifest.iter().flat_map(|manifest| &manifest.shards).filter_map(|shard| shard.catalog.as_ref()) {
        let key = ObjectKey::Catalog { index: index.id.clone(), id: object.id };
        let bytes = store.get(&key).await.map_err(|error| error.to_string())?.ok_or("a catalog is missing")?;
        let catalog = Catalog::decode(&key.render(), &bytes).map_err(|error| error.to_string())?;
        let approximate = |kind| matches!(kind, SegmentKind::Cells | SegmentKind::Graph);
        for segment in catalog.segments.iter().filter(|segment| approximate(segment.kind)) {
            count += 1;
            with_dead_rows |= !segment.deleted.is_empty();
        }
    }
    Ok((count, with_dead_rows))
}

/// Whether the store explains the failure. Corruption never may be blamed on it.
fn is_of_the_store(error: &CompactError) -> bool {
    matches!(error, CompactError::Store(_) | CompactError::Timeline(TimelineError::Store(_)))
}

fn name(step: &Step) -> &'static str {
    match step {
        Step::Upload(_) => "upload",
        Step::UploadTogether(_) => "upload together",
        Step::Fold => "fold",
        Step::Build(_) => "build",
        Step::Run => "run",
        Step::RunTwice => "run twice",
        Step::CollectGarbage { .. } => "collect garbage",
        Step::Advance { .. } => "advance",
        Step::Restart { .. } => "restart",
        Step::Search(_) => "search",
        Step::Count(_) => "count",
        Step::Statistics(_) => "statistics",
        Step::Sample(_) => "sample",
        Step::Delete(_) => "delete by filter",
        Step::Verify => "verify",
        Step::Faulty(..) => "faulty",
        Step::LandLate => "land late",
        Step::Hint(..) => "spoil a hint",
    }
}
