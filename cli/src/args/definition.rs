//! Arguments that define data sources and indices.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use tarn_model::ReadToken;

use super::operate::CacheArgs;
use super::points::{IndexExportArgs, OnlyArgs, SourceExportArgs};
use super::values::{Idle, NameVersion, Pair};

/// `tarn source …`
#[derive(Debug, Subcommand)]
pub(crate) enum SourceCommand {
    /// Define a data source: what its vectors and attributes are
    Create(SourceCreateArgs),
    /// Every data source of the store
    List,
    /// One data source: definition, timeline and checkpoint
    Describe {
        /// NAME/VERSION
        source: NameVersion,
    },
    /// Write every point of a data source to a file, or to standard output
    Export(SourceExportArgs),
    /// Delete a data source, once no index uses it; `tarn gc` frees its bytes
    Delete {
        /// NAME/VERSION
        source: NameVersion,
    },
}

/// `tarn source create`
#[derive(Args, Debug)]
#[command(after_help = "\
Creating a data source that exists with the same definition does nothing; a different one is refused.

Examples:
  tarn source create docs/1.0 --dimension 384 --permanent id \\
       --attribute id:string --attribute lang:string --attribute published:datetime
  tarn source create words/1.0 --sparse --dimension 30000 --permanent id --attribute id:int64
  tarn source create news/1.0 --dimension 384 --permanent id --attribute id:string --attribute added:datetime \\
       --retention added --keep 2592000
  tarn source create logs/1.0 --dimension 8 --permanent id --attribute id:string --auto-create '{\"versions\": true}'")]
pub(crate) struct SourceCreateArgs {
    /// NAME/VERSION
    pub(crate) source: NameVersion,
    /// Coordinates of a vector; for sparse vectors, one more than the largest index
    #[arg(long, value_name = "N")]
    pub(crate) dimension: u32,
    /// Vectors are sparse
    #[arg(long)]
    pub(crate) sparse: bool,
    /// An attribute and its type: bool, int64, float64, string, uuid or datetime
    #[arg(long = "attribute", value_name = "KEY:TYPE", required = true)]
    pub(crate) attributes: Vec<String>,
    /// The attributes that identify a point
    #[arg(long, value_name = "KEY,…", required = true, value_delimiter = ',')]
    pub(crate) permanent: Vec<String>,
    /// The datetime attribute that says when a point's life ends (--keep 0) or counts from, or which points are the latest
    #[arg(long, value_name = "KEY")]
    pub(crate) retention: Option<String>,
    /// Points expire so many seconds after their --retention attribute
    #[arg(long, value_name = "SECONDS", requires = "retention")]
    pub(crate) keep: Option<u64>,
    /// Builds keep about so many points, those with the latest --retention attribute
    #[arg(long, value_name = "N", requires = "retention")]
    pub(crate) target_n: Option<u64>,
    /// What uploads create when it is not there: `autoCreate` of the HTTP API. Indices come with the first upload, versions
    /// with the first one to each
    #[arg(long, value_name = "JSON")]
    pub(crate) auto_create: Option<String>,
}

/// `tarn index …`
#[derive(Debug, Subcommand)]
pub(crate) enum IndexCommand {
    /// Define an index over a data source
    Create(IndexCreateArgs),
    /// Every index of the store
    List,
    /// One index: definition, freshness, shards, splits and segments
    Describe {
        /// NAME/VERSION
        index: NameVersion,
        /// Most splits to show
        #[arg(long, default_value_t = 20, value_name = "N")]
        splits: usize,
    },
    /// What the points are like together: how many, their centre, how far they lie from it
    Statistics(IndexStatisticsArgs),
    /// Points drawn at random: each as likely as any other, the same ones for the same seed
    Sample(IndexSampleArgs),
    /// How much of what an exact search finds the index finds, over a sample of its points
    Recall(IndexRecallArgs),
    /// Write the points of an index, some of them or a sample, to a file or to standard output
    Export(IndexExportArgs),
    /// Fetch all files of an index into the cache, so that searches with the same cache find them there
    Warm(IndexWarmArgs),
    /// Delete the points that a filter is true of, from the data source
    #[command(visible_alias = "delete-by-filter")]
    DeletePoints(IndexDeletePointsArgs),
    /// Delete an index; the data source keeps its points
    Delete {
        /// NAME/VERSION
        index: NameVersion,
    },
}

