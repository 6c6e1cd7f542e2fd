//! Verifies one data source: timeline, checkpoints, and the newest checkpoint against the fold.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::UInt64Type;
use futures::{StreamExt, TryStreamExt};
use tarn_model::{Checkpoint, DataSource, ObjectKey, ReadToken};
use tarn_store::latest_source_boundary;
use tarn_timeline::{decode_delta, unpack_version};

use super::{Digest, Findings, Sound};
use crate::checkpoint::{data_key, file_rows, load_files};
use crate::context::blocking;
use crate::error::CompactError;
use crate::fold::{DeltaSpool, Winners, newest_writes, winning_rows, writes_schema};

/// The checkpoints of a data source that are sound.
pub(super) async fn verify(
    findings: &mut Findings,
    source: Arc<DataSource>,
    listed: &BTreeMap<String, ObjectKey>,
) -> Result<Vec<Sound>, CompactError> {
    let boundary = latest_source_boundary(&findings.context.store, &source.id, None).await;
    let name = source.id.to_string();
    let Some(boundary) = findings.take(&name, boundary.map_err(Into::into))? else { return Ok(Vec::new()) };
    let collected = boundary.as_ref().map_or(0, |boundary| boundary.timeline.sequence(0));
    let collected_generation = boundary.as_ref().map_or(0, |boundary| boundary.generation);

    let whole = verify_timeline(findings, &source, collected, listed).await?;
    let mut generations: Vec<u64> = listed
        .values()
        .filter_map(|key| match key {
            ObjectKey::Checkpoint { source: id, generation } if *id == source.id => Some(*generation),
            _ => None,
        })
        .filter(|generation| *generation > collected_generation)
        .collect();
    generations.sort_unstable();
    let mut sound = Vec::new();
    for &generation in &generations {
        sound.extend(verify_checkpoint(findings, &source, generation).await?);
    }
    match sound.last() {
        Some(newest) if generations.last() == Some(&newest.checkpoint.generation) => {
            verify_newest(findings, newest, collected, whole).await?;
        }
        _ => {}
    }
    Ok(sound)
}

/// `timeline-is-gapless` above the boundary, and each delta whole; the last sequence up to which that holds.
async fn verify_timeline(
    findings: &mut Findings,
    source: &Arc<DataSource>,
    collected: u64,
    listed: &BTreeMap<String, ObjectKey>,
) -> Result<u64, CompactError> {
    let mut sequences: Vec<u64> = listed
        .values()
        .filter_map(|key| match key {
            ObjectKey::Delta { source: id, sequence, .. } if *id == source.id => Some(*sequence),
            _ => None,
        })
        .filter(|sequence| *sequence > collected)
        .collect();
    sequences.sort_unstable();
    let (mut expected, mut whole) = (collected + 1, collected);
    let mut sound = true;
    for sequence in sequences {
        let key = ObjectKey::Delta { source: source.id.clone(), lane: 0, sequence };
        let name = key.render();
        if sequence != expected {
            findings.problem(&name, format!("timeline-is-gapless: sequence {expected} is missing before {sequence}"));
            sound = false;
        }
        expected = sequence + 1;
        let Some(bytes) = findings.context.store.get(&key).await? else {
            // Collected since the listing, or damaged: the boundary tells.
            let boundary = latest_source_boundary(&findings.context.store, &source.id, None).await?;
            if boundary.is_none_or(|boundary| boundary.timeline.sequence(0) < sequence) {
                findings.problem(&name, "missing, though it was listed");
            }
            sound = false;
            continue;
        };
        findings.count(bytes.len() as u64);
        let (of, object) = (Arc::clone(source), name.clone());
        let decoded = blocking(move || Ok(decode_delta(&object, &of, 0, sequence, &bytes)?)).await;
        sound &= findings.take(&name, decoded)?.is_some();
        if sound {
            whole = sequence;
        }
    }
    Ok(whole)
}

