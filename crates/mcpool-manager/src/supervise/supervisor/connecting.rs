//! Connecting: from the moment a connect is due to what came of it, and the wait for a login where
//! one is needed.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::FutureExt;
use mcpool_core::{
    ConnectOptions, DisconnectCause, Error, ErrorKind, EventKind, ProtocolVersion, TransportKind,
};
use tracing::Instrument;

use crate::{
    catalog::fetch,
    observe::metrics,
    server::lock,
    supervise::connection::{self, ConnectFailure, Connected, Connection},
    supervise::open::Open,
    supervise::slot::Live,
    supervise::supervisor::Supervisor,
    supervise::{
        foreign::{asked, guarded},
        machine::{Failure, Phase, What},
    },
};

/// The pause before the second connect in a row that new credentials lead to.
const LOGIN_PAUSE: Duration = Duration::from_secs(1);
const LOGIN_PAUSE_MAX: Duration = Duration::from_secs(300);

/// The pause after this one.
pub(super) fn longer(pause: Duration) -> Duration {
    pause.saturating_mul(2).clamp(LOGIN_PAUSE, LOGIN_PAUSE_MAX)
}

impl Supervisor {
    /// Starts the connect that is due, once what was there before is gone.
    pub(super) fn start_connect_if_due(&mut self) {
        let spec = self.server.spec_to_connect();
        // Two processes of one stdio server must not fight over its files, unless the policy knows
        // better; a session of an HTTP server that is being closed disturbs nobody.
        let beside = usize::from(spec.policy.shutdown.overlap);
        if !self.connect_due || (spec.transport.is_stdio() && self.closings.len() > beside) {
            return;
        }
        self.connect_due = false;
        metrics::connect_started(&self.server.name);
        let (server, transport) = (&self.server.name, spec.transport.as_str());
        let (instance, attempt) = (self.index, self.state.attempts);
        let span = if self.epoch == 0 {
            tracing::info_span!("connect", %server, instance, transport, attempt)
        } else {
            let cause = self.last_cause.as_str();
            metrics::reconnect_started(server, self.last_cause);
            tracing::info_span!("reconnect", %server, instance, transport, attempt, cause)
        };
        // After a loss or a failure an idle socket may be as dead as the last one was.
        let fresh = self.epoch > 0 || self.state.attempts > 1;
        let connect = connection::connect(
            Arc::clone(&self.shared),
            Arc::clone(&self.server),
            spec,
            ConnectOptions::new().with_fresh(fresh),
            Arc::clone(&self.made),
        );
        self.connect = Some(connect.instrument(span).boxed());
    }

    pub(super) fn connect_ended(&mut self, outcome: Result<Connected, ConnectFailure>) {
        match outcome {
            Ok(connected) => {
                let open = lock(&self.made).take();
                // It was put there when the client was made.
                let Some(open) = open else { return };
                self.connected(connected, open);
            }
            Err(ConnectFailure { error, elapsed }) => {
                if let Some(open) = lock(&self.made).take() {
                    self.close(open);
                }
                self.connect_failed(error, elapsed);
            }
        }
    }

