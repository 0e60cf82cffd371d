//! What happened to each server, in words, and what is remembered of it.

mod summary;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, SystemTime},
};

use mcpool::{DisconnectCause, Error, Event, EventKind, ServerName, StateKind, StderrLine};

#[cfg(feature = "screen")]
pub(crate) use summary::state_word;
pub(crate) use summary::summary;

use crate::{
    invocation::program,
    render::{
        table::{milliseconds, span},
        text::Text,
    },
    text,
};

/// How many latencies are remembered of a server.
pub(crate) const MAX_LATENCIES: usize = 20;

/// How many names of tools are shown for one event.
const MAX_NAMES: usize = 5;

/// What is remembered of one server.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The latest latencies of heartbeats, oldest first.
    pub(crate) latencies: VecDeque<Duration>,
    /// How many heartbeats were answered.
    pub(crate) answered: u64,
    /// How many were not.
    pub(crate) missed: u64,
    /// How often it was connected.
    pub(crate) connected: u32,
    /// How often a live connection was lost.
    pub(crate) lost: u32,
    /// The longest time between a loss and the connection after it.
    pub(crate) longest_gap: Option<Duration>,
    /// The last thing that was wrong, also after it is over.
    #[cfg_attr(
        not(feature = "screen"),
        allow(dead_code, reason = "shown in the table")
    )]
    pub(crate) last_error: Option<(SystemTime, Text)>,
    lost_at: Option<SystemTime>,
}

/// The histories of all servers.
#[derive(Debug, Default)]
pub(crate) struct Chronicle(BTreeMap<ServerName, History>);

impl Chronicle {
    /// What is remembered of a server.
    pub(crate) fn of(&self, server: &ServerName) -> Option<&History> {
        self.0.get(server)
    }

    /// Takes note of an event and says it in words; `None` for one that another event says
    /// better.
    pub(crate) fn note(&mut self, event: &Event) -> Option<Text> {
        let Some(server) = &event.server else {
            return Some(of_manager(&event.kind));
        };
        let history = self.0.entry(server.clone()).or_default();
        let words = history.note(server, event.at, &event.kind)?;
        Some(text!("{} {}", server, words))
    }
}

