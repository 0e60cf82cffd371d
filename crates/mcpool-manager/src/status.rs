//! What is known of a server now, in a form that prints and serializes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mcpool_core::{
    CoarseState, DisconnectCause, Error, ErrorKind, ServerName, ServerState, StderrLine,
    TransportKind, Untrusted,
};
use serde::{Serialize, Serializer};

use crate::{
    server::{Observed, Server},
    supervisor::wall_clock,
};

/// The status of one server. Times serialize as milliseconds since 1970, durations as
/// milliseconds, errors as an object of kind, message and stderr tail.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ServerStatus {
    /// The application's name for it.
    pub name: ServerName,
    /// Whether it may be connected.
    pub enabled: bool,
    /// The state, in `snake_case`: the name of a [`ServerState`].
    pub state: &'static str,
    /// The three-word view.
    pub coarse: CoarseState,
    /// How many connects were started since the last stable connection.
    pub attempt: u32,
    /// When the next connect starts, if one is planned.
    #[serde(serialize_with = "time_ms")]
    pub next_retry_at: Option<SystemTime>,
    /// Since when it is connected.
    #[serde(serialize_with = "time_ms")]
    pub connected_at: Option<SystemTime>,
    /// When it was last heard of, probes not counted.
    #[serde(serialize_with = "time_ms")]
    pub last_activity: Option<SystemTime>,
    /// When it last answered a probe.
    #[serde(serialize_with = "time_ms")]
    pub last_heartbeat: Option<SystemTime>,
    /// How long that answer took.
    #[serde(serialize_with = "duration_ms")]
    pub heartbeat_latency: Option<Duration>,
    /// How many probes in a row were missed.
    pub consecutive_misses: u32,
    /// How many tools it shows.
    pub tools: usize,
    /// The protocol version that was agreed on, now or last.
    pub protocol: Option<String>,
    /// The transport that is used, now or last; what the spec says before the first connection.
    pub transport: &'static str,
    /// How long the last connect took, in milliseconds: spec to session.
    pub connect_ms: Option<u64>,
    /// Why it is not connected; `None` once it is again.
    pub last_error: Option<ErrorStatus>,
    /// Why the last connection ended.
    pub last_disconnect: Option<DisconnectStatus>,
    /// The last lines of its stderr, those of its last process after that is gone.
    #[serde(serialize_with = "lines")]
    pub stderr_tail: Vec<StderrLine>,
    /// How many calls are in flight.
    pub in_flight: usize,
    /// Its instances, one by one.
    pub instances: Vec<InstanceStatus>,
}

/// The status of one instance of a server.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct InstanceStatus {
    /// The state, in `snake_case`.
    pub state: &'static str,
    /// Its process (stdio only).
    pub pid: Option<u32>,
    /// Since when it is connected.
    #[serde(serialize_with = "time_ms")]
    pub connected_at: Option<SystemTime>,
    /// How many calls it has in flight.
    pub in_flight: usize,
    /// Why it is not connected; `None` once it is again.
    pub last_error: Option<ErrorStatus>,
}

/// An error as a status shows it.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ErrorStatus {
    /// What went wrong, in one word.
    pub kind: ErrorKind,
    /// What happened and what to do, with its causes, in one line.
    pub message: String,
    /// The last lines of the server's stderr, oldest first.
    pub stderr_tail: Vec<String>,
}

/// The end of a connection as a status shows it.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct DisconnectStatus {
    /// Why.
    pub cause: DisconnectCause,
    /// When.
    #[serde(serialize_with = "some_time_ms")]
    pub at: SystemTime,
}

impl From<&Error> for ErrorStatus {
    fn from(error: &Error) -> Self {
        let mut message = error.message().to_owned();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            let text = cause.to_string();
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            source = cause.source();
        }
        Self {
            kind: error.kind(),
            // The causes may be of other crates, and quote what a stranger wrote.
            message: Untrusted::line(message)
                .clip(Error::MAX_MESSAGE_CHARS)
                .into_clean()
                .into_owned(),
            stderr_tail: error
                .stderr_tail()
                .iter()
                .map(|line| line.text.clone())
                .collect(),
        }
    }
}

