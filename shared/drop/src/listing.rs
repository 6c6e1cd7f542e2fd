//! What became of the files of a data source, newest first.
//!
//! Statuses and plans are found by one listing, files that nobody has read yet by another; only what a page shows is read.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use tarn_model::{DataSourceId, DropPath, KeyPrefix, ObjectKey, ReadToken};
use tarn_store::Store;

use crate::error::DropError;
use crate::folder::is_ignored;
use crate::identity::Identity;
use crate::records::{self, ChunkRecord, DropStatus, FileRecord, Plan, Settled, Verdict};
use crate::report::DropReport;

/// Objects read at the same time.
const AT_ONCE: usize = 16;

/// Where a file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum DropState {
    /// Nobody has read it to its end.
    Pending,
    /// It is valid, and being committed.
    Running,
    /// All of it is in the timeline.
    Committed,
    /// Nothing of it is in the timeline, and it was moved away.
    Refused,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DropEntry {
    /// Below the data source's folder.
    pub path: String,
    /// Where it stands.
    pub state: DropState,
    /// Its length.
    pub bytes: u64,
    /// When it was dropped (pending), read (running) or settled, in milliseconds since the Unix epoch.
    pub changed_ms: i64,
    /// Updates in it, tombstones included, once that is known.
    pub rows: Option<u64>,
    /// Updates that are committed.
    pub rows_committed: u64,
    /// The sequences of its committed chunks.
    pub sequences: Vec<u64>,
    /// Includes all of the file, once it is committed.
    pub version: Option<ReadToken>,
    /// Why it was refused.
    pub report: Option<DropReport>,
    /// Names the file among the records of the drop folder.
    pub identity: Identity,
}

impl DropEntry {
    /// A file of which nothing is committed.
    fn new(path: String, state: DropState, bytes: u64, changed_ms: i64, identity: Identity) -> Self {
        Self {
            path,
            state,
            bytes,
            changed_ms,
            rows: None,
            rows_committed: 0,
            sequences: Vec::new(),
            version: None,
            report: None,
            identity,
        }
    }
}

/// Some files, and how to go on.
#[derive(Clone, Debug, PartialEq)]
pub struct DropPage {
    /// Newest first.
    pub entries: Vec<DropEntry>,
    /// Pass it as `after` for the next page; `None` when this is all.
    pub next: Option<String>,
}

/// Something that may be on a page. Ordered by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    changed_ms: i64,
    name: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Settled(Identity),
    /// It has a plan, or a survey alone.
    Begun(Identity),
    File(DropPath),
}

/// The files of a data source, newest first. `after` is `next` of the page before; `None` when it is not.
///
/// # Errors
/// The store failed, or a record is damaged.
pub async fn list_drops(
    store: &Store,
    source: &DataSourceId,
    limit: usize,
    after: Option<&str>,
) -> Result<Option<DropPage>, DropError> {
    let after = match after.map(parse_cursor) {
        Some(None) => return Ok(None),
        Some(Some(after)) => Some(after),
        None => None,
    };
    let (mut candidates, settled) = candidates(store, source).await?;
    candidates.sort_unstable_by(|a, b| b.cmp(a));
    let beyond = |candidate: &Candidate| {
        after.as_ref().is_none_or(|(at, name)| (candidate.changed_ms, &candidate.name) < (*at, name))
    };
    let rest: Vec<Candidate> = candidates.into_iter().filter(beyond).collect();
    let resolve = |candidate: Candidate| {
        let settled = &settled;
        async move { (entry(store, source, settled, &candidate).await, candidate) }
    };
    let mut entries = Vec::new();
    let mut last: Option<Candidate> = None;
    let mut resolved = stream::iter(rest).map(resolve).buffered(AT_ONCE);
    while let Some((entry, candidate)) = resolved.next().await {
        let Some(entry) = entry? else { continue };
        if entries.len() == limit {
            let next = last.map(|last| format!("{}:{}", last.changed_ms, last.name));
            return Ok(Some(DropPage { entries, next }));
        }
        entries.push(entry);
        last = Some(candidate);
    }
    Ok(Some(DropPage { entries, next: None }))
}

fn parse_cursor(text: &str) -> Option<(i64, String)> {
    let (at, name) = text.split_once(':')?;
    Some((at.parse().ok()?, name.to_owned()))
}

