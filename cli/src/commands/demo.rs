//! `tarn demo`: everything, on real data, through a real server.
//!
//! Each step says what it does and how long it took, and checks what it claims; a claim that does not hold makes the
//! status 1. The store is a temporary directory unless --dir keeps it.

mod client;
mod dataset;
mod tables;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tarn_api::AuthMode;
use tarn_compact::{Builder, BuilderSettings};
use tarn_search::Hydration;
use tarn_store::{Clock, Store};
use tokio::sync::watch;

use self::client::{Client, Hit};
use self::dataset::{INDEX, POINTS, Query, SOURCE};
use self::tables::Contents;
use super::build::BuildBars;
use super::search::engine;
use super::serve::{Server, Uploads, router};
use crate::args::{CacheArgs, DemoArgs};
use crate::context::Context;
use crate::error::CliError;
use crate::output::{BAD, DIM, GOOD, HEADING, NAME, Output, bytes, count, duration};

/// Splits from this size on get cells here, so that there are cells among 6,000 points; by default it takes 20,000.
const CELLS_ROWS: u64 = 400;
/// Queries whose answers are shown; recall is measured over all.
const SHOWN_QUERIES: usize = 7;
/// Neighbours that recall is measured over.
const RECALL_K: u32 = 10;
/// The least recall that the demo is content with.
const RECALL_MIN: f64 = 0.95;
/// How often each query runs for the latency.
const LATENCY_ROUNDS: usize = 10;
/// The query whose answers change.
const CHANGED_QUERY: &str = "a game of chess";
/// The query that is asked of one section alone, and the section: Debian's packages for typesetting.
const SPLIT_QUERY: &str = "write music notation";
const SPLIT_SECTION: &str = "tex";
/// The query that is filtered by attributes.
const FILTERED_QUERY: &str = "edit video clips";

/// What the demo found out; the `--json` document.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct DemoReport {
    store: String,
    points: u64,
    upload_seconds: f64,
    build_seconds: f64,
    rebuild_seconds: f64,
    answers: Vec<Answer>,
    split_filtered: Vec<Hit>,
    attribute_filtered: Vec<Hit>,
    before: Vec<Hit>,
    after: Vec<Hit>,
    recall_at_10: f64,
    search_median_ms: f64,
    search_slowest_ms: f64,
    contents: Contents,
    /// Claims that did not hold. Empty: all is well.
    problems: Vec<String>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Answer {
    query: String,
    hits: Vec<Hit>,
}

/// The store's directory; removed at the end when it is a temporary one.
enum Place {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(dir) => dir.path(),
        }
    }
}

