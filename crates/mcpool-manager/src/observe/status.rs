//! What is known of a server now, in a form that prints and serializes.

use std::time::{Duration, SystemTime};

use mcpool_core::{
    Connectivity, DisconnectCause, Error, ProtocolVersion, ServerName, ServerState, StateKind,
    StderrLine, TransportKind, units,
};
use serde::{Serialize, Serializer};

use crate::{
    server::{Observed, Server},
    supervise::{connection, supervisor::wall_clock},
};

/// The status of one server. It serializes as the program prints it: times in RFC 3339, durations
/// as whole milliseconds in members that end in `_ms`, a latency in microseconds in `_us`.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ServerStatus {
    /// The application's name for it.
    pub name: ServerName,
    /// Whether it may be connected.
    pub enabled: bool,
    /// The state.
    pub state: StateKind,
    /// The state in one of three words.
    pub connectivity: Connectivity,
    /// How many connects were started since the last stable connection.
    pub attempt: u32,
    /// When the next connect starts, if one is planned.
    #[serde(serialize_with = "units::some_time")]
    pub next_retry_at: Option<SystemTime>,
    /// Since when it is connected.
    #[serde(serialize_with = "units::some_time")]
    pub connected_at: Option<SystemTime>,
    /// When it was last heard of, probes not counted.
    #[serde(serialize_with = "units::some_time")]
    pub last_activity: Option<SystemTime>,
    /// When it last answered a probe.
    #[serde(serialize_with = "units::some_time")]
    pub last_heartbeat: Option<SystemTime>,
    /// How long that answer took.
    #[serde(rename = "heartbeat_latency_us", serialize_with = "units::some_us")]
    pub heartbeat_latency: Option<Duration>,
    /// How many probes in a row were missed.
    pub consecutive_misses: u32,
    /// How many tools it shows.
    pub tools: usize,
    /// How many entries of its lists could not be used, of those that were fetched.
    pub rejected: usize,
    /// How many frames it sent that were no JSON-RPC message.
    pub skipped: u64,
    /// The protocol version that was agreed on, now or last.
    pub protocol: Option<ProtocolVersion>,
    /// The transport that is used, now or last; `None` before the first connection.
    pub transport: Option<TransportKind>,
    /// How long the last connect took: spec to session.
    #[serde(rename = "connect_ms", serialize_with = "units::some_ms")]
    pub connect_time: Option<Duration>,
    /// Why it is not connected; `None` once it is again.
    pub last_error: Option<Error>,
    /// Why the last connection ended.
    pub last_disconnect: Option<DisconnectStatus>,
    /// The last lines of its stderr, those of its last process after that is gone.
    #[serde(serialize_with = "lines")]
    pub stderr_tail: Vec<StderrLine>,
    /// How many requests are in flight.
    pub in_flight: usize,
    /// Its instances, one by one.
    pub instances: Vec<InstanceStatus>,
}

/// The status of one instance of a server.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct InstanceStatus {
    /// The state.
    pub state: StateKind,
    /// Its process (stdio only).
    pub pid: Option<u32>,
    /// Since when it is connected.
    #[serde(serialize_with = "units::some_time")]
    pub connected_at: Option<SystemTime>,
    /// How many requests it has in flight.
    pub in_flight: usize,
    /// Why it is not connected; `None` once it is again.
    pub last_error: Option<Error>,
}

/// The end of a connection as a status shows it.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct DisconnectStatus {
    /// Why.
    pub cause: DisconnectCause,
    /// When.
    #[serde(serialize_with = "units::time")]
    pub at: SystemTime,
}

/// Puts together what is known of a server.
pub(crate) fn of(server: &Server, tools: usize) -> ServerStatus {
    let state = server.state();
    let seen: Vec<Observed> = server.instances.iter().map(|i| i.observed()).collect();
    let live: Vec<_> = server.instances.iter().map(|i| i.slot.live()).collect();
    let snapshots: Vec<_> = live
        .iter()
        .map(|live| connection::snapshot(&*live.as_ref()?.client))
        .collect();
    // The instance that speaks for the server: one in the server's own state.
    let spokesman = seen
        .iter()
        .position(|observed| observed.state.kind() == state.kind())
        .unwrap_or_default();
    let observed = seen.get(spokesman);
    let snapshot = snapshots
        .get(spokesman)
        .and_then(Option::as_ref)
        .or_else(|| snapshots.iter().flatten().next());
    let stderr_tail = snapshot
        .map(|snapshot| snapshot.diagnostics.stderr_tail.clone())
        .filter(|tail| !tail.is_empty())
        .or_else(|| observed.map(|o| o.stderr_tail.clone()))
        .unwrap_or_default();
    let instances = seen
        .iter()
        .zip(live.iter().zip(&snapshots))
        .map(|(observed, (live, snapshot))| InstanceStatus {
            state: observed.state.kind(),
            pid: snapshot.as_ref().and_then(|s| s.diagnostics.pid),
            connected_at: observed.connected_at,
            in_flight: live.as_ref().map_or(0, |live| live.in_flight()),
            last_error: observed.last_error.clone(),
        })
        .collect();
    ServerStatus {
        name: server.name.clone(),
        enabled: !matches!(state, ServerState::Disabled),
        state: state.kind(),
        connectivity: state.connectivity(),
        attempt: observed.map_or(0, |o| o.attempts),
        next_retry_at: match &state {
            ServerState::Backoff { until, .. } => Some(*until),
            ServerState::Dormant { next_probe, .. } => *next_probe,
            _ => None,
        },
        connected_at: observed.and_then(|o| o.connected_at),
        last_activity: snapshots
            .iter()
            .flatten()
            .map(|snapshot| snapshot.last_activity)
            .max()
            .map(wall_clock)
            .or_else(|| seen.iter().filter_map(|o| o.last_activity).max()),
        last_heartbeat: seen.iter().filter_map(|o| o.last_heartbeat).max(),
        heartbeat_latency: observed.and_then(|o| o.heartbeat_latency),
        consecutive_misses: observed.map_or(0, |o| o.misses),
        tools,
        rejected: server.catalog.rejected(),
        skipped: snapshots
            .iter()
            .flatten()
            .map(|snapshot| snapshot.diagnostics.skipped_lines)
            .sum(),
        protocol: observed.and_then(|o| o.protocol.clone()),
        transport: observed.and_then(|o| o.transport),
        connect_time: observed.and_then(|o| o.connect_time),
        last_error: observed.and_then(|o| o.last_error.clone()),
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

fn lines<S: Serializer>(lines: &[StderrLine], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(lines.iter().map(|line| &line.text))
}
