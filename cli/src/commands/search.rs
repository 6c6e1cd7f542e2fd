//! `tarn search`: the engine in this process, on the store directly.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value as Json};
use tarn_api_query::{Circumstances, ReceiptDto};
use tarn_model::{AttributeValue, CompareOp, DataSource, Filter, Index, ReadToken, Vector};
use tarn_search::{Engine, EngineSettings, Found, Hydration, PointsRequest, Ranking, SearchRequest};
use tarn_store::Store;

use crate::args::{CacheArgs, Pair, SearchArgs};
use crate::context::{self, Context, Opening};
use crate::error::CliError;
use crate::output::{Cell, DIM, HEADING, NAME, Report, Table, WARN, bytes, count, counted, duration, value_text};
use crate::value::{json_vector, parse_attributes, parse_filter, value_json, vector_json};

/// Longest text of a vector file, in bytes: the most query vectors of the largest dimension fit.
const VECTOR_FILE_BYTES: u64 = 512 * 1024 * 1024;

/// An engine on a store, with what the user said about the cache.
pub(super) fn engine(store: Store, cache: &CacheArgs, hydration: Hydration) -> Result<Engine, CliError> {
    engine_with(store, cache, EngineSettings { hydration, ..EngineSettings::default() })
}

/// As [`engine`], with more to say.
pub(super) fn engine_with(store: Store, cache: &CacheArgs, mut settings: EngineSettings) -> Result<Engine, CliError> {
    if let Some(dir) = &cache.cache_dir {
        settings.cache_dir.clone_from(dir);
    }
    if let Some(size) = cache.cache_size {
        settings.cache_bytes = size.0;
    }
    if let Some(threads) = cache.threads {
        settings.threads = threads;
    }
    Ok(Engine::new(store, settings)?)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SearchReport {
    /// One list per query vector, nearest first.
    results: Vec<Vec<FoundReport>>,
    /// The fraction of the live points that every query considered.
    coverage: f64,
    version: ReadToken,
    generation: u64,
    seconds: f64,
    /// With --explain.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<ReceiptDto>,
    #[serde(skip)]
    titles: Vec<String>,
}

#[derive(Debug, Serialize)]
struct FoundReport {
    distance: f64,
    attributes: Map<String, Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<Json>,
    #[serde(skip)]
    shown: Vec<(String, AttributeValue)>,
}

impl From<Found> for FoundReport {
    fn from(found: Found) -> Self {
        Self {
            distance: found.distance,
            attributes: found.attributes.iter().map(|(key, value)| (key.clone(), value_json(value))).collect(),
            vector: found.vector.as_ref().map(vector_json),
            shown: found.attributes,
        }
    }
}

impl Report for SearchReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        for (title, found) in self.titles.iter().zip(&self.results) {
            if !title.is_empty() {
                writeln!(out, "{HEADING}{title}{HEADING:#}\n")?;
            }
            let Some(first) = found.first() else {
                writeln!(out, "  nothing found\n")?;
                continue;
            };
            let headings = first.shown.iter().map(|(key, _)| key.to_uppercase());
            let headings: Vec<String> = ["#".to_owned(), ">DISTANCE".to_owned()].into_iter().chain(headings).collect();
            let mut table = Table::new(headings.iter().map(String::as_str));
            for (rank, hit) in found.iter().enumerate() {
                let values = hit.shown.iter().enumerate().map(|(i, (_, value))| {
                    let text = value_text(value);
                    if i == 0 { Cell::styled(text, NAME) } else { text.into() }
                });
                let place = [Cell::styled((rank + 1).to_string(), DIM), format!("{:.4}", hit.distance).into()];
                table.row(place.into_iter().chain(values));
            }
            table.write(out)?;
            writeln!(out)?;
        }
        if self.coverage < 1.0 {
            writeln!(out, "{WARN}only {:.1} % of the points were considered{WARN:#}", self.coverage * 100.0)?;
        }
        if let Some(receipt) = &self.receipt {
            write_receipt(receipt, out)?;
        }
        let seconds = Duration::from_secs_f64(self.seconds);
        writeln!(out, "{DIM}{}, generation {}, version {}{DIM:#}", duration(seconds), self.generation, self.version)
    }
}

fn write_receipt(receipt: &ReceiptDto, out: &mut String) -> std::fmt::Result {
    let mut table = Table::new(["SEGMENT", "SHARD", ">ROWS", "CACHE", "PLAN"]);
    for segment in &receipt.segments {
        let plan = &segment.plan;
        let numbers = [
            plan.ef.map(|ef| format!("ef {ef}")),
            plan.nprobe.map(|cells| counted(cells.into(), "cell", "cells")),
            plan.rescored.map(|rows| format!("{} rescored", counted(rows.into(), "row", "rows"))),
            plan.ranges.map(|ranges| counted(ranges.into(), "range", "ranges")),
            plan.bytes.map(bytes),
        ];
        let plan = std::iter::once(plan.by.clone()).chain(numbers.into_iter().flatten()).collect::<Vec<_>>().join(", ");
        table.row([
            Cell::styled(segment.segment.as_deref().unwrap_or("updates that no build has taken in"), NAME),
            segment.shard.as_deref().unwrap_or_default().into(),
            count(segment.rows).into(),
            segment.cache.as_str().into(),
            plan.into(),
        ]);
    }
    table.write(out)?;
    let requests = &receipt.requests;
    let kinds = [
        (requests.get, "GET"),
        (requests.head, "HEAD"),
        (requests.list, "LIST"),
        (requests.put, "PUT"),
        (requests.delete, "DELETE"),
        (requests.hedged, "asked twice"),
    ];
    let kinds = kinds.iter().filter(|(number, _)| *number > 0).map(|(number, kind)| format!("{number} {kind}"));
    let mut asked = vec![counted(requests.total, "request", "requests")];
    asked.extend(kinds);
    asked.push(bytes(receipt.bytes));
    asked.push(counted(receipt.round_trips.into(), "round trip", "round trips"));
    let phases = receipt.milliseconds.phases().map(|(name, ms)| format!("{name} {ms:.1} ms"));
    writeln!(out, "\n  {}", asked.join(", "))?;
    writeln!(out, "  {}", phases.collect::<Vec<_>>().join(", "))?;
    if receipt.dollars.total > 0.0 {
        writeln!(out, "  about ${:.7}", receipt.dollars.total)?;
    }
    writeln!(out)
}

