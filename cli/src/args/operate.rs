//! Arguments of the commands that run and look after a store.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use tarn_compact::ApproximateIndex;
use tarn_search::Hydration;

use super::values::{ByteSize, Idle, NameVersion};

/// Where segment files of a remote store are kept.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct CacheArgs {
    /// Where files of an s3:// store are cached [default: in the system's temporary directory]
    #[arg(long, value_name = "DIR", help_heading = "Resources")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Size bound of the cache, for example 8GiB
    #[arg(long, value_name = "SIZE", help_heading = "Resources")]
    pub(crate) cache_size: Option<ByteSize>,
    /// Threads that compute [default: one per processor]
    #[arg(long, value_name = "N", help_heading = "Resources")]
    pub(crate) threads: Option<usize>,
}

/// What the builder may use.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct BuilderArgs {
    /// Memory that a fold may use before it spills to disk, for example 2GiB
    #[arg(long, value_name = "SIZE", help_heading = "Builder")]
    pub(crate) memory_limit: Option<ByteSize>,
    /// What large splits of indices with --hnsw get: `cells`, which are fast from the first search on, a `graph`, or `both`
    #[arg(long, value_name = "KIND", help_heading = "Builder")]
    pub(crate) approximate_index: Option<ApproximateIndex>,
    /// Rows from which such a split gets cells [default: 20000]
    #[arg(long, value_name = "ROWS", help_heading = "Builder")]
    pub(crate) cells_threshold: Option<u64>,
    /// Rows from which such a split gets a graph, with --approximate-index graph [default: 50000]
    #[arg(long, value_name = "ROWS", help_heading = "Builder")]
    pub(crate) graph_threshold: Option<u64>,
    /// Where the builder keeps temporary files
    #[arg(long, value_name = "DIR", help_heading = "Builder")]
    pub(crate) temp_dir: Option<PathBuf>,
    /// Where the builder keeps copies of the files of an s3:// store, so that a later run reads only what is new [default:
    /// none are kept when it ends]
    #[arg(long, value_name = "DIR", help_heading = "Builder")]
    pub(crate) builder_cache_dir: Option<PathBuf>,
    /// Do not delete the points that retention lets go: for credentials that may not write to timelines. Searches leave out what
    /// has expired all the same
    #[arg(long, help_heading = "Builder")]
    pub(crate) no_retention: bool,
}

/// `tarn serve`
#[derive(Args, Debug)]
#[command(after_help = "\
The directory is created when it does not exist. Ctrl-C and SIGTERM finish the requests in flight, then stop; kill -9 is
safe too: an upload that was answered with 200 is durable.

Without API keys the server answers anybody, and therefore listens on loopback addresses only.

Examples:
  tarn serve --store ./data
  tarn serve --store s3://bucket/prefix --listen 127.0.0.1:0
  tarn keys create --name me --grant 'admin:*' --store ./data && tarn serve --store ./data --listen 0.0.0.0:8081")]
pub(crate) struct ServeArgs {
    /// Address and port; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8081")]
    pub(crate) listen: SocketAddr,
    /// Do not build in this process; run `tarn build` elsewhere
    #[arg(long, help_heading = "Builder")]
    pub(crate) no_build: bool,
    /// Build at least this often while there is something new
    #[arg(long, value_name = "TIME", default_value = "10s", help_heading = "Builder", conflicts_with = "no_build")]
    pub(crate) build_interval: Idle,
    /// Build as soon as a data source has this many new deltas
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Builder", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) build_after: u64,
    /// Collect garbage this often, with the defaults of `tarn gc`
    #[arg(long, value_name = "TIME", default_value = "1h", help_heading = "Builder", conflicts_with = "no_build")]
    pub(crate) gc_interval: Idle,
    /// Look into the drop folder this often; on an s3:// store each look is a LIST request
    #[arg(long, value_name = "TIME", default_value = "5s", help_heading = "Drop folder", conflicts_with = "no_drops")]
    pub(crate) drop_interval: Idle,
    /// Do not watch the drop folder
    #[arg(long, help_heading = "Drop folder")]
    pub(crate) no_drops: bool,
    /// How a file of an s3:// store that was searched without fetching it comes into the cache: `background` fetches it
    /// beside the searches; `off` never does; `manual` leaves it to the API's `warm`
    #[arg(long, env = "TARN_HYDRATION", value_name = "HOW", default_value = "background", help_heading = "Resources")]
    pub(crate) hydration: Hydration,
    /// Keep answers in so much memory, for example 256MiB, and give them again as long as nothing has changed [default: none]
    #[arg(long, env = "TARN_QUERY_CACHE", value_name = "BYTES", help_heading = "Resources")]
    pub(crate) query_cache: Option<ByteSize>,
    /// Compare this share of the searches, 0 to 1, with exact ones, while no search is under way; metrics and `describe`
    /// show the recall
    #[arg(long, env = "TARN_RECALL_SHARE", value_name = "SHARE", default_value_t = 0.0, value_parser = share,
        help_heading = "Resources")]
    pub(crate) recall_share: f64,
    #[command(flatten)]
    pub(crate) builder: BuilderArgs,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

