//! The end-to-end suite: pytest with the official Vektonn client, and schemathesis, against `tarn serve`.
//! The same tests run over a directory and over a real S3 server.

use anyhow::Result;
use clap::ValueEnum;

use crate::run::command;
use crate::tools;

/// Which stores the suite runs over.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoreChoice {
    /// A local directory.
    Disk,
    /// SeaweedFS, on loopback.
    S3,
    /// One after the other.
    All,
}

/// Runs the suite with the `tarn` binary of the dev profile.
pub(crate) fn run(choice: StoreChoice) -> Result<()> {
    let client = tools::python("client")?;
    let tools_home = tools::python("tools")?;
    for (store, name) in [(StoreChoice::Disk, "disk"), (StoreChoice::S3, "s3")] {
        if choice == StoreChoice::All || choice == store {
            println!("the Vektonn client, over {name}");
            command(
                client.join("bin").join("python"),
                ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/e2e", "--store", name],
            )
            .env("TARN_BIN", tools::tarn_binary())
            .env("TARN_WEED", tools::seaweedfs()?)
            .env("TARN_SCHEMATHESIS", tools_home.join("bin").join("schemathesis"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .run()?;
        }
    }
    Ok(())
}
