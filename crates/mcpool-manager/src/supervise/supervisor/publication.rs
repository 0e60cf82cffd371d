//! What a supervisor publishes: the state, events, and the answers to those who wait.

use std::time::SystemTime;

use mcpool_core::{Diagnostics, Error, ErrorKind, EventKind, ServerState};
use tokio::{sync::oneshot, time::Instant};

use super::Supervisor;
use crate::{
    server::{Observed, gone},
    supervise::machine::Phase,
};

impl Supervisor {
    /// Publishes the state.
    pub(super) fn publish(&mut self, now: Instant) {
        let state = self.server_state();
        if let Phase::Backoff { until } = self.state.phase
            && !matches!(
                self.instance().observed().state,
                ServerState::Backoff { .. }
            )
        {
            let delay = until.saturating_duration_since(now);
            tracing::info!(
                server = %self.server.name,
                attempt = self.state.attempts.saturating_add(1),
                ?delay,
                cause = self.last_cause.as_str(),
                "the next connect is planned"
            );
            self.emit(EventKind::RetryScheduled {
                attempt: self.state.attempts.saturating_add(1),
                delay,
            });
        }
        let attempts = self.state.attempts;
        let held = matches!(self.state.phase, Phase::Idle { held: true });
        let misses = match &self.state.phase {
            Phase::Ready(ready) => ready.misses,
            _ => 0,
        };
        let error = self.last_error.clone();
        self.server
            .observe(self.index, &self.shared.events, |observed| {
                observed.state = state;
                observed.attempts = attempts;
                observed.held = held;
                observed.misses = misses;
                observed.last_error = error;
            });
        self.shared.view.announce(&self.server, &self.shared.events);
    }

    fn server_state(&self) -> ServerState {
        let attempts = self.state.attempts;
        let error = self.last_error.clone();
        match &self.state.phase {
            Phase::Disabled => ServerState::Disabled,
            Phase::Idle { .. } => ServerState::Idle,
            Phase::Connecting => ServerState::Connecting { attempt: attempts },
            Phase::Ready(_) => ServerState::Ready,
            Phase::Backoff { until } => ServerState::Backoff {
                attempt: attempts,
                until: wall_clock(*until),
                cause: self.last_cause,
                error,
            },
            Phase::AuthRequired => ServerState::AuthRequired {
                error: error.unwrap_or_else(|| {
                    Error::new(ErrorKind::AuthRequired, "somebody has to log in")
                        .with_server(&self.server.name)
                }),
            },
            Phase::Dormant { until } => ServerState::Dormant {
                next_probe: until.map(wall_clock),
                error,
            },
            Phase::Closed => ServerState::Closed,
        }
    }

    /// Answers those who wait for a connection, as far as their answer is known.
    pub(super) fn settle(&mut self) {
        let answer = match &self.state.phase {
            Phase::Connecting | Phase::Backoff { .. } => return,
            Phase::Ready(_) => Ok(()),
            Phase::Idle { .. } => Err(Error::new(
                ErrorKind::Cancelled,
                "the server was disconnected while it was being connected",
            )),
            Phase::AuthRequired | Phase::Dormant { .. } => {
                Err(self.last_error.clone().unwrap_or_else(|| {
                    Error::new(ErrorKind::GivenUp, "the server could not be connected")
                }))
            }
            Phase::Disabled => Err(Error::new(
                ErrorKind::Disabled,
                "the server is disabled; enable it first",
            )),
            Phase::Closed => Err(gone()),
        };
        for waiter in self.connecting.drain(..) {
            let answer = answer.clone();
            // Nobody waits any more: no harm done.
            let _ = waiter
                .reply
                .send(answer.map_err(|e: Error| e.with_server(&self.server.name)));
        }
    }

    pub(super) fn closed(&mut self, diagnostics: &Diagnostics) {
        if !diagnostics.stderr_tail.is_empty() && self.live.is_none() {
            let tail = diagnostics.stderr_tail.clone();
            self.note(|observed| observed.stderr_tail = tail);
        }
        if diagnostics.killed_processes > 0 {
            self.emit(EventKind::OrphansKilled {
                count: usize::try_from(diagnostics.killed_processes).unwrap_or(usize::MAX),
            });
        }
        if self.closings.is_empty() {
            // Dropping the senders answers as well; a reply says it was done.
            for reply in self.closing.drain(..) {
                let _ = reply.send(());
            }
        }
    }

    pub(super) fn when_closed(&mut self, reply: oneshot::Sender<()>) {
        if self.closings.is_empty() {
            // Nobody waits any more: no harm done.
            let _ = reply.send(());
        } else {
            self.closing.push(reply);
        }
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut Observed)) {
        self.server.observe(self.index, &self.shared.events, change);
    }

    pub(super) fn emit(&self, kind: EventKind) {
        self.shared.events.emit(&self.server.name, kind);
    }
}

/// The same moment by the wall clock.
pub(crate) fn wall_clock(moment: Instant) -> SystemTime {
    let (now, wall) = (Instant::now(), SystemTime::now());
    if moment >= now {
        wall.checked_add(moment - now).unwrap_or(wall)
    } else {
        wall.checked_sub(now - moment).unwrap_or(wall)
    }
}
