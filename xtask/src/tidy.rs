//! Rules of the source tree that no other tool checks.
//!
//! - `forbidden-dependencies`: which crate may never link which (see `ARCHITECTURE.md`).
//! - `file-header`: every Rust file opens with `//!`.
//! - `unsafe-in-one-crate`: only `shared/segment` may allow unsafe code.
//! - `file-size`: production code of one file stays within a screenful of screens.
//! - `no-mod-rs`, `workspace-dependencies`.
//! - `fuzz-targets-use-what-ships`: see `fuzz`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::fuzz;
use crate::run::{command, root};

/// `crate` may never link, however indirectly, a package whose name starts with `package`.
struct Forbidden {
    from: &'static str,
    package: &'static str,
    why: &'static str,
}

const FORBIDDEN: &[Forbidden] = &[
    Forbidden { from: "tarn-query-fn", package: "datafusion", why: "the search function starts in milliseconds" },
    Forbidden { from: "tarn-query-fn", package: "aws", why: "the search function signs with what reads the store" },
    Forbidden { from: "tarn-drop", package: "axum", why: "the drop folder knows no HTTP" },
    Forbidden { from: "tarn-drop", package: "usearch", why: "the drop folder needs no index code" },
    Forbidden { from: "tarn-drop", package: "datafusion", why: "the upload function starts in milliseconds" },
    Forbidden { from: "tarn-ingest-fn", package: "usearch", why: "uploading needs no index code" },
    Forbidden { from: "tarn-ingest-fn", package: "datafusion", why: "the upload function starts in milliseconds" },
    Forbidden { from: "tarn-model", package: "tokio", why: "the model does no I/O" },
    Forbidden { from: "tarn-model", package: "object_store", why: "the model does no I/O" },
    Forbidden { from: "tarn-search", package: "datafusion", why: "searching needs no SQL engine" },
];

/// Production lines of one file, tests and blank lines aside.
const FILE_LINES: usize = 600;

/// Every rule; all violations are listed before it fails.
pub(crate) fn check() -> Result<()> {
    let mut problems = Vec::new();
    dependencies(&mut problems)?;
    sources(&mut problems)?;
    fuzz::check_versions(&mut problems)?;
    if problems.is_empty() {
        return Ok(());
    }
    for problem in &problems {
        println!("{problem}");
    }
    bail!("{} rule(s) of the source tree are broken", problems.len());
}

fn dependencies(problems: &mut Vec<String>) -> Result<()> {
    let metadata = command("cargo", ["metadata", "--format-version", "1", "--locked"]).output()?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata is not JSON")?;
    let graph = Graph::parse(&metadata)?;
    for rule in FORBIDDEN {
        if let Some(path) = graph.path(rule.from, rule.package) {
            problems.push(format!("forbidden-dependencies: {} ({})", path.join(" → "), rule.why));
        }
    }
    for package in &graph.members {
        let library = package.starts_with("tarn-") && graph.in_shared.contains(package);
        let path = if library { graph.path(package, "lambda_runtime") } else { None };
        if let Some(path) = path {
            problems.push(format!("forbidden-dependencies: {} (libraries know no Lambda)", path.join(" → ")));
        }
    }
    Ok(())
}

/// The resolved graph of normal and build dependencies, by package name.
struct Graph {
    members: Vec<String>,
    in_shared: BTreeSet<String>,
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn parse(metadata: &Value) -> Result<Self> {
        let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut names = BTreeMap::new();
        let mut in_shared = BTreeSet::new();
        for package in array(&metadata["packages"]) {
            if text(&package["manifest_path"]).contains("/shared/") && package["source"].is_null() {
                in_shared.insert(text(&package["name"]));
            }
            names.insert(text(&package["id"]), text(&package["name"]));
        }
        let name = |id: &Value| names.get(&text(id)).cloned().context("a package id without a package");
        let members = array(&metadata["workspace_members"]).iter().map(name).collect::<Result<_>>()?;
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in array(&metadata["resolve"]["nodes"]) {
            let to = edges.entry(name(&node["id"])?).or_default();
            for dependency in array(&node["deps"]) {
                if array(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev") {
                    to.insert(name(&dependency["pkg"])?);
                }
            }
        }
        Ok(Self { members, in_shared, edges })
    }

