//! For tests and the fuzzer only: what each reader of stored bytes is made to do with bytes that somebody has made up, and
//! valid objects to begin from.
//!
//! A [`Target`] takes any bytes, repairs the checksums in them so that they reach the parsers behind, opens them, and uses
//! what opens. It panics when a reader breaks its word; whatever else goes wrong (a crash, gigabytes, a loop) is for whoever
//! runs it to see. `fuzz/` runs targets under libFuzzer; the test of this crate runs each on its seeds and a few thousand
//! mutations of them. A new kind of stored object gets a target and seeds here.

mod blocks;
mod catalog;
#[cfg(feature = "deltas")]
mod delta;
mod hint;
mod mutate;
mod outline;
mod roots;
mod seeds;
mod segment;

use std::panic::{catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

pub use mutate::Mutator;

/// One kind of stored bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Of the fuzz target.
    pub name: &'static str,
    /// Feeds bytes to the readers.
    pub run: fn(&[u8]),
    /// Valid inputs, small, by name.
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "segment", run: segment::run, seeds: segment::seeds },
    Target { name: "outline", run: outline::run, seeds: outline::seeds },
    Target { name: "catalog", run: catalog::run, seeds: catalog::seeds },
    Target { name: "manifest", run: roots::run, seeds: roots::seeds },
    Target { name: "hint", run: hint::run, seeds: hint::seeds },
    #[cfg(feature = "deltas")]
    Target { name: "delta", run: delta::run, seeds: delta::seeds },
];

/// Feeds bytes to the target of this name.
///
/// # Panics
/// When there is no such target, or a reader breaks its word.
pub fn run(name: &str, bytes: &[u8]) {
    let outcome = catch_unwind(|| (find(name).run)(bytes));
    if let Err(panic) = outcome {
        let last = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner);
        eprintln!("{}", last.as_deref().unwrap_or_default());
        resume_unwind(panic);
    }
}

/// What [`run`] prints when a panic reaches it.
static LAST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Prepares a process that runs a target under libFuzzer, whose hook would end it at the first panic: some readers have a
/// fence, behind which a library's panic is a finding about the bytes. What gets past a fence still ends the process. Then
/// writes the seeds, if anybody wants them.
///
/// # Panics
/// When they cannot be written.
pub fn prepare(name: &str) {
    std::panic::set_hook(Box::new(|info| {
        *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(info.to_string());
    }));
    plant_seeds(name);
}

/// Writes the seeds of a target into the folder that the environment variable `TARN_SEEDS` names, if it names one. Those
/// of an earlier version are replaced.
///
/// # Panics
/// When they cannot be written: then nobody should believe that they were used.
fn plant_seeds(name: &str) {
    let Some(folder) = std::env::var_os("TARN_SEEDS").map(std::path::PathBuf::from) else { return };
    let planted = std::fs::create_dir_all(&folder).and_then(|()| {
        (find(name).seeds)().into_iter().try_for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes))
    });
    assert!(planted.is_ok(), "cannot write seeds into {}: {planted:?}", folder.display());
}

fn find(name: &str) -> &'static Target {
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else { panic!("no target {name}") };
    target
}
