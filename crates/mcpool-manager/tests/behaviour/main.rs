//! How the manager behaves, on scripted clients: under the paused clock but for a few tests.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod lifecycle;
#[allow(dead_code, reason = "more tests follow")]
mod scripted;