async fn verify_checkpoint(
    findings: &mut Findings,
    source: &Arc<DataSource>,
    generation: u64,
) -> Result<Option<Sound>, CompactError> {
    let context = Arc::clone(&findings.context);
    let key = ObjectKey::Checkpoint { source: source.id.clone(), generation };
    let name = key.render();
    let Some(bytes) = context.store.get(&key).await? else {
        return Ok(None);
    };
    findings.count(bytes.len() as u64);
    let parsed = Checkpoint::parse(&name, &bytes, &source.id, generation).map_err(Into::into);
    let Some(checkpoint) = findings.take(&name, parsed)? else { return Ok(None) };
    let mut sound = true;
    for file in &checkpoint.files {
        for object in std::iter::once(&file.data).chain(&file.deleted) {
            sound &= findings.data(&data_key(&source.id)(object.id), object).await?;
        }
    }
    if !sound {
        return Ok(None);
    }
    let files = load_files(&context, &checkpoint).await;
    let Some(files) = findings.take(&name, files)? else { return Ok(None) };
    Ok(Some(Sound { checkpoint, files, source: Arc::clone(source) }))
}

/// `live-in-one-place`, `rows-add-up` and `checkpoint-equals-fold`.
async fn verify_newest(
    findings: &mut Findings,
    newest: &Sound,
    collected: u64,
    whole: u64,
) -> Result<(), CompactError> {
    let name = newest.checkpoint.key().render();
    let checked = check_newest(findings, newest, collected, whole).await;
    findings.take(&name, checked)?;
    Ok(())
}

async fn check_newest(findings: &mut Findings, newest: &Sound, collected: u64, whole: u64) -> Result<(), CompactError> {
    let context = Arc::clone(&findings.context);
    let (checkpoint, source) = (&newest.checkpoint, &newest.source);
    let name = checkpoint.key().render();

    // Each point once: as many distinct keys as rows.
    let mut keys = Vec::new();
    for file in &newest.files {
        let rows = file_rows(&context, source, file).await?;
        keys.push(rows.and_then(|batch| std::future::ready(key_columns(&batch))).boxed());
    }
    let spill = context.scratch()?;
    let all = futures::stream::iter(keys).flatten().boxed();
    let mut distinct = newest_writes(&context.settings, spill.path(), all).await?;
    let mut points = 0;
    while let Some(batch) = distinct.next().await {
        points += batch?.len() as u64;
    }
    if points != checkpoint.rows {
        findings.problem(&name, format!("live-in-one-place: {} live rows of {points} points", checkpoint.rows));
    }
    findings.report.rows += checkpoint.rows;

    // Of the deltas that still exist, the live rows are exactly the winners of their fold.
    let up_to = checkpoint.watermark.sequence(0);
    if whole < up_to {
        // Said already of the timeline.
        return Ok(());
    }
    let (after, watermark) = (ReadToken::single(collected.min(up_to)), checkpoint.watermark.clone());
    let spool = DeltaSpool::new(&context, source, &name, &after, &watermark)?;
    let mut writes = newest_writes(&context.settings, spill.path(), spool.writes(u64::MAX)).await?;
    let mut winners = Winners::default();
    while let Some(batch) = writes.next().await {
        let batch = batch?;
        for rank in (0..batch.len()).map(|i| batch.rank(i)).filter(|rank| !rank.is_tombstone()) {
            winners.insert(rank);
        }
    }
    let mut expected = Digest::default();
    let mut rows = winning_rows(&spool, winners);
    while let Some(batch) = rows.next().await {
        expected.add_batch(source, &batch?, true, |_, _| true);
    }
    let mut found = Digest::default();
    for file in &newest.files {
        let mut rows = file_rows(&context, source, file).await?;
        while let Some(batch) = rows.next().await {
            found.add_batch(source, &batch?, true, |_, version| unpack_version(version).0 > collected);
        }
    }
    if expected != found {
        findings.problem(
            &name,
            format!(
                "checkpoint-equals-fold: of the deltas after {collected} it holds {} rows, their fold holds {}; or \
                 some of these rows differ",
                found.rows, expected.rows
            ),
        );
    }
    Ok(())
}

/// Keys with versions, as writes to fold.
fn key_columns(batch: &RecordBatch) -> Result<RecordBatch, CompactError> {
    let versions = batch.column(1).as_primitive_opt::<UInt64Type>();
    let versions: UInt64Array = match versions {
        Some(versions) => versions.clone(),
        None => return Err(CompactError::engine("verifying", "a checkpoint file without versions")),
    };
    RecordBatch::try_new(writes_schema(), vec![Arc::clone(batch.column(0)), Arc::new(versions)])
        .map_err(|error| CompactError::engine("verifying", error))
}
