//! Every row of "which era does a server speak", on a paused clock.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod http;
mod stdio;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use mcpool_core::{Client, ConnectionInfo};

fn info(client: &dyn Client) -> Arc<ConnectionInfo> {
    client.info().unwrap()
}

fn version(client: &dyn Client) -> String {
    info(client).protocol.to_string()
}

/// What was tried, as one line each.
fn tried(client: &dyn Client) -> Vec<String> {
    let info = info(client);
    let attempts = info.evidence.attempts.iter();
    attempts
        .filter(|attempt| attempt.tried != "open")
        .map(|attempt| {
            format!(
                "{} {}: {}",
                attempt.transport, attempt.tried, attempt.outcome
            )
        })
        .collect()
}