    /// A path from a package to one whose name is `prefix` or starts with `prefix-`.
    fn path(&self, from: &str, prefix: &str) -> Option<Vec<String>> {
        let hit = |name: &str| name == prefix || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('-'));
        let mut paths = vec![vec![from.to_owned()]];
        let mut seen = BTreeSet::from([from.to_owned()]);
        while let Some(path) = paths.pop() {
            for next in path.last().and_then(|last| self.edges.get(last)).into_iter().flatten() {
                let longer = || path.iter().cloned().chain([next.clone()]).collect::<Vec<_>>();
                if hit(next) {
                    return Some(longer());
                }
                if seen.insert(next.clone()) {
                    paths.push(longer());
                }
            }
        }
        None
    }
}

fn sources(problems: &mut Vec<String>) -> Result<()> {
    for file in tracked("*.rs")? {
        let text =
            std::fs::read_to_string(root().join(&file)).with_context(|| format!("cannot read {}", file.display()))?;
        let shown = file.display();
        if !text.starts_with("//!") {
            problems.push(format!(
                "file-header: {shown} does not open with `//!`: say what it is for, and what it does not do"
            ));
        }
        if file.ends_with("mod.rs") {
            problems.push(format!("no-mod-rs: {shown}"));
        }
        let own_unsafe = file.starts_with("shared/segment") || file.starts_with("xtask");
        if !own_unsafe && text.contains(concat!("allow(", "unsafe_code")) {
            problems.push(format!("unsafe-in-one-crate: {shown}"));
        }
        let lines = production_lines(&file, &text);
        if lines > FILE_LINES {
            problems.push(format!(
                "file-size: {shown} has {lines} production lines, over {FILE_LINES}: split it by concept"
            ));
        }
    }
    for file in tracked("*Cargo.toml")? {
        let text = std::fs::read_to_string(root().join(&file))?;
        // Roots of workspaces: ours, and that of the fuzz targets.
        if file != Path::new("Cargo.toml") && file != Path::new("fuzz/Cargo.toml") {
            for line in text.lines().filter(|line| line.contains("version = \"")) {
                problems.push(format!(
                    "workspace-dependencies: {}: `{line}` belongs into the root manifest",
                    file.display()
                ));
            }
        }
    }
    Ok(())
}

/// Lines before the first test module, blank ones and comments aside; 0 for files of tests.
fn production_lines(file: &Path, text: &str) -> usize {
    let is_test = file.file_stem().is_some_and(|stem| stem == "tests")
        || file.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "benches");
    if is_test {
        return 0;
    }
    text.lines()
        .take_while(|line| line.trim() != "#[cfg(test)]")
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .count()
}

fn tracked(pattern: &str) -> Result<Vec<PathBuf>> {
    let files = command("git", ["ls-files", "--cached", "--others", "--exclude-standard", pattern]).output()?;
    Ok(files.lines().map(PathBuf::from).filter(|file| root().join(file).exists()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_package_is_found_behind_others() {
        let edge = |from: &str, to: &str| (from.to_owned(), BTreeSet::from([to.to_owned()]));
        let graph = Graph {
            members: vec!["a".into()],
            in_shared: BTreeSet::new(),
            edges: BTreeMap::from([edge("a", "b"), edge("b", "datafusion-common"), edge("c", "datafusionish")]),
        };
        assert_eq!(graph.path("a", "datafusion"), Some(vec!["a".into(), "b".into(), "datafusion-common".into()]));
        assert_eq!(graph.path("c", "datafusion"), None);
    }

    #[test]
    fn tests_do_not_count_as_production_lines() {
        let text = "//! Header.\n\nfn a() {}\n// why\nfn b() {}\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(production_lines(Path::new("shared/x/src/lib.rs"), text), 2);
        assert_eq!(production_lines(Path::new("tests/model/main.rs"), text), 0);
    }
}