pub(super) async fn run(context: &Context, args: DemoArgs) -> Result<ExitCode, CliError> {
    let place = place(args.dir)?;
    let store = Store::disk(place.path())?;
    let clock = store.clock().clone();
    let started = clock.monotonic();
    let mut demo = Demo::start(context.out, store).await?;
    let told = demo.tell().await;
    demo.stop().await?;
    told?;
    let mut report = demo.report;
    report.seconds = clock.monotonic().saturating_sub(started).as_secs_f64();
    context.out.say(&farewell(&report, &place))?;
    if context.out.is_json() {
        context.out.write(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    }
    if let Place::Temporary(dir) = place {
        let path = dir.path().to_owned();
        dir.close()
            .map_err(|error| CliError::of(&error).while_doing(format_args!("cannot remove {}", path.display())))?;
    }
    if report.problems.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    CliError::new(format!("not all is as it should be: {}", report.problems.join("; "))).print();
    Ok(ExitCode::FAILURE)
}

fn place(dir: Option<PathBuf>) -> Result<Place, CliError> {
    let Some(dir) = dir else {
        let dir = tempfile::Builder::new().prefix("tarn-demo-").tempdir();
        return Ok(Place::Temporary(
            dir.map_err(|e| CliError::of(&e).while_doing("cannot create a temporary directory"))?,
        ));
    };
    let is_free = match std::fs::read_dir(&dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if is_free {
        Ok(Place::Kept(dir))
    } else {
        Err(CliError::new(format!("{} is not empty", dir.display()))
            .hint("the demo wants a new or an empty directory; to look at an earlier demo: tarn serve --store DIR"))
    }
}

/// The demo under way: a server, a client, and what was found out.
struct Demo {
    out: Output,
    store: Store,
    clock: Arc<dyn Clock>,
    client: Client,
    queries: Vec<Query>,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<super::serve::Ended>,
    report: DemoReport,
}

impl Demo {
    async fn start(out: Output, store: Store) -> Result<Self, CliError> {
        let queries = dataset::queries()?;
        let engine = engine(store.clone(), &CacheArgs::default(), Hydration::Background)?;
        let server = Server::bind(([127, 0, 0, 1], 0).into()).await?;
        let url = format!("http://{}", server.address());
        let (stop, stopped) = watch::channel(false);
        let clock = store.clock().clone();
        let router = router(&store, engine, Uploads::default(), None, AuthMode::WhenKeysExist, None);
        let serving = tokio::spawn(server.run(router, clock.clone(), stopped));
        out.say(&format!("{HEADING}Tarn: vector search with nothing running{HEADING:#}"))?;
        out.say(&format!(
            "{} real Debian packages, a 384-d vector of each description, and {} queries in plain words.\n",
            count(POINTS),
            queries.len()
        ))?;
        let report = DemoReport { store: store.url().to_owned(), ..DemoReport::default() };
        let client = Client::new(url.clone(), clock.clone())?;
        let demo = Self { out, store, clock, client, queries, stop, serving, report };
        demo.done(format_args!("serving {NAME}{url}{NAME:#}, store {NAME}{}{NAME:#}", demo.report.store), None)?;
        Ok(demo)
    }

    async fn stop(&mut self) -> Result<(), CliError> {
        self.stop.send_replace(true);
        (&mut self.serving).await.map(drop).map_err(|error| CliError::of(&error).while_doing("the server failed"))
    }

    async fn tell(&mut self) -> Result<(), CliError> {
        self.fill().await?;
        self.ask().await?;
        self.filter().await?;
        self.change().await?;
        self.measure().await
    }

    /// Definitions, one upload, one build.
    async fn fill(&mut self) -> Result<(), CliError> {
        self.client.put(&format!("/api/v1/data-sources/{SOURCE}"), &dataset::source_definition()).await?;
        self.client.put(&format!("/api/v1/indices/{INDEX}"), &dataset::index_definition()).await?;
        self.done(
            format_args!("created data source {SOURCE} and index {INDEX}: cosine, HNSW, split by section"),
            None,
        )?;

        let started = self.clock.monotonic();
        let version = self.client.upload_parquet(dataset::PACKAGES).await?;
        let took = self.since(started);
        self.report.upload_seconds = took.as_secs_f64();
        self.done(
            format_args!(
                "uploaded {} of Parquet in one atomic commit, version {version}: one new object in the store",
                bytes(dataset::PACKAGES.len() as u64)
            ),
            Some(took),
        )?;

        // Nothing is built yet: the answer comes from the timeline, and is complete.
        let (first, took) = self.exact(0).await?;
        self.done(format_args!("searched at once, before any build: the timeline itself is searched"), Some(took))?;
        self.report.points = self.client.points().await?;
        self.check(self.report.points == POINTS, || "the index does not hold 6,000 points after the upload".to_owned());

        self.report.build_seconds = self.build("folded the timeline and built the index").await?;
        let (again, _) = self.exact(0).await?;
        self.check(names(&first) == names(&again), || "the built index answers otherwise than the timeline".to_owned());
        Ok(())
    }

    /// Text queries in plain words.
    async fn ask(&mut self) -> Result<(), CliError> {
        for query in self.queries.clone() {
            let (hits, _) = self.client.search(&query.vector, 3, json!({})).await?;
            self.check(hits.len() == 3, || format!("'{}' has {} answers, not 3", query.text, hits.len()));
            self.report.answers.push(Answer { query: query.text, hits });
        }
        let shown = self.report.answers.iter().take(SHOWN_QUERIES);
        let table = tables::answers(shown.map(|answer| (answer.query.as_str(), answer.hits.as_slice())));
        self.out.say(&format!("\n{HEADING}Queries in plain words{HEADING:#}\n{table}"))
    }

    /// A split filter and an attribute filter.
    async fn filter(&mut self) -> Result<(), CliError> {
        let music = self.query(SPLIT_QUERY)?;
        let split = json!({ "splitFilter": [{ "key": "section", "value": { "string": SPLIT_SECTION } }] });
        let (hits, _) = self.client.search(&music.vector, 3, split).await?;
        self.check(hits.len() == 3 && hits.iter().all(|hit| hit.section == SPLIT_SECTION), || {
            "the split filter let other sections through".to_owned()
        });
        self.out.say(&format!(
            "{HEADING}“{}”, in section “{SPLIT_SECTION}” alone{HEADING:#}  {DIM}(splitFilter: reads only that part of the index){DIM:#}\n{}",
            music.text,
            tables::filtered(&hits)
        ))?;
        self.report.split_filtered = hits;

        let video = self.query(FILTERED_QUERY)?;
        let filter = json!({ "filter": { "and": [
            { "eq": { "key": "has_gui", "value": true } }, { "lt": { "key": "installed_kb", "value": 2048 } },
        ] } });
        let (hits, _) = self.client.search(&video.vector, 3, filter).await?;
        self.check(hits.len() == 3 && hits.iter().all(|hit| hit.has_gui && hit.installed_kb < 2048), || {
            "the attribute filter let others through".to_owned()
        });
        self.out.say(&format!(
            "{HEADING}“{}”, with a window, below 2 MiB{HEADING:#}  {DIM}(filter: has_gui = true and installed_kb < 2048){DIM:#}\n{}",
            video.text,
            tables::filtered(&hits)
        ))?;
        self.report.attribute_filtered = hits;
        Ok(())
    }

    /// A deletion and an update, seen at once and after the next build.
    async fn change(&mut self) -> Result<(), CliError> {
        let query = self.query(CHANGED_QUERY)?;
        let (before, _) = self.client.search(&query.vector, 5, json!({})).await?;
        let [deleted, _, updated, ..] = before.as_slice() else {
            return Err(CliError::new(format!("'{}' has too few answers to change", query.text)));
        };
        let (deleted, updated) = (deleted.clone(), updated.clone());
        let mut attributes = updated.attributes.clone();
        for attribute in attributes.iter_mut().filter(|attribute| attribute["key"] == "description") {
            attribute["value"] = json!({ "string": "updated by the demo: now described by the query itself" });
        }
        let vector = json!({ "isSparse": false, "coordinates": query.vector });
        let version = self
            .client
            .upload(&json!([
                { "attributes": deleted.attributes, "isDeleted": true },
                { "attributes": attributes, "vector": vector },
            ]))
            .await?;
        // The request names the write that it wants to see; by default a search sees every acknowledged write anyway.
        let (after, _) = self.client.search(&query.vector, 5, json!({ "minVersion": version })).await?;
        self.check_change(&deleted, &updated, &after, "right after the upload");
        self.out.say(&format!(
            "{HEADING}“{}”, after deleting {} and updating {}{HEADING:#}  {DIM}(visible as soon as the upload is answered){DIM:#}\n{}",
            query.text,
            deleted.package,
            updated.package,
            tables::before_and_after(&before, &after)
        ))?;

        self.report.rebuild_seconds = self.build("folded the changes in; untouched segments were carried over").await?;
        let (rebuilt, _) = self.client.search(&query.vector, 50, json!({})).await?;
        self.check_change(&deleted, &updated, &rebuilt, "after the build");
        let points = self.client.points().await?;
        self.check(points == POINTS - 1, || format!("the index holds {points} points after one deletion"));
        self.report.before = before;
        self.report.after = after;
        Ok(())
    }

    fn check_change(&mut self, deleted: &Hit, updated: &Hit, hits: &[Hit], when: &str) {
        let gone = hits.iter().all(|hit| hit.package != deleted.package);
        self.check(gone, || format!("{} is still found {when}, although it was deleted", deleted.package));
        let first = hits.first().is_some_and(|hit| hit.package == updated.package && hit.distance.abs() < 1e-3);
        self.check(first, || format!("{} is not the first answer {when}, although it was updated", updated.package));
    }

    /// Recall, latency, integrity, size.
    async fn measure(&mut self) -> Result<(), CliError> {
        let (mut found, mut wanted) = (0, 0);
        for number in 0..self.queries.len() {
            let (exact, _) = self.exact(number).await?;
            let (hits, _) = self.client.search(&self.queries[number].vector, RECALL_K, json!({})).await?;
            let exact = names(&exact);
            found += names(&hits).iter().filter(|name| exact.contains(name)).count();
            wanted += exact.len();
        }
        let recall = found as f64 / wanted.max(1) as f64;
        self.report.recall_at_10 = recall;
        self.check(recall >= RECALL_MIN, || format!("recall@10 is {recall:.3}, below {RECALL_MIN}"));

        let mut times = Vec::new();
        for query in self.queries.iter().cycle().take(self.queries.len() * LATENCY_ROUNDS) {
            times.push(self.client.search(&query.vector, RECALL_K, json!({})).await?.1);
        }
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let slowest = times.last().copied().unwrap_or_default();
        self.report.search_median_ms = median.as_secs_f64() * 1e3;
        self.report.search_slowest_ms = slowest.as_secs_f64() * 1e3;
        self.done(
            format_args!(
                "{} searches over HTTP: median {}, slowest {}; {HEADING}recall@10 {recall:.3}{HEADING:#} against exact search",
                times.len(),
                duration(median),
                duration(slowest)
            ),
            None,
        )?;

        let started = self.clock.monotonic();
        let verified = Builder::new(self.store.clone(), BuilderSettings::default(), Arc::new(tarn_compact::Silent))?;
        let verified = verified.verify().await?;
        for problem in &verified.problems {
            self.report.problems.push(format!("{}: {}", problem.object, problem.message));
        }
        self.done(
            format_args!("re-read and checked {} live objects: {} problems", verified.objects, verified.problems.len()),
            Some(self.since(started)),
        )?;
        self.report.contents = Contents::of(&self.store).await?;
        self.out.say(&format!("\n{}", self.report.contents.table()))
    }

    /// Builds, and says so; the seconds it took.
    async fn build(&mut self, what: &str) -> Result<f64, CliError> {
        let started = self.clock.monotonic();
        let mut settings = BuilderSettings::default();
        settings.cells_threshold_rows = CELLS_ROWS;
        let bars = Arc::new(BuildBars::new(self.out.bars()));
        let summary = Builder::new(self.store.clone(), settings, bars.clone())?.run().await?;
        bars.clear();
        if let Some((what, error)) = summary.failures().next() {
            return Err(CliError::of(error).while_doing(what));
        }
        self.check(summary.published(), || "the build published nothing".to_owned());
        let took = self.since(started);
        self.done(format_args!("{what}"), Some(took))?;
        Ok(took.as_secs_f64())
    }

    async fn exact(&self, number: usize) -> Result<(Vec<Hit>, Duration), CliError> {
        let query = self.queries.get(number).ok_or_else(|| CliError::new("there is no such query"))?;
        self.client.search(&query.vector, RECALL_K, json!({ "exact": true })).await
    }

    fn query(&self, text: &str) -> Result<Query, CliError> {
        let query = self.queries.iter().find(|query| query.text == text);
        query.cloned().ok_or_else(|| CliError::new(format!("the embedded queries lack '{text}'")))
    }

    fn since(&self, started: Duration) -> Duration {
        self.clock.monotonic().saturating_sub(started)
    }

    /// Says that a step is done.
    fn done(&self, what: std::fmt::Arguments<'_>, took: Option<Duration>) -> Result<(), CliError> {
        let took = took.map(|took| format!("  {DIM}{}{DIM:#}", duration(took))).unwrap_or_default();
        self.out.say(&format!("{GOOD}✓{GOOD:#} {what}{took}"))
    }

    /// Notes a claim that does not hold.
    fn check(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.report.problems.push(problem());
        }
    }
}

fn names(hits: &[Hit]) -> Vec<String> {
    hits.iter().map(|hit| hit.package.clone()).collect()
}

/// What to do next; or what is wrong.
fn farewell(report: &DemoReport, place: &Place) -> String {
    let seconds = duration(Duration::from_secs_f64(report.seconds));
    if !report.problems.is_empty() {
        let problems: String = report.problems.iter().map(|problem| format!("\n  {BAD}✗{BAD:#} {problem}")).collect();
        return format!("{BAD}Something is not as it should be{BAD:#}{problems}");
    }
    let tarn = std::env::args().next().unwrap_or_else(|| "tarn".to_owned());
    match place {
        Place::Kept(dir) => {
            let dir = dir.display();
            format!(
                "All is as it should be, in {seconds}. {HEADING}Go on exploring:{HEADING:#}
  {NAME}{tarn} serve --store {dir}{NAME:#}                      the HTTP API and a console
  {NAME}{tarn} search {INDEX} --like package=vlc --store {dir}{NAME:#}
  {NAME}{tarn} search {INDEX} --like package=gimp --split section=graphics --store {dir}{NAME:#}
  {NAME}{tarn} index describe {INDEX} --store {dir}{NAME:#}
  {NAME}{tarn} inspect timeline {SOURCE} --store {dir}{NAME:#}
  {NAME}{tarn} gc --dry-run --store {dir}{NAME:#}
The deltas and checkpoints are plain Parquet; open them with DuckDB or pandas."
            )
        }
        Place::Temporary(_) => format!(
            "All is as it should be, in {seconds}. This store was a temporary one and is gone.
{HEADING}To keep one and explore it:{HEADING:#} {NAME}{tarn} demo --dir ./debian{NAME:#}"
        ),
    }
}
