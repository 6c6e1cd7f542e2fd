//! The functions' packages: `target/lambda/{ingest-fn,query-fn,builder}.zip`, each with one executable named `bootstrap`.
//!
//! For this machine's own processor cargo builds them as it is; they are for the emulators, and run where glibc is no older than
//! here. For AWS, cargo-lambda builds with Zig's linker against an old glibc, for either processor. The C++ library is linked
//! statically both ways, because Lambda's base has none.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::run::{command, root, target};
use crate::tools;

/// For which processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    /// This machine's, to run on this machine.
    Host,
    /// AWS Graviton.
    Arm64,
    /// Intel and AMD.
    #[value(name = "x86_64")]
    X86,
}

/// Package, and what its zip is called.
const FUNCTIONS: [(&str, &str); 3] =
    [("tarn-ingest-fn", "ingest-fn"), ("tarn-query-fn", "query-fn"), ("tarn-builder", "builder")];
/// Most bytes of the search function's zip: it is fetched and unpacked before the first answer.
const QUERY_ZIP_BYTES: u64 = 8_000_000;

/// Equal bytes make equal zips, so that Terraform deploys only what changed.
const ZIP: &str = "
import sys, zipfile
entry = zipfile.ZipInfo('bootstrap', (1980, 1, 1, 0, 0, 0))
entry.external_attr, entry.compress_type, entry.create_system = 0o100755 << 16, zipfile.ZIP_DEFLATED, 3
with open(sys.argv[1], 'rb') as binary, zipfile.ZipFile(sys.argv[2], 'w') as out:
    out.writestr(entry, binary.read(), compresslevel=9)
";

/// Builds and zips all functions; gives the folder.
pub(crate) fn run(arch: Arch) -> Result<PathBuf> {
    let folder = target().join("lambda");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (package, name) in FUNCTIONS {
        // One at a time: what ships links the features that it needs, not those of its neighbours.
        let binary = match arch {
            Arch::Host => build_for_host(package)?,
            Arch::Arm64 => build_for_aws(package, "--arm64")?,
            Arch::X86 => build_for_aws(package, "--x86-64")?,
        };
        let zip = folder.join(format!("{name}.zip"));
        command("python3", ["-c", ZIP, &binary.to_string_lossy(), &zip.to_string_lossy()]).run()?;
        let bytes = std::fs::metadata(&zip).with_context(|| format!("cannot read {}", zip.display()))?.len();
        println!("{:>6.2} MB  {}", bytes as f64 / 1e6, zip.display());
        if name == "query-fn" && bytes > QUERY_ZIP_BYTES {
            bail!(
                "the search function's package may have {QUERY_ZIP_BYTES} bytes; `cargo tree -p {package}` shows what it links"
            );
        }
    }
    Ok(folder)
}

fn build_for_host(package: &str) -> Result<PathBuf> {
    let version = command("rustc", ["-vV"]).output()?;
    let triple = host(&version).context("`rustc -vV` does not name its host")?;
    let library = command("c++", ["-print-file-name=libstdc++.a"]).output()?;
    let folder = Path::new(library.trim()).parent().filter(|folder| folder.is_absolute());
    let folder = folder.context("the C++ compiler has no static libstdc++")?;
    // With the target named, the flags do not reach build scripts.
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", triple.to_uppercase().replace('-', "_"));
    command("cargo", ["build", "--profile", "dist", "--package", package, "--target", triple])
        .env("CXXSTDLIB", "static=stdc++")
        .env(&flags, format!("-L native={}", folder.display()))
        .run()?;
    Ok(target().join(triple).join("dist").join(package))
}

/// The host triple in what `rustc -vV` prints.
fn host(version: &str) -> Option<&str> {
    version.lines().find_map(|line| line.strip_prefix("host: "))
}

fn build_for_aws(package: &str, processor: &str) -> Result<PathBuf> {
    let tools = tools::python_with("lambda", &root().join("xtask").join("requirements-lambda.txt"))?.join("bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(tools.clone()).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(folders).context("PATH cannot be extended")?;
    let folder = target().join("lambda").join(processor.trim_start_matches('-'));
    let out = folder.to_string_lossy();
    let arguments = ["lambda", "build", processor, "--profile", "dist", "--package", package, "--lambda-dir", &out];
    command(tools.join("cargo-lambda"), arguments).env("PATH", path).run()?;
    Ok(folder.join(package).join("bootstrap"))
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn the_host_is_what_rustc_says() {
        let version = "rustc 1.94.0\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.94.0\n";
        assert_eq!(host(version), Some("x86_64-unknown-linux-gnu"));
        assert_eq!(host("rustc 1.94.0"), None);
    }
}
