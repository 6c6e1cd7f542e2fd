//! The Terraform module: its format, its own tests, and a review by checkov. Nothing is deployed, and no account is needed.
//!
//! The tests run against mocks, with the schema of the stand-in provider in `localstack/`: no provider registry is asked.

use anyhow::{Context as _, Result, bail};

use crate::run::{command, root};
use crate::{localstack, tools};

/// Checks it all.
pub(crate) fn check() -> Result<()> {
    if !command("terraform", ["version"]).succeeds() {
        bail!(
            "`terraform` is not on PATH. The checks of infra/ need version 1.9 or later: unpack the archive for this machine from \
             https://developer.hashicorp.com/terraform/install into a folder of PATH"
        );
    }
    command("terraform", ["fmt", "-check", "-diff", "-recursive", "infra"])
        .run()
        .context("`terraform fmt -recursive infra` puts it right")?;
    localstack::in_python(&["-m", "tarn_localstack", "check"])?;
    let checkov = tools::python_with("checkov", &root().join("xtask").join("requirements-checkov.txt"))?;
    command(checkov.join("bin").join("checkov"), ["--config-file", "infra/.checkov.yaml"])
        .run()
        .context("mend what checkov found, or leave it out in infra/.checkov.yaml and say why")
}
