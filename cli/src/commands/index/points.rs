//! `tarn index statistics|sample|export`: the engine in this process, on the store directly.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value as Json};
use tarn_api_query::StatisticsDto;
use tarn_model::{AttributeValue, ReadToken};
use tarn_search::{ExportRequest, Hydration, Point, Sample, SampleRequest, StatisticsRequest};

use super::super::export::{self, Points};
use super::super::search::engine;
use super::only;
use crate::args::{IndexExportArgs, IndexSampleArgs, IndexStatisticsArgs};
use crate::context::{Context, Opening};
use crate::error::CliError;
use crate::output::{Cell, DIM, NAME, Report, Table, count, counted, fields, value_text};
use crate::value::{value_json, vector_json};

/// Characters of the longest bar.
const BAR: u64 = 40;
/// Bins that share a line.
const BINS_IN_A_LINE: usize = 4;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StatisticsReport {
    #[serde(flatten)]
    statistics: StatisticsDto,
    version: ReadToken,
    generation: u64,
}

impl Report for StatisticsReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        let StatisticsDto { data_points_count, centre, spread, distances, points_read, drift } = &self.statistics;
        let number = |value: &Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.6}"));
        let centre = centre.as_ref().map_or_else(|| "–".to_owned(), |centre| begin(centre));
        let from = match distances.offset {
            Some(offset) if distances.from == "reference" => format!("a reference {offset:.6} from the centre"),
            _ => format!("the {}", distances.from),
        };
        let mut lines = vec![
            ("points", count(*data_points_count)),
            ("centre", centre),
            ("spread", number(spread)),
            ("measured from", from),
            ("farthest", format!("{:.6}", distances.max)),
            ("read for this", counted(*points_read, "point", "points")),
        ];
        if let Some(drift) = drift {
            let since = format!(
                "generation {} with {}: centre moved {} ({} spreads), {:.1} % of the histogram moved",
                drift.since,
                counted(drift.data_points_count, "point", "points"),
                number(&drift.centre_shift),
                number(&drift.centre_shift_in_spreads),
                drift.distances_moved * 100.0
            );
            lines.push(("since", since));
        }
        fields(out, &lines)?;
        writeln!(out)?;
        let bins: Vec<u64> = distances.bins.chunks(BINS_IN_A_LINE).map(|bins| bins.iter().sum()).collect();
        let most = bins.iter().copied().max().unwrap_or(0).max(1);
        for (place, points) in bins.iter().enumerate().filter(|(_, points)| **points > 0) {
            let low = (place * BINS_IN_A_LINE) as f64 * distances.bin_width;
            let bar = "█".repeat(usize::try_from((points * BAR).div_ceil(most)).unwrap_or(0));
            writeln!(out, "  {low:>14.6} {bar} {DIM}{}{DIM:#}", count(*points))?;
        }
        writeln!(out, "{DIM}generation {}, version {}{DIM:#}", self.generation, self.version)
    }
}

/// The first coordinates.
fn begin(centre: &[f64]) -> String {
    let shown: Vec<String> = centre.iter().take(4).map(|value| format!("{value:.4}")).collect();
    let more = if centre.len() > shown.len() { ", …" } else { "" };
    format!("[{}{more}]", shown.join(", "))
}

pub(super) async fn statistics(context: &Context, args: IndexStatisticsArgs) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    let id = args.index.index();
    let (split_filter, filter, _) = only(&store, &id, &args.only).await?;
    let engine = engine(store, &args.cache, Hydration::Off)?;
    let IndexStatisticsArgs { shard, tail, exact, as_of, since, .. } = args;
    let request = StatisticsRequest { split_filter, filter, shard, tail, exact, as_of, since, ..Default::default() };
    let waiting = context.out.bars().waiting("counting");
    let found = engine.statistics(&id, request).await?;
    waiting.finish_and_clear();
    let (version, generation) = (found.version.clone(), found.generation);
    context.out.show(&StatisticsReport { statistics: found.into(), version, generation })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SampleReport {
    /// In the order in which they were drawn.
    points: Vec<PointReport>,
    /// How many they were drawn from.
    population: u64,
    seed: u64,
    version: ReadToken,
    generation: u64,
}

#[derive(Debug, Serialize)]
struct PointReport {
    attributes: Map<String, Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<Json>,
    #[serde(skip)]
    shown: Vec<(String, AttributeValue)>,
}

impl From<Point> for PointReport {
    fn from(point: Point) -> Self {
        Self {
            attributes: point.attributes.iter().map(|(key, value)| (key.clone(), value_json(value))).collect(),
            vector: point.vector.as_ref().map(vector_json),
            shown: point.attributes,
        }
    }
}

impl Report for SampleReport {
    fn text(&self, out: &mut String) -> std::fmt::Result {
        if let Some(first) = self.points.first() {
            let headings: Vec<String> = first.shown.iter().map(|(key, _)| key.to_uppercase()).collect();
            let mut table = Table::new(headings.iter().map(String::as_str));
            for point in &self.points {
                table.row(point.shown.iter().enumerate().map(|(i, (_, value))| {
                    let text = value_text(value);
                    if i == 0 { Cell::styled(text, NAME) } else { text.into() }
                }));
            }
            table.write(out)?;
            writeln!(out)?;
        }
        let (drawn, population) = (count(self.points.len() as u64), counted(self.population, "point", "points"));
        let Self { seed, generation, version, .. } = self;
        writeln!(out, "{DIM}{drawn} of {population}, seed {seed}, generation {generation}, version {version}{DIM:#}")
    }
}

pub(super) async fn sample(context: &Context, args: IndexSampleArgs) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    let id = args.index.index();
    let (split_filter, filter, _) = only(&store, &id, &args.only).await?;
    let engine = engine(store, &args.cache, Hydration::Off)?;
    let IndexSampleArgs { n, seed, as_of, vectors, .. } = args;
    let sample = Sample { n, seed };
    let request =
        SampleRequest { sample, split_filter, filter, as_of, retrieve_vectors: vectors, ..SampleRequest::default() };
    let waiting = context.out.bars().waiting("drawing");
    let drawn = engine.sample(&id, request).await?;
    waiting.finish_and_clear();
    let (population, version, generation) = (drawn.population, drawn.version, drawn.generation);
    let points = drawn.points.into_iter().map(PointReport::from).collect();
    context.out.show(&SampleReport { points, population, seed, version, generation })
}

pub(super) async fn export(context: &Context, args: IndexExportArgs) -> Result<(), CliError> {
    let store = context.store(Opening::Existing)?;
    let clock = store.clock().clone();
    let id = args.index.index();
    let (split_filter, filter, source) = only(&store, &id, &args.only).await?;
    let engine = engine(store, &args.cache, Hydration::Off)?;
    let sample = args.sample.map(|n| Sample { n, seed: args.seed });
    let request = ExportRequest { split_filter, filter, sample, as_of: args.as_of, ..ExportRequest::default() };
    let found = engine.export(&id, request).await?;
    let (schema, batches, version) = (found.schema, found.batches, found.version);
    export::write(context, &args.to, Points { source, schema, batches, filter: None, version }, &*clock).await
}
