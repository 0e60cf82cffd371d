//! What is hand-made of atomics here, in every order of events (loom).
#![allow(clippy::unwrap_used, dead_code, missing_docs)]

mod admission;
#[path = "../../src/supervise/gate.rs"]
mod gate;
mod gates;
#[path = "../../src/request/queue.rs"]
mod queue;
mod sync;

mod supervise {
    pub(crate) use crate::gate;
}
