//! The demo's tables.

use std::collections::BTreeMap;

use serde::Serialize;
use tarn_model::{KeyPrefix, ObjectKey};
use tarn_store::Store;

use super::client::Hit;
use crate::error::CliError;
use crate::output::{Cell, DIM, HEADING, NAME, Table, bytes, count};

/// A query and the best of its answers, one block of a table per query.
pub(super) fn answers<'a>(blocks: impl IntoIterator<Item = (&'a str, &'a [Hit])>) -> String {
    let mut table = Table::new(["QUERY", "PACKAGE", ">DISTANCE", "SECTION", "DESCRIPTION"]);
    for (query, hits) in blocks {
        let mut label = query;
        for hit in hits {
            table.row([
                Cell::styled(label, HEADING),
                Cell::styled(&hit.package, NAME),
                format!("{:.3}", hit.distance).into(),
                Cell::styled(&hit.section, DIM),
                (&hit.description).into(),
            ]);
            label = "";
        }
    }
    text(&table)
}

/// Answers with the attributes that a filter looked at.
pub(super) fn filtered(hits: &[Hit]) -> String {
    let mut table = Table::new(["PACKAGE", ">DISTANCE", "SECTION", "GUI", ">INSTALLED", "DESCRIPTION"]);
    for hit in hits {
        let kib = u64::try_from(hit.installed_kb).unwrap_or(0).saturating_mul(1024);
        table.row([
            Cell::styled(&hit.package, NAME),
            format!("{:.3}", hit.distance).into(),
            Cell::styled(&hit.section, DIM),
            if hit.has_gui { "yes" } else { "no" }.into(),
            bytes(kib).into(),
            (&hit.description).into(),
        ]);
    }
    text(&table)
}

/// Answers before and after a change, side by side.
pub(super) fn before_and_after(before: &[Hit], after: &[Hit]) -> String {
    let mut table = Table::new([">#", "BEFORE", ">DISTANCE", "AFTER", ">DISTANCE", "DESCRIPTION NOW"]);
    for rank in 0..before.len().max(after.len()) {
        let cells = |hit: Option<&Hit>| match hit {
            Some(hit) => [Cell::styled(&hit.package, NAME), format!("{:.3}", hit.distance).into()],
            None => ["".into(), "".into()],
        };
        let description = after.get(rank).map(|hit| hit.description.as_str()).unwrap_or_default();
        let place = Cell::styled((rank + 1).to_string(), DIM);
        let (before, after) = (cells(before.get(rank)), cells(after.get(rank)));
        table.row([place].into_iter().chain(before).chain(after).chain([description.into()]));
    }
    text(&table)
}

/// What a store holds, by kind of object.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Contents {
    pub(super) objects: u64,
    pub(super) bytes: u64,
    pub(super) kinds: BTreeMap<&'static str, Kind>,
}

/// The objects of one kind.
#[derive(Debug, Default, Serialize)]
pub(super) struct Kind {
    objects: u64,
    bytes: u64,
}

impl Contents {
    /// Lists the store.
    pub(super) async fn of(store: &Store) -> Result<Self, CliError> {
        let mut contents = Self::default();
        for listed in store.list(&KeyPrefix::All).await? {
            let kind = match listed.key {
                Some(ObjectKey::Source(_) | ObjectKey::Index(_)) => "definitions",
                Some(ObjectKey::Delta { .. }) => "deltas (Parquet)",
                Some(ObjectKey::Checkpoint { .. }) => "checkpoints",
                Some(ObjectKey::CheckpointData { .. }) => "checkpoint data (Parquet)",
                Some(ObjectKey::Manifest { .. }) => "manifests",
                Some(ObjectKey::Hint(_)) => "hints",
                Some(ObjectKey::Catalog { .. }) => "catalogs (Arrow)",
                Some(ObjectKey::Segment { .. }) => "segments",
                _ => "other",
            };
            let sum = contents.kinds.entry(kind).or_default();
            sum.objects += 1;
            sum.bytes += listed.bytes;
            contents.objects += 1;
            contents.bytes += listed.bytes;
        }
        Ok(contents)
    }

    pub(super) fn table(&self) -> String {
        let mut table = Table::new(["IN THE STORE", ">OBJECTS", ">SIZE"]);
        for (kind, sum) in &self.kinds {
            table.row([(*kind).into(), count(sum.objects).into(), bytes(sum.bytes).into()]);
        }
        table.row([
            Cell::styled("together", HEADING),
            Cell::styled(count(self.objects), HEADING),
            Cell::styled(bytes(self.bytes), HEADING),
        ]);
        text(&table)
    }
}

fn text(table: &Table) -> String {
    let mut out = String::new();
    match table.write(&mut out) {
        Ok(()) => out,
        // Writing to a string does not fail; should it ever, the text says so.
        Err(error) => error.to_string(),
    }
}
