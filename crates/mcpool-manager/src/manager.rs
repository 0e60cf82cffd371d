//! The manager's handle and its builder. The verbs are in the files of their topics: `apply`,
//! `handle` (one server), `catalog/lists`, `observe/verbs`, `connect` (all servers), `shutdown`.

use std::{
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

use arc_swap::ArcSwap;
use mcpool_core::{ClientFactory, ServerName};
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    application::registry::Registry,
    catalog::view::View,
    observe::events::EventBus,
    shared::Shared,
    supervise::{
        budget::Budget,
        suspend::{SuspendClock, SystemClock},
    },
};

/// Stops everything when the last handle is gone.
struct LastHandle(Arc<Shared>);

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.0.root.cancel();
    }
}

/// Keeps connections to many servers. See the [crate documentation](crate).
///
/// A handle: cloning it shares the manager. When the last handle is dropped, everything is
/// stopped as [`shutdown`](ConnectionManager::shutdown) does, without waiting: supervisors close
/// their connections in the background, and with no runtime left to do so the connections are
/// released at once.
///
/// Its tasks run on the runtime that the verbs are called from, or on the builder's.
#[derive(Clone)]
pub struct ConnectionManager {
    pub(crate) shared: Arc<Shared>,
    _last: Arc<LastHandle>,
}

/// Puts a [`ConnectionManager`] together: see [`ConnectionManager::builder`].
#[must_use]
pub struct ManagerBuilder {
    factory: Arc<dyn ClientFactory>,
    budget: Budget,
    event_capacity: usize,
    drain: Duration,
    runtime: Option<Handle>,
    clock: Arc<dyn SuspendClock>,
}

impl std::fmt::Debug for ManagerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManagerBuilder")
            .field("event_capacity", &self.event_capacity)
            .field("drain", &self.drain)
            .finish_non_exhaustive()
    }
}

impl ManagerBuilder {
    /// Sets how many connects may run at once: limits are for this manager alone, a clone of a
    /// [`Budget`] is shared with the managers that have the others. Default: the process's budget,
    /// 8 stdio and 32 HTTP, which all managers share.
    pub fn with_budget(mut self, budget: impl Into<Budget>) -> Self {
        self.budget = budget.into();
        self
    }

    /// Sets how many events a slow reader may be behind before it misses some. Default 1 024.
    pub fn with_event_capacity(mut self, events: usize) -> Self {
        self.event_capacity = events;
        self
    }

    /// Sets how long calls in flight on a removed or replaced server may take to end.
    /// Default 10 s.
    pub fn with_drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// Sets the runtime that the tasks run on. Default: the one that the verbs are called from.
    ///
    /// The verbs that wait still have to be awaited inside a tokio runtime, for their timers.
    /// Without any, use the feature `blocking`.
    pub fn with_runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Sets what the sleep of the machine is noticed by. Default: [`SystemClock`].
    pub fn with_suspend_clock(mut self, clock: Arc<dyn SuspendClock>) -> Self {
        self.clock = clock;
        self
    }

    /// The manager. It starts nothing yet, and needs no runtime yet.
    #[must_use]
    pub fn build(self) -> ConnectionManager {
        let shared = Arc::new(Shared {
            factory: self.factory,
            budget: self.budget,
            events: EventBus::new(self.event_capacity),
            view: View::default(),
            root: CancellationToken::new(),
            drain: self.drain,
            servers: ArcSwap::default(),
            changing: Mutex::new(()),
            tasks: TaskTracker::new(),
            registered: TaskTracker::new(),
            open: Arc::default(),
            supervisors: Mutex::default(),
            runtime: self.runtime,
            clock: self.clock,
            watching_sleep: AtomicBool::new(false),
            registry: Registry::default(),
        });
        ConnectionManager {
            _last: Arc::new(LastHandle(Arc::clone(&shared))),
            shared,
        }
    }
}

impl ConnectionManager {
    /// A manager with every default.
    #[must_use]
    pub fn new(factory: Arc<dyn ClientFactory>) -> Self {
        Self::builder(factory).build()
    }

    /// A manager to be set up.
    ///
    pub fn builder(factory: Arc<dyn ClientFactory>) -> ManagerBuilder {
        ManagerBuilder {
            factory,
            budget: Budget::default(),
            event_capacity: 1_024,
            drain: Duration::from_secs(10),
            runtime: None,
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// What it connects with: for connections of the application's own beside it.
    #[must_use]
    pub fn factory(&self) -> Arc<dyn ClientFactory> {
        Arc::clone(&self.shared.factory)
    }

    /// The names of all servers, in order.
    ///
    #[must_use]
    pub fn names(&self) -> Vec<ServerName> {
        self.shared.servers.load().keys().cloned().collect()
    }
}

impl std::fmt::Debug for ConnectionManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionManager")
            .field("servers", &self.names())
            .field("shut_down", &self.is_shut_down())
            .finish_non_exhaustive()
    }
}
