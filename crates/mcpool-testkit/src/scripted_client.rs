//! Clients and a factory that obey a script, for tests of what stands above them.
//!
//! Nothing here does I/O, and all waiting is by tokio's clock: with the clock paused a test of
//! hours takes milliseconds.
//!
//! ```
//! use mcpool_core::{ClientFactory, Error, ErrorKind, HttpSpec, RequestOptions, ServerSpec};
//! use mcpool_testkit::scripted_client::{ConnectPlan, ScriptedFactory};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
//! let factory = ScriptedFactory::new();
//! let server = factory.server("files");
//! server.next_connect(ConnectPlan::Fail(Error::new(ErrorKind::Connect, "refused")));
//! let spec = ServerSpec::http("files", HttpSpec::new("http://localhost/mcp"))?;
//!
//! assert!(factory.connect(&spec).await.is_err());
//! let client = factory.connect(&spec).await?;
//! assert_eq!(client.list_tools(&RequestOptions::new()).await?.tools.len(), 1);
//! server.kill(Error::new(ErrorKind::ConnectionLost, "reset by peer"));
//! assert!(client.is_closed());
//! assert_eq!(server.connects(), 2);
//! # Ok(()) }
//! ```
#![allow(
    deprecated,
    reason = "the log level is deprecated by MCP 2026-07-28, spoken by older servers"
)]

mod client;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use async_trait::async_trait;
use mcpool_core::{
    Client, ClientFactory, CloseReason, Error, RejectedItem, Result, ServerNotice, ServerSpec,
    model::Tool,
};
use serde_json::{Value, json};

use crate::fixtures::engine::lock;
use client::Life;
pub use client::ScriptedClient;

/// How a connect goes.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum ConnectPlan {
    /// It succeeds at once.
    #[default]
    Open,
    /// It succeeds after so long.
    OpenAfter(Duration),
    /// It fails at once.
    Fail(Error),
    /// It fails after so long.
    FailAfter(Duration, Error),
    /// It never ends.
    Never,
}

/// How a request goes: a call, a list, a probe.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum RequestPlan {
    /// It is answered at once.
    #[default]
    Answer,
    /// It is answered after so long.
    AnswerAfter(Duration),
    /// It fails at once.
    Fail(Error),
    /// The connection dies of it, and it fails so.
    Die(Error),
    /// It is never answered.
    Never,
}

/// What a server has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Connects that began.
    pub connects: usize,
    /// Connects that run now.
    pub connecting: usize,
    /// Connects whose future was dropped before it ended.
    pub connects_dropped: usize,
    /// Clients that are neither closed, nor dead, nor dropped.
    pub live: usize,
    /// Clients that were closed with `close`.
    pub closes: usize,
    /// Clients that exist, dead or alive.
    pub clients: usize,
    /// Calls that began.
    pub calls: usize,
    /// Calls that were answered.
    pub answered: usize,
    /// Calls whose future was dropped.
    pub calls_dropped: usize,
    /// Probes that began.
    pub probes: usize,
    /// Lists of tools that began.
    pub tool_lists: usize,
}

#[derive(Debug)]
struct Script {
    connects: VecDeque<ConnectPlan>,
    every_connect: ConnectPlan,
    calls: VecDeque<RequestPlan>,
    every_call: RequestPlan,
    probes: VecDeque<RequestPlan>,
    every_probe: RequestPlan,
    lists: VecDeque<RequestPlan>,
    every_list: RequestPlan,
    tools: Vec<Tool>,
    rejected: Vec<RejectedItem>,
    counts: Counts,
    clients: Vec<Weak<Life>>,
    subscriptions: Vec<String>,
    log_levels: Vec<String>,
    close_takes: Duration,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            connects: VecDeque::new(),
            every_connect: ConnectPlan::Open,
            calls: VecDeque::new(),
            every_call: RequestPlan::Answer,
            probes: VecDeque::new(),
            every_probe: RequestPlan::Answer,
            lists: VecDeque::new(),
            every_list: RequestPlan::Answer,
            tools: vec![tool("echo")],
            rejected: Vec::new(),
            counts: Counts::default(),
            clients: Vec::new(),
            subscriptions: Vec::new(),
            log_levels: Vec::new(),
            close_takes: Duration::ZERO,
        }
    }
}

/// A tool of this name that takes any object.
///
/// # Panics
/// Never: the description is a good one.
#[must_use]
pub fn tool(name: &str) -> Tool {
    from_json(json!({
        "name": name,
        "description": format!("the tool {name}"),
        "inputSchema": {"type": "object"},
    }))
}

fn from_json<T: serde::de::DeserializeOwned>(value: Value) -> T {
    match serde_json::from_value(value) {
        Ok(value) => value,
        Err(error) => unreachable!("written here, and not read back: {error}"),
    }
}

/// A server of a [`ScriptedFactory`]: its script, and what it has seen.
#[derive(Debug, Clone, Default)]
pub struct ScriptedServer(Arc<Mutex<Script>>);

macro_rules! plans {
    ($($next:ident, $every:ident: $queue:ident, $default:ident: $plan:ident, $what:literal;)*) => {
        $(
            #[doc = concat!("How the next ", $what, " goes; plans queue.")]
            pub fn $next(&self, plan: $plan) {
                lock(&self.0).$queue.push_back(plan);
            }

            #[doc = concat!("How every ", $what, " goes for which nothing is queued.")]
            pub fn $every(&self, plan: $plan) {
                lock(&self.0).$default = plan;
            }
        )*
    };
}

