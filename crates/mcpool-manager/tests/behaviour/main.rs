//! How the manager behaves, on scripted clients: under the paused clock but for a few tests.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]
#![allow(deprecated, reason = "the log level is deprecated by MCP 2026-07-28")]

mod herd;
mod lifecycle;
mod reconnect;
#[allow(dead_code, reason = "a vocabulary for tests")]
mod scripted;
