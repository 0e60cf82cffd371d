//! The verbs: what an application says to the manager.
#![allow(
    deprecated,
    reason = "the log level is deprecated by MCP 2026-07-28, spoken by older servers"
)]

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use futures::future;
use mcpool_core::{
    Client, ClientFactory, ConnectBudget, Error, ErrorKind, EventKind, ProbeReport, Result,
    ServerName, ServerSpec, ServerState, StartMode,
    model::{
        CallToolResult, GetPromptResult, JsonObject, LoggingLevel, Prompt, ReadResourceResult,
        Resource, ResourceTemplate, Tool,
    },
};
use serde_json::Value;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    budget::Budget,
    call,
    catalog::{self, Listed, Listing},
    events::{EventBus, EventStream},
    metrics,
    operations::{CallTool, GetPrompt, Raw, ReadResource, SetLogLevel, Subscribe},
    options::{CallOptions, Refresh},
    reload::{self, ConfigDiff},
    server::{Command, Server, gone, lock},
    status::{self, ServerStatus},
    supervisor,
    suspend::{SuspendClock, SuspendDetector, SystemClock},
    view::{ToolSnapshot, View},
};

type Servers = BTreeMap<ServerName, Arc<Server>>;

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
    servers: ArcSwap<Servers>,
    /// Held while the set of servers changes; never across an await.
    changing: Mutex<()>,
    tasks: TaskTracker,
    runtime: Option<Handle>,
    clock: Arc<dyn SuspendClock>,
    watching_sleep: AtomicBool,
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

    fn server(&self, name: &str) -> Result<Arc<Server>> {
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

    fn all(&self) -> Vec<Arc<Server>> {
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
    shared: Arc<Shared>,
    _last: Arc<LastHandle>,
}

/// Puts a [`ConnectionManager`] together.
#[must_use]
pub struct Builder {
    factory: Arc<dyn ClientFactory>,
    budget: Budget,
    event_capacity: usize,
    drain: Duration,
    runtime: Option<Handle>,
    clock: Arc<dyn SuspendClock>,
}

impl Builder {
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
            runtime: self.runtime,
            clock: self.clock,
            watching_sleep: AtomicBool::new(false),
        });
        ConnectionManager {
            _last: Arc::new(LastHandle(Arc::clone(&shared))),
            shared,
        }
    }
}

/// What [`ConnectionManager::start`] did.
#[derive(Debug)]
#[non_exhaustive]
pub struct StartReport {
    /// What changed against what was running.
    pub diff: ConfigDiff,
    /// The eager servers that were waited for, and how their first connect went.
    pub connected: Vec<(ServerName, Result<()>)>,
}

/// What [`ConnectionManager::shutdown`] did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Servers that were closed in the orderly way.
    pub closed: Vec<ServerName>,
    /// Servers whose connections were dropped because the deadline passed.
    pub forced: Vec<ServerName>,
    /// How many calls were in flight and ended with an error.
    pub cancelled_calls: usize,
    /// How long it took.
    pub elapsed: Duration,
}

/// The items of one kind of all servers.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Items<T> {
    /// The items, by server and in each server's order.
    pub entries: Vec<(ServerName, T)>,
    /// The servers whose list is missing, or is not the newest, and why.
    pub problems: Vec<(ServerName, Error)>,
}

impl ConnectionManager {
    /// A manager with every default.
    #[must_use]
    pub fn new(factory: Arc<dyn ClientFactory>) -> Self {
        Self::builder(factory).build()
    }

