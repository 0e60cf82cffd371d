//! What an application wants of its one manager and a pool does not need: a process-wide instance,
//! background work registered by name, an end on a signal.

mod global;
pub(crate) mod registry;
mod signal;
mod tasks;

pub use signal::Signal;
