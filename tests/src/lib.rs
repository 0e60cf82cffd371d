//! What the end-to-end tests share: how the program and the third-party servers are started and
//! found again.

mod cli;
mod client;
mod gateways;
pub mod logins;
mod servers;

pub use cli::{Cli, Finished, Running};
pub use client::GatewayClient;
pub use gateways::{Answer, Balancer, Gateway};
pub use mcpool_testkit::machine::{free_port, skip};
pub use servers::{HttpServer, Servers};

/// How much of a test of endurance is run: few rounds by default, many with `MCPOOL_ENDURANCE`, as
/// when the figures of `docs/measurements.md` are taken.
#[must_use]
pub fn rounds(few: usize, many: usize) -> usize {
    match std::env::var_os("MCPOOL_ENDURANCE") {
        Some(_) => many,
        None => few,
    }
}
