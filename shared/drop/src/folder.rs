//! Processing one file: the protocol of the crate's first page, step by step.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use tarn_model::{DataSource, DataSourceId, DropPath, FORMAT, ObjectKey, ReadToken};
use tarn_store::{ObjectVersion, Store, load_source};
use tarn_timeline::{AppendError, AppendOptions, AutoCreateError, PointBatch, Timeline, source_of_upload};
use tokio::sync::mpsc;

use crate::blocks::Remote;
use crate::chunk::Stop;
use crate::error::DropError;
use crate::identity::Identity;
use crate::mapping;
use crate::read::{self, Job, Measured};
use crate::records::{self, ChunkRecord, Commit, DropStatus, FileRecord, Plan, Settled, Survey, Verdict};
use crate::refuse;
use crate::report::DropReport;
use crate::settings::DropSettings;

/// Chunks that are read ahead of the one being appended.
const READ_AHEAD: usize = 1;
/// Records that are read at the same time.
const RECORDS_AT_ONCE: usize = 16;
/// Names that programs give to what they have not finished writing.
const UNFINISHED: [&str; 5] = [".part", ".partial", ".tmp", ".crdownload", ".filepart"];

/// The drop folder of a store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DropFolder {
    store: Store,
    settings: Arc<DropSettings>,
}

/// How a run over a file ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// The file is done, now or since long.
    Settled(Box<DropStatus>),
    /// The time was up. Processing the file again goes on where this run ended.
    Unfinished {
        /// Rows that are committed.
        rows: u64,
    },
    /// There is nothing to do under this key.
    Ignored {
        /// Why.
        why: &'static str,
    },
}

/// One version of a file, and where what is known of it is kept.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) source: DataSourceId,
    pub(crate) path: DropPath,
    pub(crate) version: ObjectVersion,
    /// Another version may be current.
    pub(crate) named: bool,
    pub(crate) identity: Identity,
}

impl File {
    pub(crate) fn key(&self) -> ObjectKey {
        ObjectKey::Dropped { source: self.source.clone(), path: self.path.clone() }
    }

    pub(crate) fn status_key(&self) -> ObjectKey {
        ObjectKey::DropStatus { source: self.source.clone(), identity: self.identity.0 }
    }

    fn plan_key(&self) -> ObjectKey {
        ObjectKey::DropPlan { source: self.source.clone(), identity: self.identity.0 }
    }

    fn survey_key(&self, chunks: u32) -> ObjectKey {
        ObjectKey::DropSurvey { source: self.source.clone(), identity: self.identity.0, chunks }
    }

    fn receipt_key(&self, number: u32) -> ObjectKey {
        ObjectKey::DropReceipt { source: self.source.clone(), identity: self.identity.0, number }
    }

    fn chunk_key(&self, number: u32) -> ObjectKey {
        ObjectKey::DropChunk { source: self.source.clone(), identity: self.identity.0, number }
    }

    pub(crate) fn record(&self) -> FileRecord {
        FileRecord {
            source: self.source.clone(),
            path: self.path.as_str().to_owned(),
            bytes: self.version.bytes,
            modified_ms: self.version.modified_ms,
            e_tag: self.version.e_tag.clone(),
            version: self.version.version.clone(),
        }
    }
}

/// Why a key of the drop folder holds no file of points; `None` when it may.
pub(crate) fn is_ignored(path: &DropPath) -> Option<&'static str> {
    if mapping::is_mapping(path) {
        return Some("it is a mapping for other files");
    }
    if path.as_str().split('/').any(|part| part.starts_with('.')) {
        return Some("its name begins with a dot");
    }
    let name = path.file_name().to_ascii_lowercase();
    UNFINISHED.iter().any(|end| name.ends_with(end)).then_some("its name says that it is not complete yet")
}