    /// A manager to be set up.
    pub fn builder(factory: Arc<dyn ClientFactory>) -> Builder {
        Builder {
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
    #[must_use]
    pub fn global(make: impl FnOnce() -> ConnectionManager) -> ConnectionManager {
        static GLOBAL: Mutex<Option<ConnectionManager>> = Mutex::new(None);
        let mut global = GLOBAL.lock().unwrap_or_else(PoisonError::into_inner);
        match &*global {
            Some(manager) if !manager.is_shut_down() => manager.clone(),
            _ => global.insert(make()).clone(),
        }
    }

    // ---- configuration ------------------------------------------------------------------

    /// Makes these the servers, and waits for the first connect of each eager one.
    ///
    /// With the specs that run already nothing happens. Otherwise the difference is applied as
    /// [`apply`](ConnectionManager::apply) does.
    ///
    /// Dropping the future stops the waiting, not the connecting.
    ///
    /// # Errors
    /// `InvalidSpec` when two specs have one name; nothing was changed then. The error of the
    /// first `required` server that could not be connected; the others run all the same.
    pub async fn start(&self, specs: Vec<ServerSpec>) -> Result<StartReport> {
        let waited_for: Vec<(ServerName, bool)> = specs
            .iter()
            .filter(|s| s.enabled && (s.start == StartMode::Eager || s.required))
            .map(|s| (s.name.clone(), s.required))
            .collect();
        let (diff, _draining) = self.change(specs)?;
        let touched: Vec<_> = waited_for
            .into_iter()
            .filter(|(name, _)| diff.added.contains(name) || diff.replaced.contains(name))
            .collect();
        let connects = touched.iter().map(|(name, _)| self.connect(name.as_str()));
        let results = future::join_all(connects).await;
        let mut connected = Vec::new();
        for ((name, required), result) in touched.into_iter().zip(results) {
            if required && let Err(error) = result {
                return Err(error);
            }
            connected.push((name, result));
        }
        Ok(StartReport { diff, connected })
    }

    /// What [`apply`](ConnectionManager::apply) would do with these specs.
    ///
    /// # Errors
    /// `InvalidSpec` when two specs have one name.
    pub fn plan(&self, specs: &[ServerSpec]) -> Result<ConfigDiff> {
        reload::difference(&self.running(), specs)
    }

    /// Makes these the servers: new ones start to connect, unchanged ones keep their connections,
    /// gone and replaced ones take no new calls and are closed when their calls in flight have
    /// ended, or when the drain time has passed.
    ///
    /// Waits for the draining, not for the connecting. Dropping the future stops the waiting only.
    ///
    /// # Errors
    /// `InvalidSpec` when two specs have one name; nothing was changed then. `Closed` after the
    /// shutdown.
    pub async fn apply(&self, specs: Vec<ServerSpec>) -> Result<ConfigDiff> {
        let (diff, draining) = self.change(specs)?;
        future::join_all(draining).await;
        Ok(diff)
    }

    /// Adds a server, or changes the one of that name. It starts to connect unless it is lazy or
    /// disabled.
    ///
    /// # Errors
    /// `Closed` after the shutdown.
    pub fn add(&self, spec: ServerSpec) -> Result<()> {
        let mut specs: Vec<ServerSpec> = self
            .running()
            .into_values()
            .filter(|running| running.name != spec.name)
            .map(|running| ServerSpec::clone(&running))
            .collect();
        specs.push(spec);
        self.change(specs).map(drop)
    }

    /// Takes a server out: no new calls, its calls in flight drain, then it is closed.
    ///
    /// Dropping the future stops the waiting only.
    ///
    /// # Errors
    /// `UnknownServer`.
    pub async fn remove(&self, name: &str) -> Result<()> {
        self.shared.server(name)?;
        let specs = self
            .running()
            .into_values()
            .filter(|running| running.name.as_str() != name)
            .map(|running| ServerSpec::clone(&running))
            .collect();
        let (_, draining) = self.change(specs)?;
        future::join_all(draining).await;
        Ok(())
    }

    fn running(&self) -> BTreeMap<ServerName, Arc<ServerSpec>> {
        self.shared
            .servers
            .load()
            .iter()
            .map(|(name, server)| (name.clone(), server.spec()))
            .collect()
    }

    /// Applies the difference and gives the tasks that close what is gone.
    fn change(&self, specs: Vec<ServerSpec>) -> Result<(ConfigDiff, Vec<JoinHandle<()>>)> {
        let shared = &self.shared;
        let _changing = lock(&shared.changing);
        if self.is_shut_down() {
            return Err(closed());
        }
        let diff = reload::difference(&self.running(), &specs)?;
        let mut servers = Servers::clone(&shared.servers.load());
        let mut leaving = Vec::new();
        for name in &diff.removed {
            if let Some(old) = servers.remove(name) {
                old.retire();
                shared.view.forget(name, &shared.events);
                leaving.push(old);
            }
        }
        let mut starting = Vec::new();
        for spec in specs {
            let name = spec.name.clone();
            if diff.adjusted.contains(&name) {
                if let Some(server) = servers.get(&name) {
                    let switched = server.spec().enabled != spec.enabled;
                    let enabled = spec.enabled;
                    server.replace_spec(spec);
                    if switched {
                        for instance in &server.instances {
                            let (reply, _) = oneshot::channel();
                            // A supervisor that is gone has nothing to switch.
                            let _ = instance.tell(if enabled {
                                Command::Enable
                            } else {
                                Command::Disable { reply }
                            });
                        }
                    }
                    shared.view.announce(server, &shared.events);
                    shared.events.emit(&name, EventKind::Reconfigured);
                }
                continue;
            }
            if diff.unchanged.contains(&name) {
                continue;
            }
            let connects = spec.enabled && !matches!(spec.start, StartMode::Lazy(_));
            let (server, receivers) = Server::new(spec, shared.root.child_token());
            if let Some(old) = servers.insert(name.clone(), Arc::clone(&server)) {
                old.retire();
                // The old list is served until the new one is there.
                if let Some(tools) = old.catalog.tools.cached() {
                    server.catalog.tools.store(Listing::clone(&tools));
                    server.catalog.tools.invalidate();
                }
                shared.events.emit(&name, EventKind::Reconfigured);
                leaving.push(old);
            }
            starting.push((server, receivers, connects));
        }
        shared.servers.store(Arc::new(servers));
        for (server, receivers, connects) in starting {
            supervisor::start(shared, &server, receivers);
            if connects {
                for instance in &server.instances {
                    // A supervisor that was started this moment listens.
                    let _ = instance.tell(Command::Connect {
                        retries: None,
                        reply: None,
                    });
                }
            }
        }
        self.watch_sleep();
        let draining = leaving
            .into_iter()
            .map(|server| shared.spawn(drain(server, shared.drain)))
            .collect();
        Ok((diff, draining))
    }

    // ---- connections --------------------------------------------------------------------

    /// Connects a server now, whatever state it is in, and waits for the outcome of one attempt.
    /// A connect that is under way is joined. After a failure the reconnect policy goes on.
    ///
    /// Dropping the future stops the waiting, not the connecting.
    ///
    /// # Errors
    /// Why the attempt failed; `Disabled`; `UnknownServer`; `Closed`.
    pub async fn connect(&self, name: &str) -> Result<()> {
        self.connect_within(name, None).await
    }

    /// As [`connect`](ConnectionManager::connect), with so many retries after the delays of the
    /// server's reconnect policy.
    ///
    /// # Errors
    /// The error of the last attempt. Permanent errors are not retried.
    pub async fn connect_with(&self, name: &str, max_retries: u32) -> Result<()> {
        self.connect_within(name, Some(max_retries)).await
    }

    async fn connect_within(&self, name: &str, retries: Option<u32>) -> Result<()> {
        let server = self.shared.server(name)?;
        let mut answers = Vec::new();
        for instance in &server.instances {
            let (reply, answer) = oneshot::channel();
            instance.tell(Command::Connect {
                retries,
                reply: Some(reply),
            })?;
            answers.push(async move { answer.await.unwrap_or_else(|_| Err(gone())) });
        }
        // One instance is enough to be connected.
        let mut failed = None;
        for answer in future::join_all(answers).await {
            match answer {
                Ok(()) => return Ok(()),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(gone).with_server(&server.name))
    }

    /// Connects every enabled server in parallel. A failure of one delays no other.
    pub async fn connect_all(&self) -> Vec<(ServerName, Result<()>)> {
        let servers = self.shared.all();
        let connects = servers
            .iter()
            .filter(|server| !matches!(server.state(), ServerState::Disabled))
            .map(|server| async {
                let result = self.connect(server.name.as_str()).await;
                (server.name.clone(), result)
            });
        future::join_all(connects).await
    }

    /// Closes a server's connection, cancels a pending reconnect, and waits for the close. Its
    /// calls in flight end with `Cancelled`, its tools leave the view, and calls fail with
    /// `NotConnected` until it is connected again.
    ///
    /// Dropping the future stops the waiting, not the closing.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub async fn disconnect(&self, name: &str) -> Result<()> {
        let server = self.shared.server(name)?;
        told(&server, |reply| Command::Disconnect { reply }).await
    }

    /// Closes every connection, in parallel.
    pub async fn disconnect_all(&self) {
        let servers = self.shared.all();
        let closes = servers
            .iter()
            .map(|server| told(server, |reply| Command::Disconnect { reply }));
        // A server that is gone meanwhile is disconnected.
        future::join_all(closes).await;
    }

    /// Switches a server on; it is connected again unless it is lazy.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn enable(&self, name: &str) -> Result<()> {
        let server = self.shared.server(name)?;
        server
            .instances
            .iter()
            .try_for_each(|instance| instance.tell(Command::Enable))
    }

    /// Switches a server off: closes its connection, waits for that, and refuses calls with
    /// `Disabled` from then on.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub async fn disable(&self, name: &str) -> Result<()> {
        let server = self.shared.server(name)?;
        told(&server, |reply| Command::Disable { reply }).await
    }

