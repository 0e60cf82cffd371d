//! How the calls of clients go: for each server, how many there were in the last minutes, how many
//! failed, and how long they took. Kept for people who look, so it is small and forgets.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mcpool_core::ServerName;
use serde::Serialize;
use tokio::time::Instant;

use crate::audit::{AuditEntry, AuditOutcome};

/// Spans of time that are kept of a server: 5 minutes.
const MAX_SPANS: usize = 60;

/// How long one of them is.
const SPAN: Duration = Duration::from_secs(5);

/// Servers of which calls are counted. Those that left the pool make way.
const MAX_SERVERS: usize = 4_096;

/// The calls of all servers.
pub(crate) struct Pulse {
    started: Instant,
    servers: Mutex<HashMap<ServerName, Beat>>,
}

/// The calls of one server.
#[derive(Default)]
struct Beat {
    total: u64,
    failed: u64,
    /// By the number of the span modulo their count.
    spans: Vec<Span>,
}

#[derive(Clone, Copy, Default)]
struct Span {
    number: u64,
    calls: u32,
    failed: u32,
    sum_us: u64,
    max_us: u64,
}

/// How the calls of one server go, the oldest span first. The last span is not over yet.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Calls {
    /// Since the gateway began.
    total: u64,
    failed_total: u64,
    span_ms: u64,
    calls: Vec<u32>,
    failed: Vec<u32>,
    /// `None` where there were no calls.
    mean_us: Vec<Option<u64>>,
    max_us: Vec<Option<u64>>,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            servers: Mutex::default(),
        }
    }

    /// Counts a request that has ended. One that its client took back, or that goes on with a
    /// question, is none.
    pub(crate) fn count(&self, entry: &AuditEntry) {
        let failed = match entry.outcome {
            AuditOutcome::Cancelled | AuditOutcome::Asks => return,
            AuditOutcome::Good => false,
            _ => true,
        };
        let now = self.span();
        let mut servers = self.servers();
        if servers.len() >= MAX_SERVERS && !servers.contains_key(&entry.server) {
            return;
        }
        let beat = servers.entry(entry.server.clone()).or_default();
        beat.count(now, entry.elapsed, failed);
    }

    /// How the calls of a server go.
    pub(crate) fn of(&self, server: &ServerName) -> Calls {
        let now = self.span();
        let servers = self.servers();
        match servers.get(server) {
            Some(beat) => beat.calls(now),
            None => Beat::default().calls(now),
        }
    }

    /// Forgets servers that are not among these any more.
    pub(crate) fn keep(&self, names: &[ServerName]) {
        let mut servers = self.servers();
        if servers.len() > names.len() {
            servers.retain(|name, _| names.contains(name));
        }
    }

    fn span(&self) -> u64 {
        self.started.elapsed().as_secs() / SPAN.as_secs()
    }

    fn servers(&self) -> MutexGuard<'_, HashMap<ServerName, Beat>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Beat {
    fn count(&mut self, now: u64, elapsed: Duration, failed: bool) {
        self.total = self.total.saturating_add(1);
        self.failed = self.failed.saturating_add(u64::from(failed));
        self.spans.resize(MAX_SPANS, Span::default());
        let Some(span) = self.spans.get_mut(place(now)) else {
            return;
        };
        if span.number != now {
            *span = Span {
                number: now,
                ..Span::default()
            };
        }
        let us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        span.calls = span.calls.saturating_add(1);
        span.failed = span.failed.saturating_add(u32::from(failed));
        span.sum_us = span.sum_us.saturating_add(us);
        span.max_us = span.max_us.max(us);
    }

    fn calls(&self, now: u64) -> Calls {
        let mut calls = Calls {
            total: self.total,
            failed_total: self.failed,
            span_ms: u64::try_from(SPAN.as_millis()).unwrap_or(u64::MAX),
            ..Calls::default()
        };
        for back in (0..MAX_SPANS as u64).rev() {
            let span = now.checked_sub(back).and_then(|number| {
                let span = self.spans.get(place(number))?;
                (span.number == number).then_some(*span)
            });
            let span = span.unwrap_or_default();
            calls.calls.push(span.calls);
            calls.failed.push(span.failed);
            let mean = span.sum_us.checked_div(u64::from(span.calls));
            calls.mean_us.push(mean);
            calls.max_us.push(mean.map(|_| span.max_us));
        }
        calls
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number % MAX_SPANS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_stand_in_their_span_and_are_forgotten_after_the_last() {
        let mut beat = Beat::default();
        beat.count(0, Duration::from_millis(2), false);
        beat.count(0, Duration::from_millis(4), true);
        beat.count(3, Duration::MAX, false);
        let calls = beat.calls(3);
        assert_eq!((calls.total, calls.failed_total), (3, 1));
        assert_eq!(calls.calls.len(), MAX_SPANS);
        assert_eq!(calls.calls[MAX_SPANS - 4..], [2, 0, 0, 1]);
        assert_eq!(calls.failed[MAX_SPANS - 4..], [1, 0, 0, 0]);
        assert_eq!(
            calls.mean_us[MAX_SPANS - 4..MAX_SPANS - 2],
            [Some(3_000), None]
        );
        assert_eq!(calls.max_us[MAX_SPANS - 4], Some(4_000));
        let later = beat.calls(3 + MAX_SPANS as u64);
        assert!(later.calls.iter().all(|calls| *calls == 0));
        assert_eq!(later.total, 3);
        // The place of a forgotten span is used again.
        beat.count(MAX_SPANS as u64, Duration::ZERO, false);
        assert_eq!(beat.calls(MAX_SPANS as u64).calls.last(), Some(&1));
    }

    #[test]
    fn servers_that_left_make_way() {
        let pulse = Pulse::new();
        let names: Vec<ServerName> = ["a", "b"].map(|name| name.parse().unwrap()).into();
        for server in &names {
            pulse
                .servers()
                .entry(server.clone())
                .or_default()
                .count(0, SPAN, false);
        }
        pulse.keep(&names[..1]);
        assert_eq!(
            (pulse.of(&names[0]).total, pulse.of(&names[1]).total),
            (1, 0)
        );
    }
}
