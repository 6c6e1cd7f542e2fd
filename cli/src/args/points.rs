//! Arguments that move points in and out.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};

use super::operate::CacheArgs;
use super::values::{Idle, NameVersion, Pair};

/// The kinds of files that `upload` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum UploadFormat {
    /// Apache Parquet
    Parquet,
    /// Arrow IPC, file or stream
    Arrow,
    /// One InputDataPoint of the HTTP API per line
    Ndjson,
    /// Comma-separated values with a header line; the vector as a JSON array, or one column per coordinate
    Csv,
}

/// `tarn upload`
#[derive(Args, Debug)]
#[command(after_help = "\
Columns are found by the attributes' names; --map names those that are called otherwise. Each batch is one atomic commit:
when a later batch fails, the earlier ones stay, and uploading the file again replaces points by themselves.

Examples:
  tarn upload packages.parquet --to debian/1.0
  tarn upload part-*.csv --to docs/1.0 --map id=doc_id --vector-column embedding
  tarn upload changes.ndjson --to docs/1.0 --idempotency-key nightly-2026-01-31")]
pub(crate) struct UploadArgs {
    /// Files to upload, in this order; - reads standard input (with --format ndjson, csv or arrow)
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The data source, NAME/VERSION
    #[arg(long, value_name = "SOURCE")]
    pub(crate) to: NameVersion,
    /// The files' format; else by file name
    #[arg(long, value_enum)]
    pub(crate) format: Option<UploadFormat>,
    /// An attribute's column, when it is not called like the attribute
    #[arg(long = "map", value_name = "ATTRIBUTE=COLUMN")]
    pub(crate) map: Vec<Pair>,
    /// The vector's column [default: vector]
    #[arg(long, value_name = "COLUMN")]
    pub(crate) vector_column: Option<String>,
    /// A boolean column: true marks a deletion
    #[arg(long, value_name = "COLUMN")]
    pub(crate) deleted_column: Option<String>,
    /// Points in one commit
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=tarn_model::limits::BATCH_POINTS as u64))]
    pub(crate) batch: Option<u64>,
    /// Upload every batch at most once under this key, however often the command runs
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

/// The kinds of files that exports write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFormat {
    /// One point of the HTTP API per line
    Ndjson,
    /// An Arrow IPC stream
    Arrow,
    /// Apache Parquet
    Parquet,
}

/// Where exported points go.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// The file, which is there when it is whole; or a pipe or device [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The file's format [default: by its name; ndjson to standard output, a pipe or a device]
    #[arg(long, value_enum)]
    pub(crate) format: Option<FileFormat>,
}

/// `tarn source export`
#[derive(Args, Debug)]
#[command(after_help = "\
What is exported can be uploaded again. The points come in no particular order; expired ones are among them, until a build has
taken them out.

Examples:
  tarn source export docs/1.0 -o docs.parquet
  tarn source export docs/1.0 --filter '{\"eq\": {\"key\": \"lang\", \"value\": \"de\"}}' -o german.ndjson")]
pub(crate) struct SourceExportArgs {
    /// NAME/VERSION
    pub(crate) source: NameVersion,
    /// Only points that satisfy this filter of the HTTP API
    #[arg(long, value_name = "JSON")]
    pub(crate) filter: Option<String>,
    /// The state that an earlier generation of the checkpoint shows (`tarn source describe` says which is the newest)
    #[arg(long, value_name = "GENERATION", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) as_of: Option<u64>,
    #[command(flatten)]
    pub(crate) to: ExportArgs,
}

/// `tarn index export`
#[derive(Args, Debug)]
#[command(after_help = "\
What is exported can be uploaded again. The points come in no particular order.

Examples:
  tarn index export docs/1.0 -o docs.parquet --split lang=de
  tarn index export docs/1.0 -o sample.ndjson --sample 100000 --seed 7
  tarn index export docs/1.0 --as-of 12 --format arrow")]
