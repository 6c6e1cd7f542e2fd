//! `tarn index recall|delete-points`: in this process, on the store directly.

use std::sync::Arc;

use serde::Serialize;
use tarn_model::{Attributes, DataSource, Filter, ReadToken};
use tarn_search::{Hydration, RecallRequest};
use tarn_timeline::{SweepOptions, Timeline};

use super::super::search::engine;
use crate::args::{IndexDeletePointsArgs, IndexRecallArgs};
use crate::context::{self, Context, Opening};
use crate::error::CliError;
use crate::output::{Report, counted, fields};
use crate::value::parse_attributes;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RecallReport {
    recall: f64,
    lowest: f64,
    queries: u32,
    k: u32,
    search_seconds: f64,
    exact_seconds: f64,
    version: ReadToken,
    generation: u64,
}

impl Report for RecallReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        let each = |seconds: f64| format!("{:.3} ms", seconds * 1e3 / f64::from(self.queries.max(1)));
        let lines = [
            ("recall", format!("{:.4} @ {}", self.recall, self.k)),
            ("worst query", format!("{:.4}", self.lowest)),
            ("queries", self.queries.to_string()),
            ("a search", each(self.search_seconds)),
            ("an exact one", each(self.exact_seconds)),
        ];
        fields(out, &lines)
    }
}

pub(super) async fn recall(context: &Context, args: IndexRecallArgs) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    let id = args.index.index();
    let index = context::index(&store, &id).await?;
    let source = context::source(&store, &index.data_source).await?;
    let engine = engine(store, &args.cache, Hydration::Off)?;
    let request = RecallRequest {
        queries: args.queries,
        k: args.k,
        seed: args.seed,
        filter: filter(args.filter.as_deref(), &source)?,
        target_recall: args.target_recall,
        ..RecallRequest::default()
    };
    let report = engine.recall(&id, request).await?;
    context.out.show(&RecallReport {
        recall: report.recall,
        lowest: report.lowest,
        queries: report.queries,
        k: report.k,
        search_seconds: report.searching.as_secs_f64(),
        exact_seconds: report.exact.as_secs_f64(),
        version: report.version,
        generation: report.generation,
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DeletedReport {
    deleted: u64,
    complete: bool,
    version: ReadToken,
    #[serde(skip)]
    dry_run: bool,
}

impl Report for DeletedReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        use std::fmt::Write as _;
        let points = counted(self.deleted, "point", "points");
        match (self.dry_run, self.complete) {
            (true, _) => writeln!(out, "{points} would be deleted"),
            (false, true) => writeln!(out, "{points} deleted"),
            (false, false) => writeln!(out, "{points} deleted, and there are more: run it again"),
        }
    }
}

pub(super) async fn delete_points(context: &Context, args: IndexDeletePointsArgs) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    let index = context::index(&store, &args.index.index()).await?;
    let source = context::source(&store, &index.data_source).await?;
    let equal: Attributes = parse_attributes(&source, &args.equal)?;
    let filter = filter(args.filter.as_deref(), &source)?;
    let filtered = filter.iter().flat_map(Filter::attributes).map(str::to_owned);
    let attributes = filtered.chain(equal.keys().cloned()).collect();
    let question = move |point: &Attributes| {
        equal.iter().all(|(name, value)| point.get(name) == Some(value))
            && filter.as_ref().is_none_or(|filter| filter.matches(point))
            && index.shard_of(point).is_some()
    };
    let options = SweepOptions { dry_run: args.dry_run, ..SweepOptions::new(Arc::new(question), attributes) };
    let swept = Timeline::open(store, source).sweep(options).await.map_err(|error| CliError::of(&error))?;
    let dry_run = args.dry_run;
    context.out.show(&DeletedReport { deleted: swept.deleted, complete: swept.complete, version: swept.token, dry_run })
}

fn filter(text: Option<&str>, source: &DataSource) -> Result<Option<Filter>, CliError> {
    let Some(text) = text else { return Ok(None) };
    let json = serde_json::from_str(text).map_err(|error| CliError::of(&error).while_doing("--filter is not JSON"))?;
    Ok(Some(Filter::from_json(&json, source)?))
}
