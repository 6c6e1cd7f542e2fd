//! `tarn import-config`: definitions from a folder of Vektonn's YAML files.
//!
//! Names and versions come from the paths, so that no YAML reader can take `1.10` for a number. Everything is parsed and
//! checked before the first definition is created.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use tarn_model::{DataSource, DataSourceId, Index, IndexId};

use super::{index, source};
use crate::args::{ImportConfigArgs, path_of};
use crate::context::{Context, Opening};
use crate::error::CliError;
use crate::output::{Cell, DIM, GOOD, NAME, Report, Table};
use crate::vektonn;

/// A definition's file: name and version from its path, and its text.
#[derive(Debug)]
struct File {
    name: String,
    version: String,
    path: PathBuf,
    yaml: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ImportReport {
    dry_run: bool,
    definitions: Vec<Imported>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Imported {
    kind: &'static str,
    name: String,
    version: String,
    file: String,
    /// `created`, `unchanged`, or `valid` in a dry run.
    outcome: &'static str,
}

impl Report for ImportReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        let mut table = Table::new(["KIND", "NAME", "OUTCOME", "FILE"]);
        for definition in &self.definitions {
            let style = if definition.outcome == "created" { GOOD } else { DIM };
            table.row([
                definition.kind.into(),
                Cell::styled(path_of(&definition.name, &definition.version), NAME),
                Cell::styled(definition.outcome, style),
                Cell::styled(&definition.file, DIM),
            ]);
        }
        table.write(out)?;
        if self.dry_run { writeln!(out, "\nnothing was created (dry run)") } else { Ok(()) }
    }
}

pub(super) async fn run(context: &Context, args: ImportConfigArgs) -> Result<ExitCode, CliError> {
    let (sources, indices) = read(&args.dir)?;
    // A dry run needs no store: it checks the files.
    let store = if args.dry_run { None } else { Some(context.store(Opening::OrCreate)?) };
    let mut definitions = Vec::new();
    for (file, definition) in &sources {
        let outcome = match &store {
            None => "valid",
            Some(store) => outcome(source::define(store, definition).await?),
        };
        definitions.push(imported("data source", file, outcome));
    }
    for (file, definition) in &indices {
        let outcome = match &store {
            None => "valid",
            Some(store) => outcome(index::define(store, definition).await?),
        };
        definitions.push(imported("index", file, outcome));
    }
    context.out.show(&ImportReport { dry_run: args.dry_run, definitions })?;
    Ok(ExitCode::SUCCESS)
}

fn outcome(created: bool) -> &'static str {
    if created { "created" } else { "unchanged" }
}

fn imported(kind: &'static str, file: &File, outcome: &'static str) -> Imported {
    Imported {
        kind,
        name: file.name.clone(),
        version: file.version.clone(),
        file: file.path.display().to_string(),
        outcome,
    }
}

type Definitions = (Vec<(File, DataSource)>, Vec<(File, Index)>);

/// Every definition below a folder, parsed and validated.
fn read(dir: &Path) -> Result<Definitions, CliError> {
    let source_files = files(&dir.join("data-sources"))?;
    let index_files = files(&dir.join("indices"))?;
    if source_files.is_empty() {
        return Err(CliError::new(format!("{} has no data-sources/NAME/VERSION.yaml", dir.display()))
            .hint("name the folder that holds `data-sources` and `indices`"));
    }
    let mut by_id = BTreeMap::new();
    let mut sources = Vec::new();
    for file in source_files {
        let definition = DataSourceId::new(&file.name, &file.version)
            .map_err(CliError::from)
            .and_then(|id| vektonn::data_source(id, &file.yaml))
            .map_err(|error| error.while_doing(file.path.display()))?;
        by_id.insert(definition.id.clone(), definition.clone());
        sources.push((file, definition));
    }
    let mut indices = Vec::new();
    for file in index_files {
        let parsed = vektonn::index_source(&file.yaml).and_then(|source_id| {
            let source = by_id.get(&source_id).ok_or_else(|| {
                CliError::new(format!("Data source {source_id} is not in the folder"))
                    .hint(format!("add data-sources/{}/{}.yaml", source_id.name, source_id.version))
            })?;
            vektonn::index(IndexId::new(&file.name, &file.version)?, &file.yaml, source)
        });
        let definition = parsed.map_err(|error| error.while_doing(file.path.display()))?;
        indices.push((file, definition));
    }
    Ok((sources, indices))
}

/// The files `{name}/{version}.yaml` below a folder, in order; none when there is no such folder.
fn files(folder: &Path) -> Result<Vec<File>, CliError> {
    let mut found = Vec::new();
    if !folder.exists() {
        return Ok(found);
    }
    for directory in entries(folder)?.into_iter().filter(|path| path.is_dir()) {
        for path in entries(&directory)? {
            let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
            let (Some(name), Some(version)) = (utf8(directory.file_name()), utf8(path.file_stem())) else {
                return Err(CliError::new(format!("{} is not a name in UTF-8", path.display())));
            };
            if is_yaml {
                let yaml = std::fs::read_to_string(&path).map_err(|error| {
                    CliError::of(&error).while_doing(format_args!("cannot read {}", path.display()))
                })?;
                found.push(File { name, version, path, yaml });
            }
        }
    }
    Ok(found)
}

fn utf8(text: Option<&std::ffi::OsStr>) -> Option<String> {
    text.and_then(|text| text.to_str()).map(str::to_owned)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let mut paths = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>())
        .map_err(|error| CliError::of(&error).while_doing(format_args!("cannot read {}", folder.display())))?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, path: &str, text: &str) {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    const SOURCE: &str = "vectorDimension: 2\nattributeValueTypes: {Id: Int64}\npermanentAttributes: [Id]\n";
    const INDEX: &str =
        "dataSourceId: {name: S, version: 1.10}\nindexAlgorithm: {type: FaissIndex.L2}\nidAttributes: [Id]\n";

    #[test]
    fn versions_are_the_file_names() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "data-sources/S/1.10.yaml", SOURCE);
        write(dir.path(), "data-sources/S/1.1.yaml", SOURCE);
        write(dir.path(), "data-sources/S/notes.txt", "not a definition");
        write(dir.path(), "indices/I/0.10.yml", INDEX);
        let (sources, indices) = read(dir.path()).unwrap();
        let versions: Vec<&str> = sources.iter().map(|(_, source)| source.id.version.as_str()).collect();
        assert_eq!(versions, ["1.1", "1.10"]);
        assert_eq!(indices[0].1.id, IndexId::new("I", "0.10").unwrap());
        assert_eq!(indices[0].1.data_source.version, "1.10");
    }

    #[test]
    fn an_index_over_a_missing_source_names_its_file() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "data-sources/Other/1.10.yaml", SOURCE);
        write(dir.path(), "indices/I/0.1.yaml", INDEX);
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("0.1.yaml") && error.contains("is not in the folder"), "{error}");
    }

    #[test]
    fn the_wrong_folder_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap_err().to_string().contains("has no data-sources"));
    }
}
