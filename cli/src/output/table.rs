//! A plain table: no frames, aligned columns, the widest text column gives way on a narrow terminal.
//!
//! Cells are sanitised ([`super::one_line`]), measured by display width, and styled after they were padded.

use std::fmt::{self, Write as _};

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{DIM, HEADING, one_line, terminal_width};

/// Which side of its column a cell leans to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

/// A cell: text and how it looks.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(crate) fn styled(text: impl AsRef<str>, style: Style) -> Self {
        Self { text: one_line(text.as_ref()), style }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

/// Rows under headings.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<Cell>>,
    indent: usize,
}

impl Table {
    /// A table with these headings. A heading that begins with `>` leans its column to the right.
    pub(crate) fn new<'a>(headings: impl IntoIterator<Item = &'a str>) -> Self {
        let column = |heading: &str| match heading.strip_prefix('>') {
            Some(heading) => (heading.to_owned(), Align::Right),
            None => (one_line(heading), Align::Left),
        };
        Self { columns: headings.into_iter().map(column).collect(), rows: Vec::new(), indent: 2 }
    }

    /// Adds a row; missing cells are empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes the table, as wide as the terminal at most.
    pub(crate) fn write(&self, out: &mut String) -> fmt::Result {
        self.write_within(out, terminal_width())
    }

    fn write_within(&self, out: &mut String, terminal: Option<usize>) -> fmt::Result {
        let widths = self.widths(terminal);
        let headings: Vec<Cell> =
            self.columns.iter().map(|(text, _)| Cell { text: text.clone(), style: HEADING }).collect();
        self.write_row(out, &headings, &widths)?;
        let rule: Vec<Cell> = widths.iter().map(|&width| Cell { text: "─".repeat(width), style: DIM }).collect();
        self.write_row(out, &rule, &widths)?;
        for row in &self.rows {
            self.write_row(out, row, &widths)?;
        }
        Ok(())
    }

    /// Natural widths, with the widest left-leaning columns cut until the table fits.
    fn widths(&self, terminal: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|(heading, _)| heading.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.width());
            }
        }
        if let Some(terminal) = terminal {
            let gaps = self.indent + 2 * widths.len().saturating_sub(1);
            while widths.iter().sum::<usize>() + gaps > terminal {
                let widest = (0..widths.len())
                    .filter(|&i| self.columns[i].1 == Align::Left && widths[i] > 12)
                    .max_by_key(|&i| widths[i]);
                let Some(widest) = widest else { break };
                widths[widest] -= 1;
            }
        }
        widths
    }

    fn write_row(&self, out: &mut String, cells: &[Cell], widths: &[usize]) -> fmt::Result {
        let mut line = " ".repeat(self.indent);
        for (i, (&width, (_, align))) in widths.iter().zip(&self.columns).enumerate() {
            let Some(cell) = cells.get(i) else { break };
            let text = fit(&cell.text, width);
            let padding = " ".repeat(width - text.width());
            let style = cell.style;
            if i > 0 {
                line.push_str("  ");
            }
            match align {
                Align::Left if i + 1 == cells.len() => write!(line, "{style}{text}{style:#}")?,
                Align::Left => write!(line, "{style}{text}{style:#}{padding}")?,
                Align::Right => write!(line, "{padding}{style}{text}{style:#}")?,
            }
        }
        writeln!(out, "{}", line.trim_end())
    }
}

/// The text, cut with an ellipsis to at most `width` columns.
fn fit(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        cut.push(c);
    }
    if width > 0 {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(table: &Table, terminal: Option<usize>) -> String {
        let mut out = String::new();
        table.write_within(&mut out, terminal).unwrap();
        anstream::adapter::strip_str(&out).to_string()
    }

    #[test]
    fn numbers_lean_right_and_text_left() {
        let mut table = Table::new(["NAME", ">ROWS"]);
        table.row(["docs".into(), "7".into()]);
        table.row(["日本".into(), "1,234".into()]);
        assert_eq!(render(&table, None), "  NAME   ROWS\n  ────  ─────\n  docs      7\n  日本  1,234\n");
    }

    #[test]
    fn the_widest_text_gives_way_to_the_terminal() {
        let mut table = Table::new([">N", "TEXT"]);
        table.row(["1".into(), "a description that is far too long for this".into()]);
        let text = render(&table, Some(30));
        assert!(text.lines().all(|line| line.width() <= 30), "{text}");
        assert!(text.contains("a description that is fa…"), "{text}");
    }
}
