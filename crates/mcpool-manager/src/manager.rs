//! The manager's handle, its builder, and what everything behind it shares. The verbs are in the
//! files of their topics: `configure`, `connect`, `requests`, `lists`, `observe`, `shutdown`.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use arc_swap::ArcSwap;
use mcpool_core::{
    ClientFactory, ConnectBudget, Delivery, Error, ErrorKind, Result, ServerName, ServerSpec,
};
use tokio::{
    runtime::Handle,
    task::{AbortHandle, JoinHandle},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    budget::Budget,
    call::{self, Operation},
    events::EventBus,
    options::CallOptions,
    server::{Server, lock},
    suspend::{SuspendClock, SystemClock},
    tasks::Registry,
    view::View,
};

pub(crate) type Servers = BTreeMap<ServerName, Arc<Server>>;

/// What the manager, its supervisors and its tasks share.
pub(crate) struct Shared {
    pub(crate) factory: Arc<dyn ClientFactory>,
    pub(crate) budget: Budget,
    pub(crate) events: EventBus,
    pub(crate) view: View,
    /// Cancelled when the manager ends.
    pub(crate) root: CancellationToken,
    /// How long calls in flight on a removed server may take to end.
    pub(crate) drain: Duration,
    pub(crate) servers: ArcSwap<Servers>,
    /// Held while the set of servers changes; never across an await.
    pub(crate) changing: Mutex<()>,
    pub(crate) tasks: TaskTracker,
    /// Every supervisor that may still run.
    supervisors: Mutex<Vec<(ServerName, AbortHandle)>>,
    runtime: Option<Handle>,
    pub(crate) clock: Arc<dyn SuspendClock>,
    pub(crate) watching_sleep: AtomicBool,
    pub(crate) registry: Registry,
}

