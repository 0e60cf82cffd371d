//! What the servers list: caches of each server, and one view of the tools of all.

pub(crate) mod cache;
pub(crate) mod fetch;
pub(crate) mod lists;
pub mod naming;
#[cfg(feature = "search")]
pub mod search;
pub(crate) mod view;