impl DropFolder {
    /// The drop folder of a store. No request is made.
    pub fn new(store: Store, settings: DropSettings) -> Self {
        Self { store, settings: Arc::new(settings) }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Processes the file at a key, below the store's root. Call it whenever there may be something to do: it is idempotent, and
    /// calls may overlap. `version` names the version that an event was about; without it the current one is meant. `deadline` is
    /// a time of the store's monotonic clock after which no chunk is begun.
    ///
    /// A version that was replaced before anybody planned it is skipped; one that is partly committed is completed.
    ///
    /// # Errors
    /// [`DropError`]: the call is to be repeated.
    pub async fn process(
        &self,
        key: &str,
        version: Option<&str>,
        deadline: Option<Duration>,
    ) -> Result<Outcome, DropError> {
        let Some(ObjectKey::Dropped { source, path }) = ObjectKey::parse(key) else {
            tracing::warn!(
                key,
                "not the key of a dropped file: drop/NAME/VERSION/FILE, name and version percent-encoded"
            );
            return Ok(Outcome::Ignored { why: "it is not the key of a dropped file" });
        };
        if let Some(why) = is_ignored(&path) {
            return Ok(Outcome::Ignored { why });
        }
        let object = ObjectKey::Dropped { source: source.clone(), path: path.clone() };
        let current = self.store.version(&object, None).await?;
        // What has no version name, although the event had one, came later: it is processed as what it is.
        let is_current = |current: &ObjectVersion| {
            version.is_none() || current.version.is_none() || current.version.as_deref() == version
        };
        let file = match (current.filter(is_current), version) {
            (Some(current), _) => {
                let identity = Identity::of(key, &current);
                File { source, path, version: current, named: false, identity }
            }
            (None, Some(name)) => match self.replaced(source, path, &object, name).await? {
                Ok(file) => file,
                Err(why) => return Ok(Outcome::Ignored { why }),
            },
            (None, None) => return Ok(Outcome::Ignored { why: "it is gone" }),
        };
        self.process_file(&file, deadline).await
    }

    /// A version that is not current any more: to be completed if it was begun.
    async fn replaced(
        &self,
        source: DataSourceId,
        path: DropPath,
        object: &ObjectKey,
        name: &str,
    ) -> Result<Result<File, &'static str>, DropError> {
        let identity = Identity::of_named(&object.render(), name);
        let plan_key = ObjectKey::DropPlan { source: source.clone(), identity: identity.0 };
        let Some(plan) = records::load::<Plan>(&self.store, &plan_key).await? else {
            return Ok(Err("it was replaced or removed before it was read"));
        };
        Ok(Ok(File { source, path, version: plan.file.object_version(), named: true, identity }))
    }

    async fn process_file(&self, file: &File, deadline: Option<Duration>) -> Result<Outcome, DropError> {
        if let Some(status) = records::load::<DropStatus>(&self.store, &file.status_key()).await? {
            if matches!(status.settled, Settled::Refused(_)) {
                refuse::remove_original(&self.store, file).await?;
            }
            return Ok(Outcome::Settled(Box::new(status)));
        }
        let source = match source_of_upload(&self.store, &file.source).await {
            Ok(source) => source,
            Err(error) => return self.cannot_create(file, error).await,
        };
        let plan = match records::load::<Plan>(&self.store, &file.plan_key()).await? {
            Some(plan) => plan,
            None => match self.plan(file, source.as_ref(), deadline).await? {
                Some(plan) => plan,
                None => return Ok(Outcome::Unfinished { rows: 0 }),
            },
        };
        let (commit, source) = match (plan.verdict, source) {
            (Verdict::Refuse(report), _) => {
                let status = refuse::refuse(&self.store, file, report).await?;
                return Ok(Outcome::Settled(Box::new(status)));
            }
            (Verdict::Commit(_), None) => return self.source_is_gone(file).await,
            (Verdict::Commit(commit), Some(source)) => (commit, source),
        };
        match self.commit(file, source, &commit, deadline).await {
            Err(DropError::Append(AppendError::Deleted { .. })) => self.source_is_gone(file).await,
            Err(DropError::AutoCreate(error)) => self.cannot_create(file, error).await,
            other => other,
        }
    }

