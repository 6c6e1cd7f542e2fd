//! The deployment on emulators of AWS: packages the functions and runs `localstack/`'s own command.

use std::path::Path;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};

use crate::package;
use crate::run::{command, root};
use crate::tools;

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// Packages the functions, then on each emulator: deploy, the end-to-end suite, destroy.
    Test {
        /// Which emulators.
        #[arg(long, value_enum, default_value = "all")]
        emulator: Emulator,
        /// Leave out what takes minutes.
        #[arg(long)]
        quick: bool,
        /// Use what ships, as `cargo xtask package` has left it, rather than packages of the release profile.
        #[arg(long)]
        packaged: bool,
        /// Arguments for pytest, after `--`.
        #[arg(last = true)]
        pytest: Vec<String>,
    },
}

/// Stand-ins for AWS.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Emulator {
    /// Most of AWS, without roles.
    Localstack,
    /// Less of it, with roles enforced.
    Ministack,
    /// One after the other.
    All,
}

/// Does it.
pub(crate) fn run(action: Action) -> Result<()> {
    let Action::Test { emulator, quick, packaged, pytest } = action;
    let zips = if packaged { package::for_host() } else { package::of_release()? };
    suite(emulator, &zips, quick, &pytest)
}

/// What every change must pass: the command's own tests, and the suite in its quick form, with the binaries of the dev profile.
pub(crate) fn quick() -> Result<()> {
    let zips = package::of_dev()?;
    in_python(&["-m", "pytest", "-q", "localstack/tests"])?;
    suite(Emulator::All, &zips, true, &[])
}

fn suite(emulator: Emulator, zips: &Path, quick: bool, pytest: &[String]) -> Result<()> {
    let zips = zips.to_string_lossy();
    for (choice, name) in [(Emulator::Localstack, "localstack"), (Emulator::Ministack, "ministack")] {
        if emulator == Emulator::All || emulator == choice {
            println!("the deployment on {name}");
            let mut arguments = vec!["-m", "tarn_localstack", "test", "--emulator", name, "--zips", &zips];
            arguments.extend(quick.then_some("--quick"));
            if !pytest.is_empty() {
                arguments.push("--");
                arguments.extend(pytest.iter().map(String::as_str));
            }
            in_python(&arguments)?;
        }
    }
    Ok(())
}

/// Runs Python with the packages that `localstack/` needs.
pub(crate) fn in_python(arguments: &[&str]) -> Result<()> {
    let python = tools::python_with("aws", &root().join("localstack").join("requirements.txt"))?;
    command(python.join("bin").join("python"), arguments)
        .env("PYTHONPATH", root().join("localstack"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .run()
}