    /// Tells the manager that a caller met trouble with a server. It is taken as evidence: the
    /// server is probed now, and given up when it does not answer.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn report_connection_lost(&self, name: &str) -> Result<()> {
        let server = self.shared.server(name)?;
        server.instances.iter().try_for_each(|instance| {
            instance.tell(Command::Suspect {
                epoch: None,
                reply: None,
            })
        })
    }

    /// Whether a server is on its way back after a loss or a failure.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn is_reconnecting(&self, name: &str) -> Result<bool> {
        Ok(self.shared.server(name)?.is_reconnecting())
    }

    /// The live client of a server. It serves until its connection ends; ask again after that,
    /// or let [`call_tool`](ConnectionManager::call_tool) see to it.
    ///
    /// # Errors
    /// `Disabled`, `NotConnected`, `GivenUp`, `AuthRequired`, `UnknownServer`, `Closed`.
    pub fn client(&self, name: &str) -> Result<Arc<dyn Client>> {
        let server = self.shared.server(name)?;
        server
            .instances
            .iter()
            .filter_map(|instance| instance.slot.live())
            .min_by_key(|live| live.in_flight())
            .map(|live| Arc::clone(&live.client))
            .ok_or_else(|| server.hopeless().unwrap_or_else(|| server.not_ready(None)))
    }

    /// The live client of a server, waiting so long for one. A lazy server is connected.
    ///
    /// # Errors
    /// As [`client`](ConnectionManager::client); `NotConnected` when the time has passed.
    pub async fn ready_client(&self, name: &str, within: Duration) -> Result<Arc<dyn Client>> {
        let server = self.shared.server(name)?;
        let options = CallOptions::new().with_timeout(within);
        call::wait_ready(&server, options.not_ready, Instant::now() + within).await
    }

    /// A new connection to a server that is the caller's own: nobody else uses it, the manager
    /// does not supervise it, and dropping it closes it. It counts against the connect budget.
    ///
    /// # Errors
    /// Why it could not be connected; `Disabled`; `UnknownServer`.
    pub async fn isolated(&self, name: &str) -> Result<Arc<dyn Client>> {
        let server = self.shared.server(name)?;
        if matches!(server.state(), ServerState::Disabled)
            && let Some(error) = server.hopeless()
        {
            return Err(error);
        }
        let spec = server.spec();
        let _permit = self.shared.budget.acquire(&spec.transport).await?;
        self.shared.factory.connect(&spec).await
    }

    /// The names of all servers, in order.
    #[must_use]
    pub fn names(&self) -> Vec<ServerName> {
        self.shared.servers.load().keys().cloned().collect()
    }

    /// The spec of a server.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn spec(&self, name: &str) -> Result<Arc<ServerSpec>> {
        Ok(self.shared.server(name)?.spec())
    }

    // ---- calls --------------------------------------------------------------------------

    /// Calls a tool by the server's name and the tool's own name.
    ///
    /// Waits for the server and for room within the call's deadline. A request that did not reach
    /// the server, or was refused before it ran, is sent once more on the next connection; one
    /// that may have run is not, unless the tool declares that this does no harm and the policy
    /// trusts the server.
    ///
    /// Dropping the future cancels the call.
    ///
    /// # Errors
    /// `OutcomeUnknown` when the call may have run; `Disabled`, `GivenUp`, `AuthRequired`,
    /// `NotConnected`, `Overloaded`, `UnknownServer`, `UnknownTool` (hidden by the filter) before
    /// it was sent; what the server answered.
    pub async fn call_tool(
        &self,
        server: &str,
        tool: &str,
        arguments: Option<JsonObject>,
        options: &CallOptions,
    ) -> Result<CallToolResult> {
        let server = self.shared.server(server)?;
        if !server.spec().tools.permits(tool) {
            return Err(catalog::unknown_tool(format!(
                "the tool {tool:?} is hidden by the server's tool filter"
            ))
            .with_server(&server.name));
        }
        let span = tracing::debug_span!("call", server = %server.name, tool);
        let operation = CallTool {
            name: tool,
            arguments,
        };
        let call = call::deliver(&self.shared, &server, &operation, options);
        tracing::Instrument::instrument(call, span).await
    }

    /// Calls a tool by its qualified name, `server__tool`.
    ///
    /// # Errors
    /// As [`call_tool`](ConnectionManager::call_tool); `UnknownTool` when no server shows a tool
    /// of that name.
    pub async fn call(
        &self,
        qualified_name: &str,
        arguments: Option<JsonObject>,
        options: &CallOptions,
    ) -> Result<CallToolResult> {
        let mut snapshot = self.shared.view.snapshot();
        if snapshot.get(qualified_name).is_none() {
            // It may be a server's that nobody has listed yet.
            snapshot = self.tools(Refresh::IfStale).await;
        }
        let entry = snapshot.get(qualified_name).ok_or_else(|| {
            catalog::unknown_tool(format!("no server shows a tool called {qualified_name:?}"))
        })?;
        self.call_tool(entry.server.as_str(), &entry.name, arguments, options)
            .await
    }

    /// Reads a resource of a server.
    ///
    /// # Errors
    /// As [`call_tool`](ConnectionManager::call_tool).
    pub async fn read_resource(
        &self,
        server: &str,
        uri: &str,
        options: &CallOptions,
    ) -> Result<ReadResourceResult> {
        let server = self.shared.server(server)?;
        call::deliver(&self.shared, &server, &ReadResource { uri }, options).await
    }

    /// Gets a prompt of a server, filled in.
    ///
    /// # Errors
    /// As [`call_tool`](ConnectionManager::call_tool).
    pub async fn get_prompt(
        &self,
        server: &str,
        prompt: &str,
        arguments: Option<JsonObject>,
        options: &CallOptions,
    ) -> Result<GetPromptResult> {
        let server = self.shared.server(server)?;
        let operation = GetPrompt {
            name: prompt,
            arguments,
        };
        call::deliver(&self.shared, &server, &operation, options).await
    }

    /// Sends any request to a server; the result is the answer's `result`, as it came.
    ///
    /// # Errors
    /// As [`call_tool`](ConnectionManager::call_tool).
    pub async fn request(
        &self,
        server: &str,
        method: &str,
        params: Option<Value>,
        options: &CallOptions,
    ) -> Result<Value> {
        let server = self.shared.server(server)?;
        let operation = Raw { method, params };
        call::deliver(&self.shared, &server, &operation, options).await
    }

    /// Subscribes to the changes of a resource, on this connection and on every later one.
    /// `EventKind::ResourceUpdated` tells of them.
    ///
    /// # Errors
    /// As [`call_tool`](ConnectionManager::call_tool); nothing is remembered then.
    pub async fn subscribe(&self, server: &str, uri: &str, options: &CallOptions) -> Result<()> {
        let server = self.shared.server(server)?;
        let operation = Subscribe { uri, on: true };
        call::deliver(&self.shared, &server, &operation, options).await?;
        server.continuity.subscribed(uri);
        Ok(())
    }

    /// Takes that back. Later connections do not subscribe, whatever comes of the request.
    ///
    /// # Errors
    /// As [`call_tool`](ConnectionManager::call_tool).
    pub async fn unsubscribe(&self, server: &str, uri: &str, options: &CallOptions) -> Result<()> {
        let server = self.shared.server(server)?;
        server.continuity.unsubscribed(uri);
        let operation = Subscribe { uri, on: false };
        call::deliver(&self.shared, &server, &operation, options).await
    }

    /// Sets the level of a server's log messages, on this connection and on every later one.
    ///
    /// # Errors
    /// As [`call_tool`](ConnectionManager::call_tool); nothing is remembered then.
    pub async fn set_log_level(
        &self,
        server: &str,
        level: LoggingLevel,
        options: &CallOptions,
    ) -> Result<()> {
        let server = self.shared.server(server)?;
        call::deliver(&self.shared, &server, &SetLogLevel { level }, options).await?;
        server.continuity.log_level(level);
        Ok(())
    }

    // ---- catalog ------------------------------------------------------------------------

    /// The tools of all servers under unique names, at one moment.
    ///
    /// Lists that are stale are fetched first, in parallel; a server that fails, or that is not
    /// connected, is a problem in the snapshot and delays no other. A lazy server whose tools
    /// nobody has listed yet is connected for it.
    pub async fn tools(&self, refresh: Refresh) -> Arc<ToolSnapshot> {
        let problems = self.refresh::<Tool>(refresh).await.1;
        let snapshot = self.shared.view.snapshot();
        if problems.is_empty() {
            snapshot
        } else {
            Arc::new(snapshot.with_problems(problems))
        }
    }

    /// The tools of one server, as it lists them: not filtered, under their own names.
    ///
    /// # Errors
    /// Why the list cannot be fetched, when there is no earlier one to serve.
    pub async fn server_tools(&self, name: &str, refresh: Refresh) -> Result<Arc<Listing<Tool>>> {
        let server = self.shared.server(name)?;
        catalog::get::<Tool>(&self.shared, &server, refresh).await
    }

    /// The prompts of all servers.
    pub async fn prompts(&self, refresh: Refresh) -> Items<Prompt> {
        self.items(refresh).await
    }

    /// The resources of all servers.
    pub async fn resources(&self, refresh: Refresh) -> Items<Resource> {
        self.items(refresh).await
    }

    /// The resource templates of all servers.
    pub async fn resource_templates(&self, refresh: Refresh) -> Items<ResourceTemplate> {
        self.items(refresh).await
    }

    /// Marks everything that is cached of a server as stale.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn invalidate(&self, name: &str) -> Result<()> {
        self.shared.server(name)?.catalog.invalidate();
        Ok(())
    }

    async fn items<T: Listed>(&self, refresh: Refresh) -> Items<T> {
        let (lists, problems) = self.refresh::<T>(refresh).await;
        let entries = lists
            .into_iter()
            .flat_map(|(name, list)| {
                let items: Vec<T> = list.items.to_vec();
                items.into_iter().map(move |item| (name.clone(), item))
            })
            .collect();
        Items { entries, problems }
    }

    /// The lists of all servers that take part, and what is wrong with the others.
    async fn refresh<T: Listed>(
        &self,
        refresh: Refresh,
    ) -> (Vec<(ServerName, Arc<Listing<T>>)>, Vec<(ServerName, Error)>) {
        let servers = self.shared.all();
        let fetches = servers
            .iter()
            // Who is switched off, or was sent away, is no problem: it is not there.
            .filter(|s| !s.is_absent())
            .map(|server| async move {
                let result = self.first_list::<T>(server, refresh).await;
                (server, result)
            });
        let mut lists = Vec::new();
        let mut problems = Vec::new();
        for (server, result) in future::join_all(fetches).await {
            match result {
                Ok(list) => {
                    metrics::catalog_age(&server.name, list.age());
                    if let Some(error) = &list.stale {
                        problems.push((server.name.clone(), error.clone()));
                    }
                    if server.shows_tools() {
                        lists.push((server.name.clone(), list));
                    }
                }
                Err(error) => problems.push((server.name.clone(), error)),
            }
        }
        (lists, problems)
    }

    /// The list of one server, without waiting for one that is known to fail at the moment.
    async fn first_list<T: Listed>(
        &self,
        server: &Arc<Server>,
        refresh: Refresh,
    ) -> Result<Arc<Listing<T>>> {
        if refresh != Refresh::Cached {
            let mut state = server.watch();
            let failing = |state: &ServerState| {
                matches!(state, ServerState::Backoff { .. })
                    || matches!(state, ServerState::Connecting { attempt } if *attempt > 1)
            };
            let known = T::cache(&server.catalog).cached();
            if failing(&state.borrow_and_update()) {
                return known.ok_or_else(|| server.not_ready(None));
            }
            return tokio::select! {
                list = catalog::get::<T>(&self.shared, server, refresh) => list,
                // The first connect failed while we waited: the others shall not wait for this.
                _ = state.wait_for(failing) => known.ok_or_else(|| server.not_ready(None)),
            };
        }
        catalog::get::<T>(&self.shared, server, refresh).await
    }

    // ---- observation --------------------------------------------------------------------

    /// The status of a server.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn status(&self, name: &str) -> Result<ServerStatus> {
        let server = self.shared.server(name)?;
        let tools = self.shared.view.count(&server.name);
        Ok(status::of(&server, tools))
    }

    /// The status of every server, by name.
    #[must_use]
    pub fn status_all(&self) -> Vec<ServerStatus> {
        self.shared
            .all()
            .iter()
            .map(|server| status::of(server, self.shared.view.count(&server.name)))
            .collect()
    }

    /// The state of a server, now and whenever it changes.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`.
    pub fn watch(&self, name: &str) -> Result<watch::Receiver<ServerState>> {
        Ok(self.shared.server(name)?.watch())
    }

    /// Probes a server now and waits for the answer. A probe that is under way is joined.
    ///
    /// # Errors
    /// Why it is not healthy: no answer, or not connected.
    pub async fn health_check(&self, name: &str) -> Result<ProbeReport> {
        let server = self.shared.server(name)?;
        check(&server).await
    }

    /// Probes every server now, in parallel, each bounded by its health time-out.
    pub async fn health_check_all(&self) -> Vec<(ServerName, Result<ProbeReport>)> {
        let servers = self.shared.all();
        let checks = servers
            .iter()
            .map(|server| async { (server.name.clone(), check(server).await) });
        future::join_all(checks).await
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> EventStream {
        self.shared.events.subscribe()
    }

    // ---- the end ------------------------------------------------------------------------

    /// Whether [`shutdown`](ConnectionManager::shutdown) was called.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.shared.root.is_cancelled()
    }

    /// Ends everything, for good: calls in flight end with `Cancelled`, all connections are closed
    /// in parallel in the orderly way, and what is not closed at the deadline is dropped, which
    /// kills its process.
    ///
    /// Idempotent: a second caller waits for the same end. Dropping the future stops the waiting,
    /// not the shutdown.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let shared = &self.shared;
        let started = Instant::now();
        let servers = shared.all();
        let cancelled_calls = servers.iter().map(|s| s.in_flight()).sum();
        {
            let _changing = lock(&shared.changing);
            shared.root.cancel();
            shared.tasks.close();
        }
        let mut forced = Vec::new();
        if tokio::time::timeout(deadline, shared.tasks.wait())
            .await
            .is_err()
        {
            for server in &servers {
                let late = server
                    .instances
                    .iter()
                    .filter_map(|instance| lock(&instance.abort).take())
                    .filter(|task| !task.is_finished());
                let mut any = false;
                for task in late {
                    task.abort();
                    any = true;
                }
                if any {
                    forced.push(server.name.clone());
                }
            }
            // An aborted task ends at its next await: at once.
            shared.tasks.wait().await;
        }
        shared.servers.store(Arc::default());
        shared.events.close();
        let closed = servers
            .iter()
            .map(|server| server.name.clone())
            .filter(|name| !forced.contains(name))
            .collect();
        ShutdownReport {
            closed,
            forced,
            cancelled_calls,
            elapsed: started.elapsed(),
        }
    }

    /// Watches for the sleep of the machine, once for the whole manager.
    fn watch_sleep(&self) {
        if self.shared.watching_sleep.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        self.shared.spawn(async move {
            let mut detector = SuspendDetector::new(Arc::clone(&shared.clock));
            let mut ticks = tokio::time::interval(Duration::from_secs(5));
            loop {
                tokio::select! {
                    () = shared.root.cancelled() => return,
                    _ = ticks.tick() => {}
                }
                if let Some(asleep) = detector.look() {
                    tracing::info!(?asleep, "the machine slept; every connection is probed");
                    for server in shared.all() {
                        shared
                            .events
                            .emit(&server.name, EventKind::Resumed { asleep });
                        for instance in &server.instances {
                            // A supervisor that is gone has nothing to probe.
                            let _ = instance.tell(Command::Resumed);
                        }
                    }
                }
            }
        });
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

/// Tells every instance and waits until each has done it.
async fn told(server: &Server, command: impl Fn(oneshot::Sender<()>) -> Command) -> Result<()> {
    let mut done = Vec::new();
    for instance in &server.instances {
        let (reply, answer) = oneshot::channel();
        instance.tell(command(reply))?;
        done.push(answer);
    }
    // A dropped reply: the supervisor has ended, and has closed what it had.
    future::join_all(done).await;
    Ok(())
}

async fn check(server: &Server) -> Result<ProbeReport> {
    let mut answers = Vec::new();
    for instance in &server.instances {
        let (reply, answer) = oneshot::channel();
        instance.tell(Command::Check { reply })?;
        answers.push(answer);
    }
    // The server is as healthy as its healthiest instance.
    let mut worst = None;
    for answer in future::join_all(answers).await {
        match answer.unwrap_or_else(|_| Err(gone())) {
            Ok(report) => return Ok(report),
            Err(error) => worst = Some(error),
        }
    }
    Err(worst.unwrap_or_else(gone).with_server(&server.name))
}

/// Lets the calls in flight end, within the drain time, then stops the supervisors.
async fn drain(server: Arc<Server>, within: Duration) {
    let draining = async {
        for live in server.instances.iter().filter_map(|i| i.slot.held()) {
            live.shut();
            live.drained().await;
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(within, draining) => {}
        // The whole manager ends: no more patience.
        () = server.stop.cancelled() => {}
    }
    server.stop.cancel();
    for instance in &server.instances {
        instance.ended().await;
    }
}

/// The error of every verb after the shutdown.
fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the manager was shut down")
}
