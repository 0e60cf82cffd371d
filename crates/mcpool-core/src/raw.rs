//! JSON text that is carried as it came.

mod checked;

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer as _, Serialize,
    de::{DeserializeOwned, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::surrogates;

/// One JSON value as its text: valid, on one line, with every member, number and escape as it
/// was written.
///
/// It owns exactly its text, never a slice of a larger buffer. A line break between tokens becomes
/// a space, so that any carrier may frame it by lines (MCP, "Transports"). Cloning copies the
/// text.
///
/// ```
/// use mcpool_core::Raw;
///
/// let raw = Raw::from_text(r#"{"n": 12345678901234567890123, "x": 1}"#.to_owned())?;
/// assert_eq!(raw.get(), r#"{"n": 12345678901234567890123, "x": 1}"#);
/// # Ok::<(), mcpool_core::Error>(())
/// ```
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Raw(Box<RawValue>);

impl Raw {
    /// The text `null`.
    #[must_use]
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned())
    }

    /// The text `{}`.
    #[must_use]
    pub fn empty_object() -> Self {
        Self(RawValue::from_string("{}".to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }

    /// Takes over a value of `serde_json`.
    #[must_use]
    pub fn from_value(raw: Box<RawValue>) -> Self {
        if memchr::memchr2(b'\n', b'\r', raw.get().as_bytes()).is_none() {
            return Self(raw);
        }
        let text = on_one_line(Box::<str>::from(raw.clone()).into_string());
        // White space stays white space, so the text is as valid as it was.
        Self(RawValue::from_string(text).unwrap_or(raw))
    }

    /// Copies a borrowed value of `serde_json`.
    #[must_use]
    pub fn copied(raw: &RawValue) -> Self {
        Self::from_value(raw.to_owned())
    }

    /// The text.
    #[must_use]
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// How many bytes the text has.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a JSON value is never empty")]
    pub fn len(&self) -> usize {
        self.0.get().len()
    }

    /// Whether it is the value `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.0.get() == "null"
    }

    /// The value of `serde_json`.
    #[must_use]
    pub fn as_raw_value(&self) -> &RawValue {
        &self.0
    }

    /// Checks a text.
    pub(crate) fn read_text(text: String) -> serde_json::Result<Self> {
        RawValue::from_string(on_one_line(text)).map(Self)
    }

    /// Writes a value.
    pub(crate) fn write<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Self> {
        // A `RawValue` inside `value` may hold line breaks.
        serde_json::value::to_raw_value(value).map(Self::from_value)
    }

    /// Reads it as a type; half a surrogate pair in a string is read as U+FFFD.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.get()).or_else(|error| match surrogates::repaired(self.get()) {
            Cow::Owned(text) => serde_json::from_str(&text),
            Cow::Borrowed(_) => Err(error),
        })
    }
}

/// The elements of an array as text; `None` when there are more than `most`, for each takes room,
/// and many short ones take far more than their text.
///
/// # Errors
/// What `serde_json` says of a text that is no array.
pub(crate) fn elements(text: &str, most: usize) -> serde_json::Result<Option<Vec<&RawValue>>> {
    struct AtMost(usize);

    impl<'de> Visitor<'de> for AtMost {
        type Value = Option<Vec<&'de RawValue>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut elements = Vec::new();
            while let Some(element) = seq.next_element()? {
                if elements.len() == self.0 {
                    // The rest is read for its syntax alone.
                    while seq.next_element::<IgnoredAny>()?.is_some() {}
                    return Ok(None);
                }
                elements.push(element);
            }
            Ok(Some(elements))
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(text);
    let elements = deserializer.deserialize_seq(AtMost(most))?;
    deserializer.end()?;
    Ok(elements)
}

fn on_one_line(text: String) -> String {
    if memchr::memchr2(b'\n', b'\r', text.as_bytes()).is_none() {
        return text;
    }
    // Inside a string a bare line break is no JSON, so each one stands between tokens.
    text.replace(['\n', '\r'], " ")
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::from_value)
    }
}

impl PartialEq for Raw {
    /// Equal when the texts are.
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Raw {}

impl fmt::Debug for Raw {
    /// Its length alone: a payload may hold a secret, and be large.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({} bytes)", self.len())
    }
}
