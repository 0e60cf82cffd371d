//! A list, as one server gave it.

use std::time::Duration;

use super::Reply;
use crate::RejectedItem;

/// A list, all pages of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Listing<T> {
    /// The entries, in the server's order.
    pub items: Vec<Reply<T>>,
    /// Entries that could not be used. The others are there all the same.
    pub rejected: Vec<RejectedItem>,
    /// How long the server says the list is fresh (`ttlMs`, MCP 2026-07-28).
    pub ttl: Option<Duration>,
    /// Why the list may not be the whole one: a cursor that repeated, an answer without a list.
    pub incomplete: Option<String>,
}

impl<T> Listing<T> {
    /// A list of these.
    #[must_use]
    pub fn new(items: Vec<Reply<T>>) -> Self {
        Self {
            items,
            ..Self::default()
        }
    }

    /// The entries as the type alone.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.items.iter().map(|reply| &**reply)
    }
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            rejected: Vec::new(),
            ttl: None,
            incomplete: None,
        }
    }
}
