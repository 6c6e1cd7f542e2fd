//! Why a file was refused, for the person who dropped it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a file was refused: where, what was found, what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DropReport {
    /// The row at fault, from 1; a header is no row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    /// In text formats, the line that the row begins on, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The column or property at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// What was found.
    pub message: String,
    /// What to do.
    pub action: String,
}

/// What to do about most faults of a row.
const CORRECT: &str = "Nothing of the file was written. Correct it and drop it again.";

impl DropReport {
    /// About the file as a whole.
    pub(crate) fn file(message: impl Into<String>, action: impl Into<String>) -> Self {
        Self { row: None, line: None, column: None, message: bounded(message.into()), action: action.into() }
    }

    /// About a row, from 1.
    pub(crate) fn row(row: u64, line: Option<u64>, column: Option<String>, message: impl Into<String>) -> Self {
        let column = column.map(bounded);
        Self { row: Some(row), line, column, message: bounded(message.into()), action: CORRECT.to_owned() }
    }
}

/// A report quotes what it refuses, but not megabytes of it.
fn bounded(text: String) -> String {
    const MOST: usize = 2_000;
    match text.char_indices().nth(MOST) {
        None => text,
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

impl fmt::Display for DropReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut mark = "";
        if let Some(row) = self.row {
            write!(f, "row {row}")?;
            mark = ", ";
        }
        if let Some(line) = self.line {
            write!(f, "{mark}line {line}")?;
            mark = ", ";
        }
        if let Some(column) = &self.column {
            write!(f, "{mark}column '{column}'")?;
            mark = ", ";
        }
        let mark = if mark.is_empty() { "" } else { ": " };
        write!(f, "{mark}{} {}", self.message, self.action)
    }
}
