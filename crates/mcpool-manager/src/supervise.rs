//! Keeping one connection alive: the state machine, the task around it, and what they stand on.

pub(crate) mod budget;
pub(crate) mod connection;
pub(crate) mod continuity;
pub(crate) mod foreign;
pub(crate) mod gate;
pub(crate) mod machine;
pub(crate) mod open;
pub(crate) mod slot;
pub(crate) mod supervisor;
pub(crate) mod suspend;
mod wake;

pub(crate) use wake::watch as watch_for_suspend;
