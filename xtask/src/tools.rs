//! Tools that the checks need and a fresh machine lacks, installed under `target/tools` from the package registries.
//! A tool already there in the right version is used as it is.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::run::{command, root, target};

const CARGO_DENY: (&str, &str) = ("cargo-deny", "0.20.2");
const CARGO_FUZZ: (&str, &str) = ("cargo-fuzz", "0.13.2");
const CARGO_MACHETE: (&str, &str) = ("cargo-machete", "0.9.2");
const CARGO_NEXTEST: (&str, &str) = ("cargo-nextest", "0.9.143");

/// The `tarn` binary of the dev profile, as the build step leaves it.
pub(crate) fn tarn_binary() -> PathBuf {
    target().join("debug").join(if cfg!(windows) { "tarn.exe" } else { "tarn" })
}

/// The path of cargo-deny.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    cargo_tool(CARGO_DENY)
}

/// The path of cargo-fuzz.
pub(crate) fn cargo_fuzz() -> Result<PathBuf> {
    cargo_tool(CARGO_FUZZ)
}

/// The path of cargo-machete.
pub(crate) fn cargo_machete() -> Result<PathBuf> {
    cargo_tool(CARGO_MACHETE)
}

/// Makes sure that `cargo nextest` runs.
pub(crate) fn nextest() -> Result<()> {
    if command("cargo", ["nextest", "--version"]).succeeds() {
        return Ok(());
    }
    let (name, version) = CARGO_NEXTEST;
    println!("installing {name} {version}, once for this machine");
    command("cargo", ["install", name, "--version", version, "--locked"]).run()
}

fn cargo_tool((name, version): (&str, &str)) -> Result<PathBuf> {
    let home = target().join("tools").join(format!("{name}-{version}"));
    let binary = home.join("bin").join(name);
    if !binary.exists() {
        println!("installing {name} {version} under target/tools, once");
        let home = home.to_string_lossy().into_owned();
        // Its own target directory, so that an outer CARGO_TARGET_DIR is not filled with the tool's build.
        command("cargo", ["install", name, "--version", version, "--locked", "--quiet", "--root", &home])
            .env("CARGO_TARGET_DIR", target().join("tools").join("build"))
            .run()?;
        remove(&target().join("tools").join("build"))?;
    }
    Ok(binary)
}

/// The `weed` binary of SeaweedFS: a real S3 server in one file.
pub(crate) fn seaweedfs() -> Result<PathBuf> {
    Ok(python("tools")?.join("bin").join("weed"))
}

/// A virtual environment with what `tests/e2e/requirements-{name}.txt` pins; gives its folder.
pub(crate) fn python(name: &str) -> Result<PathBuf> {
    python_with(name, &root().join("tests/e2e").join(format!("requirements-{name}.txt")))
}

/// A virtual environment with what a file of requirements pins; gives its folder.
pub(crate) fn python_with(name: &str, requirements: &Path) -> Result<PathBuf> {
    let wanted =
        std::fs::read_to_string(requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let home = target().join("tools").join(format!("python-{name}"));
    let stamp = home.join("installed.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(home);
    }
    println!("preparing the Python environment '{name}' under target/tools, once");
    remove(&home)?;
    command("python3", ["-m", "venv", &home.to_string_lossy()])
        .run()
        .context("Python 3 with venv is needed for the checks")?;
    let pip = home.join("bin").join("python");
    command(
        pip,
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", &requirements.to_string_lossy()],
    )
    .run()
    .with_context(|| {
        format!("{} needs Python 3.11 or later, and a package index that answers", requirements.display())
    })?;
    std::fs::write(&stamp, wanted)?;
    Ok(home)
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
