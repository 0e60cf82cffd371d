//! What makes [`Raw`] of texts and values, and types of it.

use serde::{Serialize, de::DeserializeOwned};

use super::Raw;
use crate::{Error, ErrorKind, Result};

impl Raw {
    /// Takes over a text.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when it is no JSON value.
    pub fn from_text(text: String) -> Result<Self> {
        Self::read_text(text).map_err(not_json)
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when it cannot be JSON, such as a
    /// map whose keys are no strings.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Self::write(value).map_err(not_json)
    }

    /// Reads it as a type. The one place where payloads become types.
    ///
    /// Text that `serde_json` refuses only for half a surrogate pair in a string is read with
    /// U+FFFD in its place.
    ///
    /// # Errors
    /// [`Protocol`](crate::ErrorKind::Protocol) that says what does not fit and where; the error
    /// holds no text of the value.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        self.read()
            .map_err(|error| Error::new(ErrorKind::Protocol, error.to_string()))
    }
}

fn not_json(error: serde_json::Error) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!("this is no JSON value: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn line_breaks_between_tokens_become_spaces_and_nothing_else_changes() {
        let raw = Raw::from_text("{\r\n  \"a\": 1.0e400,\n\"b\":\"x\\ny\"}".to_owned()).unwrap();
        assert_eq!(raw.get(), "{    \"a\": 1.0e400, \"b\":\"x\\ny\"}");
        let inside = Raw::of(&serde_json::from_str::<Box<RawValue>>("[1,\n2]").unwrap()).unwrap();
        assert_eq!(inside.get(), "[1, 2]");
    }

    #[test]
    fn half_a_surrogate_pair_is_read_and_kept() {
        let raw = Raw::from_text(r#"{"t":"a\ud800b"}"#.to_owned()).unwrap();
        let value: serde_json::Value = raw.parse().unwrap();
        assert_eq!(value["t"], "a\u{fffd}b");
        assert_eq!(raw.get(), r#"{"t":"a\ud800b"}"#);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for bad in ["", "{", "NaN", "{} {}", "'x'"] {
            assert!(Raw::from_text(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
