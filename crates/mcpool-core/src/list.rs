//! What was left out of a list.

use serde::Serialize;

/// An item of a list that could not be used. Its texts come from the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RejectedItem {
    /// Its name, or its place in the list.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

impl RejectedItem {
    /// An item and what is wrong with it.
    #[must_use]
    pub fn new(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            reason: reason.into(),
        }
    }
}
