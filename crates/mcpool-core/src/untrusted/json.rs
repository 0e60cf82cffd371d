//! JSON whose text can be shown on a terminal.

use std::{borrow::Cow, io};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

use super::is_unshowable;

/// A value as JSON on one line, in which every character that [`is_unshowable`] is escaped as
/// `\u001b`, beyond what JSON itself demands. Parsed again, it is equal.
///
/// # Errors
/// When the value cannot be JSON: a map whose keys are no texts, or a `Serialize` that fails.
///
/// ```
/// let json = mcpool_core::clean_json(&"a\u{7f}\u{202e}\u{e0041}").unwrap();
/// assert_eq!(json, r#""a\u007f\u202e\udb40\udc41""#);
/// ```
pub fn clean_json(value: &(impl Serialize + ?Sized)) -> serde_json::Result<String> {
    write(value, CompactFormatter)
}

/// As [`clean_json`], indented by two spaces.
///
/// # Errors
/// As [`clean_json`].
pub fn clean_json_pretty(value: &(impl Serialize + ?Sized)) -> serde_json::Result<String> {
    write(value, PrettyFormatter::new())
}

/// JSON text with every character that [`is_unshowable`] escaped, and nothing else changed. Outside
/// of strings JSON has no such character, so what was valid stays valid and means the same.
///
/// ```
/// assert_eq!(mcpool_core::clean_json_text("{\"a\":1e400,\"b\":\"\u{202e}\"}"), r#"{"a":1e400,"b":"\u202e"}"#);
/// ```
#[must_use]
pub fn clean_json_text(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unshowable) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unshowable(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn write(value: &(impl Serialize + ?Sized), layout: impl Formatter) -> serde_json::Result<String> {
    let mut out = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut out, Clean(layout)))?;
    // serde_json writes UTF-8, and so does `Clean`.
    String::from_utf8(out).map_err(serde::ser::Error::custom)
}

/// Lays out as its inner formatter does, and escapes what is not for showing.
struct Clean<F>(F);

/// Forwards what concerns the layout alone.
macro_rules! layout {
    ($($method:ident $(($argument:ident: $kind:ty))?),* $(,)?) => {
        $(fn $method<W: ?Sized + io::Write>(
            &mut self,
            writer: &mut W,
            $($argument: $kind,)?
        ) -> io::Result<()> {
            self.0.$method(writer $(, $argument)?)
        })*
    };
}

impl<F: Formatter> Formatter for Clean<F> {
    layout!(
        begin_array,
        end_array,
        begin_array_value(first: bool),
        end_array_value,
        begin_object,
        end_object,
        begin_object_key(first: bool),
        end_object_key,
        begin_object_value,
        end_object_value,
    );

    /// A part of a text that JSON itself allows to stand as it is.
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_unshowable(*c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}
