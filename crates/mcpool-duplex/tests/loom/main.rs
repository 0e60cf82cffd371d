//! What is hand-made of atomics and locks here, in every order of events (loom).
#![allow(clippy::unwrap_used, dead_code, missing_docs, unreachable_pub)]

#[path = "../../src/departure.rs"]
mod departure;
#[path = "../../src/ending.rs"]
mod ending;
mod endings;
mod lines;
#[path = "../../src/lines/writer/queue.rs"]
mod queue;
mod sync;
mod wire;
