//! Why a connection ended.

use serde::Serialize;

use crate::{Error, ErrorKind};

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DisconnectCause {
    /// The connect itself failed.
    ConnectFailed,
    /// The process exited.
    ProcessExited,
    /// The server, or the network, ended the connection.
    RemoteClosed,
    /// Heartbeats went unanswered.
    HeartbeatFailed,
    /// A caller reported it.
    Reported,
    /// A caller asked for it.
    Requested,
    /// The configuration changed.
    Reconfigured,
    /// It was lazy and not used for long enough.
    IdleTimeout,
    /// The server refused the credentials.
    AuthRequired,
    /// The whole manager shuts down.
    Shutdown,
}

impl DisconnectCause {
    /// The word for it in JSON and in metrics labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectFailed => "connect_failed",
            Self::ProcessExited => "process_exited",
            Self::RemoteClosed => "remote_closed",
            Self::HeartbeatFailed => "heartbeat_failed",
            Self::Reported => "reported",
            Self::Requested => "requested",
            Self::Reconfigured => "reconfigured",
            Self::IdleTimeout => "idle_timeout",
            Self::AuthRequired => "auth_required",
            Self::Shutdown => "shutdown",
        }
    }

    /// The cause that an error at the end of a connection stands for.
    #[must_use]
    pub fn from_error(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::ProcessExited => Self::ProcessExited,
            ErrorKind::AuthRequired => Self::AuthRequired,
            _ => Self::RemoteClosed,
        }
    }
}
