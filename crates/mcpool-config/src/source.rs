//! The text of a file, positions in it, and the copy of it that is safe to show.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use mcpool_core::Untrusted;

use crate::secrets;

/// The text that a configuration was read from.
///
/// `Debug` shows the name only: the text may hold secrets. What a person sees is
/// [`shown_text`](Source::shown_text), in which every secret is overwritten with `*`.
pub struct Source {
    name: String,
    path: Option<PathBuf>,
    text: String,
    line_starts: Vec<usize>,
    /// The byte ranges that hold secrets; unset while nothing is known of the structure.
    secrets: OnceLock<Vec<Range<usize>>>,
    shown: OnceLock<String>,
}

impl Source {
    /// A source of this name. A byte-order mark at the start is dropped: spans count from what
    /// follows it.
    pub(crate) fn new(name: impl Into<String>, path: Option<&Path>, text: &str) -> Arc<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Arc::new(Self {
            name: name.into(),
            path: path.map(Path::to_path_buf),
            text,
            line_starts,
            secrets: OnceLock::new(),
            shown: OnceLock::new(),
        })
    }

    /// What it is called: the path of a file as it was given, or a word such as `$MCPOOL_SERVERS`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file, when it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The text as it was read. It may hold secrets: never print it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The text with every secret overwritten by `*`, byte for byte, so that spans still fit. It
    /// may hold what steers a terminal.
    #[must_use]
    pub fn shown_text(&self) -> &str {
        self.shown.get_or_init(|| match self.secrets.get() {
            Some(ranges) => mask(&self.text, ranges),
            // The structure is not known, mostly because the file could not be parsed: hide
            // every value that is not known to be harmless.
            None => mask(&self.text, &secrets::guess_ranges(&self.text)),
        })
    }

    /// Says where the secrets are, once the structure is known.
    pub(crate) fn set_secrets(&self, ranges: Vec<Range<usize>>) {
        // Only the first call counts; every source is read once.
        let _ = self.secrets.set(ranges);
    }

    /// The line (from 1) and the column (from 1, in characters) of a byte offset.
    #[must_use]
    pub fn position(&self, offset: usize) -> Position {
        let offset = floor_char_boundary(&self.text, offset);
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1];
        Position {
            line,
            column: self.text[start..offset].chars().count() + 1,
        }
    }

    /// Where a line (from 1) begins, in bytes.
    pub(crate) fn line_start(&self, line: usize) -> usize {
        let index = line.saturating_sub(1);
        self.line_starts.get(index).copied().unwrap_or_default()
    }

    /// A line (from 1), without its line end, secrets overwritten. It may be long and hold what
    /// steers a terminal: [`Span::excerpt`] is what can be shown.
    #[must_use]
    pub fn shown_line(&self, line: usize) -> &str {
        let Some(start) = line
            .checked_sub(1)
            .and_then(|index| self.line_starts.get(index))
        else {
            return "";
        };
        let end = self
            .line_starts
            .get(line)
            .copied()
            .unwrap_or(self.text.len());
        self.shown_text()[*start..end].trim_end_matches(['\n', '\r'])
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.name).finish()
    }
}

/// The nearest character boundary at or before an offset.
fn floor_char_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// Overwrites ranges with `*`, and leaves line ends in place.
fn mask(text: &str, ranges: &[Range<usize>]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for range in ranges {
        let start = floor_char_boundary(text, range.start);
        let mut end = range.end.min(text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        if let Some(slice) = bytes.get_mut(start..end) {
            for byte in slice.iter_mut().filter(|b| **b != b'\n' && **b != b'\r') {
                *byte = b'*';
            }
        }
    }
    // Whole characters are replaced by ASCII, so this cannot fail; if it did, show nothing.
    String::from_utf8(bytes).unwrap_or_else(|_| "*".repeat(text.len()))
}

/// A place in a text, as a person counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// A range of bytes in a [`Source`].
#[derive(Clone)]
pub struct Span {
    source: Arc<Source>,
    range: Range<usize>,
}

impl Span {
    pub(crate) fn new(source: &Arc<Source>, range: Range<usize>) -> Self {
        let start = floor_char_boundary(&source.text, range.start);
        let end = floor_char_boundary(&source.text, range.end).max(start);
        Self {
            source: Arc::clone(source),
            range: start..end,
        }
    }

    /// The text it lies in.
    #[must_use]
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// The bytes, counted from after a byte-order mark.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Where it begins.
    #[must_use]
    pub fn position(&self) -> Position {
        self.source.position(self.range.start)
    }

    /// The line on which it begins, secrets overwritten: see [`Source::shown_line`].
    #[must_use]
    pub fn shown_line(&self) -> &str {
        self.source.shown_line(self.position().line)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.position();
        write!(f, "{}:{line}:{column}", Untrusted::line(&self.source.name))
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Span {
    fn eq(&self, other: &Self) -> bool {
        self.range == other.range && self.source.name == other.source.name
    }
}

impl Eq for Span {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let source = Source::new("x", None, "\u{feff}aä\r\nbé!");
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        assert_eq!(source.position(3), Position { line: 1, column: 3 });
        let at = source.text().find('!').unwrap();
        assert_eq!(source.position(at), Position { line: 2, column: 3 });
        assert_eq!(source.position(10_000).line, 2);
        assert_eq!(source.shown_line(1), "aä");
        assert_eq!(source.shown_line(7), "");
    }

    #[test]
    fn a_mask_keeps_the_length_and_the_line_ends() {
        assert_eq!(mask("ab\ncdé", &[1..4, 5..6]), "a*\n*d**");
    }
}