impl ScriptedServer {
    plans! {
        next_connect, every_connect: connects, every_connect: ConnectPlan, "connect";
        next_call, every_call: calls, every_call: RequestPlan, "call, read or other request";
        next_probe, every_probe: probes, every_probe: RequestPlan, "probe";
        next_list, every_list: lists, every_list: RequestPlan, "list";
    }

    /// Sets its tools.
    pub fn set_tools(&self, tools: Vec<Tool>) {
        lock(&self.0).tools = tools;
    }

    /// Sets the tools that could not be used.
    pub fn set_rejected(&self, rejected: Vec<RejectedItem>) {
        lock(&self.0).rejected = rejected;
    }

    /// Sets how long `close` takes.
    pub fn set_close_takes(&self, duration: Duration) {
        lock(&self.0).close_takes = duration;
    }

    /// What it has seen.
    #[must_use]
    pub fn counts(&self) -> Counts {
        lock(&self.0).counts.clone()
    }

    /// Connects that began.
    #[must_use]
    pub fn connects(&self) -> usize {
        self.counts().connects
    }

    /// Clients that are neither closed, nor dead, nor dropped.
    #[must_use]
    pub fn live(&self) -> usize {
        self.counts().live
    }

    /// The subscriptions that were made, over all its clients, in order.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<String> {
        lock(&self.0).subscriptions.clone()
    }

    /// The log levels that were set, over all its clients, in order.
    #[must_use]
    pub fn log_levels(&self) -> Vec<String> {
        lock(&self.0).log_levels.clone()
    }

    /// Ends every live client of it for this reason: the server has died.
    pub fn kill(&self, error: Error) {
        for life in self.lives() {
            life.end(CloseReason::Lost(error.clone()));
        }
    }

    /// Ends the newest live client of it for this reason.
    pub fn kill_newest(&self, error: Error) {
        if let Some(life) = self.lives().pop() {
            life.end(CloseReason::Lost(error));
        }
    }

    /// Says something unasked on every live client.
    pub fn notify(&self, notice: ServerNotice) {
        for life in self.lives() {
            let _ = life.notices.send(notice.clone());
        }
    }

    /// Changes its tools and says so, as a good server does.
    pub fn change_tools(&self, tools: Vec<Tool>) {
        self.set_tools(tools);
        self.notify(ServerNotice::ToolsChanged);
    }

    fn lives(&self) -> Vec<Arc<Life>> {
        let mut script = lock(&self.0);
        script.clients.retain(|life| life.strong_count() > 0);
        script
            .clients
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|life| life.end.borrow().is_none())
            .collect()
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut lock(&self.0).counts);
    }
}

/// A factory whose servers obey. Cloning it gives the same servers.
#[derive(Debug, Clone, Default)]
pub struct ScriptedFactory {
    servers: Arc<Mutex<BTreeMap<String, ScriptedServer>>>,
    connecting: Arc<Mutex<(usize, usize)>>,
}

impl ScriptedFactory {
    /// A factory of well-behaved servers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The server of this name; made when it is first asked for.
    #[must_use]
    pub fn server(&self, name: &str) -> ScriptedServer {
        lock(&self.servers)
            .entry(name.to_owned())
            .or_default()
            .clone()
    }

    /// The most connects that ran at once, over all servers.
    #[must_use]
    pub fn most_connecting(&self) -> usize {
        lock(&self.connecting).1
    }

    /// The live clients of all servers.
    #[must_use]
    pub fn live(&self) -> usize {
        let servers: Vec<_> = lock(&self.servers).values().cloned().collect();
        servers.iter().map(ScriptedServer::live).sum()
    }
}

/// Counts a connect that runs; what is not finished when it drops was dropped.
struct Connecting<'a> {
    factory: &'a ScriptedFactory,
    server: ScriptedServer,
    finished: bool,
}

impl<'a> Connecting<'a> {
    fn begin(factory: &'a ScriptedFactory, server: ScriptedServer) -> Self {
        let mut all = lock(&factory.connecting);
        all.0 += 1;
        all.1 = all.1.max(all.0);
        drop(all);
        server.count(|counts| {
            counts.connects += 1;
            counts.connecting += 1;
        });
        Self {
            factory,
            server,
            finished: false,
        }
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        lock(&self.factory.connecting).0 -= 1;
        let dropped = usize::from(!self.finished);
        self.server.count(|counts| {
            counts.connecting -= 1;
            counts.connects_dropped += dropped;
        });
    }
}

#[async_trait]
impl ClientFactory for ScriptedFactory {
    async fn connect(&self, spec: &ServerSpec) -> Result<Arc<dyn Client>> {
        let server = self.server(spec.name.as_str());
        let plan = {
            let mut script = lock(&server.0);
            script
                .connects
                .pop_front()
                .unwrap_or_else(|| script.every_connect.clone())
        };
        let mut connecting = Connecting::begin(self, server.clone());
        let failed = match plan {
            ConnectPlan::Open => None,
            ConnectPlan::OpenAfter(pause) => {
                tokio::time::sleep(pause).await;
                None
            }
            ConnectPlan::Fail(error) => Some(error),
            ConnectPlan::FailAfter(pause, error) => {
                tokio::time::sleep(pause).await;
                Some(error)
            }
            ConnectPlan::Never => std::future::pending().await,
        };
        connecting.finished = true;
        match failed {
            Some(error) => Err(error.with_server(&spec.name).with_operation("connect")),
            None => Ok(Arc::new(ScriptedClient::new(server, spec))),
        }
    }
}
