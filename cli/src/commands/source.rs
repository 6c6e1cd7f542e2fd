//! `tarn source create|list|describe|export|delete`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;
use tarn_model::{
    AttributeType, AutoCreate, Checkpoint, DataSource, DataSourceId, ReadToken, Retention, SourcePolicy, VectorKind,
};
use tarn_store::{Defined, Store};
use tarn_timeline::{LiveOptions, Timeline, live, version_of_generation};

use super::export::{self, Points};
use crate::args::{SourceCommand, SourceCreateArgs, SourceExportArgs, path_of};
use crate::context::{self, Context, Opening};
use crate::error::CliError;
use crate::output::{Cell, DIM, GOOD, NAME, Report, Table, ago, bytes, count, counted, fields};
use crate::value::{parse_filter, parse_type};

pub(super) async fn run(context: &Context, command: SourceCommand) -> Result<ExitCode, CliError> {
    match command {
        SourceCommand::Create(args) => create(context, args).await,
        SourceCommand::List => list(context).await,
        SourceCommand::Describe { source } => describe(context, &source.source()).await,
        SourceCommand::Export(args) => export(context, args).await,
        SourceCommand::Delete { source } => delete(context, &source.source()).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

/// What creating a definition came to, for data sources and indices.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreatedReport {
    #[serde(skip)]
    pub(super) what: &'static str,
    pub(super) name: String,
    pub(super) version: String,
    /// False when it was there already, the same.
    pub(super) created: bool,
}

impl Report for CreatedReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        let path = path_of(&self.name, &self.version);
        if self.created {
            writeln!(out, "{GOOD}created{GOOD:#} {} {NAME}{path}{NAME:#}", self.what)
        } else {
            writeln!(out, "{} {NAME}{path}{NAME:#} was there already, with the same definition", self.what)
        }
    }
}

async fn create(context: &Context, args: SourceCreateArgs) -> Result<(), CliError> {
    let source = definition(args)?;
    source.validate()?;
    let store = context.store(Opening::OrCreate)?;
    let created = define(&store, &source).await?;
    let DataSourceId { name, version } = source.id;
    context.out.show(&CreatedReport { what: "data source", name, version, created })
}

/// The data source that the arguments describe; not validated yet.
fn definition(args: SourceCreateArgs) -> Result<DataSource, CliError> {
    let mut attribute_types = BTreeMap::new();
    for text in &args.attributes {
        // A key may hold colons; a type never does.
        let (key, kind) = text.rsplit_once(':').ok_or_else(|| {
            CliError::new(format!("'{text}' is not KEY:TYPE")).hint("write for example --attribute lang:string")
        })?;
        if attribute_types.insert(key.to_owned(), parse_type(kind)?).is_some() {
            return Err(CliError::new(format!("attribute '{key}' is given twice")));
        }
    }
    let auto_create = match &args.auto_create {
        None => None,
        Some(text) => {
            let definition = tarn_api::auto_create_definition(text.as_bytes())
                .map_err(|error| CliError::from(error).while_doing("--auto-create is not what it must be"))?;
            Some(definition.into_auto_create()?)
        }
    };
    let retention =
        args.retention.map(|attribute| Retention { attribute, keep_seconds: args.keep, target_points: args.target_n });
    Ok(DataSource {
        id: args.source.source(),
        vector_dimension: args.dimension,
        vector_kind: if args.sparse { VectorKind::Sparse } else { VectorKind::Dense },
        attribute_types,
        permanent_attributes: args.permanent.into_iter().collect(),
        sharders: BTreeMap::new(),
        policy: SourcePolicy { retention, auto_create },
    })
}

/// Creates the data source; false when it exists with the same definition.
///
/// # Errors
/// It exists with another definition.
pub(super) async fn define(store: &Store, source: &DataSource) -> Result<bool, CliError> {
    match tarn_store::create_source(store, source).await? {
        Defined::Created => Ok(true),
        Defined::Same => Ok(false),
        _ => Err(CliError::new(format!("Data source {} exists with another definition", source.id))
            .hint("definitions never change; create a new version")),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListReport {
    data_sources: Vec<Arc<DataSource>>,
}

impl Report for ListReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        if self.data_sources.is_empty() {
            return writeln!(out, "no data sources; create one with {NAME}tarn source create{NAME:#}");
        }
        let mut table = Table::new(["DATA SOURCE", "VECTORS", "PERMANENT", "OTHER ATTRIBUTES"]);
        for source in &self.data_sources {
            let (permanent, other): (Vec<_>, Vec<_>) =
                source.attribute_types.keys().partition(|key| source.permanent_attributes.contains(*key));
            table.row([
                Cell::styled(path_of(&source.id.name, &source.id.version), NAME),
                vectors_text(source).into(),
                join(permanent).into(),
                join(other).into(),
            ]);
        }
        table.write(out)
    }
}

