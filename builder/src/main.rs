//! `tarn-builder`: folds timelines and builds indices, once, at an interval, or task by task.
//!
//! Decode, one library call, encode: everything else is in `tarn-compact`. Inside Lambda (`AWS_LAMBDA_RUNTIME_API` is set)
//! each event is one task, see `event`; settings come from the environment alone there. `--event` carries out the same tasks
//! where there is more disk and time than in a function.

mod event;
mod function;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tarn_compact::{ApproximateIndex, Builder, BuilderSettings, Silent};
use tarn_store::{Store, StoreOptions};
use tokio::signal::unix::{SignalKind, signal};

use function::Report;

/// Folds timelines and builds indices.
#[derive(Parser, Debug)]
#[command(version)]
struct Arguments {
    /// A directory, or s3://bucket/prefix.
    #[arg(long, env = "TARN_STORE")]
    store: String,
    /// Run once and exit; with a failure status when anything failed.
    #[arg(long, conflicts_with = "interval")]
    once: bool,
    /// Carry out one task and print its answer, as the function does for the same event: '{"task": "plan"}'.
    #[arg(long, value_name = "JSON", conflicts_with_all = ["once", "interval"])]
    event: Option<String>,
    /// How long to wait between runs, as in 5s, 2m or 1h.
    #[arg(long, value_parser = parse_duration, default_value = "5s")]
    interval: Duration,
    /// Memory for folding and for row buffers, in MiB.
    #[arg(long, env = "TARN_BUILDER_MEMORY_MIB", default_value_t = 1024)]
    memory_mib: u64,
    /// Where to spill and to assemble files; the system's temporary directory if not given, /tmp inside Lambda.
    #[arg(long, env = "TARN_BUILDER_TEMP_DIR")]
    temp_dir: Option<PathBuf>,
    /// Where to keep copies of remote files for later runs; without it they go when the process ends.
    #[arg(long, env = "TARN_BUILDER_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// Most bytes of such copies, in MiB; 65536 if not given, 2048 inside Lambda.
    #[arg(long, env = "TARN_BUILDER_CACHE_MIB")]
    cache_mib: Option<u64>,
    /// Most bytes of deltas to copy for one fold, in MiB, before it publishes a checkpoint and goes on; 16384 if not given,
    /// 2048 inside Lambda.
    #[arg(long, env = "TARN_BUILDER_SPOOL_MIB")]
    spool_mib: Option<u64>,
    /// What large splits of approximate indices get: cells, graph or both; cells if not given.
    #[arg(long, env = "TARN_BUILDER_APPROXIMATE_INDEX", value_name = "KIND")]
    approximate_index: Option<ApproximateIndex>,
    /// Rows from which such a split gets cells; 20000 if not given.
    #[arg(long, env = "TARN_BUILDER_CELLS_THRESHOLD", value_name = "ROWS")]
    cells_threshold: Option<u64>,
    /// Rows from which such a split gets a graph, where the kind is graph; 50000 if not given.
    #[arg(long, env = "TARN_BUILDER_GRAPH_THRESHOLD", value_name = "ROWS")]
    graph_threshold: Option<u64>,
    /// Whether to delete the points whose time is up: true or false. It takes the permission to write to timelines. true if not
    /// given, false inside Lambda.
    #[arg(long, env = "TARN_BUILDER_RETENTION", value_name = "BOOL")]
    retention: Option<bool>,
}

/// The only directory of a Lambda function that can be written to.
const LAMBDA_TEMP_DIR: &str = "/tmp";
/// Copies of deltas, spills and files under construction share `/tmp` with the copies of files.
const LAMBDA_CACHE_MIB: u64 = 2048;
/// The checkpoint files of a fold's step lie beside the deltas that they are made of.
const LAMBDA_SPOOL_MIB: u64 = 2048;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let in_lambda = std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some();
    let arguments = match Arguments::try_parse_from(arguments(in_lambda, std::env::args_os())) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(!in_lambda).with_env_filter(log_filter()).init();
    match run(arguments, in_lambda).await {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(%error, "the builder stops");
            ExitCode::FAILURE
        }
    }
}

/// The arguments that are ours. What starts a function may pass its handler's name, or anything.
fn arguments(in_lambda: bool, given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    if in_lambda { vec!["tarn-builder".into()] } else { given.collect() }
}

fn log_filter() -> tracing_subscriber::EnvFilter {
    tracing_subscriber::EnvFilter::try_from_env("TARN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"))
}

fn settings(arguments: &Arguments, in_lambda: bool) -> BuilderSettings {
    let mut settings = BuilderSettings::default();
    settings.memory_limit_bytes = arguments.memory_mib.saturating_mul(1 << 20);
    settings.temp_dir = arguments.temp_dir.clone().or_else(|| in_lambda.then(|| LAMBDA_TEMP_DIR.into()));
    settings.cache_dir = arguments.cache_dir.clone();
    if let Some(mib) = arguments.cache_mib.or(in_lambda.then_some(LAMBDA_CACHE_MIB)) {
        settings.cache_bytes = mib.saturating_mul(1 << 20);
    }
    if let Some(mib) = arguments.spool_mib.or(in_lambda.then_some(LAMBDA_SPOOL_MIB)) {
        settings.spool_bytes_max = mib.saturating_mul(1 << 20);
    }
    settings.approximate_index = arguments.approximate_index.unwrap_or(settings.approximate_index);
    settings.cells_threshold_rows = arguments.cells_threshold.unwrap_or(settings.cells_threshold_rows);
    settings.graph_threshold_rows = arguments.graph_threshold.unwrap_or(settings.graph_threshold_rows);
    settings.retention = arguments.retention.unwrap_or(!in_lambda);
    settings
}

