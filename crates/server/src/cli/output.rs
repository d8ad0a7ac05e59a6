//! Printing: results to stdout, failures to stderr.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde::Serialize;

/// Where results go, and in which form.
#[derive(Clone)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints one line, at once.
    pub(super) fn line(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")?;
        stdout.flush()
    }

    /// Prints a result: as JSON, or as a person reads it.
    pub(super) fn result(&self, json: &impl Serialize, human: impl FnOnce() -> String) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string(json)? } else { human() };
        Ok(self.line(&text)?)
    }

    /// Prints rows: as a JSON list, or as a table.
    pub(super) fn rows<T: Serialize, const N: usize>(
        &self,
        heads: [&str; N],
        rows: &[T],
        cells: impl Fn(&T) -> [String; N],
    ) -> anyhow::Result<()> {
        self.result(&rows, || table(heads, &rows.iter().map(cells).collect::<Vec<_>>()))
    }
}

/// Columns as wide as their widest cell, two blanks between them.
pub(super) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let heads = heads.map(str::to_owned);
    let lines = || std::iter::once(&heads).chain(rows);
    let mut text = String::new();
    for line in lines() {
        for (column, cell) in line.iter().enumerate() {
            let width = lines().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
            // Writing to a String does not fail.
            let _ = write!(text, "{cell:<width$}  ", width = width.unwrap_or(0));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}

/// Says something to the person at the terminal, besides the results.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints an error with everything behind it.
pub(super) fn report(error: &anyhow::Error) {
    let mut text = format!("error: {error}");
    let mut last = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if cause != last {
            let _ = write!(text, "\n  because: {cause}");
        }
        last = cause;
    }
    say(&text);
}

/// Whether the reader of stdout has gone, as `head` does: it has seen what it wanted.
pub(super) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<io::Error>().map(io::Error::kind);
    error.chain().any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_without_blanks_at_the_end() {
        let rows = [["a".to_owned(), "long".to_owned()], ["bcd".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "X"], &rows), "NAME  X\na     long\nbcd");
        assert_eq!(table(["NAME", "X"], &[]), "NAME  X");
    }
}
