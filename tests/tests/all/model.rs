//! The model test: random steps on the real crates, every answer judged by the reference model.
//!
//! All tests but three run thousands of steps: uploads, deletes, folds, builds, garbage collection, restarts, searches of every kind,
//! statistics, samples, while the store fails at random, processes die between requests, and points expire. `TARN_SEED` repeats a
//! run, `TARN_STEPS` makes it longer or shorter. A failing run is shrunk before it is reported.

#![allow(clippy::print_stdout, reason = "the seed and the tally of a run are printed, also when it passes")]

mod ledger;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tarn_compact::ApproximateIndex;
use tarn_testkit::{Generator, Scenario, Step, Upload, shrink};

use self::world::{Asked, Tally, Where, World};

/// Steps of one test; the six together make more than 10,000.
const STEPS: usize = 2_000;

/// The seed unless `TARN_SEED` names another: a run that fails in the checks fails on every machine.
const SEED: u64 = 20_250_601;
/// Runs that may go into making a failure short.
const SHRINKING: usize = 60;
/// Steps of the large test: each search is judged by a scan of thousands of points.
const LARGE_STEPS: usize = 500;
/// What an approximate search finds of the true ten nearest, on average, unless told to find more.
const RECALL_AT_10: f64 = 0.95;

#[test]
fn dense_points_in_memory_behave_like_the_reference() {
    behaves_like_the_reference(Scenario::dense(), Where::Memory);
}

#[test]
fn dense_points_on_disk_behave_like_the_reference() {
    behaves_like_the_reference(Scenario::dense(), Where::Disk);
}

#[test]
fn sparse_points_in_memory_behave_like_the_reference() {
    behaves_like_the_reference(Scenario::sparse(), Where::Memory);
}

#[test]
fn sparse_points_on_disk_behave_like_the_reference() {
    behaves_like_the_reference(Scenario::sparse(), Where::Disk);
}

/// The cap is below what uploads and time make of the points by themselves, now and then.
const CAP: u64 = 150;

#[test]
fn dense_points_that_expire_behave_like_the_reference() {
    expire_like_the_reference(Scenario::dense(), Where::Memory);
}

#[test]
fn sparse_points_that_expire_behave_like_the_reference() {
    expire_like_the_reference(Scenario::sparse(), Where::Disk);
}

#[test]
fn cells_under_random_operations_find_the_neighbours() {
    large_splits_find_the_neighbours(ApproximateIndex::Cells);
}

#[test]
fn graphs_under_random_operations_find_the_neighbours() {
    large_splits_find_the_neighbours(ApproximateIndex::Graph);
}

#[test]
fn cells_with_graphs_under_random_operations_find_the_neighbours() {
    large_splits_find_the_neighbours(ApproximateIndex::Both);
}

/// There are so many points here that the planner takes cells or graphs by itself, and that they are built, lose rows, get
/// company, and are merged on the way.
fn large_splits_find_the_neighbours(kind: ApproximateIndex) {
    let scenario = Scenario::dense_large();
    let seed: u64 = setting("TARN_SEED").unwrap_or(SEED);
    let mut rng = SmallRng::seed_from_u64(seed);
    let upload = Upload { repeats: None, updates: scenario.everything(&mut rng) };
    let mut steps = vec![Step::Upload(upload), Step::Run];
    steps.extend(Generator::new(&scenario, rng).take(setting("TARN_STEPS").unwrap_or(LARGE_STEPS)));
    let tally = play(&Play { scenario: &scenario, place: Where::Memory, kinds: &[kind], seed }, &steps);
    // Scans find everything: without a miss neither cells nor a graph was asked, and the recall says nothing.
    assert!(tally.misses > 0 && tally.approximate_queries > 50, "TARN_SEED={seed}: all was scanned: {tally}");
    if kind != ApproximateIndex::Graph {
        // As well where nothing is local, and parts of files must do.
        let cold = tally.cold;
        assert!(cold.by_ranges > 20 && cold.queries > 10, "TARN_SEED={seed}: nothing was read in parts: {tally}");
        assert!(cold.recall() >= RECALL_AT_10, "TARN_SEED={seed}: {tally}");
    }
    let seen = tally.approximate_segments;
    assert!(seen.at_once > 1 && seen.with_dead_rows > 0 && seen.merges > 0, "TARN_SEED={seed}: {tally}");
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is '{text}'; it must be a whole number")))
}

