//! `tarn-builder`: folds timelines and builds indices, once, at an interval, or whenever Lambda asks.
//!
//! Decode, one library call, encode: everything else is in `tarn-compact`. Inside Lambda (`AWS_LAMBDA_RUNTIME_API` is set)
//! each event is one run over all data sources and indices; the event's content does not matter.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use lambda_runtime::{LambdaEvent, service_fn};
use serde::Serialize;
use tarn_compact::{Builder, BuilderSettings, RunItem, RunSummary, Silent, Status};
use tarn_store::{Store, StoreOptions};
use tokio::signal::unix::{SignalKind, signal};

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
    /// How long to wait between runs, as in 5s, 2m or 1h.
    #[arg(long, value_parser = parse_duration, default_value = "5s")]
    interval: Duration,
    /// Memory for folding and for row buffers, in MiB.
    #[arg(long, env = "TARN_BUILDER_MEMORY_MIB", default_value_t = 1024)]
    memory_mib: u64,
    /// Where to spill and to assemble files; the system's temporary directory if not given.
    #[arg(long, env = "TARN_BUILDER_TEMP_DIR")]
    temp_dir: Option<std::path::PathBuf>,
    /// Where to keep copies of remote files for later runs; without it they go when the process ends.
    #[arg(long, env = "TARN_BUILDER_CACHE_DIR")]
    cache_dir: Option<std::path::PathBuf>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(log_filter()).init();
    match run(arguments).await {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(%error, "the builder stops");
            ExitCode::FAILURE
        }
    }
}

fn log_filter() -> tracing_subscriber::EnvFilter {
    tracing_subscriber::EnvFilter::try_from_env("TARN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"))
}

async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let store = Store::open(&arguments.store, &StoreOptions::default())?;
    let mut settings = BuilderSettings::default();
    settings.memory_limit_bytes = arguments.memory_mib.saturating_mul(1 << 20);
    settings.temp_dir = arguments.temp_dir;
    settings.cache_dir = arguments.cache_dir;
    let builder = Builder::new(store.clone(), settings, Arc::new(Silent))?;
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some() {
        lambda_runtime::run(service_fn(|_: LambdaEvent<serde_json::Value>| async {
            let report = Report::of(&builder.run().await?);
            // A failed event is delivered again, and a run is idempotent.
            if report.failures.is_empty() { Ok::<_, Failure>(report) } else { Err(report.failures.join("; ").into()) }
        }))
        .await?;
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

/// What a run did, as the function answers it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    published: Vec<String>,
    failures: Vec<String>,
}

impl Report {
    fn of(summary: &RunSummary) -> Self {
        let published = summary.items.iter().filter_map(|item| match item {
            RunItem::Fold(id, Ok(done)) if done.status == Status::Published => {
                Some(format!("{id}: checkpoint {} at {}, {} rows", done.generation, done.watermark, done.rows))
            }
            RunItem::Build(id, Ok(done)) if done.status == Status::Published => {
                Some(format!("{id}: manifest {} at {}, {} rows", done.generation, done.watermark, done.rows))
            }
            _ => None,
        });
        Self {
            published: published.collect(),
            failures: summary.failures().map(|(what, error)| format!("{what}: {error}")).collect(),
        }
    }

    fn log(&self) {
        for line in &self.published {
            tracing::info!("{line}");
        }
        for line in &self.failures {
            tracing::error!("{line}");
        }
    }
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
}
