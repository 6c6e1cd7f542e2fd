//! The JSON roots: manifests with their catalogs, and checkpoints.

use std::fmt::Write as _;

use serde::Serialize;
use tarn_model::{Checkpoint, DataSourceId, Hint, IndexId, KeyPrefix, Manifest, ObjectKey};
use tarn_segment::{Catalog, SegmentKind};
use tarn_store::Store;

use crate::args::path_of;
use crate::context::{self, Context, Opening};
use crate::error::CliError;
use crate::output::{Cell, NAME, Report, Table, bytes, count, fields, instant};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestReport {
    object: String,
    manifest: Manifest,
    /// What the hint beside the manifests is to this one.
    hint: HintState,
    segments: Vec<SegmentRow>,
}

/// What a reader makes of the hint of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum HintState {
    /// A copy of this manifest.
    Copy,
    /// A copy of this manifest without its catalogs, which are too large.
    CopyWithoutCatalogs,
    /// None, or of another manifest: searches that start with nothing ask for more, and take longer.
    Absent,
    /// It cannot be read, and counts as absent.
    Damaged,
}

impl HintState {
    async fn of(store: &Store, manifest: &Manifest) -> Result<Self, CliError> {
        let key = ObjectKey::Hint(manifest.index.clone());
        let Some(bytes) = store.get(&key).await? else { return Ok(Self::Absent) };
        let e_tag = store.version(&manifest.key(), None).await?.and_then(|version| version.e_tag);
        Ok(match Hint::parse(&key.render(), &bytes, &manifest.index) {
            Err(_) => Self::Damaged,
            Ok(hint) if !hint.is_of(&manifest.key(), e_tag.as_deref()) => Self::Absent,
            Ok(hint) if hint.catalogs.is_empty() && manifest.shards.iter().any(|shard| shard.catalog.is_some()) => {
                Self::CopyWithoutCatalogs
            }
            Ok(_) => Self::Copy,
        })
    }

    fn text(self) -> &'static str {
        match self {
            Self::Copy => "of this manifest",
            Self::CopyWithoutCatalogs => "of this manifest, without its catalogs",
            Self::Absent => "none of this manifest",
            Self::Damaged => "damaged; the next build or gc writes it anew",
        }
    }
}

/// A segment as its shard's catalog names it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SegmentRow {
    shard: String,
    id: String,
    kind: String,
    rows: u64,
    deleted: u64,
    splits: u64,
    bytes: u64,
    /// Bytes at the end of the file that tell what to read of it; 0 when it is read whole.
    outline: u64,
}

impl Report for ManifestReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        let manifest = &self.manifest;
        let path = path_of(&manifest.index.name, &manifest.index.version);
        writeln!(out, "manifest {} of index {NAME}{path}{NAME:#}\n", manifest.generation)?;
        fields(
            out,
            &[
                ("object", self.object.clone()),
                ("watermark", manifest.watermark.to_string()),
                ("published", instant(manifest.created_ms)),
                ("commit", manifest.commit_id.to_string()),
                ("points", count(manifest.rows)),
                ("hint", self.hint.text().to_owned()),
            ],
        )?;
        writeln!(out)?;
        let mut table = Table::new(["SHARD", "SEGMENT", "KIND", ">ROWS", ">DELETED", ">SPLITS", ">SIZE", ">OUTLINE"]);
        for segment in &self.segments {
            table.row([
                Cell::from(&segment.shard),
                Cell::styled(&segment.id, NAME),
                (&segment.kind).into(),
                count(segment.rows).into(),
                count(segment.deleted).into(),
                count(segment.splits).into(),
                bytes(segment.bytes).into(),
                match segment.outline {
                    0 => "–".into(),
                    outline => bytes(outline).into(),
                },
            ]);
        }
        table.write(out)
    }
}

