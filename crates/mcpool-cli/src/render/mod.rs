//! Output: tables for people, JSON for programs, progress on standard error.

pub(crate) mod json;
pub(crate) mod out;
pub(crate) mod problems;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod tui;
