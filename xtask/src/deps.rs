//! Checks of the dependency graph with other tools: licences, bans, sources, unused dependencies, advisories.

use anyhow::{Context as _, Result};

use crate::fuzz;
use crate::run::{command, root};
use crate::tools;

/// Licences, bans and sources, as `deny.toml` says: of the workspace, and of the fuzz targets, which are one of their own.
pub(crate) fn deny() -> Result<()> {
    let cargo_deny = tools::cargo_deny()?;
    for manifest in [root().join("Cargo.toml"), fuzz::manifest()] {
        let manifest = manifest.to_string_lossy();
        let checks = ["--log-level", "error", "--manifest-path", &manifest, "check", "licenses", "bans", "sources"];
        command(&cargo_deny, checks).run()?;
    }
    Ok(())
}

/// Dependencies that no code uses.
pub(crate) fn machete() -> Result<()> {
    command(tools::cargo_machete()?, ["--with-metadata"]).run()
}

/// Known vulnerabilities.
pub(crate) fn advisories() -> Result<()> {
    command(tools::cargo_deny()?, ["check", "advisories"])
        .run()
        .context("either an advisory applies (see above), or the RustSec database could not be fetched: then nothing was checked")
}
