//! A payload as a type, with the text that it was read from.

use std::ops::Deref;

use crate::Raw;

/// A result, or an entry of a list, as a type and as it came.
///
/// The type has what mcpool knows of the protocol; [`raw`](Reply::raw) has every member.
#[derive(Debug, Clone)]
pub struct Reply<T> {
    value: T,
    raw: Raw,
    odd: Vec<String>,
}

impl<T> Reply<T> {
    /// A value and its text.
    #[must_use]
    pub fn new(value: T, raw: Raw) -> Self {
        Self {
            value,
            raw,
            odd: Vec::new(),
        }
    }

    /// Adds what did not fit the type and was left out of it, in words.
    #[must_use]
    pub fn with_odd(mut self, odd: Vec<String>) -> Self {
        self.odd = odd;
        self
    }

    /// The text, as it came.
    #[must_use]
    pub fn raw(&self) -> &Raw {
        &self.raw
    }

    /// What did not fit the type and was left out of it, in words: a content block of an unknown
    /// type, a number that is too big. Empty for nearly every server.
    #[must_use]
    pub fn odd(&self) -> &[String] {
        &self.odd
    }

    /// The type alone.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for Reply<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> PartialEq for Reply<T> {
    /// Equal when the texts are.
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}
