//! `tarn index create|list|describe|delete`; the others below.

mod points;
mod upkeep;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json, json};
use tarn_model::{
    Attributes, DataSource, Filter, HnswParams, Index, IndexAlgorithm, IndexId, Manifest, Metric, Shard, ShardCondition,
};
use tarn_search::{Engine, EngineSettings, IndexDescription, SegmentDescription, ShardDescription, SplitDescription};
use tarn_store::{Defined, Store};

use super::source::{CreatedReport, DeletedReport, join};
use crate::args::{IndexCommand, IndexCreateArgs, MetricArg, OnlyArgs, path_of};
use crate::context::{self, Context, Opening};
use crate::error::CliError;
use crate::output::{Cell, GOOD, NAME, Report, Table, WARN, ago, bytes, count, counted, fields, values_text};
use crate::value::{parse_attributes, parse_filter, value_json};

pub(super) async fn run(context: &Context, command: IndexCommand) -> Result<ExitCode, CliError> {
    match command {
        IndexCommand::Create(args) => create(context, args).await,
        IndexCommand::List => list(context).await,
        IndexCommand::Describe { index, splits } => describe(context, &index.index(), splits).await,
        IndexCommand::Statistics(args) => points::statistics(context, args).await,
        IndexCommand::Sample(args) => points::sample(context, args).await,
        IndexCommand::Recall(args) => upkeep::recall(context, args).await,
        IndexCommand::Export(args) => points::export(context, args).await,
        IndexCommand::Warm(args) => upkeep::warm(context, args).await,
        IndexCommand::DeletePoints(args) => upkeep::delete_points(context, args).await,
        IndexCommand::Delete { index } => delete(context, &index.index()).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Which points of an index the arguments mean, and its data source.
async fn only(
    store: &Store,
    id: &IndexId,
    args: &OnlyArgs,
) -> Result<(Attributes, Option<Filter>, Arc<DataSource>), CliError> {
    let index = context::index(store, id).await?;
    let source = context::source(store, &index.data_source).await?;
    let (split, filter) = (parse_attributes(&source, &args.split)?, parse_filter(&source, args.filter.as_deref())?);
    Ok((split, filter, source))
}

async fn create(context: &Context, args: IndexCreateArgs) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    let source = context::source(&store, &args.source.source()).await?;
    let index = definition(args)?;
    index.validate(&source)?;
    let created = define(&store, &index).await?;
    let IndexId { name, version } = index.id;
    context.out.show(&CreatedReport { what: "index", name, version, created })
}

/// The index that the arguments describe; not validated yet.
fn definition(args: IndexCreateArgs) -> Result<Index, CliError> {
    let metric = match args.metric {
        MetricArg::Cosine => Metric::Cosine,
        MetricArg::L2 => Metric::L2,
        MetricArg::Ip => Metric::InnerProduct,
        MetricArg::SparseCosine => Metric::SparseCosine,
        MetricArg::SparseJaccard => Metric::SparseJaccard,
    };
    let hnsw = match args.hnsw.as_deref() {
        None => None,
        Some(&[m, ef_construction, ef_search]) => Some(HnswParams { m, ef_construction, ef_search }),
        Some(_) => {
            return Err(CliError::new("--hnsw takes three numbers: M,EF_CONSTRUCTION,EF_SEARCH")
                .hint("a good start is --hnsw 16,128,64"));
        }
    };
    // The wire form states the rules of algorithms; going through it applies them.
    let unchecked = IndexAlgorithm { metric, hnsw };
    let algorithm = IndexAlgorithm::from_wire(metric.algorithm_type(), &unchecked.wire_params())?;
    let shards = match (args.shard_by, args.shards) {
        (Some(key), Some(number_of_shards)) => hash_shards(&key, number_of_shards)?,
        _ => BTreeMap::from([("0".to_owned(), Shard::default())]),
    };
    Ok(Index {
        id: args.index.index(),
        data_source: args.source.source(),
        algorithm,
        id_attributes: args.id.into_iter().collect(),
        split_attributes: args.split.into_iter().collect(),
        shards,
    })
}

fn hash_shards(key: &str, number_of_shards: u32) -> Result<BTreeMap<String, Shard>, CliError> {
    let most = tarn_model::limits::SHARDS;
    if usize::try_from(number_of_shards).map_or(true, |n| n > most) {
        return Err(CliError::new(format!("{number_of_shards} shards are too many; at most {most} are allowed")));
    }
    let width = (number_of_shards - 1).to_string().len();
    let shard = |residue: u32| {
        let condition = ShardCondition::Hash { number_of_shards, residues: [residue].into() };
        (format!("{residue:0width$}"), Shard { conditions: BTreeMap::from([(key.to_owned(), condition)]) })
    };
    Ok((0..number_of_shards).map(shard).collect())
}

/// Creates the index; false when it exists with the same definition.
///
/// # Errors
/// It exists with another definition.
pub(super) async fn define(store: &Store, index: &Index) -> Result<bool, CliError> {
    match tarn_store::create_index(store, index).await? {
        Defined::Created => Ok(true),
        Defined::Same => Ok(false),
        _ => Err(CliError::new(format!("Index {} exists with another definition", index.id))
            .hint("definitions never change; create a new version")),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListReport {
    indices: Vec<Listed>,
    #[serde(skip)]
    now_ms: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    definition: Arc<Index>,
    /// The newest manifest; null when the index was never built.
    manifest: Option<Manifest>,
}

impl Report for ListReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        if self.indices.is_empty() {
            return writeln!(out, "no indices; create one with {NAME}tarn index create{NAME:#}");
        }
        let mut table = Table::new(["INDEX", "DATA SOURCE", "ALGORITHM", "SPLIT BY", ">POINTS", ">SIZE", "BUILT"]);
        for Listed { definition, manifest } in &self.indices {
            let size = |manifest: &Manifest| manifest.shards.iter().map(|shard| shard.segment_bytes).sum();
            table.row([
                Cell::styled(path_of(&definition.id.name, &definition.id.version), NAME),
                path_of(&definition.data_source.name, &definition.data_source.version).into(),
                algorithm_text(&definition.algorithm).into(),
                join(&definition.split_attributes).into(),
                manifest.as_ref().map_or_else(|| "–".to_owned(), |manifest| count(manifest.rows)).into(),
                manifest.as_ref().map_or_else(|| "–".to_owned(), |manifest| bytes(size(manifest))).into(),
                match manifest {
                    None => Cell::styled("never", WARN),
                    Some(manifest) => ago(manifest.created_ms, self.now_ms).into(),
                },
            ]);
        }
        table.write(out)
    }
}

pub(super) fn algorithm_text(algorithm: &IndexAlgorithm) -> String {
    let kind = algorithm.metric.algorithm_type();
    match algorithm.hnsw {
        None => format!("{kind}, exact"),
        Some(HnswParams { m, ef_construction, ef_search }) => format!("{kind}, HNSW {m}/{ef_construction}/{ef_search}"),
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    let mut indices = Vec::new();
    for definition in tarn_store::list_indices(&store).await? {
        let manifest = tarn_store::latest_manifest(&store, &definition.id, None).await?;
        indices.push(Listed { definition, manifest });
    }
    context.out.show(&ListReport { indices, now_ms: store.clock().now_ms() })
}

#[derive(Debug)]
struct DescribeReport {
    description: IndexDescription,
    now_ms: i64,
}

impl Serialize for DescribeReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let d = &self.description;
        let segment = |segment: &SegmentDescription| {
            json!({
                "id": segment.id, "kind": segment.kind, "rows": segment.rows, "deleted": segment.deleted, "bytes": segment.bytes,
            })
        };
        let shard = |shard: &ShardDescription| {
            json!({
                "shard": shard.shard, "points": shard.points, "splits": shard.splits, "segmentBytes": shard.segment_bytes,
                "segments": shard.segments.iter().map(segment).collect::<Vec<_>>(),
            })
        };
        let split = |split: &SplitDescription| {
            let attributes: Map<String, Json> =
                split.attributes.iter().map(|(key, value)| (key.clone(), value_json(value))).collect();
            json!({ "shard": split.shard, "attributes": attributes, "points": split.points, "bytes": split.bytes })
        };
        json!({
            "definition": d.index,
            "generation": d.generation,
            "publishedMs": d.published_ms,
            "watermark": d.watermark,
            "head": d.head,
            "lagDeltas": d.lag_deltas,
            "lagMs": d.lag_ms,
            "points": d.points,
            "segmentBytes": d.segment_bytes,
            "shards": d.shards.iter().map(shard).collect::<Vec<_>>(),
            "splits": d.splits.iter().map(split).collect::<Vec<_>>(),
            "splitsTotal": d.splits_total,
        })
        .serialize(serializer)
    }
}

