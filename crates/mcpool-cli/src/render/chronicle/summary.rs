//! What is said when a watch ends.

use std::time::Duration;

use mcpool::{Error, ErrorKind, ServerStatus, StateKind};

use super::{Chronicle, History};
use crate::{
    render::{
        table::{milliseconds, span},
        text::Text,
    },
    text,
};

/// The state in a word for people.
pub(crate) fn state_word(server: &ServerStatus) -> &'static str {
    let is_forbidden = |error: &Error| error.kind() == ErrorKind::Forbidden;
    match server.state {
        StateKind::Backoff => "retrying",
        StateKind::AuthRequired if server.last_error.as_ref().is_some_and(is_forbidden) => {
            "forbidden"
        }
        StateKind::AuthRequired => "login needed",
        state => state.as_str(),
    }
}

/// What is said when the watch ends.
pub(crate) fn summary(
    chronicle: &Chronicle,
    servers: &[ServerStatus],
    watched: Duration,
    columns: usize,
) -> Text {
    let mut text = text!("watched for {}\n", span(watched));
    for server in servers {
        let line = of_server(server, chronicle.of(&server.name));
        text.push(&line.wrapped("  ", "      ", columns));
    }
    text
}

fn of_server(server: &ServerStatus, history: Option<&History>) -> Text {
    let mut text = text!("{}: {}", server.name, state_word(server));
    let Some(history) = history else {
        return text;
    };
    text.push(&match (history.connected, history.lost) {
        (0, _) => text!(", never connected"),
        (_, 0) => text!(", never lost"),
        (_, 1) => text!(", lost once"),
        (_, lost) => text!(", lost {} times", lost),
    });
    if let Some(gap) = history.longest_gap {
        text.push(&text!(", back after {} at most", span(gap)));
    }
    if history.answered > 0 {
        let mut latencies: Vec<Duration> = history.latencies.iter().copied().collect();
        latencies.sort();
        let median = latencies
            .get(latencies.len() / 2)
            .copied()
            .unwrap_or_default();
        let heartbeats = match history.answered {
            1 => text!("1 heartbeat"),
            answered => text!("{} heartbeats", answered),
        };
        let median = text!("{}", milliseconds(median)).unbroken();
        text.push(&text!(", {}, median {}", heartbeats, median));
    }
    if history.missed > 0 {
        text.push(&text!(", {} missed", history.missed));
    }
    text
}
