//! Output: tables for people, JSON for programs, progress on standard error.

pub(crate) mod json;
pub(crate) mod problems;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod tui;

use std::io::{self, Write as _};

use serde::Serialize;

use crate::exit::{Exit, Failure};

/// Writes text to standard output. A reader that has gone away is not an error.
pub(crate) fn text(text: &str) -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::internal(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(Exit::Good),
    }
}

/// Writes one line at once; `false` when the reader has gone away.
pub(crate) fn line(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::internal(format!(
            "cannot write to standard output: {error}"
        ))),
    }
}

/// Writes one JSON document, indented, to standard output.
pub(crate) fn document(value: &impl Serialize) -> Result<Exit, Failure> {
    let mut document = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::internal(format!("cannot write JSON: {error}")))?;
    document.push('\n');
    text(&document)
}

/// Text from a server, safe to show on a terminal: control characters, which could move the
/// cursor or recolour what is there, are replaced. Line ends and tabs stay.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_sequence_does_not_reach_the_terminal() {
        assert_eq!(
            printable("a\x1b[2Jb\nc\r\u{9b}d"),
            "a\u{fffd}[2Jb\nc\u{fffd}\u{fffd}d"
        );
    }
}
