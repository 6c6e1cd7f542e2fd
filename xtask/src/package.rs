//! The functions' packages: `ingest-fn.zip`, `query-fn.zip` and `builder.zip`, each with one executable named `bootstrap`.
//!
//! | folder below `target/` | for | profile |
//! |---|---|---|
//! | `lambda` | AWS | `dist` |
//! | `lambda-host` | this machine: how large and how fast what ships is | `dist` |
//! | `lambda-release` | the emulators | `release` |
//! | `lambda-dev` | the emulators, in every run of the checks | dev |
//!
//! For this machine's own processor cargo builds them as it is; they run where glibc is no older than here. For AWS, cargo-lambda
//! builds with Zig's linker against an old glibc, for either processor. The C++ library is linked statically both ways, because
//! Lambda's base has none.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::run::{Command, command, root, target};
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
const QUERY: &str = "tarn-query-fn";
/// Most bytes of the search function's zip: it is fetched and unpacked before the first answer.
const QUERY_ZIP_BYTES: u64 = 8_000_000;

/// Equal bytes make equal zips, so that Terraform deploys only what changed.
const ZIP: &str = "
import sys, zipfile
entry = zipfile.ZipInfo('bootstrap', (1980, 1, 1, 0, 0, 0))
entry.external_attr, entry.compress_type, entry.create_system = 0o100755 << 16, zipfile.ZIP_DEFLATED, 3
with open(sys.argv[1], 'rb') as binary, zipfile.ZipFile(sys.argv[2], 'w') as out:
    out.writestr(entry, binary.read(), compresslevel=int(sys.argv[3]))
";

/// Builds and zips all functions as they ship; gives the folder. Those for this machine have a folder of their own, so that they
/// are not deployed by mistake.
pub(crate) fn run(arch: Arch) -> Result<PathBuf> {
    let folder = if arch == Arch::Host { for_host() } else { target().join("lambda") };
    for (package, name) in FUNCTIONS {
        let build = Build::shipped(package);
        let binary = match arch {
            Arch::Host => build.for_host(package)?,
            Arch::Arm64 => build.for_aws(package, "--arm64")?,
            Arch::X86 => build.for_aws(package, "--x86-64")?,
        };
        let bytes = zip(&binary, &folder, name, 9)?;
        println!("{:>6.2} MB  {}", bytes as f64 / 1e6, folder.join(format!("{name}.zip")).display());
        if name == "query-fn" && bytes > QUERY_ZIP_BYTES {
            bail!(
                "the search function's package may have {QUERY_ZIP_BYTES} bytes; `cargo tree -p {package}` shows what it links"
            );
        }
    }
    Ok(folder)
}

/// Where the packages for this machine are.
pub(crate) fn for_host() -> PathBuf {
    target().join("lambda-host")
}

/// Zips functions that are built in a third of the time, for a look at the deployment that need not be fast.
pub(crate) fn of_release() -> Result<PathBuf> {
    let folder = target().join("lambda-release");
    let build = Build { profile: "release", packages: FUNCTIONS.map(|(package, _)| package).to_vec(), fat_lto: false };
    for (package, name) in FUNCTIONS {
        zip(&build.for_host(package)?, &folder, name, 1)?;
    }
    Ok(folder)
}

/// Zips the functions of the dev profile, as the build step leaves them, for a look at the deployment that need not be fast.
pub(crate) fn of_dev() -> Result<PathBuf> {
    let folder = target().join("lambda-dev");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (package, name) in FUNCTIONS {
        let stripped = folder.join(package);
        let built = target().join("debug").join(package);
        if !built.is_file() {
            bail!("{} is not there: `cargo build --workspace` makes it", built.display());
        }
        command("strip", ["-o", &stripped.to_string_lossy(), &built.to_string_lossy()]).run()?;
        zip(&stripped, &folder, name, 1)?;
        std::fs::remove_file(&stripped).with_context(|| format!("cannot remove {}", stripped.display()))?;
    }
    Ok(folder)
}

/// Gives the size in bytes.
fn zip(binary: &Path, folder: &Path, name: &str, level: u8) -> Result<u64> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let zip = folder.join(format!("{name}.zip"));
    command("python3", ["-c", ZIP, &binary.to_string_lossy(), &zip.to_string_lossy(), &level.to_string()]).run()?;
    Ok(std::fs::metadata(&zip).with_context(|| format!("cannot read {}", zip.display()))?.len())
}

/// One call of cargo.
struct Build {
    profile: &'static str,
    packages: Vec<&'static str>,
    /// Links slowly, and a smaller executable.
    fat_lto: bool,
}

impl Build {
    /// What ships. The search function is built by itself, without the features that its neighbours need of what they share;
    /// and as small as can be, because it is what a cold search waits for.
    fn shipped(package: &str) -> Self {
        let is_query = |name: &str| name == QUERY;
        let packages = FUNCTIONS.iter().map(|&(name, _)| name).filter(|name| is_query(name) == is_query(package));
        Self { profile: "dist", packages: packages.collect(), fat_lto: is_query(package) }
    }

    fn command(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
        let packages = self.packages.iter().flat_map(|package| ["--package", package]);
        let arguments = arguments.iter().copied().chain(["--profile", self.profile]).chain(packages);
        let building = command(program, arguments);
        if self.fat_lto { building.env("CARGO_PROFILE_DIST_LTO", "fat") } else { building }
    }

    fn for_host(&self, package: &str) -> Result<PathBuf> {
        let version = command("rustc", ["-vV"]).output()?;
        let triple = host(&version).context("`rustc -vV` does not name its host")?;
        let library = command("c++", ["-print-file-name=libstdc++.a"]).output()?;
        let folder = Path::new(library.trim()).parent().filter(|folder| folder.is_absolute());
        let folder = folder.context("the C++ compiler has no static libstdc++")?;
        // With the target named, the flags do not reach build scripts.
        let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", triple.to_uppercase().replace('-', "_"));
        self.command("cargo", &["build", "--target", triple])
            .env("CXXSTDLIB", "static=stdc++")
            .env(&flags, format!("-L native={}", folder.display()))
            .run()?;
        Ok(target().join(triple).join(self.profile).join(package))
    }

    fn for_aws(&self, package: &str, processor: &str) -> Result<PathBuf> {
        let tools = tools::python_with("lambda", &root().join("xtask").join("requirements-lambda.txt"))?.join("bin");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(tools.clone()).chain(std::env::split_paths(&path));
        let path = std::env::join_paths(folders).context("PATH cannot be extended")?;
        let folder = target().join("lambda").join(processor.trim_start_matches('-'));
        let out = folder.to_string_lossy();
        let arguments = ["lambda", "build", processor, "--lambda-dir", &out];
        let mut build = self.command(tools.join("cargo-lambda"), &arguments).env("PATH", path);
        if processor == "--x86-64" {
            // Zig's compiler takes no intrinsic of what was not asked for; the graph library counts bits wherever it has AVX2.
            for flags in ["CFLAGS_x86_64_unknown_linux_gnu", "CXXFLAGS_x86_64_unknown_linux_gnu"] {
                build = build.env(flags, "-mpopcnt");
            }
        }
        build.run()?;
        Ok(folder.join(package).join("bootstrap"))
    }
}

/// The host triple in what `rustc -vV` prints.
fn host(version: &str) -> Option<&str> {
    version.lines().find_map(|line| line.strip_prefix("host: "))
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
