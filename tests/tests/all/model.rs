//! The model test: random steps on the real crates, every answer judged by the reference model.
//!
//! Each test runs thousands of steps: uploads, deletes, folds, builds, garbage collection, restarts, searches, while the store
//! fails at random and processes die between requests. `TARN_SEED` repeats a run, `TARN_STEPS` makes it longer or shorter. A
//! failing run is shrunk before it is reported.

#![allow(clippy::print_stdout, reason = "the seed and the tally of a run are printed, also when it passes")]

mod ledger;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tarn_testkit::{Generator, Scenario, Step, shrink};

use self::world::{Tally, Where, World};

/// Steps of one test; the four together make more than 10,000.
const STEPS: usize = 2_600;

/// The seed unless `TARN_SEED` names another: a run that fails in the checks fails on every machine.
const SEED: u64 = 20_250_601;
/// Runs that may go into making a failure short.
const SHRINKING: usize = 60;
/// What a graph search finds of the true ten nearest, on average, unless told to find more.
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

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is '{text}'; it must be a whole number")))
}

fn behaves_like_the_reference(scenario: Scenario, place: Where) {
    let seed: u64 = setting("TARN_SEED").unwrap_or(SEED);
    let steps = Generator::new(&scenario, SmallRng::seed_from_u64(seed)).take(setting("TARN_STEPS").unwrap_or(STEPS));
    println!("TARN_SEED={seed} repeats these {} steps", steps.len());
    match run(&scenario, place, seed, &steps) {
        Ok(tally) => {
            println!("{tally}");
            assert!(tally.searches == 0 || tally.graph_recall() >= RECALL_AT_10, "TARN_SEED={seed}: {tally}");
        }
        Err(failure) => {
            println!("TARN_SEED={seed}: step {}: {}", failure.at, failure.message);
            let until = &steps[..steps.len().min(failure.at + 1)];
            let shorter = shrink(until, SHRINKING, |steps| run(&scenario, place, seed, steps).is_err());
            let last = run(&scenario, place, seed, &shorter).err().map_or_else(String::new, |failure| failure.message);
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
fn run(scenario: &Scenario, place: Where, seed: u64, steps: &[Step]) -> Result<Tally, Failure> {
    let at = Mutex::new(0);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let mut world = World::new(scenario.clone(), place, seed).await?;
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
