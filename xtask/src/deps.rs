//! Checks of the dependency graph with other tools: licences, bans, sources, unused dependencies, advisories.

use anyhow::{Context as _, Result};

use crate::run::command;
use crate::tools;

/// Licences, bans and sources, as `deny.toml` says.
pub(crate) fn deny() -> Result<()> {
    command(tools::cargo_deny()?, ["--log-level", "error", "check", "licenses", "bans", "sources"]).run()
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