impl Shared {
    /// Runs a task that the manager's shutdown waits for.
    pub(crate) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        match &self.runtime {
            Some(runtime) => self.tasks.spawn_on(task, runtime),
            None => self.tasks.spawn(task),
        }
    }

    /// The builder's runtime, if it was given one.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.runtime.clone()
    }

    /// Whether there is a runtime for tasks.
    ///
    /// # Errors
    /// `InvalidArgument` on a thread without one, unless the builder gave one.
    pub(crate) fn has_runtime(&self) -> Result<()> {
        if self.runtime.is_some() || Handle::try_current().is_ok() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidArgument,
            "this needs a tokio runtime: call it from inside one, give the builder one, or use the blocking manager",
        ))
    }

    /// Runs a supervisor, which the end of the manager may abort.
    pub(crate) fn supervise(
        &self,
        name: &ServerName,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let handle = self.spawn(task).abort_handle();
        let mut supervisors = lock(&self.supervisors);
        supervisors.retain(|(_, handle)| !handle.is_finished());
        supervisors.push((name.clone(), handle));
    }

    /// Aborts the supervisors that still run, and names their servers.
    pub(crate) fn abort_supervisors(&self) -> Vec<ServerName> {
        let mut aborted: Vec<ServerName> = lock(&self.supervisors)
            .drain(..)
            .filter(|(_, handle)| !handle.is_finished())
            .map(|(name, handle)| {
                handle.abort();
                name
            })
            .collect();
        aborted.dedup();
        aborted
    }

    pub(crate) fn server(&self, name: &str) -> Result<Arc<Server>> {
        let servers = self.servers.load();
        match servers.get(name) {
            Some(server) => Ok(Arc::clone(server)),
            None if self.root.is_cancelled() => Err(closed()),
            None => Err(Error::new(
                ErrorKind::UnknownServer,
                format!("there is no server called {name:?}"),
            )),
        }
    }

    /// Sends a request to the server of this name. When the server is replaced while the request
    /// waits, it goes to the new one.
    pub(crate) async fn deliver<O: Operation>(
        &self,
        name: &str,
        operation: &O,
        options: &CallOptions,
    ) -> Result<O::Output> {
        let mut server = self.server(name)?;
        loop {
            let span = tracing::debug_span!(
                "call",
                server = name,
                method = operation.method(),
                target = operation.target()
            );
            let call = call::deliver(self, &server, operation, options);
            let result = call.instrument(span).await;
            match result {
                Err(error)
                    if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Cancelled)
                        && error.delivery() == Delivery::NotSent
                        && server.is_retired() =>
                {
                    match self.server(name) {
                        Ok(newer) if !Arc::ptr_eq(&newer, &server) => server = newer,
                        _ => return Err(error),
                    }
                }
                other => return other,
            }
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Server>> {
        self.servers.load().values().cloned().collect()
    }
}

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
    /// Sets how many connects may run at once, for this manager alone. Default: the process's
    /// budget, 8 stdio and 32 HTTP, which all managers share.
    pub fn with_budget(mut self, limits: ConnectBudget) -> Self {
        self.budget = Budget::new(limits);
        self
    }

    /// Sets a budget that is shared with others.
    pub fn with_shared_budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
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
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use mcpool_core::{ErrorKind, ServerSpec, StartMode, StdioSpec};
    /// # use mcpool_manager::{CallOptions, ConnectionManager, Refresh};
    /// # use mcpool_testkit::scripted_client::ScriptedFactory;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
    /// # let factory = Arc::new(ScriptedFactory::new());
    /// # let files = ServerSpec::stdio("files", StdioSpec::new("mcp-server-files"))?;
    /// use mcpool_core::ConnectBudget;
    /// let manager = ConnectionManager::builder(factory)
    ///     .with_budget(ConnectBudget::new(4, 16))
    ///     .with_event_capacity(256)
    ///     .with_drain(Duration::from_secs(5))
    ///     .build();
    /// manager.start(vec![files]).await?;
    /// # Ok(()) }
    /// ```
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

    /// The process's own manager: made by whoever asks first, the same for everybody after, from
    /// any thread. After its [`shutdown`](ConnectionManager::shutdown) the next one to ask makes a
    /// new one. It is never dropped: shut it down before the process ends.
    ///
    /// Its connections live on the runtime from which it was started. When that ends, so do they;
    /// the next [`start`](ConnectionManager::start), from another runtime, makes them anew. A
    /// program whose runtimes come and go is better served by the builder's
    /// [`with_runtime`](ManagerBuilder::with_runtime), or by the blocking manager.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use mcpool_core::{ErrorKind, ServerSpec, StartMode, StdioSpec};
    /// # use mcpool_manager::{CallOptions, ConnectionManager, Refresh};
    /// # use mcpool_testkit::scripted_client::ScriptedFactory;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
    /// # let factory = Arc::new(ScriptedFactory::new());
    /// # let files = ServerSpec::stdio("files", StdioSpec::new("mcp-server-files"))?;
    /// let manager = ConnectionManager::global(|| ConnectionManager::new(factory));
    /// let same = ConnectionManager::global(|| unreachable!("it was made already"));
    /// manager.start(vec![files]).await?;
    /// assert_eq!(same.names(), manager.names());
    /// # manager.shutdown(Duration::from_secs(6)).await;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn global(make: impl FnOnce() -> ConnectionManager) -> ConnectionManager {
        static GLOBAL: Mutex<Option<ConnectionManager>> = Mutex::new(None);
        let mut global = GLOBAL.lock().unwrap_or_else(PoisonError::into_inner);
        match &*global {
            Some(manager) if !manager.is_shut_down() => manager.clone(),
            _ => global.insert(make()).clone(),
        }
    }

    /// The names of all servers, in order.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use mcpool_core::{ErrorKind, ServerSpec, StartMode, StdioSpec};
    /// # use mcpool_manager::{CallOptions, ConnectionManager, Refresh};
    /// # use mcpool_testkit::scripted_client::ScriptedFactory;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
    /// # let factory = Arc::new(ScriptedFactory::new());
    /// # let files = ServerSpec::stdio("files", StdioSpec::new("mcp-server-files"))?;
    /// # let manager = ConnectionManager::new(factory);
    /// # manager.start(vec![files.clone()]).await?;
    /// assert_eq!(manager.names()[0].as_str(), "files");
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn names(&self) -> Vec<ServerName> {
        self.shared.servers.load().keys().cloned().collect()
    }

    /// The spec of a server.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use mcpool_core::{ErrorKind, ServerSpec, StartMode, StdioSpec};
    /// # use mcpool_manager::{CallOptions, ConnectionManager, Refresh};
    /// # use mcpool_testkit::scripted_client::ScriptedFactory;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
    /// # let factory = Arc::new(ScriptedFactory::new());
    /// # let files = ServerSpec::stdio("files", StdioSpec::new("mcp-server-files"))?;
    /// # let manager = ConnectionManager::new(factory);
    /// # manager.start(vec![files.clone()]).await?;
    /// assert_eq!(*manager.spec("files")?, files);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn spec(&self, name: &str) -> Result<Arc<ServerSpec>> {
        Ok(self.shared.server(name)?.spec())
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

/// The error of every verb after the shutdown.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the manager was shut down")
}
