//! The task behind one connection. It alone connects, probes, reconnects and closes: it feeds
//! the state machine with what happens and carries out what the machine says.

mod connecting;
mod publication;

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{
    FutureExt, StreamExt,
    future::{self, BoxFuture},
    stream::FuturesUnordered,
};
use mcpool_core::{
    CloseReason, Diagnostics, DisconnectCause, Error, ErrorKind, EventKind, ProbeReport,
    ServerNotice, ServerState,
    model::{Prompt, Resource, ResourceTemplate, Tool},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tracing::Instrument;

use crate::{
    catalog::fetch,
    observe::metrics,
    server::{Command, Instance, Server, lock},
    shared::Shared,
    supervise::connection::{self, ConnectFailure, Connected, Connection, Heard, Made},
    supervise::machine::{self, Effect, Input, Phase, State, Traffic, What},
    supervise::open::Open,
};

pub(crate) use publication::wall_clock;

/// The supervisor of one instance.
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    server: Arc<Server>,
    index: usize,
    commands: mpsc::UnboundedReceiver<Command>,
    state: State,
    live: Option<Connection>,
    epoch: u64,
    /// Set when a connect is due but an old process has to go first.
    connect_due: bool,
    connect: Option<BoxFuture<'static, Result<Connected, ConnectFailure>>>,
    /// The client of the connect that is under way, once there is one.
    made: Made,
    probe: Option<BoxFuture<'static, Result<ProbeReport, Error>>>,
    /// Waits for a login while one is needed.
    login: Option<BoxFuture<'static, ()>>,
    /// How long the next login has to wait: logins that did not help must not make a loop.
    login_pause: Duration,
    closings: FuturesUnordered<BoxFuture<'static, Diagnostics>>,
    /// Who waits for a connection.
    connecting: Vec<Waiter>,
    /// Who waits for the result of the probe.
    checking: Vec<oneshot::Sender<Result<ProbeReport, Error>>>,
    /// Who waits until a suspicion was looked into.
    suspecting: Vec<oneshot::Sender<()>>,
    /// Who waits until everything old is closed.
    closing: Vec<oneshot::Sender<()>>,
    last_error: Option<Error>,
    last_cause: DisconnectCause,
}

/// Somebody who waits for a connection and puts up with so many failures.
struct Waiter {
    failures_left: u32,
    reply: oneshot::Sender<Result<(), Error>>,
}

impl Supervisor {
    /// Runs until the server's stop token is cancelled and everything is closed.
    pub(crate) async fn run(
        shared: Arc<Shared>,
        server: Arc<Server>,
        index: usize,
        commands: mpsc::UnboundedReceiver<Command>,
    ) {
        let enabled = server.spec().enabled;
        let mut supervisor = Self {
            shared,
            server,
            index,
            commands,
            state: State::new(enabled),
            live: None,
            epoch: 0,
            connect_due: false,
            connect: None,
            made: Made::default(),
            probe: None,
            login: None,
            login_pause: Duration::ZERO,
            closings: FuturesUnordered::new(),
            connecting: Vec::new(),
            checking: Vec::new(),
            suspecting: Vec::new(),
            closing: Vec::new(),
            last_error: None,
            last_cause: DisconnectCause::ConnectFailed,
        };
        supervisor.watch().await;
    }

    fn instance(&self) -> &Instance {
        // The index comes from the loop over these very instances.
        &self.server.instances[self.index]
    }

