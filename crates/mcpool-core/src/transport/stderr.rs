//! A line that a process wrote to its standard error.

use std::time::SystemTime;

use serde::Serialize;

use crate::Untrusted;

/// One line of a server's stderr.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StderrLine {
    /// When it was read.
    pub at: SystemTime,
    /// The text, without its line end; bytes that are not UTF-8 are replaced, and what steers a
    /// terminal is escaped (see [`Untrusted`]).
    pub text: String,
}

impl StderrLine {
    /// A line that was read now.
    #[must_use]
    pub fn now(text: impl Into<String>) -> Self {
        Self {
            at: SystemTime::now(),
            // A block, for the tabs of a stack trace.
            text: Untrusted::block(text.into()).into_clean().into_owned(),
        }
    }
}
