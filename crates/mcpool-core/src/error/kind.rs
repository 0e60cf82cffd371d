//! What went wrong, and what another attempt takes.

use std::{fmt, time::Duration};

/// What went wrong, in one word that a program can match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The spec cannot be used: a bad name, URL, header or value, or a transport that was not
    /// compiled in.
    InvalidSpec,
    /// A `${…}` in the spec could not be resolved.
    Unresolved,
    /// The command of a stdio server does not exist, or is not executable.
    CommandNotFound,
    /// The process of a stdio server could not be started.
    Spawn,
    /// The process of a stdio server exited.
    ProcessExited,
    /// No connection could be made: name resolution, TCP, TLS.
    Connect,
    /// A live connection ended.
    ConnectionLost,
    /// An HTTP status that is an error and has no kind of its own.
    HttpStatus,
    /// HTTP 429, or 503 with `Retry-After`.
    RateLimited,
    /// HTTP 401, or no usable token: somebody has to log in.
    AuthRequired,
    /// HTTP 403: the credentials are not enough.
    Forbidden,
    /// The timeout of the operation passed.
    Timeout,
    /// A message was over the configured size.
    TooLarge,
    /// The server broke the protocol.
    Protocol,
    /// Client and server have no protocol version in common.
    VersionMismatch,
    /// The server answered with a JSON-RPC error: see [`Error::rpc`](crate::Error::rpc).
    Rpc,
    /// The request may have run and was not replayed, because running it twice may do harm.
    OutcomeUnknown,
    /// No server of that name.
    UnknownServer,
    /// No tool of that name.
    UnknownTool,
    /// The server is disabled.
    Disabled,
    /// The server is not connected now.
    NotConnected,
    /// The fast attempts are used up; only the slow re-probe goes on.
    GivenUp,
    /// Too many calls are in flight and the queue's deadline passed.
    Overloaded,
    /// This process is out of a resource of the operating system: descriptors, processes, memory.
    /// Never evidence against a server.
    Exhausted,
    /// The caller, or a disconnect, cancelled the operation.
    Cancelled,
    /// The manager or the client is closed for good.
    Closed,
    /// The arguments of a verb are wrong.
    InvalidArgument,
    /// A bug in mcpool.
    Internal,
}

impl ErrorKind {
    /// The kind as it stands in JSON output, in `snake_case`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidSpec => "invalid_spec",
            Self::Unresolved => "unresolved",
            Self::CommandNotFound => "command_not_found",
            Self::Spawn => "spawn",
            Self::ProcessExited => "process_exited",
            Self::Connect => "connect",
            Self::ConnectionLost => "connection_lost",
            Self::HttpStatus => "http_status",
            Self::RateLimited => "rate_limited",
            Self::AuthRequired => "auth_required",
            Self::Forbidden => "forbidden",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Protocol => "protocol",
            Self::VersionMismatch => "version_mismatch",
            Self::Rpc => "rpc",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::UnknownServer => "unknown_server",
            Self::UnknownTool => "unknown_tool",
            Self::Disabled => "disabled",
            Self::NotConnected => "not_connected",
            Self::GivenUp => "given_up",
            Self::Overloaded => "overloaded",
            Self::Exhausted => "exhausted",
            Self::Cancelled => "cancelled",
            Self::Closed => "closed",
            Self::InvalidArgument => "invalid_argument",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What another try takes: see [`Error::recovery`](crate::Error::recovery).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// Trying again the same way must fail again: something has to be changed first.
    Never,
    /// Somebody has to log in first.
    Login,
    /// Neither a pause nor a new connection is needed.
    Now,
    /// The server asked for this pause.
    After(Duration),
    /// A new connection is needed first.
    Reconnect,
}
