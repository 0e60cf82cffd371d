//! A look at the wire, for logs and traces.

use std::{fmt, time::SystemTime};

use serde::Serialize;

use crate::{ServerName, TransportKind};

/// Sees every message of a connection as it is written and read: the handshake, cancels and
/// pings included.
///
/// Called on the paths of reading and writing: it must not block. What it sees is not redacted
/// and may hold secrets.
pub trait WireTap: Send + Sync + fmt::Debug {
    /// A message passed, or something else happened on the wire.
    fn event(&self, event: &WireEvent<'_>);
}

/// Something that happened on the wire.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct WireEvent<'a> {
    /// The server.
    pub server: &'a ServerName,
    /// The transport.
    pub transport: TransportKind,
    /// When.
    pub at: SystemTime,
    /// Which way.
    pub direction: Direction,
    /// The HTTP status that came with it, where there is one.
    pub status: Option<u16>,
    /// The message, as its text. Empty where only a status came.
    pub text: &'a str,
}

impl<'a> WireEvent<'a> {
    /// A message that passes now.
    #[must_use]
    pub fn now(
        server: &'a ServerName,
        transport: TransportKind,
        direction: Direction,
        text: &'a str,
    ) -> Self {
        Self {
            server,
            transport,
            at: SystemTime::now(),
            direction,
            status: None,
            text,
        }
    }

    /// Adds the HTTP status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Direction {
    /// To the server.
    Sent,
    /// From the server.
    Received,
    /// From the server, and no JSON-RPC message.
    Skipped,
}