/// `tarn index statistics`
#[derive(Args, Debug)]
#[command(after_help = "\
Builds count as they go; so this reads no point, unless --tail, --exact, --split or --filter want it to. With --since, how far
the points have moved since an earlier generation.

Examples:
  tarn index statistics docs/1.0
  tarn index statistics docs/1.0 --since 12 --json
  tarn index statistics docs/1.0 --split lang=de --tail")]
pub(crate) struct IndexStatisticsArgs {
    /// NAME/VERSION
    pub(crate) index: NameVersion,
    /// Only this shard's points
    #[arg(long, value_name = "SHARD")]
    pub(crate) shard: Option<String>,
    #[command(flatten)]
    pub(crate) only: OnlyArgs,
    /// Also what no build has taken in yet
    #[arg(long)]
    pub(crate) tail: bool,
    /// Read every point, and measure distances from the centre itself
    #[arg(long)]
    pub(crate) exact: bool,
    /// The state that an earlier generation shows
    #[arg(long, value_name = "GENERATION", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) as_of: Option<u64>,
    /// An earlier generation to compare with
    #[arg(long, value_name = "GENERATION", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) since: Option<u64>,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

/// `tarn index sample`
#[derive(Args, Debug)]
#[command(after_help = "\
The sample of 100 is the beginning of that of 1000 with the same seed. `tarn index export --sample` writes samples of any size to
a file.

Example:
  tarn index sample docs/1.0 -n 20 --seed 7 --filter '{\"eq\": {\"key\": \"lang\", \"value\": \"de\"}}'")]
pub(crate) struct IndexSampleArgs {
    /// NAME/VERSION
    pub(crate) index: NameVersion,
    #[command(flatten)]
    pub(crate) only: OnlyArgs,
    /// How many points, at most 10000
    #[arg(short, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) n: u64,
    /// Another seed draws other points
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub(crate) seed: u64,
    /// The state that an earlier generation shows
    #[arg(long, value_name = "GENERATION", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) as_of: Option<u64>,
    /// Vectors too, with --json
    #[arg(long)]
    pub(crate) vectors: bool,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

/// `tarn index recall`
#[derive(Args, Debug)]
#[command(after_help = "\
Searches for points of the index, as every search does and exactly, and compares. A point does not count among its own
neighbours. It takes as long as so many exact searches do.

Examples:
  tarn index recall docs/1.0
  tarn index recall docs/1.0 -k 100 --queries 1000 --nprobe 16 --deadline 1m")]
pub(crate) struct IndexRecallArgs {
    /// NAME/VERSION
    pub(crate) index: NameVersion,
    #[command(flatten)]
    pub(crate) only: OnlyArgs,
    /// How many points are searched for
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) queries: u32,
    /// Neighbours of each
    #[arg(short, default_value_t = 10, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) k: u32,
    /// Another seed draws other points
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub(crate) seed: u64,
    /// The recall that the searches ask for
    #[arg(long, value_name = "RECALL")]
    pub(crate) target_recall: Option<f32>,
    /// As of a search
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) ef_search: Option<u32>,
    /// As of a search
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) nprobe: Option<u32>,
    /// End after this time with what is measured by then
    #[arg(long, value_name = "TIME")]
    pub(crate) deadline: Option<Idle>,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

/// `tarn index warm`
#[derive(Args, Debug)]
#[command(after_help = "\
Of use for a store on S3, and a cache that is kept. A server's own files are fetched by `POST …/warm` of its API.

Example:
  tarn index warm docs/1.0 --store s3://bucket/prefix --cache-dir /var/cache/tarn")]
