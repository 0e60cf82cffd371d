//! How the manager behaves, on scripted clients: under the paused clock but for a few tests.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]
#![allow(
    unused_must_use,
    reason = "most tests see what a start did by what follows"
)]
#![allow(
    deprecated,
    reason = "the log level is deprecated by MCP 2026-07-28, spoken by older servers"
)]

mod by_name;
mod cancellation;
mod catalog;
mod delivery;
mod events;
mod forced;
mod foreign;
mod health;
mod herd;
mod instances;
mod lifecycle;
#[cfg(feature = "metrics")]
mod metrics;
mod reconnect;
mod reload;
#[allow(dead_code, reason = "a vocabulary for tests")]
mod scripted;
mod shutdown;
