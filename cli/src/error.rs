//! How a command fails: one message, and a hint that says what to do.
//!
//! Library errors become a [`CliError`] here; a hint is added where the next step is known.

use std::fmt;

use anstyle::{AnsiColor, Style};

/// What a failed command tells the user. Goes to standard error; the process ends with status 1.
#[derive(Debug)]
pub(crate) struct CliError {
    message: String,
    hint: Option<String>,
}

impl CliError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// From any error, with the causes that its own text leaves out.
    pub(crate) fn of(error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let text = inner.to_string();
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = inner.source();
        }
        Self::new(message)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts what was being done before the message.
    pub(crate) fn while_doing(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Writes `error: …` and `hint: …` to standard error.
    pub(crate) fn print(&self) {
        const ERROR: Style = AnsiColor::Red.on_default().bold();
        const HINT: Style = AnsiColor::Cyan.on_default().bold();
        anstream::eprintln!("{ERROR}error:{ERROR:#} {}", self.message);
        if let Some(hint) = &self.hint {
            anstream::eprintln!(" {HINT}hint:{HINT:#} {hint}");
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

macro_rules! plain {
    ($($type:ty),+ $(,)?) => {
        $(impl From<$type> for CliError {
            fn from(error: $type) -> Self {
                Self::of(&error)
            }
        })+
    };
}

plain!(
    tarn_model::ValidationError,
    tarn_model::Corrupt,
    tarn_store::StoreError,
    tarn_rows::RowError,
    tarn_drop::DropError,
    tarn_timeline::AppendError,
    tarn_timeline::AutoCreateError,
    tarn_timeline::TimelineError,
    tarn_search::SearchError,
    tarn_compact::CompactError,
    tarn_segment::SegmentError,
    std::io::Error,
    serde_json::Error,
    arrow::error::ArrowError,
    parquet::errors::ParquetError,
);

impl From<tarn_api::ApiError> for CliError {
    fn from(error: tarn_api::ApiError) -> Self {
        Self::new(error.messages().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the store cannot be reached")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_are_told_once() {
        let error = Outer(std::io::Error::other("connection refused"));
        assert_eq!(CliError::of(&error).to_string(), "the store cannot be reached: connection refused");
    }
}
