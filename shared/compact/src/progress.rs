//! How far along a step is, for people who watch.

use std::fmt;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Deltas are read and their newest writes found; counts deltas.
    Fold,
    /// The replaced rows of existing files are looked up; counts rows.
    LookUp,
    /// Winning rows are copied to new files; counts rows.
    Write,
    /// Files are merged; counts rows.
    Merge,
    /// Changed rows are sorted into shards and splits; counts rows.
    Distribute,
    /// Segments are built; counts rows.
    Index,
    /// Objects are checked; counts objects.
    Verify,
    /// Garbage is deleted; counts objects.
    Collect,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fold => "folding deltas",
            Self::LookUp => "looking up replaced rows",
            Self::Write => "writing rows",
            Self::Merge => "merging files",
            Self::Distribute => "distributing rows",
            Self::Index => "building segments",
            Self::Verify => "verifying objects",
            Self::Collect => "deleting garbage",
        })
    }
}

/// Told how far along a step is. Called often, from any thread; must return quickly.
pub trait Progress: Send + Sync {
    /// `done` of `total` units of `stage` are done for `subject`, a data source or index. `done` never falls within a stage
    /// of a subject; `total` may grow. A stage is over when the next begins or the call that it belongs to returns.
    fn update(&self, subject: &str, stage: Stage, done: u64, total: u64);
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn update(&self, _: &str, _: Stage, _: u64, _: u64) {}
}
