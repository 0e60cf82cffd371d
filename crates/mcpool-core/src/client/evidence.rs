//! How a connect went.

use std::time::Duration;

use serde::Serialize;

use crate::TransportKind;

/// How a connect went: each thing that was tried, in order.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct ConnectEvidence {
    /// The attempts.
    pub attempts: Vec<ConnectAttempt>,
    /// What was chosen and why, in one sentence.
    pub conclusion: String,
    /// How many frames had come by then that were no JSON-RPC message: lines of stdout, events,
    /// bodies.
    pub skipped_lines: u64,
    /// The first of those frames, cut short, oldest first. Text of the server's, cleaned.
    pub skipped_samples: Vec<String>,
    /// What was odd and read all the same, in words.
    pub oddities: Vec<String>,
}

/// One thing that was tried while connecting.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ConnectAttempt {
    /// The transport.
    pub transport: TransportKind,
    /// What was sent: `server/discover`, `initialize`, `GET`.
    pub tried: String,
    /// What came back, in one line: a version, a status, an error.
    pub outcome: String,
    /// Whether it led to the session.
    pub ok: bool,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

impl ConnectAttempt {
    /// One attempt.
    #[must_use]
    pub fn new(
        transport: TransportKind,
        tried: impl Into<String>,
        outcome: impl Into<String>,
        ok: bool,
        elapsed: Duration,
    ) -> Self {
        Self {
            transport,
            tried: tried.into(),
            outcome: outcome.into(),
            ok,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        }
    }
}