    async fn watch(&mut self) {
        let server = Arc::clone(&self.server);
        let stop = server.stop.clone();
        loop {
            self.start_connect_if_due();
            self.await_login_if_needed();
            let deadline = machine::deadline(&self.state);
            tokio::select! {
                // Callers first, so that they join what is under way; what a server says last, so
                // that one that talks without end holds up nothing.
                biased;
                () = stop.cancelled() => break,
                Some(command) = self.commands.recv() => self.command(command),
                () = server.instances[self.index].wanted_signal.notified() => {
                    if self.instance().take_wanted() {
                        self.feed(What::Wanted);
                    }
                }
                outcome = or_never(&mut self.connect) => {
                    self.connect = None;
                    self.connect_ended(outcome);
                }
                result = or_never(&mut self.probe) => {
                    self.probe = None;
                    self.probe_ended(result);
                }
                Some(diagnostics) = self.closings.next(), if !self.closings.is_empty() => {
                    self.closed(&diagnostics);
                }
                () = or_never(&mut self.login) => {
                    self.login = None;
                    self.login_pause = connecting::longer(self.login_pause);
                    tracing::info!(server = %self.server.name, "there are new credentials");
                    self.feed(What::Connect { retries: None });
                }
                () = sleep_until(deadline) => {
                    let traffic = self.traffic();
                    self.feed(What::Tick(traffic));
                }
                heard = hear(&mut self.live) => match heard {
                    Heard::Closed(reason) => self.lost(reason),
                    Heard::Notice(notice) => self.notice(notice),
                },
            }
        }
        self.feed(What::Shutdown);
        while let Some(diagnostics) = self.closings.next().await {
            self.closed(&diagnostics);
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Connect { retries, reply } => {
                if let Some(reply) = reply {
                    self.connecting.push(Waiter {
                        failures_left: retries.unwrap_or(0),
                        reply,
                    });
                }
                self.feed(What::Connect { retries });
            }
            Command::Disconnect { reply } => {
                self.last_error = None;
                self.feed(What::Disconnect);
                self.when_closed(reply);
            }
            Command::Enable { reply } => {
                self.feed(What::Enable);
                // Nobody waits any more: no harm done.
                let _ = reply.send(());
            }
            Command::Disable { reply } => {
                self.last_error = None;
                self.feed(What::Disable);
                self.when_closed(reply);
            }
            Command::Suspect { epoch, reply } => {
                let about_this = self
                    .live
                    .as_ref()
                    .is_some_and(|c| epoch.is_none_or(|epoch| c.live.epoch == epoch));
                if about_this {
                    self.suspecting.extend(reply);
                    self.feed(What::Reported);
                }
                // Otherwise the reply is dropped: that connection is history.
            }
            Command::AuthRefused { epoch, error } => {
                if self.live.as_ref().is_some_and(|c| c.live.epoch == epoch) {
                    self.last_error = Some(error);
                    self.feed(What::AuthRefused);
                }
            }
            Command::Check { reply } => {
                if self.live.is_some() {
                    self.checking.push(reply);
                    self.feed(What::Check);
                } else {
                    let error = self
                        .server
                        .hopeless()
                        .unwrap_or_else(|| self.server.not_ready(None));
                    // Nobody waits any more: no harm done.
                    let _ = reply.send(Err(error));
                }
            }
            Command::Resumed => self.feed(What::Resumed),
        }
    }

    /// One step of the machine, its effects, and the publication of what changed.
    fn feed(&mut self, what: What) {
        let rules = self.server.rules();
        let now = Instant::now();
        let input = Input {
            now,
            random: fastrand::f64(),
            what,
        };
        let before = self.state.phase.clone();
        let (state, effects) = machine::step(&rules, self.state.clone(), input);
        self.state = state;
        for effect in effects {
            match effect {
                Effect::Connect => self.connect_due = true,
                Effect::AbortConnect => {
                    self.connect_due = false;
                    self.connect = None;
                    // A server that was connected and still lists its tools gets its close.
                    if let Some(open) = lock(&self.made).take() {
                        self.close(open);
                    }
                }
                Effect::Close(cause) => self.retire(cause),
                Effect::Probe { budgeted } => self.start_probe(budgeted),
            }
        }
        if before != self.state.phase {
            self.publish(now);
        }
        self.settle();
    }

    fn lost(&mut self, reason: CloseReason) {
        let error = match reason {
            CloseReason::Lost(error) => error,
            _ => Error::new(
                ErrorKind::ConnectionLost,
                "the client was closed by somebody else",
            ),
        }
        .with_server(&self.server.name);
        let cause = DisconnectCause::from_error(&error);
        tracing::warn!(server = %self.server.name, cause = cause.as_str(), %error, "the connection was lost");
        let auth = matches!(error.kind(), ErrorKind::AuthRequired | ErrorKind::Forbidden);
        self.last_error = Some(error);
        self.last_cause = cause;
        self.feed(if auth {
            What::AuthRefused
        } else {
            What::Lost(cause)
        });
    }