pub(crate) struct IndexWarmArgs {
    /// NAME/VERSION
    pub(crate) index: NameVersion,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

/// `tarn index delete-points`
#[derive(Args, Debug)]
#[command(
    group(ArgGroup::new("which").args(["filter", "equal"]).required(true).multiple(true)),
    after_help = "\
Points are deleted as they were when the command began: what is written while it runs stays.

Example:
  tarn index delete-points docs/1.0 --filter '{\"lt\": {\"key\": \"published\", \"value\": \"2020-01-01\"}}' --dry-run"
)]
pub(crate) struct IndexDeletePointsArgs {
    /// NAME/VERSION
    pub(crate) index: NameVersion,
    /// Points that satisfy this filter of the HTTP API; {} is every point
    #[arg(long, value_name = "JSON")]
    pub(crate) filter: Option<String>,
    /// Points with this value of an attribute
    #[arg(long = "where", value_name = "KEY=VALUE")]
    pub(crate) equal: Vec<Pair>,
    /// Most points to delete
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Leave points alone that were written after this version of the data source; versions are what uploads and searches
    /// answer with [default: the one when the command begins]
    #[arg(long, value_name = "VERSION")]
    pub(crate) up_to: Option<ReadToken>,
    /// Count them, and delete none
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// The distances, by short names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MetricArg {
    /// 1 − cos of dense vectors (Tarn.Cosine)
    Cosine,
    /// Squared Euclidean distance (FaissIndex.L2)
    L2,
    /// Inner product, largest first (FaissIndex.IP)
    Ip,
    /// 1 − cos of sparse vectors (SparnnIndex.Cosine)
    SparseCosine,
    /// 1 − Jaccard similarity of the non-zero indices (SparnnIndex.JaccardBinary)
    SparseJaccard,
}

/// `tarn index create`
#[derive(Args, Debug)]
#[command(after_help = "\
Without --hnsw every answer is exact. With it, large splits get a graph, and searches aim at recall 0.95
unless they ask for another.

Examples:
  tarn index create docs/1.0 --source docs/1.0 --metric cosine --id id
  tarn index create docs-by-lang/1.0 --source docs/1.0 --metric cosine --id id --split lang --hnsw 16,128,64
  tarn index create big/1.0 --source big/1.0 --metric l2 --id id --shard-by id --shards 8")]
pub(crate) struct IndexCreateArgs {
    /// NAME/VERSION
    pub(crate) index: NameVersion,
    /// The data source that it indexes, NAME/VERSION
    #[arg(long)]
    pub(crate) source: NameVersion,
    /// The distance
    #[arg(long, value_enum)]
    pub(crate) metric: MetricArg,
    /// Graph parameters: links per node, candidates while building, candidates while searching
    #[arg(long, value_name = "M,EF_CONSTRUCTION,EF_SEARCH", value_delimiter = ',', num_args = 1)]
    pub(crate) hnsw: Option<Vec<u32>>,
    /// The attributes that identify a point in answers
    #[arg(long, value_name = "KEY,…", required = true, value_delimiter = ',')]
    pub(crate) id: Vec<String>,
    /// The attributes whose values partition the index; a search that names them reads only that part
    #[arg(long, value_name = "KEY,…", value_delimiter = ',')]
    pub(crate) split: Vec<String>,
    /// The attribute whose hash distributes points over shards
    #[arg(long, value_name = "KEY", requires = "shards")]
    pub(crate) shard_by: Option<String>,
    /// How many shards
    #[arg(long, value_name = "N", requires = "shard_by", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) shards: Option<u32>,
}

/// `tarn import-config`
#[derive(Args, Debug)]
#[command(after_help = "\
Reads DIR/data-sources/{Name}/{Version}.yaml and DIR/indices/{Name}/{Version}.yaml. Names and versions come from the file
names, so that version 1.10 stays 1.10. Everything is checked before anything is created; running it again does nothing.

Example:
  tarn import-config ./vektonn-config --store ./data --dry-run")]
pub(crate) struct ImportConfigArgs {
    /// The folder that holds `data-sources` and `indices`
    pub(crate) dir: PathBuf,
    /// Check the files and say what would be created
    #[arg(long)]
    pub(crate) dry_run: bool,
}
