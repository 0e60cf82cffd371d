//! Every row of "which era does a server speak", on a paused clock.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod http;
mod stdio;
#[path = "../support/mod.rs"]
mod support;

use mcpool_core::Client;

fn version(client: &dyn Client) -> &str {
    client.info().protocol.as_str()
}

/// What was tried, as one line each.
fn tried(client: &dyn Client) -> Vec<String> {
    let attempts = &client.info().evidence.attempts;
    let attempts = attempts.iter().filter(|attempt| attempt.tried != "open");
    attempts
        .map(|attempt| {
            format!(
                "{} {}: {}",
                attempt.transport, attempt.tried, attempt.outcome
            )
        })
        .collect()
}