    fn connected(&mut self, connected: Connected, open: Open) {
        let Connected {
            client,
            notices,
            tools,
            elapsed,
        } = connected;
        self.epoch += 1;
        self.last_error = None;
        self.login_pause = Duration::ZERO;
        let live = Live::new(self.server.name.clone(), Arc::clone(&client), self.epoch);
        let info = asked("`info` of the client", || client.info()).unwrap_or_default();
        let transport = info.as_ref().map(|info| info.transport);
        let protocol = info.as_ref().map(|info| info.protocol.clone());
        let connected_at = connection::snapshot(&*client)
            .map_or_else(SystemTime::now, |snapshot| snapshot.connected_at);
        tracing::info!(
            server = %self.server.name,
            transport = transport.map(TransportKind::as_str),
            protocol = protocol.as_ref().map(ProtocolVersion::as_str),
            attempt = self.state.attempts,
            ?elapsed,
            "connected"
        );
        metrics::connected(&self.server.name, elapsed);
        self.live = Some(Connection::new(Arc::clone(&live), open, notices));
        let attempt = self.state.attempts;
        self.server.catalog.reconnected();
        let before = self.server.catalog.tools.cached();
        let tools = self.server.catalog.tools.store(tools);
        // A caller that waits for the connection finds its tools in the view.
        let change = self.shared.view.update(&self.server);
        fetch::told_rejected(&self.shared, &self.server, before.as_deref(), &tools);
        self.server
            .observe(self.index, &self.shared.events, |observed| {
                observed.was_connected = true;
                observed.connected_at = Some(connected_at);
                observed.connect_time = Some(elapsed);
                observed.transport = transport;
                observed.protocol = protocol;
            });
        // Calls see the connection before anybody learns that the server is ready.
        self.instance().slot.fill(live);
        // Those who wait for room among the other instances have some now.
        self.server.queue.look_again();
        self.emit(EventKind::Connected {
            transport: transport.unwrap_or(TransportKind::Custom),
            elapsed,
            attempt,
        });
        self.feed(What::Connected);
        if let Some(change) = change {
            change.announce(&self.server.name, &self.shared.events);
        }
        fetch::refresh_known(&self.shared, &self.server);
    }

    fn connect_failed(&mut self, error: Error, elapsed: Duration) {
        let error = error
            .with_server(&self.server.name)
            .with_operation("connect");
        tracing::warn!(
            server = %self.server.name,
            attempt = self.state.attempts,
            kind = error.kind().as_str(),
            %error,
            "the connect failed"
        );
        metrics::connect_failed(&self.server.name, error.kind());
        let failure = match error.kind() {
            ErrorKind::AuthRequired | ErrorKind::Forbidden => Failure::Auth,
            // What has worked before is worth another try: behind a proxy, or in the middle of
            // an upgrade, a server that restarts is "not found" for a while.
            ErrorKind::HttpStatus | ErrorKind::CommandNotFound if self.epoch > 0 => {
                Failure::Transient { retry_after: None }
            }
            _ if error.is_permanent() => Failure::Permanent,
            _ => Failure::Transient {
                retry_after: error.retry_after(),
            },
        };
        if !error.stderr_tail().is_empty() {
            let tail = error.stderr_tail().to_vec();
            self.note(|observed| observed.stderr_tail = tail);
        }
        self.emit(EventKind::ConnectFailed {
            attempt: self.state.attempts,
            elapsed,
            error: error.clone(),
        });
        self.last_cause = DisconnectCause::ConnectFailed;
        self.last_error = Some(error.clone());
        self.connecting = std::mem::take(&mut self.connecting)
            .into_iter()
            .filter_map(|mut waiter| match waiter.failures_left.checked_sub(1) {
                Some(left) => {
                    waiter.failures_left = left;
                    Some(waiter)
                }
                None => {
                    // Nobody waits any more: no harm done.
                    let _ = waiter.reply.send(Err(error.clone()));
                    None
                }
            })
            .collect();
        self.feed(What::ConnectFailed(failure));
    }

    /// While somebody has to log in, waits for it; the connect that follows finds the credentials.
    pub(super) fn await_login_if_needed(&mut self) {
        if self.state.phase != Phase::AuthRequired {
            self.login = None;
        } else if self.login.is_none() {
            let factory = Arc::clone(&self.shared.factory);
            let spec = self.server.spec();
            let pause = self.login_pause;
            let changed = async move {
                let changed = guarded(
                    "`credentials_changed` of the client factory",
                    factory.credentials_changed(&spec),
                );
                if let Err(error) = changed.await {
                    tracing::warn!(server = %spec.name, %error, "logins are not noticed");
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(pause).await;
            };
            self.login = Some(changed.boxed());
        }
    }
}