    fn start_probe(&mut self, budgeted: bool) {
        let Some(connection) = &self.live else { return };
        let client = Arc::clone(&connection.live.client);
        let spec = self.server.spec();
        let shared = Arc::clone(&self.shared);
        let span = tracing::debug_span!("probe", server = %self.server.name, instance = self.index);
        let probe = connection::probe(shared, spec, client, budgeted);
        self.probe = Some(probe.instrument(span).boxed());
    }

    fn probe_ended(&mut self, result: Result<ProbeReport, Error>) {
        let Some(connection) = &mut self.live else {
            return;
        };
        let result = result.map_err(|e| e.with_server(&self.server.name).with_operation("probe"));
        metrics::probed(&self.server.name, &result);
        let ended = match &result {
            Err(_) => connection.ended(),
            Ok(_) => None,
        };
        for reply in self.checking.drain(..) {
            // Nobody waits any more: no harm done.
            let _ = reply.send(result.clone());
        }
        match result {
            Ok(report) => {
                self.note(|observed| {
                    observed.last_heartbeat = Some(SystemTime::now());
                    observed.heartbeat_latency = Some(report.latency);
                    observed.misses = 0;
                });
                self.emit(EventKind::HeartbeatOk {
                    latency: report.latency,
                });
                self.feed(What::ProbeOk);
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::AuthRequired | ErrorKind::Forbidden) =>
            {
                self.last_error = Some(error);
                self.feed(What::AuthRefused);
            }
            // This program could not ask: no word of the server's.
            Err(error) if error.kind() == ErrorKind::Exhausted => {
                tracing::warn!(server = %self.server.name, %error, "a heartbeat could not be sent");
                self.feed(What::ProbeImpossible);
            }
            Err(error) => {
                let misses = match &self.state.phase {
                    Phase::Ready(ready) => ready.misses.saturating_add(1),
                    _ => 1,
                };
                tracing::warn!(server = %self.server.name, misses, %error, "a heartbeat was missed");
                self.note(|observed| observed.misses = misses);
                self.emit(EventKind::HeartbeatMissed {
                    misses,
                    error: error.clone(),
                });
                match ended {
                    // The connection's own reason says more.
                    Some(reason) => self.lost(reason),
                    None => {
                        self.last_cause = DisconnectCause::HeartbeatFailed;
                        self.last_error = Some(error);
                        self.feed(What::ProbeMissed);
                    }
                }
            }
        }
        // Those who suspected may look again.
        self.suspecting.clear();
    }

    /// Takes the live connection out of use and closes it.
    fn retire(&mut self, cause: DisconnectCause) {
        self.probe = None;
        self.suspecting.clear();
        let Some(Connection {
            live, since, open, ..
        }) = self.live.take()
        else {
            return;
        };
        self.instance().slot.empty();
        live.shut();
        let uptime = since.elapsed();
        self.last_cause = cause;
        let last = connection::snapshot(&*live.client);
        let activity = last.as_ref().map(|last| wall_clock(last.last_activity));
        let tail = last
            .map(|last| last.diagnostics.stderr_tail)
            .unwrap_or_default();
        self.note(|observed| {
            observed.last_disconnect = Some((cause, SystemTime::now()));
            observed.last_activity = activity.or(observed.last_activity);
            observed.connected_at = None;
            if !tail.is_empty() {
                observed.stderr_tail = tail;
            }
        });
        let error = self.last_error.clone().unwrap_or_else(|| {
            Error::new(ErrorKind::Cancelled, "the connection was closed")
                .with_server(&self.server.name)
        });
        for reply in self.checking.drain(..) {
            // Nobody waits any more: no harm done.
            let _ = reply.send(Err(error.clone()));
        }
        let cut = live.in_flight();
        // A caller that slipped in before an idle connection's gate was shut may finish, and so may
        // those whose credentials were still good.
        let patient = matches!(
            cause,
            DisconnectCause::IdleTimeout | DisconnectCause::AuthRequired
        );
        if !patient {
            live.kill(cause);
            if cut > 0 {
                self.emit(EventKind::CallsCancelled { count: cut });
            }
        }
        tracing::info!(server = %self.server.name, cause = cause.as_str(), ?uptime, "disconnected");
        metrics::disconnected(&self.server.name, cause);
        self.emit(EventKind::Disconnected {
            cause,
            uptime,
            error: self.last_error.clone(),
        });
        let bound = self.close_bound();
        let drain = self.shared.drain;
        let name = self.server.name.clone();
        self.closings.push(
            async move {
                if patient {
                    // Past the drain time the close ends what is left.
                    let _ = tokio::time::timeout(drain, live.drained()).await;
                    live.kill(cause);
                }
                let left = connection::close(name, Arc::clone(&live.client), bound).await;
                drop(open);
                left
            }
            .boxed(),
        );
        // Those who wait for room must look for another connection.
        self.server.queue.look_again();
    }