impl AsRef<Self> for Chronicle {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// Words with the time of day at which they hold, in UTC.
pub(crate) fn timed(at: SystemTime, words: &Text) -> Text {
    let time = humantime::format_rfc3339_millis(at).to_string();
    text!("{} {}", time.get(11..19).unwrap_or(&time), words)
}

impl History {
    fn note(&mut self, server: &ServerName, at: SystemTime, kind: &EventKind) -> Option<Text> {
        Some(match kind {
            EventKind::StateChanged { to, .. } => match to {
                StateKind::Disabled => text!("is disabled"),
                StateKind::AuthRequired => {
                    text!("needs a login: `{} login {}`", program(), server)
                }
                StateKind::Dormant => text!("is tried only now and then from here on"),
                _ => return None,
            },
            EventKind::Connected {
                transport, elapsed, ..
            } => {
                self.connected = self.connected.saturating_add(1);
                match self.lost_at.take() {
                    Some(lost) => {
                        let gap = at.duration_since(lost).unwrap_or_default();
                        self.longest_gap = self.longest_gap.max(Some(gap));
                        text!("is back after {}", span(gap))
                    }
                    None => text!(
                        "is connected over {} in {}",
                        transport.as_str(),
                        span(*elapsed)
                    ),
                }
            }
            EventKind::ConnectFailed { attempt, error, .. } => {
                let why = reason(error);
                self.last_error = Some((at, why.clone()));
                text!("could not be connected (attempt {}): {}", *attempt, why)
            }
            EventKind::Disconnected {
                cause,
                uptime,
                error,
            } => {
                let mut words = text!("{}", lost_by(*cause));
                if is_loss(*cause) {
                    self.lost = self.lost.saturating_add(1);
                    self.lost_at = Some(at);
                    let why = error.as_ref().map(reason);
                    self.last_error = Some((at, why.clone().unwrap_or_else(|| words.clone())));
                    if let Some(why) = why {
                        words.push(&text!(" ({})", why));
                    }
                }
                words.push(&text!(", was up {}", span(*uptime)));
                words
            }
            EventKind::RetryScheduled { attempt, delay } => {
                text!("is tried again in {} (attempt {})", span(*delay), *attempt)
            }
            EventKind::HeartbeatOk { latency } => {
                self.answered = self.answered.saturating_add(1);
                self.latencies.push_back(*latency);
                if self.latencies.len() > MAX_LATENCIES {
                    self.latencies.pop_front();
                }
                text!("answers in {}", milliseconds(*latency))
            }
            EventKind::HeartbeatMissed { misses, error } => {
                self.missed = self.missed.saturating_add(1);
                let why = reason(error);
                self.last_error = Some((at, why.clone()));
                text!("missed heartbeat {}: {}", *misses, why)
            }
            EventKind::ToolsChanged {
                added,
                removed,
                changed,
                ..
            } => tools_changed(added, removed, changed),
            EventKind::PromptsChanged => text!("has other prompts"),
            EventKind::ResourcesChanged => text!("has other resources"),
            EventKind::ResourceUpdated { uri } => text!("changed {}", uri),
            EventKind::CatalogStale { error } => {
                text!("did not list what it has: {}", reason(error))
            }
            EventKind::CatalogItemsRejected { items } => {
                let first = items
                    .first()
                    .map(|item| text!(": {}: {}", item.name, item.reason));
                text!(
                    "has {} that cannot be used{}",
                    many(items.len(), "item"),
                    first.unwrap_or_default()
                )
            }
            EventKind::CallsCancelled { count } => text!("took {} with it", many(*count, "call")),
            EventKind::OrphansKilled { count } => {
                text!("left {}, now killed", many(*count, "process"))
            }
            EventKind::Reconfigured => text!("has a new configuration"),
            other => of_manager(other),
        })
    }
}

/// What is of no server, or is not known here yet.
fn of_manager(kind: &EventKind) -> Text {
    match kind {
        EventKind::ConfigRejected { error } => {
            text!("the changed config is not used: {}", error.with_causes())
        }
        EventKind::Resumed { asleep } => text!("this machine slept for {}", span(*asleep)),
        other => {
            let event = serde_json::to_value(other).unwrap_or_default();
            text!("{}", event["event"].as_str().unwrap_or_default())
        }
    }
}

/// Why, on one line: the error, and the line of stderr that says more.
pub(crate) fn reason(error: &Error) -> Text {
    match StderrLine::telling(error.stderr_tail()) {
        Some(line) => text!("{}: {}", error.message(), line),
        None => text!("{}", error.message()),
    }
}

/// Whether nobody wanted the end.
pub(crate) fn is_loss(cause: DisconnectCause) -> bool {
    !matches!(
        cause,
        DisconnectCause::Requested
            | DisconnectCause::Reconfigured
            | DisconnectCause::IdleTimeout
            | DisconnectCause::Shutdown
    )
}

fn lost_by(cause: DisconnectCause) -> &'static str {
    match cause {
        DisconnectCause::ConnectFailed => "could not be connected",
        DisconnectCause::ProcessExited => "died",
        DisconnectCause::RemoteClosed => "closed the connection",
        DisconnectCause::HeartbeatFailed => "stopped answering",
        DisconnectCause::Reported => "was reported as lost",
        DisconnectCause::Requested => "was disconnected",
        DisconnectCause::Reconfigured => "was closed for its new configuration",
        DisconnectCause::IdleTimeout => "was closed, as nobody used it",
        DisconnectCause::AuthRequired => "refused its credentials",
        DisconnectCause::Shutdown => "was shut down",
        _ => "was lost",
    }
}

fn tools_changed(added: &[String], removed: &[String], changed: &[String]) -> Text {
    let parts = [
        ("has", added),
        ("no longer has", removed),
        ("changed", changed),
    ];
    let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
    let parts = parts.map(|(verb, names)| {
        let shown = names.iter().take(MAX_NAMES).map(|name| text!("{}", name));
        let mut text = text!(
            "{} {}: {}",
            verb,
            many(names.len(), "tool"),
            Text::join(shown, ", ")
        );
        if names.len() > MAX_NAMES {
            text.push(&text!(" …"));
        }
        text
    });
    Text::join(parts, "; ")
}