/// `tarn drops`
#[derive(Args, Debug)]
#[command(after_help = "\
A file that is copied to drop/NAME/VERSION/ below the store is committed once and as a whole, or refused with
a report and moved to drop-refused/. `tarn serve` watches the folder; in the cloud a function is told of files.

Example:
  cp films.parquet ./data/drop/films/1.0/ && tarn drops films/1.0 --store ./data")]
pub(crate) struct DropsArgs {
    /// The data source, NAME/VERSION
    pub(crate) source: NameVersion,
    /// Show the newest this many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
}

/// `tarn demo`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tarn demo
  tarn demo --dir ./debian     keeps the store, to explore it afterwards")]
pub(crate) struct DemoArgs {
    /// Keep the store in this new or empty directory [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// `tarn build`
#[derive(Args, Debug)]
#[command(after_help = "\
Several builders may run at once, on any machines: one publishes, the others lose nothing.

Example:
  tarn build --store ./data")]
pub(crate) struct BuildArgs {
    /// Only this index and its data source, NAME/VERSION
    #[arg(long, value_name = "INDEX")]
    pub(crate) index: Option<NameVersion>,
    /// Threads [default: one per processor]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    #[command(flatten)]
    pub(crate) builder: BuilderArgs,
}

/// `tarn gc`
#[derive(Args, Debug)]
#[command(after_help = "\
May run at any time, beside servers and builders. A grace period shorter than they may count on what they have seen or
written is refused; --store-is-idle says that there are none.

Examples:
  tarn gc --dry-run                           what would be deleted, and why
  tarn gc --retain 1 --grace 8h
  tarn gc --grace 0s --store-is-idle          after everything that used the store was stopped")]
pub(crate) struct GcArgs {
    /// Delete nothing, say what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Objects younger than this stay, for those who still read or are about to publish them [default: 24h]
    #[arg(long, value_name = "TIME")]
    pub(crate) grace: Option<Idle>,
    /// Nobody uploads, searches or builds until this ends, in any process: any grace period will do
    #[arg(long)]
    pub(crate) store_is_idle: bool,
    /// Generations to keep of each checkpoint and index
    #[arg(long, value_name = "N")]
    pub(crate) retain: Option<u64>,
}

/// `tarn inspect …`
#[derive(Debug, Subcommand)]
pub(crate) enum InspectCommand {
    /// A manifest of an index: watermark, shards, segments
    Manifest {
        /// The index, NAME/VERSION
        index: NameVersion,
        /// Which generation [default: the newest]
        #[arg(long, value_name = "N")]
        generation: Option<u64>,
    },
    /// A segment file: rows, kind, attributes, calibration
    Segment {
        /// The index, NAME/VERSION
        index: NameVersion,
        /// The segment's id, as `inspect manifest` shows it
        id: ulid::Ulid,
        /// Show this many rows
        #[arg(long, value_name = "N", default_value_t = 5)]
        rows: usize,
    },
    /// One delta of a timeline: batches and rows
    Delta {
        /// The data source, NAME/VERSION
        source: NameVersion,
        /// Its sequence number
        sequence: u64,
        /// Show this many rows
        #[arg(long, value_name = "N", default_value_t = 10)]
        rows: usize,
    },
    /// The deltas of a data source
    Timeline {
        /// The data source, NAME/VERSION
        source: NameVersion,
        /// Show the last this many
        #[arg(long, value_name = "N", default_value_t = 20)]
        last: usize,
    },
    /// A checkpoint of a data source: watermark and data files
    Checkpoint {
        /// The data source, NAME/VERSION
        source: NameVersion,
        /// Which generation [default: the newest]
        #[arg(long, value_name = "N")]
        generation: Option<u64>,
    },
}

/// `tarn verify`
#[derive(Args, Debug)]
#[command(after_help = "\
Reads everything: checksums of all files, counts, and every index against the checkpoint of its data source.
The status is 1 when a problem was found.

Example:
  tarn verify --store ./data")]
pub(crate) struct VerifyArgs {}

/// `tarn keys …`
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Create a key; it is shown once, only its hash is stored
    Create(KeysCreateArgs),
    /// Every key: id, name, scopes
    List,
    /// Revoke a key by its id
    Revoke {
        /// The key's id, as `keys list` shows it
        id: String,
    },
}

/// `tarn keys create`
#[derive(Args, Debug)]
#[command(after_help = "\
A grant is SCOPE:PATTERN. Scopes: read (search, describe, export), write (upload; does not include read), admin
(everything). Patterns: *, data-sources/NAME/VERSION, indices/NAME/VERSION; name and version may hold * and ?, and a
missing version means every version.

As soon as a store has a key, servers on it demand one, and go on doing so when the last one is revoked.

Examples:
  tarn keys create --name website --grant 'read:indices/docs*'
  tarn keys create --name nightly --grant write:data-sources/docs --grant read:indices/docs
  tarn keys create --name me --grant 'admin:*'")]
pub(crate) struct KeysCreateArgs {
    /// What the key is for
    #[arg(long)]
    pub(crate) name: String,
    /// What it permits
    #[arg(long = "grant", value_name = "SCOPE:PATTERN", required = true)]
    pub(crate) grants: Vec<String>,
}

fn share(text: &str) -> Result<f64, String> {
    let share: Option<f64> = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("'{text}' is not a number from 0 to 1"))
}
