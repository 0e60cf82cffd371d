//! What is seen of the servers: events, status, metrics.

pub(crate) mod events;
pub(crate) mod metrics;
pub(crate) mod status;
mod verbs;
