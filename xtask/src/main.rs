//! The workspace's checks and chores: `cargo xtask --help`.
//!
//! `test` is what CI runs and what a change must pass. It prepares whatever it needs (Python environments, an S3 server, cargo
//! tools) under `target/`, so that a machine with Rust, a C++ compiler, Python 3.11 and Terraform is enough. It does not
//! touch anything outside the checkout.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a developer's tool: it talks, and times its steps"
)]

mod deps;
mod e2e;
mod fuzz;
mod infra;
mod localstack;
mod package;
mod run;
mod tidy;
mod tools;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::run::{Steps, cargo};

/// Checks and chores of the Tarn workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything that a change must pass: tidy, fmt, clippy, docs, unit and integration tests, end to end, licences.
    Test,
    /// The fast checks of the source tree alone: headers, forbidden dependencies, where `unsafe` may be.
    Tidy,
    /// The end-to-end suite alone: the Vektonn client and schemathesis against `tarn serve`.
    E2e {
        /// Where the server keeps its data.
        #[arg(long, value_enum, default_value = "all")]
        store: e2e::StoreChoice,
    },
    /// The functions' packages, in target/lambda.
    Package {
        /// The processor they are for. Those for this machine are for the emulators; AWS wants one of the others.
        #[arg(long, value_enum, default_value = "host")]
        arch: package::Arch,
    },
    /// The deployment on one machine.
    Localstack {
        #[command(subcommand)]
        action: localstack::Action,
    },
    /// The Terraform module alone: format, its tests against mocks, checkov.
    Infra,
    /// Readers of stored bytes against bytes that somebody has made up, under libFuzzer. Needs nightly Rust.
    Fuzz {
        /// One target; otherwise all, one after the other.
        target: Option<String>,
        /// For how long, each.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Licences, bans and sources of all dependencies.
    Deny,
    /// Known vulnerabilities of all dependencies. Needs the RustSec database from the network.
    Advisories,
}

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Test => test(),
        Command::Tidy => tidy::check(),
        Command::E2e { store } => {
            cargo(["build", "--workspace", "--all-targets"])?;
            e2e::run(store)
        }
        Command::Package { arch } => package::run(arch).map(drop),
        Command::Localstack { action } => localstack::run(action),
        Command::Infra => infra::check(),
        Command::Fuzz { target, seconds } => fuzz::run(target.as_deref(), seconds),
        Command::Deny => deps::deny(),
        Command::Advisories => deps::advisories(),
    }
}

fn test() -> Result<()> {
    let mut steps = Steps::new();
    steps.run("tidy", tidy::check)?;
    steps.run("format", || {
        cargo(["fmt", "--all", "--check"])?;
        cargo(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])
    })?;
    steps.run("clippy", || cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    steps.run("unused dependencies, licences, bans, sources", || {
        deps::machete()?;
        deps::deny()
    })?;
    steps.run("the Terraform module", infra::check)?;
    // One package selection for everything that compiles: another selection would unify features differently and rebuild.
    steps.run("build", || cargo(["build", "--workspace", "--all-targets"]))?;
    steps.run("unit and integration tests", || {
        let seaweedfs = tools::seaweedfs()?;
        tools::nextest()?;
        run::command("cargo", ["nextest", "run", "--workspace", "--no-fail-fast"])
            .env("TARN_WEED", seaweedfs)
            .env("TARN_BIN", tools::tarn_binary())
            .run()
    })?;
    steps.run("doc tests", || cargo(["test", "--quiet", "--workspace", "--doc"]))?;
    steps.run("documentation", || {
        run::command("cargo", ["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "-D warnings")
            .run()
    })?;
    steps.run("end to end", || e2e::run(e2e::StoreChoice::All))?;
    steps.run("the deployment, on emulators of AWS", localstack::quick)?;
    steps.summary();
    Ok(())
}
