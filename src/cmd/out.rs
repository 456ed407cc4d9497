//! Standard output, for people and for pipes.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::exit::StdoutClosed;

/// Writes to standard output, and flushes it.
///
/// # Errors
/// [`StdoutClosed`] when nobody reads it any more.
pub fn print(text: &str) -> anyhow::Result<()> {
    bytes(text.as_bytes())
}

/// Writes bytes to standard output, and flushes it.
///
/// # Errors
/// As [`print`].
pub fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => StdoutClosed.into(),
        _ => anyhow::Error::from(error).context("standard output"),
    })
}

/// Writes a line to standard output.
///
/// # Errors
/// As [`print`].
pub fn line(text: impl std::fmt::Display) -> anyhow::Result<()> {
    print(&format!("{text}\n"))
}

/// Writes a value to standard output as one line of JSON.
///
/// # Errors
/// As [`print`].
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string(value)?)
}

/// Whether standard output is a terminal that understands cursor movements.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether to colour what goes to standard output: on a terminal, unless `NO_COLOR` asks for none.
pub fn is_coloured() -> bool {
    is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// `text` without what a terminal would take for a command. Names come from whoever tagged the object.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// A moment in UTC, to the second, from nanoseconds since 1970.
pub fn moment(real_ns: u64) -> String {
    let moment = jiff::Timestamp::from_second((real_ns / 1_000_000_000) as i64);
    moment.map_or_else(|_| "unknown".to_owned(), |moment| moment.to_string())
}

/// Columns of text, each as wide as its widest cell, two spaces apart.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| console::measure_text_width(&row[column])).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let padded = row.iter().zip(widths).map(|(cell, width)| {
            let missing = width - console::measure_text_width(cell);
            format!("{cell}{:missing$}", "")
        });
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_by_what_is_seen() {
        let rows = [["a", "né", "x"], ["long", "日本", ""]].map(|row| row.map(String::from));
        assert_eq!(columns(&rows), "a     né    x\nlong  日本\n");
    }

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!(harmless("cup\u{1b}[2J\n"), "cup\u{fffd}[2J\u{fffd}");
    }
}