/// Puts together what is known of a server.
pub(crate) fn of(server: &Server, tools: usize) -> ServerStatus {
    let spec = server.spec();
    let state = server.state();
    let seen: Vec<Observed> = server.instances.iter().map(|i| i.observed()).collect();
    let live: Vec<_> = server.instances.iter().map(|i| i.slot.live()).collect();
    // The instance that speaks for the server: one in the server's own state.
    let spokesman = seen
        .iter()
        .position(|o| o.state.as_str() == state.as_str())
        .unwrap_or_default();
    let observed = seen.get(spokesman);
    let client = live
        .get(spokesman)
        .and_then(Option::as_ref)
        .or_else(|| live.iter().flatten().next())
        .map(|live| &live.client);
    let stderr_tail = client
        .map(|client| client.diagnostics().stderr_tail)
        .filter(|tail| !tail.is_empty())
        .or_else(|| observed.map(|o| o.stderr_tail.clone()))
        .unwrap_or_default();
    let instances = seen
        .iter()
        .zip(&live)
        .map(|(observed, live)| InstanceStatus {
            state: observed.state.as_str(),
            pid: live.as_ref().and_then(|live| live.client.diagnostics().pid),
            connected_at: observed.connected_at,
            in_flight: live.as_ref().map_or(0, |live| live.in_flight()),
            last_error: observed.last_error.as_ref().map(ErrorStatus::from),
        })
        .collect();
    ServerStatus {
        name: server.name.clone(),
        enabled: !matches!(state, ServerState::Disabled),
        state: state.as_str(),
        coarse: state.coarse(),
        attempt: observed.map_or(0, |o| o.attempts),
        next_retry_at: match &state {
            ServerState::Backoff { until, .. } => Some(*until),
            ServerState::Dormant { next_probe, .. } => *next_probe,
            _ => None,
        },
        connected_at: observed.and_then(|o| o.connected_at),
        last_activity: live
            .iter()
            .flatten()
            .map(|live| live.client.times().last_activity)
            .max()
            .map(wall_clock)
            .or_else(|| seen.iter().filter_map(|o| o.last_activity).max()),
        last_heartbeat: seen.iter().filter_map(|o| o.last_heartbeat).max(),
        heartbeat_latency: observed.and_then(|o| o.heartbeat_latency),
        consecutive_misses: observed.map_or(0, |o| o.misses),
        tools,
        protocol: observed.and_then(|o| o.protocol.clone()),
        transport: observed
            .and_then(|o| o.transport)
            .map_or(spec.transport.as_str(), TransportKind::as_str),
        connect_ms: observed
            .and_then(|o| o.connect_time)
            .map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
        last_error: observed
            .and_then(|o| o.last_error.as_ref())
            .map(ErrorStatus::from),
        last_disconnect: seen
            .iter()
            .filter_map(|o| o.last_disconnect)
            .max_by_key(|(_, at)| *at)
            .map(|(cause, at)| DisconnectStatus { cause, at }),
        stderr_tail,
        in_flight: server.in_flight(),
        instances,
    }
}

fn ms_since_1970(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::ref_option, reason = "serde gives a reference to the field")]
fn time_ms<S: Serializer>(time: &Option<SystemTime>, s: S) -> Result<S::Ok, S::Error> {
    time.map(ms_since_1970).serialize(s)
}

fn some_time_ms<S: Serializer>(time: &SystemTime, s: S) -> Result<S::Ok, S::Error> {
    ms_since_1970(*time).serialize(s)
}

#[expect(clippy::ref_option, reason = "serde gives a reference to the field")]
fn duration_ms<S: Serializer>(duration: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    duration.map(|d| d.as_secs_f64() * 1000.0).serialize(s)
}

fn lines<S: Serializer>(lines: &[StderrLine], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(lines.iter().map(|line| &line.text))
}