/// Builders make cells, graphs, and both in turn.
fn behaves_like_the_reference(scenario: Scenario, place: Where) -> Tally {
    let seed: u64 = setting("TARN_SEED").unwrap_or(SEED);
    let steps = Generator::new(&scenario, SmallRng::seed_from_u64(seed)).take(setting("TARN_STEPS").unwrap_or(STEPS));
    let kinds = [ApproximateIndex::Cells, ApproximateIndex::Graph, ApproximateIndex::Both];
    let tally = play(&Play { scenario: &scenario, place, kinds: &kinds, seed }, &steps);
    let all = setting::<usize>("TARN_STEPS").is_none();
    assert!(!all || (tally.cold.searches > 0 && tally.cold.spoiled_hints > 0), "TARN_SEED={seed}: {tally}");
    assert!(!all || tally.asked.has_all_kinds(), "TARN_SEED={seed}: {tally}");
    tally
}

fn expire_like_the_reference(scenario: Scenario, place: Where) {
    let tally = behaves_like_the_reference(scenario.perishing(CAP), place);
    let Asked { expired, retired, .. } = tally.asked;
    assert!(setting::<usize>("TARN_STEPS").is_some() || (expired > 0 && retired > 0), "{tally}");
}

/// Where steps are played.
struct Play<'a> {
    scenario: &'a Scenario,
    place: Where,
    /// What large splits get, builder by builder.
    kinds: &'a [ApproximateIndex],
    seed: u64,
}

/// Runs the steps; a failure is made short and reported.
fn play(play: &Play<'_>, steps: &[Step]) -> Tally {
    let seed = play.seed;
    println!("TARN_SEED={seed} repeats these {} steps", steps.len());
    match run(play, steps) {
        Ok(tally) => {
            println!("{tally}");
            assert!(tally.recall() >= RECALL_AT_10, "TARN_SEED={seed}: {tally}");
            tally
        }
        Err(failure) => {
            println!("TARN_SEED={seed}: step {}: {}", failure.at, failure.message);
            let until = &steps[..steps.len().min(failure.at + 1)];
            let shorter = shrink(until, SHRINKING, |steps| run(play, steps).is_err());
            let last = run(play, &shorter).err().map_or_else(String::new, |failure| failure.message);
            let list: Vec<String> = shorter.iter().map(|step| abridged(&format!("  {step:?}"))).collect();
            panic!(
                "TARN_SEED={seed}: step {}: {}\nShrunk to {} steps:\n{}\nwhich end in: {last}",
                failure.at,
                failure.message,
                shorter.len(),
                list.join("\n")
            );
        }
    }
}

fn abridged(text: &str) -> String {
    text.chars().take(600).collect()
}

#[derive(Debug)]
struct Failure {
    at: usize,
    message: String,
}

/// Performs the steps in a new world. A panic of the code under test is a failure like any other.
fn run(play: &Play<'_>, steps: &[Step]) -> Result<Tally, Failure> {
    let at = Mutex::new(0);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let mut world = World::new(play.scenario.clone(), play.place, play.kinds, play.seed).await?;
            for (i, step) in steps.iter().enumerate() {
                *at.lock().expect("nobody panics with it") = i;
                world.perform(step).await?;
            }
            world.finish().await
        })
    }));
    let at = *at.lock().expect("nobody panics with it");
    match outcome {
        Ok(Ok(tally)) => Ok(tally),
        Ok(Err(message)) => Err(Failure { at, message }),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(Failure { at, message: format!("panicked: {}", text.unwrap_or_default()) })
        }
    }
}