impl Report for DescribeReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        let d = &self.description;
        let index = &d.index;
        writeln!(out, "index {NAME}{}{NAME:#}\n", path_of(&index.id.name, &index.id.version))?;
        let built = match d.published_ms {
            None => "never; searches scan the timeline".to_owned(),
            Some(ms) => format!("generation {}, up to delta {}, {}", d.generation, d.watermark, ago(ms, self.now_ms)),
        };
        let fresh = if d.lag_deltas == 0 {
            format!("{GOOD}up to date{GOOD:#}")
        } else {
            format!("{WARN}{} behind{WARN:#}; searches scan them too", counted(d.lag_deltas, "delta", "deltas"))
        };
        fields(
            out,
            &[
                ("data source", path_of(&index.data_source.name, &index.data_source.version)),
                ("algorithm", algorithm_text(&index.algorithm)),
                ("id", join(&index.id_attributes)),
                (
                    "split by",
                    if index.split_attributes.is_empty() { "–".to_owned() } else { join(&index.split_attributes) },
                ),
                ("points", count(d.points)),
                ("segments", bytes(d.segment_bytes)),
                ("built", built),
                ("freshness", fresh),
            ],
        )?;
        let mut table = Table::new(["SHARD", ">POINTS", ">SPLITS", "SEGMENT", "KIND", ">ROWS", ">DELETED", ">SIZE"]);
        for shard in &d.shards {
            let mut label = [shard.shard.clone(), count(shard.points), count(shard.splits)];
            for segment in &shard.segments {
                table.row([
                    Cell::from(&label[0]),
                    (&label[1]).into(),
                    (&label[2]).into(),
                    (&segment.id).into(),
                    (&segment.kind).into(),
                    count(segment.rows).into(),
                    count(segment.deleted).into(),
                    bytes(segment.bytes).into(),
                ]);
                label = Default::default();
            }
            if shard.segments.is_empty() {
                table.row(label.iter().map(Cell::from));
            }
        }
        if !table.is_empty() {
            writeln!(out)?;
            table.write(out)?;
        }
        if !index.split_attributes.is_empty() && !d.splits.is_empty() {
            let mut table = Table::new(["SPLIT", "SHARD", ">POINTS", ">SIZE"]);
            for split in &d.splits {
                table.row([
                    values_text(&split.attributes).into(),
                    (&split.shard).into(),
                    count(split.points).into(),
                    bytes(split.bytes).into(),
                ]);
            }
            writeln!(out)?;
            table.write(out)?;
            let more = d.splits_total.saturating_sub(d.splits.len() as u64);
            if more > 0 {
                writeln!(out, "  … and {} more; see --splits", count(more))?;
            }
        }
        Ok(())
    }
}

async fn describe(context: &Context, id: &IndexId, splits: usize) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    context::index(&store, id).await?;
    let now_ms = store.clock().now_ms();
    let engine = Engine::new(store, EngineSettings::default())?;
    let description = engine.describe(id, splits).await?;
    context.out.show(&DescribeReport { description, now_ms })
}

async fn delete(context: &Context, id: &IndexId) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    context::index(&store, id).await?;
    tarn_store::delete_index(&store, id).await?;
    let IndexId { name, version } = id.clone();
    context.out.show(&DeletedReport { what: "index", name, version })
}
