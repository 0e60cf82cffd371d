//! One server as the manager knows it: its spec, its instances, its catalog, and what was
//! observed of it. The supervisors write here, everybody else reads.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use mcpool_core::{
    DisconnectCause, Error, ErrorKind, EventKind, NoticeSender, ProbeReport, ProtocolVersion,
    ServerName, ServerPolicy, ServerSpec, ServerState, StartMode, StderrLine, TransportKind,
};
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::cache::Catalog, observe::events::EventBus, observe::metrics, request::queue::Queue,
    supervise::continuity::Continuity, supervise::machine::Rules, supervise::slot::Slot,
};

/// How many notices a slow reader may be behind before it misses some.
const NOTICES: usize = 64;

/// One server.
pub(crate) struct Server {
    pub(crate) name: ServerName,
    spec: ArcSwap<ServerSpec>,
    pub(crate) instances: Box<[Instance]>,
    /// The state of the whole server: the best of its instances.
    state: watch::Sender<ServerState>,
    /// Where calls wait while every instance is full.
    pub(crate) queue: Queue,
    pub(crate) catalog: Catalog,
    pub(crate) continuity: Continuity,
    /// What its connections say by themselves.
    pub(crate) notices: NoticeSender,
    /// Ends the supervisors.
    pub(crate) stop: CancellationToken,
    /// Set when it was removed or replaced: it speaks for its name no more.
    retired: AtomicBool,
    /// The runtime that its supervisors run on.
    pub(crate) runtime: Handle,
}

/// One supervised connection of a server.
pub(crate) struct Instance {
    pub(crate) slot: Slot,
    commands: mpsc::UnboundedSender<Command>,
    /// Whether a call has asked for the server and was not heard yet.
    wanted: AtomicBool,
    pub(crate) wanted_signal: Notify,
    observed: Mutex<Observed>,
}

/// A command to a supervisor.
pub(crate) enum Command {
    /// Connect, with so many retries at least; answered with the outcome.
    Connect {
        retries: Option<u32>,
        reply: Option<oneshot::Sender<Result<(), Error>>>,
    },
    /// Close, and stay so; answered when the old connection is closed.
    Disconnect { reply: oneshot::Sender<()> },
    /// Switch on; answered when that is done.
    Enable { reply: oneshot::Sender<()> },
    /// Switch off; answered when the old connection is closed.
    Disable { reply: oneshot::Sender<()> },
    /// Trouble was met on a connection; answered when it was looked into.
    Suspect {
        epoch: Option<u64>,
        reply: Option<oneshot::Sender<()>>,
    },
    /// Credentials were refused on a connection.
    AuthRefused { epoch: u64, error: Error },
    /// Probe now; answered with the result.
    Check {
        reply: oneshot::Sender<Result<ProbeReport, Error>>,
    },
    /// The machine slept.
    Resumed,
}

/// What was seen of one instance.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub(crate) state: ServerState,
    pub(crate) state_since: Instant,
    /// How many connects were started since the last stable connection.
    pub(crate) attempts: u32,
    /// Whether the instance has ever been connected.
    pub(crate) was_connected: bool,
    /// Whether a caller disconnected it.
    pub(crate) held: bool,
    pub(crate) connected_at: Option<SystemTime>,
    pub(crate) last_activity: Option<SystemTime>,
    pub(crate) last_heartbeat: Option<SystemTime>,
    pub(crate) heartbeat_latency: Option<Duration>,
    pub(crate) misses: u32,
    pub(crate) connect_time: Option<Duration>,
    pub(crate) transport: Option<TransportKind>,
    pub(crate) protocol: Option<ProtocolVersion>,
    /// The last error; forgotten when a connection is made.
    pub(crate) last_error: Option<Error>,
    /// Why and when the last connection ended.
    pub(crate) last_disconnect: Option<(DisconnectCause, SystemTime)>,
    pub(crate) stderr_tail: Vec<StderrLine>,
}

