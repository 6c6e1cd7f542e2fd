//! The command line, as the user typed it.
//!
//! Parsing does no I/O and builds no domain objects beyond names and sizes: whether a store, a file or an index exists is
//! for the commands to find out. Does not hold defaults that a library owns; an absent option stays `None`.

mod definition;
mod operate;
mod points;
mod values;

use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{Args, Parser, Subcommand};

pub(crate) use definition::{
    ImportConfigArgs, IndexCommand, IndexCreateArgs, IndexDeletePointsArgs, IndexRecallArgs, IndexSampleArgs,
    IndexStatisticsArgs, IndexWarmArgs, MetricArg, SourceCommand, SourceCreateArgs,
};
pub(crate) use operate::{
    BuildArgs, BuilderArgs, CacheArgs, DemoArgs, DropsArgs, GcArgs, InspectCommand, KeysCommand, KeysCreateArgs,
    ServeArgs, VerifyArgs,
};
pub(crate) use points::{
    ExportArgs, FileFormat, IndexExportArgs, OnlyArgs, SearchArgs, SourceExportArgs, UploadArgs, UploadFormat,
};
#[cfg(test)]
pub(crate) use values::{ByteSize, Idle, NameVersion};
pub(crate) use values::{Pair, path_of};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Vector search with nothing running: the bucket is the only database.
///
/// A store is a directory or an s3:// URL; everything durable is in it. `tarn demo` shows the whole
/// of it in half a minute, `tarn serve` runs the HTTP API. All other commands work on the store
/// directly and need no server; they may run while one is serving.
#[derive(Debug, Parser)]
#[command(name = "tarn", version, styles = STYLES, max_term_width = 110, propagate_version = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tarn demo                                          see it work, on 6,000 real packages
  tarn serve --store ./data                          the HTTP API on 127.0.0.1:8081
  export TARN_STORE=./data                           no need to repeat --store
  tarn source create docs/1.0 --dimension 384 --attribute id:string --permanent id
  tarn index create docs/1.0 --source docs/1.0 --metric cosine --id id
  tarn upload docs.parquet --to docs/1.0
  tarn search docs/1.0 --like id=readme -k 5

Environment:
  TARN_STORE   the store, when --store is not given
  TARN_LOG     what `serve` logs, for example debug or tarn_search=trace (default: warn)
  AWS_*        credentials, region and endpoint of an s3:// store
  NO_COLOR     no colours";

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub(crate) struct GlobalArgs {
    /// The store: a directory, or s3://bucket/prefix
    #[arg(long, global = true, env = "TARN_STORE", value_name = "DIR|URL", help_heading = "Global options")]
    pub(crate) store: Option<String>,
    /// Print one JSON document instead of tables
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the HTTP API: uploads, background builder and search in one process
    Serve(ServeArgs),
    /// Show everything on 6,000 real Debian packages, through a real server
    Demo(DemoArgs),
    /// Create, list, describe, export and delete data sources
    #[command(subcommand, visible_alias = "sources")]
    Source(SourceCommand),
    /// Create, list, describe, measure, export and delete indices
    #[command(subcommand, visible_alias = "indices")]
    Index(IndexCommand),
    /// Create what a folder of Vektonn's YAML files defines
    ImportConfig(ImportConfigArgs),
    /// Upload points from Parquet, Arrow IPC, NDJSON or CSV files
    Upload(UploadArgs),
    /// List what became of the files in the drop folder
    Drops(DropsArgs),
    /// Find the nearest points
    Search(SearchArgs),
    /// Fold the timelines and build the indices now
    Build(BuildArgs),
    /// Delete what no reader can need any more
    Gc(GcArgs),
    /// Look inside the objects of a store
    #[command(subcommand)]
    Inspect(InspectCommand),
    /// Re-read and check every live object
    Verify(VerifyArgs),
    /// Create, list and revoke API keys
    #[command(subcommand)]
    Keys(KeysCommand),
}

#[cfg(test)]
mod tests;