pub(super) async fn run(context: &Context, args: SearchArgs) -> Result<ExitCode, CliError> {
    let store = context.store(Opening::Existing)?;
    let id = args.index.index();
    let index = context::index(&store, &id).await?;
    let source = context::source(&store, &index.data_source).await?;
    let (store, _) = tarn_api::counted(&store);
    let (clock, on_s3) = (store.clock().clone(), store.bucket().is_some());
    // The process ends with the answer; there is no later search to fetch files for.
    let engine = engine(store, &args.cache, Hydration::Off)?;
    let (titles, queries) = queries(&engine, &index, &source, &args).await?;

    let mut request = SearchRequest::new(queries, args.k);
    request.split_filter = parse_attributes(&source, &args.split)?;
    request.filter = parse_filter(&source, args.filter.as_deref())?;
    request.exact = args.exact;
    request.target_recall = args.recall;
    request.ef_search = args.ef_search;
    request.nprobe = args.nprobe;
    let ranking = Ranking::new(args.score.as_deref().map(str::parse).transpose()?, args.higher_is_better);
    request.ranking = (ranking != Ranking::default()).then_some(ranking);
    request.deadline = args.deadline.map(|deadline| deadline.0);
    request.as_of = args.as_of;
    request.attributes = args.attributes;
    request.retrieve_vectors = args.vectors;
    request.min_version = args.min_version.as_deref().map(str::parse).transpose()?;

    request.explain = args.explain;

    let started = clock.monotonic();
    let response = engine.search(&id, request).await?;
    let took = clock.monotonic().saturating_sub(started);
    let circumstances = Circumstances { on_s3, function: None, took };
    let receipt = args.explain.then(|| ReceiptDto::new(&response, circumstances));
    let results =
        response.results.into_iter().map(|found| found.into_iter().map(FoundReport::from).collect()).collect();
    context.out.show(&SearchReport {
        results,
        coverage: response.coverage,
        version: response.version,
        generation: response.generation,
        seconds: took.as_secs_f64(),
        receipt,
        titles,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The query vectors, each with a title; a single one needs none.
async fn queries(
    engine: &Engine,
    index: &Index,
    source: &Arc<DataSource>,
    args: &SearchArgs,
) -> Result<(Vec<String>, Vec<Vector>), CliError> {
    if let Some(text) = &args.vector {
        return Ok((vec![String::new()], vec![parse_vector(text)?]));
    }
    if let Some(path) = &args.vector_file {
        let bytes = std::fs::metadata(path).map_err(|error| CliError::of(&error).while_doing(path.display()))?.len();
        if bytes > VECTOR_FILE_BYTES {
            return Err(CliError::new(format!("{} is too large for a file of query vectors", path.display())));
        }
        let text = std::fs::read_to_string(path).map_err(|error| CliError::of(&error).while_doing(path.display()))?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let vectors = lines.map(|(i, line)| {
            parse_vector(line).map_err(|error| error.while_doing(format_args!("{} line {}", path.display(), i + 1)))
        });
        let vectors = vectors.collect::<Result<Vec<_>, _>>()?;
        let titles = match vectors.len() {
            1 => vec![String::new()],
            n => (1..=n).map(|i| format!("query {i}")).collect(),
        };
        return Ok((titles, vectors));
    }
    let vector = vector_like(engine, index, source, &args.like).await?;
    Ok((vec![String::new()], vec![vector]))
}

fn parse_vector(text: &str) -> Result<Vector, CliError> {
    let json: Json = serde_json::from_str(text).map_err(|error| {
        CliError::of(&error)
            .while_doing("the vector is not JSON")
            .hint("write '[0.1, 0.2]' or '{\"coordinates\": [1.5], \"coordinateIndices\": [4]}'")
    })?;
    json_vector(&json).map_err(CliError::new)
}

/// The vector of the one stored point that has these attributes.
async fn vector_like(
    engine: &Engine,
    index: &Index,
    source: &Arc<DataSource>,
    like: &[Pair],
) -> Result<Vector, CliError> {
    let attributes = parse_attributes(source, like)?;
    let (split, rest): (Vec<_>, Vec<_>) =
        attributes.into_iter().partition(|(key, _)| index.split_attributes.contains(key));
    let equal = |(attribute, value)| Filter::Compare { attribute, op: CompareOp::Eq, value };
    let request = PointsRequest {
        split_filter: split.into_iter().collect(),
        filter: Some(Filter::And(rest.into_iter().map(equal).collect())),
        limit: 2,
        retrieve_vectors: true,
        ..PointsRequest::default()
    };
    let page = engine.points(&index.id, request).await?;
    let mut points = page.points.into_iter();
    match (points.next(), points.next()) {
        (None, _) => Err(CliError::new("--like matches no point")),
        (Some(_), Some(_)) => Err(CliError::new("--like matches several points")
            .hint(format!("give all of {}", super::source::join(&source.permanent_attributes)))),
        (Some(point), None) => point.vector.ok_or_else(|| CliError::new("the point came without its vector")),
    }
}
