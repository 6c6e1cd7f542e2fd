//! Verifies one index: manifests, catalogs, segments, and the newest manifest against the checkpoint at its watermark.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use tarn_model::{Corrupt, DataSource, Hint, Index, Manifest, ObjectKey};
use tarn_segment::{CatalogSegment, Segment};
use tarn_store::{latest_index_boundary, load_source};
use tarn_timeline::row_attributes;

use super::{Digest, Findings, Sound};
use crate::build::{Placement, catalog_key, check_rows, load_catalog, segment_key};
use crate::checkpoint::file_rows;
use crate::context::blocking;
use crate::error::CompactError;

pub(super) async fn verify(
    findings: &mut Findings,
    index: Arc<Index>,
    checkpoints: &[Sound],
    listed: &BTreeMap<String, ObjectKey>,
) -> Result<(), CompactError> {
    let name = index.id.to_string();
    let Some(source) = load_source(&findings.context.store, &index.data_source).await? else {
        findings.problem(&name, format!("its data source, {}, does not exist", index.data_source));
        return Ok(());
    };
    let boundary = latest_index_boundary(&findings.context.store, &index.id, None).await.map_err(Into::into);
    let Some(boundary) = findings.take(&name, boundary)? else { return Ok(()) };
    let collected = boundary.map_or(0, |boundary| boundary.generation);
    let mut generations: Vec<u64> = listed
        .values()
        .filter_map(|key| match key {
            ObjectKey::Manifest { index: id, generation } if *id == index.id => Some(*generation),
            _ => None,
        })
        .filter(|generation| *generation > collected)
        .collect();
    generations.sort_unstable();
    let newest = generations.last().copied();
    let mut newest_manifest = None;
    let placement = Arc::new(Placement::new(&source, &index));
    for generation in generations {
        let of = IndexOf { index: &index, source: &source, placement: &placement };
        let Some((manifest, segments)) = of.objects(findings, generation).await? else { continue };
        if Some(generation) == newest {
            of.content(findings, &manifest, segments, checkpoints).await?;
            newest_manifest = Some(manifest);
        }
    }
    if listed.contains_key(&ObjectKey::Hint(index.id.clone()).render()) {
        hint(findings, &index, &source, newest_manifest.as_ref()).await?;
    }
    Ok(())
}

/// A hint that is stale is no fault; one that cannot be read is, and one that is no copy of what it says. `newest`: the newest
/// manifest, when it is sound.
async fn hint(
    findings: &mut Findings,
    index: &Index,
    source: &DataSource,
    newest: Option<&Manifest>,
) -> Result<(), CompactError> {
    let key = ObjectKey::Hint(index.id.clone());
    let name = key.render();
    let Some(bytes) = findings.context.store.get(&key).await? else { return Ok(()) };
    findings.count(bytes.len() as u64);
    let parsed = Hint::parse(&name, &bytes, &index.id).map_err(Into::into);
    let Some(hint) = findings.take(&name, parsed)? else { return Ok(()) };
    if hint.data_source != *source {
        findings.problem(&name, format!("hints-agree-with-manifests: its definition of {} is another", source.id));
    }
    if newest.is_some_and(|newest| newest.generation == hint.manifest.generation && *newest != hint.manifest) {
        let generation = hint.manifest.generation;
        findings
            .problem(&name, format!("hints-agree-with-manifests: its manifest of generation {generation} is another"));
    }
    Ok(())
}

struct IndexOf<'a> {
    index: &'a Arc<Index>,
    source: &'a Arc<DataSource>,
    placement: &'a Arc<Placement>,
}

/// The segments of a manifest, by the position of their shard.
type Segments = Vec<(usize, CatalogSegment)>;

