//! What every command starts from: the store it was told to use, and where its report goes.
//!
//! Refuses to treat a directory that holds something else as a store.

use std::path::{Path, PathBuf};

use tarn_model::{DataSource, DataSourceId, Index, IndexId};
use tarn_store::{Store, StoreOptions};

use crate::args::GlobalArgs;
use crate::error::CliError;
use crate::output::{NAME, Output};

/// Whether a command may begin a new store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// The store must be there.
    Existing,
    /// A directory that does not exist is created; an empty one becomes a store.
    OrCreate,
}

/// The global options, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    location: Option<String>,
    pub(crate) out: Output,
}

impl Context {
    pub(crate) fn new(global: &GlobalArgs) -> Self {
        Self { location: global.store.clone(), out: Output::new(global.json) }
    }

    /// The store's location as the user gave it.
    pub(crate) fn location(&self) -> Result<&str, CliError> {
        match self.location.as_deref() {
            Some(location) if !location.is_empty() => Ok(location),
            _ => Err(CliError::new("no store given")
                .hint("pass --store ./tarn-data or --store s3://bucket/prefix, or set TARN_STORE")),
        }
    }

    /// Opens the store.
    ///
    /// # Errors
    /// No store was given, the directory is missing (unless it may be created), is a file, or holds something else.
    pub(crate) fn store(&self, opening: Opening) -> Result<Store, CliError> {
        let location = self.location()?;
        if let Some(directory) = local_directory(location) {
            check_directory(&directory, opening)?;
        }
        let mut options = StoreOptions::default();
        options.create_directory = opening == Opening::OrCreate;
        Ok(Store::open(location, &options)?)
    }
}

/// The directory that a location names; `None` for other URLs, which the store crate judges.
fn local_directory(location: &str) -> Option<PathBuf> {
    match location.split_once("://") {
        None => Some(PathBuf::from(location)),
        Some(("file", path)) => Some(PathBuf::from(path)),
        Some(_) => None,
    }
}

/// The folders that a store begins with (see the model's `layout`). One of them makes a directory a store.
const STORE_FOLDERS: [&str; 4] = ["sources", "indices", "auth", "drop"];

fn check_directory(directory: &Path, opening: Opening) -> Result<(), CliError> {
    let shown = directory.display();
    if !directory.exists() {
        return match opening {
            Opening::OrCreate => Ok(()),
            Opening::Existing => Err(CliError::new(format!("there is no store at {shown}")).hint(format!(
                "create one with `tarn source create … --store {shown}` or `tarn serve --store {shown}`"
            ))),
        };
    }
    if !directory.is_dir() {
        return Err(CliError::new(format!("{shown} is a file, not a directory")).hint("name a directory for the store"));
    }
    let entries = std::fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| entry.map(|e| e.file_name())).collect::<Result<Vec<_>, _>>())
        .map_err(|error| CliError::of(&error).while_doing(format_args!("cannot read the directory {shown}")))?;
    let is_store = STORE_FOLDERS.iter().any(|folder| directory.join(folder).is_dir());
    let foreign = entries.iter().find(|name| {
        let name = name.to_string_lossy();
        !name.starts_with('.') && name != "lost+found" && !STORE_FOLDERS.contains(&name.as_ref())
    });
    match foreign {
        Some(name) if !is_store => {
            Err(CliError::new(format!("{shown} is not a store: it holds other files ({})", name.to_string_lossy()))
                .hint("name a new or an empty directory"))
        }
        _ => Ok(()),
    }
}

/// The definition of a data source.
///
/// # Errors
/// It does not exist; the hint lists what does.
pub(crate) async fn source(store: &Store, id: &DataSourceId) -> Result<std::sync::Arc<DataSource>, CliError> {
    match tarn_store::load_source(store, id).await? {
        Some(source) => Ok(source),
        None => Err(no_source(store, id).await?),
    }
}

/// The definition of a data source that is to be uploaded to: of a version that another one's
/// definition allows, what it is to be.
///
/// # Errors
/// As [`source`].
pub(crate) async fn source_of_upload(store: &Store, id: &DataSourceId) -> Result<std::sync::Arc<DataSource>, CliError> {
    match tarn_timeline::source_of_upload(store, id).await? {
        Some(source) => Ok(source),
        None => Err(no_source(store, id).await?),
    }
}

async fn no_source(store: &Store, id: &DataSourceId) -> Result<CliError, CliError> {
    let known = tarn_store::list_sources(store).await?;
    let known = known.iter().map(|known| crate::args::path_of(&known.id.name, &known.id.version));
    Ok(CliError::new(format!("Data source {id} does not exist")).hint(known_hint(known, "tarn source create")))
}

/// The definition of an index.
///
/// # Errors
/// It does not exist; the hint lists what does.
pub(crate) async fn index(store: &Store, id: &IndexId) -> Result<std::sync::Arc<Index>, CliError> {
    if let Some(index) = tarn_store::load_index(store, id).await? {
        return Ok(index);
    }
    let known = tarn_store::list_indices(store).await?;
    let known = known.iter().map(|known| crate::args::path_of(&known.id.name, &known.id.version));
    Err(CliError::new(format!("Index {id} does not exist")).hint(known_hint(known, "tarn index create")))
}

fn known_hint(known: impl Iterator<Item = String>, create: &str) -> String {
    let known: Vec<String> = known.take(10).collect();
    if known.is_empty() {
        format!("the store has none; create one with {NAME}{create}{NAME:#}")
    } else {
        format!("the store has {}", known.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_other_things_is_no_store() {
        let dir = tempfile::tempdir().unwrap();
        check_directory(dir.path(), Opening::Existing).unwrap();
        std::fs::write(dir.path().join("letter.txt"), "dear").unwrap();
        let error = check_directory(dir.path(), Opening::OrCreate).unwrap_err();
        assert!(error.to_string().contains("holds other files (letter.txt)"), "{error}");
        std::fs::create_dir(dir.path().join("sources")).unwrap();
        check_directory(dir.path(), Opening::Existing).unwrap();
    }

    #[test]
    fn a_missing_folder_is_created_only_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("new");
        assert!(check_directory(&missing, Opening::Existing).is_err());
        check_directory(&missing, Opening::OrCreate).unwrap();
        std::fs::write(&missing, "").unwrap();
        assert!(check_directory(&missing, Opening::OrCreate).unwrap_err().to_string().contains("is a file"));
    }
}