    /// What the file's upload is to create could not be created; nothing of the file was committed then.
    async fn cannot_create(&self, file: &File, error: AutoCreateError) -> Result<Outcome, DropError> {
        use AutoCreateError::{IndexTaken, Invalid, TooManyVersions};
        if !matches!(error, Invalid(_) | TooManyVersions { .. } | IndexTaken { .. }) {
            return Err(error.into());
        }
        let report = DropReport::file(error.to_string(), "Then drop the file again.");
        let status = refuse::refuse(&self.store, file, report).await?;
        Ok(Outcome::Settled(Box::new(status)))
    }

    /// The data source was deleted under a file that was being committed.
    async fn source_is_gone(&self, file: &File) -> Result<Outcome, DropError> {
        let status = refuse::refuse(&self.store, file, no_such_source(&file.source)).await?;
        Ok(Outcome::Settled(Box::new(status)))
    }

    fn job(&self, file: &File, source: Arc<DataSource>) -> Job {
        let version = file.version.clone();
        let remote = Remote::new(self.store.clone(), file.key(), version, file.named, self.settings.block_bytes);
        Job { remote, source, settings: Arc::clone(&self.settings) }
    }

    /// Reads the file and writes down what is to be done with it; when the time is up, how far it came, and gives `None`.
    async fn plan(
        &self,
        file: &File,
        source: Option<&Arc<DataSource>>,
        deadline: Option<Duration>,
    ) -> Result<Option<Plan>, DropError> {
        let measured = match source {
            None => Err(no_such_source(&file.source).into()),
            Some(source) => self.measure(file, source, deadline).await,
        };
        let verdict = match measured {
            Ok(Measured::Whole(commit)) => Verdict::Commit(commit),
            Ok(Measured::Part(survey)) => {
                let chunks = u32::try_from(survey.commit.chunks.len()).unwrap_or(u32::MAX);
                records::create(&self.store, &file.survey_key(chunks), survey).await?;
                return Ok(None);
            }
            Err(Stop::Refused(report)) => Verdict::Refuse(*report),
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Ended) => return Ok(None),
        };
        let planned_ms = self.store.clock().now_ms();
        let plan = Plan { format: FORMAT, file: file.record(), planned_ms, verdict };
        records::create(&self.store, &file.plan_key(), plan).await.map(Some)
    }

    /// Validates the file from where an earlier run ended.
    async fn measure(
        &self,
        file: &File,
        source: &Arc<DataSource>,
        deadline: Option<Duration>,
    ) -> Result<Measured, Stop> {
        let job = self.job(file, Arc::clone(source));
        let survey: Survey = match records::survey(&self.store, &file.source, file.identity).await? {
            Some(survey) => survey,
            None => {
                let mapping = mapping::load(&self.store, source, &file.path).await??;
                read::begin(&job, file.path.file_name(), mapping).await?
            }
        };
        let clock = Arc::clone(self.store.clock());
        let go_on = move || deadline.is_none_or(|deadline| clock.monotonic() < deadline);
        read::measure(&job, survey, go_on).await
    }

    /// Appends what is not committed yet, chunk by chunk.
    async fn commit(
        &self,
        file: &File,
        source: Arc<DataSource>,
        commit: &Commit,
        deadline: Option<Duration>,
    ) -> Result<Outcome, DropError> {
        let recorded: BTreeSet<u32> =
            records::committed(&self.store, &file.source, file.identity).await?.into_iter().collect();
        if self.is_gone_meanwhile(file, &source, &recorded).await? {
            return self.source_is_gone(file).await;
        }
        let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let first = (0..commit.chunks.len()).find(|&at| !recorded.contains(&number(at)));
        if let Some(first) = first {
            let timeline = Timeline::open(self.store.clone(), Arc::clone(&source));
            timeline.create_for_upload().await?;
            let (sender, mut batches) = mpsc::channel(READ_AHEAD);
            let job = self.job(file, source);
            let reader = {
                let commit = commit.clone();
                tokio::spawn(async move { read::chunks(&job, &commit, first, sender).await })
            };
            let mut at = first;
            while let Some(batch) = batches.recv().await {
                if deadline.is_some_and(|deadline| self.store.clock().monotonic() >= deadline) {
                    let rows = commit.chunks[..at].iter().map(|chunk| u64::from(chunk.rows)).sum();
                    return Ok(Outcome::Unfinished { rows });
                }
                if !recorded.contains(&number(at)) {
                    self.append(file, &timeline, number(at), batch).await?;
                }
                at += 1;
            }
            let read = reader.await.map_err(|error| DropError::local("read the file", error))?;
            match read {
                Ok(()) => {}
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Refused(report)) => {
                    // It was valid when it was planned.
                    return Err(DropError::local("read the file as it was planned", report));
                }
                Err(Stop::Ended) => return Err(DropError::local("read the file", "the reader stopped early")),
            }
            if at < commit.chunks.len() {
                return Err(DropError::local("read the file as it was planned", "it has fewer rows than it had"));
            }
        }
        self.settle(file, commit).await
    }

    /// Whether this is a version to come that was there when the file was begun: somebody has deleted it, and with it what was committed.
    /// The rest of the file must not make it anew.
    async fn is_gone_meanwhile(
        &self,
        file: &File,
        source: &DataSource,
        recorded: &BTreeSet<u32>,
    ) -> Result<bool, DropError> {
        let may_be_to_come = source.policy.auto_create.as_ref().is_some_and(|auto_create| auto_create.versions);
        if !may_be_to_come || load_source(&self.store, &file.source).await?.is_some() {
            return Ok(false);
        }
        // A chunk's receipt is written before it is appended, and the version before that.
        Ok(!recorded.is_empty() || self.store.get(&file.receipt_key(0)).await?.is_some())
    }

    async fn append(&self, file: &File, timeline: &Timeline, number: u32, batch: PointBatch) -> Result<(), DropError> {
        let appended = timeline.append(batch, AppendOptions::receipt_at(file.receipt_key(number))).await;
        let appended = appended.map_err(|error| match error {
            AppendError::KeyExpired { collected } => DropError::Expired { key: file.key().render(), collected },
            error => error.into(),
        })?;
        let record = ChunkRecord { format: FORMAT, token: appended.token };
        records::create(&self.store, &file.chunk_key(number), record).await?;
        Ok(())
    }

    async fn settle(&self, file: &File, commit: &Commit) -> Result<Outcome, DropError> {
        let record = |at: usize| async move {
            let key = file.chunk_key(u32::try_from(at).unwrap_or(u32::MAX));
            let record: Option<ChunkRecord> = records::load(&self.store, &key).await?;
            record.ok_or_else(|| DropError::local("settle the file", format!("{} is gone", key.render())))
        };
        let records = stream::iter(0..commit.chunks.len()).map(record).buffered(RECORDS_AT_ONCE);
        let records: Vec<ChunkRecord> = records.try_collect().await?;
        let sequences = records.iter().map(|record| record.token.sequence(0)).collect();
        let version = records.iter().fold(ReadToken::default(), |version, record| version.max(&record.token));
        let settled = Settled::Committed { rows: commit.rows(), deletions: commit.deletions(), sequences, version };
        let settled_ms = self.store.clock().now_ms();
        let status = DropStatus { format: FORMAT, file: file.record(), settled_ms, settled };
        let status = records::create(&self.store, &file.status_key(), status).await?;
        tracing::info!(file = %file.path, source = %file.source, rows = commit.rows(), "a dropped file is committed");
        Ok(Outcome::Settled(Box::new(status)))
    }
}

fn no_such_source(id: &DataSourceId) -> DropReport {
    DropReport::file(
        format!("Data source {id} does not exist."),
        "Create the data source, or correct the folder's name: drop/NAME/VERSION/, percent-encoded. Then drop the file again.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_of_points_is_ignored() {
        for (path, ignored) in [
            ("x.csv", false),
            ("a/b c/x.parquet", false),
            ("mapping.json", false),
            ("_mapping.json", true),
            ("a/x.csv.mapping.json", true),
            (".x.csv.swp", true),
            (".staging/x.csv", true),
            ("x.csv.PART", true),
        ] {
            assert_eq!(is_ignored(&DropPath::parse(path).unwrap()).is_some(), ignored, "{path}");
        }
    }
}
