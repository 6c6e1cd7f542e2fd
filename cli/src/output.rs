//! What commands print: one report each, as text for people or as one JSON document.
//!
//! Standard output carries the report and nothing else; progress and notes go to standard error. Colours and progress
//! bars appear on terminals only, and `NO_COLOR` is honoured (`anstream` sees to both).

mod format;
mod progress;
mod table;

use std::fmt::Write as _;
use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::error::CliError;

pub(crate) use format::{ago, bytes, count, counted, duration, instant, one_line, value_text, values_text};
pub(crate) use progress::Bars;
pub(crate) use table::{Cell, Table};

/// Headings.
pub(crate) const HEADING: Style = Style::new().bold();
/// What matters less.
pub(crate) const DIM: Style = Style::new().dimmed();
/// Good news.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What deserves a look.
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
/// Bad news.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Names and commands to type.
pub(crate) const NAME: Style = AnsiColor::Cyan.on_default();

/// The outcome of a command. Serialises to its `--json` document; field names are camelCase and stable.
pub(crate) trait Report: Serialize {
    /// Writes the text form, styled; styles are stripped where they do not belong.
    fn text(&self, out: &mut String) -> std::fmt::Result;
}

/// Where a command's report goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints the report.
    ///
    /// # Errors
    /// Standard output cannot be written; a reader that has gone away (`| head`) is not an error.
    pub(crate) fn show(self, report: &impl Report) -> Result<(), CliError> {
        let text = if self.json {
            let mut text = serde_json::to_string_pretty(report)?;
            text.push('\n');
            text
        } else {
            let mut text = String::new();
            report.text(&mut text).map_err(|error| CliError::of(&error))?;
            text
        };
        self.write(&text)
    }

    /// Prints a paragraph at once, in text mode only. For commands that tell a story while they run.
    pub(crate) fn say(self, text: &str) -> Result<(), CliError> {
        if self.json { Ok(()) } else { self.write(&format!("{text}\n")) }
    }

    /// Prints text as it is.
    pub(crate) fn write(self, text: &str) -> Result<(), CliError> {
        let mut stdout = anstream::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }

    /// Progress bars on standard error; hidden when it is not a terminal, and with `--json`.
    pub(crate) fn bars(self) -> Bars {
        Bars::new(!self.json)
    }
}

/// The width of standard output, when it is a terminal.
pub(crate) fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}

/// `label   value` lines with the labels aligned.
pub(crate) fn fields(out: &mut String, fields: &[(&str, String)]) -> std::fmt::Result {
    let width = fields.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    for (label, value) in fields {
        writeln!(out, "  {DIM}{label:width$}{DIM:#}  {value}")?;
    }
    Ok(())
}
