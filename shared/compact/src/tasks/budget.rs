//! Bounds a plan: Step Functions passes at most 256 KiB from step to step, and to publish it passes the plan and the answers
//! of all tasks together.

use crate::error::CompactError;

use super::{FAILURE_BYTES_MAX, Task};

/// Bytes for all tasks and their answers, of 262,144; the rest is for the plan's failures and the JSON around them.
const BYTES_MAX: usize = 240 << 10;
/// Folds take at most this much, so that an index with many parts has room beside them.
const FOLD_BYTES_MAX: usize = 100 << 10;
/// The longest answer, with the commas around it and the task.
const ANSWER_BYTES: usize = FAILURE_BYTES_MAX + 32;

/// What is left.
pub(super) struct Budget {
    all: usize,
    folds: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { all: BYTES_MAX, folds: FOLD_BYTES_MAX }
    }
}

impl Budget {
    /// Whether there is room for a fold; takes it then.
    pub(super) fn take_fold(&mut self, task: &Task) -> Result<bool, CompactError> {
        let bytes = bytes_of(task)?;
        if bytes > self.folds {
            return Ok(false);
        }
        self.folds -= bytes;
        self.all -= bytes;
        Ok(true)
    }

    /// Whether there is room for all the parts of an index; takes it then.
    pub(super) fn take_builds(&mut self, tasks: &[Task]) -> Result<bool, CompactError> {
        let bytes = tasks.iter().map(bytes_of).sum::<Result<usize, _>>()?;
        if bytes > self.all {
            return Ok(false);
        }
        self.all -= bytes;
        Ok(true)
    }
}

fn bytes_of(task: &Task) -> Result<usize, CompactError> {
    let json = serde_json::to_vec(task).map_err(|error| CompactError::engine("writing JSON", error))?;
    Ok(json.len() + ANSWER_BYTES)
}