pub(super) fn join<'a>(keys: impl IntoIterator<Item = &'a String>) -> String {
    keys.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn vectors_text(source: &DataSource) -> String {
    match source.vector_kind {
        VectorKind::Dense => format!("dense, {}-d", source.vector_dimension),
        VectorKind::Sparse => format!("sparse, below {}", count(u64::from(source.vector_dimension))),
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    let data_sources = tarn_store::list_sources(&store).await?;
    context.out.show(&ListReport { data_sources })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DescribeReport {
    definition: Arc<DataSource>,
    /// The timeline's head.
    head: ReadToken,
    checkpoint: Option<Checkpoint>,
    indices: Vec<String>,
    #[serde(skip)]
    now_ms: i64,
}

impl Report for DescribeReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        let source = &self.definition;
        let path = path_of(&source.id.name, &source.id.version);
        writeln!(out, "data source {NAME}{path}{NAME:#}\n")?;
        let checkpoint = match &self.checkpoint {
            None => "none yet; `tarn build` makes one".to_owned(),
            Some(checkpoint) => format!(
                "generation {}, {} points in {} of {}, up to delta {}, {}",
                checkpoint.generation,
                count(checkpoint.rows),
                counted(checkpoint.files.len() as u64, "file", "files"),
                bytes(checkpoint.files.iter().map(|file| file.data.bytes).sum()),
                checkpoint.watermark,
                ago(checkpoint.created_ms, self.now_ms),
            ),
        };
        let indices = if self.indices.is_empty() { "none".to_owned() } else { self.indices.join(", ") };
        let mut lines = vec![
            ("vectors", vectors_text(source)),
            ("timeline", counted(self.head.sequence(0), "delta", "deltas")),
            ("checkpoint", checkpoint),
            ("indices", indices),
        ];
        lines.extend(source.policy.retention.as_ref().map(|retention| ("retention", retention_text(retention))));
        lines.extend(source.policy.auto_create.as_ref().map(|created| ("uploads create", auto_create_text(created))));
        fields(out, &lines)?;
        writeln!(out)?;
        let mut table = Table::new(["ATTRIBUTE", "TYPE", ""]);
        for (key, kind) in &source.attribute_types {
            let permanent = if source.permanent_attributes.contains(key) { "permanent" } else { "" };
            table.row([key.into(), kind_text(*kind).into(), Cell::styled(permanent, DIM)]);
        }
        table.write(out)
    }
}

fn retention_text(retention: &Retention) -> String {
    let by = &retention.attribute;
    let expire = retention.keep_seconds.map(|seconds| match seconds {
        0 => format!("points expire at their '{by}'"),
        seconds => format!("points expire {} after their '{by}'", counted(seconds, "second", "seconds")),
    });
    let cap = retention.target_points.map(|points| format!("builds keep about {}, by '{by}'", count(points)));
    expire.into_iter().chain(cap).collect::<Vec<_>>().join("; ")
}

fn auto_create_text(auto_create: &AutoCreate) -> String {
    let names = auto_create.indices.iter().map(|index| format!("index {}", index.name));
    let versions = auto_create.versions.then(|| "versions of the data source".to_owned());
    names.chain(versions).collect::<Vec<_>>().join(", ")
}

fn kind_text(kind: AttributeType) -> &'static str {
    match kind {
        AttributeType::Bool => "bool",
        AttributeType::Int64 => "int64",
        AttributeType::Float64 => "float64",
        AttributeType::String => "string",
        AttributeType::Uuid => "uuid",
        AttributeType::DateTime => "datetime",
    }
}

async fn describe(context: &Context, id: &DataSourceId) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    let source = context::source(&store, id).await?;
    let head = Timeline::open(store.clone(), source.clone()).head().await?;
    let checkpoint = tarn_store::latest_checkpoint(&store, id, None).await?;
    let indices = indices_of(&store, id).await?;
    context.out.show(&DescribeReport { definition: source, head, checkpoint, indices, now_ms: store.clock().now_ms() })
}

async fn export(context: &Context, args: SourceExportArgs) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    let id = args.source.source();
    let source = context::source(&store, &id).await?;
    let filter = parse_filter(&source, args.filter.as_deref())?;
    let at = match args.as_of {
        None => None,
        Some(generation) => {
            let version = version_of_generation(&store, &id, generation).await?;
            Some(version.map_err(|error| CliError::of(&error))?)
        }
    };
    let options = LiveOptions { at, ..tarn_api::points_as_uploaded(&source) };
    let found = live(&store, source.clone(), options).await?;
    let (schema, batches, version) = (found.schema, found.batches, found.at);
    export::write(context, &args.to, Points { source, schema, batches, filter, version }, &**store.clock()).await
}

/// The indices over a data source, as `NAME/VERSION`.
async fn indices_of(store: &Store, id: &DataSourceId) -> Result<Vec<String>, CliError> {
    let indices = tarn_store::list_indices(store).await?;
    let over = indices.iter().filter(|index| index.data_source == *id);
    Ok(over.map(|index| path_of(&index.id.name, &index.id.version)).collect())
}

/// What deleting a definition came to, for data sources and indices.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeletedReport {
    #[serde(skip)]
    pub(super) what: &'static str,
    pub(super) name: String,
    pub(super) version: String,
}

impl Report for DeletedReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        let path = path_of(&self.name, &self.version);
        writeln!(out, "{GOOD}deleted{GOOD:#} {} {NAME}{path}{NAME:#}; {NAME}tarn gc{NAME:#} frees its bytes", self.what)
    }
}

async fn delete(context: &Context, id: &DataSourceId) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    context::source(&store, id).await?;
    let indices = indices_of(&store, id).await?;
    if !indices.is_empty() {
        return Err(CliError::new(format!("Data source {id} is used by {}", indices.join(", ")))
            .hint("delete those indices first: tarn index delete NAME/VERSION"));
    }
    tarn_store::delete_source(&store, id).await?;
    let DataSourceId { name, version } = id.clone();
    context.out.show(&DeletedReport { what: "data source", name, version })
}