/// Everything that may be shown, and the identities that have a status.
async fn candidates(store: &Store, source: &DataSourceId) -> Result<(Vec<Candidate>, BTreeSet<Identity>), DropError> {
    let (statuses, begun) = store.list_level(&KeyPrefix::DropStatuses(source.clone())).await?;
    let mut settled = BTreeSet::new();
    let mut candidates = Vec::new();
    for listed in statuses {
        if let Some(ObjectKey::DropStatus { identity, .. }) = listed.key {
            let identity = Identity(identity);
            settled.insert(identity);
            let (changed_ms, name) = (listed.modified_ms, identity.to_string());
            candidates.push(Candidate { changed_ms, name, kind: Kind::Settled(identity) });
        }
    }
    for name in begun {
        let Some(identity) = Identity::parse(&name) else { continue };
        if !settled.contains(&identity) {
            // What is under way comes first, whenever it began: a listing of folders tells no time.
            candidates.push(Candidate { changed_ms: i64::MAX, name, kind: Kind::Begun(identity) });
        }
    }
    for listed in store.list(&KeyPrefix::Dropped(source.clone())).await? {
        if let Some(ObjectKey::Dropped { path, .. }) = listed.key
            && is_ignored(&path).is_none()
        {
            let (changed_ms, name) = (listed.modified_ms, path.as_str().to_owned());
            candidates.push(Candidate { changed_ms, name, kind: Kind::File(path) });
        }
    }
    Ok((candidates, settled))
}

async fn entry(
    store: &Store,
    source: &DataSourceId,
    settled: &BTreeSet<Identity>,
    candidate: &Candidate,
) -> Result<Option<DropEntry>, DropError> {
    let owner = || source.clone();
    match &candidate.kind {
        Kind::Settled(identity) => {
            let key = ObjectKey::DropStatus { source: owner(), identity: identity.0 };
            let status: Option<DropStatus> = records::load(store, &key).await?;
            Ok(status.map(|status| settled_entry(*identity, status)))
        }
        Kind::Begun(identity) => {
            let key = ObjectKey::DropPlan { source: owner(), identity: identity.0 };
            let plan: Option<Plan> = records::load(store, &key).await?;
            match plan {
                Some(plan) => running_entry(store, source, *identity, plan).await.map(Some),
                None => Ok(None),
            }
        }
        Kind::File(path) => {
            let key = ObjectKey::Dropped { source: owner(), path: path.clone() };
            let Some(version) = store.version(&key, None).await? else { return Ok(None) };
            let identity = Identity::of(&key.render(), &version);
            let plan = ObjectKey::DropPlan { source: owner(), identity: identity.0 };
            if settled.contains(&identity) || store.size(&plan).await?.is_some() {
                return Ok(None);
            }
            let path = path.as_str().to_owned();
            Ok(Some(DropEntry::new(path, DropState::Pending, version.bytes, version.modified_ms, identity)))
        }
    }
}

fn settled_entry(identity: Identity, status: DropStatus) -> DropEntry {
    let FileRecord { path, bytes, .. } = status.file;
    let mut entry = DropEntry::new(path, DropState::Refused, bytes, status.settled_ms, identity);
    match status.settled {
        Settled::Refused(report) => entry.report = Some(report),
        Settled::Committed { rows, sequences, version, .. } => {
            entry.state = DropState::Committed;
            (entry.rows, entry.rows_committed) = (Some(rows), rows);
            (entry.sequences, entry.version) = (sequences, Some(version));
        }
    }
    entry
}

async fn running_entry(
    store: &Store,
    source: &DataSourceId,
    identity: Identity,
    plan: Plan,
) -> Result<DropEntry, DropError> {
    let FileRecord { path, bytes, .. } = plan.file;
    let mut entry = DropEntry::new(path, DropState::Running, bytes, plan.planned_ms, identity);
    match plan.verdict {
        Verdict::Refuse(report) => entry.report = Some(report),
        Verdict::Commit(commit) => {
            entry.rows = Some(commit.rows());
            for number in records::committed(store, source, identity).await? {
                let key = ObjectKey::DropChunk { source: source.clone(), identity: identity.0, number };
                let Some(record) = records::load::<ChunkRecord>(store, &key).await? else { continue };
                let chunk = commit.chunks.get(number as usize);
                entry.rows_committed += chunk.map_or(0, |chunk| u64::from(chunk.rows));
                entry.sequences.push(record.token.sequence(0));
            }
        }
    }
    Ok(entry)
}