fn many(count: usize, one: &str) -> String {
    match (count, one.ends_with('s')) {
        (1, _) => format!("1 {one}"),
        (_, true) => format!("{count} {one}es"),
        (_, false) => format!("{count} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcpool::{ErrorKind, TransportKind};

    struct Timeline(Chronicle, SystemTime);

    impl Timeline {
        fn new() -> Self {
            Self(Chronicle::default(), SystemTime::UNIX_EPOCH)
        }

        fn after(&mut self, ms: u64, kind: EventKind) -> Option<String> {
            self.1 += Duration::from_millis(ms);
            let mut event = Event::now("memory".parse::<ServerName>().unwrap(), kind);
            event.at = self.1;
            let words = self.0.note(&event)?;
            Some(words.as_str().to_owned())
        }
    }

    fn connected() -> EventKind {
        EventKind::Connected {
            transport: TransportKind::Stdio,
            elapsed: Duration::from_millis(640),
            attempt: 1,
        }
    }

    #[test]
    fn a_death_and_a_return_are_put_in_words_and_remembered() {
        let mut timeline = Timeline::new();
        let say = |text: &str| Some(text.to_owned());
        assert_eq!(
            timeline.after(0, connected()),
            say("memory is connected over stdio in 640 ms")
        );
        let error = Error::new(
            ErrorKind::ProcessExited,
            "the server exited with status 137",
        )
        .with_stderr_tail(vec![StderrLine::now("Error: out of memory")]);
        let died = EventKind::Disconnected {
            cause: DisconnectCause::ProcessExited,
            uptime: Duration::from_secs(200),
            error: Some(error),
        };
        assert_eq!(
            timeline.after(5, died),
            say(
                "memory died (the server exited with status 137: Error: out of memory), was up 3 m 20 s"
            )
        );
        let retry = EventKind::RetryScheduled {
            attempt: 1,
            delay: Duration::from_millis(1_500),
        };
        assert_eq!(
            timeline.after(0, retry),
            say("memory is tried again in 1.5 s (attempt 1)")
        );
        let to_connecting = EventKind::StateChanged {
            from: StateKind::Backoff,
            to: StateKind::Connecting,
        };
        assert_eq!(timeline.after(0, to_connecting), None);
        assert_eq!(
            timeline.after(735, connected()),
            say("memory is back after 735 ms")
        );
        let server = "memory".parse().unwrap();
        let history = timeline.0.of(&server).unwrap();
        assert_eq!(
            (history.lost, history.longest_gap),
            (1, Some(Duration::from_millis(735)))
        );
        // The reason stays after the recovery.
        let (at, why) = history.last_error.as_ref().unwrap();
        assert_eq!(*at, SystemTime::UNIX_EPOCH + Duration::from_millis(5));
        assert!(why.as_str().contains("out of memory"));
    }

    #[test]
    fn an_end_that_was_wanted_is_no_loss() {
        let mut timeline = Timeline::new();
        let closed = EventKind::Disconnected {
            cause: DisconnectCause::Requested,
            uptime: Duration::from_secs(1),
            error: None,
        };
        timeline.after(0, closed);
        let server = "memory".parse().unwrap();
        let history = timeline.0.of(&server).unwrap();
        assert_eq!(history.lost, 0);
        assert!(history.last_error.is_none());
    }

    #[test]
    fn heartbeats_are_counted_and_the_last_are_kept() {
        let mut timeline = Timeline::new();
        for ms in 0..30 {
            let latency = Duration::from_millis(ms);
            timeline.after(0, EventKind::HeartbeatOk { latency });
        }
        let error = Error::new(ErrorKind::Timeout, "no answer");
        timeline.after(0, EventKind::HeartbeatMissed { misses: 1, error });
        let server = "memory".parse().unwrap();
        let history = timeline.0.of(&server).unwrap();
        assert_eq!((history.answered, history.missed), (30, 1));
        assert_eq!(history.latencies.len(), MAX_LATENCIES);
        assert_eq!(history.latencies[0], Duration::from_millis(10));
    }

    #[test]
    fn changed_tools_are_named() {
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let text = tools_changed(&names(&["a", "b"]), &names(&["c"]), &[]);
        assert_eq!(text.as_str(), "has 2 tools: a, b; no longer has 1 tool: c");
        assert_eq!(many(2, "process"), "2 processes");
    }
}