impl Observed {
    fn new(state: ServerState) -> Self {
        Self {
            state,
            state_since: Instant::now(),
            attempts: 0,
            was_connected: false,
            held: false,
            connected_at: None,
            last_activity: None,
            last_heartbeat: None,
            heartbeat_latency: None,
            misses: 0,
            connect_time: None,
            transport: None,
            protocol: None,
            last_error: None,
            last_disconnect: None,
            stderr_tail: Vec::new(),
        }
    }
}

/// Takes a lock. A panic inside one of the short critical sections leaves nothing half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    /// The server, and the ends of the command channels for its supervisors.
    pub(crate) fn new(
        spec: ServerSpec,
        stop: CancellationToken,
        runtime: Handle,
    ) -> (Arc<Self>, Vec<mpsc::UnboundedReceiver<Command>>) {
        let count = usize::try_from(spec.instances.max(1)).unwrap_or(usize::MAX);
        let initial = if spec.enabled {
            ServerState::Idle
        } else {
            ServerState::Disabled
        };
        let (instances, receivers): (Vec<_>, Vec<_>) = (0..count)
            .map(|_| {
                let (commands, receiver) = mpsc::unbounded_channel();
                let instance = Instance {
                    slot: Slot::default(),
                    commands,
                    wanted: AtomicBool::new(false),
                    wanted_signal: Notify::new(),
                    observed: Mutex::new(Observed::new(initial.clone())),
                };
                (instance, receiver)
            })
            .unzip();
        let server = Arc::new(Self {
            name: spec.name.clone(),
            spec: ArcSwap::from_pointee(spec),
            instances: instances.into_boxed_slice(),
            state: watch::channel(initial).0,
            queue: Queue::default(),
            catalog: Catalog::default(),
            continuity: Continuity::default(),
            notices: NoticeSender::new(NOTICES),
            stop,
            retired: AtomicBool::new(false),
            runtime,
        });
        (server, receivers)
    }

    pub(crate) fn spec(&self) -> Arc<ServerSpec> {
        self.spec.load_full()
    }

    /// The policy of the spec, looked at where it is: a call counts no references.
    pub(crate) fn policy<T>(&self, look: impl FnOnce(&ServerPolicy) -> T) -> T {
        look(&self.spec.load().policy)
    }

    /// Whether no tool is hidden.
    pub(crate) fn permits_all_tools(&self) -> bool {
        self.spec.load().tools.permits_all()
    }

    /// The spec for a connect. Whether the server is switched on is known to who connects; the
    /// spec says how it began.
    pub(crate) fn spec_to_connect(&self) -> Arc<ServerSpec> {
        let spec = self.spec();
        match spec.enabled {
            true => spec,
            false => Arc::new(ServerSpec::clone(&spec).with_enabled(true)),
        }
    }

    /// How many requests one instance may have in flight.
    pub(crate) fn max_in_flight(&self) -> usize {
        self.spec.load().policy.limits.max_in_flight.max(1)
    }

    /// Takes over a spec that differs only in what needs no new connection.
    pub(crate) fn replace_spec(&self, spec: ServerSpec) {
        self.spec.store(Arc::new(spec));
    }

    /// Whether a supervisor of it is gone although nobody stopped it: its runtime has ended.
    pub(crate) fn is_abandoned(&self) -> bool {
        let gone = |instance: &Instance| instance.commands.is_closed();
        !self.stop.is_cancelled() && self.instances.iter().any(gone)
    }

    /// Marks it as removed or replaced.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        // Those who wait for it must look again.
        self.state.send_modify(|_| {});
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    pub(crate) fn rules(&self) -> Rules {
        let spec = self.spec.load();
        Rules {
            reconnect: spec.policy.reconnect.clone(),
            health: spec.policy.health.clone(),
            lazy: matches!(spec.start, StartMode::Lazy(_)),
            idle_timeout: match spec.start {
                StartMode::Lazy(timeout) => timeout,
                _ => None,
            },
        }
    }

    /// The state now.
    pub(crate) fn state(&self) -> ServerState {
        self.state.borrow().clone()
    }

    /// The state now and from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<ServerState> {
        self.state.subscribe()
    }

    /// Asks every instance that sleeps to connect, because a call needs it.
    pub(crate) fn want(&self) {
        for instance in &self.instances {
            if !instance.wanted.swap(true, Ordering::AcqRel) {
                instance.wanted_signal.notify_one();
            }
        }
    }

    /// Whether some instance can be spoken to now.
    pub(crate) fn is_live(&self) -> bool {
        self.instances.iter().any(|i| i.slot.live().is_some())
    }

    /// Whether a caller disconnected it.
    pub(crate) fn held(&self) -> bool {
        self.instances.iter().all(|i| lock(&i.observed).held)
    }

    /// Whether it is switched off or was sent away.
    pub(crate) fn is_absent(&self) -> bool {
        match &*self.state.borrow() {
            ServerState::Disabled | ServerState::Closed => true,
            ServerState::Idle => self.held(),
            _ => false,
        }
    }

    /// Whether its tools belong in the aggregated view: it is there, or on its way back.
    pub(crate) fn shows_tools(&self) -> bool {
        match &*self.state.borrow() {
            ServerState::Ready | ServerState::Connecting { .. } | ServerState::Backoff { .. } => {
                true
            }
            ServerState::Idle => !self.held(),
            _ => false,
        }
    }

    /// How many calls are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.instances
            .iter()
            .filter_map(|i| i.slot.held())
            .map(|live| live.in_flight())
            .sum()
    }

    /// Changes what was seen of an instance, publishes the state of the whole, and reports it.
    pub(crate) fn observe(
        &self,
        index: usize,
        events: &EventBus,
        change: impl FnOnce(&mut Observed),
    ) {
        let Some(instance) = self.instances.get(index) else {
            return;
        };
        {
            let mut observed = lock(&instance.observed);
            let before = observed.state.kind();
            change(&mut observed);
            let after = observed.state.kind();
            if before == after {
                return;
            }
            let now = Instant::now();
            metrics::state_left(&self.name, before, now.duration_since(observed.state_since));
            observed.state_since = now;
        }
        let mut change = None;
        // The watch's own lock makes reading the instances and publishing their best one step.
        self.state.send_modify(|state| {
            let best = self
                .instances
                .iter()
                .map(|i| lock(&i.observed).state.clone())
                .max_by_key(rank)
                .unwrap_or_default();
            let (from, to) = (state.kind(), best.kind());
            if from != to {
                change = Some(EventKind::StateChanged { from, to });
            }
            *state = best;
        });
        if let Some(change) = change {
            metrics::up(&self.name, self.state.borrow().is_ready());
            tracing::debug!(server = %self.name, ?change, "the state changed");
            events.emit(&self.name, change);
        }
    }

    /// Why a call cannot wait for this server; `None` when waiting may help.
    pub(crate) fn hopeless(&self) -> Option<Error> {
        if self.is_retired() {
            return Some(gone().with_server(&self.name));
        }
        let state = self.state.borrow();
        let error = match &*state {
            ServerState::Disabled => Error::new(
                ErrorKind::Disabled,
                "the server is disabled; enable it first",
            ),
            ServerState::AuthRequired { error } => {
                error.clone().with_delivery(mcpool_core::Delivery::NotSent)
            }
            ServerState::Dormant { next_probe, error } => {
                let message = match (next_probe, error) {
                    (Some(_), Some(error)) => format!(
                        "the server could not be reached and is tried again only now and then; the last error was: {}",
                        error.message()
                    ),
                    (None, Some(error)) => format!(
                        "the server could not be reached and is not tried again; the last error was: {}",
                        error.message()
                    ),
                    (_, None) => "the server is not tried again; connect it first".to_owned(),
                };
                match error {
                    Some(error) => error.clone().wrap(ErrorKind::GivenUp, message),
                    None => Error::new(ErrorKind::GivenUp, message),
                }
                .with_delivery(mcpool_core::Delivery::NotSent)
            }
            ServerState::Closed if self.stop.is_cancelled() => {
                Error::new(ErrorKind::Closed, "the server was removed or shut down")
            }
            ServerState::Closed => Error::new(
                ErrorKind::Closed,
                "the runtime that ran the server's connection has stopped; start the servers again",
            ),
            ServerState::Idle => {
                drop(state);
                if !self.held() {
                    return None;
                }
                return Some(
                    Error::new(
                        ErrorKind::NotConnected,
                        "the server was disconnected; connect it first",
                    )
                    .with_server(&self.name),
                );
            }
            _ => return None,
        };
        Some(error.with_server(&self.name))
    }

    /// The last error that any instance met.
    pub(crate) fn last_error(&self) -> Option<Error> {
        self.instances
            .iter()
            .find_map(|i| lock(&i.observed).last_error.clone())
    }

    /// The error of a call that will not wait, or has waited long enough.
    pub(crate) fn not_ready(&self, waited: Option<Duration>) -> Error {
        let doing = match self.state() {
            ServerState::Disabled => "it is disabled",
            ServerState::Idle => "it is not connected yet",
            ServerState::Connecting { attempt: 0 | 1 } => "it is being connected",
            ServerState::Connecting { .. } => "it is being connected again",
            ServerState::Ready => "its connection has just changed",
            ServerState::Backoff { .. } => "it waits for the next attempt to connect",
            ServerState::AuthRequired { .. } => "somebody has to log in",
            ServerState::Dormant { .. } => "it could not be reached and is tried only now and then",
            _ => "it has ended",
        };
        let message = match waited {
            None => format!("the server is not ready: {doing}"),
            Some(waited) => {
                format!("the server did not become ready within {waited:.1?}: {doing}")
            }
        };
        let error = Error::new(ErrorKind::NotConnected, message).with_server(&self.name);
        match self.last_error() {
            Some(cause) => error
                .with_stderr_tail(cause.stderr_tail().to_vec())
                .with_source(cause),
            None => error,
        }
    }

    /// Whether it is on its way back after a loss or a failure.
    pub(crate) fn is_reconnecting(&self) -> bool {
        self.instances.iter().any(|i| {
            let observed = lock(&i.observed);
            match observed.state {
                ServerState::Backoff { .. } => true,
                ServerState::Connecting { .. } => observed.was_connected || observed.attempts > 1,
                _ => false,
            }
        })
    }
}

