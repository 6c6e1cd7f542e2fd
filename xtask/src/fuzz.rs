//! The fuzz targets (`fuzz/`, `shared/hostile`) under libFuzzer, and what the checks can say of them without running any.
//!
//! Everything lands under the target directory: builds, corpora, which grow from run to run, and inputs that crashed. An input
//! that crashed becomes a test of the crate that it crashed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::run::{command, root, target};
use crate::tools;

const MANIFEST: &str = "fuzz/Cargo.toml";
/// Links Parquet and the object stores; the others need neither.
const DELTA: &str = "delta";
/// An input that needs more memory, in MiB, or more seconds, is a finding.
const MEMORY_MB: u32 = 2048;
const INPUT_SECONDS: u32 = 20;
/// Longest input. Seeds are a few kilobytes.
const INPUT_BYTES: u32 = 64 * 1024;

/// Runs one target, or each of them, for so many seconds.
pub(crate) fn run(wanted: Option<&str>, seconds: u64) -> Result<()> {
    let targets = targets()?;
    let chosen: Vec<&String> = targets.iter().filter(|target| wanted.is_none_or(|wanted| wanted == *target)).collect();
    if chosen.is_empty() {
        bail!("there is no target '{}'; there are {}", wanted.unwrap_or_default(), targets.join(", "));
    }
    if !command("cargo", ["--version"]).env("RUSTUP_TOOLCHAIN", "nightly").succeeds() {
        bail!("fuzzing needs nightly Rust, which instruments what it compiles: rustup toolchain install nightly");
    }
    let cargo_fuzz = tools::cargo_fuzz()?;
    let home = target().join("fuzz");
    let (build, triple) = (home.join("build"), host()?);
    for name in chosen {
        let directory = build.to_string_lossy().into_owned();
        // Other features of a dependency would compile it again: all targets have the same, unless one alone needs fewer.
        let features =
            if wanted.is_some_and(|wanted| wanted != DELTA) { "--no-default-features" } else { "--all-features" };
        let place = ["--fuzz-dir", "fuzz", "--target", &triple, "--target-dir", &directory];
        command(&cargo_fuzz, ["fuzz", "build", features].iter().chain(&place).chain(&[name.as_str()]))
            .env("RUSTUP_TOOLCHAIN", "nightly")
            .run()?;
        let binary = build.join(&triple).join("release").join(name);
        fuzz(&binary, &home, name, seconds)?;
    }
    Ok(())
}

fn fuzz(binary: &Path, home: &Path, name: &str, seconds: u64) -> Result<()> {
    let [seeds, corpus, crashes] = ["seeds", "corpus", "crashes"].map(|folder| home.join(folder).join(name));
    for folder in [&corpus, &crashes] {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let options = [
        format!("-max_total_time={seconds}"),
        format!("-rss_limit_mb={MEMORY_MB}"),
        format!("-malloc_limit_mb={}", MEMORY_MB / 2),
        format!("-timeout={INPUT_SECONDS}"),
        format!("-max_len={INPUT_BYTES}"),
        format!("-artifact_prefix={}/", crashes.display()),
        "-print_final_stats=1".to_owned(),
    ];
    // What libFuzzer finds goes into the first folder.
    let folders = [corpus.display().to_string(), seeds.display().to_string()];
    command(binary, options.iter().chain(&folders))
        .env("TARN_SEEDS", &seeds)
        .run()
        .with_context(|| format!("'{name}' has found something: see {}", crashes.display()))
}

/// The names of the targets, as the manifest has them.
fn targets() -> Result<Vec<String>> {
    let text = std::fs::read_to_string(root().join(MANIFEST)).with_context(|| format!("cannot read {MANIFEST}"))?;
    let names = text.split("[[bin]]").skip(1).filter_map(|section| section.split('"').nth(1));
    Ok(names.map(str::to_owned).collect())
}

/// The triple of this machine.
fn host() -> Result<String> {
    let version = command("rustc", ["-vV"]).output()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say which machine this is")
}

/// The manifest and the lock file, for checks that look at dependencies.
pub(crate) fn manifest() -> PathBuf {
    root().join(MANIFEST)
}

/// `fuzz-targets-use-what-ships`: packages that both lock files have are of one version; otherwise the fuzzer would look for
/// defects in other code than what users run.
pub(crate) fn check_versions(problems: &mut Vec<String>) -> Result<()> {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).with_context(|| format!("cannot read {file}"));
    let (ours, theirs) = (locked(&read("Cargo.lock")?), locked(&read("fuzz/Cargo.lock")?));
    problems.extend(differences(&ours, &theirs));
    let current = command("cargo", ["metadata", "--format-version", "1", "--locked", "--manifest-path", MANIFEST]);
    if !current.succeeds() {
        problems.push(format!(
            "fuzz-targets-use-what-ships: fuzz/Cargo.lock is not up to date: cargo metadata --manifest-path {MANIFEST}"
        ));
    }
    Ok(())
}

fn differences(ours: &Versions, theirs: &Versions) -> Vec<String> {
    let differs = |(name, versions): (&String, &BTreeSet<String>)| {
        let shipped = ours.get(name)?;
        let other = versions.difference(shipped).next()?;
        Some(format!(
            "fuzz-targets-use-what-ships: fuzz/Cargo.lock has {name} {other}: cargo update --manifest-path {MANIFEST} \
             {name}@{other} --precise {}",
            shipped.last().map_or("", String::as_str)
        ))
    };
    theirs.iter().filter_map(differs).collect()
}

type Versions = BTreeMap<String, BTreeSet<String>>;

/// Names and versions in a lock file.
fn locked(text: &str) -> Versions {
    let mut versions = Versions::new();
    let value = |line: &str, key: &str| line.strip_prefix(key)?.split('"').nth(1).map(str::to_owned);
    let mut name = None;
    for line in text.lines() {
        name = value(line, "name = ").or(name);
        if let (Some(name), Some(version)) = (&name, value(line, "version = ")) {
            versions.entry(name.clone()).or_default().insert(version);
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_does_not_ship_is_a_problem() {
        let lock = |arrow: &str, more: &str| {
            locked(&format!(
                "[[package]]\nname = \"arrow\"\nversion = \"{arrow}\"\n\n[[package]]\nname = \"{more}\"\nversion = \"1.0.0\"\n"
            ))
        };
        assert_eq!(differences(&lock("59.3.2", "axum"), &lock("59.3.2", "libfuzzer-sys")), Vec::<String>::new());
        let problems = differences(&lock("59.3.2", "axum"), &lock("60.0.0", "libfuzzer-sys"));
        assert!(problems.len() == 1 && problems[0].contains("arrow@60.0.0 --precise 59.3.2"), "{problems:?}");
    }

    #[test]
    fn every_target_has_a_file() {
        let targets = targets().expect("a manifest");
        assert!(targets.contains(&"segment".to_owned()), "{targets:?}");
        for target in targets {
            assert!(root().join(format!("fuzz/fuzz_targets/{target}.rs")).exists(), "{target}");
        }
    }
}
