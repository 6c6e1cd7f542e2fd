//! The fold, index builds, publishing, garbage collection and verification.
//!
//! Protocol in one paragraph. A builder reads roots (the newest checkpoint of a data source, the newest manifest of an
//! index), writes new data objects under unique names, and last of all creates the next root, which names everything that
//! is live. Whoever creates a root first wins; the loser's objects are garbage that nobody names. A crash anywhere before the
//! root leaves garbage too, so recovery is to run again. A run may be shared out among processes, see `tasks`. Garbage
//! collection alone deletes; see `gc` for what it may take.
//!
//! Owns `checkpoint-equals-fold`, `live-in-one-place`, `index-equals-checkpoint`, `parts-make-the-whole`,
//! `a-part-has-one-result`, `named-objects-are-kept`.
//! Serves no queries and accepts no uploads.

mod build;
mod builder;
mod checkpoint;
mod context;
mod error;
mod fold;
mod gc;
mod hint;
mod merge;
mod outcome;
mod progress;
mod publish;
mod retention;
mod rows;
mod scratch;
mod settings;
mod tasks;
mod verify;

pub use builder::Builder;
pub use error::CompactError;
pub use outcome::{BuildOutcome, FoldOutcome, Garbage, GcReport, Problem, RunItem, RunSummary, Status, VerifyReport};
pub use progress::{Progress, Silent, Stage};
pub use settings::{ApproximateIndex, BuilderSettings, GcOptions};
pub use tasks::{Task, TaskAnswer, TaskPlan, TaskSummary};