pub(super) async fn manifest(context: &Context, id: &IndexId, generation: Option<u64>) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    context::index(&store, id).await?;
    let manifest = match generation {
        None => tarn_store::latest_manifest(&store, id, None).await?,
        Some(generation) => {
            let key = ObjectKey::Manifest { index: id.clone(), generation };
            let found = store.get(&key).await?;
            found.map(|found| Manifest::parse(&key.render(), &found, id, generation)).transpose()?
        }
    };
    let manifest = manifest.ok_or_else(|| no_generation("manifest", generation))?;
    let mut segments = Vec::new();
    for shard in &manifest.shards {
        let Some(object) = &shard.catalog else { continue };
        let key = ObjectKey::Catalog { index: id.clone(), id: object.id };
        let found = need(&store, &key).await?;
        let catalog = Catalog::decode(&key.render(), &found)?;
        segments.extend(catalog.segments.iter().map(|segment| SegmentRow {
            shard: shard.shard.clone(),
            id: segment.object.id.to_string(),
            kind: kind_name(segment.kind).to_owned(),
            rows: segment.rows.into(),
            deleted: segment.deleted.len(),
            splits: segment.splits.len() as u64,
            bytes: segment.object.bytes,
            outline: segment.outline,
        }));
    }
    let object = ObjectKey::Manifest { index: id.clone(), generation: manifest.generation }.render();
    let hint = HintState::of(&store, &manifest).await?;
    context.out.show(&ManifestReport { object, manifest, hint, segments })
}

/// What the engine calls a kind of segment.
pub(super) fn kind_name(kind: SegmentKind) -> &'static str {
    match kind {
        SegmentKind::Flat => "flat",
        SegmentKind::Graph => "graph",
        SegmentKind::Cells => "cells",
        SegmentKind::Sparse => "sparse",
    }
}

fn no_generation(what: &str, generation: Option<u64>) -> CliError {
    match generation {
        None => CliError::new(format!("there is no {what} yet")).hint("`tarn build` makes one"),
        Some(generation) => CliError::new(format!("there is no {what} of generation {generation}"))
            .hint("garbage collection keeps the newest generations alone"),
    }
}

/// An object that a root names.
pub(super) async fn need(store: &Store, key: &ObjectKey) -> Result<bytes::Bytes, CliError> {
    let found = store.get(key).await?;
    found.ok_or_else(|| {
        CliError::new(format!("{} is missing", key.render())).hint("`tarn verify` checks the whole store")
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckpointReport {
    object: String,
    checkpoint: Checkpoint,
    /// All checkpoints that are kept, newest first.
    generations: Vec<u64>,
}

impl Report for CheckpointReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        let checkpoint = &self.checkpoint;
        let path = path_of(&checkpoint.source.name, &checkpoint.source.version);
        writeln!(out, "checkpoint {} of data source {NAME}{path}{NAME:#}\n", checkpoint.generation)?;
        let kept: Vec<String> = self.generations.iter().map(u64::to_string).collect();
        fields(
            out,
            &[
                ("object", self.object.clone()),
                ("watermark", checkpoint.watermark.to_string()),
                ("written", instant(checkpoint.created_ms)),
                ("commit", checkpoint.commit_id.to_string()),
                ("points", count(checkpoint.rows)),
                ("kept generations", kept.join(", ")),
            ],
        )?;
        writeln!(out)?;
        let mut table = Table::new(["DATA FILE", ">ROWS", ">DELETED", ">SIZE"]);
        for file in &checkpoint.files {
            table.row([
                Cell::styled(format!("checkpoint-data/{}.parquet", file.data.id), NAME),
                count(file.rows).into(),
                count(file.deleted_rows).into(),
                bytes(file.data.bytes).into(),
            ]);
        }
        table.write(out)
    }
}

pub(super) async fn checkpoint(context: &Context, id: &DataSourceId, generation: Option<u64>) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    context::source(&store, id).await?;
    let checkpoint = match generation {
        None => tarn_store::latest_checkpoint(&store, id, None).await?,
        Some(generation) => {
            let key = ObjectKey::Checkpoint { source: id.clone(), generation };
            let found = store.get(&key).await?;
            found.map(|found| Checkpoint::parse(&key.render(), &found, id, generation)).transpose()?
        }
    };
    let checkpoint = checkpoint.ok_or_else(|| no_generation("checkpoint", generation))?;
    let listed = store.list(&KeyPrefix::Checkpoints(id.clone())).await?;
    let generations = listed.into_iter().filter_map(|listed| match listed.key {
        Some(ObjectKey::Checkpoint { generation, .. }) => Some(generation),
        _ => None,
    });
    let object = ObjectKey::Checkpoint { source: id.clone(), generation: checkpoint.generation }.render();
    context.out.show(&CheckpointReport { object, checkpoint, generations: generations.collect() })
}
