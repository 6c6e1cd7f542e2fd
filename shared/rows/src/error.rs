//! What is wrong with a row.

use std::fmt;

use tarn_model::ValidationError;

use crate::json::JsonError;

/// Why a row is no point. Who reads the rows adds which row it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    /// The column or property at fault, if it is one.
    pub column: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl RowError {
    /// About the row as a whole.
    pub fn new(message: impl Into<String>) -> Self {
        Self { column: None, message: message.into() }
    }

    /// About one column or property.
    pub fn at(column: impl Into<String>, message: impl Into<String>) -> Self {
        Self { column: Some(column.into()), message: message.into() }
    }
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.column {
            Some(column) => write!(f, "column '{column}': {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for RowError {}

impl From<ValidationError> for RowError {
    fn from(error: ValidationError) -> Self {
        Self::new(error.to_string())
    }
}

/// The line is left out: a row is one line, and who reads the rows knows which.
impl From<JsonError> for RowError {
    fn from(error: JsonError) -> Self {
        Self::new(format!("{} at character {}", error.what, error.column))
    }
}

/// Some of a text, for a message.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}
