//! The part of a source line around a place: clean, and short enough to show.

use std::ops::Range;

use mcpool_core::Untrusted;

use crate::source::{Position, Span};

/// How many characters of a line are shown.
const WIDTH: usize = 100;

/// The part of a line around a [`Span`] that may be shown: at most about a hundred characters of
/// it, with `…` where it goes on, secrets overwritten with `*`, and what steers a terminal
/// escaped.
///
/// Any renderer can draw it; it is the same for a line of ten characters and for one of ten
/// million.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Excerpt {
    /// The text, without a line end.
    pub text: String,
    /// The bytes of the text that the span covers, up to the end of its first line; empty where
    /// the span is.
    pub marked: Range<usize>,
    /// Where the span begins in the source.
    pub position: Position,
}

impl Span {
    /// The part of its line around it, to be shown.
    #[must_use]
    pub fn excerpt(&self) -> Excerpt {
        Excerpt::of(self)
    }
}

impl Excerpt {
    pub(crate) fn of(span: &Span) -> Self {
        let position = span.position();
        let line = span.shown_line();
        let range = span.range();
        let start = range.start - span.source().line_start(position.line);
        // The caret of an error at the end of a line stands where its line end was.
        let start = start.min(line.len());
        let marked = (range.end - range.start).min(line.len() - start);
        let Range {
            start: from,
            end: to,
        } = window(line, start);

        let mut excerpt = Self {
            text: String::new(),
            marked: 0..0,
            position,
        };
        if from > 0 {
            excerpt.text.push('…');
        }
        for (at, c) in line[from..to].char_indices().map(|(at, c)| (from + at, c)) {
            if at == start {
                excerpt.marked.start = excerpt.text.len();
            }
            push(&mut excerpt.text, c);
            if at < start + marked {
                excerpt.marked.end = excerpt.text.len();
            }
        }
        if start == to {
            excerpt.marked.start = excerpt.text.len();
        }
        excerpt.marked.end = excerpt.marked.end.max(excerpt.marked.start);
        if to < line.len() {
            excerpt.text.push('…');
        }
        excerpt
    }
}

/// The bytes of a line that are shown: the place in their middle, unless the line ends before.
fn window(line: &str, place: usize) -> Range<usize> {
    let (before, after) = line.split_at(place);
    let after_place = after.chars().take(WIDTH).count();
    let room_before = WIDTH / 2 + (WIDTH / 2).saturating_sub(after_place);
    let shown_before = before.chars().rev().take(room_before);
    let (mut count, mut from) = (0, place);
    for c in shown_before {
        count += 1;
        from -= c.len_utf8();
    }
    let end = after.char_indices().nth(WIDTH - count);
    from..end.map_or(line.len(), |(at, _)| place + at)
}

/// A character as it may be shown; a tab takes one column, so that a caret below it fits.
fn push(text: &mut String, c: char) {
    match c {
        '\t' => text.push(' '),
        c => text.push_str(&Untrusted::line(c.encode_utf8(&mut [0; 4]) as &str).into_clean()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::Source;

    fn excerpt(text: &str, range: Range<usize>) -> Excerpt {
        let source = Source::new("x", None, text);
        source.set_secrets(Vec::new());
        Excerpt::of(&Span::new(&source, range))
    }

    #[test]
    fn a_short_line_is_shown_whole() {
        let shown = excerpt("a\n\tb: cd\r\ne", 6..8);
        assert_eq!(shown.text, " b: cd");
        assert_eq!(shown.marked, 4..6);
        assert_eq!((shown.position.line, shown.position.column), (2, 5));
    }

    #[test]
    fn a_long_line_is_a_window_around_the_place() {
        let text = format!("{}typo{}", "é".repeat(70_000), "字".repeat(70_000));
        let shown = excerpt(&text, 140_000..140_004);
        assert!(shown.text.starts_with('…') && shown.text.ends_with('…'));
        assert_eq!(shown.text.chars().count(), 102);
        assert_eq!(&shown.text[shown.marked.clone()], "typo");
        assert_eq!(shown.position.column, 70_001);
    }

    #[test]
    fn what_steers_a_terminal_is_escaped_and_stays_marked() {
        let shown = excerpt("a\x1b[2J\u{202e}b", 1..2);
        assert_eq!(shown.text, r"a\u{1b}[2J\u{202e}b");
        assert_eq!(&shown.text[shown.marked], r"\u{1b}");
    }

    #[test]
    fn a_span_at_the_end_marks_the_end() {
        assert_eq!(excerpt("ab", 2..2).marked, 2..2);
        assert_eq!(excerpt("", 0..0).marked, 0..0);
        assert_eq!(excerpt("ab\ncd", 1..5).marked, 1..2);
    }

    proptest! {
        #[test]
        fn any_place_in_any_text_has_a_bounded_clean_excerpt(
            text in any::<String>(), start in 0usize..300, length in 0usize..300,
        ) {
            let shown = excerpt(&text, start..start + length);
            prop_assert!(!shown.text.chars().any(mcpool_core::is_unshowable));
            prop_assert!(shown.text.chars().count() <= 2 + WIDTH * 10);
            prop_assert!(shown.text.get(shown.marked.clone()).is_some());
        }
    }
}
