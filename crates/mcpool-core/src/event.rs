//! What happens to the servers of a manager.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use crate::{DisconnectCause, Error, ServerName, StateKind, TransportKind, units};

/// Something that happened to one server, or to the whole manager.
///
/// It serializes as one flat object: `at`, `server`, `event` (the kind in `snake_case`), and what
/// belongs to the kind. Times are RFC 3339, durations milliseconds in members that end in `_ms`.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// When.
    #[serde(serialize_with = "units::time")]
    pub at: SystemTime,
    /// The server; `None` for what happened to the whole manager.
    pub server: Option<ServerName>,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

impl Event {
    /// An event of now.
    #[must_use]
    pub fn now(server: impl Into<Option<ServerName>>, kind: EventKind) -> Self {
        Self {
            server: server.into(),
            at: SystemTime::now(),
            kind,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The state changed.
    StateChanged {
        /// The state before.
        from: StateKind,
        /// The state now.
        to: StateKind,
    },
    /// A connection was made.
    Connected {
        /// Over which transport.
        transport: TransportKind,
        /// How long it took.
        #[serde(rename = "elapsed_ms", serialize_with = "units::ms")]
        elapsed: Duration,
        /// How many attempts it took.
        attempt: u32,
    },
    /// A connect failed.
    ConnectFailed {
        /// Which attempt it was, from 1.
        attempt: u32,
        /// How long it took.
        #[serde(rename = "elapsed_ms", serialize_with = "units::ms")]
        elapsed: Duration,
        /// Why.
        error: Error,
    },
    /// A live connection ended.
    Disconnected {
        /// Why.
        cause: DisconnectCause,
        /// How long it had lived.
        #[serde(rename = "uptime_ms", serialize_with = "units::ms")]
        uptime: Duration,
        /// What is known of why, such as how a process exited. Not serialized when there is
        /// nothing.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<Error>,
    },
    /// The next attempt is planned.
    RetryScheduled {
        /// Which attempt it will be.
        attempt: u32,
        /// After how long.
        #[serde(rename = "delay_ms", serialize_with = "units::ms")]
        delay: Duration,
    },
    /// A heartbeat was answered.
    HeartbeatOk {
        /// How long the answer took. Serialized as `latency_us`, in microseconds.
        #[serde(rename = "latency_us", serialize_with = "units::us")]
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
        #[serde(rename = "asleep_ms", serialize_with = "units::ms")]
        asleep: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn an_event_serializes_flat_with_one_rule_for_units() {
        let mut event = Event::now(
            "files".parse::<ServerName>().unwrap(),
            EventKind::ConnectFailed {
                attempt: 2,
                elapsed: Duration::MAX,
                error: Error::new(ErrorKind::Connect, "refused")
                    .with_source(std::io::Error::other("x")),
            },
        );
        event.at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        assert_eq!(
            serde_json::to_value(&event).unwrap(),
            serde_json::json!({
                "at": "1970-01-01T00:00:01.500Z", "server": "files", "event": "connect_failed",
                "attempt": 2, "elapsed_ms": u64::MAX,
                "error": {
                    "kind": "connect", "message": "refused: x", "delivery": "not_sent",
                    "stderr_tail": [],
                },
            })
        );
        let event = Event::now(
            None,
            EventKind::StateChanged {
                from: StateKind::Idle,
                to: StateKind::Ready,
            },
        );
        let value = serde_json::to_value(&event).unwrap();
        assert_eq!(
            (&value["from"], &value["to"]),
            (&"idle".into(), &"ready".into())
        );
        assert!(value["server"].is_null());
    }
}
