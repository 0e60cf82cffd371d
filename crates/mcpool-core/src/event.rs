use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use crate::{Error, ErrorKind, ServerName, TransportKind};

/// Something that happened to one server.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Event {
    /// The server.
    pub server: ServerName,
    /// When.
    pub at: SystemTime,
    /// What.
    pub kind: EventKind,
}

impl Event {
    /// An event of now.
    #[must_use]
    pub fn now(server: ServerName, kind: EventKind) -> Self {
        Self {
            server,
            at: SystemTime::now(),
            kind,
        }
    }
}

/// What happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EventKind {
    /// The state changed; the names are those of [`ServerState::as_str`](crate::ServerState::as_str).
    StateChanged {
        /// The state before.
        from: &'static str,
        /// The state now.
        to: &'static str,
    },
    /// A connection was made.
    Connected {
        /// Over which transport.
        transport: TransportKind,
        /// How long it took.
        elapsed: Duration,
        /// How many attempts it took.
        attempt: u32,
    },
    /// A connect failed.
    ConnectFailed {
        /// Which attempt it was, from 1.
        attempt: u32,
        /// How long it took.
        elapsed: Duration,
        /// Why.
        error: Error,
    },
    /// A live connection ended.
    Disconnected {
        /// Why.
        cause: DisconnectCause,
        /// How long it had lived.
        uptime: Duration,
    },
    /// The next attempt is planned.
    RetryScheduled {
        /// Which attempt it will be.
        attempt: u32,
        /// After how long.
        delay: Duration,
    },
    /// A heartbeat was answered.
    HeartbeatOk {
        /// How long the answer took.
        latency: Duration,
    },
    /// A heartbeat was not answered.
    HeartbeatMissed {
        /// How many in a row.
        misses: u32,
        /// Why.
        error: Error,
    },
    /// The tools of the server changed.
    ToolsChanged {
        /// Names that are new.
        added: Arc<[String]>,
        /// Names that are gone.
        removed: Arc<[String]>,
        /// Names whose description or schema changed.
        changed: Arc<[String]>,
        /// The generation of the aggregated view that shows it.
        generation: u64,
    },
    /// The prompts changed.
    PromptsChanged,
    /// The resources or templates changed.
    ResourcesChanged,
    /// A subscribed resource changed.
    ResourceUpdated {
        /// Its URI.
        uri: String,
    },
    /// A catalog could not be fetched; the last good one is served.
    CatalogStale {
        /// Why.
        error: Error,
    },
    /// Items of a list that could not be used were left out.
    CatalogItemsRejected {
        /// Their names and what is wrong with them.
        items: Arc<[crate::RejectedItem]>,
    },
    /// Calls ended because the connection did.
    CallsCancelled {
        /// How many.
        count: usize,
    },
    /// Processes that outlived their server were killed.
    OrphansKilled {
        /// How many.
        count: usize,
    },
    /// The spec changed and was applied.
    Reconfigured,
    /// A configuration file could not be used; the running one is kept.
    ConfigRejected {
        /// Why.
        error: Error,
    },
    /// The machine slept and woke.
    Resumed {
        /// For how long it was away.
        asleep: Duration,
    },
}

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