impl Instance {
    /// Sends a command to the supervisor.
    ///
    /// # Errors
    /// `Closed` when the supervisor is gone: the manager was shut down, or its runtime stopped.
    pub(crate) fn tell(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).map_err(|_| gone())
    }

    /// Waits until the supervisor has ended.
    pub(crate) async fn ended(&self) {
        self.commands.closed().await;
    }

    pub(crate) fn observed(&self) -> Observed {
        lock(&self.observed).clone()
    }

    /// Whether a call has asked for the server since this was last asked.
    pub(crate) fn take_wanted(&self) -> bool {
        self.wanted.swap(false, Ordering::AcqRel)
    }
}

/// The error of every verb whose supervisor is gone.
pub(crate) fn gone() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the manager was shut down, the server was removed, or the runtime that ran it has stopped",
    )
}

/// Which of the instances' states speaks for the server.
fn rank(state: &ServerState) -> u8 {
    match state {
        ServerState::Ready => 8,
        ServerState::Connecting { .. } => 7,
        ServerState::Backoff { .. } => 6,
        ServerState::AuthRequired { .. } => 5,
        ServerState::Dormant { .. } => 4,
        ServerState::Idle => 3,
        ServerState::Disabled => 2,
        ServerState::Closed => 1,
        _ => 0,
    }
}
