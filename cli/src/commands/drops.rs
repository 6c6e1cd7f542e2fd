//! `tarn drops`: what became of the files that were dropped for a data source.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;
use tarn_api::DropDto;
use tarn_drop::{DropEntry, DropState, list_drops};

use crate::args::{DropsArgs, path_of};
use crate::context::{self, Context, Opening};
use crate::error::CliError;
use crate::output::{BAD, Cell, DIM, GOOD, Report, Table, WARN, ago, bytes, count, one_line};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DropsReport {
    data_source: String,
    drops: Vec<DropDto>,
    /// More files than were asked for.
    more: bool,
    #[serde(skip)]
    entries: Vec<DropEntry>,
    #[serde(skip)]
    now_ms: i64,
}

impl Report for DropsReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        if self.entries.is_empty() {
            return writeln!(
                out,
                "nothing was dropped for {}: copy files below drop/{}/",
                self.data_source, self.data_source
            );
        }
        let mut table = Table::new(["FILE", "STATE", ">ROWS", ">SIZE", "WHEN", "WHAT"]);
        for entry in &self.entries {
            let (style, state) = match entry.state {
                DropState::Pending => (DIM, "pending"),
                DropState::Running => (WARN, "running"),
                DropState::Committed => (GOOD, "committed"),
                _ => (BAD, "refused"),
            };
            let what = match (&entry.report, &entry.version) {
                (Some(report), _) => report.to_string(),
                (None, Some(version)) => format!("version {version}"),
                (None, None) if entry.state == DropState::Running => {
                    format!("{} rows are committed", count(entry.rows_committed))
                }
                _ => String::new(),
            };
            table.row([
                one_line(&entry.path).into(),
                Cell::styled(state, style),
                entry.rows.map(count).unwrap_or_default().into(),
                bytes(entry.bytes).into(),
                Cell::styled(ago(entry.changed_ms, self.now_ms), DIM),
                what.into(),
            ]);
        }
        table.write(out)?;
        if self.more {
            writeln!(out, "{DIM}there are more; --limit shows them{DIM:#}")?;
        }
        Ok(())
    }
}

pub(super) async fn run(context: &Context, args: DropsArgs) -> Result<ExitCode, CliError> {
    let store = context.store(Opening::Existing)?;
    let source = context::source(&store, &args.source.source()).await?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let page = list_drops(&store, &source.id, limit, None).await?;
    let page = page.ok_or_else(|| CliError::new("the first page has no beginning"))?;
    context.out.show(&DropsReport {
        data_source: path_of(&source.id.name, &source.id.version),
        drops: page.entries.iter().cloned().map(DropDto::from).collect(),
        more: page.next.is_some(),
        entries: page.entries,
        now_ms: store.clock().now_ms(),
    })?;
    Ok(ExitCode::SUCCESS)
}
