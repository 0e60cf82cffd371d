//! A fleet from the command line: real processes, a real `nats-server`.
#![cfg(all(unix, feature = "nats"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod background;
mod credentials;
mod demo;
mod leases;
mod machines;
mod reload;
#[path = "../cli/support.rs"]
#[allow(dead_code, reason = "the other binary uses the rest")]
mod support;
mod usage;
mod walk;
