//! Output: tables for people, JSON for programs, progress on standard error.

pub(crate) mod activity;
pub(crate) mod attempts;
pub(crate) mod chronicle;
pub(crate) mod content;
pub(crate) mod json;
#[cfg(feature = "gateway")]
pub(crate) mod news;
pub(crate) mod out;
mod pager;
pub(crate) mod problems;
pub(crate) mod progress;
#[cfg(feature = "screen")]
pub(crate) mod screen;
pub(crate) mod table;
pub(crate) mod text;