async fn run(arguments: Arguments, in_lambda: bool) -> Result<ExitCode, Failure> {
    let store = Store::open(&arguments.store, &StoreOptions::default())?;
    let builder = Builder::new(store.clone(), settings(&arguments, in_lambda), Arc::new(Silent))?;
    if in_lambda {
        function::serve(&builder).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(event) = &arguments.event {
        let answer = function::answer(&builder, serde_json::from_str(event)?).await?;
        writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(&answer)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.once {
        let report = Report::of(&builder.run().await?);
        report.log();
        return Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let turns = async {
        loop {
            match builder.run().await {
                Ok(summary) => Report::of(&summary).log(),
                // The store may be back at the next turn.
                Err(error) => tracing::error!(%error, "the run failed"),
            }
            store.clock().sleep(arguments.interval).await;
        }
    };
    // A run that is cut short has published nothing and loses nothing.
    tokio::select! {
        () = turns => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(format!("'{text}' is not a duration such as 5s, 2m or 1h")),
    };
    let number: u64 = number.parse().map_err(|_| format!("'{text}' is not a duration such as 5s, 2m or 1h"))?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| format!("'{text}' is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3600)));
        for wrong in ["", "s", "5x", "-1s", "99999999999999999999s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_event_is_carried_out_instead_of_runs() {
        let parse = |more: &[&str]| Arguments::try_parse_from(["tarn-builder", "--store", "/s"].iter().chain(more));
        let event = parse(&["--event", r#"{"task": "plan"}"#]).expect("valid arguments").event;
        assert_eq!(event.as_deref(), Some(r#"{"task": "plan"}"#));
        assert!(parse(&["--event", "{}", "--once"]).is_err());
        assert!(parse(&["--event", "{}", "--interval", "5s"]).is_err());
    }

    #[test]
    fn inside_lambda_arguments_are_not_ours() {
        let given = ["/var/task/bootstrap", "bootstrap", "--frobnicate"].map(OsString::from);
        assert_eq!(arguments(true, given.clone().into_iter()), ["tarn-builder"]);
        assert_eq!(arguments(false, given.clone().into_iter()), given);
    }

    #[test]
    fn what_large_splits_get_is_an_argument() {
        let parse = |more: &[&str]| Arguments::try_parse_from(["tarn-builder", "--store", "/s"].iter().chain(more));
        let of = |more: &[&str]| {
            let settings = settings(&parse(more).expect("valid arguments"), false);
            (settings.approximate_index, settings.cells_threshold_rows, settings.graph_threshold_rows)
        };
        assert_eq!(of(&[]), (ApproximateIndex::Cells, 20_000, 50_000));
        let told = ["--approximate-index", "graph", "--cells-threshold", "7", "--graph-threshold", "8"];
        assert_eq!(of(&told), (ApproximateIndex::Graph, 7, 8));
        assert_eq!(of(&["--approximate-index", "both"]).0, ApproximateIndex::Both);
        let error = parse(&["--approximate-index", "tree"]).expect_err("refused").to_string();
        assert!(error.contains("'tree' is none of cells, graph, both"), "{error}");
    }

    #[test]
    fn inside_lambda_points_are_deleted_only_when_told() {
        let of = |more: &[&str], in_lambda| {
            let all = ["tarn-builder", "--store", "/s"].iter().chain(more);
            settings(&Arguments::try_parse_from(all).expect("valid arguments"), in_lambda).retention
        };
        assert!(of(&[], false));
        assert!(!of(&[], true), "the function's role does not permit it by itself");
        assert!(of(&["--retention", "true"], true));
        assert!(!of(&["--retention", "false"], false));
    }

    #[test]
    fn inside_lambda_everything_is_written_below_tmp_unless_told_otherwise() {
        let parse = |more: &[&str]| {
            let all = ["tarn-builder", "--store", "/s"].iter().chain(more);
            Arguments::try_parse_from(all).expect("valid arguments")
        };
        let inside = settings(&parse(&[]), true);
        assert_eq!((inside.temp_dir, inside.cache_bytes), (Some(PathBuf::from("/tmp")), 2 << 30));
        assert_eq!(inside.spool_bytes_max, 2 << 30);
        let told = settings(&parse(&["--temp-dir", "/mnt", "--cache-mib", "7", "--spool-mib", "9"]), true);
        assert_eq!((told.temp_dir, told.cache_bytes), (Some(PathBuf::from("/mnt")), 7 << 20));
        assert_eq!(told.spool_bytes_max, 9 << 20);
        let outside = settings(&parse(&[]), false);
        let (defaults, found) = (BuilderSettings::default(), (outside.cache_bytes, outside.spool_bytes_max));
        assert_eq!((outside.temp_dir, found), (None, (defaults.cache_bytes, defaults.spool_bytes_max)));
    }
}
