//! Foreign text, made fit for a terminal, a log or an error: the one cleaner of mcpool.
//!
//! Foreign is what a server, a file, an authorization server, an environment variable or a host
//! name wrote. It can hold escape sequences that move the cursor, write the clipboard or repaint
//! the screen, and characters that cannot be seen or that turn the order of what is read.

mod json;

use std::{
    borrow::Cow,
    ffi::OsStr,
    fmt::{self, Write as _},
};

pub use json::{clean_json, clean_json_pretty, clean_json_text};

/// Foreign text, whose only way to a reader is the cleaned one.
///
/// `Display` shows each character that steers a terminal or cannot be seen as an escape such as
/// `\u{1b}`, and leaves nothing out; [`is_unshowable`] says which those are. Cleaning what is clean
/// changes nothing, so text that passes the cleaner twice is not escaped twice.
///
/// A [line](Untrusted::line) shows line ends and tabs as `\n`, `\r` and `\t`; a
/// [block](Untrusted::block) keeps `\n` and `\t`. What is longer than the bound is cut and ends
/// in `…`.
///
/// `Debug` is the same in quotes, with quotes and backslashes escaped, so that two different
/// texts never look the same; see [`quoted`](Untrusted::quoted).
///
/// ```
/// use mcpool_core::Untrusted;
///
/// let name = "docs\x1b]52;c;aGk=\x07\u{202e}";
/// assert_eq!(Untrusted::line(name).to_string(), r"docs\u{1b}]52;c;aGk=\u{7}\u{202e}");
/// assert_eq!(Untrusted::line("a\nb").to_string(), r"a\nb");
/// assert_eq!(Untrusted::block("a\nb").to_string(), "a\nb");
/// assert_eq!(Untrusted::line("abcdef").clip(4).to_string(), "abc…");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Untrusted<'a> {
    text: Cow<'a, str>,
    shape: Shape,
    max_chars: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Line,
    Block,
}

impl<'a> Untrusted<'a> {
    /// How many characters of a line are shown unless another bound is set.
    pub const MAX_LINE_CHARS: usize = 1_000;

    /// How many characters of a block are shown unless another bound is set.
    pub const MAX_BLOCK_CHARS: usize = 64 * 1024;

    /// Text that is shown on one line, at most [`MAX_LINE_CHARS`](Self::MAX_LINE_CHARS) of it.
    #[must_use]
    pub fn line(text: impl Into<Cow<'a, str>>) -> Self {
        Self {
            text: text.into(),
            shape: Shape::Line,
            max_chars: Self::MAX_LINE_CHARS,
        }
    }

    /// Text whose line breaks and tabs are its own, at most
    /// [`MAX_BLOCK_CHARS`](Self::MAX_BLOCK_CHARS) of it.
    #[must_use]
    pub fn block(text: impl Into<Cow<'a, str>>) -> Self {
        Self {
            text: text.into(),
            shape: Shape::Block,
            max_chars: Self::MAX_BLOCK_CHARS,
        }
    }

    /// A path, an argument or a variable as the system has it, on one line: what is not UTF-8 is
    /// shown byte by byte, as `\xff`.
    #[must_use]
    pub fn os(text: &'a (impl AsRef<OsStr> + ?Sized)) -> Self {
        let text = text.as_ref();
        Self::line(match text.to_str() {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(lossless(text.as_encoded_bytes())),
        })
    }

    /// Sets how many characters are shown, the `…` of a cut text and escapes included; at least 1.
    #[must_use]
    pub fn clip(mut self, max_chars: usize) -> Self {
        self.max_chars = max_chars.max(1);
        self
    }

    /// Shows the whole text, however long: for what a person has to see to the end, such as a
    /// command that they are asked to allow.
    #[must_use]
    pub fn whole(self) -> Self {
        self.clip(usize::MAX)
    }

    /// The text in double quotes with `"` and `\` escaped too: what stands there is exactly what
    /// is meant, white space at the ends included. Cut like the rest, inside the quotes.
    #[must_use]
    pub fn quoted(&self) -> Quoted<'_> {
        Quoted(self)
    }

    /// The text as it came, for programs. Never write it to a terminal, a log or an error.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.text
    }

    /// The text that may be shown.
    #[must_use]
    pub fn into_clean(self) -> Cow<'a, str> {
        if self.fits() {
            return self.text;
        }
        Cow::Owned(self.to_string())
    }

    /// Whether the text is shown as it is. Looks at no more bytes than are needed to know.
    fn fits(&self) -> bool {
        let keeps = |c: char| is_kept(c, self.shape);
        self.text.len() <= self.max_chars && self.text.chars().all(keeps)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, quotes: bool) -> fmt::Result {
        let mut left = self.max_chars;
        let mut chars = self.text.chars();
        while let Some(c) = chars.next() {
            let shown = Shown::new(c, self.shape, quotes);
            let width = shown.width();
            // What follows needs room for at least the ellipsis.
            let fits = width < left || width == left && chars.as_str().is_empty();
            if !fits {
                return f.write_char('…');
            }
            left -= width;
            write!(f, "{shown}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Untrusted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.width().is_some() {
            // `{:20}` counts characters of what is shown.
            return f.pad(&self.clone().into_clean());
        }
        if self.fits() {
            return f.write_str(&self.text);
        }
        self.write(f, false)
    }
}

impl fmt::Debug for Untrusted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.quoted(), f)
    }
}

/// Foreign text in quotes: see [`Untrusted::quoted`].
pub struct Quoted<'a>(&'a Untrusted<'a>);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        self.0.write(f, true)?;
        f.write_char('"')
    }
}

impl fmt::Debug for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One character as it is shown.
enum Shown {
    Itself(char),
    Word(&'static str),
    Code(char),
}

impl Shown {
    fn new(c: char, shape: Shape, quotes: bool) -> Self {
        match c {
            '"' if quotes => Self::Word("\\\""),
            '\\' if quotes => Self::Word("\\\\"),
            c if is_kept(c, shape) => Self::Itself(c),
            '\n' => Self::Word("\\n"),
            '\r' => Self::Word("\\r"),
            '\t' => Self::Word("\\t"),
            c => Self::Code(c),
        }
    }

    /// How many characters it takes.
    fn width(&self) -> usize {
        match self {
            Self::Itself(_) => 1,
            Self::Word(word) => word.len(),
            // `\u{` and `}` around the hexadecimal digits.
            Self::Code(c) => c.escape_unicode().len(),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Itself(c) => f.write_char(*c),
            Self::Word(word) => f.write_str(word),
            Self::Code(c) => write!(f, "{}", c.escape_unicode()),
        }
    }
}

fn is_kept(c: char, shape: Shape) -> bool {
    match c {
        '\n' | '\t' => shape == Shape::Block,
        c => !is_unshowable(c),
    }
}

/// Whether a character steers a terminal, hides itself or turns the order of what is read, and is
/// therefore never shown as it is.
///
/// Unicode's general categories Cc, Cf, Zl and Zp (C0, DEL, C1, bidirectional controls, zero-width
/// characters, tags, U+2028, U+2029), `Default_Ignorable_Code_Point` (fillers, variation selectors
/// but for U+FE0E and U+FE0F), and noncharacters.
#[must_use]
pub fn is_unshowable(c: char) -> bool {
    matches!(c,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}'
        | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
        | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fdd0}'..='\u{fdef}' | '\u{fe00}'..='\u{fe0d}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
        || u32::from(c) & 0xfffe == 0xfffe
}

/// Bytes as text in which nothing is lost: what is not UTF-8 stands as `\xff`.
fn lossless(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing into a `String` does not fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

#[cfg(test)]
mod tests;
