//! The way of a request: waiting, going in, sending, and what becomes of one that failed.

pub(crate) mod admission;
pub(crate) mod forward;
pub(crate) mod options;
mod qualified;
pub(crate) mod queue;
mod replay;
