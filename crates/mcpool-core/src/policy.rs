//! How a server is treated: reconnects, heartbeats, timeouts, limits, shutdown.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Writes `with_…` for public fields.
macro_rules! builders {
    ($type:ident { $($with:ident: $field:ident: $of:ty,)* }) => {
        impl $type {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
                #[must_use]
                pub fn $with(mut self, $field: $of) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }
    };
}

/// How random a reconnect delay is. `d` is the delay of the ladder: `min(cap, base·factor^n)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Jitter {
    /// Exactly `d`.
    None,
    /// Uniform in `[0, d]`: spreads a herd best.
    Full,
    /// Uniform in `[d/2, d]`.
    Equal,
    /// `d` plus a uniform share of up to this fraction of `d`, never over the cap.
    Additive(f64),
}

/// When and how often a lost connection is made again.
///
/// The default is 500 ms doubling to 30 s with full jitter, ten fast attempts, then a slow
/// re-probe every five minutes for ever.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ReconnectPolicy {
    /// The first step of the ladder. Default 500 ms.
    pub base: Duration,
    /// The growth of each step. Default 2.
    pub factor: f64,
    /// No delay is longer. Default 30 s.
    pub cap: Duration,
    /// The randomness. Default [`Jitter::Full`].
    pub jitter: Jitter,
    /// How many attempts climb the ladder before the server is `Dormant`; `Some(0)` never
    /// reconnects, `None` stays fast for ever. Default 10.
    pub max_attempts: Option<u32>,
    /// How often a `Dormant` server is tried again, ±20 %; `None` gives up for good. Default 5 min.
    pub dormant_interval: Option<Duration>,
    /// How long a connection must have been `Ready` for the ladder to be reset. Default 60 s.
    pub reset_after: Duration,
    /// Whether the first attempt after a stable connection is made at once. Default `true`.
    pub immediate_first: bool,
}

builders! {
    ReconnectPolicy {
        with_base: base: Duration,
        with_factor: factor: f64,
        with_cap: cap: Duration,
        with_jitter: jitter: Jitter,
        with_max_attempts: max_attempts: Option<u32>,
        with_dormant_interval: dormant_interval: Option<Duration>,
        with_reset_after: reset_after: Duration,
        with_immediate_first: immediate_first: bool,
    }
}

impl Default for ReconnectPolicy {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(500),
            factor: 2.0,
            cap: Duration::from_secs(30),
            jitter: Jitter::Full,
            max_attempts: Some(10),
            dormant_interval: Some(Duration::from_secs(300)),
            reset_after: Duration::from_secs(60),
            immediate_first: true,
        }
    }
}

impl ReconnectPolicy {
    /// Preset `unlimited`: `uniform(0, min(30 s, 0.5 s·2^n))` without an end of the fast attempts;
    /// the first attempt waits as well.
    #[must_use]
    pub fn unlimited() -> Self {
        Self {
            max_attempts: None,
            immediate_first: false,
            ..Self::default()
        }
    }

    /// Preset `retrying`: 1, 2, 4, 8 … at most 30 s, plus 0–50 %, `max_retries` attempts.
    ///
    /// The jitter is kept under the cap, as every delay is.
    #[must_use]
    pub fn retrying(max_retries: u32) -> Self {
        Self {
            base: Duration::from_secs(1),
            jitter: Jitter::Additive(0.5),
            max_attempts: Some(max_retries),
            dormant_interval: None,
            immediate_first: false,
            ..Self::default()
        }
    }

    /// Preset `five_then_stop`: 1, 2, 4, 8, 16 s, at most 60 s, five attempts, then gives up.
    #[must_use]
    pub fn five_then_stop() -> Self {
        Self {
            base: Duration::from_secs(1),
            cap: Duration::from_secs(60),
            jitter: Jitter::None,
            max_attempts: Some(5),
            dormant_interval: None,
            immediate_first: false,
            ..Self::default()
        }
    }

    /// Never reconnects.
    #[must_use]
    pub fn never() -> Self {
        Self {
            max_attempts: Some(0),
            dormant_interval: None,
            ..Self::default()
        }
    }
}

/// How a live connection is watched.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HealthPolicy {
    /// Whether idle connections are probed at all. Default `true`.
    pub enabled: bool,
    /// The time between two heartbeats, ±10 %. Default 45 s; 30–60 s is the sane range.
    pub interval: Duration,
    /// How long one probe may take. Default 5 s.
    pub timeout: Duration,
    /// How many probes in a row must fail before a reconnect. Default 2.
    pub misses: u32,
}

builders! {
    HealthPolicy {
        with_enabled: enabled: bool,
        with_interval: interval: Duration,
        with_timeout: timeout: Duration,
        with_misses: misses: u32,
    }
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(45),
            timeout: Duration::from_secs(5),
            misses: 2,
        }
    }
}

/// How long things may take.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RequestTimeouts {
    /// From the start of a connect to a session that is ready, negotiation included. Default 30 s.
    pub startup: Duration,
    /// From a request to its answer; a progress notification restarts it. Default 30 s.
    pub request: Duration,
    /// From a request to its answer, whatever the progress. Default 10 min.
    pub request_max: Duration,
    /// How long a stdio server may be silent on `server/discover` before `initialize` is sent as
    /// well. Default 2 s.
    pub discover: Duration,
}

builders! {
    RequestTimeouts {
        with_startup: startup: Duration,
        with_request: request: Duration,
        with_request_max: request_max: Duration,
        with_discover: discover: Duration,
    }
}