pub(crate) struct IndexExportArgs {
    /// NAME/VERSION
    pub(crate) index: NameVersion,
    #[command(flatten)]
    pub(crate) only: OnlyArgs,
    /// A sample of so many of them: each as likely as any other, the same ones for the same seed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) sample: Option<u64>,
    /// Another seed draws other points
    #[arg(long, value_name = "SEED", default_value_t = 0, requires = "sample")]
    pub(crate) seed: u64,
    /// The state that an earlier generation shows
    #[arg(long, value_name = "GENERATION", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) as_of: Option<u64>,
    #[command(flatten)]
    pub(crate) to: ExportArgs,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

/// Which points of an index.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct OnlyArgs {
    /// Only the part of the index with this value of a split attribute
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) split: Vec<Pair>,
    /// Only points that satisfy this filter of the HTTP API
    #[arg(long, value_name = "JSON")]
    pub(crate) filter: Option<String>,
}

/// `tarn search`
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("query").required(true).args(["vector", "vector_file", "like"]), after_help = "\
A vector is a JSON array of coordinates, or a vector object of the HTTP API (sparse ones always are).
Several vectors in a file, one per line, are several queries.

Examples:
  tarn search docs/1.0 --vector '[0.1, 0.7, 0.2]' -k 5
  tarn search words/1.0 --vector '{\"coordinates\": [1.5, 2], \"coordinateIndices\": [4, 17]}'
  tarn search packages/1.0 --like package=vim -k 5 --split section=editors
  tarn search packages/1.0 --vector-file q.json --filter '{\"gte\": {\"key\": \"installed_kb\", \"value\": 1000}}' --exact")]
pub(crate) struct SearchArgs {
    /// The index, NAME/VERSION
    pub(crate) index: NameVersion,
    /// The query vector, as JSON
    #[arg(long, value_name = "JSON")]
    pub(crate) vector: Option<String>,
    /// A file of query vectors, one JSON value per line
    #[arg(long, value_name = "FILE")]
    pub(crate) vector_file: Option<PathBuf>,
    /// The vector of the stored point with these attributes
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) like: Vec<Pair>,
    /// How many neighbours
    #[arg(short, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=i64::from(tarn_model::limits::K)))]
    pub(crate) k: u32,
    /// Only the part of the index with this value of a split attribute
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) split: Vec<Pair>,
    /// Only points that satisfy this filter of the HTTP API
    #[arg(long, value_name = "JSON")]
    pub(crate) filter: Option<String>,
    /// Compare with every point: recall 1
    #[arg(long, conflicts_with_all = ["recall", "ef_search", "nprobe"])]
    pub(crate) exact: bool,
    /// The recall to aim at, above 0 up to 1
    #[arg(long, value_name = "R")]
    pub(crate) recall: Option<f32>,
    /// Candidates that a search keeps in a graph; where there are cells and no graph, cells that it looks into
    #[arg(long, value_name = "N")]
    pub(crate) ef_search: Option<u32>,
    /// Cells that a search looks into; where there is a graph and no cells, candidates that it keeps
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) nprobe: Option<u32>,
    /// What to rank by instead of the index's own distance: VectorDistance, QuickVectorDistance, VectorMultiplication,
    /// CosineSimilarity or AngularDistance
    #[arg(long, value_name = "SCORE")]
    pub(crate) score: Option<String>,
    /// Whether more of the score is better [default: as is usual of it]
    #[arg(long, value_name = "BOOL")]
    pub(crate) higher_is_better: Option<bool>,
    /// Answer with the best so far after this time, for example 20ms; the coverage says how much was considered
    #[arg(long, value_name = "TIME")]
    pub(crate) deadline: Option<Idle>,
    /// The state that an earlier generation shows, and nothing after it
    #[arg(long, value_name = "GENERATION", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) as_of: Option<u64>,
    /// Show only these attributes
    #[arg(long, value_name = "KEY,…", value_delimiter = ',')]
    pub(crate) attributes: Option<Vec<String>>,
    /// Give back the vectors too (with --json)
    #[arg(long, requires = "json")]
    pub(crate) vectors: bool,
    /// The answer must include this write (the Tarn-Version of an upload)
    #[arg(long, value_name = "VERSION")]
    pub(crate) min_version: Option<String>,
    /// Say how each segment was searched, what was asked of the store, and what that costs
    #[arg(long)]
    pub(crate) explain: bool,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}