impl IndexOf<'_> {
    /// Reads everything that a manifest names; `None` when something is wrong with any of it.
    async fn objects(
        &self,
        findings: &mut Findings,
        generation: u64,
    ) -> Result<Option<(Manifest, Segments)>, CompactError> {
        let context = Arc::clone(&findings.context);
        let id = &self.index.id;
        let key = ObjectKey::Manifest { index: id.clone(), generation };
        let name = key.render();
        let Some(bytes) = context.store.get(&key).await? else { return Ok(None) };
        findings.count(bytes.len() as u64);
        let parsed = Manifest::parse(&name, &bytes, id, generation).map_err(Into::into);
        let Some(manifest) = findings.take(&name, parsed)? else { return Ok(None) };
        let shards: Vec<&String> = manifest.shards.iter().map(|entry| &entry.shard).collect();
        if !shards.iter().copied().eq(self.placement.shards()) {
            findings
                .problem(&name, format!("its shards are {shards:?}, the definition's {:?}", self.placement.shards()));
            return Ok(None);
        }
        let (mut sound, mut segments) = (true, Vec::new());
        for (shard, entry) in manifest.shards.iter().enumerate() {
            let Some(object) = &entry.catalog else { continue };
            sound &= findings.data(&catalog_key(id)(object.id), object).await?;
            let catalog = load_catalog(&context, id, entry).await;
            let Some(catalog) = findings.take(&name, catalog)? else {
                sound = false;
                continue;
            };
            for segment in catalog.into_iter().flat_map(|catalog| catalog.segments) {
                sound &= findings.data(&segment_key(id)(segment.object.id), &segment.object).await?;
                segments.push((shard, segment));
            }
        }
        Ok(sound.then_some((manifest, segments)))
    }

    /// `index-equals-checkpoint`.
    async fn content(
        &self,
        findings: &mut Findings,
        manifest: &Manifest,
        segments: Segments,
        checkpoints: &[Sound],
    ) -> Result<(), CompactError> {
        let name = manifest.key().render();
        let mut found = Digest::default();
        for (shard, segment) in segments {
            let digest = self.segment(findings, shard, segment, found).await;
            match findings.take(&name, digest)? {
                Some(digest) => found = digest,
                None => return Ok(()),
            }
        }
        findings.report.rows += found.rows;
        if found.rows != manifest.rows {
            findings.problem(&name, format!("rows-add-up: it says {} rows and has {}", manifest.rows, found.rows));
        }
        // A checkpoint of the same watermark may be collected before the manifest that was built from it.
        let Some(base) = checkpoints.iter().rev().find(|sound| sound.checkpoint.watermark == manifest.watermark) else {
            return Ok(());
        };
        let counts = check_rows(self.index, &base.checkpoint, manifest).map_err(Into::into);
        if findings.take(&name, counts)?.is_none() {
            return Ok(());
        }
        let expected = self.checkpoint(findings, base).await;
        let Some(expected) = findings.take(&name, expected)? else { return Ok(()) };
        if expected != found {
            findings.problem(
                &name,
                format!(
                    "index-equals-checkpoint: it holds {} rows, the checkpoint at {} holds {} for it; or some rows differ",
                    found.rows, base.checkpoint.watermark, expected.rows
                ),
            );
        }
        Ok(())
    }

    /// Adds the live rows of a segment; checks that each is where it belongs.
    async fn segment(
        &self,
        findings: &Findings,
        shard: usize,
        segment: CatalogSegment,
        mut digest: Digest,
    ) -> Result<Digest, CompactError> {
        let key = segment_key(&self.index.id)(segment.object.id);
        let local = findings.context.fetch_unverified(&key, &segment.object).await?;
        let (source, placement) = (Arc::clone(self.source), Arc::clone(self.placement));
        blocking(move || {
            let open = Segment::open(local.path(), Some(&segment.object))?;
            let corrupt = |expected: String, found: String| {
                let (object, part) = (key.render(), "index-equals-checkpoint".to_owned());
                CompactError::from(Corrupt { object, part, expected, found })
            };
            if open.rows() != segment.rows || open.kind() != segment.kind {
                let expected = format!("{} rows, {:?}, as its catalog says", segment.rows, segment.kind);
                return Err(corrupt(expected, format!("{} rows, {:?}", open.rows(), open.kind())));
            }
            for split in &segment.splits {
                for row in split.rows.clone().filter(|row| !segment.deleted.contains(*row)) {
                    let point = open.key(row);
                    let place = placement.place(point)?;
                    if place.is_none_or(|place| place.shard != shard || place.split != split.key) {
                        return Err(corrupt(format!("row {row} in the shard and split of its key"), "another".into()));
                    }
                    if open.find_key(point) != Some(row) {
                        return Err(corrupt(format!("row {row} to be found by its key"), "another row".into()));
                    }
                    let attributes = row_attributes(open.attributes(), &source, row as usize);
                    digest.add(0, point, &attributes, Some(&open.vector(row)));
                }
            }
            if let Some(counted) = &segment.statistics {
                let live = (0..segment.rows).filter(|row| !segment.deleted.contains(*row));
                let found = open.statistics(live, counted.reference())?;
                if !counted.agrees(&found) {
                    let (expected, found) = (counted.distances(), found.distances());
                    let (object, part) = (key.render(), "statistics-count-live-rows".to_owned());
                    let (expected, found) = (format!("{expected:?}, as its catalog says"), format!("{found:?}"));
                    return Err(Corrupt { object, part, expected, found }.into());
                }
            }
            Ok(digest)
        })
        .await
    }

    /// The rows of a checkpoint that the index takes.
    async fn checkpoint(&self, findings: &Findings, base: &Sound) -> Result<Digest, CompactError> {
        let mut digest = Digest::default();
        for file in &base.files {
            let mut rows = file_rows(&findings.context, self.source, file).await?;
            while let Some(batch) = rows.next().await {
                let batch = batch?;
                let (placement, source) = (Arc::clone(self.placement), Arc::clone(self.source));
                digest = blocking(move || {
                    let mut fault = None;
                    digest.add_batch(&source, &batch, false, |key, _| match placement.place(key) {
                        Ok(place) => place.is_some(),
                        Err(corrupt) => {
                            fault = Some(corrupt);
                            false
                        }
                    });
                    fault.map_or(Ok(digest), |corrupt| Err(corrupt.into()))
                })
                .await?;
            }
        }
        Ok(digest)
    }
}