    /// Closes a client that never went into use.
    fn close(&self, open: Open) {
        let (name, bound) = (self.server.name.clone(), self.close_bound());
        self.closings.push(
            async move {
                let left = connection::close(name, Arc::clone(open.client()), bound).await;
                drop(open);
                left
            }
            .boxed(),
        );
    }

    fn close_bound(&self) -> Duration {
        let total = self.server.spec().policy.shutdown.total;
        total.saturating_add(connection::GRACE)
    }

    fn notice(&self, notice: ServerNotice) {
        self.server.notices.send(notice.clone());
        match notice {
            ServerNotice::ToolsChanged => {
                fetch::changed::<Tool>(&self.shared, &self.server);
            }
            ServerNotice::PromptsChanged => {
                fetch::changed::<Prompt>(&self.shared, &self.server);
            }
            ServerNotice::ResourcesChanged => {
                fetch::changed::<Resource>(&self.shared, &self.server);
                fetch::changed::<ResourceTemplate>(&self.shared, &self.server);
            }
            ServerNotice::ResourceUpdated { uri } => {
                self.emit(EventKind::ResourceUpdated { uri });
            }
            // What it logs may hold secrets: that stays with those who ask for its notices.
            ServerNotice::Log { level, logger, .. } => {
                tracing::debug!(server = %self.server.name, level, logger, "the server logs");
            }
            // What the transport saw set up on the old session it has set up again; a change may
            // be among what was missed.
            ServerNotice::SessionRenewed => fetch::changed_all(&self.shared, &self.server),
            ServerNotice::Missed { count } => {
                tracing::debug!(server = %self.server.name, count, "notices were missed");
                fetch::changed_all(&self.shared, &self.server);
            }
            _ => {}
        }
    }

    fn traffic(&self) -> Traffic {
        match &self.live {
            Some(Connection { live, since, .. }) => Traffic {
                heard: connection::snapshot(&*live.client)
                    .map_or(*since, |snapshot| snapshot.last_activity),
                used: live.last_used().max(*since),
                // A server that is listened to is used.
                busy: live.in_flight() > 0 || self.server.continuity.has_subscriptions(),
            },
            None => {
                let now = Instant::now();
                Traffic {
                    heard: now,
                    used: now,
                    busy: false,
                }
            }
        }
    }
}

impl Drop for Supervisor {
    /// Reached by the orderly way with nothing left to do, and by an abort with a connection
    /// that is then closed by dropping it.
    fn drop(&mut self) {
        if let Some(connection) = self.live.take() {
            connection.live.kill(DisconnectCause::Shutdown);
        }
        self.instance().slot.empty();
        self.note(|observed| observed.state = ServerState::Closed);
    }
}

async fn or_never<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => future::pending().await,
    }
}

async fn hear(connection: &mut Option<Connection>) -> Heard {
    match connection {
        Some(connection) => connection.hear().await,
        None => future::pending().await,
    }
}

fn sleep_until(deadline: Option<Instant>) -> impl Future<Output = ()> {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).left_future(),
        None => future::pending().right_future(),
    }
}

/// Starts the supervisors of a server.
pub(crate) fn start(
    shared: &Arc<Shared>,
    server: &Arc<Server>,
    receivers: Vec<mpsc::UnboundedReceiver<Command>>,
) {
    for (index, commands) in receivers.into_iter().enumerate() {
        let task = Supervisor::run(Arc::clone(shared), Arc::clone(server), index, commands);
        shared.supervise(&server.name, task);
    }
}