impl Default for RequestTimeouts {
    fn default() -> Self {
        Self {
            startup: Duration::from_secs(30),
            request: Duration::from_secs(30),
            request_max: Duration::from_secs(600),
            discover: Duration::from_secs(2),
        }
    }
}

/// How much of everything is allowed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest message from the server, in bytes. Default 64 MiB.
    pub max_message_bytes: usize,
    /// How many lines of stderr are kept. Default 200.
    pub stderr_lines: usize,
    /// Requests in flight at once to this server; others queue. Default 256.
    pub max_in_flight: usize,
    /// The most pages that one list may have. Default 1 000.
    pub max_pages: usize,
    /// The most entries that one list may have, all pages together. Default 10 000.
    pub max_list_entries: usize,
    /// The most bytes that the pages of one list may have together. Default 16 MiB.
    pub max_list_bytes: usize,
    /// The most rounds of one multi-round-trip request. Default 10.
    pub max_rounds: usize,
}

builders! {
    Limits {
        with_max_message_bytes: max_message_bytes: usize,
        with_stderr_lines: stderr_lines: usize,
        with_max_in_flight: max_in_flight: usize,
        with_max_pages: max_pages: usize,
        with_max_list_entries: max_list_entries: usize,
        with_max_list_bytes: max_list_bytes: usize,
        with_max_rounds: max_rounds: usize,
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: 64 * 1024 * 1024,
            stderr_lines: 200,
            max_in_flight: 256,
            max_pages: 1_000,
            max_list_entries: 10_000,
            max_list_bytes: 16 * 1024 * 1024,
            max_rounds: 10,
        }
    }
}

/// How a connection is closed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ShutdownPolicy {
    /// How long a process may take to exit after its stdin is closed. Default 2 s.
    pub stdin_grace: Duration,
    /// How long it may take after SIGTERM. Default 2 s.
    pub term_grace: Duration,
    /// The bound of the whole close: SIGKILL comes before it. What was killed has a second to be
    /// gone, past this as well. Default 5 s.
    pub total: Duration,
    /// Whether the next process of a server may start while its last one is being ended, so that a
    /// server that hangs costs its callers no graces. Two processes at most; safe for servers that
    /// share nothing with a second one (no lock, no database of their own). Default `false`.
    pub overlap: bool,
}

builders! {
    ShutdownPolicy {
        with_stdin_grace: stdin_grace: Duration,
        with_term_grace: term_grace: Duration,
        with_total: total: Duration,
        with_overlap: overlap: bool,
    }
}

impl Default for ShutdownPolicy {
    fn default() -> Self {
        Self {
            stdin_grace: Duration::from_secs(2),
            term_grace: Duration::from_secs(2),
            total: Duration::from_secs(5),
            overlap: false,
        }
    }
}

/// Every policy of one server. The default suits most.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ServerPolicy {
    /// Reconnecting.
    pub reconnect: ReconnectPolicy,
    /// Heartbeats.
    pub health: HealthPolicy,
    /// Timeouts.
    pub timeouts: RequestTimeouts,
    /// Sizes and counts.
    pub limits: Limits,
    /// Closing.
    pub shutdown: ShutdownPolicy,
    /// How long a cached catalog counts as fresh when no list_changed arrives; `None`: until
    /// one does. Default `None`.
    pub catalog_ttl: Option<Duration>,
    /// Whether `readOnlyHint` and `idempotentHint` of this server are believed. Default `false`.
    pub trust_annotations: bool,
}

builders! {
    ServerPolicy {
        with_reconnect: reconnect: ReconnectPolicy,
        with_health: health: HealthPolicy,
        with_timeouts: timeouts: RequestTimeouts,
        with_limits: limits: Limits,
        with_shutdown: shutdown: ShutdownPolicy,
        with_catalog_ttl: catalog_ttl: Option<Duration>,
        with_trust_annotations: trust_annotations: bool,
    }
}

/// How many connects may run at once in one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectBudget {
    /// For stdio servers, each a process to start. Default 8.
    pub stdio: usize,
    /// For HTTP servers. Default 32.
    pub http: usize,
}

impl Default for ConnectBudget {
    fn default() -> Self {
        Self { stdio: 8, http: 32 }
    }
}

impl ConnectBudget {
    /// A budget of so many stdio and HTTP connects at once.
    #[must_use]
    pub fn new(stdio: usize, http: usize) -> Self {
        Self { stdio, http }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_put_together_in_one_expression() {
        let policy = ServerPolicy::default()
            .with_reconnect(ReconnectPolicy::five_then_stop().with_jitter(Jitter::Full))
            .with_health(HealthPolicy::default().with_misses(3))
            .with_timeouts(RequestTimeouts::default().with_request(Duration::MAX))
            .with_shutdown(ShutdownPolicy::default().with_overlap(true))
            .with_limits(Limits::default().with_max_in_flight(1))
            .with_trust_annotations(true);
        let same = ServerPolicy {
            reconnect: ReconnectPolicy {
                jitter: Jitter::Full,
                ..ReconnectPolicy::five_then_stop()
            },
            health: HealthPolicy {
                misses: 3,
                ..HealthPolicy::default()
            },
            timeouts: RequestTimeouts {
                request: Duration::MAX,
                ..RequestTimeouts::default()
            },
            shutdown: ShutdownPolicy {
                overlap: true,
                ..ShutdownPolicy::default()
            },
            limits: Limits {
                max_in_flight: 1,
                ..Limits::default()
            },
            catalog_ttl: None,
            trust_annotations: true,
        };
        assert_eq!(policy, same);
    }
}
