//! What the program says: its own words, and the words of strangers, cleaned and masked.

use std::{
    borrow::Cow,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use mcpool::{Error, ErrorKind, Sensitivity, ServerName, StderrLine, Untrusted};

use super::out;

/// Text that may be written: the only thing that [`out`] takes.
///
/// It is made by [`text!`](crate::text!), whose words stand in the source and whose values are
/// [shown](Show) as what they are; by [`Table`](super::table::Table); and from other texts. So
/// nothing a stranger wrote can get into it uncleaned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text(String);

impl Text {
    /// For [`text!`](crate::text!) alone.
    pub(crate) fn from_shown(text: String) -> Self {
        Self(text)
    }

    /// Adds more behind it.
    pub(crate) fn push(&mut self, more: &Self) {
        self.0.push_str(&more.0);
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One line, cut to so many columns.
    pub(crate) fn clipped(&self, columns: usize) -> Self {
        Self(Untrusted::line(&*self.0).clip(columns).to_string())
    }

    /// For [`wrapped`](Self::wrapped): its spaces are no places to break a line.
    pub(crate) fn unbroken(&self) -> Self {
        Self(self.0.replace(' ', UNBROKEN))
    }

    /// Broken at spaces into lines of at most so many columns, the first behind one indent, the
    /// others behind another, and a line end after the last.
    pub(crate) fn wrapped(
        &self,
        first: &'static str,
        others: &'static str,
        columns: usize,
    ) -> Self {
        let options = textwrap::Options::new(columns.max(MIN_COLUMNS))
            .initial_indent(first)
            .subsequent_indent(others)
            .word_separator(textwrap::WordSeparator::AsciiSpace)
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        let lines = textwrap::wrap(&self.0, options);
        let lines = lines
            .iter()
            .map(|line| line.trim_end().replace(UNBROKEN, " "));
        Self(lines.collect::<Vec<_>>().join("\n") + "\n")
    }

    /// Values with commas between them.
    pub(crate) fn list<T: Show>(values: impl IntoIterator<Item = T>) -> Self {
        let texts = values.into_iter().map(|value| crate::text!("{}", value));
        Self::join(texts, ", ")
    }

    /// Texts with one between them.
    pub(crate) fn join(texts: impl IntoIterator<Item = Self>, between: &'static str) -> Self {
        let texts: Vec<String> = texts.into_iter().map(|text| text.0).collect();
        Self(texts.join(between))
    }
}

/// A space that no line ends at, until the text is wrapped.
const UNBROKEN: &str = "\u{a0}";

/// Text is wrapped to no less than this, however narrow the terminal is.
const MIN_COLUMNS: usize = 20;

/// Makes a [`Text`] as `format!` makes a `String`, except that every value is [shown](Show), and
/// that a variable cannot stand in the words (`"{name}"`): it would not be.
#[macro_export]
macro_rules! text {
    ($words:literal $(, $value:expr)* $(,)?) => {
        $crate::render::text::Text::from_shown(format!(
            // What `concat!` gives cannot capture variables.
            concat!($words)
            $(, $crate::render::text::shown(&$value))*
        ))
    };
}

/// How a value is shown: what a stranger may have written is cleaned and masked.
pub(crate) trait Show {
    /// Writes it.
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// A value in a [`text!`](crate::text!).
pub(crate) fn shown<T: Show + ?Sized>(value: &T) -> impl fmt::Display + '_ {
    Shown(value)
}

struct Shown<'a, T: ?Sized>(&'a T);

impl<T: Show + ?Sized> fmt::Display for Shown<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.width().is_none() {
            return self.0.show(f);
        }
        // `{:>6}` counts the characters of what is shown.
        f.pad(&Shown(self.0).to_string())
    }
}

/// Foreign text on one line, of a bounded length, known secrets masked: how a `str` is shown.
pub(crate) fn line(text: &str) -> Untrusted<'_> {
    Untrusted::line(out::masker().mask(text, Sensitivity::Value))
}

impl Show for str {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&line(self), f)
    }
}

/// Foreign text on one line that has to be seen to its end, such as an address to open.
pub(crate) struct Whole<'a>(pub(crate) &'a str);

impl Show for Whole<'_> {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&line(self.0).whole(), f)
    }
}

/// The text of an answer that was asked for: whole, over several lines, and only what is surely a
/// secret masked. Anything else that is known (a region, a URL) may well be the answer.
pub(crate) struct Answer<'a>(pub(crate) &'a str);

impl Show for Answer<'_> {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masked = out::masker().mask(self.0, Sensitivity::Secret);
        fmt::Display::fmt(&Untrusted::block(masked).whole(), f)
    }
}

/// As [`Answer`], on one line of a bounded length: names and descriptions in a list.
pub(crate) struct AnswerLine<'a>(pub(crate) &'a str);

impl Show for AnswerLine<'_> {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masked = out::masker().mask(self.0, Sensitivity::Secret);
        fmt::Display::fmt(&Untrusted::line(masked), f)
    }
}

impl Show for StderrLine {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The tabs of a stack trace.
        self.text.replace('\t', "    ").show(f)
    }
}

impl Show for Text {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<T: Show + ?Sized> Show for &T {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).show(f)
    }
}

/// Shows a type by the text that it has.
macro_rules! by_text {
    ($($kind:ty => $text:expr),* $(,)?) => {
        $(impl Show for $kind {
            fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text: fn(&$kind) -> Cow<'_, str> = $text;
                text(self).show(f)
            }
        })*
    };
}

by_text!(
    String => |text| text.as_str().into(),
    ServerName => |name| name.as_str().into(),
    Error => |error| error.to_string().into(),
    ErrorKind => |kind| kind.as_str().into(),
    std::io::Error => |error| error.to_string().into(),
    Path => |path| Untrusted::os(path).whole().into_clean().into_owned().into(),
    PathBuf => |path| Untrusted::os(path).whole().into_clean().into_owned().into(),
);

impl Show for Cow<'_, str> {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).show(f)
    }
}

/// Shows what can hold no stranger's words.
macro_rules! as_it_is {
    ($($kind:ty),*) => {
        $(impl Show for $kind {
            fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        })*
    };
}

as_it_is!(u8, u32, u64, u128, usize, i32, f64);

impl Show for Duration {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_strangers_are_cleaned_and_ours_are_not() {
        let name = "docs\x1b[2J\n\u{202e}";
        let text = text!(
            "{}:\n{:>3}|{:<4}|{}\n",
            name,
            7_u32,
            "a\x07",
            text!("x\ty\n")
        );
        let want = "docs\\u{1b}[2J\\n\\u{202e}:\n  7|a\\u{7}|x\ty\n\n";
        assert_eq!(text.as_str(), want);
    }

    #[test]
    fn text_is_wrapped_at_spaces_behind_its_indents() {
        let text = text!("{}", "get-sum(a: number, b: number, c: number)");
        assert_eq!(
            text.wrapped("  ", "      ", 26).as_str(),
            "  get-sum(a: number, b:\n      number, c: number)\n"
        );
        assert_eq!(text!("a").wrapped("  ", "", 0).as_str(), "  a\n");
    }

    #[test]
    fn an_answer_keeps_its_lines_and_its_length() {
        let long = format!("a\n\tb\x1b{}", "x".repeat(100_000));
        let text = text!("{}", Answer(&long));
        assert!(text.as_str().starts_with("a\n\tb\\u{1b}x"));
        assert!(text.as_str().len() > 100_000);
        assert_eq!(
            text!("{}", long).as_str().chars().count(),
            Untrusted::MAX_LINE_CHARS
        );
    }
}
