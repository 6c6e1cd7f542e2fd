//! Running commands, and steps with their times. A command that fails ends the run with its own output as the explanation.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new(".")).to_path_buf()
}

/// Where everything lands that a run makes.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// A command in the root of the checkout, its output passed through.
pub(crate) struct Command(process::Command);

/// Prepares a command.
pub(crate) fn command<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = process::Command::new(program);
    command.args(args).current_dir(root());
    Command(command)
}

/// Runs cargo.
pub(crate) fn cargo<const N: usize>(args: [&str; N]) -> Result<()> {
    command("cargo", args).run()
}

impl Command {
    /// Sets an environment variable.
    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(key, value);
        self
    }

    /// Runs to the end; fails unless the exit status is 0.
    pub(crate) fn run(mut self) -> Result<()> {
        let status = self.0.status().with_context(|| format!("cannot start {}", self))?;
        if !status.success() {
            bail!("{self} ended with {status}");
        }
        Ok(())
    }

    /// Runs to the end and gives its standard output.
    pub(crate) fn output(mut self) -> Result<String> {
        let output =
            self.0.stderr(process::Stdio::inherit()).output().with_context(|| format!("cannot start {}", self))?;
        if !output.status.success() {
            bail!("{self} ended with {}", output.status);
        }
        String::from_utf8(output.stdout).context("output is not UTF-8")
    }

    /// Whether it runs and ends with status 0; its output is dropped.
    pub(crate) fn succeeds(mut self) -> bool {
        self.0
            .stdout(process::Stdio::null())
            .stderr(process::Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}", self.0.get_program().to_string_lossy())?;
        for arg in self.0.get_args() {
            write!(f, " {}", arg.to_string_lossy())?;
        }
        f.write_str("`")
    }
}

/// Steps run so far, with their times.
pub(crate) struct Steps {
    done: Vec<(String, Duration)>,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self { done: Vec::new() }
    }

    /// Announces and runs one step.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n── {name}");
        let start = Instant::now();
        step().with_context(|| format!("the step '{name}' failed"))?;
        self.done.push((name.to_owned(), start.elapsed()));
        Ok(())
    }

    /// Prints the times.
    pub(crate) fn summary(&self) {
        println!("\n── all steps passed");
        for (name, took) in &self.done {
            println!("{:>7.1} s  {name}", took.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, took)| *took).sum();
        println!("{:>7.1} s  in all", total.as_secs_f64());
    }
}
